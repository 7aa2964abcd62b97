//! Dead letters: list, show, replay, drop.
//!
//! A replay appends the message to the end of its chat's chain as a new inbound message. Its id is derived from the
//! dead letter, so two replays within the duplicate window are one message. The dead letter leaves `WA_DLQ` once
//! JetStream has stored the replay.

use std::time::Duration;

use prost::Message as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::bus::{AppendError, Bus, ReadError, Record, Start, Stored};
use crate::telemetry::redact;
use crate::wire::header::rfc3339_ms;
use crate::wire::v1::{InboundMessage, Replay, inbound_message::Content};
use crate::wire::{Account, Headers, Subjects, header, id, kind, now_ms};

/// How long storing a replay may take. Short: the operator waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Selects dead letters.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this account.
    pub account: Option<Account>,
    /// Only with this reason: `rejected`, `failed`, `unreadable`, `crash-loop`.
    pub reason: Option<String>,
    /// Only messages that came in within this time.
    pub since: Option<Duration>,
}

/// What an operator sees of a dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// Its sequence in `WA_DLQ`: what the other commands take.
    pub id: u64,
    /// The linked number's name.
    pub account: String,
    /// The chat, masked.
    pub chat: String,
    /// The WhatsApp id of the message.
    pub message_id: String,
    /// Why it was given up on.
    pub reason: String,
    /// When the customer sent it.
    pub sent_at: String,
    /// When the edge got it.
    pub received_at: String,
    /// The kind of content: `text`, `image`, ...
    pub kind: &'static str,
    /// The customer's words; only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Why nothing was done with dead letters.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// The bus did not answer.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// No dead letter has this id.
    #[error("there is no dead letter {0}; `dlq list` shows which there are")]
    NotFound(u64),
    /// It cannot be replayed.
    #[error("dead letter {id} cannot be replayed: {why}")]
    NotReplayable {
        /// Which.
        id: u64,
        /// Why.
        why: String,
    },
}

/// The dead letters of one prefix.
#[derive(Debug)]
pub struct Letters {
    bus: Bus,
    subjects: Subjects,
}

impl Letters {
    /// The dead letters on this bus.
    pub fn new(bus: Bus, subjects: Subjects) -> Self {
        Self { bus, subjects }
    }

    /// All that match, oldest first.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Stored>, LettersError> {
        let (stream, subject) = (self.subjects.stream_dlq(), self.subjects.dead_of(filter.account.as_ref()));
        let mut found = Vec::new();
        let mut from = 1;
        while let Some(stored) = self.bus.next_from(&stream, &subject, from).await? {
            from = stored.sequence + 1;
            if filter.matches(&stored, now_ms()) {
                found.push(stored);
            }
        }
        Ok(found)
    }

    /// The last `most`, newest first, and whether there are more. Reads little, however many there are.
    pub async fn last(&self, most: usize) -> Result<(Vec<Stored>, bool), LettersError> {
        let (stream, subject) = (self.subjects.stream_dlq(), self.subjects.dead_of(None));
        let state = self.bus.stream_state(&stream).await?;
        let mut window = 64;
        loop {
            let from = state.last.saturating_sub(window).max(state.first).max(1);
            let mut found = Vec::new();
            let mut next = from;
            loop {
                let batch = self.bus.batch(&stream, &subject, Start::Sequence(next)).await?;
                let Some(last) = batch.last() else { break };
                next = last.sequence + 1;
                found.extend(batch);
                // Of those before, only that there are some is of interest.
                let over = found.len().saturating_sub(most + 1);
                found.drain(..over);
            }
            if found.len() > most || from <= state.first.max(1) {
                let more = found.len() > most;
                found.reverse();
                found.truncate(most);
                return Ok((found, more));
            }
            window = window.saturating_mul(8);
        }
    }

    /// The one with this id.
    pub async fn get(&self, id: u64) -> Result<Stored, LettersError> {
        let (stream, subject) = (self.subjects.stream_dlq(), self.subjects.dead_of(None));
        let found = self.bus.next_from(&stream, &subject, id).await?;
        found.filter(|stored| stored.sequence == id).ok_or(LettersError::NotFound(id))
    }

    /// Appends the message to its chat's chain and removes the dead letter.
    pub async fn replay(&self, letter: &Stored) -> Result<(), LettersError> {
        let fail = |why: &dyn std::fmt::Display| LettersError::NotReplayable {
            id: letter.sequence,
            why: why.to_string(),
        };
        let mut record = replayed(&self.subjects, letter, now_ms()).map_err(|why| fail(&why))?;
        loop {
            let last = self.bus.last(&self.subjects.stream_in(), &record.subject).await?;
            let end = last.as_ref().map_or(0, |last| last.sequence);
            let own = record.headers.get(header::CE_ID);
            if last.is_some_and(|last| last.headers.get(header::CE_ID) == own) {
                break;
            }
            record.headers.set(header::PREV_SEQ, &end.to_string());
            record.headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &end.to_string());
            let never = CancellationToken::new();
            let append = self.bus.append_until_known(&record, &never);
            let appended = tokio::time::timeout(PATIENCE, append).await;
            match appended.map_err(|_elapsed| match self.bus.full().first() {
                Some(full) => fail(full),
                None => fail(&"nats-server does not answer"),
            })? {
                Ok(_) => break,
                // The customer has written again in the meantime: append behind that message.
                Err(AppendError::Refused) => {}
                Err(error) => return Err(fail(&error)),
            }
        }
        self.discard(letter).await
    }

    /// The dead letter as an operator sees it.
    pub fn describe(&self, stored: &Stored, with_text: bool) -> Letter {
        Letter::of(&self.subjects, stored, with_text)
    }

    /// Removes the dead letter for good. One that is gone already is no error.
    pub async fn discard(&self, letter: &Stored) -> Result<(), LettersError> {
        self.bus.remove(&self.subjects.stream_dlq(), letter.sequence).await?;
        Ok(())
    }
}

