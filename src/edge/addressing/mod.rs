//! Persons, chats and their addresses, for both directions of the edge.
//!
//! `identity` reads a stanza's addresses (pure). `chats` finds a chat's token and the end of its list on the bus.
//! `offer` says what an answer offers to choose from (pure), and `offers` what was offered last in each chat.
//! `acquaintances` says in which chats somebody has written before. `timers` has the chats' disappearing timers.
//! `takeovers` knows which chats a person has taken over from the assistant, `open_takeovers` which of these a person has now, `opt_outs` who wants nothing unasked.
//! May import: `bus`, `wire`, the client library's addresses. Imported by: `inbound`, `outbound`.

pub(super) mod acquaintances;
pub(super) mod chats;
pub(super) mod identity;
pub(super) mod offer;
pub(super) mod offers;
pub(super) mod open_takeovers;
pub(super) mod opt_outs;
pub(super) mod takeovers;
pub(super) mod timers;

use whatsapp_rust::wacore::types::message::MessageSource;
use whatsapp_rust::{Client, Jid};

use crate::wire::ChatToken;

/// The peer's other address: from the stanza, or else from what the client has learned.
pub(super) async fn learn(client: &Client, source: &MessageSource, peer_phone: Option<&Jid>) -> Option<Jid> {
    if let Some(other) = identity::other_address(source, peer_phone) {
        return Some(other.clone());
    }
    let peer = identity::with(source);
    let entry = client.get_lid_pn_entry(peer).await.ok().flatten()?;
    Some(if peer.is_lid() { Jid::pn(&*entry.phone_number) } else { Jid::lid(&*entry.lid) })
}

/// The tokens that requests to this person may have: of the address, and of the other one that the client has learned.
pub(super) async fn tokens(client: &Client, person: &Jid) -> Vec<ChatToken> {
    let token =
        |jid: &Jid| if jid.is_lid() { ChatToken::lid(&jid.user) } else { ChatToken::phone(&jid.user) };
    let entry = client.get_lid_pn_entry(person).await.ok().flatten();
    let other = entry.map(|entry| {
        if person.is_lid() { ChatToken::phone(&entry.phone_number) } else { ChatToken::lid(&entry.lid) }
    });
    std::iter::once(token(person)).chain(other).collect()
}
