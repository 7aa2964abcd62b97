//! The work of simulated phones: writing to accounts, reading what accounts write, receipts.
//!
//! A phone's lock is held from its cryptography to the journalled result, so what it has decrypted
//! and what it remembers of it never differ. These functions block; they run on the pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use buffa::MessageField;
use wacore::messages::MessageUtils;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::asking::{self, Request};
use crate::content::{self, Kind, Reading};
use crate::group_chat::{self, SealedForGroup};
use crate::groups::Group;
use crate::hub::Hub;
use crate::ids::{Blob, PhoneNumber, new_message_id, rfc3339_now, unix_now};
use crate::media::{self, Attachment, AttachmentError};
use crate::owner;
use crate::pairing;
use crate::party::{Handset, Mail, MailBody, Sent, Status};
use crate::queue::Class;
use crate::records;
use crate::shape::{Again, Shape};
use crate::signal::{Bundle, Phone, PhoneError, Sealed, address};
use crate::stanza::{self, Addressing, Envelope};
use crate::timers;
use crate::world::World;

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no customer {0}; create it with POST /sim/customers")]
    NoCustomer(PhoneNumber),
    #[error(
        "no account {0}; `to` is the phone number of a business account, created with POST /sim/accounts"
    )]
    NoAccount(PhoneNumber),
    #[error(
        "the customer has already sent a message with the id `{0}` and another content; repeat it as it was, or choose another id"
    )]
    OtherContent(String),
    #[error("{0} is no member of this group; add it with POST /sim/groups/{{id}}/change")]
    NoMember(PhoneNumber),
    #[error("the customer has sent no message with the id `{0}`")]
    NoMessage(String),
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    #[error(transparent)]
    Phone(#[from] PhoneError),
}

/// What a customer is to write.
pub(crate) struct Draft {
    pub(crate) to: PhoneNumber,
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) id: Option<String>,
    /// Seconds since the epoch; now when absent.
    pub(crate) at: Option<u64>,
    /// The message a reaction is about.
    pub(crate) about: Option<String>,
    /// What is unusual about it.
    pub(crate) shape: Shape,
    /// The file in it.
    pub(crate) media: Option<Attachment>,
}

/// What is sealed: for each device, or for a whole group.
enum ToSend {
    Each(Vec<(u16, Sealed)>),
    Group(SealedForGroup),
}

/// What a message's stanza says of it.
struct Stamp<'a> {
    id: &'a str,
    kind: Kind,
    /// Seconds since the epoch.
    at: u64,
    shape: &'a Shape,
}

/// A message and the account that gets it.
#[derive(Clone, Copy)]
pub(crate) struct Parcel<'a> {
    pub(crate) account: &'a PhoneNumber,
    pub(crate) message: &'a wa::Message,
    /// In place of the message: its protobuf, byte for byte.
    pub(crate) raw: Option<&'a [u8]>,
    pub(crate) media_type: Option<&'static str>,
}

/// Encrypts for each device, opening sessions where there is none.
pub(crate) fn seal_for(
    hub: &Arc<Hub>,
    phone: &mut Phone,
    parcel: &Parcel<'_>,
    devices: &[u16],
) -> Result<Vec<(u16, Sealed)>, PhoneError> {
    let mut sealed = Vec::new();
    for device in devices {
        let peer = address(parcel.account, *device);
        if !phone.has_session(&peer) {
            let bundle = hub.update(|world| world.take_bundle(parcel.account, *device));
            let Some(bundle) = bundle else {
                continue; // unlinked meanwhile
            };
            phone.open_session(&peer, &bundle)?;
        }
        let padded = match parcel.raw {
            Some(raw) => MessageUtils::pad_message_v2(raw.to_vec()),
            None => MessageUtils::encode_and_pad(parcel.message),
        };
        sealed.push((*device, phone.seal(&peer, &padded)?));
    }
    Ok(sealed)
}

