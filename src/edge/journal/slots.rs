//! The slots of one account on the bus: reads them, stores into them, and says what is known afterwards.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key::SessionKeys;
use super::lap::to_read_again;
use super::owner::CommitError;
use super::record::Record;
use super::ring::{Ring, Size};
use super::seal::{self, Unreadable};
use crate::bus::{self, AppendError, Bus, ReadError, Stored};
use crate::crash;
use crate::wire::{Account, Headers, Subjects, header};

/// How many slots are read at a time.
const AT_ONCE: usize = 256;
/// And how many at least, if so many get no answers.
const AT_LEAST: usize = 8;
/// How long a hole may stay one, and a slot without an answer. Replicas were seen to be 6 s behind.
const HOLES: Duration = Duration::from_secs(20);
/// How long a slot may be older than what was read of it before.
const BEHIND: Duration = Duration::from_secs(20);
/// The pause before slots are asked for again that got no answer.
const BUSY: Duration = Duration::from_millis(100);
/// The pause before a slot is looked at again.
const AGAIN: Duration = Duration::from_millis(20);

/// Where an account's ring is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The stream.
    pub stream: String,
    /// The account.
    pub account: Account,
    subjects: Subjects,
}

/// Why a session cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bus does not answer, or not to this user.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// A record cannot be read.
    #[error("the session on the bus cannot be read (slot {slot}): {why}")]
    Unreadable {
        /// Where it is.
        slot: u64,
        /// Why.
        why: Unreadable,
    },
    /// Records are missing. Somebody has removed them, or a replica is far behind.
    #[error("the session on the bus is not whole: {0} of its records are missing")]
    Holes(usize),
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is stored, with this sequence.
    Stored(u64),
    /// Somebody else's is in its slot. It is not stored, and never will be.
    Taken,
}

/// One account's journal on the bus.
#[derive(Debug, Clone)]
pub struct Journal {
    bus: Bus,
    place: Place,
    keys: SessionKeys,
    size: Size,
    /// How long a hole may stay one, and a slot without an answer.
    patience: Duration,
}

/// What was read of a session. It may lack the newest records: only who takes the account over knows.
#[derive(Debug)]
pub struct Loaded {
    pub(super) ring: Ring,
    /// When its last record was stored, by the server's clock: milliseconds since the epoch.
    pub stored_at_ms: i64,
}

impl Loaded {
    /// How many records there have been.
    pub fn records(&self) -> u64 {
        self.ring.last()
    }

    /// How many bytes are live.
    pub fn bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// All keys and their values, in no order.
    pub fn image(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.ring.image()
    }
}

/// A slot's record, as it was read.
struct Read {
    record: Record,
    sequence: u64,
    stored_at_ms: i64,
}

/// What a slot says of a record whose compare-and-set was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It is there.
    Mine(u64),
    /// Another one is there.
    Other,
    /// Nothing has changed, as far as this replica knows. The refusal may have been wrong.
    Unchanged,
    /// This replica knows less than is known here.
    Behind,
}

/// `found` is the sequence that the slot has, and whether it is the very record that was refused.
fn seen(expected: u64, found: Option<(u64, bool)>) -> Seen {
    let (sequence, is_mine) = found.unwrap_or((0, false));
    match sequence.cmp(&expected) {
        std::cmp::Ordering::Less => Seen::Behind,
        std::cmp::Ordering::Equal => Seen::Unchanged,
        std::cmp::Ordering::Greater if is_mine => Seen::Mine(sequence),
        std::cmp::Ordering::Greater => Seen::Other,
    }
}

impl Journal {
    /// The journal of this account. All its readers and writers have the same `size`.
    pub fn new(bus: Bus, subjects: &Subjects, account: &Account, keys: SessionKeys, size: Size) -> Self {
        let (stream, account, subjects) = (subjects.stream_session(), account.clone(), subjects.clone());
        Self { bus, place: Place { stream, account, subjects }, keys, size, patience: HOLES }
    }

    /// With less patience, where nobody else writes and no replica is behind.
    pub fn impatient(self) -> Self {
        Self { patience: Duration::ZERO, ..self }
    }

