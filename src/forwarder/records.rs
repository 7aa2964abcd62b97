//! What the forwarder writes about a message: its outcome, or its dead letter. Pure.

use prost::Message as _;

use super::eligible;
use crate::wire::v1::{ChatKind, DeadReason, InboundMessage, Outcome, Quoting, outcome};
use crate::wire::{Envelope, Headers, Route, header, id};

/// How much of what is answered an answer in a group quotes, in characters.
const QUOTED: usize = 1_000;

/// A message as it is on the bus.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Its account, chat and id.
    pub envelope: &'a Envelope,
    /// The `WA_IN` stream that its sequence belongs to.
    pub incarnation: &'a str,
    /// Its sequence there.
    pub sequence: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

impl About<'_> {
    /// The message's id. If its publisher gave it none, the id is derived from its position.
    pub fn inbound_id(&self) -> String {
        let Route { account, chat, .. } = &self.envelope.route;
        let unnamed = || id::unnamed(account, chat, self.incarnation, self.sequence);
        self.envelope.id.clone().unwrap_or_else(unnamed)
    }

    /// The headers of its dead letter. `code` says why it is given up on.
    pub fn dead_letter(&self, code: &str) -> Headers {
        // The message's own instructions to nats-server were for the message only. On the dead letter they would
        // have it refused for ever, or would delete other messages.
        let is_command = |name: &str| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"));
        let mut headers: Headers =
            self.envelope.headers.iter().filter(|(name, _)| !is_command(name)).collect();
        headers.remove(header::PREV_SEQ);
        headers.set(header::MSG_ID, &id::dead_letter(&self.inbound_id()));
        headers.set(header::IN_SEQ, &self.sequence.to_string());
        headers.set(header::DEAD_REASON, code);
        headers
    }

    /// The message, unless it cannot be read or must not be read.
    fn readable(&self, decision: &outcome::Result) -> Option<InboundMessage> {
        let kills = matches!(decision, outcome::Result::Dead(dead) if dead.reason() == DeadReason::CrashLoop);
        if kills { None } else { InboundMessage::decode(self.payload).ok() }
    }

    /// Its outcome, appended behind the chat's last one, which is at `expected` in `WA_OUT`.
    pub fn outcome(&self, decision: &outcome::Result, expected: u64, now_ms: i64) -> (Headers, Outcome) {
        let message = self.readable(decision).unwrap_or_default();
        let Route { account, chat, .. } = &self.envelope.route;
        // Without the content only the chat's token is known. A phone number works as an address too.
        let quotes = quoting(&message);
        let chat_jid = if message.chat_jid.is_empty() { chat.phone_number() } else { message.chat_jid };
        let payload = Outcome {
            account: account.to_string(),
            chat: chat.as_str().to_owned(),
            chat_jid,
            inbound_id: self.inbound_id(),
            message_id: message.message_id,
            decided_at_ms: now_ms,
            sent_at_ms: message.sent_at_ms,
            received_at_ms: message.replay.map_or(message.received_at_ms, |replay| replay.at_ms),
            result: Some(decision.clone()),
            disappears_after_s: message.disappears_after_s,
            quotes,
        };
        let id = id::outcome(&self.inbound_id());
        let mut headers = Headers::cloud_event(&id, "Outcome", account.as_str(), now_ms);
        headers.set(header::IN_SEQ, &self.sequence.to_string());
        headers.set(header::IN_CREATED, self.incarnation);
        headers.set(header::PREV_SEQ, &expected.to_string());
        headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &expected.to_string());
        (headers, payload)
    }
}

