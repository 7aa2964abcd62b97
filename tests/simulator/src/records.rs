//! How the world is laid out in the journal, and how it is read back at a start.

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use wacore_binary::{Node, OwnedNodeRef};

use crate::groups::Group;
use crate::ids::{Blob, Key32, PhoneNumber};
use crate::noise::ServerKey;
use crate::party::{
    Account, AccountRecord, Customer, CustomerRecord, Device, DeviceRecord, Handset, Inbox, InboxEntry, Mail,
    Mailbox, Sent, SentMessages,
};
use crate::queue::{Class, Entry};
use crate::signal::{OneTimePreKey, PhoneError};
use crate::store::{Store, StoreError};
use crate::world::World;

const SERVER: &str = "server";

/// Why saved state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The journal itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry that was read makes no sense.
    #[error("the state has an unusable entry: {0}")]
    Entry(String),
}

impl From<PhoneError> for LoadError {
    fn from(error: PhoneError) -> Self {
        Self::Entry(error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct ServerRecord {
    noise: Key32,
}

/// A queued stanza as saved: the stanza is in WhatsApp's binary form.
#[derive(Serialize, Deserialize)]
pub(crate) struct QueueRecord {
    class: Class,
    id: String,
    stanza: Blob,
}

pub(crate) fn queued(
    class: Class,
    id: &str,
    stanza: &Node,
) -> Result<QueueRecord, wacore_binary::error::BinaryError> {
    Ok(QueueRecord { class, id: id.to_owned(), stanza: Blob(wacore_binary::marshal::marshal(stanza)?) })
}

pub(crate) fn account_key(number: &PhoneNumber) -> String {
    format!("account/{number}")
}

pub(crate) fn customer_key(number: &PhoneNumber) -> String {
    format!("customer/{number}")
}

pub(crate) fn device_key(number: &PhoneNumber, device: u16) -> String {
    format!("device/{number}/{device:05}")
}

pub(crate) fn prekey_key(number: &PhoneNumber, device: u16, id: u32) -> String {
    format!("prekey/{number}/{device:05}/{id:08}")
}

pub(crate) fn queue_key(number: &PhoneNumber, device: u16, seq: u64) -> String {
    format!("queue/{number}/{device:05}/{seq:012}")
}

/// What else belongs to a device.
pub(crate) fn device_prefixes(number: &PhoneNumber, device: u16) -> [String; 2] {
    [format!("prekey/{number}/{device:05}/"), format!("queue/{number}/{device:05}/")]
}

pub(crate) fn mail_key(number: &PhoneNumber, seq: u64) -> String {
    format!("mail/{number}/{seq:012}")
}

pub(crate) fn session_key(number: &PhoneNumber, address: &str) -> String {
    format!("session/{number}/{address}")
}

pub(crate) fn inbox_key(number: &PhoneNumber, seq: u64) -> String {
    format!("inbox/{number}/{seq:012}")
}

pub(crate) fn sent_key(number: &PhoneNumber, n: u64) -> String {
    format!("sent/{number}/{n:012}")
}

/// Builds the world from what was saved, or a new one.
pub(crate) fn load(mut store: Store) -> Result<World, LoadError> {
    let key = match store.get::<ServerRecord>(SERVER)? {
        Some(record) => ServerKey::from_private(&record.noise)
            .ok_or_else(|| LoadError::Entry("the server's noise key".to_owned()))?,
        None => ServerKey::generate(),
    };
    let noise = key.private();
    store.put(SERVER, &ServerRecord { noise });
    store.commit();
    let accounts: Vec<(String, AccountRecord)> = store.list("account/")?;
    let customers: Vec<(String, CustomerRecord)> = store.list("customer/")?;
    let mut world = World::new(key, store);
    for (_, record) in accounts {
        let account = load_account(&world.store, record)?;
        world.add_account(account);
    }
    for (_, record) in customers {
        let customer = load_customer(&world.store, record)?;
        world.add_customer(customer);
    }
    for (_, group) in world.store.list::<Group>("group/")? {
        world.groups.insert(group.id.clone(), group);
    }
    Ok(world)
}

fn load_sessions(
    store: &Store,
    number: &PhoneNumber,
) -> Result<impl Iterator<Item = (String, Vec<u8>)> + use<>, StoreError> {
    let saved: Vec<(String, Blob)> = store.list(&format!("session/{number}/"))?;
    Ok(saved.into_iter().map(|(address, blob)| (address, blob.0)))
}

fn load_mailbox(store: &Store, number: &PhoneNumber) -> Result<Mailbox, StoreError> {
    let mut mailbox = Mailbox::default();
    for (_, mail) in store.list::<Mail>(&format!("mail/{number}/"))? {
        mailbox.restore(mail);
    }
    Ok(mailbox)
}

fn load_account(store: &Store, record: AccountRecord) -> Result<Account, LoadError> {
    let number = &record.phone;
    let sessions = load_sessions(store, number)?;
    let handset = Handset::new(number.clone(), &record.secrets, sessions)?;
    let mailbox = load_mailbox(store, number)?;
    let mut devices = std::collections::BTreeMap::new();
    for (_, device) in store.list::<DeviceRecord>(&format!("device/{number}/"))? {
        devices.insert(device.id, load_device(store, number, device)?);
    }
    Ok(Account { handset, mailbox, devices, notes: Vec::new(), record })
}

fn load_device(store: &Store, number: &PhoneNumber, record: DeviceRecord) -> Result<Device, LoadError> {
    let [prekeys, queue] = device_prefixes(number, record.id);
    let mut device = Device::new(record);
    for (_, key) in store.list::<OneTimePreKey>(&prekeys)? {
        device.one_time.push_back(key);
    }
    for (seq, saved) in store.list::<QueueRecord>(&queue)? {
        let entry = unqueued(&seq, saved)
            .ok_or_else(|| LoadError::Entry(format!("the queued stanza {queue}{seq}")))?;
        device.queue.restore(entry);
    }
    Ok(device)
}

fn unqueued(seq: &str, saved: QueueRecord) -> Option<Entry> {
    // A marshalled stanza begins with a flag byte, which the decoder does not take.
    let plain = saved.stanza.0.get(1..)?.to_vec();
    Some(Entry {
        seq: seq.parse().ok()?,
        class: saved.class,
        id: saved.id,
        stanza: OwnedNodeRef::new(plain).ok()?.to_owned_node(),
        sent: false,
    })
}

fn load_customer(store: &Store, record: CustomerRecord) -> Result<Customer, LoadError> {
    let number = &record.phone;
    let sessions = load_sessions(store, number)?;
    let handset = Handset::new(number.clone(), &record.secrets, sessions)?;
    let mailbox = load_mailbox(store, number)?;
    let mut inbox = Inbox::default();
    for (_, entry) in store.list::<InboxEntry>(&format!("inbox/{number}/"))? {
        inbox.restore(entry);
    }
    let mut sent = SentMessages::default();
    for (_, entry) in store.list::<Sent>(&format!("sent/{number}/"))? {
        sent.restore(entry);
    }
    Ok(Customer {
        handset,
        mailbox,
        inbox,
        sent,
        typing: std::collections::BTreeMap::new(),
        typed: Vec::new(),
        arrived: std::sync::Arc::new(Notify::new()),
        record,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_binary::builder::NodeBuilder;

    #[test]
    fn a_queued_stanza_reads_back_as_it_was() -> Result<(), Box<dyn std::error::Error>> {
        let number: PhoneNumber = "5491112345678".parse()?;
        let stanza = NodeBuilder::new("message")
            .attr("from", number.lid_jid(0))
            .attr("id", "3EB0AA")
            .children([NodeBuilder::new("enc").bytes(vec![1u8, 2, 3]).build()])
            .build();
        let record = queued(Class::Message, "3EB0AA", &stanza)?;
        let entry = unqueued("000000000007", record).ok_or("unreadable")?;
        assert_eq!(entry.seq, 7);
        assert_eq!(entry.stanza, stanza);
        Ok(())
    }
}
