//! Environment → one typed [`Config`]. `.env` in the working directory is read first; the environment
//! wins. Every bad setting is named in one message.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::bus::{embedded, topology};
use crate::edge::{self, rate};
use crate::forwarder;
use crate::telemetry::{self, LogFormat};
use crate::wire::{Account, Subjects};

/// What the environment says, before anything is checked. The field names are the variables' names in
/// lower case; everything is text, so that every bad value can be named at once.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    nats_url: Option<SecretString>,
    nats_server_bin: Option<PathBuf>,
    nats_data_dir: Option<PathBuf>,
    nats_subject_prefix: Option<String>,
    nats_provision: Option<String>,
    nats_replicas: Option<String>,
    nats_in_max_age: Option<String>,
    nats_out_max_age: Option<String>,
    nats_dlq_max_age: Option<String>,
    nats_duplicate_window: Option<String>,
    forwarder_ack_wait: Option<String>,
    edge_ack_wait: Option<String>,
    backend_url: Option<String>,
    api_key: Option<SecretString>,
    whatsapp_webhook_secret: Option<SecretString>,
    backend_timeout: Option<String>,
    backend_retry_for: Option<String>,
    backend_concurrency: Option<String>,
    fallback_text: Option<String>,
    reply_max_age: Option<String>,
    allowed_numbers: Option<String>,
    whatsapp_auth_dir: Option<PathBuf>,
    whatsapp_account: Option<String>,
    whatsapp_pair_phone: Option<String>,
    whatsapp_simulator_url: Option<String>,
    send_per_chat: Option<String>,
    send_total: Option<String>,
    loop_limit: Option<String>,
    http_addr: Option<String>,
    shutdown_grace: Option<String>,
    log_format: Option<String>,
    log_pii: Option<String>,
    rust_log: Option<String>,
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the bus is; without, `run` starts one of its own. May hold a password.
    pub nats_url: Option<SecretString>,
    /// The one that `run` starts.
    pub embedded: embedded::Settings,
    /// Subjects and stream names.
    pub subjects: Subjects,
    /// Streams and consumers.
    pub topology: topology::Settings,
    /// The forwarder.
    pub forwarder: forwarder::Settings,
    /// The edge.
    pub edge: edge::Settings,
    /// The admin server's address.
    pub http_addr: SocketAddr,
    /// How long the end of the process may take.
    pub shutdown_grace: Duration,
    /// Logs, traces, metrics.
    pub telemetry: telemetry::Settings,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The variable.
    pub name: &'static str,
    /// What it says; not shown for secrets.
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

/// `.env` in the working directory, below the process's environment. An unreadable file is an error: a
/// typing mistake must not silently become a default.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables: Vec<(String, String)> = Vec::new();
    match dotenvy::from_path_iter(".env") {
        Err(error) if error.not_found() => {}
        Err(error) => return Err(dotenv_error(&error)),
        Ok(lines) => {
            for line in lines {
                variables.push(line.map_err(|error| dotenv_error(&error))?);
            }
        }
    }
    telemetry::otel::hand_on(&std::fs::read_to_string(".env").unwrap_or_default());
    // Later ones win. A value that is no UTF-8 is none of ours.
    let own = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.extend(own);
    let latest: std::collections::BTreeMap<_, _> = variables.into_iter().collect();
    Ok(latest.into_iter().collect())
}

fn dotenv_error(error: &dotenvy::Error) -> ConfigError {
    let got = match error {
        // The line may be a secret's.
        dotenvy::Error::LineParse(_, at) => format!("(a line that cannot be read, near its character {at})"),
        other => format!("({other})"),
    };
    ConfigError(vec![Bad {
        name: ".env",
        got,
        takes: "lines of NAME=value; quote values with spaces".to_owned(),
    }])
}

