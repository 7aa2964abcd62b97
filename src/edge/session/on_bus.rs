//! A session on the bus, for as long as this edge has it.
//!
//! At the beginning of each term the session is taken over, and nobody else can write it from then on. If somebody
//! takes it over from this edge, the term is over at once: what comes after would be encrypted with keys that another
//! edge has used.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::home::LINKED;
use super::image::{Image, is_of_the_store, unreadable};
use super::lease::{LeaseTerm, Mark};
use super::{media, moving, polls};
use crate::bus::ReadError;
use crate::crash;
use crate::edge::journal::{
    Change, Changes, CommitError, Journal, KEY_MOST, LoadError, Owner, TakeError, Together, VALUE_MOST,
};

/// What the keys of small files begin with.
pub(super) const FILE: u8 = b'f';

/// An account's session on the bus.
#[derive(Debug)]
pub(crate) struct OnBus {
    journal: Journal,
    term: Mutex<Option<Term>>,
}

/// Why a session is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It cannot be.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// It has moved from the bus, or is on its way there.
    #[error("{0}")]
    Elsewhere(String),
    /// The lease may be another edge's by now, and the session with it.
    #[error("taking it over has taken longer than this edge's lease lasts")]
    Late,
}

impl NotTaken {
    /// Is it over by itself, when the bus answers again?
    pub(crate) fn may_pass(&self) -> bool {
        use TakeError::{Commit, Load};
        let Self::Take(Load(LoadError::Bus(error)) | Commit(CommitError::Bus(error))) = self else {
            return matches!(self, Self::Late);
        };
        matches!(error, ReadError::Unanswered(_))
    }

    /// Will it be so again, as long as nobody does something about it?
    pub(crate) fn is_unreadable(&self) -> bool {
        let unreadable =
            |error: &LoadError| matches!(error, LoadError::Unreadable { .. } | LoadError::Holes(_));
        match self {
            Self::Elsewhere(_) => true,
            Self::Take(TakeError::Load(error)) => unreadable(error),
            Self::Take(TakeError::Gone(_)) => true,
            Self::Take(_) | Self::Late => false,
        }
    }
}

#[derive(Debug)]
struct Term {
    owner: Owner,
    /// Cancelled when the session is lost, or the lease.
    over: CancellationToken,
    mark: Mark,
    lease: LeaseTerm,
}

impl OnBus {
    /// Nobody has it yet.
    pub(crate) fn new(journal: Journal) -> Arc<Self> {
        Arc::new(Self { journal, term: Mutex::default() })
    }

    /// Takes the session over. From now on nobody else writes it, until somebody takes it over from this edge: then
    /// `over` is cancelled.
    ///
    /// If the lease says that the number is linked, and there is no session, that is an error: somebody has removed the
    /// stream, and nobody is to be shown a QR code because of that.
    pub(crate) async fn take(
        &self,
        over: &CancellationToken,
        mark: &Mark,
        lease: &LeaseTerm,
    ) -> std::result::Result<(), NotTaken> {
        let mut term = self.term.lock().await;
        *term = None;
        let began = Instant::now();
        let may = || lease.holds();
        let taken = Owner::take_known(self.journal.clone(), mark.is_linked(), &may, over).await;
        let owner = taken.map_err(|error| if lease.holds() { error.into() } else { NotTaken::Late })?;
        if let Some(says) = moving::bus_says(&self.journal.place().account, |key| owner.value(key)) {
            return Err(NotTaken::Elsewhere(says));
        }
        if owner.was_there() {
            tracing::info!(
                bytes = owner.bytes(),
                commits = owner.commits(),
                ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                "the session is taken over from the bus"
            );
        } else {
            tracing::info!("there was never a session of this account on the bus; one begins");
        }
        mark.linked(is_linked(&owner));
        *term = Some(Term { owner, over: over.clone(), mark: mark.clone(), lease: lease.clone() });
        Ok(())
    }

    /// The term is over. The session is anybody's.
    pub(crate) async fn leave(&self) {
        *self.term.lock().await = None;
    }

    /// Is the term over? Whoever has ended it has said why.
    pub(super) fn is_over(&self) -> bool {
        let term = self.term.try_lock();
        term.is_ok_and(|term| term.as_ref().is_none_or(|term| term.over.is_cancelled()))
    }

