//! Finds variables that look like settings of this program but are not. Pure.

use std::fmt;

use serde::Serialize;

use super::{Environment, table};

/// A variable with one of these in front is meant for this program.
const OWN: [&str; 5] = ["WHATSAPP_", "NATS_", "BACKEND_", "FORWARDER_", "EDGE_"];

/// Variables of the build, the tests and the reference backend. They may be in the same environment or `.env`.
const NEIGHBOURS: [&str; 7] = [
    "BACKEND_CALL_LOG",
    "BACKEND_DELAY_MS",
    "BACKEND_FAIL",
    "BACKEND_FAIL_SEED",
    "BACKEND_PYTHON",
    "NATS_CONTEXT",
    "WHATSAPP_CONNECTOR_BIN",
];

/// A name without such a prefix has to be this long to count as misspelt.
const LONG: usize = 8;

/// A variable that looks like a setting but is not one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Its name. Not its value, which may be a secret.
    pub name: String,
    /// The setting that was likely meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is set, and is no setting", self.name)?;
        match &self.nearest {
            Some(nearest) => write!(f, ": was {nearest} meant?"),
            None => write!(f, " of whatsapp-connector"),
        }
    }
}

/// All of them.
pub(super) fn unknown(environment: &Environment) -> Vec<Unknown> {
    let known = known();
    let is_ours = |name: &&str| !known.iter().any(|known| known == name) && !NEIGHBOURS.contains(name);
    let strangers = environment.names().filter(is_ours).filter(|name| !is_of_kubernetes(name));
    strangers.filter_map(|name| suspect(name, &known)).collect()
}

fn known() -> Vec<String> {
    let names = table::ALL.iter().map(|setting| setting.name.to_owned());
    names.chain(table::ALL.iter().filter_map(table::Setting::pointer)).collect()
}

fn suspect(name: &str, known: &[String]) -> Option<Unknown> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let (nearest, away) = known.iter().map(|other| (other, distance(other))).min_by_key(|found| found.1)?;
    let is_own = OWN.iter().any(|prefix| name.starts_with(prefix));
    let is_a_slip = name.len() >= LONG && away == 1;
    // A name with more differences does not say what was meant.
    let near = away <= (name.len() / 3).max(2);
    (is_own || is_a_slip).then(|| Unknown { name: name.to_owned(), nearest: near.then(|| nearest.clone()) })
}

/// Kubernetes puts the address of every service of the namespace into every pod: a service `nats` is
/// `NATS_SERVICE_HOST`, `NATS_PORT`, `NATS_PORT_4222_TCP_ADDR` and so on.
fn is_of_kubernetes(name: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| numbered(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<Unknown> {
        let variables = names.iter().map(|name| ((*name).to_owned(), "x".to_owned()));
        unknown(&Environment::of([], variables))
    }

    #[test]
    fn a_misspelt_setting_is_named_with_the_one_that_was_meant() {
        for (misspelt, meant) in [
            ("WHATSAPP_AUTHDIR", "WHATSAPP_AUTH_DIR"),
            ("NATS_URLS", "NATS_URL"),
            ("NATS_URL_FIEL", "NATS_URL_FILE"),
            ("BACKEND_TIME_OUT", "BACKEND_TIMEOUT"),
            ("ALLOWED_NUMBER", "ALLOWED_NUMBERS"),
            ("NATS_PASSWORD_FIEL", "NATS_PASSWORD_FILE"),
            ("NATS_INBOX_PREFIXES", "NATS_INBOX_PREFIX"),
            ("SHUTDOWN_GRAEC", "SHUTDOWN_GRACE"),
            ("LOG_FROMAT", "LOG_FORMAT"),
            // A third of a long name may be wrong.
            ("BACKEND_TIMEOUT_MS", "BACKEND_TIMEOUT"),
            ("BACKEND_TIMEOUT_IN_S", "BACKEND_TIMEOUT"),
        ] {
            let want = Unknown { name: misspelt.to_owned(), nearest: Some(meant.to_owned()) };
            assert_eq!(found(&[misspelt]), [want]);
        }
        let far = Unknown { name: "NATS_SOMETHING_ELSE_ALTOGETHER".to_owned(), nearest: None };
        assert_eq!(found(&["NATS_SOMETHING_ELSE_ALTOGETHER"]), [far]);
    }

    #[test]
    fn what_is_meant_for_others_is_left_alone() {
        let all: Vec<&str> = table::ALL.iter().map(|setting| setting.name).collect();
        assert_eq!(found(&all), []);
        let others = [
            "API_KEY_FILE",
            "ASSISTANT_MODE",
            "BACKEND_DELAY_MS",
            "BACKEND_PORT_8000_TCP_ADDR",
            "BACKEND_SERVICE_HOST",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "LOG_LEVEL",
            "NATS_PORT",
            "NATS_PORT_4222_TCP",
            "NATS_SERVICE_PORT_CLIENT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_NATS_URL",
            "PATH",
            "RUST_BACKTRACE",
            "WHATSAPP_CONNECTOR_SERVICE_HOST",
        ];
        assert_eq!(found(&others), []);
    }

    #[test]
    fn what_is_unknown_is_said_with_what_was_likely_meant() {
        let said = |name: &str| found(&[name]).first().map(Unknown::to_string);
        assert_eq!(
            said("NATS_URLS").as_deref(),
            Some("NATS_URLS is set, and is no setting: was NATS_URL meant?")
        );
        assert_eq!(
            said("NATS_SOMETHING_ELSE_ALTOGETHER").as_deref(),
            Some("NATS_SOMETHING_ELSE_ALTOGETHER is set, and is no setting of whatsapp-connector")
        );
    }

    #[test]
    fn a_slip_is_suspected_in_a_long_name_only_and_only_if_it_is_one() {
        for (name, is_suspect) in
            [("LOG_PIII", true), ("LOG_PIX", false), ("LOG_FORMATS", true), ("LOG_FORMATTER", false)]
        {
            assert_eq!(!found(&[name]).is_empty(), is_suspect, "{name}");
        }
    }
}
