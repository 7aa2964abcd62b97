//! What linked devices send: messages to route, acknowledgements to believe, typing to pass on.

use std::time::Instant;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node};

use crate::faults::FaultKind;
use crate::groups;
use crate::ids::{Blob, PhoneNumber, new_message_id, rfc3339_now, unix_now, unix_now_ms};
use crate::iq::{self, Asker};
use crate::media;
use crate::party::{MailBody, Status, Typed, Typing};
use crate::prekeys;
use crate::queue::Class;
use crate::records;
use crate::stanza::{self, Addressing, Envelope, attr, jid};
use crate::world::World;

/// What is kept of what a connection says of its presence.
const MAX_PRESENCE: usize = 1_000;

/// What is kept of what accounts type to a customer.
const MAX_TYPED: usize = 10_000;

/// Handles one stanza of a linked device.
pub(crate) fn handle(world: &mut World, sender: &Asker<'_>, node: &Node) {
    if world.faults.find(FaultKind::Silence, Some(sender.number), Instant::now()).is_some() {
        return;
    }
    match node.tag.as_ref() {
        "iq" => match attr(node, "type").as_str() {
            "get" | "set" => iq::answer(world, sender, node),
            _ => {} // an answer of the client to one of our requests
        },
        "message" => message(world, sender, node),
        "receipt" => receipt(world, sender, node),
        "ack" => ack(world, sender, node),
        "chatstate" => chat_state(world, sender, node),
        "presence" => presence(world, sender, node),
        "ib" => {}
        other => tracing::debug!(tag = other, "ignored a stanza"),
    }
}

/// A message of a linked device.
fn message(world: &mut World, sender: &Asker<'_>, node: &Node) {
    let id = attr(node, "id");
    let to = jid(node, "to");
    let (Some(to), false) = (to, id.is_empty()) else {
        world.counters.malformed += 1;
        tracing::warn!(account = %sender.number, "a message has no id or no recipient");
        return;
    };
    let now = Instant::now();
    if world.faults.find(FaultKind::LoseMessages, Some(sender.number), now).is_some() {
        return;
    }
    let nack = world.faults.find(FaultKind::Nack, Some(sender.number), now).map(|fault| fault.code);
    // Of what is encrypted the server sees this node beside it.
    let is_native = node.get_optional_child("biz").is_some();
    let refused = if is_native { world.faults.take(FaultKind::RefuseNative, now) } else { None };
    let nack = nack.or(refused.map(|fault| fault.code));
    if let Some(code) = nack.or_else(|| groups::refusal(world, sender.number, &to)) {
        world.counters.nacks += 1;
        world.send(sender.connection, stanza::message_ack(node, Some(code)));
        return;
    }
    let routed = route(world, sender, node, &id, &to);
    if routed {
        world.counters.messages_out += 1;
    } else {
        world.counters.unroutable += 1;
        tracing::info!(account = %sender.number, %id, "a message went to nobody on this WhatsApp");
    }
    let muted = world.faults.find(FaultKind::MuteAcks, Some(sender.number), now);
    if muted.is_some() {
        world.counters.acks_muted += 1;
    } else {
        world.send(sender.connection, stanza::message_ack(node, None));
    }
}

/// Gives every addressed device its part. False if the chat is with nobody.
fn route(world: &mut World, sender: &Asker<'_>, node: &Node, id: &str, to: &Jid) -> bool {
    if attr(node, "category") == "peer" {
        if let Some(enc) = node.get_optional_child("enc") {
            let body = MailBody::Message {
                enc: attr(enc, "type"),
                bytes: Blob(stanza::bytes(enc).unwrap_or_default().to_vec()),
            };
            world.post(sender.number, sender.number, sender.device, id, body);
        }
        return true; // for the account's own phone
    }
    if to.is_group() {
        return groups::route(world, sender, node, id, to);
    }
    let Some(peer) = world.number_of(to) else {
        return false;
    };
    let mut parts: Vec<(Jid, &Node)> = Vec::new();
    for participant in
        node.get_optional_child("participants").into_iter().flat_map(|list| stanza::children(list, "to"))
    {
        if let (Some(jid), Some(enc)) = (jid(participant, "jid"), participant.get_optional_child("enc")) {
            parts.push((jid, enc));
        }
    }
    if let Some(enc) = node.get_optional_child("enc") {
        parts.push((to.clone(), enc));
    }
    for (target, enc) in parts {
        let Some(number) = world.number_of(&target) else {
            continue;
        };
        if target.device == 0 {
            let body = MailBody::Message {
                enc: attr(enc, "type"),
                bytes: Blob(stanza::bytes(enc).unwrap_or_default().to_vec()),
            };
            world.post(&number, sender.number, sender.device, id, body);
        } else {
            let copy = companion_copy(world, sender, node, id, &number, &peer, enc);
            world.enqueue(&number, target.device, Class::Message, id, copy);
        }
    }
    true
}

