//! Everything the server knows, and the small operations that keep memory and journal the same.
//!
//! The world is only reached through the hub, which commits the journal and then lets stanzas out:
//! what a client or an HTTP caller has been told is on disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use wacore_binary::{Jid, Node};

use crate::counters::Counters;
use crate::faults::{FaultKind, Faults};
use crate::groups::Group;
use crate::ids::PhoneNumber;
use crate::media::Media;
use crate::noise::ServerKey;
use crate::pairing::Linking;
use crate::party::{Account, Customer, Device, Handset, Mail, MailBody, Mailbox};
use crate::queue::Class;
use crate::records;
use crate::signal::Bundle;
use crate::stanza;
use crate::store::Store;
use crate::visits::Visits;

/// One client's connection, for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What goes to a connection's writer.
pub(crate) enum Outgoing {
    /// A stanza, not before the instant.
    Stanza(Node, Option<Instant>),
    /// Close after what was sent before.
    Close,
}

/// Who is at the other end.
pub(crate) enum Role {
    /// A device that wants to be linked.
    Linking(Box<Linking>),
    /// A linked device.
    Device(PhoneNumber, u16),
}

pub(crate) struct Connection {
    pub(crate) outbox: UnboundedSender<Outgoing>,
    pub(crate) role: Role,
    /// Something was not said on it: a line that was dead once does not come to life again.
    pub(crate) dead: bool,
}

/// Work that needs cryptography and is done after the world is released.
#[derive(Debug)]
pub(crate) enum Job {
    /// A phone has mail.
    Mail(PhoneNumber),
    /// The account's phone gives its keys to a new device.
    ShareKeys(PhoneNumber, u16),
}

pub(crate) struct World {
    pub(crate) key: Arc<ServerKey>,
    pub(crate) accounts: BTreeMap<PhoneNumber, Account>,
    pub(crate) customers: BTreeMap<PhoneNumber, Customer>,
    /// By their addresses.
    pub(crate) groups: BTreeMap<String, Group>,
    lids: HashMap<String, PhoneNumber>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    last_connection: u64,
    pub(crate) faults: Faults,
    /// The disappearing timers of chats, in seconds: of the customer and the account.
    pub(crate) timers: BTreeMap<(PhoneNumber, PhoneNumber), u32>,
    /// Other forms of customers' numbers, for look-ups.
    pub(crate) aliases: BTreeMap<PhoneNumber, PhoneNumber>,
    pub(crate) media: Media,
    pub(crate) counters: Counters,
    pub(crate) visits: Visits,
    pub(crate) store: Store,
    effects: Vec<(ConnectionId, Outgoing)>,
    pub(crate) jobs: Vec<Job>,
}

