//! `whatsapp-connector config`: the settings in force, and where each value comes from.

use std::fmt;

use serde::Serialize;

use super::known::Unknown;
use super::remarks::{Remark, remarks};
use super::table::{self, Default, File, Setting, Shown};
use super::{Config, Environment};
use crate::telemetry::redact;

/// Shown in place of a secret.
const MASK: &str = "***";

impl Setting {
    /// `value`, as far as it may be shown.
    pub fn show(&self, value: &str) -> String {
        match self.shown {
            Shown::Whole => value.to_owned(),
            Shown::Never => MASK.to_owned(),
            Shown::WithoutUser => without_user(value),
            Shown::LastFour => redact::numbers(value),
        }
    }
}

/// Addresses without user, password or token.
fn without_user(addresses: &str) -> String {
    redact::addresses(addresses, &format!("{MASK}@"))
}

/// The settings in force.
#[derive(Debug, Serialize)]
pub struct InForce {
    settings: Vec<Line>,
    unknown: Vec<Unknown>,
    /// What else the operator should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
}

/// One setting.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// Its value, masked if necessary; `None` if it is not set and has no default.
    value: Option<String>,
    /// `default`, `environment` or `.env`.
    from: &'static str,
    /// The file with the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The file is read again for each connection.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_anew: bool,
    /// What it means that there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    means: Option<&'static str>,
    /// What it takes, if it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    takes: Option<String>,
}

impl InForce {
    /// The settings of this environment. The second value is false if a setting cannot be used.
    pub fn of(environment: &Environment) -> (Self, bool) {
        let bad = Config::parse(environment).err().map(|error| error.0).unwrap_or_default();
        let why = |name: &str| {
            // If the file cannot be used, the secret cannot.
            let of = |bad: &str| bad == name || bad.strip_suffix("_FILE") == Some(name);
            bad.iter().find(|bad| of(&bad.name)).map(|bad| bad.takes.clone())
        };
        let own = table::ALL.iter().map(|setting| Line::of(environment, setting, why(setting.name)));
        // OpenTelemetry's variables are not in the table. Those that are set are in force as well.
        let standard = environment.names().filter(|name| name.starts_with("OTEL_"));
        let standard = standard.map(|name| Line::standard(environment, name, why(name)));
        let settings = own.chain(standard).collect();
        let (mut unknown, mut others) = (Vec::new(), Vec::new());
        for remark in remarks(environment) {
            match remark {
                Remark::Unknown(one) => unknown.push(one),
                other => others.push(other.to_string()),
            }
        }
        (Self { settings, unknown, remarks: others }, bad.is_empty())
    }
}

impl Line {
    fn of(environment: &Environment, setting: &Setting, takes: Option<String>) -> Self {
        let (default, means) = match setting.default {
            Default::Value(value) => (Some(value.to_owned()), None),
            Default::Words(words) => (None, Some(words)),
        };
        let name = setting.name.to_owned();
        let file = setting.pointer().filter(|_| setting.file == File::EachConnection);
        if let Some(pointer) = file.and_then(|pointer| environment.get(&pointer)) {
            // The file's content may change later.
            return Self {
                name,
                value: Some(MASK.to_owned()),
                from: pointer.origin.as_str(),
                file: Some(pointer.value.trim().to_owned()),
                read_anew: true,
                means: None,
                takes,
            };
        }
        match environment.get(setting.name) {
            None => {
                Self { name, value: default, from: "default", file: None, read_anew: false, means, takes }
            }
            Some(variable) => Self {
                name,
                value: Some(setting.show(variable.value.trim())),
                from: variable.origin.as_str(),
                file: variable.file.as_ref().map(|file| file.display().to_string()),
                read_anew: false,
                means: None,
                takes,
            },
        }
    }

    fn standard(environment: &Environment, name: &str, takes: Option<String>) -> Self {
        let variable = environment.get(name);
        // Headers hold keys. An endpoint or a resource attribute may hold one.
        let shown = if name.ends_with("_HEADERS") { Shown::Never } else { Shown::WithoutUser };
        let show = |value: &str| match shown {
            Shown::Never => MASK.to_owned(),
            _ => without_user(value),
        };
        Self {
            name: name.to_owned(),
            value: variable.map(|variable| show(variable.value.trim())),
            from: variable.map_or("default", |variable| variable.origin.as_str()),
            file: None,
            read_anew: false,
            means: None,
            takes,
        }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Line) -> usize| self.settings.iter().map(of).max().unwrap_or_default().min(40);
        let (names, values) = (width(|line| line.name.len()), width(|line| line.shown().chars().count()));
        for line in &self.settings {
            write!(f, "{:<names$}  {:<values$}  {}", line.name, line.shown(), line.from)?;
            if let Some(file) = &line.file {
                let anew = if line.read_anew { ", read anew for each connection" } else { "" };
                write!(f, ", file {file}{anew}")?;
            }
            if let Some(takes) = &line.takes {
                write!(f, "\n  cannot be used: it takes {takes}")?;
            }
            writeln!(f)?;
        }
        for unknown in &self.unknown {
            writeln!(f, "{unknown}")?;
        }
        for remark in &self.remarks {
            writeln!(f, "{remark}")?;
        }
        Ok(())
    }
}

