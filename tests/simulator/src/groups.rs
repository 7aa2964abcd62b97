//! Groups, as the server knows them: who is in one, what devices are told of it, and where messages in it go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node};

use crate::ids::{Blob, PhoneNumber, random_hex, unix_now};
use crate::iq::Asker;
use crate::party::{MailBody, Part};
use crate::queue::Class;
use crate::stanza::{self, Addressing, attr, jid};
use crate::world::World;

/// The refusal of what somebody writes who may not write there.
const NOT_ALLOWED: u16 = 420;

/// A group; it is saved as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its address, `…@g.us`.
    pub(crate) id: String,
    pub(crate) subject: String,
    /// Seconds since the epoch.
    pub(crate) created: u64,
    /// Its members, and whether they are admins.
    pub(crate) members: BTreeMap<PhoneNumber, bool>,
    /// Only admins may write.
    pub(crate) announce: bool,
    /// Members are named by hidden id.
    pub(crate) lid: bool,
    /// The disappearing timer, in seconds; 0: it is off.
    pub(crate) ephemeral_s: u32,
}

/// What changes in a group.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Add(Vec<PhoneNumber>),
    Remove(Vec<PhoneNumber>),
    Promote(Vec<PhoneNumber>),
    Demote(Vec<PhoneNumber>),
    Subject(String),
    Announce(bool),
    Ephemeral(u32),
}

impl Change {
    /// Is it about people, and about none?
    pub(crate) fn is_of_nobody(&self) -> bool {
        match self {
            Self::Add(people) | Self::Remove(people) | Self::Promote(people) | Self::Demote(people) => {
                people.is_empty()
            }
            Self::Subject(_) | Self::Announce(_) | Self::Ephemeral(_) => false,
        }
    }
}

impl Group {
    /// How it is saved.
    pub(crate) fn key(&self) -> String {
        format!("group/{}", self.id)
    }

    /// By which name a member's device is known in it.
    pub(crate) fn name_of(&self, number: &PhoneNumber, device: u16) -> Jid {
        if self.lid { number.lid_jid(device) } else { number.pn_jid(device) }
    }

    /// Who wrote a stanza in it, by both names; the number is left out if nobody is told it.
    pub(crate) fn sign(
        &self,
        builder: NodeBuilder,
        number: &PhoneNumber,
        device: u16,
        shown: bool,
    ) -> NodeBuilder {
        let builder = builder.attr("participant", self.name_of(number, device));
        match (self.lid, shown) {
            (true, true) => builder.attr("addressing_mode", "lid").attr("participant_pn", number.pn_jid(0)),
            (true, false) => builder.attr("addressing_mode", "lid"),
            (false, _) => builder.attr("addressing_mode", "pn").attr("participant_lid", number.lid_jid(0)),
        }
    }

    fn may_write(&self, number: &PhoneNumber) -> bool {
        self.members.get(number).is_some_and(|is_admin| *is_admin || !self.announce)
    }

    fn participant(&self, world: &World, number: &PhoneNumber) -> Node {
        let builder = NodeBuilder::new("participant").attr("jid", self.name_of(number, 0));
        let builder = match (self.lid, shows_number(world, number)) {
            (true, true) => builder.attr("phone_number", number.pn_jid(0)),
            (true, false) => builder,
            (false, _) => builder.attr("lid", number.lid_jid(0)),
        };
        match self.members.get(number) {
            Some(true) => builder.attr("type", "admin").build(),
            _ => builder.build(),
        }
    }

    fn node(&self, world: &World) -> Node {
        let mut content: Vec<Node> = self.members.keys().map(|one| self.participant(world, one)).collect();
        if self.announce {
            content.push(NodeBuilder::new("announcement").build());
        }
        if self.ephemeral_s > 0 {
            content.push(NodeBuilder::new("ephemeral").attr("expiration", self.ephemeral_s).build());
        }
        NodeBuilder::new("group")
            .attr("id", self.id.split('@').next().unwrap_or_default())
            .attr("subject", self.subject.as_str())
            .attr("s_t", self.created)
            .attr("creation", self.created)
            .attr("addressing_mode", if self.lid { "lid" } else { "pn" })
            .attr("size", self.members.len())
            .children(content)
            .build()
    }
}

