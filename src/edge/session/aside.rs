//! What passes the hook by.
//!
//! Four kinds of news come as events of the client library only. The owner's phone may hand over a message that this
//! device could not decrypt. Of some messages there is only word that they exist. And there are calls, and
//! changes of groups. WhatsApp counts
//! all of them as received before anybody has stored them, so they go on at once.

use std::sync::Arc;

use tokio::sync::mpsc;
use whatsapp_rust::wacore::types::events::{
    DecryptFailMode, InboundMessage, UnavailableType, UndecryptableMessage,
};
use whatsapp_rust::wacore::types::message::{MessageCategory, MessageInfo};
use whatsapp_rust::wacore_binary::JidExt as _;

use super::calls::Missed;
use super::group_changes::Changed;
use crate::telemetry::Seldom;

/// How many may wait. A phone hands over a handful after an outage. One more is lost, with an ERROR.
const WAITING: usize = 4_096;
/// So many places are for messages alone. Anybody can call or change a group as often as they like; both are only told.
const FOR_MESSAGES: usize = WAITING / 2;

/// A message that passes the hook by.
#[derive(Debug, Clone)]
pub(crate) enum Aside {
    /// A message that the owner's phone has handed over.
    Content(InboundMessage),
    /// There is a message, and nobody can read it now.
    Missing {
        /// The sender, the time, and the addresses.
        info: Arc<MessageInfo>,
        /// Why, as a code.
        kind: &'static str,
    },
    /// A call that nobody took.
    Call(Missed),
    /// A group was changed.
    Group(Changed),
}

/// Takes what passes the hook by.
#[derive(Debug, Clone)]
pub(crate) struct Asides {
    queue: mpsc::Sender<Aside>,
    lost: Arc<Seldom>,
}

impl Asides {
    /// The queue.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Aside>) {
        let (queue, heard) = mpsc::channel(WAITING);
        (Self { queue, lost: Arc::default() }, heard)
    }

    /// Must not wait: it is called on the library's own task.
    pub(super) fn push(&self, aside: Aside) {
        let (what, is_message) = match &aside {
            Aside::Content(_) | Aside::Missing { .. } => ("a message", true),
            Aside::Call(_) => ("a missed call", false),
            Aside::Group(_) => ("word of a changed group", false),
        };
        let has_room = is_message || self.queue.capacity() > FOR_MESSAGES;
        if has_room && !matches!(self.queue.try_send(aside), Err(mpsc::error::TrySendError::Full(_))) {
            return;
        }
        if let Some(more) = self.lost.due() {
            tracing::error!(
                waiting = WAITING,
                more,
                "{what} is lost: such news come past the hook faster than the bus stores them"
            );
        }
    }
}

impl Aside {
    /// The message's chat, as stanzas name it.
    pub(crate) fn chat(&self) -> String {
        let info = match self {
            Self::Content(message) => &message.info,
            Self::Missing { info, .. }
            | Self::Call(Missed { info, .. })
            | Self::Group(Changed { info, .. }) => info,
        };
        info.source.chat.to_string()
    }
}

/// It may still come, from its sender or from the owner's phone.
pub(crate) const WAITING_FOR_IT: &str = "waiting";

/// What to do about a message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Nothing: a reader would see nothing in its place.
    Ignore,
    /// Its chat waits for it, for a while; in a group, what the same member wrote.
    Hold,
    /// Readers are told of it now, with this code.
    Tell(&'static str),
}

/// What to do about a message that cannot be read. Pure.
pub(super) fn unreadable(message: &UndecryptableMessage) -> Unreadable {
    let source = &message.info.source;
    let nobodys = message.info.category == MessageCategory::Peer || source.chat.is_status_broadcast();
    if nobodys || message.decrypt_fail_mode == DecryptFailMode::Hide {
        return Unreadable::Ignore;
    }
    match (message.is_unavailable, message.unavailable_type) {
        // It is not on its sender's phone any more: the owner's phone hands it over, or nobody.
        (true, UnavailableType::Unknown) => Unreadable::Tell(WAITING_FOR_IT),
        (true, UnavailableType::ViewOnce) => Unreadable::Tell("view-once"),
        (true, UnavailableType::Hosted) => Unreadable::Tell("hosted"),
        (true, UnavailableType::Bot) => Unreadable::Tell("bot"),
        (false, _) => Unreadable::Hold,
    }
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::Jid;
    use whatsapp_rust::wacore::types::message::MessageSource;

    use super::*;

    const SHOW: DecryptFailMode = DecryptFailMode::Show;
    const HIDE: DecryptFailMode = DecryptFailMode::Hide;

    fn judged(info: MessageInfo, unavailable: Option<UnavailableType>, mode: DecryptFailMode) -> Unreadable {
        unreadable(
            &UndecryptableMessage::builder()
                .info(Arc::new(info))
                .is_unavailable(unavailable.is_some())
                .unavailable_type(unavailable.unwrap_or(UnavailableType::Unknown))
                .decrypt_fail_mode(mode)
                .build(),
        )
    }

    fn of(chat: Jid, is_group: bool) -> MessageInfo {
        let source = MessageSource { chat, is_group, ..MessageSource::default() };
        MessageInfo { source, ..MessageInfo::default() }
    }

    fn missed_call() -> Aside {
        let info = Arc::new(of(Jid::pn("54911"), false));
        Aside::Call(Missed { info, video: false })
    }

    #[test]
    fn calls_leave_room_for_messages() {
        let (asides, mut heard) = Asides::channel();
        for _ in 0..WAITING {
            asides.push(missed_call());
        }
        let info = Arc::new(of(Jid::pn("54912"), false));
        asides.push(Aside::Missing { info, kind: WAITING_FOR_IT });
        let mut waiting = Vec::new();
        while let Ok(aside) = heard.try_recv() {
            waiting.push(aside);
        }
        assert_eq!(waiting.len(), WAITING - FOR_MESSAGES + 1);
        assert!(matches!(waiting.last(), Some(Aside::Missing { .. })));
    }

    #[test]
    fn a_chat_waits_only_for_what_its_sender_can_send_again() {
        let direct = || of(Jid::pn("54911"), false);
        assert_eq!(judged(direct(), None, SHOW), Unreadable::Hold);
        for (kind, code) in [
            (UnavailableType::Unknown, "waiting"),
            (UnavailableType::ViewOnce, "view-once"),
            (UnavailableType::Hosted, "hosted"),
            (UnavailableType::Bot, "bot"),
        ] {
            assert_eq!(judged(direct(), Some(kind), SHOW), Unreadable::Tell(code));
            assert_eq!(judged(direct(), Some(kind), HIDE), Unreadable::Ignore);
        }
        assert_eq!(
            judged(direct(), None, HIDE),
            Unreadable::Ignore,
            "it is on no list that could wait for it"
        );
        assert_eq!(judged(of(Jid::group("120363"), true), None, SHOW), Unreadable::Hold);
        assert_eq!(judged(of(Jid::status_broadcast(), true), None, SHOW), Unreadable::Ignore);
        let peer = MessageInfo { category: MessageCategory::Peer, ..direct() };
        assert_eq!(judged(peer, None, SHOW), Unreadable::Ignore);
    }
}
