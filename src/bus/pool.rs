//! What the bus says of a pool of edges: which accounts there are, and who has the lease of each.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::takeover::ChangeError;
use super::{AppendError, Bus, ReadError, Record, Stored};
use crate::wire::pool::Entry;
use crate::wire::{Account, Headers, Subjects, header};

/// So many accounts there are at most: one answer of nats-server has the last message of 1,024 subjects, and no more.
pub const ACCOUNTS_MOST: usize = 1_000;
/// What a key-value client writes in place of a value that it deletes.
const OPERATION: &str = "KV-Operation";

/// What the bucket says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its sequence in the bucket.
    pub sequence: u64,
    /// `None`: somebody has written what cannot be read.
    pub entry: Option<Entry>,
}

/// An account's lease, as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredLease {
    /// Its sequence in the bucket; 0: there was never one.
    pub revision: u64,
    /// The edge that holds it. Empty: none.
    pub holder: String,
}

/// What becomes of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This is in the bucket from now on.
    Set(Entry),
    /// It is none of the pool's any more.
    Remove,
}

/// A key that was deleted is none.
fn read(stored: &Stored) -> Option<StoredEntry> {
    if stored.headers.get(OPERATION).is_some() {
        return None;
    }
    Some(StoredEntry { sequence: stored.sequence, entry: Entry::read(&stored.payload) })
}

impl Bus {
    /// All accounts of the pool.
    pub async fn accounts(&self, subjects: &Subjects) -> Result<BTreeMap<Account, StoredEntry>, ReadError> {
        let all = self.last_of_each(&subjects.stream_accounts(), &subjects.account_keys()).await?;
        let of = |stored: &Stored| Some((subjects.account_of(&stored.subject)?, read(stored)?));
        Ok(all.iter().filter_map(of).collect())
    }

    /// All leases.
    pub async fn leases(&self, subjects: &Subjects) -> Result<BTreeMap<Account, StoredLease>, ReadError> {
        let all = self.last_of_each(&subjects.stream_leases(), &subjects.leases()).await?;
        let of = |stored: &Stored| {
            let holder = String::from_utf8_lossy(&stored.payload).into_owned();
            Some((
                subjects.lease_account(&stored.subject)?,
                StoredLease { revision: stored.sequence, holder },
            ))
        };
        Ok(all.iter().filter_map(of).collect())
    }

    /// Stores what `next` makes of an account, which gets none if there is no such account. Returns what was there, and
    /// what is; as it was, if `next` returns none. Takes until it is known, or until `stop`.
    pub async fn change_account(
        &self,
        subjects: &Subjects,
        account: &Account,
        next: impl Fn(Option<&StoredEntry>) -> Option<Change>,
        stop: &CancellationToken,
    ) -> Result<(Option<StoredEntry>, Option<Change>), ChangeError> {
        let (stream, subject) = (subjects.stream_accounts(), subjects.account_key(account));
        loop {
            let last = self.last(&stream, &subject).await?;
            let before = last.as_ref().and_then(read);
            let Some(change) = next(before.as_ref()) else { return Ok((before, None)) };
            let sequence = last.map_or(0, |last| last.sequence);
            let mut headers = Headers::default();
            headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &sequence.to_string());
            let payload = match &change {
                Change::Set(entry) => entry.write().into(),
                Change::Remove => {
                    headers.set(OPERATION, "DEL");
                    Bytes::new()
                }
            };
            let record = Record { subject: subject.clone(), headers, payload };
            match self.append_until_known(&record, stop).await {
                Ok(stored) => {
                    if change == Change::Remove {
                        // The mark counts as an account for who reads all. It is gone, or it is there to no harm.
                        let _ = self.purge(&stream, &subject, stored.sequence).await;
                    }
                    return Ok((before, Some(change)));
                }
                // Somebody else was faster, or a follower is behind.
                Err(AppendError::Refused) => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
