//! Says on the bus that the backend works on a message, so that its person sees the assistant typing. Nothing waits for
//! it, and nothing depends on it: it is said in passing, and heard or not.

use std::convert::Infallible;
use std::time::Duration;

use prost::Message as _;

use super::{Forwarder, Mode};
use crate::bus::{Bus, Delivery};
use crate::wire::v1::InboundMessage;
use crate::wire::{TypingNote, now_ms};

/// How often it is said again, for an edge that begins in the meantime.
const AGAIN: Duration = Duration::from_secs(10);
/// What is said is good for so long: the time after which nobody types for a process that has died. More than twice
/// `AGAIN`, because the edge's clock may be another one.
const GOOD_FOR_MS: i64 = 25_000;
/// What is missing without the permission to publish.
const SAYS: &str = "that people see the assistant typing";

/// Says that the backend works on a message, until it is dropped.
#[derive(Debug)]
pub(super) struct Typing<'a> {
    bus: &'a Bus,
    subject: String,
    /// What a refusal of the server names.
    beginning: String,
    in_seq: u64,
    chat_jid: String,
    has_outcome: bool,
}

impl<'a> Typing<'a> {
    /// The backend is about to be called for this message. `None`: nobody sees it.
    pub(super) fn of(forwarder: &'a Forwarder, delivery: &Delivery) -> Option<Self> {
        let settings = &forwarder.settings;
        if !settings.typing || settings.mode == Mode::Shadow {
            return None;
        }
        let route = &delivery.envelope.route;
        let subject = forwarder.subjects.live_typing(&route.account, &route.chat);
        let chat_jid = InboundMessage::decode(delivery.payload.clone()).ok()?.chat_jid;
        let beginning = subject.strip_suffix(route.chat.as_str()).unwrap_or(&subject).to_owned();
        let bus = &forwarder.bus;
        Some(Self { bus, subject, beginning, in_seq: delivery.sequence, chat_jid, has_outcome: false })
    }

    /// The outcome follows, and ends it: until then the person sees it.
    pub(super) fn until_its_outcome(mut self) {
        self.has_outcome = true;
    }

    fn say(&self, until_ms: i64) {
        let note = TypingNote { in_seq: self.in_seq, chat_jid: self.chat_jid.clone(), until_ms };
        self.bus.say((SAYS, &self.beginning), self.subject.clone(), note.to_bytes());
    }
}

impl Drop for Typing<'_> {
    fn drop(&mut self) {
        if !self.has_outcome {
            self.say(0);
        }
    }
}

/// Says it again and again.
pub(super) async fn go_on(typing: Option<&Typing<'_>>) -> Infallible {
    let Some(typing) = typing else { return std::future::pending().await };
    loop {
        typing.say(now_ms().saturating_add(GOOD_FOR_MS));
        tokio::time::sleep(AGAIN).await;
    }
}
