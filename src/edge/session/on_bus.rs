//! A session on the bus, for as long as this edge has it.
//!
//! At the beginning of each term the session is taken over, and nobody else can write it from then on. If somebody
//! takes it over from this edge, the term is over at once: what comes after would be encrypted with keys that another
//! edge has used.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::image::{Image, is_of_the_store, unreadable};
use super::{media, polls};
use crate::edge::journal::{Change, CommitError, Journal, KEY_MOST, Owner, TakeError, Together, VALUE_MOST};

/// What the keys of small files begin with.
const FILE: u8 = b'f';

/// An account's session on the bus.
#[derive(Debug)]
pub(crate) struct OnBus {
    journal: Journal,
    term: Mutex<Option<Term>>,
}

#[derive(Debug)]
struct Term {
    owner: Owner,
    /// Cancelled when the session is lost, or the lease.
    over: CancellationToken,
}

impl OnBus {
    /// Nobody has it yet.
    pub(crate) fn new(journal: Journal) -> Arc<Self> {
        Arc::new(Self { journal, term: Mutex::default() })
    }

    /// Takes the session over. From now on nobody else writes it, until somebody takes it over from this edge: then
    /// `over` is cancelled.
    pub(crate) async fn take(&self, over: &CancellationToken) -> std::result::Result<(), TakeError> {
        let mut term = self.term.lock().await;
        *term = None;
        let owner = Owner::take(self.journal.clone(), over).await?;
        if owner.was_there() {
            tracing::info!(
                bytes = owner.bytes(),
                commits = owner.commits(),
                "the session is taken over from the bus"
            );
        } else {
            tracing::info!("there was never a session of this account on the bus; one begins");
        }
        *term = Some(Term { owner, over: over.clone() });
        Ok(())
    }

    /// The term is over. The session is anybody's.
    pub(crate) async fn leave(&self) {
        *self.term.lock().await = None;
    }

    /// A store in memory with all of the session, and what makes its changes durable.
    pub(super) async fn open(self: &Arc<Self>) -> Result<(SqliteStore, Mirror)> {
        let rows = self.rows().await?;
        let known: BTreeSet<Bytes> = rows.iter().map(|(key, _)| key.clone()).collect();
        let image = Image::open(rows, |connection| {
            polls::make(connection)?;
            media::make(connection)
        })
        .await?;
        let mut layouts = image.layouts();
        layouts.retain(|layout| !known.contains(&layout.key));
        self.commit(layouts).await?;
        let store = image.store().clone();
        Ok((store, Mirror::new(Arc::clone(self), image)))
    }

    async fn rows(&self) -> Result<Vec<(Bytes, Bytes)>> {
        let over = {
            let term = self.term.lock().await;
            let term = term.as_ref().ok_or_else(closed)?;
            if !term.owner.has_ended() {
                let image = term.owner.image().filter(|(key, _)| is_of_the_store(key));
                return Ok(image.map(|(key, value)| (key.clone(), value.clone())).collect());
            }
            term.over.clone()
        };
        // The client before was given up in the middle of a commit. What became of it has to be read.
        self.take(&over).await.map_err(|error| unreadable(&error.to_string()))?;
        let term = self.term.lock().await;
        let image = term.as_ref().ok_or_else(closed)?.owner.image();
        let image = image.filter(|(key, _)| is_of_the_store(key));
        Ok(image.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Returns when the changes are on the bus, and nobody has taken the session over before.
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let mut term = self.term.lock().await;
        let Term { owner, over } = term.as_mut().ok_or_else(closed)?;
        let error = match owner.commit(changes, over).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match &error {
            CommitError::Fenced => {
                tracing::error!("another edge has taken the session over; disconnecting");
                over.cancel();
            }
            CommitError::TooLarge(_) | CommitError::Impossible(_) => {
                tracing::warn!(%error, "a change of the session is not kept on the bus");
            }
            CommitError::Ended | CommitError::Stopped => {}
            CommitError::Gone | CommitError::Bus(_) | CommitError::NotSealed => {
                tracing::error!(%error, "the session cannot be written; disconnecting");
                over.cancel();
            }
        }
        Err(StoreError::Validation(error.to_string()))
    }

    /// What would be a small file beside the store.
    pub(super) async fn read(&self, name: &str) -> Option<Vec<u8>> {
        let term = self.term.lock().await;
        term.as_ref()?.owner.value(&file(name)).map(|value| value.to_vec())
    }

    /// Writes it. When this returns, it is on the bus.
    pub(super) async fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let change = Change::set(file(name), text.to_vec());
        self.commit(vec![change]).await.map_err(io::Error::other)
    }

    /// Removes it.
    pub(super) async fn forget(&self, name: &str) -> io::Result<()> {
        let is_there = self.read(name).await.is_some();
        let changes = if is_there { vec![Change::delete(file(name))] } else { Vec::new() };
        self.commit(changes).await.map_err(io::Error::other)
    }

    /// Removes a dead session, so that the next start is a fresh one. WhatsApp no longer accepts its keys. What is
    /// beside it stays.
    pub(super) async fn clear(&self) -> Result<()> {
        let rows = self.rows().await?;
        self.commit(rows.into_iter().map(|(key, _)| Change::delete(key)).collect()).await
    }
}

/// What is kept on the bus. What is too long is taken away there, so that it keeps nothing else from being kept: a message
/// whose copy is missing after a kill is asked for again, and a session that is missing is made anew. If what was there
/// before stayed instead, keys of it would be used twice.
fn kept(mut changes: Vec<Change>) -> Vec<Change> {
    changes.retain_mut(|change| {
        let (key, value) = (change.key.len(), change.value.as_ref().map_or(0, Bytes::len));
        if key > KEY_MOST || value > VALUE_MOST {
            tracing::warn!(key, value, "a value of the session is too long to be kept on the bus");
            change.value = None;
        }
        // Nothing was ever kept under a longer one.
        key <= KEY_MOST
    });
    changes
}

fn file(name: &str) -> Vec<u8> {
    [&[FILE], name.as_bytes()].concat()
}

fn closed() -> StoreError {
    StoreError::Validation("the session's store is closed".to_owned())
}

/// Makes durable what has changed in a store in memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mirror(Arc<Together<Never, StoreError>>);

/// What has changed is found in the store.
pub(super) enum Never {}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mirror").finish_non_exhaustive()
    }
}

impl Mirror {
    fn new(session: Arc<OnBus>, image: Image) -> Self {
        let failed = Arc::new(AtomicBool::new(false));
        Self(Arc::new(Together::with(move |_calls| {
            let (session, image, failed) = (Arc::clone(&session), image.clone(), Arc::clone(&failed));
            async move {
                // What a failed commit had taken out of the store is not there any more for the next one.
                if failed.load(Ordering::Relaxed) {
                    return Err(closed());
                }
                let committed = async { session.commit(kept(image.changes().await?)).await }.await;
                failed.store(committed.is_err(), Ordering::Relaxed);
                committed
            }
        })))
    }

    /// Returns when all that has changed until now is on the bus.
    pub(super) async fn settle(&self) -> Result<()> {
        self.0.written(Vec::new()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_keeps_nothing_else_from_being_kept() {
        let long = |most: usize| vec![b'x'; most + 1];
        let changes = vec![
            Change::set("a message", long(VALUE_MOST)),
            Change::set(long(KEY_MOST), "1"),
            Change::set("a session", "2"),
            Change::delete("a pre-key"),
        ];
        let kept = kept(changes);
        let want = [Change::delete("a message"), Change::set("a session", "2"), Change::delete("a pre-key")];
        assert_eq!(kept, want);
    }
}
