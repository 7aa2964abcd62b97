//! Which proxy a call goes through: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. Pure.
//!
//! A platform sets these variables for all its processes. What is on the same machine never goes through a proxy: a
//! proxy elsewhere would look for it on its own machine.

use std::fmt;
use std::net::IpAddr;

use hyper_util::client::proxy::matcher::Matcher;
use secrecy::{ExposeSecret as _, SecretString};

use crate::telemetry::redact;

/// The variables, each with the name in small letters that other programs know as well.
const HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const NO: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// All of them.
pub const NAMES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// This machine, in the words of `NO_PROXY`. For libraries that read the variables by themselves.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// A variable that counts as not set: its name, its value, what it takes.
pub type Ignored = (&'static str, String, &'static str);

/// A proxy that calls go through.
#[derive(Debug, Clone)]
pub struct Proxy {
    name: &'static str,
    url: SecretString,
}

impl Proxy {
    /// Its address. May hold a password.
    pub fn url(&self) -> &str {
        self.url.expose_secret()
    }
}

impl fmt::Display for Proxy {
    /// The variable and the address, without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, redact::addresses(self.url(), ""))
    }
}

/// The proxies of this process.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// `NO_PROXY`.
    no: String,
}

impl Proxies {
    /// Reads the variables by name. What cannot be used is returned besides, and counts as not set.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> (Self, Vec<Ignored>) {
        let text = |name: &str| get(name).map(str::trim).filter(|value| !value.is_empty());
        let mut ignored = Vec::new();
        let mut first = |names: [&'static str; 4]| {
            names.into_iter().find_map(|name| {
                let value = text(name)?;
                let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
                if is_usable(&url) {
                    return Some(Proxy { name, url: url.into() });
                }
                let bad = (name, redact::addresses(value, "***@"), "http://host:port or https://host");
                if !ignored.contains(&bad) {
                    ignored.push(bad);
                }
                None
            })
        };
        let (http, https) = (first(HTTP), first(HTTPS));
        let no = NO.into_iter().find_map(text).unwrap_or_default().to_owned();
        (Self { http, https, no }, ignored)
    }

    /// The proxy for calls of this address, if they go through one.
    pub fn of(&self, url: &str) -> Option<&Proxy> {
        let (scheme, _) = url.split_once("://")?;
        let proxy = if scheme.eq_ignore_ascii_case("https") { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        let matcher = Matcher::builder().all("http://some:1").no(self.no.as_str()).build();
        let url = url.parse().ok()?;
        let through = matcher.intercept(&url).is_some() && !is_loopback(url.host()?);
        through.then_some(proxy)
    }

    /// What `NO_PROXY` has to be for libraries that read it by themselves; `None` if there is no proxy.
    pub fn no_proxy(&self) -> Option<String> {
        self.http.as_ref().or(self.https.as_ref())?;
        let own = self.no.as_str();
        Some(if own.is_empty() { LOOPBACK.to_owned() } else { format!("{own},{LOOPBACK}") })
    }
}

/// Neither SOCKS nor what is no address.
fn is_usable(url: &str) -> bool {
    let is_http = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let Ok(example) = "http://example.org/".parse() else { return false };
    let Some(found) = Matcher::builder().all(url).build().intercept(&example) else { return false };
    let uri = found.uri();
    let host_and_port = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let names_a_port = host_and_port.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    is_http && has_host && (!names_a_port || uri.port_u16().is_some())
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &'static str)]) -> (Proxies, Vec<Ignored>) {
        Proxies::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    fn of(variables: &[(&str, &'static str)], url: &str) -> Option<String> {
        let (proxies, ignored) = read(variables);
        assert_eq!(ignored, []);
        proxies.of(url).map(Proxy::to_string)
    }

    #[test]
    fn what_is_on_this_machine_never_goes_through_a_proxy() {
        let proxy = [("ALL_PROXY", "http://proxy:3128")];
        for host in [
            "localhost:8000",
            "LOCALHOST",
            "localhost.:1",
            "backend.localhost",
            "127.0.0.1:8000",
            "127.9.9.9",
            "[::1]:8000",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(of(&proxy, &format!("http://{host}/path")), None, "{host}");
            assert_eq!(of(&proxy, &format!("https://me:pass@{host}")), None, "{host}");
        }
        for host in
            ["backend:8000", "localhost.example.org", "notlocalhost", "128.0.0.1", "10.0.0.1", "[::2]"]
        {
            let want = Some("ALL_PROXY=http://proxy:3128".to_owned());
            assert_eq!(of(&proxy, &format!("http://{host}/path")), want, "{host}");
        }
    }

    #[test]
    fn each_scheme_has_its_variable_and_one_is_for_all() {
        let both =
            [("HTTP_PROXY", "one:1"), ("https_proxy", "https://two:2"), ("ALL_PROXY", "http://three:3")];
        assert_eq!(of(&both, "http://b").as_deref(), Some("HTTP_PROXY=http://one:1"));
        assert_eq!(of(&both, "https://b").as_deref(), Some("https_proxy=https://two:2"));
        assert_eq!(of(&both[..1], "https://b"), None);
        assert_eq!(of(&both[2..], "https://b").as_deref(), Some("ALL_PROXY=http://three:3"));
        assert_eq!(
            of(&[("HTTP_PROXY", " "), ("http_proxy", "four:4")], "http://b").as_deref(),
            Some("http_proxy=http://four:4")
        );
    }

    #[test]
    fn no_proxy_has_names_with_those_below_and_addresses() {
        for (no, host, is_through) in [
            ("backend", "backend:8000", false),
            ("example.org", "a.example.org", false),
            (".example.org", "a.example.org", false),
            ("example.org", "anexample.org", true),
            ("10.0.0.0/8, other", "10.1.2.3", false),
            ("10.0.0.0/8", "11.1.2.3", true),
            ("*", "backend", false),
        ] {
            let got = of(&[("HTTP_PROXY", "http://p:1"), ("no_proxy", no)], &format!("http://{host}/"));
            assert_eq!(got.is_some(), is_through, "{no} {host}");
        }
        assert_eq!(read(&[("NO_PROXY", "a")]).0.no_proxy(), None);
        let (proxies, _) = read(&[("NO_PROXY", "a"), ("HTTPS_PROXY", "http://p:1")]);
        assert_eq!(proxies.no_proxy().as_deref(), Some("a,localhost,127.0.0.0/8,::1"));
    }

    #[test]
    fn what_is_no_proxy_is_named_and_counts_as_not_set_and_no_login_is_shown() {
        for value in [
            "socks5://p:1080",
            "http://",
            "http://a b:1",
            "ftp://p:1",
            "http://me:topsecret@:x",
            "p:port",
            "http://:1",
        ] {
            let (proxies, ignored) = read(&[("HTTP_PROXY", value), ("ALL_PROXY", "http://other:1")]);
            assert_eq!(ignored.len(), 1, "{value}");
            assert!(ignored[0].0 == "HTTP_PROXY" && !ignored[0].1.contains("topsecret"), "{ignored:?}");
            assert_eq!(proxies.of("http://b").unwrap().to_string(), "ALL_PROXY=http://other:1");
        }
        let (proxies, _) = read(&[("HTTP_PROXY", "me:topsecret@p:1")]);
        let proxy = proxies.of("http://b").unwrap();
        assert_eq!(
            (proxy.to_string().as_str(), proxy.url()),
            ("HTTP_PROXY=http://p:1", "http://me:topsecret@p:1")
        );
        assert!(!format!("{proxies:?}").contains("topsecret"));
    }
}
