//! Whoever has taken an account over, and commits to its journal until somebody else takes it over.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::Change;
use super::record::{OwnerId, Record};
use super::ring::{Ring, TooLarge};
use super::slots::{Journal, LoadError, Outcome};
use super::together::Ended;
use crate::bus::ReadError;
use crate::crash;

/// How often a take-over is tried. Each time somebody else has committed in between: it is alive, and quicker.
const TRIES: usize = 1_000;

/// Why nothing is committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else has taken the account over. This one never writes again.
    #[error("another edge has taken the session over")]
    Fenced,
    /// This one has lost the account before, or does not know how its last commit ended.
    #[error("the session's journal is closed")]
    Ended,
    /// The process stops. Whether it was stored is not known.
    #[error("stopped")]
    Stopped,
    /// It is too large. Nothing is stored, and others may be.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// nats-server does not take it. Nothing is stored, and others may be.
    #[error("nats-server does not take it: {0}")]
    Impossible(String),
    /// The stream was removed, and perhaps made anew.
    #[error("the session is gone from the bus: its stream was removed")]
    Gone,
    /// The bus does not answer this user.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// There is no randomness, or no key.
    #[error("the session cannot be encrypted")]
    NotSealed,
}

impl From<Ended> for CommitError {
    fn from(Ended: Ended) -> Self {
        Self::Ended
    }
}

/// Why an account is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// What there is cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Another edge is at work.
    #[error("another edge goes on writing the session")]
    Busy,
    /// There must be one, and there is none.
    #[error(
        "the session of this linked number is gone from the bus: the stream {0} was removed, or made anew, without what was in \
         it. An old copy of the stream is of no use: its keys were used since. To link the number anew, remove what its lease \
         says of it (the account's key in the bucket of leases, `nats kv del WA_LEASES <account>`); nobody is shown a QR code before"
    )]
    Gone(String),
}

/// The one that may write. Others may believe the same of themselves; all but one of them are refused.
#[derive(Debug)]
pub struct Owner {
    journal: Journal,
    id: OwnerId,
    ring: Ring,
    /// Nothing is written any more.
    is_over: bool,
    was_there: bool,
    lost: CancellationToken,
}

impl Owner {
    /// Takes the account over. Who had it before is refused from now on.
    pub async fn take(journal: Journal, stop: &CancellationToken) -> Result<Self, TakeError> {
        Self::take_known(journal, false, &|| true, stop).await
    }

    /// The same. If there `must_be` a session and there is none, nothing is begun. And nothing is taken from its owner when it
    /// `may` not be any more: reading takes a while, in which a process may have been frozen.
    pub async fn take_known(
        journal: Journal,
        must_be: bool,
        may: &(dyn Fn() -> bool + Sync),
        stop: &CancellationToken,
    ) -> Result<Self, TakeError> {
        let mut id = OwnerId::default();
        getrandom::fill(&mut id).map_err(|_| CommitError::NotSealed)?;
        let ring = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(CommitError::Stopped.into()),
            ring = journal.ring() => ring?,
        };
        if must_be && ring.last() == 0 {
            return Err(TakeError::Gone(journal.place().stream.clone()));
        }
        crash::point("session.before-fence");
        let lost = CancellationToken::new();
        let mut owner = Self { journal, id, ring, is_over: false, was_there: false, lost };
        for _ in 0..TRIES {
            // Accepted, it proves that nothing was stored after what was read.
            for record in owner.ring.plan(id, Vec::new()).map_err(CommitError::TooLarge)? {
                owner.was_there = owner.ring.last() > 0;
                if !may() && !crash::switched_off("lease-asleep") {
                    return Err(CommitError::Stopped.into());
                }
                if owner.step(record, stop).await? {
                    crash::point("session.after-fence");
                    return Ok(owner);
                }
            }
            owner.journal.read_on(&mut owner.ring).await?;
        }
        Err(TakeError::Busy)
    }

    /// Was there a session before, even an empty one?
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// All keys and their values, in no order.
    pub fn image(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.ring.image()
    }

    /// The value of a key.
    pub fn value(&self, key: &[u8]) -> Option<&Bytes> {
        self.ring.value(key)
    }

    /// How many bytes are live.
    pub fn bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// How many records there have been.
    pub fn commits(&self) -> u64 {
        self.ring.last()
    }

    /// Does it write nothing any more?
    pub fn has_ended(&self) -> bool {
        self.is_over
    }

    /// Cancelled when somebody else has taken the account over.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Stores all changes, or none of them; of several for one key the last one counts. When it returns `Ok`, they are
    /// on the bus, and nobody has taken the account over before.
    ///
    /// If the wait is given up, it is not known whether they are stored: then this owner has ended.
    pub async fn commit(
        &mut self,
        changes: Vec<Change>,
        stop: &CancellationToken,
    ) -> Result<(), CommitError> {
        if changes.is_empty() && !self.is_over {
            return Ok(());
        }
        self.store(changes, stop).await
    }

    /// Stores a record without a change. When it returns `Ok`, nobody had taken the account over.
    pub async fn prove(&mut self, stop: &CancellationToken) -> Result<(), CommitError> {
        self.store(Vec::new(), stop).await
    }

    async fn store(&mut self, changes: Vec<Change>, stop: &CancellationToken) -> Result<(), CommitError> {
        if self.is_over {
            return Err(CommitError::Ended);
        }
        let records = self.ring.plan(self.id, changes)?;
        // Until it is known how it ended.
        self.is_over = true;
        for record in records {
            match self.step(record, stop).await {
                Ok(true) => {}
                Ok(false) => {
                    self.lost.cancel();
                    return Err(CommitError::Fenced);
                }
                Err(CommitError::Impossible(why)) => {
                    // It is not stored. If it is not the first record, those before it never count.
                    self.is_over = false;
                    return Err(CommitError::Impossible(why));
                }
                Err(error) => return Err(error),
            }
        }
        self.is_over = false;
        Ok(())
    }

    /// Goes round once: every record is written anew, with the key that encrypts now, and nothing changes. `told` hears
    /// how many records are written, of how many.
    ///
    /// If the wait is given up, this owner has ended, and what is live is as it was.
    pub async fn go_round(
        &mut self,
        stop: &CancellationToken,
        mut told: impl FnMut(u64, u64),
    ) -> Result<(), CommitError> {
        if self.is_over {
            return Err(CommitError::Ended);
        }
        self.is_over = true;
        let slots = self.ring.slots();
        for done in 1..=slots {
            for record in self.ring.plan(self.id, Vec::new())? {
                if !self.step(record, stop).await? {
                    self.lost.cancel();
                    return Err(CommitError::Fenced);
                }
            }
            told(done, slots);
        }
        self.is_over = false;
        Ok(())
    }

    /// Returns whether the record is stored, and not somebody else's.
    async fn step(&mut self, record: Record, stop: &CancellationToken) -> Result<bool, CommitError> {
        match self.journal.store(&self.ring, &record, stop).await? {
            Outcome::Taken => Ok(false),
            // A record that was planned from the ring follows it.
            Outcome::Stored(sequence) => match self.ring.follow(record, sequence) {
                Ok(()) => Ok(true),
                Err(_) => Err(CommitError::Ended),
            },
        }
    }
}
