//! Who is on this WhatsApp: business accounts with linked devices, customers, and their phones.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::content::{Choice, Kind, More, Reading};
use crate::ids::{Blob, Key32, PhoneNumber, rfc3339_now};
use crate::queue::Queue;
use crate::shape::Shape;
use crate::signal::{Bundle, IdentityKeys, OneTimePreKey, Phone, PhoneError, Secrets, SignedPreKey};
use crate::stanza::Addressing;
use crate::webauthn::Passkey;
use crate::world::ConnectionId;

/// A simulated phone. Its lock comes before the world's: hold it while using the hub, never the
/// other way round.
pub(crate) struct Handset {
    pub(crate) number: PhoneNumber,
    /// What the server publishes of it.
    pub(crate) bundle: Bundle,
    pub(crate) identity: IdentityKeys,
    /// Whether somebody is about to look into its mailbox.
    pub(crate) called: AtomicBool,
    phone: Mutex<Phone>,
}

impl Handset {
    pub(crate) fn new(
        number: PhoneNumber,
        secrets: &Secrets,
        sessions: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Arc<Self>, PhoneError> {
        let phone = Phone::restore(secrets, sessions)?;
        Ok(Arc::new(Self {
            number,
            bundle: phone.bundle(),
            identity: IdentityKeys::of(secrets)?,
            called: AtomicBool::new(false),
            phone: Mutex::new(phone),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Phone> {
        self.phone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is saved of a business account.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    pub(crate) phone: PhoneNumber,
    pub(crate) name: String,
    pub(crate) lid_migrated: bool,
    pub(crate) raw_id: u32,
    pub(crate) next_device: u16,
    pub(crate) secrets: Secrets,
    /// Every device that is linked has to prove that its owner has it.
    #[serde(default)]
    pub(crate) passkey: Option<Passkey>,
}

pub(crate) struct Account {
    pub(crate) record: AccountRecord,
    pub(crate) handset: Arc<Handset>,
    pub(crate) mailbox: Mailbox,
    pub(crate) devices: BTreeMap<u16, Device>,
    /// What its devices have written to the own number, as its phone has read it; not saved.
    pub(crate) notes: Vec<String>,
}

impl Account {
    /// An account without devices.
    pub(crate) fn new(record: AccountRecord) -> Result<Self, PhoneError> {
        Ok(Self {
            handset: Handset::new(record.phone.clone(), &record.secrets, [])?,
            mailbox: Mailbox::default(),
            devices: BTreeMap::new(),
            notes: Vec::new(),
            record,
        })
    }
}

/// What is saved of a linked device, besides its queue and one-time keys.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceRecord {
    pub(crate) id: u16,
    pub(crate) noise: Key32,
    pub(crate) identity: Key32,
    pub(crate) registration_id: u32,
    pub(crate) signed: SignedPreKey,
    /// The signed device identity, as it goes into prekey bundles.
    pub(crate) adv: Blob,
    pub(crate) keys_uploaded: bool,
    pub(crate) keys_shared: bool,
    pub(crate) linked_at: String,
}

pub(crate) struct Device {
    pub(crate) record: DeviceRecord,
    pub(crate) one_time: VecDeque<OneTimePreKey>,
    pub(crate) queue: Queue,
    pub(crate) online: Option<ConnectionId>,
    /// Whether the connection has asked for what waits.
    pub(crate) active: bool,
    /// What the present connection has said of its presence, in order.
    pub(crate) presence: Vec<String>,
}

impl Device {
    pub(crate) fn new(record: DeviceRecord) -> Self {
        Self {
            record,
            one_time: VecDeque::new(),
            queue: Queue::default(),
            online: None,
            active: false,
            presence: Vec::new(),
        }
    }
}

/// What is saved of a customer.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CustomerRecord {
    pub(crate) phone: PhoneNumber,
    pub(crate) name: String,
    pub(crate) addressing: Addressing,
    pub(crate) read_receipts: bool,
    pub(crate) secrets: Secrets,
}

pub(crate) struct Customer {
    pub(crate) record: CustomerRecord,
    pub(crate) handset: Arc<Handset>,
    pub(crate) mailbox: Mailbox,
    pub(crate) inbox: Inbox,
    pub(crate) sent: SentMessages,
    /// Who types to this customer, and since when.
    pub(crate) typing: BTreeMap<PhoneNumber, Typing>,
    /// All that accounts have said of it, in order.
    pub(crate) typed: Vec<Typed>,
    /// Signalled when something new is in the inbox.
    pub(crate) arrived: Arc<Notify>,
}

impl Customer {
    /// A customer who has written and received nothing.
    pub(crate) fn new(record: CustomerRecord) -> Result<Self, PhoneError> {
        Ok(Self {
            handset: Handset::new(record.phone.clone(), &record.secrets, [])?,
            mailbox: Mailbox::default(),
            inbox: Inbox::default(),
            sent: SentMessages::default(),
            typing: BTreeMap::new(),
            typed: Vec::new(),
            arrived: Arc::new(Notify::new()),
            record,
        })
    }
}

/// Somebody's typing state.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Typing {
    pub(crate) state: String,
    pub(crate) at: String,
}

/// Somebody began or stopped to type.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Typed {
    pub(crate) from: PhoneNumber,
    pub(crate) state: String,
    pub(crate) at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// What waits for a simulated phone.
#[derive(Default)]
pub(crate) struct Mailbox {
    pub(crate) waiting: VecDeque<Mail>,
    last: u64,
}

impl Mailbox {
    pub(crate) fn push(&mut self, from: PhoneNumber, device: u16, id: String, body: MailBody) -> Mail {
        self.last += 1;
        let mail = Mail { seq: self.last, from, device, id, body };
        self.waiting.push_back(mail.clone());
        mail
    }

    pub(crate) fn restore(&mut self, mail: Mail) {
        self.last = self.last.max(mail.seq);
        self.waiting.push_back(mail);
    }
}

/// Something for a simulated phone to work on.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Mail {
    pub(crate) seq: u64,
    pub(crate) from: PhoneNumber,
    pub(crate) device: u16,
    pub(crate) id: String,
    pub(crate) body: MailBody,
}

/// An encrypted part of a message.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) enc: String,
    pub(crate) bytes: Blob,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MailBody {
    /// An encrypted message.
    Message { enc: String, bytes: Blob },
    /// A message in a group: the key, or the whole message for this phone alone; and the one for everybody.
    Group { group: String, keys: Option<Part>, content: Option<Part> },
    /// A request to send a message again, and the keys that came with it.
    Retry { keys: Option<Bundle> },
}

/// One received message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InboxEntry {
    /// Counts what can be read, in the order in which it could.
    pub(crate) seq: u64,
    /// Where it stands in the chat: in the order of coming. A message that could not be decrypted keeps its
    /// place until its sender has encrypted it anew, as on a phone ("Waiting for this message").
    #[serde(default)]
    pub(crate) place: u64,
    pub(crate) id: String,
    pub(crate) from: PhoneNumber,
    pub(crate) kind: String,
    pub(crate) text: String,
    /// When the first copy came.
    pub(crate) at: String,
    /// How many copies came.
    pub(crate) copies: u64,
    /// When the latest copy came.
    pub(crate) last_at: String,
    /// Copies whose kind or text was not that of the first.
    #[serde(default)]
    pub(crate) altered: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) choices: Vec<Choice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<String>,
    /// The disappearing timer that it carries, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_s: Option<u32>,
    #[serde(default, flatten)]
    pub(crate) more: More,
}