impl Config {
    /// Checks all variables. Empty ones count as not set.
    pub fn parse(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let set = variables.into_iter().filter(|(_, value)| !value.trim().is_empty());
        let set: HashMap<String, String> = set.collect();
        let otel = telemetry::otel::Settings::read(|name| set.get(name).map(String::as_str));
        let raw: Raw = envy::from_iter(set.clone()).map_err(|error| {
            ConfigError(vec![Bad { name: "environment", got: error.to_string(), takes: "text".to_owned() }])
        })?;
        let mut check = Check::default();
        let otel = check.all(otel);
        match Self::checked(raw, otel, &mut check) {
            Some(config) if check.bad.is_empty() => Ok(config),
            _ => Err(ConfigError(check.bad)),
        }
    }

    /// Reads every setting before it gives up on any: `None` means that `check` has something to say.
    fn checked(raw: Raw, otel: Option<telemetry::otel::Settings>, check: &mut Check) -> Option<Self> {
        const DAY: Duration = Duration::from_secs(86_400);
        let secs = Duration::from_secs;
        let token = "1 to 32 letters, digits, `_` and `-`";
        let subjects = check.parse("NATS_SUBJECT_PREFIX", raw.nats_subject_prefix, "wa", token, |text| {
            Subjects::new(text).ok()
        });
        let name = "1 to 64 of a-z, 0-9, `_` and `-`";
        let account = check.parse("WHATSAPP_ACCOUNT", raw.whatsapp_account, "default", name, |text| {
            Account::parse(text).ok()
        });
        let modes = "create, verify or off";
        let provision = check.parse("NATS_PROVISION", raw.nats_provision, "create", modes, provision);
        let replicas = check.parse("NATS_REPLICAS", raw.nats_replicas, "1", "1, 3 or 5", replicas);
        let in_max_age = check.duration("NATS_IN_MAX_AGE", raw.nats_in_max_age, 7 * DAY);
        let out_max_age = check.duration("NATS_OUT_MAX_AGE", raw.nats_out_max_age, 8 * DAY);
        let dlq_max_age = check.duration("NATS_DLQ_MAX_AGE", raw.nats_dlq_max_age, 30 * DAY);
        let window = check.duration("NATS_DUPLICATE_WINDOW", raw.nats_duplicate_window, DAY);
        let forwarder_ack_wait = check.duration("FORWARDER_ACK_WAIT", raw.forwarder_ack_wait, secs(15));
        let edge_ack_wait = check.duration("EDGE_ACK_WAIT", raw.edge_ack_wait, secs(30));
        let reply_max_age = check.duration("REPLY_MAX_AGE", raw.reply_max_age, DAY);
        for (bad, name, got, takes) in [
            (
                out_max_age <= in_max_age,
                "NATS_OUT_MAX_AGE",
                out_max_age,
                "more than NATS_IN_MAX_AGE: an outcome has to outlive its message",
            ),
            (
                window > in_max_age,
                "NATS_DUPLICATE_WINDOW",
                window,
                "at most NATS_IN_MAX_AGE: what is not stored any more is not recognised",
            ),
            (
                reply_max_age > window,
                "REPLY_MAX_AGE",
                reply_max_age,
                "at most NATS_DUPLICATE_WINDOW: a message that WhatsApp hands over again later than that could \
                 be answered twice",
            ),
        ] {
            if bad {
                check.bad(name, human(got), takes);
            }
        }
        let takes = "http://host:port or https://host";
        let backend_url = check.parse("BACKEND_URL", raw.backend_url, "http://localhost:8000", takes, url);
        let api_key = check.header("API_KEY", raw.api_key);
        let backend_timeout = check.duration("BACKEND_TIMEOUT", raw.backend_timeout, secs(120));
        let takes = "phone numbers separated by commas";
        let allowed_numbers = check.parse("ALLOWED_NUMBERS", raw.allowed_numbers, "", takes, numbers);
        let takes = "a number from 1 to 100000";
        let concurrency =
            check.parse("BACKEND_CONCURRENCY", raw.backend_concurrency, "256", takes, concurrency);
        let retry_for = check.duration("BACKEND_RETRY_FOR", raw.backend_retry_for, secs(300));
        let shutdown_grace = check.duration("SHUTDOWN_GRACE", raw.shutdown_grace, secs(25));
        let takes = "a phone number in digits, with its country code";
        let pair_phone = check.optional("WHATSAPP_PAIR_PHONE", raw.whatsapp_pair_phone, takes, digits);
        check.simulator(raw.whatsapp_simulator_url.as_deref(), cfg!(feature = "simulator"));
        // Far above what one person reads and one number's people write; a machine that has gone wild is
        // above it at once.
        let per_chat = check.parse("SEND_PER_CHAT", raw.send_per_chat, "20/10s", rate::TAKES, rate::limit);
        let total = check.parse("SEND_TOTAL", raw.send_total, "50/1s", rate::TAKES, rate::limit);
        let takes = rate::TAKES_PER_MINUTE;
        let loops = check.parse("LOOP_LIMIT", raw.loop_limit, "30/1m", takes, rate::limit_per_minute);
        let takes = "an address and a port, such as 127.0.0.1:8080";
        let http_addr =
            check.parse("HTTP_ADDR", raw.http_addr, "127.0.0.1:8080", takes, |text| text.parse().ok());
        let log_format = check.optional("LOG_FORMAT", raw.log_format, "pretty or json", log_format);
        let full_pii = check.parse("LOG_PII", raw.log_pii, "masked", "masked or full", |text| {
            ["masked", "full"].iter().position(|known| text == *known).map(|at| at == 1)
        });
        let takes = "such as `info` or `off,whatsapp_connector=debug`";
        let log_filter = check.parse("RUST_LOG", raw.rust_log, telemetry::DEFAULT_FILTER, takes, |text| {
            telemetry::check_filter(text).is_ok().then(|| text.to_owned())
        });
        Some(Self {
            nats_url: raw.nats_url,
            embedded: embedded::Settings {
                binary: raw.nats_server_bin,
                data_dir: raw.nats_data_dir.unwrap_or_else(|| "./data/nats".into()),
            },
            subjects: subjects?,
            topology: topology::Settings {
                provision: provision?,
                replicas: replicas?,
                in_max_age,
                out_max_age,
                dlq_max_age,
                duplicate_window: window,
                forwarder_ack_wait,
                edge_ack_wait,
            },
            forwarder: forwarder::Settings {
                backend: forwarder::backend::Settings {
                    url: backend_url?,
                    api_key,
                    webhook_secret: raw.whatsapp_webhook_secret,
                    timeout: backend_timeout,
                },
                eligible: forwarder::eligible::Settings { allowed_numbers: allowed_numbers?, reply_max_age },
                concurrency: concurrency?,
                retry_for,
                fallback_text: raw.fallback_text.unwrap_or_default(),
            },
            edge: edge::Settings {
                account: account?,
                auth_dir: raw.whatsapp_auth_dir.unwrap_or_else(|| "./auth_info".into()),
                session: edge::SessionSettings {
                    pair_phone,
                    simulator_url: raw.whatsapp_simulator_url,
                    flush_timeout: shutdown_grace.mul_f64(0.3),
                },
                limits: edge::Limits { per_chat: per_chat?, total: total?, loops: loops? },
            },
            http_addr: http_addr?,
            shutdown_grace,
            telemetry: telemetry::Settings {
                format: log_format,
                filter: log_filter?,
                full_pii: full_pii?,
                otel: otel?,
            },
        })
    }
}

