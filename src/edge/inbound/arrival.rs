//! A message as WhatsApp handed it over, read once at the door. Pure.

use whatsapp_rust::wacore::types::events::InboundMessage as Incoming;
use whatsapp_rust::wacore::types::message::{MessageCategory, MessageInfo};

use super::content::{self, Mapped};
use super::under_way::Key;
use crate::edge::addressing::identity;

/// What the rest of the room takes of it.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// Who, when and by which addresses.
    pub info: &'a MessageInfo,
    /// What it is.
    pub mapped: Mapped,
    /// The WhatsApp id of the message that it quotes; empty without.
    pub quoted: String,
    /// The chat as stanzas name it: by this, resends are known.
    pub chat: String,
    /// Its WhatsApp id.
    pub id: String,
    /// What it keeps its order with, as far as the stanza tells: its chat's first token.
    pub lane: String,
}

impl<'a> Arrival<'a> {
    /// Reads one.
    pub(super) fn read(incoming: &'a Incoming) -> Self {
        let info = &*incoming.info;
        let source = &info.source;
        let peer = identity::peer(source, identity::other_address(source));
        let mapped = match info.category {
            // Between our own devices.
            MessageCategory::Peer => Mapped::Nothing,
            _ => content::map(&incoming.message),
        };
        Self {
            info,
            mapped,
            quoted: content::quoted(&incoming.message),
            chat: source.chat.to_string(),
            id: info.id.to_string(),
            lane: peer.candidates.first().map_or(peer.jid, |token| token.as_str().to_owned()),
        }
    }

    /// What makes its id unique.
    pub(super) fn key(&self) -> Key {
        let source = &self.info.source;
        (source.chat.to_non_ad_string(), source.sender.to_non_ad_string(), self.id.clone())
    }
}

/// Those of one batch by what they keep their order with: chats do not wait for each other.
pub(super) fn lanes(batch: &[Incoming]) -> Vec<Vec<Arrival<'_>>> {
    let mut lanes: Vec<Vec<Arrival<'_>>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for arrival in batch.iter().map(Arrival::read) {
        let place = *places.entry(arrival.lane.clone()).or_insert(lanes.len());
        match lanes.get_mut(place) {
            Some(lane) => lane.push(arrival),
            None => lanes.push(vec![arrival]),
        }
    }
    lanes
}
