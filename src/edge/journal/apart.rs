//! What is kept outside of a ring, encrypted as its records are.

use super::key::SessionKeys;
use super::seal::{self, Unreadable};
use crate::wire::Account;

/// No ring has such a slot. So nothing of a ring can be passed off as what is kept apart, and the other way round.
const SLOT: u64 = u64::MAX;

/// Encrypts it for this account. `None`: there is no randomness.
pub fn seal_apart(keys: &SessionKeys, account: &Account, bytes: Vec<u8>) -> Option<Vec<u8>> {
    seal::seal(keys, account.as_str(), SLOT, bytes).ok()
}

/// Decrypts what was encrypted for this account.
pub fn open_apart(keys: &SessionKeys, account: &Account, sealed: &[u8]) -> Result<Vec<u8>, Unreadable> {
    seal::open(keys, account.as_str(), SLOT, sealed)
}