/// Collects what is bad.
#[derive(Default)]
struct Check {
    bad: Vec<Bad>,
}

impl Check {
    fn bad(&mut self, name: &'static str, got: String, takes: &str) {
        self.bad.push(Bad { name, got, takes: takes.to_owned() });
    }

    fn all<T>(&mut self, read: Result<T, Vec<telemetry::otel::Bad>>) -> Option<T> {
        let bad = match read {
            Ok(value) => return Some(value),
            Err(bad) => bad,
        };
        for (name, got, takes) in bad {
            self.bad(name, got, takes);
        }
        None
    }

    fn parse<T>(
        &mut self,
        name: &'static str,
        value: Option<String>,
        default: &str,
        takes: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.optional(name, Some(value.unwrap_or_else(|| default.to_owned())), takes, read)
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        value: Option<String>,
        takes: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = value?;
        let read = read(value.trim());
        if read.is_none() {
            self.bad(name, value, takes);
        }
        read
    }

    /// A build without the feature must not talk to WhatsApp when it was meant to talk to a simulator.
    fn simulator(&mut self, url: Option<&str>, can_simulate: bool) {
        let Some(url) = url else { return };
        if !can_simulate {
            let takes = "nothing: this build talks to WhatsApp only; build with `--features simulator`";
            self.bad("WHATSAPP_SIMULATOR_URL", url.to_owned(), takes);
        } else if !url.starts_with("ws://") {
            self.bad("WHATSAPP_SIMULATOR_URL", url.to_owned(), "ws://127.0.0.1:7080/ws/chat");
        }
    }

