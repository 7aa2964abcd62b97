//! The key directory: what devices publish, and the bundles that others fetch.

use std::time::Instant;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use crate::faults::FaultKind;
use crate::ids::{Blob, Key32, PhoneNumber};
use crate::iq::Asker;
use crate::pairing::big_endian;
use crate::records;
use crate::signal::{Bundle, OneTimePreKey, SignedPreKey};
use crate::stanza::{self, bytes};
use crate::world::{Job, World};

/// The type of key that everybody uses: Curve25519.
const KEY_TYPE: u8 = 5;

/// Answers an IQ of the namespace `encrypt`.
pub(crate) fn answer(world: &mut World, asker: &Asker<'_>, request: &Node) -> Node {
    let child = |tag| request.get_optional_child(tag);
    if stanza::attr(request, "type") == "set" {
        return if child("registration").is_some() {
            upload(world, asker, request)
        } else if let Some(rotate) = child("rotate") {
            rotate_signed(world, asker, request, rotate)
        } else {
            world.counters.malformed += 1;
            stanza::iq_error(request, 400, "bad-request")
        };
    }
    if child("count").is_some() {
        count(world, asker, request)
    } else if child("digest").is_some() {
        digest(world, asker, request)
    } else if let Some(wanted) = child("key") {
        let refused = world.faults.find(FaultKind::RefuseKeys, Some(asker.number), Instant::now());
        if let Some(code) = refused.map(|fault| fault.code) {
            return stanza::iq_error(request, code, "rate-overlimit");
        }
        let refuses = world.faults.find(FaultKind::NoKeys, Some(asker.number), Instant::now()).is_some();
        fetch(world, request, wanted, refuses)
    } else {
        stanza::iq_error(request, 400, "bad-request")
    }
}

fn read_one_time(key: &Node) -> Option<OneTimePreKey> {
    Some(OneTimePreKey {
        id: big_endian(bytes(key.get_optional_child("id")?)?)?,
        public: Key32::from_slice(bytes(key.get_optional_child("value")?)?)?,
    })
}

fn read_signed(key: &Node) -> Option<SignedPreKey> {
    Some(SignedPreKey {
        id: big_endian(bytes(key.get_optional_child("id")?)?)?,
        public: Key32::from_slice(bytes(key.get_optional_child("value")?)?)?,
        signature: Blob(bytes(key.get_optional_child("signature")?)?.to_vec()),
    })
}

fn upload(world: &mut World, asker: &Asker<'_>, request: &Node) -> Node {
    let keys: Option<Vec<OneTimePreKey>> = request
        .get_optional_child("list")
        .into_iter()
        .flat_map(|list| stanza::children(list, "key"))
        .map(read_one_time)
        .collect();
    let signed = request.get_optional_child("skey").and_then(read_signed);
    let (Some(keys), Some(signed)) = (keys, signed) else {
        world.counters.malformed += 1;
        return stanza::iq_error(request, 400, "bad-request");
    };
    let Some(account) = world.accounts.get_mut(asker.number) else {
        return stanza::iq_error(request, 401, "not-authorized");
    };
    let Some(device) = account.devices.get_mut(&asker.device) else {
        return stanza::iq_error(request, 401, "not-authorized");
    };
    for key in keys {
        device.one_time.retain(|old| old.id != key.id);
        let name = records::prekey_key(asker.number, asker.device, key.id);
        world.store.put(name, &key);
        device.one_time.push_back(key);
    }
    device.record.signed = signed;
    device.record.keys_uploaded = true;
    let share = !device.record.keys_shared;
    let name = records::device_key(asker.number, asker.device);
    world.store.put(name, &device.record);
    if share {
        world.jobs.push(Job::ShareKeys(asker.number.clone(), asker.device));
    }
    stanza::iq_result(request, vec![])
}

fn rotate_signed(world: &mut World, asker: &Asker<'_>, request: &Node, rotate: &Node) -> Node {
    let Some(signed) = rotate.get_optional_child("skey").and_then(read_signed) else {
        world.counters.malformed += 1;
        return stanza::iq_error(request, 400, "bad-request");
    };
    let Some(account) = world.accounts.get_mut(asker.number) else {
        return stanza::iq_error(request, 401, "not-authorized");
    };
    if let Some(device) = account.devices.get_mut(&asker.device) {
        device.record.signed = signed;
        let name = records::device_key(asker.number, asker.device);
        world.store.put(name, &device.record);
    }
    stanza::iq_result(request, vec![])
}

fn count(world: &World, asker: &Asker<'_>, request: &Node) -> Node {
    let left = world.device(asker.number, asker.device).map_or(0, |device| device.one_time.len());
    let count = NodeBuilder::new("count").attr("value", left).build();
    stanza::iq_result(request, vec![count])
}

