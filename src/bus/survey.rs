//! Finds everything that is wrong with a bus, not only what would end a start. For `whatsapp-connector check`. Changes
//! nothing.

use std::time::Duration;

use async_nats::RequestErrorKind;
use async_nats::jetstream::{consumer, kv, response::Response, stream};
use bytes::Bytes;
use serde::Deserialize;

use super::topology::{self, Difference, Role, Settings};
use super::{Bus, ReadError};
use crate::wire::Subjects;

/// JetStream's codes for "not here" and "not for this account".
const NOT_ENABLED: [u64; 2] = [10076, 10039];

/// A difference from the design.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A stream, consumer or bucket does not exist.
    Missing {
        /// Which, in words.
        what: String,
        /// The subject of the request that creates it.
        subject: String,
    },
    /// It exists, but is configured differently.
    Differs(Difference),
    /// The server does not answer.
    Unanswered {
        /// Which.
        what: String,
        /// Why not.
        why: String,
    },
}

/// Does a JetStream answer this user?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JetStream {
    /// It does.
    On {
        /// The server's clock, in milliseconds since 1970-01-01T00:00:00Z, if it says so.
        at_ms: Option<i64>,
        /// How long the answer took.
        took: Duration,
    },
    /// This server has none, or this user's account has none.
    Off(String),
    /// Unknown.
    Unanswered(String),
}

/// Every answer of JetStream's API has the server's time.
#[derive(Deserialize)]
struct Stamped {
    ts: Option<String>,
}

impl Bus {
    /// Asks JetStream about `stream`, which need not exist.
    pub async fn jetstream(&self, stream: &str) -> JetStream {
        let subject = format!("{}.STREAM.INFO.{stream}", self.api);
        let began = tokio::time::Instant::now();
        let mut refusals = self.refusals.listen();
        let answer = tokio::select! {
            answer = self.client.request(subject.clone(), Bytes::new()) => answer,
            why = refusals.refused(&subject) => return JetStream::Unanswered(why),
        };
        let took = began.elapsed();
        let message = match answer {
            Ok(message) => message,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return JetStream::Off("it does not answer".to_owned());
            }
            Err(error) => return JetStream::Unanswered(error.to_string()),
        };
        if let Ok(Response::<stream::Info>::Err { error }) = serde_json::from_slice(&message.payload)
            && NOT_ENABLED.contains(&error.error_code().0)
        {
            return JetStream::Off(error.to_string());
        }
        let stamped = serde_json::from_slice::<Stamped>(&message.payload).ok().and_then(|stamped| stamped.ts);
        JetStream::On { at_ms: stamped.as_deref().and_then(milliseconds), took }
    }

    /// Compares all that `role` needs with what exists.
    pub async fn survey(&self, subjects: &Subjects, settings: &Settings, role: Role<'_>) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let mut ages = Vec::new();
        for want in topology::streams(subjects, settings) {
            let what = format!("stream {}", want.name);
            let subject = format!("{}.STREAM.CREATE.{}", self.api, want.name);
            let answer = self.ask::<stream::Info>(&format!("STREAM.INFO.{}", want.name)).await;
            if let Some(info) = lacks.take(what, subject, answer) {
                ages.push(info.config.max_age);
                lacks
                    .extend(topology::stream_differences(&want, &info.config).into_iter().map(Lack::Differs));
            }
        }
        let of_role =
            [topology::media(subjects, settings, role), topology::sessions(subjects, settings, role)];
        for want in of_role.into_iter().flatten() {
            let subject = format!("{}.STREAM.CREATE.{}", self.api, want.name);
            let answer = self.ask::<stream::Info>(&format!("STREAM.INFO.{}", want.name)).await;
            if let Some(info) = lacks.take(format!("stream {}", want.name), subject, answer) {
                lacks
                    .extend(topology::stream_differences(&want, &info.config).into_iter().map(Lack::Differs));
            }
        }
        lacks.extend(topology::age_differences(subjects, &ages).into_iter().map(Lack::Differs));

        for kv::Config { bucket, .. } in topology::buckets(subjects, settings, role) {
            let answer = self.ask::<stream::Info>(&format!("STREAM.INFO.KV_{bucket}")).await;
            let subject = format!("{}.STREAM.CREATE.KV_{bucket}", self.api);
            lacks.take(format!("key-value bucket {bucket}"), subject, answer);
        }

        let Some((stream, want)) = topology::consumer(subjects, settings, role) else { return lacks };
        let name = want.durable_name.clone().unwrap_or_default();
        let answer = self.ask::<consumer::Info>(&format!("CONSUMER.INFO.{stream}.{name}")).await;
        let subject = format!("{}.CONSUMER.CREATE.{stream}.{name}.{}", self.api, want.filter_subject);
        if let Some(info) = lacks.take(format!("consumer {name} on {stream}"), subject, answer) {
            let differences = topology::consumer_differences(&stream, &want, &info.config);
            lacks.extend(differences.into_iter().map(Lack::Differs));
        }
        lacks
    }
}

fn milliseconds(text: &str) -> Option<i64> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Collects the lacks.
trait Take {
    fn take<T>(&mut self, what: String, subject: String, answer: Result<Option<T>, ReadError>) -> Option<T>;
}

impl Take for Vec<Lack> {
    fn take<T>(&mut self, what: String, subject: String, answer: Result<Option<T>, ReadError>) -> Option<T> {
        match answer {
            Ok(Some(found)) => return Some(found),
            Ok(None) => self.push(Lack::Missing { what, subject }),
            Err(error) => self.push(Lack::Unanswered { what, why: error.to_string() }),
        }
        None
    }
}
