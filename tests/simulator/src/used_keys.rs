//! Which Signal keys have come to a phone. A key that comes a second time for something else was used twice: whoever
//! sent that has gone back in time. The phone itself only says that it cannot read it.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest as _, Sha256};
use wacore::libsignal::protocol::{ProtocolAddress, SenderKeyMessage, SignalMessage};

/// Older ones are forgotten.
const KEPT: usize = 4_096;

type Hash = [u8; 32];

/// What was encrypted with each key, as hashes. It does not survive a restart.
#[derive(Debug, Default)]
pub(crate) struct UsedKeys {
    seen: BTreeMap<Hash, Hash>,
    order: VecDeque<Hash>,
    twice: u64,
}

impl UsedKeys {
    /// A message of a session. Its key is a link of the chain of one ratchet key.
    pub(crate) fn see(&mut self, from: &ProtocolAddress, message: &SignalMessage) {
        let ratchet = message.sender_ratchet_key().serialize();
        let counter = message.counter().to_be_bytes();
        self.note(&[b"session", from.as_str().as_bytes(), &ratchet[..], &counter], message.serialized());
    }

    /// A message to a group. Its key is a link of the sender's chain.
    pub(crate) fn see_of_group(&mut self, group: &str, from: &ProtocolAddress, message: &SenderKeyMessage) {
        let (chain, iteration) = (message.chain_id().to_be_bytes(), message.iteration().to_be_bytes());
        let key = [b"group", group.as_bytes(), from.as_str().as_bytes(), &chain[..], &iteration];
        self.note(&key, message.serialized());
    }

    /// How many were used twice since the last call.
    pub(crate) fn take_twice(&mut self) -> u64 {
        std::mem::take(&mut self.twice)
    }

    fn note(&mut self, key: &[&[u8]], message: &[u8]) {
        let mut hash = Sha256::new();
        for part in key {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let (key, message): (Hash, Hash) = (hash.finalize().into(), Sha256::digest(message).into());
        match self.seen.get(&key) {
            // The very same again: it was sent again as it was.
            Some(before) if *before == message => {}
            Some(_) => self.twice += 1,
            None => {
                if self.order.len() == KEPT
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.seen.remove(&oldest);
                }
                self.order.push_back(key);
                self.seen.insert(key, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_used_twice_if_it_comes_again_for_something_else() {
        let mut keys = UsedKeys::default();
        keys.note(&[b"ana", b"1"], b"hola");
        keys.note(&[b"ana", b"2"], b"hola");
        keys.note(&[b"ana", b"1"], b"hola");
        assert_eq!(keys.take_twice(), 0, "the same again is a copy");
        keys.note(&[b"ana", b"1"], b"chau");
        assert_eq!((keys.take_twice(), keys.take_twice()), (1, 0));
        for number in 0..KEPT {
            keys.note(&[b"leo", &number.to_be_bytes()], b"hola");
        }
        assert_eq!((keys.seen.len(), keys.order.len()), (KEPT, KEPT));
    }
}