/// A customer writes to an account. Returns the message's id.
pub(crate) fn customer_writes(
    hub: &Arc<Hub>,
    customer: &PhoneNumber,
    mut draft: Draft,
) -> Result<String, SendError> {
    let uploaded = match draft.media.take() {
        Some(sent) => {
            let (name, file, message) = media::upload(draft.kind, &draft.text, &sent)?;
            // From here on it is a message as it is, also when it is sent again.
            draft.shape.raw = Some(Blob(waproto::codec::message_to_vec(&message)));
            Some((name, file))
        }
        None => None,
    };
    let handset = hub
        .read(|world| world.customers.get(customer).map(|c| c.handset.clone()))
        .ok_or_else(|| SendError::NoCustomer(customer.clone()))?;
    let mut phone = handset.lock();
    let id = draft.id.clone().unwrap_or_else(new_message_id);
    let Place { devices, from_me, group } = hub.read(|world| place(world, customer, &draft, &id))?;
    let about = draft.about.as_deref().map(|about| (about, from_me));
    let message = match &draft.shape.raw {
        Some(raw) => waproto::codec::message_decode(&raw.0).unwrap_or_default(),
        None => content::compose(draft.kind, &draft.text, about),
    };
    let parcel = Parcel {
        account: &draft.to,
        message: &hub.read(|world| match &group {
            Some(group) => timers::stamped_in(group, message),
            None => timers::stamped(world, customer, &draft.to, message),
        }),
        raw: draft.shape.raw.as_ref().map(|raw| raw.0.as_slice()),
        media_type: draft.kind.media_type(),
    };
    let sealed = match &group {
        Some(group) => ToSend::Group(group_chat::seal(hub, &mut phone, group, &parcel)?),
        None => ToSend::Each(seal_for(hub, &mut phone, &parcel, &devices)?),
    };
    let changes = phone.take_changes();
    hub.update(|world| {
        world.save_sessions(customer, changes);
        if let Some((name, file)) = uploaded {
            world.media.put(&id, name, file);
        }
        let at = note_sent(world, customer, &id, &draft);
        world.counters.messages_in += 1;
        let stamp = Stamp { id: &id, kind: draft.kind, at, shape: &draft.shape };
        hand_out(world, customer, &parcel, &stamp, sealed);
        if let Some(group) = &group {
            group_chat::show_to_members(world, group, customer, &id, parcel.message);
        }
    });
    tracing::debug!(%customer, account = %draft.to, %id, kind = draft.kind.name(), "a customer wrote");
    Ok(id)
}

/// Where a message goes.
struct Place {
    /// The account's devices.
    devices: Vec<u16>,
    /// The customer has written what it is about.
    from_me: bool,
    group: Option<Group>,
}

/// Where this message goes, if the customer may send it there.
fn place(world: &World, customer: &PhoneNumber, draft: &Draft, id: &str) -> Result<Place, SendError> {
    if !world.accounts.contains_key(&draft.to) {
        return Err(SendError::NoAccount(draft.to.clone()));
    }
    let sent = world.customers.get(customer).map(|c| &c.sent);
    if let Some(before) = sent.and_then(|sent| sent.get(id))
        && (before.to != draft.to
            || before.kind != draft.kind
            || before.text != draft.text
            || before.shape != draft.shape)
    {
        return Err(SendError::OtherContent(id.to_owned()));
    }
    let group = draft.shape.group(world);
    if group.is_some_and(|group| !group.members.contains_key(customer)) {
        return Err(SendError::NoMember(customer.clone()));
    }
    let about = draft.about.as_deref();
    let from_me = about.is_some_and(|about| sent.is_some_and(|s| s.get(about).is_some()));
    Ok(Place { devices: world.devices_of(&draft.to), from_me, group: group.cloned() })
}

/// Queues what was sealed.
fn hand_out(
    world: &mut World,
    customer: &PhoneNumber,
    parcel: &Parcel<'_>,
    stamp: &Stamp<'_>,
    sealed: ToSend,
) {
    match sealed {
        ToSend::Each(sealed) => {
            for (device, sealed) in sealed {
                deliver(world, customer, parcel, stamp, (device, None), sealed);
            }
        }
        ToSend::Group(sealed) => {
            for (account, device, key) in sealed.devices {
                let parcel = Parcel { account: &account, ..*parcel };
                let all = Sealed { kind: "skmsg", bytes: sealed.bytes.clone() };
                deliver(world, customer, &parcel, stamp, (device, key), all);
            }
        }
    }
}

/// Notes the message in the customer's list, and returns the time it carries.
fn note_sent(world: &mut World, customer: &PhoneNumber, id: &str, draft: &Draft) -> u64 {
    let Some(owner) = world.customers.get_mut(customer) else {
        return unix_now();
    };
    let sent = match owner.sent.get_mut(id) {
        Some(sent) => {
            sent.copies += 1;
            sent.clone()
        }
        None => owner.sent.add(Sent {
            n: 0,
            id: id.to_owned(),
            to: draft.to.clone(),
            kind: draft.kind,
            text: draft.text.clone(),
            status: Status::Sent,
            at: draft.at.unwrap_or_else(unix_now),
            status_at: rfc3339_now(),
            copies: 1,
            about: draft.about.clone(),
            shape: draft.shape.clone(),
        }),
    };
    world.store.put(records::sent_key(customer, sent.n), &sent);
    sent.at
}

