//! Which record goes where, and what is live afterwards. Pure: the same for who writes and for who reads back.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::record::{OwnerId, Record, cost};
use super::seal::Unreadable;
use super::{Change, KEY_MOST, VALUE_MOST};

/// How large a ring may grow. All writers and readers of an account use the same number of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many slots there are.
    pub slots: u64,
    /// How many bytes a record has, unless one change alone is longer.
    pub record: usize,
    /// How many bytes a record has at most.
    pub record_most: usize,
    /// How many records a commit has at most.
    pub parts: u32,
    /// How many bytes may be live.
    pub live: usize,
}

impl Size {
    /// What edges use: 1.1 to 3 bytes written for each that is given, up to some 20,000 keys.
    pub const EDGE: Self = Self {
        slots: 4_096,
        record: 400 * 1_024,
        record_most: 600 * 1_024,
        parts: 256,
        live: 256 * 1_024 * 1_024,
    };
}

/// What cannot be committed, whoever tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// A key or a value.
    #[error("a change has {key} + {value} bytes; {KEY_MOST} + {VALUE_MOST} is the most")]
    Change {
        /// The length of the key.
        key: usize,
        /// The length of the value.
        value: usize,
    },
    /// The whole commit.
    #[error("a commit of so many changes is too large")]
    Commit,
    /// The whole session.
    #[error("the session would have {0} bytes, which is too many")]
    Session(usize),
}

#[derive(Debug, Clone, Default)]
struct Slot {
    /// The sequence of its record in the stream; 0 if there is none.
    sequence: u64,
    /// The keys whose values its record has. Some may live elsewhere by now.
    keys: Vec<Bytes>,
}

#[derive(Clone)]
struct Live {
    value: Bytes,
    /// The number of the record that has it.
    number: u64,
}

/// A commit whose last record is not there yet.
#[derive(Clone)]
struct Begun {
    owner: OwnerId,
    /// Which part comes next.
    next: u32,
    parts: Vec<(u64, Vec<Change>)>,
}

/// The ring after a record.
pub(super) struct Ring {
    size: Size,
    /// The number of its last record; 0 if there is none.
    last: u64,
    slots: Vec<Slot>,
    live: HashMap<Bytes, Live>,
    /// How many bytes are live.
    bytes: usize,
    begun: Option<Begun>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring(last {}, {} keys of {} bytes)", self.last, self.live.len(), self.bytes)
    }
}

impl Ring {
    /// Without a record.
    pub(super) fn new(size: Size) -> Self {
        let slots = vec![Slot::default(); usize::try_from(size.slots).unwrap_or(usize::MAX)];
        Self { size, last: 0, slots, live: HashMap::new(), bytes: 0, begun: None }
    }

    /// The number of its last record; 0 if there is none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// How many bytes are live.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that is live.
    pub(super) fn image(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.live.iter().map(|(key, live)| (key, &live.value))
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &[u8]) -> Option<&Bytes> {
        self.live.get(key).map(|live| &live.value)
    }

    /// How many slots it has.
    pub(super) fn slots(&self) -> u64 {
        self.size.slots
    }

    /// The slot of a record.
    pub(super) fn slot(&self, number: u64) -> u64 {
        number % self.size.slots
    }

    /// The sequence that the slot of a record must have before it is written.
    pub(super) fn expects(&self, number: u64) -> u64 {
        let at = usize::try_from(self.slot(number)).ok();
        at.and_then(|at| self.slots.get(at)).map_or(0, |slot| slot.sequence)
    }

    /// What the record with this number has to carry along: what is live in the slot that it takes.
    fn carried(&self, number: u64) -> Vec<Change> {
        let at = usize::try_from(self.slot(number)).ok();
        let keys = at.and_then(|at| self.slots.get(at)).map_or(&[][..], |slot| &slot.keys);
        let before = number.checked_sub(self.size.slots);
        let carry = |key: &Bytes| {
            let live = self.live.get(key).filter(|live| Some(live.number) == before)?;
            Some(Change { key: key.clone(), value: Some(live.value.clone()) })
        };
        keys.iter().filter_map(carry).collect()
    }