/// Is anybody told this person's number?
pub(crate) fn shows_number(world: &World, number: &PhoneNumber) -> bool {
    world.customers.get(number).is_none_or(|customer| customer.record.addressing != Addressing::Hidden)
}

/// The group that this address names, if there is one.
pub(crate) fn named<'a>(world: &'a World, address: &str) -> Option<&'a Group> {
    world.groups.get(address)
}

/// Answers an IQ of the namespace `w:g2`: about one group, or about all that the account is in.
pub(crate) fn answer(world: &World, asker: &PhoneNumber, request: &Node) -> Node {
    let to = attr(request, "to");
    if request.get_optional_child("participating").is_some() {
        let own = world.groups.values().filter(|group| group.members.contains_key(asker));
        let list = NodeBuilder::new("groups").children(own.map(|group| group.node(world))).build();
        return stanza::iq_result(request, vec![list]);
    }
    match named(world, &to) {
        Some(group) if group.members.contains_key(asker) => {
            stanza::iq_result(request, vec![group.node(world)])
        }
        Some(_) => stanza::iq_error(request, 403, "forbidden"),
        None => stanza::iq_error(request, 404, "item-not-found"),
    }
}

/// Changes a group, and tells the devices of all accounts that are in it, or were until now.
pub(crate) fn change(world: &mut World, id: &str, by: &PhoneNumber, change: &Change) {
    let Some(mut group) = world.groups.get(id).cloned() else { return };
    let mut told: Vec<PhoneNumber> = group.members.keys().cloned().collect();
    match change {
        Change::Add(people) => {
            told.extend(people.iter().cloned());
            for one in people {
                group.members.entry(one.clone()).or_insert(false);
            }
        }
        Change::Remove(people) => group.members.retain(|one, _| !people.contains(one)),
        Change::Promote(people) | Change::Demote(people) => {
            let is_admin = matches!(change, Change::Promote(_));
            for (_, role) in group.members.iter_mut().filter(|(one, _)| people.contains(one)) {
                *role = is_admin;
            }
        }
        Change::Subject(subject) => group.subject.clone_from(subject),
        Change::Announce(announce) => group.announce = *announce,
        Change::Ephemeral(seconds) => group.ephemeral_s = *seconds,
    }
    told.sort();
    told.dedup();
    let action = action(world, &group, change);
    world.store.put(group.key(), &group);
    let id = random_hex(8);
    let notification = NodeBuilder::new("notification")
        .attr("from", group.id.as_str())
        .attr("type", "w:gp2")
        .attr("id", id.as_str())
        .attr("t", unix_now());
    let notification = group.sign(notification, by, 0, shows_number(world, by)).children([action]).build();
    world.groups.insert(group.id.clone(), group);
    for account in told {
        for device in world.devices_of(&account) {
            world.enqueue(&account, device, Class::Notification, &id, notification.clone());
        }
    }
}

fn action(world: &World, group: &Group, change: &Change) -> Node {
    let people = |tag: &'static str, people: &[PhoneNumber]| {
        NodeBuilder::new(tag).children(people.iter().map(|one| group.participant(world, one))).build()
    };
    match change {
        Change::Add(added) => people("add", added),
        Change::Remove(removed) => people("remove", removed),
        Change::Promote(promoted) => people("promote", promoted),
        Change::Demote(demoted) => people("demote", demoted),
        Change::Subject(subject) => {
            NodeBuilder::new("subject").attr("subject", subject.as_str()).attr("s_t", unix_now()).build()
        }
        Change::Announce(true) => NodeBuilder::new("announcement").build(),
        Change::Announce(false) => NodeBuilder::new("not_announcement").build(),
        Change::Ephemeral(0) => NodeBuilder::new("not_ephemeral").build(),
        Change::Ephemeral(seconds) => NodeBuilder::new("ephemeral").attr("expiration", *seconds).build(),
    }
}

