//! What goes on beside messages and their answers: files, votes, and what other services want to have sent. What is left
//! of it behind, and which promises it breaks.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::{MediaState, ReceiptStatus};

use crate::services::Wanted;
use crate::support::{Entry, Received, Streams};

/// What was wanted, and what there is.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// What services asked for, by chat in the order of asking.
    pub wanted: Vec<Wanted>,
    /// What phones show of it, by number.
    pub shown: BTreeMap<String, Vec<Received>>,
    /// The files that were sent: the SHA-256 of each, by its message's id.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The SHA-256 of what is in the bucket, by key.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// The votes that were cast: by whom, on which poll, and for what. In the order of each voter.
    pub votes: Vec<Cast>,
    /// What the business has written in the group, as each of its members has it.
    pub groups: Vec<Vec<Received>>,
    /// The updates on the bus.
    pub updates: Vec<Entry>,
    /// The states of what was sent.
    pub receipts: Vec<Entry>,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    /// By whom.
    pub phone: String,
    /// The poll's WhatsApp id.
    pub poll: String,
    /// For what.
    pub picks: Vec<String>,
}

/// Some bytes of a file, the same for the same name.
pub fn bytes(name: &str) -> Vec<u8> {
    let seed = Sha256::digest(name);
    let length = 1_000 + usize::from(u16::from_be_bytes([seed[0], seed[1]]));
    seed.iter().copied().cycle().take(length).collect()
}

/// The SHA-256 of everything in the bucket.
pub async fn objects(streams: &Streams, keys: impl Iterator<Item = String>) -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let Ok(bucket) = streams.jetstream().get_object_store("WA_MEDIA").await else { return objects };
    for key in keys {
        let mut content = Vec::new();
        if let Ok(mut object) = bucket.get(&key).await
            && object.read_to_end(&mut content).await.is_ok()
        {
            objects.insert(key, Sha256::digest(&content).to_vec());
        }
    }
    objects
}

impl Beside {
    /// The keys of the files that the bus says are stored.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        self.updates.iter().filter_map(|entry| match entry.inbound().content {
            Some(Content::Media(result)) if result.state() == MediaState::Stored => Some(result.key),
            _ => None,
        })
    }

    /// Every broken promise.
    pub fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        self.each_file_is_there(&mut broken);
        self.each_vote_is_read(&mut broken);
        self.each_request_is_on_its_phone(&mut broken);
        self.each_request_has_its_state(&mut broken);
        self.each_member_has_the_same(&mut broken);
        broken
    }

    /// Whole, and told of once.
    fn each_file_is_there(&self, broken: &mut Vec<String>) {
        let mut told: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for entry in &self.updates {
            if let Some(Content::Media(result)) = entry.inbound().content {
                told.entry(result.target_message_id.clone()).or_default().push(result);
            }
        }
        for (id, sha256) in &self.files {
            match told.get(id).map(Vec::as_slice) {
                Some([result]) if result.state() == MediaState::Stored => {
                    if result.sha256 != *sha256 || self.objects.get(&result.key) != Some(sha256) {
                        broken.push(format!("{id}: its file is another one, or not in the bucket"));
                    }
                }
                Some([result]) => broken.push(format!("{id}: its file was given up on, {}", result.reason)),
                Some(several) => broken.push(format!("{id}: {} updates tell of its file", several.len())),
                None => broken.push(format!("{id}: nothing tells what became of its file")),
            }
        }
    }

    /// In the order of each voter, and once.
    fn each_vote_is_read(&self, broken: &mut Vec<String>) {
        let mut read: BTreeMap<String, Vec<Cast>> = BTreeMap::new();
        for entry in &self.updates {
            if let Some(Content::PollVote(vote)) = entry.inbound().content {
                let phone = entry.chat().to_owned();
                if !vote.decrypted {
                    broken.push(format!("{phone}: a vote that cannot be read: {}", vote.reason));
                }
                let cast = Cast { phone: phone.clone(), poll: vote.target_message_id, picks: vote.options };
                read.entry(phone).or_default().push(cast);
            }
        }
        let mut cast: BTreeMap<String, Vec<Cast>> = BTreeMap::new();
        for vote in &self.votes {
            cast.entry(vote.phone.clone()).or_default().push(vote.clone());
        }
        for phone in cast.keys().chain(read.keys().filter(|phone| !cast.contains_key(*phone))) {
            if cast.get(phone) != read.get(phone) {
                broken.push(format!(
                    "{phone}: voted {:?}, the bus has {:?}",
                    cast.get(phone),
                    read.get(phone)
                ));
            }
        }
    }

    /// Once, in the order of asking, and as it was asked for. Copies are allowed, as long as they are copies.
    fn each_request_is_on_its_phone(&self, broken: &mut Vec<String>) {
        let mut wanted: BTreeMap<&str, Vec<(&str, &str, &str)>> = BTreeMap::new();
        for one in &self.wanted {
            wanted.entry(&one.phone).or_default().push((&one.id, one.kind, &one.text));
        }
        for (phone, shown) in &self.shown {
            let altered = shown.iter().filter(|received| received.altered > 0);
            broken
                .extend(altered.map(|one| format!("{}: copies of one request say different things", one.id)));
            let images = shown.iter().filter(|one| one.kind == "image");
            let spoilt = images.filter(|one| one.more.get("file").is_none_or(|file| file["whole"] != true));
            broken.extend(spoilt.map(|one| format!("{}: its file cannot be opened", one.id)));
            let shown: Vec<_> =
                shown.iter().map(|one| (one.id.as_str(), one.kind.as_str(), one.text.as_str())).collect();
            let wanted = wanted.remove(phone.as_str()).unwrap_or_default();
            if shown != wanted {
                broken.push(format!("{phone}: services want it to show {wanted:?}, and it shows {shown:?}"));
            }
        }
        broken.extend(wanted.keys().map(|phone| format!("{phone}: nothing of what services asked for came")));
    }

    /// What one member reads, all read, in the same order. What that has to be is judged as in any chat.
    fn each_member_has_the_same(&self, broken: &mut Vec<String>) {
        let texts = |group: &Vec<Received>| -> Vec<(String, String)> {
            group.iter().map(|received| (received.id.clone(), received.text.clone())).collect()
        };
        let mut members = self.groups.iter().map(texts);
        let Some(first) = members.next() else { return };
        for other in members.filter(|other| *other != first) {
            broken.push(format!("members of the group read {first:?} and {other:?}"));
        }
    }

    /// WhatsApp has accepted it, and nothing says that it failed.
    fn each_request_has_its_state(&self, broken: &mut Vec<String>) {
        let mut states: BTreeMap<String, Vec<ReceiptStatus>> = BTreeMap::new();
        for receipt in self.receipts.iter().map(Entry::receipt) {
            states.entry(receipt.request_id.clone()).or_default().push(receipt.status());
        }
        for wanted in &self.wanted {
            let states = states.get(&wanted.request).map_or(&[][..], Vec::as_slice);
            let accepted = states.iter().filter(|status| **status == ReceiptStatus::Accepted).count();
            if accepted != 1 || states.contains(&ReceiptStatus::Failed) {
                broken.push(format!("{}: its states are {states:?}", wanted.request));
            }
        }
    }
}
