//! A session's journal on the bus: what an edge without a disk has instead of a file.
//!
//! An account is a log of commits, each one message in a ring of subjects (`wa.session.<account>.<slot>`). A commit is
//! stored with a compare-and-set on its slot. So slot n+1 can be won once, and whoever has lost it has lost the account:
//! the slot is the fence. A record carries along what is still live in the slot that it takes, so coming round loses
//! nothing, and the ring holds about twice what is live.
//!
//! `ring` decides which record goes where and what is live afterwards; `lap` says whether what was read is all of it.
//! Both are pure. `record` is the form of a record, `seal` encrypts it with the `key`s of the operator. `slots` reads and
//! writes slots on the bus; `owner` takes an account over and commits. `together` merges calls that wait into one commit.
//! `apart` encrypts what is kept outside of a ring.
//! May import: `bus`, `crash`, `task`, `telemetry`, `wire`. Knows nothing of WhatsApp: keys and values are bytes.

mod apart;
mod key;
mod lap;
mod owner;
mod record;
mod ring;
mod seal;
mod slots;
mod together;

use bytes::Bytes;

pub use apart::{open_apart, seal_apart};
pub use key::{BadKey, SessionKeys};
pub use owner::{CommitError, Owner, TakeError};
pub use record::record_again;
pub use ring::{Size, TooLarge};
pub use seal::{Unreadable, opens};
pub use slots::{Journal, LoadError, Loaded, Place};
pub use together::{Changes, Ended, Together};

/// How many bytes a key may have.
pub const KEY_MOST: usize = 4 * 1_024;
/// How many bytes a value may have. With what its record carries along and deletes it has to fit into one message;
/// nats-server takes 1 MiB unless it is told otherwise.
pub const VALUE_MOST: usize = 512 * 1_024;

/// A key gets a value, or has none any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is called.
    pub key: Bytes,
    /// `None`: it is deleted.
    pub value: Option<Bytes>,
}

impl Change {
    /// The key gets this value.
    pub fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// The key has no value any more.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// Keys hold phone numbers, and values hold secrets.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.value.as_ref().map(Bytes::len);
        f.debug_struct("Change").field("key_bytes", &self.key.len()).field("value_bytes", &value).finish()
    }
}