/// The message that a dead letter becomes, without its place in the chain; or why it cannot be replayed.
pub fn replayed(subjects: &Subjects, letter: &Stored, now_ms: i64) -> Result<Record, String> {
    let route = subjects.dead_route(&letter.subject);
    let (account, chat) = route.ok_or("its subject is not one of this connector's")?;
    let inbound_id = letter.headers.get(header::CE_ID).ok_or("it has no ce-id header")?;
    let decoded = InboundMessage::decode(letter.payload.clone());
    let mut message = decoded.map_err(|error| error.to_string())?;
    message.replay =
        Some(Replay { inbound_id: inbound_id.to_owned(), dead_letter: letter.sequence, at_ms: now_ms });
    let replay_id = id::replay(inbound_id, letter.sequence);
    let mut headers = Headers::cloud_event(&replay_id, "InboundMessage", account.as_str(), now_ms);
    headers.set(header::MSG_ID, &replay_id);
    if let Some(content) = &message.content {
        headers.set(header::KIND, kind::field(content));
    }
    // The replay belongs to the trace of the message that it repeats.
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = letter.headers.get(name) {
            headers.set(name, value);
        }
    }
    let subject = subjects.message(&account, &chat);
    Ok(Record { subject, headers, payload: message.encode_to_vec().into() })
}

impl Letter {
    /// The dead letter as an operator sees it. The customer's words only `with_text`.
    pub fn of(subjects: &Subjects, stored: &Stored, with_text: bool) -> Self {
        let message = InboundMessage::decode(stored.payload.clone()).unwrap_or_default();
        let (account, chat) = subjects
            .dead_route(&stored.subject)
            .map_or_else(Default::default, |(account, chat)| (account.to_string(), chat.masked()));
        Self {
            id: stored.sequence,
            account,
            chat,
            reason: stored.headers.get(header::DEAD_REASON).unwrap_or("unknown").to_owned(),
            sent_at: rfc3339_ms(message.sent_at_ms),
            received_at: rfc3339_ms(message.received_at_ms),
            kind: kind::content(message.content.as_ref()),
            text: with_text.then(|| text(message.content.as_ref())),
            message_id: message.message_id,
        }
    }
}

impl std::fmt::Display for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, account, chat, reason, sent_at, kind, .. } = self;
        // The text is the customer's. It must not send commands to the operator's terminal.
        let reason = redact::line(reason);
        write!(f, "{id:>6}  {sent_at}  {account:<12} {chat:<8} {kind:<10} {reason}")?;
        if let Some(text) = &self.text {
            write!(f, "  {}", redact::line(text))?;
        }
        Ok(())
    }
}

impl Filter {
    /// Does this dead letter match?
    pub fn matches(&self, stored: &Stored, now_ms: i64) -> bool {
        let reason = self
            .reason
            .as_deref()
            .is_none_or(|reason| stored.headers.get(header::DEAD_REASON) == Some(reason));
        let since = self.since.is_none_or(|since| {
            let received = InboundMessage::decode(stored.payload.clone()).unwrap_or_default().received_at_ms;
            now_ms.saturating_sub(received) <= i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        });
        reason && since
    }
}

/// The words of a person who chose by writing, else the label.
fn written_or(written: &str, label: &str) -> String {
    if written.is_empty() { label } else { written }.to_owned()
}

fn text(content: Option<&Content>) -> String {
    match content {
        Some(Content::Text(text)) => text.body.clone(),
        Some(Content::Image(media) | Content::Video(media) | Content::Document(media)) => {
            media.caption.clone()
        }
        Some(Content::ButtonReply(reply)) => written_or(&reply.written, &reply.text),
        Some(Content::ListReply(reply)) => written_or(&reply.written, &reply.title),
        Some(Content::Order(order)) => order.text.clone(),
        Some(Content::Product(product)) => product.text.clone(),
        _ => String::new(),
    }
}
