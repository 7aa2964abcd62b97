//! A message as WhatsApp delivered it, read once on arrival. Pure.

use whatsapp_rust::wacore::types::events::InboundMessage as Incoming;
use whatsapp_rust::wacore::types::message::{MessageCategory, MessageInfo};

use super::bound;
use super::content::{self, Mapped};
use super::context;
use super::media::{Attached, attached};
use super::sealed::{self, Sealed};
use super::under_way::Key;
use crate::edge::addressing::identity;
use crate::edge::session::{Poll, waiting_for_of};
use crate::wire::v1::Context;

/// What the rest of `inbound` needs of the message.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// The sender, the time, and the addresses.
    pub info: &'a MessageInfo,
    /// Its content.
    pub mapped: Mapped,
    /// The WhatsApp id of the message that it quotes. Empty: it quotes none.
    pub quoted: String,
    /// What it says beside its content.
    pub context: Option<Context>,
    /// The vote or the answer in it.
    pub sealed: Option<Sealed>,
    /// What has to be kept of it, so that votes or answers can be read.
    pub kept: Option<Poll>,
    /// The file in it.
    pub attached: Option<Box<Attached>>,
    /// The chat's disappearing timer, as far as it tells.
    pub timer: Option<u32>,
    /// Who waits if a message before it is missing. Resends are tracked by this name.
    pub waits: String,
    /// Its WhatsApp id, bounded. Resends are tracked by the one that it came with.
    pub id: String,
    /// The messages with the same key keep their order: the first token of the chat, if the stanza has it.
    pub lane: String,
}

impl<'a> Arrival<'a> {
    /// Reads a message.
    pub(super) fn read(incoming: &'a Incoming) -> Self {
        let info = &*incoming.info;
        let mapped = match info.category {
            // Traffic between the linked number's own devices.
            MessageCategory::Peer => Mapped::Nothing,
            _ => content::by_whom(content::map(&incoming.message), info),
        };
        Self {
            timer: content::timer(&incoming.message, &mapped, info.source.is_from_me),
            mapped,
            quoted: context::quoted_id(&incoming.message),
            context: context::context(&incoming.message),
            sealed: sealed::sealed(&incoming.message),
            kept: sealed::kept(&incoming.message),
            attached: attached(&incoming.message).map(Box::new),
            ..Self::unread(info)
        }
    }

    /// A message whose content is not there.
    pub(super) fn unread(info: &'a MessageInfo) -> Self {
        let source = &info.source;
        let peer = identity::peer(source, identity::other_address(source, info.peer_recipient_pn.as_ref()));
        Self {
            info,
            timer: None,
            mapped: Mapped::Nothing,
            quoted: String::new(),
            context: None,
            sealed: None,
            kept: None,
            attached: None,
            waits: waiting_for_of(source),
            id: bound::id(Some(&info.id)),
            lane: peer.candidates.first().map_or(peer.jid, |token| token.as_str().to_owned()),
        }
    }

    /// What makes its id unique.
    pub(super) fn key(&self) -> Key {
        let source = &self.info.source;
        (source.chat.to_non_ad_string(), source.sender.to_non_ad_string(), self.id.clone())
    }
}

/// Groups the messages of a batch by their key for ordering. Chats do not wait for each other.
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
