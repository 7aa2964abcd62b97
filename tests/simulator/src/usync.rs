//! Who is on WhatsApp, under which names, and with which devices.

use std::time::Instant;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use crate::faults::FaultKind;
use crate::ids::{PhoneNumber, unix_now};
use crate::pairing;
use crate::stanza::{self, Addressing, attr};
use crate::world::World;

/// What a query wants to know.
struct Wanted {
    lid: bool,
    contact: bool,
    devices: bool,
}

/// Answers an IQ of the namespace `usync`.
pub(crate) fn answer(world: &mut World, asker: &PhoneNumber, request: &Node) -> Node {
    let Some(usync) = request.get_optional_child("usync") else {
        world.counters.malformed += 1;
        return stanza::iq_error(request, 400, "bad-request");
    };
    let asks = |tag| usync.get_optional_child_by_tag(&["query", tag]).is_some();
    if asks("contact") {
        world.counters.lookups += 1;
        let refusal = world.faults.find(FaultKind::RefuseLookups, Some(asker), Instant::now());
        if let Some(fault) = refusal {
            let refusal = stanza::iq_refusal(request, fault.code, "rate-overlimit", &fault.attributes);
            world.counters.lookups_refused += 1;
            return refusal;
        }
    }
    let wanted = Wanted { lid: asks("lid"), contact: asks("contact"), devices: asks("devices") };
    let users: Vec<Node> = usync
        .get_optional_child("list")
        .into_iter()
        .flat_map(|list| stanza::children(list, "user"))
        .filter_map(|user| user_node(world, asker, &wanted, user))
        .collect();
    let mut builder = NodeBuilder::new("usync");
    for key in ["sid", "mode", "index", "last", "context"] {
        if usync.attrs.contains_key(key) {
            builder = builder.attr(key, attr(usync, key));
        }
    }
    let list = NodeBuilder::new("list").children(users).build();
    stanza::iq_result(request, vec![builder.children([list]).build()])
}

/// The JID that a query is about: its own attribute, or the number in `<contact>`.
fn subject(user: &Node) -> Option<Jid> {
    if let Some(jid) = stanza::jid(user, "jid") {
        return Some(jid.to_non_ad());
    }
    let contact = user.get_optional_child("contact")?.content_as_string()?;
    let digits: String = contact.chars().filter(char::is_ascii_digit).collect();
    Some(Jid::pn(digits))
}

fn user_node(world: &World, asker: &PhoneNumber, wanted: &Wanted, user: &Node) -> Option<Node> {
    let mut jid = subject(user)?;
    // The answer names the person's real address.
    let alias = jid.user_base().parse().ok().and_then(|dialled| world.aliases.get(&dialled));
    if let Some(number) = alias.filter(|_| wanted.contact && jid.is_pn()) {
        jid = number.pn_jid(0);
    }
    let mut builder = NodeBuilder::new("user").attr("jid", &jid);
    let Some(number) = world.number_of(&jid) else {
        // A hidden id is only ever mentioned if it exists; a number can be asked about.
        if !wanted.contact {
            return None;
        }
        let contact = NodeBuilder::new("contact").attr("type", "out").build();
        return Some(builder.children([contact]).build());
    };
    let hidden = world.customers.get(&number).is_some_and(|c| c.record.addressing == Addressing::Hidden);
    if jid.is_lid() && !hidden {
        builder = builder.attr("pn_jid", number.pn_jid(0));
    }
    let mut content = Vec::new();
    if wanted.contact {
        content.push(NodeBuilder::new("contact").attr("type", "in").build());
    }
    if wanted.lid {
        content.push(NodeBuilder::new("lid").attr("val", number.lid_jid(0)).build());
    }
    if wanted.devices {
        content.push(devices(world, &number));
    }
    tracing::trace!(%asker, about = %number, "answered who is on WhatsApp");
    Some(builder.children(content).build())
}

fn devices(world: &World, number: &PhoneNumber) -> Node {
    let linked = world.devices_of(number);
    let phone = NodeBuilder::new("device").attr("id", 0u8).build();
    let companions = linked
        .iter()
        .map(|device| NodeBuilder::new("device").attr("id", *device).attr("key-index", *device).build());
    let mut content = vec![
        NodeBuilder::new("device-list")
            .attr("hash", "2:sim")
            .children(std::iter::once(phone).chain(companions))
            .build(),
    ];
    if let Some(account) = world.accounts.get(number)
        && !linked.is_empty()
    {
        match pairing::key_index_list(&account.handset, account.record.raw_id, &linked) {
            Ok(list) => {
                content.push(NodeBuilder::new("key-index-list").attr("ts", unix_now()).bytes(list).build())
            }
            Err(error) => tracing::error!(%error, "a device list could not be signed"),
        }
    }
    NodeBuilder::new("devices").children(content).build()
}