    fn duration(&mut self, name: &'static str, value: Option<String>, default: Duration) -> Duration {
        let Some(value) = value else { return default };
        match humantime::parse_duration(value.trim()) {
            Ok(time) if !time.is_zero() => time,
            _ => {
                self.bad(name, value, "a duration, such as 30s, 5m or 24h");
                default
            }
        }
    }

    fn header(&mut self, name: &'static str, value: Option<SecretString>) -> Option<SecretString> {
        use secrecy::ExposeSecret as _;
        let value = value?;
        if value.expose_secret().chars().any(|c| !c.is_ascii() || c.is_ascii_control()) {
            self.bad(name, "(not shown)".to_owned(), "printable ASCII: it goes into an HTTP header");
        }
        Some(value)
    }
}

fn provision(text: &str) -> Option<topology::Provision> {
    match text {
        "create" => Some(topology::Provision::Create),
        "verify" => Some(topology::Provision::Verify),
        "off" => Some(topology::Provision::Off),
        _ => None,
    }
}

fn replicas(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| [1, 3, 5].contains(count))
}

fn concurrency(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| (1..=100_000).contains(count))
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "pretty" => Some(LogFormat::Pretty),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn url(text: &str) -> Option<reqwest::Url> {
    let url: reqwest::Url = text.parse().ok()?;
    (["http", "https"].contains(&url.scheme()) && url.host_str().is_some()).then_some(url)
}

fn numbers(text: &str) -> Option<HashSet<String>> {
    text.split(',').map(str::trim).filter(|number| !number.is_empty()).map(digits).collect()
}

/// Digits only, out of how people write a phone number.
fn digits(text: &str) -> Option<String> {
    let number: String = text.chars().filter(|c| !" +-().".contains(*c)).collect();
    (number.len() >= 5 && number.len() <= 20 && number.chars().all(|c| c.is_ascii_digit())).then_some(number)
}

fn human(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn nothing_has_to_be_set_and_the_defaults_are_those_operators_know() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.forwarder.backend.url.as_str(), "http://localhost:8000/");
        assert_eq!(config.edge.auth_dir, PathBuf::from("./auth_info"));
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
        let names: Vec<_> = error.0.iter().map(|bad| bad.name).collect();
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
        let config = parse(&[("API_KEY", "topsecret"), ("NATS_URL", "nats://u:topsecret@h:4222")]).unwrap();
        assert!(!format!("{config:?}").contains("topsecret"));
    }

    #[test]
    fn numbers_are_taken_as_people_write_them() {
        let config = parse(&[("ALLOWED_NUMBERS", "+54 9 11 1234-5678, 15551234567")]).unwrap();
        let allowed = config.forwarder.eligible.allowed_numbers;
        assert!(allowed.contains("5491112345678") && allowed.contains("15551234567"));
        assert!(parse(&[("ALLOWED_NUMBERS", "me")]).is_err());
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
            check.simulator(url, can_simulate);
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
}
