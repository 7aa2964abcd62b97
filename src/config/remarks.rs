//! What an operator should know about the environment, and what ends nothing. Pure.

use std::fmt;

use super::earlier::Earlier;
use super::known::{Unknown, unknown};
use super::{Environment, Origin, table};
use crate::proxy::Proxies;
use crate::telemetry::{otel, redact};

/// One thing that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// A variable looks like a setting and is none.
    Unknown(Unknown),
    /// The value of this variable stands in quotes, and they count as a part of it.
    Quoted(String),
    /// A setting has the name that an earlier service has for it.
    Earlier(Earlier),
    /// A variable of the platform has a value that is not known here.
    Ignored {
        /// The variable.
        name: &'static str,
        /// The value, or the part of it, that counts as not set. Without a login.
        got: String,
        /// What it takes.
        takes: &'static str,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(unknown) => unknown.fmt(f),
            Self::Quoted(name) => {
                write!(
                    f,
                    "{name} stands in quotes, and they count as a part of the value: was it meant so? Docker keeps the quotes of an --env-file"
                )
            }
            Self::Earlier(Earlier { name, setting, unused: None }) => {
                write!(f, "{name} is taken for {setting}, as the service does that this one replaces")
            }
            Self::Earlier(Earlier { name, setting, unused: Some(why) }) => {
                write!(f, "{name}, an earlier name of {setting}, is ignored: {why}")
            }
            Self::Ignored { name, got, takes } => write!(f, "{name}={got} is ignored: it takes {takes}"),
        }
    }
}

impl Remark {
    /// Is it for information only, and nothing to look after?
    pub fn is_all_right(&self) -> bool {
        matches!(self, Self::Earlier(Earlier { unused: None, .. }))
    }
}

/// All of them.
pub fn remarks(environment: &Environment) -> Vec<Remark> {
    let get = |name: &str| environment.get(name).map(|variable| variable.value.as_str());
    let (_, otel) = otel::Settings::read(get);
    let (_, proxies) = Proxies::read(get);
    let ignored = otel.into_iter().chain(proxies).map(|(name, got, takes)| {
        // An endpoint may hold a login.
        Remark::Ignored { name, got: redact::addresses(&got, "***@"), takes }
    });
    let unknown = unknown(environment).into_iter().map(Remark::Unknown);
    let earlier = environment.earlier().iter().cloned().map(Remark::Earlier);
    unknown.chain(quoted(environment)).chain(earlier).chain(ignored).collect()
}

/// In `.env`, quotes around quotes are no accident, and a file of its own has a secret as it is.
fn quoted(environment: &Environment) -> impl Iterator<Item = Remark> {
    let is_quoted = |name: &&str| {
        environment.get(name).is_some_and(|variable| {
            let value = variable.value.trim();
            let stands_in =
                |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
            variable.origin == Origin::Environment
                && variable.file.is_none()
                && (stands_in('"') || stands_in('\''))
        })
    };
    environment
        .names()
        .filter(|name| is_ours(name))
        .filter(is_quoted)
        .map(|name| Remark::Quoted(name.to_owned()))
}

fn is_ours(name: &str) -> bool {
    let of_table =
        |setting: &table::Setting| setting.name == name || setting.pointer().as_deref() == Some(name);
    name.starts_with("OTEL_") || table::ALL.iter().any(of_table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dotenv: &[(&str, &str)], own: &[(&str, &str)]) -> Vec<String> {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        remarks(&Environment::of(owned(dotenv), owned(own))).iter().map(Remark::to_string).collect()
    }

    #[test]
    fn quotes_that_docker_has_kept_are_told_without_the_value() {
        for value in ["\"topsecret\"", "'topsecret'", " 'topsecret' "] {
            for name in ["API_KEY", "NATS_TOKEN", "API_KEY_FILE", "OTEL_SERVICE_NAME", "FALLBACK_TEXT"] {
                let told = told(&[], &[(name, value)]);
                assert!(told[0].starts_with(&format!("{name} stands in quotes")), "{told:?}");
                assert!(told.len() == 1 && !told[0].contains("topsecret"), "{told:?}");
            }
        }
        for value in ["\"top", "secret'", "'", "\"'", "to\"ps\"ecret"] {
            assert_eq!(told(&[], &[("API_KEY", value)]), [""; 0], "{value}");
        }
        assert_eq!(told(&[("API_KEY", "'x'")], &[("EDITOR", "'vi'")]), [""; 0]);
    }

    #[test]
    fn what_a_platform_sets_and_is_not_known_is_told_without_a_login() {
        let told = told(
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "unix://me:topsecret@host")],
            &[
                ("OTEL_PROPAGATORS", "baggage,b3"),
                ("HTTPS_PROXY", "socks5://me:topsecret@p:1"),
                ("NATS_URLS", "x"),
            ],
        );
        assert_eq!(
            told,
            [
                "NATS_URLS is set, and is no setting: was NATS_URL meant?",
                "OTEL_EXPORTER_OTLP_ENDPOINT=unix://***@host is ignored: it takes http://host:port or https://host for \
                 http/protobuf",
                "OTEL_PROPAGATORS=b3 is ignored: it takes tracecontext and baggage, separated by a comma, or none",
                "HTTPS_PROXY=socks5://***@p:1 is ignored: it takes http://host:port or https://host",
            ]
        );
    }
}
