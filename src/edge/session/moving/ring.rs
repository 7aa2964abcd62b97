//! The ring with a session, or for one. Nobody else writes it: it is taken over, and the lease is held.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::bytes::Bytes;

use super::MoveError;
use super::marker::{Here, Marker};
use super::rows::Rows;
use crate::edge::journal::{Change, Journal, LoadError, Owner};
use crate::wire::Account;

/// The key of a marker. No key of a session begins with it.
const MARKER: &[u8] = b"m";
/// How many bytes go into one commit.
const COMMIT: usize = 8 << 20;
/// How long a replica may be behind what was written.
const BEHIND: Duration = Duration::from_secs(20);
/// The pause before it is read again.
const AGAIN: Duration = Duration::from_millis(500);

/// What a marker on the bus says, if there is one.
pub(in crate::edge::session) fn says<'a>(
    account: &Account,
    value: impl Fn(&[u8]) -> Option<&'a Bytes>,
) -> Option<String> {
    Some(Marker::decode(value(MARKER)?).says(account, Here::Bus))
}

/// An account's ring.
pub(super) struct Ring<'a> {
    journal: Journal,
    owner: Owner,
    stop: &'a CancellationToken,
}

impl<'a> Ring<'a> {
    /// Takes it over. `stop`: the lease is lost.
    pub(super) async fn take(journal: Journal, stop: &'a CancellationToken) -> Result<Self, MoveError> {
        let owner = Owner::take(journal.clone(), stop).await?;
        Ok(Self { journal, owner, stop })
    }

    /// What is there: the marker, the session, and when something was written last. Nothing is taken over for it.
    pub(super) async fn look(journal: &Journal) -> Result<(Option<Marker>, Option<Rows>, i64), MoveError> {
        let Some(loaded) = journal.load().await? else { return Ok((None, None, 0)) };
        let all = owned(loaded.image());
        let marker = all.iter().find(|(key, _)| key == MARKER).map(|(_, value)| Marker::decode(value));
        let rows = Some(Rows::of(all)).filter(|rows| rows.linked().is_some());
        Ok((marker, rows, loaded.stored_at_ms))
    }

    /// Its marker.
    pub(super) fn marker(&self) -> Option<Marker> {
        Some(Marker::decode(self.owner.value(MARKER)?))
    }

    /// What a marker on it says.
    pub(super) fn says(&self, marker: &Marker) -> String {
        marker.says(&self.journal.place().account, Here::Bus)
    }

    /// All that is there, beside the marker.
    pub(super) fn all(&self) -> Rows {
        Rows::of(self.owner.image().map(|(key, value)| (key.clone(), value.clone())))
    }

    /// The session. `None`: there is none, or no number is linked.
    pub(super) fn rows(&self) -> Option<Rows> {
        Some(self.all()).filter(|rows| rows.linked().is_some())
    }

    async fn commit(&mut self, changes: Vec<Change>) -> Result<(), MoveError> {
        Ok(self.owner.commit(changes, self.stop).await?)
    }

    /// The marker is there. No edge begins with what is here any more.
    pub(super) async fn mark(&mut self, marker: &Marker) -> Result<(), MoveError> {
        self.commit(vec![Change::set(MARKER.to_vec(), marker.encode())]).await
    }

    /// Takes away what was there, with the marker in the same commit.
    pub(super) async fn begin(&mut self, marker: &Marker) -> Result<(), MoveError> {
        let mut changes = self.deletions();
        changes.push(Change::set(MARKER.to_vec(), marker.encode()));
        self.commit(changes).await
    }

    /// Writes these rows where nothing is but a marker, and reads them back.
    pub(super) async fn stage(&mut self, rows: &Rows) -> Result<(), MoveError> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for (key, value) in rows.iter() {
            bytes += key.len() + value.len();
            changes.push(Change::set(key.clone(), value.clone()));
            if bytes >= COMMIT {
                self.commit(std::mem::take(&mut changes)).await?;
                bytes = 0;
            }
        }
        self.commit(changes).await?;
        let began = Instant::now();
        loop {
            let there = self.journal.load().await;
            let read = there.map(|there| there.map(|there| Rows::of(owned(there.image()))));
            match read {
                Ok(Some(read)) if read == *rows => return Ok(()),
                read if began.elapsed() >= BEHIND => {
                    read?;
                    return Err(MoveError::NotWhole);
                }
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// An edge may begin.
    pub(super) async fn open(&mut self) -> Result<(), MoveError> {
        self.commit(vec![Change::delete(MARKER.to_vec())]).await
    }

    /// Takes away all but the marker.
    pub(super) async fn clear(&mut self) -> Result<(), MoveError> {
        let changes = self.deletions();
        self.commit(changes).await
    }

    fn deletions(&self) -> Vec<Change> {
        let keys: BTreeSet<Bytes> = self.owner.image().map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter(|key| key != MARKER).map(Change::delete).collect()
    }

    /// Writes every record anew, with the key that encrypts now. Returns how many there are.
    pub(super) async fn rewrite(&mut self, mut told: impl FnMut(u64, u64)) -> Result<u64, MoveError> {
        let mut records = 0;
        let count = |done, of| {
            records = of;
            told(done, of);
        };
        self.owner.go_round(self.stop, count).await?;
        Ok(records)
    }

    /// Reads it as an edge would that has this journal's keys only.
    pub(super) async fn can_be_read_with(&self, journal: Journal) -> Result<(), MoveError> {
        let (began, want) = (Instant::now(), self.all());
        loop {
            match journal.load().await {
                Ok(Some(there)) if Rows::of(owned(there.image())) == want => return Ok(()),
                // A replica may be behind.
                Ok(_) | Err(LoadError::Unreadable { .. } | LoadError::Holes(_))
                    if began.elapsed() < BEHIND =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(_) => return Err(MoveError::NotWhole),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn journal(&self) -> Journal {
        self.journal.clone()
    }
}

fn owned<'a>(image: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Vec<(Bytes, Bytes)> {
    image.map(|(key, value)| (key.clone(), value.clone())).collect()
}
