//! Appends to a stream, and says what is known after a publish.

use std::time::Duration;

use async_nats::{Request, client::RequestErrorKind};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::access::OWN_API;
use super::isolation::Asked;
use super::{Bus, REQUEST_TIMEOUT};
use crate::wire::{Headers, Subjects, header};

/// JetStream's codes for refused publishes. The second one is a cluster's.
const LAST_SEQUENCE_MISMATCH: [u64; 2] = [10071, 10164];
const MESSAGE_TOO_LARGE: u64 = 10054;
/// No room: a limit of the stream in bytes or messages (`maximum bytes exceeded`), of the account, or of the server.
const NO_ROOM: [u64; 5] = [10077, 10002, 10023, 10028, 10047];

/// The longest pause before a publish with an unknown result is repeated.
const AGAIN: Duration = Duration::from_millis(250);
/// The pause before a full stream is asked again.
const FULL: Duration = Duration::from_secs(1);

/// What JetStream answers to a publish. It is read by hand, because the library's type reads it twice.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PubAck {
    seq: Option<u64>,
    duplicate: bool,
    error: Option<ApiError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiError {
    pub(super) code: u64,
    pub(super) err_code: u64,
    description: String,
}

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
    /// Publishes once and waits for the PubAck, for a while.
    pub async fn append(&self, record: &Record) -> Result<Appended, AppendError> {
        match self.publish(record, REQUEST_TIMEOUT).await {
            Some(appended) => appended,
            None => Err(AppendError::Unknown("timed out".to_owned())),
        }
    }

    /// Publishes once and waits for the PubAck. `None`: it did not come in time.
    async fn publish(&self, record: &Record, limit: Duration) -> Option<Result<Appended, AppendError>> {
        let answer = tokio::time::timeout(limit, self.ask_to_store(record)).await.ok();
        match &answer {
            // What this user may not publish gets no answer from anybody.
            None | Some(Err(AppendError::Unknown(_))) if self.refusals.has_refused(&record.subject) => {}
            // No responders: nobody leads the stream, as far as this node knows.
            None | Some(Err(AppendError::Unknown(_))) => {
                let about =
                    Subjects::stream_of(&record.subject).map(|stream| format!("STREAM.INFO.{stream}"));
                self.unanswered(Asked::Publish, about.as_deref()).await;
            }
            // A refusal is an answer, of whichever kind.
            Some(_) => self.answered(Asked::Publish),
        }
        Some(answer?.and_then(|answer| self.stored(record, &answer)))
    }

    /// Publishes, and returns JetStream's answer. Has no time limit.
    async fn ask_to_store(&self, record: &Record) -> Result<Bytes, AppendError> {
        if !self.is_connected() {
            // The client would buffer it and send it later, one more copy for each attempt.
            return Err(AppendError::Unknown("nats-server is away".to_owned()));
        }
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in record.headers.iter() {
            headers.insert(name, value);
        }
        let request = Request::new().headers(headers).payload(record.payload.clone()).timeout(None);
        match self.client.send_request(self.address(&record.subject), request).await {
            Ok(answer) => Ok(answer.payload),
            Err(error) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                Err(AppendError::Impossible(error.to_string()))
            }
            // No responders is an election, or a missing stream.
            Err(error) => Err(AppendError::Unknown(error.to_string())),
        }
    }

    /// What JetStream's answer means.
    fn stored(&self, record: &Record, answer: &[u8]) -> Result<Appended, AppendError> {
        let ack: PubAck = serde_json::from_slice(answer)
            .map_err(|error| AppendError::Unknown(format!("not a PubAck: {error}")))?;
        match (ack.error, ack.seq) {
            (Some(error), _) => Err(self.refusal(record, &error)),
            (None, None) => Err(AppendError::Unknown("a PubAck without a sequence".to_owned())),
            (None, Some(sequence)) => {
                self.capacity.taken(&record.subject, record.size());
                let appended = Appended { sequence, duplicate: ack.duplicate };
                debug_assert!(record.expects(appended), "a compare-and-set was taken out of its place");
                Ok(appended)
            }
        }
    }

    /// What JetStream's refusal means.
    fn refusal(&self, record: &Record, error: &ApiError) -> AppendError {
        let ApiError { code, err_code, description } = error;
        let why = format!("{description} (code {code}, error code {err_code})");
        match *err_code {
            code if LAST_SEQUENCE_MISMATCH.contains(&code) => AppendError::Refused,
            MESSAGE_TOO_LARGE => AppendError::Impossible(why),
            no_room if NO_ROOM.contains(&no_room) => {
                self.capacity.refused(&record.subject, record.size(), &why);
                AppendError::Full(why)
            }
            _ => AppendError::Unknown(why),
        }
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
                result = self.publish(record, limit) => result,
            };
            let (error, pause) = match result {
                Some(Err(AppendError::Unknown(error))) => (error, waits.next().unwrap_or(AGAIN)),
                Some(Err(AppendError::Full(error))) => (error, FULL),
                Some(result) => return result,
                None => (format!("no answer within {limit:?}"), waits.next().unwrap_or(AGAIN)),
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
