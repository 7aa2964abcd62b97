//! Persons, chats and their addresses, for both directions of the edge.
//!
//! `timers` has the chats' disappearing timers. `identity` reads a stanza's addresses (pure). `chats` finds a chat's token and the end of its list on the bus.
//! May import: `bus`, `wire`, the client library's addresses. Imported by: `inbound`, `outbound`.

pub(super) mod chats;
pub(super) mod identity;
pub(super) mod timers;

use whatsapp_rust::wacore::types::message::MessageSource;
use whatsapp_rust::{Client, Jid};

/// The peer's other address: from the stanza, or else from what the client has learned.
pub(super) async fn learn(client: &Client, source: &MessageSource) -> Option<Jid> {
    if let Some(other) = identity::other_address(source) {
        return Some(other.clone());
    }
    let entry = client.get_lid_pn_entry(&source.chat).await.ok().flatten()?;
    Some(if source.chat.is_lid() { Jid::pn(&*entry.phone_number) } else { Jid::lid(&*entry.lid) })
}