impl Line {
    fn shown(&self) -> String {
        match (&self.value, self.means) {
            (Some(value), _) => value.clone(),
            (None, means) => format!("({})", means.unwrap_or("not set")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dotenv: &[(&str, &str)], own: &[(&str, &str)]) -> (InForce, bool) {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        InForce::of(&Environment::of(owned(dotenv), owned(own)))
    }

    fn line<'a>(found: &'a InForce, name: &str) -> (Option<&'a str>, &'static str) {
        let line = found.settings.iter().find(|line| line.name == name).unwrap();
        (line.value.as_deref(), line.from)
    }

    #[test]
    fn every_setting_is_there_with_its_origin() {
        let (found, fine) = of(&[("NATS_REPLICAS", "3"), ("LOG_PII", "full")], &[("LOG_PII", "masked")]);
        assert!(fine);
        assert_eq!(found.settings.len(), table::ALL.len());
        assert_eq!(line(&found, "BACKEND_TIMEOUT"), (Some("120s"), "default"));
        assert_eq!(line(&found, "NATS_REPLICAS"), (Some("3"), ".env"));
        assert_eq!(line(&found, "LOG_PII"), (Some("masked"), "environment"));
        assert_eq!(line(&found, "API_KEY"), (None, "default"));
        assert!(found.to_string().contains("(none is sent)"), "{found}");
    }

    #[test]
    fn what_cannot_be_used_says_what_it_takes() {
        let (found, fine) = of(&[], &[("NATS_PROVISION", "maybe"), ("API_KEY_FILE", "./no-such-file")]);
        assert!(!fine);
        let text = found.to_string();
        assert!(text.contains("cannot be used: it takes create, verify or off"), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }

    #[test]
    fn a_file_that_is_read_later_is_shown_and_not_looked_at() {
        let (found, fine) = of(
            &[("NATS_USER", "me")],
            &[("NATS_URL", "nats://h"), ("NATS_PASSWORD_FILE", "./not-there-yet")],
        );
        assert!(fine, "{found}");
        assert_eq!(line(&found, "NATS_USER"), (Some("me"), ".env"));
        assert_eq!(line(&found, "NATS_PASSWORD"), (Some(MASK), "environment"));
        let text = found.to_string();
        assert!(text.contains("file ./not-there-yet, read anew for each connection"), "{text}");
        let (found, fine) = of(&[], &[("NATS_URL", "nats://h"), ("NATS_PASSWORD_FILE", "./not-there-yet")]);
        assert!(!fine && found.to_string().contains("NATS_USER and NATS_PASSWORD"), "{found}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let (found, _) = of(
            &[],
            &[
                ("API_KEY", "topsecret"),
                ("WHATSAPP_WEBHOOK_SECRET", "topsecret"),
                ("NATS_NKEY", "topsecret"),
                ("NATS_TOKEN", "topsecret"),
                ("NATS_PASSWORD", "topsecret"),
                ("HTTP_TOKEN", "topsecret-topsecret"),
                ("NATS_URL", "nats://me:topsecret@a:1,nats://topsecret@b:2, tls://c:3"),
                ("BACKEND_URL", "ftp://me:topsecret@host"),
                ("ALLOWED_NUMBERS", "5491112345678"),
                ("WHATSAPP_PAIR_PHONE", "5491112345678"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "key=topsecret"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:topsecret@host:4318"),
            ],
        );
        let json = serde_json::to_string(&found).unwrap();
        for text in [found.to_string(), json] {
            assert!(!text.contains("topsecret") && !text.contains("12345678"), "{text}");
            assert!(text.contains("nats://***@a:1,nats://***@b:2, tls://c:3"), "{text}");
        }
    }

    #[test]
    fn a_line_is_the_name_the_value_and_where_it_is_from() {
        let (found, _) =
            of(&[], &[("NATS_REPLICAS", "3"), ("OTEL_SERVICE_NAME", "shop"), ("NATS_URLS", "x")]);
        let text = found.to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for want in [
            vec!["NATS_REPLICAS", "3", "environment"],
            vec!["OTEL_SERVICE_NAME", "shop", "environment"],
            vec!["LOG_PII", "masked", "default"],
            vec!["NATS_URLS", "is", "set,", "and", "is", "no", "setting:", "was", "NATS_URL", "meant?"],
        ] {
            assert!(lines.contains(&want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_one_setting_is_said_of_that_one_and_of_its_file() {
        let (found, _) = of(&[], &[("NATS_REPLICAS", "2"), ("API_KEY_FILE", "./no-such-file")]);
        let bad = found.settings.iter().filter(|line| line.takes.is_some());
        let bad: Vec<_> = bad.map(|line| line.name.as_str()).collect();
        assert_eq!(bad, ["API_KEY", "NATS_REPLICAS"]);
    }
}