impl World {
    pub(crate) fn new(key: ServerKey, store: Store) -> Self {
        Self {
            key: Arc::new(key),
            accounts: BTreeMap::new(),
            customers: BTreeMap::new(),
            groups: BTreeMap::new(),
            lids: HashMap::new(),
            connections: BTreeMap::new(),
            last_connection: 0,
            faults: Faults::default(),
            timers: BTreeMap::new(),
            aliases: BTreeMap::new(),
            media: Media::default(),
            counters: Counters::default(),
            visits: Visits::default(),
            store,
            effects: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// Writes the journal, then releases the stanzas. Returns the work that was asked for.
    pub(crate) fn commit(&mut self) -> Vec<Job> {
        self.store.commit();
        for (id, outgoing) in self.effects.drain(..) {
            if let Some(connection) = self.connections.get(&id) {
                // The writer may have ended already; its queue entries stay.
                let _ = connection.outbox.send(outgoing);
            }
        }
        std::mem::take(&mut self.jobs)
    }

    // People ------------------------------------------------------------------------------------

    pub(crate) fn add_account(&mut self, account: Account) {
        let number = account.record.phone.clone();
        self.lids.insert(number.lid(), number.clone());
        self.accounts.insert(number, account);
    }

    pub(crate) fn add_customer(&mut self, customer: Customer) {
        let number = customer.record.phone.clone();
        self.lids.insert(number.lid(), number.clone());
        self.customers.insert(number, customer);
    }

    /// The phone number behind a JID in either form, if it is on this WhatsApp.
    pub(crate) fn number_of(&self, jid: &Jid) -> Option<PhoneNumber> {
        let user = jid.user_base();
        if jid.is_lid() {
            return self.lids.get(user).cloned();
        }
        let number: PhoneNumber = user.parse().ok()?;
        (jid.is_pn() && self.exists(&number)).then_some(number)
    }

    pub(crate) fn exists(&self, number: &PhoneNumber) -> bool {
        self.accounts.contains_key(number) || self.customers.contains_key(number)
    }

    /// The simulated phone with this number.
    pub(crate) fn handset(&self, number: &PhoneNumber) -> Option<&Arc<Handset>> {
        if let Some(account) = self.accounts.get(number) {
            return Some(&account.handset);
        }
        self.customers.get(number).map(|customer| &customer.handset)
    }

    pub(crate) fn device(&self, number: &PhoneNumber, device: u16) -> Option<&Device> {
        self.accounts.get(number)?.devices.get(&device)
    }

    pub(crate) fn device_mut(&mut self, number: &PhoneNumber, device: u16) -> Option<&mut Device> {
        self.accounts.get_mut(number)?.devices.get_mut(&device)
    }

    /// The linked devices of an account, in order.
    pub(crate) fn devices_of(&self, number: &PhoneNumber) -> Vec<u16> {
        self.accounts.get(number).map(|account| account.devices.keys().copied().collect()).unwrap_or_default()
    }

    /// Takes a bundle of a device, with one of its one-time keys if any is left.
    pub(crate) fn take_bundle(&mut self, number: &PhoneNumber, device: u16) -> Option<Bundle> {
        if device == 0 {
            return Some(self.handset(number)?.bundle.clone());
        }
        let account = self.accounts.get_mut(number)?;
        let device = account.devices.get_mut(&device)?;
        let one_time = device.one_time.pop_front();
        if let Some(key) = &one_time {
            self.store.remove(records::prekey_key(number, device.record.id, key.id));
        }
        Some(Bundle {
            registration_id: device.record.registration_id,
            identity: device.record.identity,
            signed: device.record.signed.clone(),
            one_time,
        })
    }

    // Connections -------------------------------------------------------------------------------

    pub(crate) fn connect(&mut self, outbox: UnboundedSender<Outgoing>, role: Role) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        self.connections.insert(id, Connection { outbox, role, dead: false });
        id
    }

    /// The connection ended.
    pub(crate) fn disconnect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.visits.end(id);
        if let Role::Device(number, device) = connection.role
            && let Some(device) = self.device_mut(&number, device)
            && device.online == Some(id)
        {
            device.online = None;
            device.active = false;
            device.queue.disconnected();
        }
    }

    /// Sends a stanza once the journal is written.
    pub(crate) fn send(&mut self, id: ConnectionId, stanza: Node) {
        let now = Instant::now();
        if let Some(connection) = self.connections.get_mut(&id)
            && let Role::Device(number, _) = &connection.role
        {
            connection.dead |= self.faults.find(FaultKind::Silence, Some(number), now).is_some();
            if connection.dead {
                return;
            }
        }
        let delay = match self.connections.get(&id).map(|c| &c.role) {
            Some(Role::Device(number, _)) => self.faults.find(FaultKind::Delay, Some(number), now),
            _ => None,
        }
        .map(|fault| fault.delay)
        .filter(|delay| *delay > Duration::ZERO);
        let due = delay.map(|delay| now + delay);
        self.effects.push((id, Outgoing::Stanza(stanza, due)));
    }