fn id_node(id: u32) -> Node {
    NodeBuilder::new("id").bytes(id.to_be_bytes()[1..].to_vec()).build()
}

fn value_node(tag: &'static str, bytes: impl Into<Vec<u8>>) -> Node {
    NodeBuilder::new(tag).bytes(bytes).build()
}

fn signed_node(signed: &SignedPreKey) -> Node {
    NodeBuilder::new("skey")
        .children([
            id_node(signed.id),
            value_node("value", signed.public.0),
            value_node("signature", signed.signature.0.clone()),
        ])
        .build()
}

fn one_time_node(key: &OneTimePreKey) -> Node {
    NodeBuilder::new("key").children([id_node(key.id), value_node("value", key.public.0)]).build()
}

/// The keys that a phone gives whom it asks for a message again.
pub(crate) fn keys_node(bundle: &Bundle, key: &OneTimePreKey) -> Node {
    let [_, kind, identity] = registration_nodes(bundle.registration_id, &bundle.identity);
    let keys = [kind, identity, one_time_node(key), signed_node(&bundle.signed)];
    NodeBuilder::new("keys").children(keys).build()
}

/// The keys that a device gives whom it asks for a message again.
pub(crate) fn read_keys(receipt: &Node) -> Option<Bundle> {
    let keys = receipt.get_optional_child("keys")?;
    Some(Bundle {
        registration_id: big_endian(bytes(receipt.get_optional_child("registration")?)?)?,
        identity: Key32::from_slice(bytes(keys.get_optional_child("identity")?)?)?,
        signed: keys.get_optional_child("skey").and_then(read_signed)?,
        one_time: keys.get_optional_child("key").and_then(read_one_time),
    })
}

fn registration_nodes(registration_id: u32, identity: &Key32) -> [Node; 3] {
    [
        value_node("registration", registration_id.to_be_bytes()),
        value_node("type", [KEY_TYPE]),
        value_node("identity", identity.0),
    ]
}

/// The server's view of the device's keys, so that the device can tell whether it must upload.
fn digest(world: &World, asker: &Asker<'_>, request: &Node) -> Node {
    let Some(device) = world.device(asker.number, asker.device).filter(|device| device.record.keys_uploaded)
    else {
        return stanza::iq_error(request, 404, "item-not-found");
    };
    let record = &device.record;
    let publics: Vec<&[u8]> = device.one_time.iter().map(|k| &k.public.0[..]).collect();
    let hash = wacore::prekeys::compute_key_bundle_digest(
        &record.identity.0,
        &record.signed.public.0,
        &record.signed.signature.0,
        &publics,
    );
    let ids = device.one_time.iter().map(|key| id_node(key.id));
    let mut content = registration_nodes(record.registration_id, &record.identity).to_vec();
    content.push(signed_node(&record.signed));
    content.push(NodeBuilder::new("list").children(ids).build());
    content.push(value_node("hash", hash));
    let digest = NodeBuilder::new("digest").children(content).build();
    stanza::iq_result(request, vec![digest])
}

fn fetch(world: &mut World, request: &Node, wanted: &Node, refuses: bool) -> Node {
    let users: Vec<Node> = stanza::children(wanted, "user")
        .map(|user| match stanza::jid(user, "jid") {
            Some(jid) => bundle_node(world, &jid, refuses),
            None => NodeBuilder::new("user").build(),
        })
        .collect();
    let list = NodeBuilder::new("list").children(users).build();
    stanza::iq_result(request, vec![list])
}

fn bundle_node(world: &mut World, jid: &Jid, refuses: bool) -> Node {
    let user = NodeBuilder::new("user").attr("jid", jid);
    let device = jid.device;
    let number: Option<PhoneNumber> = world.number_of(jid).filter(|_| !refuses);
    let found = number.and_then(|number| Some((world.take_bundle(&number, device)?, number)));
    let Some((bundle, number)) = found else {
        return user
            .children([NodeBuilder::new("error").attr("code", 406u16).attr("text", "not-acceptable").build()])
            .build();
    };
    let mut content = registration_nodes(bundle.registration_id, &bundle.identity).to_vec();
    match &bundle.one_time {
        Some(key) => content.push(one_time_node(key)),
        None if device != 0 => world.counters.bundles_without_one_time_key += 1,
        None => {}
    }
    content.push(signed_node(&bundle.signed));
    if let Some(device) = world.device(&number, device) {
        content.push(value_node("device-identity", device.record.adv.0.clone()));
    }
    user.children(content).build()
}
