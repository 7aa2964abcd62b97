//! The client's events. What the order of a chat depends on, and what became of what was sent, is heard at once;
//! what concerns the link goes to the session, one after the other.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use whatsapp_rust::wacore::types::events::{Event, EventHandler, Receipt, ServerAck};
use whatsapp_rust::wacore_binary::OwnedNodeRef;

use super::link::{Input, Qr};
use super::resend::Resends;
use crate::stdout;

/// So many events of the link may wait for the session. WhatsApp brings a handful in a minute, and the session
/// looks at each within the time of one request, so this is never used up; what would come then is dropped with an
/// ERROR, and the next look at the connection sees what is so.
const WAITING: usize = 1_024;

/// Who hears what WhatsApp says of messages that went out. Called on the library's own task: it must not wait.
pub(crate) trait OutgoingObserver: Send + Sync {
    /// WhatsApp's server has a stanza, or refuses it.
    fn acked(&self, ack: &ServerAck);
    /// A phone has a message, or showed it.
    fn receipt(&self, receipt: &Receipt);
}

/// Hears a client. What it hears at once must be known before the library goes on to the next stanza.
pub(super) struct Listener {
    resends: Resends,
    outgoing: Arc<dyn OutgoingObserver>,
    link: mpsc::Sender<Input>,
}

impl Listener {
    /// A listener, and what the link's state machine hears by it.
    pub(super) fn new(
        resends: Resends,
        outgoing: Arc<dyn OutgoingObserver>,
    ) -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (link, heard) = mpsc::channel(WAITING);
        (Arc::new(Self { resends, outgoing, link }), heard)
    }
}

impl EventHandler for Listener {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::RawNode(stanza) => return self.came(stanza),
            Event::ServerAck(ack) => return self.outgoing.acked(ack),
            Event::Receipt(receipt) => return self.outgoing.receipt(receipt),
            // What its sender's phone does not hold any more comes by another way, or never; and one member's
            // broken session is no reason to hold a whole group.
            Event::UndecryptableMessage(message)
                if !message.is_unavailable && !message.info.source.is_group =>
            {
                self.resends.unreadable(&message.info.source.chat.to_string(), &message.info.id);
            }
            // The library says so once WhatsApp's queue is drained.
            Event::Connected(_) => self.resends.drained(),
            _ => {}
        }
        let Some(input) = input(&event) else { return };
        // A closed channel: the session is ending, and hears nothing more.
        if let Err(mpsc::error::TrySendError::Full(input)) = self.link.try_send(input) {
            tracing::error!(?input, "the session does not keep up with the link's events; one is left out");
        }
    }
}

impl Listener {
    fn came(&self, stanza: &OwnedNodeRef) {
        match stanza.tag() {
            "message" => {}
            "success" => return self.resends.logged_in(),
            _ => return,
        }
        let mut attrs = stanza.attrs();
        // What one's own phone wrote names the chat as its recipient.
        let Some(chat) = attrs.optional_jid("recipient").or_else(|| attrs.optional_jid("from")) else {
            return;
        };
        if let Some(id) = attrs.optional_string("id") {
            self.resends.came(&chat.to_non_ad().to_string(), &id);
        }
    }
}

/// What an event means for the link, and the line in the log that a person needs with it.
fn input(event: &Event) -> Option<Input> {
    Some(match event {
        Event::PairingQrCode(qr) => {
            Input::Qr(Qr { code: qr.code.clone(), expires: Instant::now() + qr.timeout })
        }
        Event::PairingCode(pairing) => {
            stdout::notice(format_args!(
                "Pair code for WhatsApp, under Linked devices → Link with phone number: {}",
                pairing.code
            ));
            return None;
        }
        Event::PairError(error) => {
            tracing::error!(error = error.error, "linking failed; scan the next QR code");
            return None;
        }
        Event::PairingQrCodesExhausted(_) => Input::QrExhausted,
        Event::PairSuccess(_) => Input::Paired,
        Event::Connected(_) => Input::Connected,
        Event::Disconnected(_) => Input::Disconnected,
        Event::StreamReplaced(_) => {
            tracing::error!("another program logged in with this session; this edge stays away for a while");
            Input::Replaced
        }
        Event::LoggedOut(_) => {
            tracing::error!("WhatsApp has logged this number out; it has to be linked again");
            Input::LoggedOut
        }
        Event::TemporaryBan(ban) => {
            tracing::error!(wait = ?ban.expire, "WhatsApp refuses this number for a while");
            Input::Banned(ban.expire.to_std().unwrap_or_default())
        }
        Event::ClientOutdated(_) => {
            tracing::error!("WhatsApp refuses this version of the client; upgrade the connector");
            Input::Outdated
        }
        Event::ConnectFailure(failure) => {
            tracing::error!(reason = ?failure.reason, "WhatsApp refused the login; trying again in a minute");
            Input::Refused
        }
        Event::UndecryptableMessage(_) => {
            tracing::warn!("a message could not be decrypted; its sender is asked to send it again");
            return None;
        }
        _ => return None,
    })
}