    /// With other keys.
    pub fn with_keys(self, keys: SessionKeys) -> Self {
        Self { keys, ..self }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn subject(&self, slot: u64) -> String {
        self.place.subjects.session_slot(&self.place.account, slot)
    }

    async fn read(&self, slot: u64) -> Result<Option<Read>, LoadError> {
        let stored = self.bus.last(&self.place.stream, &self.subject(slot)).await?;
        stored.map(|stored| self.opened(slot, stored)).transpose()
    }

    fn opened(&self, slot: u64, stored: Stored) -> Result<Read, LoadError> {
        let opened = seal::open(&self.keys, self.place.account.as_str(), slot, &stored.payload);
        let record = opened.and_then(|record| Record::decode(&record, slot, self.size.slots));
        let record = record.map_err(|why| LoadError::Unreadable { slot, why })?;
        Ok(Read { record, sequence: stored.sequence, stored_at_ms: stored.stored_at_ms })
    }

    /// Reads these slots; returns how many have a record. A server that is too busy to answer all at once is asked for
    /// fewer at a time.
    async fn fill(&self, all: &mut [Option<Read>], slots: Vec<u64>) -> Result<usize, LoadError> {
        let (mut slots, mut found, mut at_once, began) = (slots, 0, AT_ONCE, Instant::now());
        loop {
            let (some, unanswered) = self.fill_once(all, std::mem::take(&mut slots), at_once).await?;
            found += some;
            let Some((_, why)) = unanswered.last() else { return Ok(found) };
            if began.elapsed() >= self.patience {
                return Err(ReadError::Unanswered(why.clone()).into());
            }
            tracing::debug!(slots = unanswered.len(), why, "slots of the session are read again");
            slots = unanswered.into_iter().map(|(slot, _)| slot).collect();
            at_once = (at_once / 2).max(AT_LEAST);
            tokio::time::sleep(BUSY).await;
        }
    }

    /// Reads these slots, each once. Returns how many have a record, and which got no answer, and why.
    async fn fill_once(
        &self,
        all: &mut [Option<Read>],
        slots: Vec<u64>,
        at_once: usize,
    ) -> Result<(usize, Vec<(u64, String)>), LoadError> {
        let subjects: Vec<String> = slots.iter().map(|slot| self.subject(*slot)).collect();
        let (mut found, mut unanswered, mut unreadable) = (0, Vec::new(), None);
        let asked = self.bus.last_of_many(&self.place.stream, &subjects, at_once, |place, last| {
            let Some(slot) = slots.get(place).copied() else { return };
            let read = match last {
                Err(why) => return unanswered.push((slot, why)),
                Ok(None) => return,
                Ok(Some(stored)) => self.opened(slot, stored),
            };
            let read = match read {
                Ok(read) => read,
                Err(error) => return unreadable = Some(error),
            };
            found += 1;
            let at = usize::try_from(slot).ok();
            // A replica may know less than the one before.
            if let Some(at) = at.and_then(|at| all.get_mut(at))
                && at.as_ref().is_none_or(|before| before.sequence < read.sequence)
            {
                *at = Some(read);
            }
        });
        asked.await?;
        unreadable.map_or(Ok((found, unanswered)), Err)
    }

    /// Reads the session without taking the account over. `None`: there was never one.
    pub async fn load(&self) -> Result<Option<Loaded>, LoadError> {
        let slots = self.size.slots;
        let mut all: Vec<Option<Read>> = (0..slots).map(|_| None).collect();
        let began = Instant::now();
        let last = slots.saturating_sub(AT_ONCE as u64);
        if self.fill(&mut all, (last..slots).collect()).await? > 0 {
            self.fill(&mut all, (0..last).collect()).await?;
        } else {
            // The first lap is not over. Where nothing is any more, nothing follows; if that is wrong, because a replica is
            // behind, who takes over is refused and reads on.
            for first in (0..last).step_by(AT_ONCE) {
                if self.fill(&mut all, (first..last.min(first + AT_ONCE as u64)).collect()).await? == 0 {
                    break;
                }
            }
        }
        loop {
            let numbers: Vec<_> = all.iter().map(|read| Some(read.as_ref()?.record.number)).collect();
            let again = to_read_again(&numbers);
            if again.is_empty() {
                return self.in_order(all.into_iter().flatten().collect());
            }
            if began.elapsed() >= self.patience {
                return Err(LoadError::Holes(again.len()));
            }
            tokio::time::sleep(AGAIN).await;
            self.fill(&mut all, again).await?;
        }
    }

    fn in_order(&self, mut all: Vec<Read>) -> Result<Option<Loaded>, LoadError> {
        all.sort_by_key(|read| read.record.number);
        let Some(stored_at_ms) = all.last().map(|read| read.stored_at_ms) else { return Ok(None) };
        let mut ring = Ring::new(self.size);
        for Read { record, sequence, .. } in all {
            self.follow(&mut ring, record, sequence)?;
        }
        Ok(Some(Loaded { ring, stored_at_ms }))
    }

    fn follow(&self, ring: &mut Ring, record: Record, sequence: u64) -> Result<(), LoadError> {
        let slot = ring.slot(record.number);
        ring.follow(record, sequence).map_err(|why| LoadError::Unreadable { slot, why })
    }

    /// The ring, also if there was never one.
    pub(super) async fn ring(&self) -> Result<Ring, LoadError> {
        Ok(self.load().await?.map_or_else(|| Ring::new(self.size), |loaded| loaded.ring))
    }

    /// Reads what somebody else has written since.
    pub(super) async fn read_on(&self, ring: &mut Ring) -> Result<(), LoadError> {
        loop {
            let next = ring.last() + 1;
            match self.read(ring.slot(next)).await? {
                Some(read) if read.record.number == next => self.follow(ring, read.record, read.sequence)?,
                // A whole lap.
                Some(read) if read.record.number > next => {
                    *ring = self.ring().await?;
                    return Ok(());
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Stores the record that follows the ring's last one. Returns when it is known what became of it.
    ///
    /// The same bytes are published again and again, always for the same sequence of the slot. Only one of them can be
    /// stored, and none once another record has the slot: so it does no harm if one of them arrives late.
    pub(super) async fn store(
        &self,
        ring: &Ring,
        record: &Record,
        stop: &CancellationToken,
    ) -> Result<Outcome, CommitError> {
        let (slot, expected) = (ring.slot(record.number), ring.expects(record.number));
        let sealed =
            seal::seal(&self.keys, self.place.account.as_str(), slot, record.encode(self.size.slots));
        let payload = Bytes::from(sealed.map_err(|_| CommitError::NotSealed)?);
        let mut headers = Headers::default();
        if !crash::switched_off("fence") {
            headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &expected.to_string());
        }
        let message = bus::Record { subject: self.subject(slot), headers, payload };
        loop {
            match self.bus.append_until_known(&message, stop).await {
                Ok(appended) => return Ok(Outcome::Stored(appended.sequence)),
                Err(AppendError::Refused) => {}
                Err(AppendError::Stopped) => return Err(CommitError::Stopped),
                Err(AppendError::Impossible(why)) => return Err(CommitError::Impossible(why)),
                Err(AppendError::Unknown(_) | AppendError::Full(_)) => continue,
            }
            // An earlier attempt may be what refused this one; in a cluster the refusal may also be wrong. So what
            // counts is what is in the slot, and never the refusal.
            match self.look(&message, slot, expected, stop).await? {
                Seen::Mine(sequence) => return Ok(Outcome::Stored(sequence)),
                Seen::Other => return Ok(Outcome::Taken),
                Seen::Unchanged | Seen::Behind => {}
            }
        }
    }

    /// What is in the slot of a record that was refused.
    async fn look(
        &self,
        message: &bus::Record,
        slot: u64,
        expected: u64,
        stop: &CancellationToken,
    ) -> Result<Seen, CommitError> {
        let began = Instant::now();
        loop {
            let found = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(CommitError::Stopped),
                found = self.bus.last(&self.place.stream, &message.subject) => found,
            };
            match found {
                Err(ReadError::Forbidden(why)) => return Err(ReadError::Forbidden(why).into()),
                Err(ReadError::Unanswered(why)) => tracing::debug!(slot, why, "a slot cannot be read yet"),
                Ok(found) => {
                    let found = found.map(|found| (found.sequence, found.payload == message.payload));
                    match seen(expected, found) {
                        Seen::Behind if began.elapsed() >= BEHIND => self.is_still_there(expected).await?,
                        Seen::Behind => {}
                        seen => {
                            tracing::debug!(slot, expected, ?seen, "a commit was refused");
                            tokio::time::sleep(if seen == Seen::Unchanged { AGAIN } else { Duration::ZERO })
                                .await;
                            return Ok(seen);
                        }
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A stream that has never come so far is another one.
    async fn is_still_there(&self, sequence: u64) -> Result<(), CommitError> {
        match self.bus.stream_state(&self.place.stream).await {
            Ok(state) if state.last < sequence => Err(CommitError::Gone),
            // Not knowing is no reason to give up.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_slot_says_whose_it_is() {
        for (expected, found, want) in [
            (0, None, Seen::Unchanged),
            (5, None, Seen::Behind),
            (5, Some((4, false)), Seen::Behind),
            (5, Some((5, false)), Seen::Unchanged),
            (5, Some((6, true)), Seen::Mine(6)),
            (0, Some((6, true)), Seen::Mine(6)),
            (5, Some((6, false)), Seen::Other),
            (0, Some((1, false)), Seen::Other),
        ] {
            assert_eq!(seen(expected, found), want, "{expected} {found:?}");
        }
    }
}