fn deliver(
    world: &mut World,
    customer: &PhoneNumber,
    parcel: &Parcel<'_>,
    stamp: &Stamp<'_>,
    (device, key): (u16, Option<Sealed>),
    sealed: Sealed,
) {
    let Some(owner) = world.customers.get(customer) else {
        return;
    };
    let envelope = Envelope {
        from: customer,
        device: 0,
        addressing: owner.record.addressing,
        id: stamp.id,
        kind: stamp.kind.stanza_type(),
        at: stamp.at,
        push_name: &owner.record.name,
    };
    let by = (owner.record.addressing, stamp.shape.group(world));
    let builder = stamp.shape.from(envelope.open_unsigned(), customer, by);
    let content = stamp.shape.published(parcel.message, parcel.raw);
    let mut content = content.unwrap_or_else(|| stamp.shape.content(sealed, parcel.media_type));
    if let Some(key) = key {
        content.insert(0, stanza::enc(key, None));
    }
    let stanza = builder.children(content).build();
    world.enqueue(parcel.account, device, Class::Message, stamp.id, stanza);
}

/// Deals with all that waits for a phone.
pub(crate) fn empty_mailbox(hub: &Arc<Hub>, handset: &Handset) {
    // Whoever posts after this starts another round, which waits for the lock.
    handset.called.store(false, Ordering::Release);
    let number = &handset.number;
    let mut phone = handset.lock();
    while !hub.stopping.is_cancelled() {
        let Some(mail) = hub.read(|world| world.next_mail(number)) else {
            break;
        };
        match &mail.body {
            MailBody::Message { enc, bytes } => {
                let opened = phone.open(&address(&mail.from, mail.device), enc, &bytes.0);
                let request = asking::after(&mut phone, &mail, opened.is_ok());
                let (changes, twice) = (phone.take_changes(), phone.used.take_twice());
                let wanted = opened.as_ref().map(owner::wanted).unwrap_or_default();
                hub.update(|world| {
                    world.counters.keys_used_twice += twice;
                    world.save_sessions(number, changes);
                    world.mail_done(number, mail.seq);
                    match opened {
                        Ok(message) => receive(world, number, &mail, &message),
                        Err(error) => undecryptable(world, number, &mail, &error, request),
                    }
                });
                owner::answer(hub, &mut phone, number, &mail, &wanted);
            }
            MailBody::Group { group, keys, content } => {
                let parts = (group.as_str(), keys.as_ref(), content.as_ref());
                let opened = group_chat::open(&mut phone, &mail, parts);
                let request = asking::after(&mut phone, &mail, opened.is_ok());
                let (changes, twice) = (phone.take_changes(), phone.used.take_twice());
                hub.update(|world| {
                    world.counters.keys_used_twice += twice;
                    world.save_sessions(number, changes);
                    world.mail_done(number, mail.seq);
                    match opened {
                        Ok(message) => group_chat::receive(world, number, &mail, group, &message),
                        Err(error) => {
                            tracing::warn!(phone = %number, id = %mail.id, %error, "a member cannot decrypt a message");
                            let of = (&mail.from, mail.device, mail.id.as_str());
                            group_chat::ask_again(world, number, of, group, request);
                        }
                    }
                });
            }
            MailBody::Retry { keys } => {
                if let Err(error) = send_again(hub, &mut phone, number, (&mail, keys.as_ref())) {
                    tracing::warn!(phone = %number, id = %mail.id, %error, "could not send again");
                }
                hub.update(|world| world.mail_done(number, mail.seq));
            }
        }
    }
}

