//! The client's events, heard in two ways: at once what the order of a chat depends on, and the rest one after
//! the other by the session.

use std::sync::Arc;

use tokio::sync::mpsc;
use whatsapp_rust::wacore::types::events::{Event, EventHandler};
use whatsapp_rust::wacore_binary::OwnedNodeRef;

use super::missing::Missing;

/// Hears a client. What it hears at once must be known before the library goes on to the next stanza.
pub struct Ears {
    missing: Missing,
    events: mpsc::UnboundedSender<Arc<Event>>,
}

impl Ears {
    /// Ears, and what the session hears by them.
    pub fn new(missing: Missing) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<Event>>) {
        let (events, heard) = mpsc::unbounded_channel();
        (Arc::new(Self { missing, events }), heard)
    }
}

impl EventHandler for Ears {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::RawNode(stanza) => return self.came(stanza),
            // What its sender's phone does not hold any more comes by another way, or never; and one member's
            // broken session is no reason to hold a whole group.
            Event::UndecryptableMessage(message)
                if !message.is_unavailable && !message.info.source.is_group =>
            {
                self.missing.unreadable(&message.info.source.chat.to_string(), &message.info.id);
            }
            // The library says so once WhatsApp's queue is drained.
            Event::Connected(_) => self.missing.drained(),
            _ => {}
        }
        // Nobody listens only when the session is ending.
        let _ = self.events.send(event);
    }
}

impl Ears {
    fn came(&self, stanza: &OwnedNodeRef) {
        match stanza.tag() {
            "message" => {}
            "success" => return self.missing.logged_in(),
            _ => return,
        }
        let mut attrs = stanza.attrs();
        // What one's own phone wrote names the chat as its recipient.
        let Some(chat) = attrs.optional_jid("recipient").or_else(|| attrs.optional_jid("from")) else {
            return;
        };
        if let Some(id) = attrs.optional_string("id") {
            self.missing.came(&chat.to_non_ad().to_string(), &id);
        }
    }
}
