//! Reads many messages with one request and without a consumer, so nothing is left behind on nats-server.
//!
//! nats-server 2.11 and newer answers a direct get with as many messages as it is asked for. async-nats asks only for
//! one at a time, so the requests are made by hand.

use futures::StreamExt as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::read::{DIRECT_GET_TIMEOUT, DIRECT_GET_TRIES, headers, ms};
use super::{Bus, ReadError, Stored};
use crate::wire::header::rfc3339_ms;

/// How many messages one request asks for.
const BATCH: usize = 256;

/// Where to begin in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With this sequence.
    Sequence(u64),
    /// With what was stored at this time or later: milliseconds since the epoch, by the server's clock.
    Time(i64),
}

impl Bus {
    /// The next messages on `subject` (which may hold wildcards), in order and without a gap; none if there
    /// is none. May come from a follower and lack the newest ones.
    pub async fn batch(&self, stream: &str, subject: &str, from: Start) -> Result<Vec<Stored>, ReadError> {
        let mut question = serde_json::json!({ "batch": BATCH, "next_by_subj": subject });
        let (name, value) = match from {
            Start::Sequence(sequence) => ("seq", sequence.into()),
            Start::Time(ms) => ("start_time", rfc3339_ms(ms).into()),
        };
        if let Some(fields) = question.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
        self.many(stream, &question).await
    }

    /// The next messages on `subject` from this sequence on, `most` of them. For those that are large.
    pub async fn few(
        &self,
        stream: &str,
        subject: &str,
        from: u64,
        most: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        let question = serde_json::json!({ "batch": most, "next_by_subj": subject, "seq": from.max(1) });
        self.many(stream, &question).await
    }

    /// The same, and no more of them after so many bytes. One comes however long it is.
    pub(super) async fn up_to(
        &self,
        stream: &str,
        subject: &str,
        from: u64,
        (most, bytes): (usize, usize),
    ) -> Result<Vec<Stored>, ReadError> {
        let question = serde_json::json!({
            "batch": most, "max_bytes": bytes, "next_by_subj": subject, "seq": from.max(1),
        });
        self.many(stream, &question).await
    }

    /// The last message of each subject that matches.
    pub async fn last_of_each(&self, stream: &str, subject: &str) -> Result<Vec<Stored>, ReadError> {
        self.many(stream, &serde_json::json!({ "multi_last": [subject] })).await
    }

    async fn many(&self, stream: &str, question: &serde_json::Value) -> Result<Vec<Stored>, ReadError> {
        let subject = format!("{}.DIRECT.GET.{stream}", self.api);
        let mut failure = ReadError::new(&"it is away");
        for _ in 0..DIRECT_GET_TRIES {
            // Requests made while it is away would all reach the server at once when it is back.
            if self.is_connected() {
                match self.unless_refused(&subject, self.ask_for_many(&subject, question)).await {
                    Err(ReadError::Unanswered(why)) => failure = ReadError::Unanswered(why),
                    ended => return ended,
                }
            }
            tokio::time::sleep(DIRECT_GET_TIMEOUT / 3).await;
        }
        Err(failure)
    }

    async fn ask_for_many(&self, subject: &str, question: &serde_json::Value) -> Result<Vec<Stored>, String> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let question = question.to_string().into();
        let asked = self.client.publish_with_reply(subject.to_owned(), inbox, question).await;
        asked.map_err(|error| error.to_string())?;
        let mut found: Vec<Stored> = Vec::new();
        loop {
            // The same limit for the first message and each next one: a server that answers makes no long pause.
            let message = tokio::time::timeout(DIRECT_GET_TIMEOUT, answers.next()).await;
            let Some(message) = message.map_err(|_elapsed| "timed out")? else {
                return Err("the connection is closed".to_owned());
            };
            match message.status.map_or(200, |status| status.as_u16()) {
                200 => {}
                // The end of the batch, or of the stream.
                204 | 404 => return Ok(found),
                503 => return Err("no stream answers: it does not exist, or it has no leader".to_owned()),
                status => return Err(format!("{status} {}", message.description.unwrap_or_default())),
            }
            let (stored, before) = of_a_batch(message).ok_or("it answered with something else")?;
            // The connection broke in between, and some messages were lost on it.
            if before != found.last().map_or(0, |last| last.sequence) {
                return Err("a part of the answer is missing".to_owned());
            }
            found.push(stored);
        }
    }
}

/// A message of a batch, and the sequence of the one before it in the batch.
fn of_a_batch(message: async_nats::Message) -> Option<(Stored, u64)> {
    let before = headers(message.headers.as_ref()?).sequence("Nats-Last-Sequence")?;
    Some((stored(message)?, before))
}

/// What a direct get answers with.
pub(super) fn stored(message: async_nats::Message) -> Option<Stored> {
    let mut headers = headers(message.headers.as_ref()?);
    let subject = headers.get("Nats-Subject")?.to_owned();
    let sequence = headers.sequence("Nats-Sequence")?;
    let time = OffsetDateTime::parse(headers.get("Nats-Time-Stamp")?, &Rfc3339).ok()?;
    for name in ["Stream", "Subject", "Sequence", "Last-Sequence", "Time-Stamp", "Num-Pending"] {
        headers.remove(&format!("Nats-{name}"));
    }
    Some(Stored { subject, sequence, headers, payload: message.payload, stored_at_ms: ms(time) })
}
