//! What a forwarder writes about a message: its outcome, or its dead letter. Pure.

use prost::Message as _;

use crate::wire::v1::{DeadReason, InboundMessage, Outcome, outcome};
use crate::wire::{Account, ChatToken, Headers, header, id};

/// A message as the bus has it.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The linked number that it came to.
    pub account: &'a Account,
    /// Its chat.
    pub chat: &'a ChatToken,
    /// Which `WA_IN` its sequence counts in.
    pub incarnation: &'a str,
    /// Its sequence there.
    pub sequence: u64,
    /// Its headers.
    pub headers: &'a Headers,
    /// Its payload.
    pub payload: &'a [u8],
}

impl About<'_> {
    /// The message's id; one derived from its place if whoever published it gave it none.
    pub fn inbound_id(&self) -> String {
        let unnamed = || id::unnamed(self.account, self.chat, self.incarnation, self.sequence);
        self.headers.get(header::CE_ID).map_or_else(unnamed, str::to_owned)
    }

    /// The headers of its dead letter; `code` says why it is given up on.
    pub fn dead_letter(&self, code: &str) -> Headers {
        let mut headers = self.headers.clone();
        for chain in [header::EXPECTED_LAST_SUBJECT_SEQUENCE, header::PREV_SEQ] {
            headers.remove(chain);
        }
        headers.set(header::MSG_ID, &id::dead_letter(&self.inbound_id()));
        headers.set(header::IN_SEQ, &self.sequence.to_string());
        headers.set(header::DEAD_REASON, code);
        headers
    }

    /// The message, unless it cannot be read or must not be.
    fn readable(&self, decision: &outcome::Result) -> Option<InboundMessage> {
        let kills = matches!(decision, outcome::Result::Dead(dead) if dead.reason() == DeadReason::CrashLoop);
        if kills { None } else { InboundMessage::decode(self.payload).ok() }
    }

    /// Its outcome, appended behind the chat's last one, which is `expected` in `WA_OUT`.
    pub fn outcome(&self, decision: &outcome::Result, expected: u64, now_ms: i64) -> (Headers, Outcome) {
        let message = self.readable(decision).unwrap_or_default();
        // Without its content its chat's token is all that is known; a phone number is an address, too.
        let chat_jid = if message.chat_jid.is_empty() { self.chat.phone_number() } else { message.chat_jid };
        let payload = Outcome {
            account: self.account.to_string(),
            chat: self.chat.as_str().to_owned(),
            chat_jid,
            inbound_id: self.inbound_id(),
            message_id: message.message_id,
            decided_at_ms: now_ms,
            sent_at_ms: message.sent_at_ms,
            received_at_ms: message.replay.map_or(message.received_at_ms, |replay| replay.at_ms),
            result: Some(decision.clone()),
        };
        let id = id::outcome(&self.inbound_id());
        let mut headers = Headers::cloud_event(&id, "Outcome", self.account.as_str(), now_ms);
        headers.set(header::IN_SEQ, &self.sequence.to_string());
        headers.set(header::IN_CREATED, self.incarnation);
        headers.set(header::PREV_SEQ, &expected.to_string());
        headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &expected.to_string());
        (headers, payload)
    }
}
