//! The messages that are being stored at this moment. A reconnect redelivers messages while earlier hooks still
//! wait with them. One copy of each message is stored, and its other copies wait for the result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// (chat, sender, id): what makes a WhatsApp message id unique.
pub(super) type Key = (String, String, String);

/// The library bounds the size: only a limited number of hooks may wait at once. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<Key, watch::Receiver<bool>>>>);

impl UnderWay {
    /// The right to store a message. If another copy has this right, its result: was the message stored?
    pub(super) fn begin(&self, key: &Key) -> Result<Turn, watch::Receiver<bool>> {
        let mut all = self.all();
        if let Some(other) = all.get(key) {
            return Err(other.clone());
        }
        let (sender, receiver) = watch::channel(false);
        all.insert(key.clone(), receiver);
        Ok(Turn { under_way: self.clone(), key: key.clone(), sender })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to store one message. It is given up on drop, so that a waiting copy takes over.
#[derive(Debug)]
pub(super) struct Turn {
    under_way: UnderWay,
    key: Key,
    sender: watch::Sender<bool>,
}

impl Turn {
    /// Tells the waiting copies whether the message is stored.
    pub(super) fn end(self, stored: bool) {
        self.sender.send_replace(stored);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.all().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_two_copies_one_is_stored_and_the_other_hears_of_it() {
        let (under_way, key) = (UnderWay::default(), ("chat".into(), "sender".into(), "id".into()));
        let first = under_way.begin(&key).unwrap();
        let mut second = under_way.begin(&key).unwrap_err();
        first.end(true);
        assert!(*second.wait_for(|stored| *stored).await.unwrap());
        // A copy that comes later asks the bus, which has the message.
        assert!(under_way.begin(&key).is_ok());
    }

    #[tokio::test]
    async fn a_copy_whose_turn_ends_unstored_lets_the_other_take_over() {
        let (under_way, key) = (UnderWay::default(), ("chat".into(), "sender".into(), "id".into()));
        let first = under_way.begin(&key).unwrap();
        let mut second = under_way.begin(&key).unwrap_err();
        drop(first);
        assert!(second.wait_for(|stored| *stored).await.is_err());
        assert!(under_way.begin(&key).is_ok());
    }
}
