//! What was offered last in each chat: so that a person's `2` can be told what it means.
//!
//! The chat's last outcome has the options. What this edge sends is remembered, within bounds; for a chat that is not
//! remembered the bus is asked once. That is a convenience for readers of the bus and nothing depends on it: a bus that
//! does not answer soon is not asked again for a while, and the text stays a text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use super::offer::{LONGEST_PICK, Offer};
use crate::bus::{Bus, Stored};
use crate::recent::Recent;
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{ButtonReply, ChatKind, InboundMessage, Outcome, SendMessage, outcome, send_message};
use crate::wire::{Account, ChatToken, Headers, Subjects, header, id, now_ms};

/// How many chats are remembered at least; twice as many at most.
const CHATS: usize = 5_000;
/// A chat that was not heard of for so long is forgotten; the bus still knows its offer.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// Options that take up more bytes than this are shown, and not remembered.
const MOST_BYTES: usize = 4_096;
/// How long the bus may take to say what was offered. The customer's message waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long a bus that did not answer is not asked again.
const REST: Duration = Duration::from_secs(60);
/// WhatsApp tells when a message was written to the second, and its clock is not ours.
const CLOCKS_MS: i64 = 6_000;

/// What the answer of an outcome offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    offer: Offer,
    /// The WhatsApp id of the answer.
    answer: String,
    /// Since when a person can have seen it, in milliseconds since 1970.
    since_ms: i64,
}

impl Offered {
    /// `None`: it is nothing, or too much to be remembered.
    fn new(offer: Offer, answer: String, since_ms: i64) -> Option<Self> {
        let is_one = !offer.is_empty() && offer.size() <= MOST_BYTES;
        is_one.then_some(Self { offer, answer, since_ms })
    }

    /// The options of an outcome that is stored.
    fn of(headers: &Headers, payload: &[u8]) -> Option<Self> {
        let outcome = Outcome::decode(payload).ok()?;
        // Nobody has seen what was decided in shadow.
        let Some(outcome::Result::Reply(reply)) = &outcome.result else { return None };
        let answer = id::whatsapp(headers.get(header::CE_ID)?);
        Self::new(Offer::of(reply.interactive.as_ref()), answer, outcome.decided_at_ms)
    }

    /// The options of a request that is stored.
    fn of_request(stored: &Stored) -> Option<Self> {
        let request = SendMessage::decode(stored.payload.as_ref()).ok()?;
        let Some(send_message::Content::Text(text)) = &request.content else { return None };
        let answer = id::whatsapp(stored.headers.get(header::MSG_ID)?);
        Self::new(Offer::of(text.options.as_ref()), answer, stored.stored_at_ms)
    }

    /// What the message picks of it, if anything.
    fn picked(&self, message: &InboundMessage, pick: Pick<'_>, max_age: Duration) -> Option<Content> {
        let max_age = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        let written_ms = message.sent_at_ms;
        let seen = written_ms.saturating_add(CLOCKS_MS) >= self.since_ms;
        let fresh = written_ms.saturating_sub(self.since_ms) <= max_age;
        // Who quotes another message means that one.
        let about_it = message.quoted_message_id.is_empty() || message.quoted_message_id == self.answer;
        match pick {
            _ if !(seen && fresh && about_it) => None,
            Pick::Written(text) => self.offer.picked(text),
            Pick::Pressed(reply) => self.offer.pressed(reply),
        }
    }
}

/// How somebody may have chosen.
#[derive(Debug, Clone, Copy)]
enum Pick<'a> {
    /// With these words.
    Written(&'a str),
    /// With a button or a row of WhatsApp's own, which says its name.
    Pressed(&'a ButtonReply),
}

/// What of a message can be a choice. In a group, only a press is surely meant for us.
fn candidate(message: &InboundMessage) -> Option<Pick<'_>> {
    match &message.content {
        _ if message.from_me => None,
        Some(Content::Text(text)) => {
            let can_be = message.chat_kind() == ChatKind::Direct && text.body.len() <= LONGEST_PICK;
            can_be.then_some(Pick::Written(text.body.as_str()))
        }
        Some(Content::ButtonReply(reply)) => {
            let can_be = !reply.flow.is_empty() && !reply.button_id.is_empty();
            can_be.then_some(Pick::Pressed(reply))
        }
        _ => None,
    }
}

