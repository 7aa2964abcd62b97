//! Counts the attempts at a message that ended with the death of a process.
//!
//! An attempt leaves a mark on the bus before it looks at the message. It removes the mark when it ends or has to
//! wait, so only a death leaves the mark there. JetStream's own count of deliveries is not enough, because it also
//! rises when a message is given back. A first delivery has no mark and costs nothing: if there is a second
//! delivery, the first one counts as a death.
//!
//! This is a safety net, and it must never block a message. If a mark cannot be read or written, the forwarder goes
//! on without it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::crash_loop::{self, Next};
use crate::bus::{AppendError, Bus, ReadError, Record};
use crate::crash;
use crate::wire::{Headers, Subjects, header};

/// How often the forwarder retries a mark that others change at the same moment.
const TRIES: usize = 5;
/// How long it may take to record the end of an attempt.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all turns of a process share.
#[derive(Debug)]
pub(super) struct Attempts {
    bus: Bus,
    subjects: Subjects,
    capacity: Arc<Semaphore>,
}

/// The attempts of one delivery, one after the other.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    shared: &'a Attempts,
    /// Where the mark is. A first delivery has none.
    subject: Option<String>,
    /// The mark as this attempt has left it, while it is set.
    up: Option<Mark>,
    /// How much capacity the message needs, as far as known.
    needs: u32,
    capacity: Option<OwnedSemaphorePermit>,
}

/// What the bus has for a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    /// The attempts that have begun and not ended.
    count: u32,
    /// The revision that the next compare-and-set must expect.
    revision: u64,
}

/// The result of beginning an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// Go on. The attempt counts until its end is recorded.
    Going,
    /// Wait for [`Attempt::capacity`] first, then check again.
    NeedsCapacity,
    /// Do not look at the message: it has killed too many processes.
    GiveUp {
        /// How many.
        deaths: u32,
    },
}

impl Attempts {
    /// No attempts so far.
    pub(super) fn new(bus: Bus, subjects: Subjects) -> Self {
        let capacity = Semaphore::new(usize::try_from(crash_loop::CAPACITY).unwrap_or(usize::MAX));
        Self { bus, subjects, capacity: Arc::new(capacity) }
    }

    /// The attempt at message `sequence` of this incarnation of `WA_IN`, delivered for the `delivered`th time.
    pub(super) fn of(&self, incarnation: &str, sequence: u64, delivered: u64) -> Attempt<'_> {
        let marked = delivered > 1 && !crash::switched_off("attempts");
        let subject = marked.then(|| self.subjects.attempts(incarnation, sequence));
        Attempt { shared: self, subject, up: None, needs: 0, capacity: None }
    }
}

impl Attempt<'_> {
    /// Begins the attempt, unless it has begun. Must be called before any code looks at the message's content.
    pub(super) async fn begin(&mut self) -> Begun {
        let Some(subject) = self.subject.clone().filter(|_| self.up.is_none()) else { return Begun::Going };
        match self.raise(&subject).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!(%error, "an attempt cannot be counted; going on without the count");
                Begun::Going
            }
        }
    }

    async fn raise(&mut self, subject: &str) -> Result<Begun, AppendError> {
        for _ in 0..TRIES {
            let mark = self.shared.read(subject).await.map_err(unknown)?;
            // The attempt of the first delivery has no mark.
            let deaths = mark.count.saturating_add(1);
            let next = crash_loop::next(deaths);
            if let Next::Try { capacity } = next
                && capacity > self.has()
            {
                self.needs = capacity;
                return Ok(Begun::NeedsCapacity);
            }
            // Written also before giving up: a count that was read from a lagging replica is refused here.
            match self.shared.write(subject, mark.revision, deaths).await {
                Ok(up) => self.up = Some(up),
                Err(AppendError::Refused) => continue,
                Err(error) => return Err(error),
            }
            return Ok(if next == Next::GiveUp { Begun::GiveUp { deaths } } else { Begun::Going });
        }
        Err(AppendError::Refused)
    }

    fn has(&self) -> u32 {
        self.capacity.as_ref().map_or(0, |capacity| u32::try_from(capacity.num_permits()).unwrap_or(u32::MAX))
    }

    /// Waits for the capacity that the message needs. Cancel-safe. A turn that waits here must hold nothing that
    /// other turns need.
    pub(super) async fn capacity(&mut self) {
        if self.has() < self.needs {
            // First releases what it has, if that is too little. Otherwise two turns could wait for each other's
            // capacity for ever.
            self.capacity = None;
            // This fails only when the semaphore is closed, and nothing closes it.
            self.capacity = Arc::clone(&self.shared.capacity).acquire_many_owned(self.needs).await.ok();
        }
    }

    /// Have so many processes died over it that it may be the cause?
    pub(super) fn is_suspect(&self) -> bool {
        self.needs > 0
    }

    /// The message has to wait for something. It is not to blame for a death in this time. It keeps its capacity.
    pub(super) async fn pause(&mut self) {
        self.lower(|count| count.saturating_sub(1)).await;
    }

    /// The attempt has ended, for now or for this delivery.
    pub(super) async fn leave(&mut self) {
        self.pause().await;
        self.capacity = None;
    }

    /// The message has its outcome, so none of its attempts counts any more.
    pub(super) async fn over(&mut self) {
        self.lower(|_| 0).await;
        self.capacity = None;
    }

    /// Does its best. A mark that stays counts one death too many.
    async fn lower(&mut self, to: impl Fn(u32) -> u32) {
        let (Some(subject), Some(mut mark)) = (&self.subject, self.up.take()) else { return };
        let lowered = async {
            for _ in 0..TRIES {
                match self.shared.write(subject, mark.revision, to(mark.count)).await {
                    Err(AppendError::Refused) => {}
                    result => return result.map(|_| ()),
                }
                // Another process has received the message in the meantime, and counts too.
                mark = self.shared.read(subject).await.map_err(unknown)?;
                if mark.count == 0 {
                    return Ok(());
                }
            }
            Err(AppendError::Refused)
        };
        let lowered = tokio::time::timeout(PATIENCE, lowered).await;
        if let Err(error) = lowered.unwrap_or_else(|elapsed| Err(unknown(elapsed))) {
            tracing::debug!(%error, "the end of an attempt is not recorded");
        }
    }
}

impl Attempts {
    async fn read(&self, subject: &str) -> Result<Mark, ReadError> {
        let stored = self.bus.last(&self.subjects.stream_attempts(), subject).await?;
        Ok(stored.map_or_else(Mark::default, |stored| Mark {
            count: crash_loop::count(&stored.payload),
            revision: stored.sequence,
        }))
    }

    async fn write(&self, subject: &str, expected: u64, count: u32) -> Result<Mark, AppendError> {
        let mut headers = Headers::default();
        headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &expected.to_string());
        let mut payload = count.to_string();
        if count == 0 {
            // Deletes as key-value clients do, so that they do not list it any more.
            headers.set("KV-Operation", "DEL");
            payload.clear();
        }
        let record = Record { subject: subject.to_owned(), headers, payload: payload.into() };
        Ok(Mark { count, revision: self.bus.append(&record).await?.sequence })
    }
}

fn unknown(error: impl std::fmt::Display) -> AppendError {
    AppendError::Unknown(error.to_string())
}