/// The stanza for another linked device, of the peer or of the sender.
fn companion_copy(
    world: &World,
    sender: &Asker<'_>,
    node: &Node,
    id: &str,
    target: &PhoneNumber,
    peer: &PhoneNumber,
    enc: &Node,
) -> Node {
    let kind = attr(node, "type");
    let envelope = Envelope {
        from: sender.number,
        device: sender.device,
        addressing: Addressing::Pn,
        id,
        kind: &kind,
        at: unix_now(),
        push_name: world.accounts.get(sender.number).map_or("", |account| account.record.name.as_str()),
    };
    let mut builder = envelope.open();
    if target == sender.number {
        builder = builder.attr("recipient", peer.pn_jid(0));
    }
    if node.attrs.contains_key("edit") {
        builder = builder.attr("edit", attr(node, "edit"));
    }
    let mut content = vec![enc.clone()];
    content.extend(node.get_optional_child("device-identity").cloned());
    builder.children(content).build()
}

/// A receipt of a linked device: it acknowledges a queued message, and tells the peer.
fn receipt(world: &mut World, sender: &Asker<'_>, node: &Node) {
    world.counters.receipts += 1;
    let now = Instant::now();
    let muted = world.faults.find(FaultKind::MuteReceipts, Some(sender.number), now);
    if muted.is_some() {
        world.counters.receipts_muted += 1;
        return;
    }
    let kind = attr(node, "type");
    let mut ids = vec![attr(node, "id")];
    for item in node.get_optional_child("list").into_iter().flat_map(|list| stanza::children(list, "item")) {
        ids.push(attr(item, "id"));
    }
    let delivers = !matches!(kind.as_str(), "retry" | "read" | "read-self" | "played" | "server-error");
    // In a group or a list, the writer is the participant.
    let named = |key| jid(node, key).and_then(|jid| world.number_of(&jid));
    let peer = named("to").or_else(|| named("participant"));
    if kind == "server-error" {
        media::ask_again(world, sender, node);
    }
    for id in &ids {
        if delivers {
            world.acknowledge(sender.number, sender.device, Class::Message, id);
        }
        if let Some(peer) = &peer {
            tell_peer(world, sender, peer, (id, &kind), node);
        }
    }
    world.send(sender.connection, stanza::receipt_ack(node));
}

fn tell_peer(
    world: &mut World,
    sender: &Asker<'_>,
    peer: &PhoneNumber,
    (id, kind): (&str, &str),
    receipt: &Node,
) {
    let status = match kind {
        "" | "inactive" => Status::Delivered,
        "read" | "played" => Status::Read,
        "retry" => {
            world.counters.retry_requests += 1;
            let keys = prekeys::read_keys(receipt);
            world.post(peer, sender.number, sender.device, id, MailBody::Retry { keys });
            return;
        }
        _ => return,
    };
    let Some(customer) = world.customers.get_mut(peer) else {
        return;
    };
    let addressed = customer.sent.get(id).is_some_and(|s| &s.to == sender.number);
    if addressed && let Some(sent) = customer.sent.advance(id, status) {
        world.store.put(records::sent_key(peer, sent.n), &sent);
    }
}

