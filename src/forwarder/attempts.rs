//! Counting the attempts at a message that ended in a death.
//!
//! An attempt leaves a mark on the bus before it looks at the message, and takes it down when it ends or
//! has to wait: only a death leaves it there. JetStream's own count of deliveries would not do, since it
//! rises with every message that is given back. A first delivery is not marked and costs nothing: if there
//! is a second one, the first counts as a death.
//!
//! This is a safety net, and never in the way: a mark that cannot be read or made is done without.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::crash_loop::{self, Next};
use crate::bus::{AppendError, Bus, ReadError, Record};
use crate::crash;
use crate::wire::{Headers, Subjects, header};

/// How often a mark that others change at the same moment is tried.
const TRIES: usize = 5;
/// How long the end of an attempt may take to be told.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all turns of a process share.
#[derive(Debug)]
pub(super) struct Attempts {
    bus: Bus,
    subjects: Subjects,
    room: Arc<Semaphore>,
}

/// The attempts of one delivery, one after the other.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    shared: &'a Attempts,
    /// Where the mark is; a first delivery has none.
    subject: Option<String>,
    /// The mark as this attempt has left it, while it is up.
    up: Option<Mark>,
    /// How much room the message needs as far as known.
    needs: u32,
    room: Option<OwnedSemaphorePermit>,
}

/// What is on the bus for a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    /// The attempts that were begun and have not ended.
    count: u32,
    /// What the next compare-and-set has to expect.
    revision: u64,
}

/// How beginning went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// Go on; the attempt counts until its end is told.
    Going,
    /// Get [`Attempt::room`] first, and look again.
    NeedsRoom,
    /// Do not look at the message: it has killed too often.
    GiveUp {
        /// How often.
        deaths: u32,
    },
}

impl Attempts {
    /// None so far.
    pub(super) fn new(bus: Bus, subjects: Subjects) -> Self {
        let room = Semaphore::new(usize::try_from(crash_loop::ROOM).unwrap_or(usize::MAX));
        Self { bus, subjects, room: Arc::new(room) }
    }

    /// Of the message `sequence` of this incarnation of `WA_IN`, delivered for the `delivered`th time.
    pub(super) fn of(&self, incarnation: &str, sequence: u64, delivered: u64) -> Attempt<'_> {
        let marked = delivered > 1 && !crash::switched_off("attempts");
        let subject = marked.then(|| self.subjects.attempts(incarnation, sequence));
        Attempt { shared: self, subject, up: None, needs: 0, room: None }
    }
}

impl Attempt<'_> {
    /// Begins, unless it is under way. Has to be called before anything looks at the message's content.
    pub(super) async fn begin(&mut self) -> Begun {
        let Some(subject) = self.subject.clone().filter(|_| self.up.is_none()) else { return Begun::Going };
        match self.raise(&subject).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!(%error, "an attempt cannot be counted; going on without");
                Begun::Going
            }
        }
    }

    async fn raise(&mut self, subject: &str) -> Result<Begun, AppendError> {
        for _ in 0..TRIES {
            let mark = self.shared.read(subject).await.map_err(unknown)?;
            // The first delivery's attempt has no mark.
            let deaths = mark.count.saturating_add(1);
            let next = crash_loop::next(deaths);
            if let Next::Try { room } = next
                && room > self.has()
            {
                self.needs = room;
                return Ok(Begun::NeedsRoom);
            }
            // Also before giving up: a count that was read from a lagging replica is refused here.
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
        self.room.as_ref().map_or(0, |room| u32::try_from(room.num_permits()).unwrap_or(u32::MAX))
    }

    /// Waits for the room that the message needs. Cancel-safe. Whoever waits here must hold nothing that
    /// others may need to get on.
    pub(super) async fn room(&mut self) {
        if self.has() < self.needs {
            // What is too little is let go first: two that each wait for the other's would wait for ever.
            self.room = None;
            // Fails only once the semaphore is closed, which nobody does.
            self.room = Arc::clone(&self.shared.room).acquire_many_owned(self.needs).await.ok();
        }
    }

    /// The message has to wait for something: a death meanwhile is none of its doing. It keeps its room.
    pub(super) async fn pause(&mut self) {
        self.lower(|count| count.saturating_sub(1)).await;
    }

    /// The attempt has ended, for now or for this delivery.
    pub(super) async fn leave(&mut self) {
        self.pause().await;
        self.room = None;
    }

    /// The message has its outcome: no attempt at it counts any more.
    pub(super) async fn over(&mut self) {
        self.lower(|_| 0).await;
        self.room = None;
    }

    /// As far as possible; a mark that stays up counts one death too many.
    async fn lower(&mut self, to: impl Fn(u32) -> u32) {
        let (Some(subject), Some(mut mark)) = (&self.subject, self.up.take()) else { return };
        let lowered = async {
            for _ in 0..TRIES {
                match self.shared.write(subject, mark.revision, to(mark.count)).await {
                    Err(AppendError::Refused) => {}
                    result => return result.map(|_| ()),
                }
                // Another process has got the message in the meantime, and counts too.
                mark = self.shared.read(subject).await.map_err(unknown)?;
                if mark.count == 0 {
                    return Ok(());
                }
            }
            Err(AppendError::Refused)
        };
        let lowered = tokio::time::timeout(PATIENCE, lowered).await;
        if let Err(error) = lowered.unwrap_or_else(|elapsed| Err(unknown(elapsed))) {
            tracing::debug!(%error, "the end of an attempt is not told");
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
            // As key-value clients delete: they do not list it any more.
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