    /// Closes a connection after what was sent before.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        self.effects.push((id, Outgoing::Close));
    }

    /// The connections of an account's devices, or all when no account is named.
    pub(crate) fn connections_of(&self, account: Option<&PhoneNumber>) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, connection)| match (&connection.role, account) {
                (_, None) => true,
                (Role::Device(number, _), Some(account)) => number == account,
                (Role::Linking(_), Some(_)) => false,
            })
            .map(|(id, _)| *id)
            .collect()
    }

    // Queues ------------------------------------------------------------------------------------

    /// Queues a stanza for a linked device, and sends it if the device is there.
    pub(crate) fn enqueue(
        &mut self,
        number: &PhoneNumber,
        device_id: u16,
        class: Class,
        id: &str,
        stanza: Node,
    ) {
        let Some(device) =
            self.accounts.get_mut(number).and_then(|account| account.devices.get_mut(&device_id))
        else {
            return;
        };
        let live = device.online.filter(|_| device.active);
        let record = records::queued(class, id, &stanza);
        let seq = device.queue.push(class, id, stanza.clone(), live.is_some());
        match record {
            Ok(record) => self.store.put(records::queue_key(number, device_id, seq), &record),
            Err(error) => tracing::error!(%error, "a stanza cannot be kept over a restart"),
        }
        if let Some(connection) = live {
            self.send(connection, stanza);
        }
    }

    /// The device acknowledged a stanza. False if none of that id was queued.
    pub(crate) fn acknowledge(
        &mut self,
        number: &PhoneNumber,
        device_id: u16,
        class: Class,
        id: &str,
    ) -> bool {
        let seq = self.device_mut(number, device_id).and_then(|device| device.queue.acknowledge(class, id));
        if let Some(seq) = seq {
            self.store.remove(records::queue_key(number, device_id, seq));
        }
        seq.is_some()
    }

    /// The device asked for what waits: everything queued, framed by the offline markers.
    pub(crate) fn activate(&mut self, number: &PhoneNumber, device_id: u16) {
        let Some(device) = self.device_mut(number, device_id) else {
            return;
        };
        let Some(connection) = device.online else {
            return;
        };
        device.active = true;
        let messages = device.queue.count(Class::Message);
        let notifications = device.queue.count(Class::Notification);
        let receipts = device.queue.len() - messages - notifications;
        let waiting: Vec<Node> = device
            .queue
            .send_all()
            .enumerate()
            .map(|(index, entry)| stanza::as_offline(&entry.stanza, index))
            .collect();
        let count = waiting.len();
        if count > 0 {
            self.send(connection, stanza::offline_preview(messages, receipts, notifications));
        }
        for stanza in waiting {
            self.send(connection, stanza);
        }
        self.send(connection, stanza::offline_end(count));
    }

    /// Sends everything queued for a device again; returns how much.
    pub(crate) fn redeliver(&mut self, number: &PhoneNumber, device_id: u16) -> usize {
        let Some(device) = self.device_mut(number, device_id) else {
            return 0;
        };
        let Some(connection) = device.online.filter(|_| device.active) else {
            return 0;
        };
        let waiting: Vec<Node> = device.queue.send_all().map(|e| e.stanza.clone()).collect();
        let count = waiting.len();
        for stanza in waiting {
            self.send(connection, stanza);
        }
        self.counters.redelivered += count as u64;
        count
    }

    // Mail for phones ---------------------------------------------------------------------------

    fn mailbox_mut(&mut self, number: &PhoneNumber) -> Option<&mut Mailbox> {
        if let Some(account) = self.accounts.get_mut(number) {
            return Some(&mut account.mailbox);
        }
        self.customers.get_mut(number).map(|c| &mut c.mailbox)
    }

    /// Leaves something for a phone to work on.
    pub(crate) fn post(
        &mut self,
        to: &PhoneNumber,
        from: &PhoneNumber,
        device: u16,
        id: &str,
        body: MailBody,
    ) {
        let Some(mailbox) = self.mailbox_mut(to) else {
            return;
        };
        let mail = mailbox.push(from.clone(), device, id.to_owned(), body);
        self.store.put(records::mail_key(to, mail.seq), &mail);
        self.jobs.push(Job::Mail(to.clone()));
    }

    /// The oldest mail of a phone.
    pub(crate) fn next_mail(&self, number: &PhoneNumber) -> Option<Mail> {
        let queue: &VecDeque<Mail> = match self.accounts.get(number) {
            Some(account) => &account.mailbox.waiting,
            None => &self.customers.get(number)?.mailbox.waiting,
        };
        queue.front().cloned()
    }

    /// The phone has dealt with its oldest mail.
    pub(crate) fn mail_done(&mut self, number: &PhoneNumber, seq: u64) {
        if let Some(mailbox) = self.mailbox_mut(number) {
            mailbox.waiting.retain(|mail| mail.seq != seq);
        }
        self.store.remove(records::mail_key(number, seq));
    }

    /// Writes what changed in a phone's sessions.
    pub(crate) fn save_sessions(&mut self, number: &PhoneNumber, changes: Vec<(String, Option<Vec<u8>>)>) {
        for (address, record) in changes {
            let key = records::session_key(number, &address);
            match record {
                Some(bytes) => self.store.put(key, &crate::ids::Blob(bytes)),
                None => self.store.remove(key),
            }
        }
    }

    /// Forgets a linked device, and ends its connection with the given stanza.
    pub(crate) fn unlink(&mut self, number: &PhoneNumber, device_id: u16, farewell: Option<Node>) {
        let Some(account) = self.accounts.get_mut(number) else {
            return;
        };
        let Some(device) = account.devices.remove(&device_id) else {
            return;
        };
        for prefix in records::device_prefixes(number, device_id) {
            self.store.remove_all(&prefix);
        }
        self.store.remove(records::device_key(number, device_id));
        if let Some(connection) = device.online {
            if let Some(farewell) = farewell {
                self.send(connection, farewell);
            }
            self.close(connection);
        }
        tracing::info!(account = %number, device = device_id, "device unlinked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Blob;
    use crate::party::CustomerRecord;
    use crate::signal::Secrets;
    use crate::stanza::Addressing;

    #[test]
    fn what_waits_for_a_phone_is_there_after_a_restart() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let (ana, shop): (PhoneNumber, PhoneNumber) = ("5491111".parse()?, "5492222".parse()?);
        let mut world = records::load(Store::open(directory.path())?)?;
        let record = CustomerRecord {
            phone: ana.clone(),
            name: "Ana".to_owned(),
            addressing: Addressing::Pn,
            read_receipts: false,
            secrets: Secrets::generate()?,
        };
        world.store.put(records::customer_key(&ana), &record);
        world.add_customer(Customer::new(record)?);
        for id in ["A", "B", "C"] {
            let body = MailBody::Message { enc: "msg".to_owned(), bytes: Blob(vec![1, 2, 3]) };
            world.post(&ana, &shop, 1, id, body);
        }
        let jobs = world.commit();
        assert_eq!(jobs.len(), 3);
        world.mail_done(&ana, 1);
        world.commit();
        drop(world);

        let mut world = records::load(Store::open(directory.path())?)?;
        let mail = world.next_mail(&ana).ok_or("the mail is lost")?;
        assert_eq!((mail.seq, mail.id.as_str(), mail.device), (2, "B", 1));
        // New mail comes after the old.
        world.post(&ana, &shop, 1, "D", MailBody::Retry { keys: None });
        world.mail_done(&ana, 2);
        world.mail_done(&ana, 3);
        let last = world.next_mail(&ana).map(|mail| (mail.seq, mail.id));
        assert_eq!(last, Some((4, "D".to_owned())));
        Ok(())
    }

    #[test]
    fn a_person_is_found_by_either_name() -> Result<(), Box<dyn std::error::Error>> {
        let ana: PhoneNumber = "5491111".parse()?;
        let mut world = World::new(ServerKey::generate(), Store::in_memory());
        assert_eq!(world.number_of(&ana.pn_jid(0)), None);
        assert_eq!(world.number_of(&ana.lid_jid(0)), None);
        let record = CustomerRecord {
            phone: ana.clone(),
            name: "Ana".to_owned(),
            addressing: Addressing::Lid,
            read_receipts: false,
            secrets: Secrets::generate()?,
        };
        world.add_customer(Customer::new(record)?);
        assert_eq!(world.number_of(&ana.pn_jid(3)), Some(ana.clone()));
        assert_eq!(world.number_of(&ana.lid_jid(0)), Some(ana));
        assert_eq!(world.number_of(&Jid::group("123")), None);
        Ok(())
    }
}