/// A phone has decrypted a message of an account's device.
fn receive(world: &mut World, number: &PhoneNumber, mail: &Mail, message: &wa::Message) {
    let Some(customer) = world.customers.get_mut(number) else {
        // The account's own phone. Nobody looks at its screen, but for the chat with the own number.
        note_to_self(world, number, message);
        return;
    };
    let mut read = false;
    if let Some(mut reading) = content::read(message) {
        reading.expires_s = timers::of(message);
        reading.more.file = world.media.opened(message);
        let (entry, first) = customer.inbox.receive(&mail.from, &mail.id, reading);
        if !first {
            world.counters.duplicate_ids += 1;
        }
        read = customer.record.read_receipts;
        world.store.put(records::inbox_key(number, entry.seq), &entry);
        customer.typing.remove(&mail.from);
        customer.arrived.notify_waiters();
    }
    let addressing = customer.record.addressing;
    let kinds: &[Option<&str>] = if read { &[None, Some("read")] } else { &[None] };
    for kind in kinds {
        let receipt = stanza::receipt(number, addressing, &mail.id, *kind).build();
        world.enqueue(&mail.from, mail.device, Class::Receipt, &mail.id, receipt);
    }
}

/// Keeps what a device of the account has written to the own number.
fn note_to_self(world: &mut World, number: &PhoneNumber, message: &wa::Message) {
    let to = message.device_sent_message.as_option().and_then(|sent| sent.destination_jid.as_ref());
    let to = to.map(|jid| jid.parse::<wacore_binary::Jid>().ok().and_then(|jid| world.number_of(&jid)));
    let is_own = to.is_none_or(|to| to.as_ref() == Some(number));
    let reading = content::read(message).filter(|_| is_own);
    if let (Some(account), Some(reading)) = (world.accounts.get_mut(number), reading) {
        account.notes.push(reading.text);
    }
}

/// A phone could not decrypt a message: it asks for another copy, as phones do.
fn undecryptable(
    world: &mut World,
    number: &PhoneNumber,
    mail: &Mail,
    error: &PhoneError,
    request: Option<Request>,
) {
    world.counters.undecryptable += 1;
    tracing::warn!(phone = %number, id = %mail.id, %error, "a phone cannot decrypt a message");
    let Some(customer) = world.customers.get_mut(number) else {
        return;
    };
    customer.inbox.wait_for(&mail.from, &mail.id);
    ask_again(world, number, (&mail.from, mail.device, &mail.id), request);
}

/// A phone asks a device for another copy of a message.
pub(crate) fn ask_again(
    world: &mut World,
    number: &PhoneNumber,
    (from, device, id): (&PhoneNumber, u16, &str),
    request: Option<Request>,
) {
    let (Some(customer), Some(request)) = (world.customers.get(number), request) else {
        return;
    };
    let receipt = stanza::receipt(number, customer.record.addressing, id, Some("retry"));
    let receipt = receipt.children(request.content(id)).build();
    world.enqueue(from, device, Class::Receipt, id, receipt);
}

/// A device could not decrypt a phone's message: same id, same content. The session is a new one if the device gave its keys,
/// as it does from the second request on (whatsmeow, retry.go: without them a session that is there is used again).
fn send_again(
    hub: &Arc<Hub>,
    phone: &mut Phone,
    number: &PhoneNumber,
    (mail, keys): (&Mail, Option<&Bundle>),
) -> Result<(), PhoneError> {
    let sent = hub.read(|world| {
        let sent = world.customers.get(number)?.sent.get(&mail.id)?;
        (sent.to == mail.from).then(|| sent.clone())
    });
    if sent.as_ref().is_some_and(|sent| sent.shape.again != Again::Sender) {
        return Ok(()); // as if the phone were off
    }
    let device = address(&mail.from, mail.device);
    if let Some(keys) = keys {
        phone.open_session(&device, keys)?;
    }
    if let Some(through) = sent.as_ref().and_then(|sent| sent.shape.through.as_deref()) {
        phone.keys.untell(through, &device);
    }
    let Some(sent) = sent else {
        tracing::info!(phone = %number, id = %mail.id, "asked to repeat a message it never sent");
        let changes = phone.take_changes();
        hub.update(|world| world.save_sessions(number, changes));
        return Ok(());
    };
    let about = sent.about.as_deref().map(|about| (about, false));
    let message = content::compose(sent.kind, &sent.text, about);
    let parcel = Parcel {
        account: &mail.from,
        message: &hub.read(|world| timers::stamped(world, number, &mail.from, message)),
        raw: sent.shape.raw.as_ref().map(|raw| raw.0.as_slice()),
        media_type: sent.kind.media_type(),
    };
    let sealed = seal_for(hub, phone, &parcel, &[mail.device])?;
    let changes = phone.take_changes();
    hub.update(|world| {
        world.save_sessions(number, changes);
        let shape = sent.shape.once_more();
        let stamp = Stamp { id: &sent.id, kind: sent.kind, at: sent.at, shape: &shape };
        for (device, sealed) in sealed {
            deliver(world, number, &parcel, &stamp, (device, None), sealed);
        }
    });
    Ok(())
}