/// The code with which a message into a group is refused.
pub(crate) fn refusal(world: &World, sender: &PhoneNumber, to: &Jid) -> Option<u16> {
    let group = named(world, &to.to_string())?;
    (!group.may_write(sender)).then_some(NOT_ALLOWED)
}

fn part(enc: &Node) -> Part {
    Part { enc: attr(enc, "type"), bytes: Blob(stanza::bytes(enc).unwrap_or_default().to_vec()) }
}

/// Gives every device of every member its part of a message. False if there is no such group.
pub(crate) fn route(world: &mut World, sender: &Asker<'_>, node: &Node, id: &str, to: &Jid) -> bool {
    let Some(group) = named(world, &to.to_string()).cloned() else { return false };
    let post = |world: &mut World, number: &PhoneNumber, keys: Option<Part>, content: Option<Part>| {
        let body = MailBody::Group { group: group.id.clone(), keys, content };
        world.post(number, sender.number, sender.device, id, body);
    };
    let enc = node.get_optional_child("enc");
    if node.attrs.contains_key("participant") {
        // Sent again, for one device alone and in its own session.
        let target = jid(node, "participant");
        let number = target.as_ref().and_then(|target| world.number_of(target));
        if let (Some(number), Some(enc)) = (number, enc) {
            world.counters.group_resends += 1;
            post(world, &number, Some(part(enc)), None);
        }
        return true;
    }
    let list = node.get_optional_child("participants");
    let keys: Vec<(PhoneNumber, u16, Node)> = list
        .into_iter()
        .flat_map(|list| stanza::children(list, "to"))
        .filter_map(|to| {
            let (jid, enc) = (jid(to, "jid")?, to.get_optional_child("enc")?);
            Some((world.number_of(&jid)?, jid.device, enc.clone()))
        })
        .collect();
    world.counters.sender_keys += keys.len() as u64;
    let key_of = |number: &PhoneNumber, device: u16| {
        keys.iter().find(|(of, one, _)| of == number && *one == device).map(|(_, _, enc)| enc)
    };
    for number in group.members.keys() {
        post(world, number, key_of(number, 0).map(part), enc.map(part));
        for device in world.devices_of(number) {
            if (number, device) == (sender.number, sender.device) {
                continue;
            }
            let mut content: Vec<Node> = key_of(number, device).cloned().into_iter().collect();
            content.extend(enc.cloned());
            content.extend(node.get_optional_child("device-identity").cloned());
            let builder = NodeBuilder::new("message")
                .attr("from", to.clone())
                .attr("id", id)
                .attr("type", attr(node, "type"))
                .attr("t", unix_now());
            let copy = group.sign(builder, sender.number, sender.device, true).children(content).build();
            world.enqueue(number, device, Class::Message, id, copy);
        }
    }
    true
}

/// A receipt of a member's phone for what was written in the group.
pub(crate) fn receipt(
    world: &World,
    group: &Group,
    from: &PhoneNumber,
    id: &str,
    kind: Option<&str>,
) -> NodeBuilder {
    let builder =
        NodeBuilder::new("receipt").attr("id", id).attr("t", unix_now()).attr("from", group.id.as_str());
    let builder = group.sign(builder, from, 0, shows_number(world, from));
    match kind {
        Some(kind) => builder.attr("type", kind),
        None => builder,
    }
}

/// Is this the address of a group?
pub(crate) fn is_address(text: &str) -> bool {
    text.len() <= 100 && text.parse().is_ok_and(|jid: Jid| jid.is_group())
}