/// In a group, an answer says what it answers.
fn quoting(message: &InboundMessage) -> Option<Quoting> {
    if message.chat_kind() != ChatKind::Group || message.message_id.is_empty() {
        return None;
    }
    let author = message.sender.as_ref().map(|sender| sender.jid.clone()).filter(|jid| !jid.is_empty())?;
    let words = eligible::text(message).unwrap_or_default();
    Some(Quoting { author, text: words.chars().take(QUOTED).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Subjects;
    use crate::wire::v1;

    #[test]
    fn a_dead_letter_repeats_no_command_to_nats_server() {
        let subjects = Subjects::new("wa").unwrap();
        let given = [
            ("Nats-Expected-Stream", "WA_IN"),
            ("nats-rollup", "sub"),
            (header::PREV_SEQ, "3"),
            (header::CE_ID, "order-77"),
            (header::TRACEPARENT, "00-1-2-01"),
        ];
        let subject = "wa.in.default.message.5491112345678";
        let envelope = Envelope::open(&subjects, subject, Headers::from_iter(given)).unwrap();
        let about = About { envelope: &envelope, incarnation: "1", sequence: 7, payload: &[] };
        let letter = about.dead_letter("rejected");
        let want = [
            (header::MSG_ID, "dlq-order-77"),
            (header::IN_SEQ, "7"),
            (header::DEAD_REASON, "rejected"),
            (header::CE_ID, "order-77"),
            (header::TRACEPARENT, "00-1-2-01"),
        ];
        assert_eq!(letter, Headers::from_iter(want));
    }

    fn envelope(headers: Headers) -> Envelope {
        let subjects = Subjects::new("wa").unwrap();
        Envelope::open(&subjects, "wa.in.default.message.54911", headers).unwrap()
    }

    #[test]
    fn a_message_without_an_id_is_named_by_its_place() {
        let id_with = |headers| {
            let envelope = &envelope(headers);
            About { envelope, incarnation: "123", sequence: 7, payload: &[] }.inbound_id()
        };
        assert_eq!(id_with(Headers::default()), "default/54911/123/7");
        assert_eq!(id_with(Headers::from_iter([(header::CE_ID, "order-77")])), "order-77");
    }

    /// What an outcome copies from its message: chat, id, when it was sent, when it came.
    type Taken = (&'static str, &'static str, i64, i64);

    #[test]
    fn an_outcome_says_of_its_message_what_can_be_read_of_it() {
        let message = InboundMessage {
            chat_jid: "987@lid".into(),
            message_id: "3EB0AB".into(),
            sent_at_ms: 10,
            received_at_ms: 20,
            disappears_after_s: Some(86_400),
            ..InboundMessage::default()
        };
        let replayed = v1::Replay { at_ms: 30, ..v1::Replay::default() };
        let replayed = InboundMessage { replay: Some(replayed), ..message.clone() };
        let (whole, replayed) = (message.encode_to_vec(), replayed.encode_to_vec());
        let none = outcome::Result::None(v1::NoReply::default());
        let dead = |reason: DeadReason| {
            outcome::Result::Dead(v1::Dead { reason: reason.into(), ..v1::Dead::default() })
        };
        let unread: Taken = ("54911", "", 0, 0);
        let rows: [(&[u8], outcome::Result, Taken); 5] = [
            (&whole, none.clone(), ("987@lid", "3EB0AB", 10, 20)),
            (&whole, dead(DeadReason::Rejected), ("987@lid", "3EB0AB", 10, 20)),
            // It was replayed: what counts is the time since which the customer waits for an answer.
            (&replayed, none, ("987@lid", "3EB0AB", 10, 30)),
            // Reading it may be what kills the process.
            (&whole, dead(DeadReason::CrashLoop), unread),
            (b"\xff", dead(DeadReason::Unreadable), unread),
        ];
        let envelope = &envelope(Headers::from_iter([(header::CE_ID, "order-77")]));
        for (payload, decision, (chat_jid, message_id, sent_at_ms, received_at_ms)) in rows {
            let about = About { envelope, incarnation: "1", sequence: 7, payload };
            let (headers, got) = about.outcome(&decision, 3, 99);
            let want = Outcome {
                account: "default".into(),
                chat: "54911".into(),
                chat_jid: chat_jid.into(),
                inbound_id: "order-77".into(),
                message_id: message_id.into(),
                decided_at_ms: 99,
                sent_at_ms,
                received_at_ms,
                result: Some(decision),
                disappears_after_s: (!message_id.is_empty()).then_some(86_400),
                quotes: None,
            };
            assert_eq!(got, want);
            for (name, value) in [
                (header::CE_ID, "order-77/outcome"),
                (header::IN_SEQ, "7"),
                (header::IN_CREATED, "1"),
                (header::PREV_SEQ, "3"),
                (header::EXPECTED_LAST_SUBJECT_SEQUENCE, "3"),
            ] {
                assert_eq!(headers.get(name), Some(value), "{name}");
            }
        }
    }

    #[test]
    fn an_answer_in_a_group_quotes_what_it_answers() {
        let said = |text: &str, kind: v1::ChatKind, jid: &str| InboundMessage {
            message_id: "3EB0AB".into(),
            chat_kind: kind.into(),
            sender: Some(v1::Identity { jid: jid.into(), ..v1::Identity::default() }),
            content: Some(v1::inbound_message::Content::Text(v1::Text { body: text.into() })),
            ..InboundMessage::default()
        };
        let quoting = |message: &InboundMessage| {
            let payload = message.encode_to_vec();
            let envelope = &envelope(Headers::from_iter([(header::CE_ID, "order-77")]));
            let about = About { envelope, incarnation: "1", sequence: 7, payload: &payload };
            about.outcome(&outcome::Result::Reply(v1::Reply::default()), 3, 99).1.quotes
        };
        let want = |text: String| Some(Quoting { author: "987@lid".into(), text });
        let (group, direct) = (v1::ChatKind::Group, v1::ChatKind::Direct);
        assert_eq!(quoting(&said("¿Sí?", group, "987@lid")), want("¿Sí?".into()));
        let long = "é".repeat(QUOTED + 1);
        assert_eq!(quoting(&said(&long, group, "987@lid")), want("é".repeat(QUOTED)));
        assert_eq!(quoting(&said("¿Sí?", direct, "987@lid")), None);
        assert_eq!(quoting(&said("¿Sí?", group, "")), None);
        let nameless = InboundMessage { message_id: String::new(), ..said("¿Sí?", group, "987@lid") };
        assert_eq!(quoting(&nameless), None);
    }
}