/// The account's phone gives its keys to a device that has just published its own.
pub(crate) fn share_keys(hub: &Arc<Hub>, account: &PhoneNumber, device: u16) {
    let Some(handset) = hub.read(|world| world.handset(account).cloned()) else {
        return;
    };
    let mut phone = handset.lock();
    let message = pairing::key_share(device);
    let parcel = Parcel { account, message: &message, raw: None, media_type: None };
    let sealed = match seal_for(hub, &mut phone, &parcel, &[device]) {
        Ok(sealed) => sealed,
        Err(error) => {
            tracing::error!(%account, device, %error, "keys could not be shared");
            return;
        }
    };
    let changes = phone.take_changes();
    hub.update(|world| {
        world.save_sessions(account, changes);
        let Some(target) =
            world.accounts.get_mut(account).and_then(|account| account.devices.get_mut(&device))
        else {
            return;
        };
        if std::mem::replace(&mut target.record.keys_shared, true) {
            return;
        }
        let key = records::device_key(account, device);
        world.store.put(key, &target.record);
        let id = new_message_id();
        for (device, sealed) in sealed {
            let stanza = NodeBuilder::new("message")
                .attr("from", account.pn_jid(0))
                .attr("category", "peer")
                .attr("id", id.as_str())
                .attr("type", "text")
                .attr("t", unix_now())
                .children([stanza::enc(sealed, None)])
                .build();
            world.enqueue(account, device, Class::Message, &id, stanza);
        }
    });
}

/// The owner of an account writes to a customer on the phone itself. The linked devices see it as
/// an own message. Returns the message's id.
pub(crate) fn owner_writes(
    hub: &Arc<Hub>,
    account: &PhoneNumber,
    customer: &PhoneNumber,
    (text, raw): (&str, Option<&Blob>),
    id: Option<String>,
) -> Result<String, SendError> {
    let handset = hub
        .read(|world| world.accounts.get(account).map(|a| a.handset.clone()))
        .ok_or_else(|| SendError::NoAccount(account.clone()))?;
    let addressing = hub
        .read(|world| match world.customers.get(customer) {
            Some(customer) => Some(customer.record.addressing),
            // A note to self.
            None => (customer == account).then_some(Addressing::Pn),
        })
        .ok_or_else(|| SendError::NoCustomer(customer.clone()))?;
    let chat = match addressing {
        Addressing::Pn => customer.pn_jid(0),
        Addressing::Lid | Addressing::Hidden => customer.lid_jid(0),
    };
    let id = id.unwrap_or_else(new_message_id);
    let inside = match raw {
        Some(raw) => waproto::codec::message_decode(&raw.0).unwrap_or_default(),
        None => content::compose(Kind::Text, text, None),
    };
    let message = wa::Message {
        device_sent_message: MessageField::some(wa::message::DeviceSentMessage {
            destination_jid: Some(chat.to_string()),
            message: MessageField::some(inside),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut phone = handset.lock();
    let devices = hub.read(|world| world.devices_of(account));
    let parcel = Parcel { account, message: &message, raw: None, media_type: None };
    let sealed = seal_for(hub, &mut phone, &parcel, &devices)?;
    let changes = phone.take_changes();
    hub.update(|world| {
        world.save_sessions(account, changes);
        let reading = Reading { kind: Kind::Text.name(), text: text.to_owned(), ..Default::default() };
        if let Some(owner) = world.customers.get_mut(customer) {
            let (entry, _) = owner.inbox.receive(account, &id, reading);
            world.store.put(records::inbox_key(customer, entry.seq), &entry);
            owner.arrived.notify_waiters();
        }
        for (device, sealed) in sealed {
            let envelope = Envelope {
                from: account,
                device: 0,
                addressing,
                id: &id,
                kind: Kind::Text.stanza_type(),
                at: unix_now(),
                push_name: "",
            };
            let mut builder = envelope.open().attr("recipient", chat.clone());
            if addressing == Addressing::Lid {
                builder = builder.attr("peer_recipient_pn", customer.pn_jid(0));
            }
            let stanza = builder.children([stanza::enc(sealed, None)]).build();
            world.enqueue(account, device, Class::Message, &id, stanza);
        }
    });
    Ok(id)
}
