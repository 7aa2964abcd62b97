//! The work of simulated phones in groups: keys for every device, one text for all, and what members read.

use std::sync::Arc;

use wacore::messages::MessageUtils;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::asking::Request;
use crate::content::{self, Kind};
use crate::delivery::{self, Parcel, SendError};
use crate::groups::{self, Group};
use crate::hub::Hub;
use crate::ids::{Blob, PhoneNumber, new_message_id, unix_now};
use crate::party::{Mail, Part};
use crate::queue::Class;
use crate::records;
use crate::signal::{Phone, PhoneError, Sealed, address};
use crate::stanza;
use crate::timers;
use crate::world::World;

/// What a phone has sealed for a group.
pub(crate) struct SealedForGroup {
    /// For everybody.
    pub(crate) bytes: Vec<u8>,
    /// For each device of an account: the key, if it has none yet.
    pub(crate) devices: Vec<(PhoneNumber, u16, Option<Sealed>)>,
}

/// Encrypts for everybody in the group, and gives the key to all devices that have none.
pub(crate) fn seal(
    hub: &Arc<Hub>,
    phone: &mut Phone,
    group: &Group,
    parcel: &Parcel<'_>,
) -> Result<SealedForGroup, PhoneError> {
    let key = phone.distribution(&group.id)?;
    let padded = match parcel.raw {
        Some(raw) => MessageUtils::pad_message_v2(raw.to_vec()),
        None => MessageUtils::encode_and_pad(parcel.message),
    };
    let mut devices = Vec::new();
    for account in group.members.keys() {
        for device in hub.read(|world| world.devices_of(account)) {
            let peer = address(account, device);
            let key = if phone.keys.has_told(&group.id, &peer) {
                None
            } else {
                let parcel = Parcel { account, message: &key, raw: None, media_type: None };
                let sealed = delivery::seal_for(hub, phone, &parcel, &[device])?;
                phone.keys.tell(&group.id, &peer);
                sealed.into_iter().next().map(|(_, sealed)| sealed)
            };
            devices.push((account.clone(), device, key));
        }
    }
    Ok(SealedForGroup { bytes: phone.seal_for_group(&group.id, &padded)?, devices })
}

/// The other customers in the group read it, too.
pub(crate) fn show_to_members(
    world: &mut World,
    group: &Group,
    from: &PhoneNumber,
    id: &str,
    message: &wa::Message,
) {
    for number in group.members.keys().filter(|number| *number != from) {
        let reading = content::read(message);
        let (Some(customer), Some(mut reading)) = (world.customers.get_mut(number), reading) else {
            continue;
        };
        reading.more.group = Some(group.id.clone());
        let (entry, _) = customer.inbox.receive(from, id, reading);
        customer.arrived.notify_waiters();
        world.store.put(records::inbox_key(number, entry.seq), &entry);
    }
}

/// Decrypts a device's message in a group: the key first, if one came with it.
pub(crate) fn open(
    phone: &mut Phone,
    mail: &Mail,
    (group, keys, content): (&str, Option<&Part>, Option<&Part>),
) -> Result<wa::Message, PhoneError> {
    let from = address(&mail.from, mail.device);
    let mut alone = None;
    if let Some(part) = keys {
        let message = phone.open(&from, &part.enc, &part.bytes.0)?;
        phone.learn_key(&from, &message)?;
        alone = Some(message);
    }
    match (content, alone) {
        (Some(part), _) => phone.open_of_group(group, &from, &part.bytes.0),
        (None, Some(message)) => Ok(message),
        (None, None) => Err(PhoneError::EncType(String::new())),
    }
}

/// A member's phone has read a device's message in a group.
pub(crate) fn receive(
    world: &mut World,
    number: &PhoneNumber,
    mail: &Mail,
    group: &str,
    message: &wa::Message,
) {
    let Some(group) = groups::named(world, group).cloned() else { return };
    let mut kinds = vec![None];
    if let Some(customer) = world.customers.get_mut(number)
        && let Some(mut reading) = content::read(message)
    {
        reading.expires_s = timers::of(message);
        reading.more.group = Some(group.id.clone());
        let (entry, first) = customer.inbox.receive(&mail.from, &mail.id, reading);
        if customer.record.read_receipts {
            kinds.push(Some("read"));
        }
        customer.arrived.notify_waiters();
        if !first {
            world.counters.duplicate_ids += 1;
        }
        world.store.put(records::inbox_key(number, entry.seq), &entry);
    }
    if number == &mail.from {
        return; // the sender's own phone
    }
    for kind in kinds {
        let receipt = groups::receipt(world, &group, number, &mail.id, kind).build();
        world.enqueue(&mail.from, mail.device, Class::Receipt, &mail.id, receipt);
    }
}

/// A member's phone cannot read a message of a device: it asks for another copy.
pub(crate) fn ask_again(
    world: &mut World,
    number: &PhoneNumber,
    (from, device, id): (&PhoneNumber, u16, &str),
    group: &str,
    request: Option<Request>,
) {
    let Some(group) = groups::named(world, group).cloned() else { return };
    if let Some(customer) = world.customers.get_mut(number) {
        customer.inbox.wait_for(from, id);
    }
    let Some(request) = request else { return };
    let receipt = groups::receipt(world, &group, number, id, Some("retry"));
    let receipt = receipt.children(request.content(id)).build();
    world.counters.group_retries += 1;
    world.enqueue(from, device, Class::Receipt, id, receipt);
}

/// The owner of an account writes into a group on the phone itself. Returns the message's id.
pub(crate) fn owner_writes(
    hub: &Arc<Hub>,
    account: &PhoneNumber,
    group: &str,
    (text, raw): (&str, Option<&Blob>),
    id: Option<String>,
) -> Result<String, SendError> {
    let handset = hub
        .read(|world| world.accounts.get(account).map(|a| a.handset.clone()))
        .ok_or_else(|| SendError::NoAccount(account.clone()))?;
    let group = hub
        .read(|world| {
            groups::named(world, group).filter(|group| group.members.contains_key(account)).cloned()
        })
        .ok_or_else(|| SendError::NoMember(account.clone()))?;
    let id = id.unwrap_or_else(new_message_id);
    let message = match raw {
        Some(raw) => waproto::codec::message_decode(&raw.0).unwrap_or_default(),
        None => content::compose(Kind::Text, text, None),
    };
    let mut phone = handset.lock();
    let parcel = Parcel { account, message: &message, raw: None, media_type: None };
    let sealed = seal(hub, &mut phone, &group, &parcel)?;
    let changes = phone.take_changes();
    hub.update(|world| {
        world.save_sessions(account, changes);
        show_to_members(world, &group, account, &id, &message);
        for (number, device, key) in sealed.devices {
            let all = Sealed { kind: "skmsg", bytes: sealed.bytes.clone() };
            let mut content: Vec<_> = key.map(|key| stanza::enc(key, None)).into_iter().collect();
            content.push(stanza::enc(all, None));
            let builder = NodeBuilder::new("message")
                .attr("from", group.id.as_str())
                .attr("id", id.as_str())
                .attr("type", Kind::Text.stanza_type())
                .attr("t", unix_now());
            let stanza = group.sign(builder, account, 0, true).children(content).build();
            world.enqueue(&number, device, Class::Message, &id, stanza);
        }
    });
    Ok(id)
}