/// The messages a customer received, one entry for an id.
#[derive(Default)]
pub(crate) struct Inbox {
    entries: Vec<InboxEntry>,
    index: HashMap<(PhoneNumber, String), usize>,
    /// The last place that was given away.
    last_place: u64,
    /// The places of those that came and cannot be read yet.
    waited_for: HashMap<(PhoneNumber, String), u64>,
}

impl Inbox {
    /// Keeps a place for a message that came and cannot be read yet.
    pub(crate) fn wait_for(&mut self, from: &PhoneNumber, id: &str) {
        let key = (from.clone(), id.to_owned());
        if !self.index.contains_key(&key) {
            self.waited_for.entry(key).or_insert_with(|| {
                self.last_place += 1;
                self.last_place
            });
        }
    }

    /// Notes a message, and says whether it is the first copy.
    pub(crate) fn receive(&mut self, from: &PhoneNumber, id: &str, reading: Reading) -> (InboxEntry, bool) {
        let now = rfc3339_now();
        let key = (from.clone(), id.to_owned());
        if let Some(entry) = self.index.get(&key).and_then(|i| self.entries.get_mut(*i)) {
            entry.copies += 1;
            entry.last_at = now;
            let same = entry.kind == reading.kind && entry.text == reading.text;
            let same = same && entry.more.file == reading.more.file;
            if !same || entry.more.secret != reading.more.secret {
                entry.altered += 1;
            }
            return (entry.clone(), false);
        }
        let place = self.waited_for.remove(&key).unwrap_or(self.last_place + 1);
        let entry = InboxEntry {
            place,
            seq: self.entries.last().map_or(1, |last| last.seq + 1),
            id: id.to_owned(),
            from: from.clone(),
            kind: reading.kind.to_owned(),
            text: reading.text,
            at: now.clone(),
            copies: 1,
            last_at: now,
            altered: 0,
            choices: reading.choices,
            about: reading.about,
            expires_s: reading.expires_s,
            more: reading.more,
        };
        self.restore(entry.clone());
        (entry, true)
    }

    pub(crate) fn restore(&mut self, entry: InboxEntry) {
        let key = (entry.from.clone(), entry.id.clone());
        self.last_place = self.last_place.max(entry.place);
        self.index.insert(key, self.entries.len());
        self.entries.push(entry);
    }

