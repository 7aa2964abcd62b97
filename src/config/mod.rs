//! Environment → one typed [`Config`]. Every bad setting is named in one message.
//!
//! `table` has every setting once. `sources` finds what is set, `read` turns it into values, and `assemble` turns those
//! into each module's settings. `show` prints what is in force. `remarks` are what an
//! operator should know and what ends nothing; `known` finds misspelt names. `routes` reads `ROUTES_FILE`. `dotenv` is the grammar of `.env`.

mod assemble;
mod dotenv;
mod earlier;
mod known;
mod read;
mod remarks;
mod routes;
mod show;
mod sources;
pub mod table;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

pub use earlier::Earlier;
pub use known::Unknown;
pub(crate) use read::digits;
pub use remarks::{Remark, remarks};
pub use routes::{Refused, RoutesFile};
pub use show::InForce;
pub use sources::{Environment, Origin, Variable, dotenv};

use crate::bus::{self, embedded, topology};
use crate::edge;
use crate::forwarder;
use crate::pool;
use crate::proxy::Proxies;
use crate::telemetry;
use crate::wire::{FileLinks, Subjects};
use read::Check;

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bus. Without it, `run` starts a private one. May hold a password.
    pub nats_url: Option<SecretString>,
    /// The login and TLS of the bus.
    pub nats_access: bus::Access,
    /// The private nats-server that `run` starts.
    pub embedded: embedded::Settings,
    /// Subjects and stream names.
    pub subjects: Subjects,
    /// Streams and consumers.
    pub topology: topology::Settings,
    /// Where the routes of accounts are, to read them again. `None`: there are none.
    pub routes: Option<RoutesFile>,
    /// The forwarder.
    pub forwarder: forwarder::Settings,
    /// The edge.
    pub edge: edge::Settings,
    /// The pool that it is one of. `None`: it works for one account, and for no other.
    pub pool: Option<pool::Settings>,
    /// The admin server's address.
    pub http_addr: SocketAddr,
    /// A client that sends it may see `/link` from any address. Without it, only loopback may.
    pub http_token: Option<SecretString>,
    /// `/status` is served as by the service that this one replaces.
    pub compat_status: bool,
    /// The pages of this origin may read that.
    pub cors_origin: Option<String>,
    /// Knows the addresses of files that may be fetched here. `None`: none are served.
    pub file_links: Option<FileLinks>,
    /// Whether others see this process as a NATS micro service, and ask its edge.
    pub service: bool,
    /// How long the end of the process may take.
    pub shutdown_grace: Duration,
    /// Logs, traces, metrics.
    pub telemetry: telemetry::Settings,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The variable.
    pub name: String,
    /// Its value; masked if it is a secret.
    pub got: String,
    /// What it takes.
    pub takes: String,
}

/// Every setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Bad>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "these settings cannot be used:")?;
        for bad in &self.0 {
            write!(f, "\n  {}={}: it takes {}", bad.name, bad.got, bad.takes)?;
        }
        Ok(())
    }
}

impl Config {
    /// Checks all variables.
    pub fn parse(environment: &Environment) -> Result<Self, ConfigError> {
        let get = |name: &str| environment.get(name).map(|variable| variable.value.as_str());
        // What these two do not know is a remark.
        let (otel, _) = telemetry::otel::Settings::read(get);
        let (proxies, _) = Proxies::read(get);
        let mut check = Check { bad: environment.bad().to_vec() };
        let given = table::All::pick(environment.pairs()).map_err(|error| {
            let (name, takes) = ("environment".to_owned(), "text".to_owned());
            ConfigError(vec![Bad { name, got: error.to_string(), takes }])
        })?;
        let access = check.all(Self::access(&given, environment));
        match Self::assemble(&given, otel, &proxies, access, &mut check) {
            Some(config) if check.bad.is_empty() => Ok(config),
            _ => Err(ConfigError(check.bad)),
        }
    }

    /// Reads `ROUTES_FILE`, too, which only who asks assistants needs. Blocks.
    pub fn with_routes(mut self) -> Result<Self, ConfigError> {
        if let Some(file) = &self.routes {
            self.forwarder.routes = file.read().map_err(|refused| {
                let (name, got) = ("ROUTES_FILE".to_owned(), file.path.display().to_string());
                let takes =
                    format!("a TOML file of accounts that have an assistant of their own ({refused})");
                ConfigError(vec![Bad { name, got, takes }])
            })?;
        }
        Ok(self)
    }

