//! The one-time prekeys of a simulated phone. It publishes none, and makes one whenever it asks for a message with its
//! keys. Each opens one session.

use std::collections::{BTreeMap, BTreeSet};

use wacore::libsignal::protocol::{KeyPair, PreKeyId, PreKeyRecord, PreKeyStore, SignalProtocolError};

use crate::signal::PhoneError;

/// How they are named among a phone's sessions, so that all are saved together.
pub(crate) const PREFIX: &str = "prekey:";
/// How many wait for their use. The oldest goes.
const KEPT: usize = 256;

type Signal<T> = Result<T, SignalProtocolError>;

/// The keys that have not been used.
#[derive(Default)]
pub(crate) struct OwnPreKeys {
    records: BTreeMap<u32, PreKeyRecord>,
    dirty: BTreeSet<u32>,
    last: u32,
}

impl OwnPreKeys {
    /// Puts a saved one back.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> Result<(), PhoneError> {
        let record = PreKeyRecord::deserialize(bytes)?;
        let id = record.id()?.into();
        self.last = self.last.max(id);
        self.records.insert(id, record);
        Ok(())
    }

    /// Makes one: its id, and the key.
    pub(crate) fn make(&mut self) -> (u32, KeyPair) {
        // Ids have three bytes.
        self.last = self.last % 0xFF_FFFE + 1;
        let key = KeyPair::generate(&mut rand::rng());
        self.records.insert(self.last, PreKeyRecord::new(PreKeyId::from(self.last), &key));
        self.dirty.insert(self.last);
        if self.records.len() > KEPT
            && let Some((id, _)) = self.records.pop_first()
        {
            self.dirty.insert(id);
        }
        (self.last, key)
    }

    /// It has opened a session, and opens no other one.
    pub(crate) fn used(&mut self, id: PreKeyId) {
        self.records.remove(&id.into());
        self.dirty.insert(id.into());
    }

    /// What has changed since the last call: the name, and the record or `None` if it is gone.
    pub(crate) fn take_changes(&mut self) -> impl Iterator<Item = (String, Option<Vec<u8>>)> {
        std::mem::take(&mut self.dirty).into_iter().map(|id| {
            let bytes = self.records.get(&id).and_then(|record| record.serialize().ok());
            (format!("{PREFIX}{id}"), bytes)
        })
    }
}

#[async_trait::async_trait]
impl PreKeyStore for OwnPreKeys {
    async fn get_pre_key(&self, id: PreKeyId) -> Signal<PreKeyRecord> {
        self.records.get(&id.into()).cloned().ok_or(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, _id: PreKeyId, _record: &PreKeyRecord) -> Signal<()> {
        Ok(())
    }

    async fn remove_pre_key(&mut self, id: PreKeyId) -> Signal<()> {
        self.used(id);
        Ok(())
    }
}