    /// The records of a commit. None of them may be left out, and none may follow before the one before it is stored.
    pub(super) fn plan(&self, owner: OwnerId, changes: Vec<Change>) -> Result<Vec<Record>, TooLarge> {
        let changes = last_of_each(changes);
        self.bounded(&changes)?;
        let deleted: HashSet<Bytes> =
            changes.iter().filter(|change| change.value.is_none()).map(|change| change.key.clone()).collect();
        let (mut records, mut rest) = (Vec::new(), changes.into_iter().peekable());
        loop {
            let part = u32::try_from(records.len()).map_err(|_| TooLarge::Commit)?;
            if part >= self.size.parts || u64::from(part) >= self.size.slots / 2 {
                return Err(TooLarge::Commit);
            }
            let number = self.last + 1 + u64::from(part);
            let carried = self.carried(number);
            let mut length: usize = carried.iter().map(cost).sum();
            let mut own = Vec::new();
            while let Some(next) = rest.peek() {
                let with = length + cost(next);
                // One that is longer than a record should be has one for itself.
                let fits = with <= self.size.record || (own.is_empty() && with <= self.size.record_most);
                if !fits {
                    break;
                }
                length = with;
                own.extend(rest.next());
            }
            let more = rest.peek().is_some();
            records.push(Record { number, owner, part, more, carried, changes: own });
            if !more {
                break;
            }
        }
        if let [only] = &mut *records {
            // What a record changes itself it need not carry. One of several has to: the others may never come.
            let Record { carried, changes, .. } = only;
            let changed: HashSet<&Bytes> = changes.iter().map(|change| &change.key).collect();
            carried.retain(|carried| !changed.contains(&carried.key));
            return Ok(records);
        }
        for Record { carried, changes, .. } in &mut records {
            // The deletion may be in a record before this one. Once that is written over, nothing else would say that
            // what is carried here does not live.
            let again = carried.iter().filter(|carried| deleted.contains(&carried.key));
            changes.extend(again.map(|carried| Change::delete(carried.key.clone())).collect::<Vec<_>>());
        }
        Ok(records)
    }

    fn bounded(&self, changes: &[Change]) -> Result<(), TooLarge> {
        let mut bytes = self.bytes;
        for change in changes {
            let (key, value) = (change.key.len(), change.value.as_ref().map_or(0, Bytes::len));
            if key > KEY_MOST || value > VALUE_MOST {
                return Err(TooLarge::Change { key, value });
            }
            bytes += change.value.as_ref().map_or(0, |_| key + value);
            bytes -= self.live.get(&change.key).map_or(0, |live| key + live.value.len());
        }
        // A session that has come to the limit may still get smaller.
        if bytes > self.size.live && bytes > self.bytes { Err(TooLarge::Session(bytes)) } else { Ok(()) }
    }

    /// The record follows the last one, or is the first one that is there. It is stored with this sequence.
    pub(super) fn follow(&mut self, record: Record, sequence: u64) -> Result<(), Unreadable> {
        let Record { number, owner, part, more, carried, changes } = record;
        if self.last != 0 && number != self.last + 1 {
            return Err(Unreadable::Damaged);
        }
        let mut parts = match self.begun.take() {
            // Whoever had begun a commit did not end it, and now never will.
            _ if part == 0 => Vec::new(),
            Some(begun) if begun.owner == owner && begun.next == part => begun.parts,
            // Its beginning has been written over, long after its end.
            None if self.last == 0 => Vec::new(),
            Some(_) | None => return Err(Unreadable::Damaged),
        };
        self.last = number;
        let at = usize::try_from(self.slot(number)).map_err(|_| Unreadable::Damaged)?;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { sequence, keys: Vec::new() };
        }
        for carried in carried {
            self.change(number, carried);
        }
        parts.push((number, changes));
        if more {
            self.begun = Some(Begun { owner, next: part.saturating_add(1), parts });
            return Ok(());
        }
        for (number, changes) in parts {
            for change in changes {
                self.change(number, change);
            }
        }
        Ok(())
    }

    fn change(&mut self, number: u64, Change { key, value }: Change) {
        let length = key.len();
        let before = match value {
            None => self.live.remove(&key),
            Some(value) => {
                self.bytes += length + value.len();
                let at = usize::try_from(self.slot(number)).ok();
                if let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) {
                    slot.keys.push(key.clone());
                }
                self.live.insert(key, Live { value, number })
            }
        };
        self.bytes -= before.map_or(0, |before| length + before.value.len());
    }
}

/// What counts of several changes, in an order that does not depend on chance.
fn last_of_each(changes: Vec<Change>) -> Vec<Change> {
    let last: BTreeMap<Bytes, Option<Bytes>> =
        changes.into_iter().map(|Change { key, value }| (key, value)).collect();
    last.into_iter().map(|(key, value)| Change { key, value }).collect()
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