    /// A store in memory with all of the session, and what makes its changes durable.
    pub(super) async fn open(self: &Arc<Self>) -> Result<(SqliteStore, Mirror)> {
        let rows = self.rows().await?;
        let known: BTreeSet<Bytes> = rows.iter().map(|(key, _)| key.clone()).collect();
        let (began, count) = (Instant::now(), rows.len());
        let image = Image::open(rows, |connection| {
            polls::make(connection)?;
            media::make(connection)
        })
        .await?;
        tracing::debug!(rows = count, ms = began.elapsed().as_millis(), "the session is in memory");
        let mut layouts = image.layouts();
        layouts.retain(|layout| !known.contains(&layout.key));
        self.commit(layouts).await?;
        let store = image.store().clone();
        Ok((store, Mirror::new(Arc::clone(self), image)))
    }

    async fn rows(&self) -> Result<Vec<(Bytes, Bytes)>> {
        let (over, mark, lease) = {
            let term = self.term.lock().await;
            let term = term.as_ref().ok_or_else(closed)?;
            if !term.owner.has_ended() {
                let image = term.owner.image().filter(|(key, _)| is_of_the_store(key));
                return Ok(image.map(|(key, value)| (key.clone(), value.clone())).collect());
            }
            (term.over.clone(), term.mark.clone(), term.lease.clone())
        };
        // The client before was given up in the middle of a commit. What became of it has to be read.
        self.take(&over, &mark, &lease).await.map_err(|error| unreadable(&error.to_string()))?;
        let term = self.term.lock().await;
        let image = term.as_ref().ok_or_else(closed)?.owner.image();
        let image = image.filter(|(key, _)| is_of_the_store(key));
        Ok(image.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Returns when the changes are on the bus, and nobody has taken the session over before.
    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() { Ok(()) } else { self.store(changes).await }
    }

    /// Returns when it is shown that nobody has taken the session over.
    async fn prove(&self) -> Result<()> {
        self.store(Vec::new()).await
    }

    async fn store(&self, changes: Vec<Change>) -> Result<()> {
        let mut term = self.term.lock().await;
        let Term { owner, over, .. } = term.as_mut().ok_or_else(closed)?;
        let committed = match changes.is_empty() {
            true => owner.prove(over).await,
            false => owner.commit(changes, over).await,
        };
        let error = match committed {
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

    /// The number is linked now, or it is not any more.
    pub(super) async fn linked(&self, linked: bool) {
        if let Some(term) = &*self.term.lock().await {
            term.mark.linked(linked);
        }
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

/// Is it the session of a number that is linked? One that is not has a device, and no ratchets.
fn is_linked(owner: &Owner) -> bool {
    owner.value(&file(LINKED)).is_some() || owner.image().any(|(key, _)| key.starts_with(b"tsessions\0"))
}

/// The key of a small file.
pub(super) fn file(name: &str) -> Vec<u8> {
    [&[FILE], name.as_bytes()].concat()
}

fn closed() -> StoreError {
    StoreError::Validation("the session's store is closed".to_owned())
}

/// Makes durable what has changed in a store in memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mirror(Arc<Together<Proof, StoreError>>);

/// It has to be shown that the session is still this edge's, whether anything has changed or not. What has changed is
/// found in the store.
pub(super) struct Proof;

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mirror").finish_non_exhaustive()
    }
}

impl Mirror {
    fn new(session: Arc<OnBus>, image: Image) -> Self {
        let failed = Arc::new(AtomicBool::new(false));
        Self(Arc::new(Together::with(move |calls: Changes<Proof>| {
            let proof = calls.iter().any(|call| !call.is_empty());
            let (session, image, failed) = (Arc::clone(&session), image.clone(), Arc::clone(&failed));
            async move {
                // What a failed commit had taken out of the store is not there any more for the next one.
                if failed.load(Ordering::Relaxed) {
                    return Err(closed());
                }
                let committed = async {
                    let changes = kept(image.changes().await?);
                    if changes.is_empty() && proof {
                        session.prove().await
                    } else {
                        session.commit(changes).await
                    }
                }
                .await;
                failed.store(committed.is_err(), Ordering::Relaxed);
                committed
            }
        })))
    }

    /// Returns when all that has changed until now is on the bus.
    pub(super) async fn settle(&self) -> Result<()> {
        if crash::switched_off("durable") {
            return Ok(());
        }
        self.0.written(Vec::new()).await
    }

    /// Returns when it is shown that nobody has taken the session over.
    pub(super) async fn prove(&self) -> Result<()> {
        self.0.written(vec![Proof]).await
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