/// `None`: nothing is offered in that chat.
type Known = Option<Arc<Offered>>;

/// The offers of one account. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Offers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    max_age: Duration,
    /// Outcomes up to this sequence were dealt with before this edge began. Later ones are remembered when they are
    /// sent; until then nobody has seen them.
    settled: AtomicU64,
    memory: Mutex<Recent<ChatToken, Known>>,
    rests_until: Mutex<Option<Instant>>,
}

impl Offers {
    /// Nothing is remembered. Offers older than `max_age` do not count.
    pub(crate) fn new(bus: Bus, subjects: Subjects, account: Account, max_age: Duration) -> Self {
        Self(Arc::new(Shared {
            bus,
            subjects,
            account,
            max_age,
            settled: AtomicU64::new(0),
            memory: Mutex::new(Recent::new(CHATS, AGE, |_| false, Instant::now())),
            rests_until: Mutex::default(),
        }))
    }

    /// Outcomes up to this sequence of `WA_OUT` were dealt with by earlier edges.
    pub(crate) fn settled(&self, sequence: u64) {
        self.0.settled.store(sequence, Ordering::Relaxed);
    }

    /// What the message with this WhatsApp id offers is about to be sent: from now on a person can see it.
    pub(crate) fn shown(&self, chat: &ChatToken, offer: Offer, answer: String) {
        self.remember(chat, Offered::new(offer, answer, now_ms()).map(Arc::new));
    }

    /// The chat's last outcome shows nothing, or was not sent.
    pub(crate) fn none(&self, chat: &ChatToken) {
        self.remember(chat, None);
    }

    /// The message as a choice, if it is one of what was offered last in its chat. May ask the bus, at most once, and
    /// waits for it for a second at most.
    pub(crate) async fn picked(&self, chat: &ChatToken, message: &InboundMessage) -> Option<Content> {
        let pick = candidate(message)?;
        let offered = self.last(chat).await?;
        offered.picked(message, pick, self.0.max_age)
    }

    async fn last(&self, chat: &ChatToken) -> Known {
        if let Some(known) = self.memory().get(chat, Instant::now()) {
            return known.clone();
        }
        if self.rests_until().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let Shared { bus, subjects, account, .. } = &*self.0;
        let stream = subjects.stream_out();
        let (outcomes, requests) = (subjects.reply(account, chat), subjects.send(account, chat));
        let asked = async { tokio::try_join!(bus.last(&stream, &outcomes), bus.last(&stream, &requests)) };
        let Ok(Ok((outcome, request))) = tokio::time::timeout(PATIENCE, asked).await else {
            tracing::debug!("the bus does not say what was offered last in a chat");
            *self.rests_until() = Some(Instant::now() + REST);
            return None;
        };
        let sequence = |stored: &Option<Stored>| stored.as_ref().map_or(0, |stored| stored.sequence);
        let (last, settled) = (sequence(&outcome), self.0.settled.load(Ordering::Relaxed));
        // A request without options says nothing of those that are on the phone.
        let request = request.filter(|request| request.sequence > last);
        let of_request = request.as_ref().and_then(Offered::of_request);
        let newest = if of_request.is_some() { sequence(&request) } else { last };
        if newest > settled {
            return None;
        }
        let of_outcome = || outcome.and_then(|outcome| Offered::of(&outcome.headers, &outcome.payload));
        let known = of_request.or_else(of_outcome).map(Arc::new);
        let mut memory = self.memory();
        // In the meantime an answer may have been sent.
        if let Some(newer) = memory.get(chat, Instant::now()) {
            return newer.clone();
        }
        memory.insert(chat.clone(), known.clone(), Instant::now());
        known
    }

    fn remember(&self, chat: &ChatToken, known: Known) {
        self.memory().insert(chat.clone(), known, Instant::now());
    }

