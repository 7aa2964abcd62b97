//! Appends to a stream, and says what is known after a publish.

use std::time::Duration;

use async_nats::jetstream::{context::PublishErrorKind, message::PublishMessage};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::access::OWN_API;
use super::{Bus, REQUEST_TIMEOUT};
use crate::wire::{Headers, header};

/// JetStream's codes for refused publishes that async-nats has no kind for.
const LAST_SEQUENCE_MISMATCH_IN_CLUSTER: u64 = 10164;
const MESSAGE_TOO_LARGE: u64 = 10054;
/// No room: a limit of the stream in bytes or messages (`maximum bytes exceeded`), of the account, or of the server.
const NO_ROOM: [u64; 5] = [10077, 10002, 10023, 10028, 10047];

/// The longest pause before a publish with an unknown result is repeated.
const AGAIN: Duration = Duration::from_millis(250);
/// The pause before a full stream is asked again.
const FULL: Duration = Duration::from_secs(1);

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its subject.
    pub subject: String,
    /// Its headers. They may hold a compare-and-set and a message id.
    pub headers: Headers,
    /// The payload.
    pub payload: Bytes,
}

impl Record {
    /// Its size in bytes, as far as it counts for a stream's limit.
    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        self.subject.len() + headers + self.payload.len()
    }

    /// Can the server have stored it here? A new message is behind the sequence that its compare-and-set names. A
    /// duplicate is where it was stored first.
    fn expects(&self, appended: Appended) -> bool {
        let before = self.headers.sequence(header::EXPECTED_LAST_SUBJECT_SEQUENCE);
        appended.duplicate || before.is_none_or(|before| appended.sequence > before)
    }
}

/// A message that the stream has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// It had been stored before, under the same message id.
    pub duplicate: bool,
}

/// A publish after which it is not known that the message is stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Compare-and-set: the subject's last sequence is another one. In a cluster that may be wrong, and the message in
    /// between may be the caller's own earlier attempt. Read the last message to find out.
    #[error("the subject has moved on")]
    Refused,
    /// The message may or may not be stored. Repeating the publish gives the answer.
    #[error("it is unknown whether it was stored: {0}")]
    Unknown(String),
    /// The stream is full. The same publish again succeeds once there is room.
    #[error("there is no room for it: {0}")]
    Full(String),
    /// The message can never be stored as it is.
    #[error("cannot be stored: {0}")]
    Impossible(String),
    /// The process stops; whether it was stored is unknown.
    #[error("stopped")]
    Stopped,
}

impl Bus {
    /// Publishes once and waits for the PubAck.
    pub async fn append(&self, record: &Record) -> Result<Appended, AppendError> {
        if !self.is_connected() {
            // The client would buffer it and send it later, one more copy for each attempt.
            return Err(AppendError::Unknown("nats-server is away".to_owned()));
        }
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in record.headers.iter() {
            headers.insert(name, value);
        }
        let message = PublishMessage::build().payload(record.payload.clone()).headers(headers);
        let sent = self.jetstream.send_publish(self.address(&record.subject), message).await;
        let error = match sent {
            Err(error) => error,
            Ok(ack) => match ack.await {
                Ok(ack) => {
                    self.capacity.taken(&record.subject, record.size());
                    let appended = Appended { sequence: ack.sequence, duplicate: ack.duplicate };
                    debug_assert!(record.expects(appended), "a compare-and-set was taken out of its place");
                    return Ok(appended);
                }
                Err(error) => error,
            },
        };
        Err(match error.kind() {
            PublishErrorKind::WrongLastSequence => AppendError::Refused,
            PublishErrorKind::MaxPayloadExceeded => AppendError::Impossible(error.to_string()),
            PublishErrorKind::Other => match code(&error) {
                Some(LAST_SEQUENCE_MISMATCH_IN_CLUSTER) => AppendError::Refused,
                Some(MESSAGE_TOO_LARGE) => AppendError::Impossible(error.to_string()),
                Some(no_room) if NO_ROOM.contains(&no_room) => {
                    let why = error.to_string();
                    self.capacity.refused(&record.subject, record.size(), &why);
                    AppendError::Full(why)
                }
                _ => AppendError::Unknown(error.to_string()),
            },
            // A 503 without a code (`StreamNotFound`) is an election, not a missing stream.
            _ => AppendError::Unknown(error.to_string()),
        })
    }

    /// The subject to publish to. Key-value subjects do not reach another JetStream domain; its API forwards them.
    fn address(&self, subject: &str) -> String {
        let elsewhere = &*self.api != OWN_API && subject.starts_with("$KV.");
        if elsewhere { format!("{}.{subject}", self.api) } else { subject.to_owned() }
    }

    /// Publishes again and again until the result is known, or until `stop`. Waits for a full stream.
    pub async fn append_until_known(
        &self,
        record: &Record,
        stop: &CancellationToken,
    ) -> Result<Appended, AppendError> {
        let mut waits = up_to(AGAIN, Duration::from_millis(50));
        // A publish that is lost in an election is never answered, and the next one is answered at once: so the first
        // limit is short. A slow server needs more time: so the limit grows.
        let mut patience = up_to(REQUEST_TIMEOUT, REQUEST_TIMEOUT / 4);
        let mut limit = REQUEST_TIMEOUT;
        loop {
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(AppendError::Stopped),
                result = tokio::time::timeout(limit, self.append(record)) => result,
            };
            let (error, pause) = match result {
                Ok(Err(AppendError::Unknown(error))) => (error, waits.next().unwrap_or(AGAIN)),
                Ok(Err(AppendError::Full(error))) => (error, FULL),
                Ok(result) => return result,
                Err(_elapsed) => (format!("no answer within {limit:?}"), waits.next().unwrap_or(AGAIN)),
            };
            tracing::debug!(error, "the result of a publish is unknown; publishing again");
            limit = patience.next().unwrap_or(REQUEST_TIMEOUT);
            tokio::select! {
                () = stop.cancelled() => return Err(AppendError::Stopped),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Twice as long each time, from `shortest` up to `longest`.
fn up_to(longest: Duration, shortest: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest).without_max_times().build()
}

fn code(error: &async_nats::jetstream::context::PublishError) -> Option<u64> {
    use std::error::Error as _;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<async_nats::jetstream::Error>() {
            return Some(inner.error_code().0);
        }
        source = inner.source();
    }
    None
}