/// An acknowledgement by id.
fn ack(world: &mut World, sender: &Asker<'_>, node: &Node) {
    let Some(class) = Class::from_ack(&attr(node, "class")) else {
        return;
    };
    let now = Instant::now();
    let muted = world.faults.find(FaultKind::MuteReceipts, Some(sender.number), now);
    if class == Class::Message && muted.is_some() {
        world.counters.receipts_muted += 1;
        return;
    }
    world.acknowledge(sender.number, sender.device, class, &attr(node, "id"));
}

/// The client says whether somebody is at it. While it is `available`, the owner's phone does not ring.
fn presence(world: &mut World, sender: &Asker<'_>, node: &Node) {
    let said = attr(node, "type");
    if matches!(said.as_str(), "subscribe" | "unsubscribe") {
        return;
    }
    if let Some(device) = world.device_mut(sender.number, sender.device)
        && device.presence.len() < MAX_PRESENCE
    {
        device.presence.push(said);
    }
}

/// Somebody types.
fn chat_state(world: &mut World, sender: &Asker<'_>, node: &Node) {
    let (Some(to), Some(state)) = (jid(node, "to"), node.children().and_then(<[Node]>::first)) else {
        world.counters.malformed += 1;
        return;
    };
    let group = to.is_group().then(|| to.to_string());
    let peers: Vec<PhoneNumber> = match &group {
        Some(group) => {
            world.groups.get(group).into_iter().flat_map(|group| group.members.keys().cloned()).collect()
        }
        None => world.number_of(&to).into_iter().collect(),
    };
    for peer in peers {
        let Some(customer) = world.customers.get_mut(&peer) else { continue };
        let (from, state) = (sender.number.clone(), state.tag.to_string());
        if customer.typed.len() < MAX_TYPED {
            let typed = Typed {
                from: from.clone(),
                state: state.clone(),
                at_ms: unix_now_ms(),
                group: group.clone(),
            };
            customer.typed.push(typed);
        }
        if group.is_none() {
            customer.typing.insert(from, Typing { state, at: rfc3339_now() });
        }
    }
}

/// Tells the linked devices of an account that a customer types, or stopped.
pub(crate) fn customer_types(
    world: &mut World,
    customer: &PhoneNumber,
    addressing: Addressing,
    account: &PhoneNumber,
    composing: bool,
) {
    let state = if composing { "composing" } else { "paused" };
    let online: Vec<_> = world
        .accounts
        .get(account)
        .into_iter()
        .flat_map(|account| account.devices.values())
        .filter(|device| device.active)
        .filter_map(|device| device.online)
        .collect();
    for connection in online {
        let builder = NodeBuilder::new("chatstate");
        let stanza = stanza::from_person(builder, customer, 0, addressing)
            .children([NodeBuilder::new(state).build()])
            .build();
        world.send(connection, stanza);
    }
}

/// The customer calls the account, and the call ends for this reason.
pub(crate) fn customer_calls(
    world: &mut World,
    customer: &PhoneNumber,
    addressing: Addressing,
    account: &PhoneNumber,
    (id, reason, video): (&str, Option<&str>, bool),
) {
    let online: Vec<_> = world
        .accounts
        .get(account)
        .into_iter()
        .flat_map(|account| account.devices.values())
        .filter_map(|device| device.online)
        .collect();
    let person = match addressing {
        Addressing::Pn => customer.pn_jid(0),
        Addressing::Lid | Addressing::Hidden => customer.lid_jid(0),
    };
    let action =
        |name: &'static str| NodeBuilder::new(name).attr("call-id", id).attr("call-creator", person.clone());
    let mut offer = action("offer");
    if addressing == Addressing::Lid {
        offer = offer.attr("caller_pn", customer.pn_jid(0));
    }
    if video {
        offer = offer.children([NodeBuilder::new("video").build()]);
    }
    let mut end = action("terminate");
    if let Some(reason) = reason {
        end = end.attr("reason", reason);
    }
    let (offer, end) = (offer.build(), end.build());
    for connection in online {
        for action in [offer.clone(), end.clone()] {
            let stanza = NodeBuilder::new("call")
                .attr("from", person.clone())
                .attr("id", new_message_id())
                .attr("t", unix_now())
                .children([action])
                .build();
            world.send(connection, stanza);
        }
    }
}
