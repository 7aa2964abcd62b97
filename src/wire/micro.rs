//! What a process says of itself as a NATS micro service (ADR-32): to `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`. The
//! documents are JSON, and other programs know them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What every process is called.
pub const NAME: &str = "whatsapp-connector";
/// The header with why something was not done.
pub const ERROR: &str = "Nats-Service-Error";
/// The header with its number.
pub const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// A question that all micro services answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Who is there?
    Ping,
    /// What can you do?
    Info,
    /// What have you done?
    Stats,
}

impl Verb {
    /// Of a subject below `$SRV`.
    pub fn of(subject: &str) -> Option<Self> {
        match subject.split('.').nth(1)? {
            "PING" => Some(Self::Ping),
            "INFO" => Some(Self::Info),
            "STATS" => Some(Self::Stats),
            _ => None,
        }
    }
}

/// The subjects on which the process with this `id` is asked, for every verb.
pub fn subjects(id: &str) -> [String; 3] {
    ["$SRV.*".to_owned(), format!("$SRV.*.{NAME}"), format!("$SRV.*.{NAME}.{id}")]
}

/// Who it is.
#[derive(Debug, Clone, Serialize)]
pub struct Identity {
    /// [`NAME`].
    pub name: &'static str,
    /// Of this process.
    pub id: String,
    /// The program's version.
    pub version: &'static str,
    /// Its role, its account, ...
    pub metadata: BTreeMap<&'static str, String>,
}

/// Something that it can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its name.
    pub name: &'static str,
    /// Where.
    pub subject: String,
    /// Of those with the same, one answers; empty: all do.
    pub queue_group: &'static str,
    /// What it takes and gives.
    pub metadata: BTreeMap<&'static str, &'static str>,
}

/// What became of the requests to one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// How many were answered.
    pub requests: u64,
    /// How many of them were refused.
    pub errors: u64,
    /// Why the last one was.
    pub last_error: String,
    /// How long all of them took.
    pub time: Duration,
}

#[derive(Serialize)]
struct Pong<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    who: &'a Identity,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    who: &'a Identity,
    description: &'static str,
    endpoints: &'a [Endpoint],
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    who: &'a Identity,
    started: &'a str,
    endpoints: Vec<EndpointStats<'a>>,
}

#[derive(Serialize)]
struct EndpointStats<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'a str,
    num_requests: u64,
    num_errors: u64,
    last_error: &'a str,
    processing_time: u64,
    average_processing_time: u64,
}

impl Identity {
    /// The answer to `PING`.
    pub fn pong(&self) -> Vec<u8> {
        json(&Pong { kind: "io.nats.micro.v1.ping_response", who: self })
    }

    /// The answer to `INFO`.
    pub fn info(&self, description: &'static str, endpoints: &[Endpoint]) -> Vec<u8> {
        json(&Info { kind: "io.nats.micro.v1.info_response", who: self, description, endpoints })
    }

    /// The answer to `STATS`. `started` is RFC 3339.
    pub fn stats(&self, started: &str, endpoints: &[Endpoint], count: impl Fn(&str) -> Count) -> Vec<u8> {
        let counts: Vec<_> = endpoints.iter().map(|one| (one, count(one.name))).collect();
        let endpoints = counts
            .iter()
            .map(|(endpoint, count)| EndpointStats {
                name: endpoint.name,
                subject: &endpoint.subject,
                queue_group: endpoint.queue_group,
                num_requests: count.requests,
                num_errors: count.errors,
                last_error: &count.last_error,
                processing_time: nanoseconds(count.time),
                average_processing_time: nanoseconds(count.time).checked_div(count.requests).unwrap_or(0),
            })
            .collect();
        json(&Stats { kind: "io.nats.micro.v1.stats_response", who: self, started, endpoints })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn json(document: &impl Serialize) -> Vec<u8> {
    // Plain data always serialises.
    serde_json::to_vec(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_verb_is_read_off_each_of_the_subjects() {
        for (subject, verb) in [
            ("$SRV.PING", Some(Verb::Ping)),
            ("$SRV.INFO.whatsapp-connector", Some(Verb::Info)),
            ("$SRV.STATS.whatsapp-connector.x", Some(Verb::Stats)),
            ("$SRV.SCHEMA", None),
            ("$SRV", None),
        ] {
            assert_eq!(Verb::of(subject), verb, "{subject}");
        }
    }

    #[test]
    fn the_documents_are_those_of_the_protocol() {
        let who = Identity {
            name: NAME,
            id: "a1".to_owned(),
            version: "0.1.0",
            metadata: [("role", "edge".to_owned())].into(),
        };
        let endpoint = Endpoint {
            name: "link",
            subject: "wa.svc.shop.link".to_owned(),
            queue_group: "edge",
            metadata: [("request", "{}")].into(),
        };
        let endpoints = [endpoint];
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let base = |kind: &str| {
            let kind = format!("io.nats.micro.v1.{kind}_response");
            json!({"type": kind, "name": NAME, "id": "a1", "version": "0.1.0", "metadata": {"role": "edge"}})
        };
        assert_eq!(read(who.pong()), base("ping"));
        let mut info = base("info");
        info["description"] = "it".into();
        info["endpoints"] = json!([{
            "name": "link", "subject": "wa.svc.shop.link", "queue_group": "edge", "metadata": {"request": "{}"},
        }]);
        assert_eq!(read(who.info("it", &endpoints)), info);
        let mut stats = base("stats");
        stats["started"] = "2026-01-02T03:04:05Z".into();
        stats["endpoints"] = json!([{
            "name": "link", "subject": "wa.svc.shop.link", "queue_group": "edge", "num_requests": 2,
            "num_errors": 1, "last_error": "409:linked", "processing_time": 3_000, "average_processing_time": 1_500,
        }]);
        let count = Count {
            requests: 2,
            errors: 1,
            last_error: "409:linked".to_owned(),
            time: Duration::from_micros(3),
        };
        assert_eq!(read(who.stats("2026-01-02T03:04:05Z", &endpoints, |_| count.clone())), stats);
    }
}