    fn memory(&self) -> MutexGuard<'_, Recent<ChatToken, Known>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Dead, Interactive, NoReply, NoReplyReason, Reply, Text};

    const MINUTE: Duration = Duration::from_secs(60);

    fn reply(buttons: &[&str]) -> Reply {
        let buttons = buttons.iter().map(|title| (*title).to_owned()).collect();
        let interactive = Some(Interactive { buttons, ..Interactive::default() });
        Reply { text: "¿Cuál?".into(), interactive, ..Reply::default() }
    }

    fn stored(result: outcome::Result) -> Option<Offered> {
        let outcome = Outcome { decided_at_ms: 10_000, result: Some(result), ..Outcome::default() };
        let headers = Headers::from_iter([(header::CE_ID, "a/b/c/d/outcome")]);
        Offered::of(&headers, &outcome.encode_to_vec())
    }

    #[test]
    fn only_an_answer_with_options_offers_something() {
        let reason = NoReplyReason::Shadow.into();
        let shadow = NoReply { reason, would_be: Some(reply(&["Sí"])), ..NoReply::default() };
        let huge = "a".repeat(MOST_BYTES);
        for (result, offers) in [
            (outcome::Result::Reply(reply(&["Sí"])), true),
            (outcome::Result::Reply(reply(&[])), false),
            (outcome::Result::Reply(Reply::default()), false),
            (outcome::Result::Reply(reply(&[&huge])), false),
            (outcome::Result::None(shadow), false),
            (outcome::Result::Dead(Dead { fallback_text: "1. Sí".into(), ..Dead::default() }), false),
        ] {
            assert_eq!(stored(result.clone()).is_some(), offers, "{result:?}");
        }
        assert_eq!(Offered::of(&Headers::default(), b"\xff"), None);
    }

    #[test]
    fn a_choice_is_a_persons_text_after_the_offer_and_about_it() {
        let offered = stored(outcome::Result::Reply(reply(&["Sí"]))).unwrap();
        let text = |body: &str| Some(Content::Text(Text { body: body.into() }));
        let message = || InboundMessage {
            chat_kind: ChatKind::Direct.into(),
            sent_at_ms: 12_000,
            content: text("1"),
            ..InboundMessage::default()
        };
        let pressing = |id: &str, flow: &str| InboundMessage {
            content: Some(Content::ButtonReply(ButtonReply {
                button_id: id.into(),
                flow: flow.into(),
                ..Default::default()
            })),
            ..message()
        };
        let quoting = |id: &str| InboundMessage { quoted_message_id: id.to_owned(), ..message() };
        let rows = [
            (message(), true),
            (InboundMessage { content: text("2"), ..message() }, false),
            (InboundMessage { from_me: true, ..message() }, false),
            (InboundMessage { chat_kind: ChatKind::Group.into(), ..message() }, false),
            (InboundMessage { content: None, ..message() }, false),
            (InboundMessage { content: text(&" 1".repeat(LONGEST_PICK)), ..message() }, false),
            // Nobody answers what is not there yet.
            (InboundMessage { sent_at_ms: 4_000, ..message() }, true),
            (InboundMessage { sent_at_ms: 3_999, ..message() }, false),
            (InboundMessage { sent_at_ms: 70_000, ..message() }, true),
            (InboundMessage { sent_at_ms: 70_001, ..message() }, false),
            (quoting(&id::whatsapp("a/b/c/d/outcome")), true),
            (quoting("3EB0AB"), false),
            (pressing("Sí", "quick_reply"), true),
            (InboundMessage { chat_kind: ChatKind::Group.into(), ..pressing("Sí", "quick_reply") }, true),
            (InboundMessage { quoted_message_id: "3EB0AB".into(), ..pressing("Sí", "quick_reply") }, false),
            (InboundMessage { from_me: true, ..pressing("Sí", "quick_reply") }, false),
            (pressing("1", "quick_reply"), false),
            (pressing("Sí", ""), false),
        ];
        for (message, picks) in rows {
            let picked = candidate(&message).and_then(|pick| offered.picked(&message, pick, MINUTE));
            assert_eq!(picked.is_some(), picks, "{message:?}");
        }
    }
}
