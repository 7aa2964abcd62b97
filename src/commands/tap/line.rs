//! A stored message as one line. Pure.

use serde::Serialize;
use serde_json::Value;

use super::mask::Mask;
use super::payload::payload;
use crate::bus::Stored;
use crate::wire::Subjects;
use crate::wire::header::{self, rfc3339_ms};

/// What an operator sees of a stored message. docs/operations.md explains the fields.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    stored_at: String,
    stream: String,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_reason: Option<String>,
    payload: Value,
}

impl Line {
    /// The line of a message in `stream`. What customers wrote only with `texts`.
    pub fn of(subjects: &Subjects, stream: &str, stored: &Stored, texts: bool) -> Self {
        let place = subjects.place(&stored.subject);
        let mut mask = Mask::new(place.as_ref(), texts);
        // A subject of another program may hold anything.
        let kind = place.as_ref().map_or("other", |place| place.kind.as_str());
        // First, because the payload names more people than the subject does, and `mask` has to know them all.
        let payload = payload(kind, &stored.payload, &mut mask);
        let headers = &stored.headers;
        let id = headers.get(header::CE_ID).or_else(|| headers.get(header::MSG_ID));
        Self {
            stored_at: rfc3339_ms(stored.stored_at_ms),
            stream: stream.to_owned(),
            sequence: stored.sequence,
            account: place.as_ref().map(|place| place.account.to_string()),
            kind: crate::telemetry::redact::cut(kind),
            chat: place.as_ref().and_then(|place| Some(place.chat.as_ref()?.masked())),
            id: id.map(|id| mask.ce_id(id)),
            trace_id: headers.get(header::TRACEPARENT).and_then(trace_id),
            prev_seq: headers.sequence(header::PREV_SEQ),
            in_seq: headers.sequence(header::IN_SEQ),
            dead_reason: headers.get(header::DEAD_REASON).map(|reason| mask.code(reason)),
            payload,
        }
    }
}

/// The 32 hex digits of a `traceparent`.
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}