    /// The login and TLS of the bus. These settings make sense only together. Their files are not read here.
    fn access(given: &table::All, environment: &Environment) -> Result<bus::Access, Vec<bus::access::Bad>> {
        let rows = [
            &given.nats_url,
            &given.nats_creds,
            &given.nats_nkey,
            &given.nats_token,
            &given.nats_user,
            &given.nats_password,
            &given.nats_ca,
            &given.nats_cert,
            &given.nats_key,
            &given.nats_js_domain,
            &given.nats_inbox_prefix,
            &given.nats_tls_first,
            &given.nats_ignore_discovered,
        ];
        bus::Access::read(|name| {
            let row = rows.iter().find(|row| row.setting.name == name);
            row.and_then(|row| row.value.as_deref()).or_else(|| {
                let is_file = |row: &&&table::Given| {
                    row.setting.file == table::File::EachConnection
                        && row.setting.pointer().as_deref() == Some(name)
                };
                rows.iter().find(is_file)?;
                Some(environment.get(name)?.value.as_str())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let own = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(&Environment::of([], own))
    }

    #[test]
    fn nothing_has_to_be_set_and_the_defaults_are_those_operators_know() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.forwarder.backend.url.as_str(), "http://localhost:8000/");
        assert_eq!(config.edge.auth_dir, std::path::PathBuf::from("./auth_info"));
        assert_eq!(config.http_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(config.shutdown_grace, Duration::from_secs(25));
        assert!(config.nats_url.is_none());
        assert!(config.forwarder.eligible.allowed_numbers.is_empty());
        let limits = config.edge.limits;
        let limits = [limits.per_chat, limits.total, limits.loops].map(|limit| limit.unwrap().to_string());
        assert_eq!(limits, ["20/10s", "50/1s", "30/1m"]);
    }

    #[test]
    fn every_bad_setting_is_named_at_once_with_what_it_takes() {
        let error = parse(&[
            ("BACKEND_URL", "localhost:8000"),
            ("BACKEND_TIMEOUT", "soon"),
            ("NATS_PROVISION", "maybe"),
            ("WHATSAPP_ACCOUNT", "My Shop"),
            ("LOG_FORMAT", "xml"),
            ("HTTP_ADDR", "8080"),
            ("WHATSAPP_PAIR_PHONE", "abc"),
        ])
        .unwrap_err();
        let names: Vec<_> = error.0.iter().map(|bad| bad.name.as_str()).collect();
        for name in [
            "BACKEND_URL",
            "BACKEND_TIMEOUT",
            "NATS_PROVISION",
            "WHATSAPP_ACCOUNT",
            "LOG_FORMAT",
            "HTTP_ADDR",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(
            error.to_string().contains("NATS_PROVISION=maybe: it takes create, verify or off"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_is_in_no_message() {
        let error = parse(&[("API_KEY", "top\u{7}secret")]).unwrap_err().to_string();
        assert!(error.contains("API_KEY") && !error.contains("secret"), "{error}");
        let error = parse(&[("HTTP_TOKEN", "secret")]).unwrap_err().to_string();
        assert!(error.contains("HTTP_TOKEN=***: it takes 16 to 256"), "{error}");
        let config = parse(&[("API_KEY", "topsecret"), ("NATS_URL", "nats://u:topsecret@h:4222")]).unwrap();
        assert!(!format!("{config:?}").contains("topsecret"));
    }

    #[test]
    fn a_token_is_long_and_has_no_spaces() {
        let taken = |token: &str| parse(&[("HTTP_TOKEN", token)]).is_ok();
        assert!(taken("0123456789abcdef") && taken(&"x".repeat(256)) && taken("!\"#$%&'()*+,-./:;<=>?"));
        assert!(!taken("0123456789abcde") && !taken(&"x".repeat(257)));
        assert!(!taken("0123456789 abcdef") && !taken("0123456789abcdéf") && !taken("0123456789abcd\u{7}f"));
        assert!(parse(&[]).unwrap().http_token.is_none());
    }

    #[test]
    fn addresses_of_files_are_signed_with_a_secret_that_cannot_be_guessed() {
        let (url, secret) = (("MEDIA_URL", "http://edge:8080"), ("MEDIA_URL_SECRET", "0123456789abcdef"));
        let both = parse(&[url, secret]).unwrap();
        assert!(both.file_links.is_some() && both.forwarder.files.links.is_some());
        let serves = parse(&[secret]).unwrap();
        assert!(serves.file_links.is_some() && serves.forwarder.files.links.is_none());
        let error = parse(&[url]).unwrap_err().to_string();
        assert!(
            error.contains("MEDIA_URL=http://edge:8080") && error.contains("MEDIA_URL_SECRET"),
            "{error}"
        );
        let error = parse(&[url, ("MEDIA_URL_SECRET", "guessable")]).unwrap_err().to_string();
        assert!(error.contains("MEDIA_URL_SECRET=***") && !error.contains("guessable"), "{error}");
        assert!(!format!("{both:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn numbers_are_taken_as_people_write_them() {
        let config = parse(&[("ALLOWED_NUMBERS", "+54 9 11 1234-5678, 15551234567")]).unwrap();
        let allowed = config.forwarder.eligible.allowed_numbers;
        assert!(allowed.contains("5491112345678") && allowed.contains("15551234567"));
        let of = |text: &str| parse(&[("ALLOWED_NUMBERS", text)]).unwrap().forwarder.eligible.allowed_numbers;
        assert_eq!(of("+55 11 98765-4321, 551187654321, +55 (11) 8765-4321").len(), 1, "they are one person");
        assert!(parse(&[("ALLOWED_NUMBERS", "me")]).is_err());
    }

    #[test]
    fn sizes_are_taken_as_people_write_them() {
        let of =
            |text: &str| parse(&[("NATS_IN_MAX_BYTES", text)]).map(|config| config.topology.in_max_bytes);
        assert_eq!(of("64MiB"), Ok(Some(64 << 20)));
        assert_eq!(of("1.5 GiB"), Ok(Some(3 << 29)));
        assert_eq!(of("10GB"), Ok(Some(10_000_000_000)));
        assert_eq!(of("2097152"), Ok(Some(2 << 20)));
        assert_eq!(of(""), Ok(None));
        for bad in ["64", "0", "-1", "64 MiBs", "9EiB", "10GiB/day"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_that_would_break_a_promise_are_refused() {
        assert!(parse(&[("NATS_OUT_MAX_AGE", "7d")]).is_err());
        assert!(parse(&[("REPLY_MAX_AGE", "48h")]).is_err());
        assert!(parse(&[("REPLY_MAX_AGE", "48h"), ("NATS_DUPLICATE_WINDOW", "48h")]).is_ok());
    }

    #[test]
    fn a_production_build_refuses_the_simulator() {
        let refused = |url: Option<&str>, can_simulate: bool| {
            let mut check = Check::default();
            let setting = table::ALL.iter().find(|setting| setting.name == "WHATSAPP_SIMULATOR_URL").unwrap();
            let value = url.map(str::to_owned);
            check.simulator(&table::Given { setting: *setting, value }, can_simulate);
            check.bad.into_iter().next().map(|bad| bad.takes)
        };
        let url = Some("ws://127.0.0.1:7080/ws/chat");
        let takes = refused(url, false).unwrap();
        assert!(takes.contains("this build talks to WhatsApp only"), "{takes}");
        assert_eq!(refused(None, false), None);
        assert_eq!(refused(url, true), None);
        assert!(refused(Some("http://127.0.0.1:7080"), true).is_some());
        // And the build's own features are what counts.
        let parsed = parse(&[("WHATSAPP_SIMULATOR_URL", "ws://127.0.0.1:7080/ws/chat")]);
        assert_eq!(parsed.is_ok(), cfg!(feature = "simulator"));
    }

    /// A row of a table of docs/configuration.md, without its backquotes.
    fn documented() -> std::collections::BTreeMap<String, [String; 4]> {
        let text = include_str!("../../docs/configuration.md").replace('`', "");
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let [name, default, takes, side, since] = cells.try_into().ok()?;
            Some((name.to_owned(), [default, takes, side, since].map(str::to_owned)))
        });
        rows.filter(|(name, _)| name != "name").collect()
    }

    #[test]
    fn the_documentation_has_every_setting_as_the_table_has_it() {
        let mut documented = documented();
        for setting in table::ALL {
            let name = setting.name;
            let row = documented.remove(name);
            let [default, takes, side, since] =
                row.unwrap_or_else(|| panic!("{name} is not in docs/configuration.md"));
            let (table::Default::Value(want) | table::Default::Words(want)) = setting.default;
            assert_eq!(default, want, "the default of {name}");
            assert_eq!(side, setting.side.as_str(), "the side of {name}");
            assert_eq!(since, setting.since, "the first version of {name}");
            // Up to the examples; the documentation may say more.
            let want = setting.takes.split(", such as").next().unwrap();
            let rest = takes.strip_prefix(want).unwrap_or_else(|| panic!("{name} takes `{want}`: {takes}"));
            assert!(rest.is_empty() || rest.starts_with([' ', ',', ';', ':', '.']), "{name}: {takes}");
        }
        assert!(documented.is_empty(), "no setting: {documented:?}");
    }

    #[test]
    fn every_default_can_be_used() {
        let given = table::ALL.iter().filter_map(|setting| match setting.default {
            table::Default::Value(value) => Some((setting.name, value)),
            table::Default::Words(_) => None,
        });
        let given: Vec<_> = given.collect();
        assert_eq!(format!("{:?}", parse(&given).unwrap()), format!("{:?}", parse(&[]).unwrap()));
    }
}