    /// The entries with a greater sequence number.
    pub(crate) fn since(&self, seq: u64) -> &[InboxEntry] {
        let start = self.entries.partition_point(|entry| entry.seq <= seq);
        &self.entries[start..]
    }

    /// The message with this id.
    pub(crate) fn get(&self, from: &PhoneNumber, id: &str) -> Option<&InboxEntry> {
        let index = self.index.get(&(from.clone(), id.to_owned()))?;
        self.entries.get(*index)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// How far a customer's message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// WhatsApp has it.
    Sent,
    /// A device of the business has it.
    Delivered,
    /// The business has read it.
    Read,
}

/// A message a customer wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) n: u64,
    pub(crate) id: String,
    pub(crate) to: PhoneNumber,
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) status: Status,
    /// Seconds since the epoch that the message carries.
    pub(crate) at: u64,
    /// When the status last changed.
    pub(crate) status_at: String,
    /// How often the customer sent it.
    pub(crate) copies: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<String>,
    #[serde(default)]
    pub(crate) shape: Shape,
}

/// The messages a customer wrote, one entry for an id.
#[derive(Default)]
pub(crate) struct SentMessages {
    entries: Vec<Sent>,
    index: HashMap<String, usize>,
}

impl SentMessages {
    pub(crate) fn get(&self, id: &str) -> Option<&Sent> {
        self.entries.get(*self.index.get(id)?)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Sent> {
        self.entries.get_mut(*self.index.get(id)?)
    }

    /// Puts an entry in, with the next number.
    pub(crate) fn add(&mut self, mut sent: Sent) -> Sent {
        sent.n = self.entries.last().map_or(1, |last| last.n + 1);
        self.restore(sent.clone());
        sent
    }

    pub(crate) fn restore(&mut self, sent: Sent) {
        self.index.insert(sent.id.clone(), self.entries.len());
        self.entries.push(sent);
    }

    pub(crate) fn all(&self) -> &[Sent] {
        &self.entries
    }

    /// Raises a message's status; returns it if that changed anything.
    pub(crate) fn advance(&mut self, id: &str, status: Status) -> Option<Sent> {
        let sent = self.get_mut(id)?;
        if sent.status >= status {
            return None;
        }
        sent.status = status;
        sent.status_at = rfc3339_now();
        Some(sent.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Reading {
        Reading { kind: "text", text: text.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_message_that_could_not_be_read_keeps_its_place() -> Result<(), crate::ids::PhoneNumberError> {
        let from = "5491111".parse()?;
        let mut inbox = Inbox::default();
        inbox.wait_for(&from, "A");
        assert!(inbox.since(0).is_empty(), "nobody can read it");
        inbox.receive(&from, "B", reading("dos"));
        inbox.wait_for(&from, "A");
        inbox.receive(&from, "A", reading("uno"));
        inbox.receive(&from, "C", reading("tres"));
        let places: Vec<_> = inbox.since(0).iter().map(|e| (e.id.as_str(), e.place)).collect();
        assert_eq!(places, [("B", 2), ("A", 1), ("C", 3)]);
        Ok(())
    }

    #[test]
    fn a_repeated_id_is_one_entry_with_copies() -> Result<(), crate::ids::PhoneNumberError> {
        let (one, two) = ("5491111".parse()?, "5492222".parse()?);
        let mut inbox = Inbox::default();
        assert!(inbox.receive(&one, "A", reading("hola")).1);
        assert!(!inbox.receive(&one, "A", reading("hola")).1);
        assert!(!inbox.receive(&one, "A", reading("otra cosa")).1);
        assert!(inbox.receive(&one, "B", reading("chau")).1);
        assert!(inbox.receive(&two, "A", reading("hola")).1);
        let copies: Vec<_> = inbox.since(0).iter().map(|e| (e.seq, e.copies)).collect();
        assert_eq!(copies, [(1, 3), (2, 1), (3, 1)]);
        assert_eq!(inbox.since(0)[0].text, "hola");
        assert_eq!(inbox.since(0)[0].altered, 1);
        assert_eq!(inbox.since(1).len(), 2);
        assert!(inbox.since(3).is_empty());
        Ok(())
    }

    #[test]
    fn a_status_only_rises() -> Result<(), crate::ids::PhoneNumberError> {
        let mut sent = SentMessages::default();
        sent.add(Sent {
            n: 0,
            id: "A".to_owned(),
            to: "5491111".parse()?,
            kind: Kind::Text,
            text: String::new(),
            status: Status::Sent,
            at: 0,
            status_at: String::new(),
            copies: 1,
            about: None,
            shape: Shape::default(),
        });
        assert!(sent.advance("A", Status::Read).is_some());
        assert!(sent.advance("A", Status::Delivered).is_none());
        assert!(sent.advance("B", Status::Read).is_none());
        assert_eq!(sent.get("A").map(|s| s.status), Some(Status::Read));
        Ok(())
    }
}
