//! Which addresses the edge's HTTP may call: WhatsApp's, or the simulator's, and nothing else. Pure.
//!
//! Senders choose where their files are said to be. A crafted path must reach no other server, nor take there what
//! proves to WhatsApp who asks.

use reqwest::Url;

/// The domains whose hosts are WhatsApp's.
const DOMAINS: [&str; 2] = ["whatsapp.net", "whatsapp.com"];

/// Why an address is not called. It says nothing of the address: that came from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// It is no address.
    #[error("what should be called is no address")]
    Unreadable,
    /// It is somebody else's.
    #[error("what should be called is not WhatsApp's")]
    Elsewhere,
}

/// The servers that may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// WhatsApp's, with TLS.
    WhatsApp,
    /// The simulator: its host and port, without TLS.
    Simulator {
        /// As in its URL.
        host: String,
        /// The same.
        port: u16,
    },
}

impl Hosts {
    /// Those of the simulator with this WebSocket address. `None`: WhatsApp's.
    pub(crate) fn of(simulator_url: Option<&str>) -> Self {
        let simulator = simulator_url.and_then(|url| {
            let url = Url::parse(url).ok()?;
            Some(Self::Simulator { host: url.host_str()?.to_owned(), port: url.port_or_known_default()? })
        });
        // A URL that is none leads nowhere else.
        simulator.unwrap_or(Self::WhatsApp)
    }

    /// The address to call instead of `address`, if it may be called.
    pub(super) fn allowed(&self, address: &str) -> Result<Url, Foreign> {
        let mut url = Url::parse(address).map_err(|_| Foreign::Unreadable)?;
        let bare = url.username().is_empty() && url.password().is_none();
        let host = url.host_str().unwrap_or_default();
        let known = match self {
            Self::WhatsApp => {
                url.scheme() == "https" && url.port_or_known_default() == Some(443) && is_whatsapps(host)
            }
            Self::Simulator { host: wanted, port } => {
                let port_given = url.port_or_known_default() == Some(*port);
                ["http", "https"].contains(&url.scheme()) && host == wanted && port_given
            }
        };
        if !(known && bare) {
            return Err(Foreign::Elsewhere);
        }
        if let Self::Simulator { port, .. } = self {
            // The library knows HTTPS only. A port that the old scheme implied has to be named.
            let port = Some(*port);
            url.set_scheme("http").and_then(|()| url.set_port(port)).map_err(|()| Foreign::Elsewhere)?;
        }
        Ok(url)
    }

    /// The address of a file: `path` is the sender's word for where it is on `host`, `query` what WhatsApp wants beside
    /// it. The path cannot change the host.
    pub(super) fn file(&self, host: &str, path: &str, query: &[(&str, &str)]) -> Result<Url, Foreign> {
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(Foreign::Elsewhere);
        }
        let mut url = self.allowed(&format!("https://{host}/"))?;
        let (path, own) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(path);
        url.set_query(own.map(|own| own.split('#').next().unwrap_or_default()));
        url.query_pairs_mut().extend_pairs(query);
        self.allowed(url.as_str())
    }
}

fn is_whatsapps(host: &str) -> bool {
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    DOMAINS.into_iter().any(|domain| host == domain || below(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulator() -> Hosts {
        Hosts::of(Some("ws://127.0.0.1:7080/ws/chat"))
    }

    #[test]
    fn only_whatsapps_hosts_are_called_and_only_with_tls() {
        for (address, fine) in [
            ("https://web.whatsapp.com/sw.js", true),
            ("https://mmg.whatsapp.net/v/t62?ccb=1", true),
            ("https://media-gru2-1.cdn.whatsapp.net/v", true),
            ("https://MMG.WhatsApp.net:443/v", true),
            ("http://mmg.whatsapp.net/v", false),
            ("https://mmg.whatsapp.net:8443/v", false),
            ("https://mmg.whatsapp.net.evil.test/v", false),
            ("https://evilwhatsapp.net/v", false),
            ("https://mmg.whatsapp.net@evil.test/v", false),
            ("https://me:pass@mmg.whatsapp.net/v", false),
            ("https://169.254.169.254/latest", false),
            ("https://localhost/", false),
            ("file:///etc/passwd", false),
            ("mmg.whatsapp.net", false),
            ("", false),
        ] {
            assert_eq!(Hosts::of(None).allowed(address).is_ok(), fine, "{address}");
        }
        assert_eq!(Hosts::of(Some("nonsense")), Hosts::WhatsApp);
    }

    #[test]
    fn with_a_simulator_only_it_is_called() {
        for (address, called) in [
            ("https://127.0.0.1:7080/media/1", Some("http://127.0.0.1:7080/media/1")),
            ("http://127.0.0.1:7080/media/1", Some("http://127.0.0.1:7080/media/1")),
            ("https://127.0.0.1:7081/media/1", None),
            ("https://localhost:7080/media/1", None),
            ("https://mmg.whatsapp.net/v", None),
        ] {
            let got = simulator().allowed(address).ok().map(String::from);
            assert_eq!(got.as_deref(), called, "{address}");
        }
        let plain = Hosts::of(Some("ws://simulator/ws/chat")).allowed("http://simulator/x");
        assert_eq!(plain.map(String::from), Ok("http://simulator/x".to_owned()));
    }

    #[test]
    fn a_path_stays_on_its_host_and_keeps_its_own_query() {
        let file = |path: &str| {
            let query = [("auth", "a+b/="), ("hash", "h")];
            Hosts::WhatsApp.file("mmg.whatsapp.net", path, &query).map(String::from)
        };
        let wanted = "https://mmg.whatsapp.net/v/t62.enc?ccb=11-4&oh=x&auth=a%2Bb%2F%3D&hash=h";
        assert_eq!(file("/v/t62.enc?ccb=11-4&oh=x").as_deref(), Ok(wanted));
        assert_eq!(file("/v/t62.enc?ccb=11-4&oh=x#@evil.test").as_deref(), Ok(wanted));
        for crafted in
            ["@evil.test/v", ".evil.test/v", ":1@evil.test/", "//evil.test/v", "https://evil.test/", ""]
        {
            assert_eq!(file(crafted), Err(Foreign::Elsewhere), "{crafted}");
        }
        for odd in ["/@evil.test/v", "/\\evil.test", "/..//evil.test", "/a b\r\nHost: evil.test"] {
            let called = file(odd).unwrap_or_default();
            assert!(called.starts_with("https://mmg.whatsapp.net/"), "{odd}: {called}");
        }
        for host in ["evil.test", "mmg.whatsapp.net@evil.test", "evil.test/mmg.whatsapp.net", "127.0.0.1:1"] {
            assert_eq!(Hosts::WhatsApp.file(host, "/v", &[]), Err(Foreign::Elsewhere), "{host}");
        }
    }
}
