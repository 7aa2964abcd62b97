//! Full streams: a stream has reached its limit, or the server is out of space.
//!
//! A full stream refuses new messages. They wait where they are, as they do while nats-server is away. This module
//! knows which streams are full, since when, and how many bytes the largest waiting record needs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Bus;
use crate::wire::Subjects;

/// Bytes that a stream stores beside subject, headers and payload, with some to spare.
const OVERHEAD: u64 = 128;

/// A full stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Its name.
    pub stream: String,
    /// The reason in the server's words.
    pub why: String,
    /// For how long it has been full.
    pub since: Duration,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is full and takes nothing more ({}): raise its limit", self.stream, self.why)
    }
}

/// All full streams. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Capacity(Arc<Mutex<BTreeMap<String, Refusal>>>);

#[derive(Debug)]
struct Refusal {
    since: Instant,
    /// The size of the largest record that was refused.
    needs: u64,
    why: String,
}

impl Capacity {
    /// The stream of `subject` has refused `size` bytes.
    pub(super) fn refused(&self, subject: &str, size: usize, why: &str) {
        let Some(stream) = Subjects::stream_of(subject) else { return };
        let needs = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(OVERHEAD);
        let mut all = self.all();
        if let Some(known) = all.get_mut(&stream) {
            known.needs = known.needs.max(needs);
            return;
        }
        tracing::warn!(
            stream,
            error = why,
            "the stream is full and takes nothing more; new messages wait until its limit is raised, for example with `nats stream edit {stream} --max-bytes=...`, or until old messages expire"
        );
        all.insert(stream, Refusal { since: Instant::now(), needs, why: why.to_owned() });
    }

    /// The stream of `subject` has stored `size` bytes. That proves room only if it is as much as was refused.
    pub(super) fn taken(&self, subject: &str, size: usize) {
        if self.all().is_empty() {
            return;
        }
        if let Some(stream) = Subjects::stream_of(subject) {
            let size = u64::try_from(size).unwrap_or(u64::MAX);
            self.has(&stream, size.saturating_add(OVERHEAD));
        }
    }

    /// `stream` has room for `bytes`. Returns whether that is enough for all that was refused.
    fn has(&self, stream: &str, bytes: u64) -> bool {
        let mut all = self.all();
        let is_enough = all.get(stream).is_none_or(|refusal| refusal.needs <= bytes);
        if is_enough && all.remove(stream).is_some() {
            tracing::info!(stream, "the stream takes messages again");
        }
        is_enough
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    /// The full streams, as far as this process has noticed.
    pub fn full(&self) -> Vec<Full> {
        let all = self.capacity.all();
        let full = |(stream, refusal): (&String, &Refusal)| Full {
            stream: stream.clone(),
            why: refusal.why.clone(),
            since: refusal.since.elapsed(),
        };
        all.iter().map(full).collect()
    }

    /// Does `stream` now take what it refused from this process before? Asks the server only if it refused something.
    pub async fn has_room(&self, stream: &str) -> bool {
        if !self.capacity.all().contains_key(stream) {
            return true;
        }
        let Ok(info) = self.stream_info(stream).await else { return false };
        let limit = u64::try_from(info.config.max_bytes).ok().filter(|limit| *limit > 0);
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(info.state.bytes));
        self.capacity.has(stream, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "wa.in.default.message.5491112345678";

    fn full(capacity: &Capacity) -> Vec<String> {
        capacity.all().keys().cloned().collect()
    }

    #[test]
    fn a_stream_is_full_until_it_takes_as_much_as_it_has_refused() {
        let capacity = Capacity::default();
        capacity.refused(MESSAGE, 1_000, "maximum bytes exceeded");
        capacity.refused(MESSAGE, 10, "maximum bytes exceeded");
        capacity.taken("wa.in.default.receipt.5491112345678", 10);
        capacity.taken("wa.out.default.reply.5491112345678", 5_000);
        assert_eq!(full(&capacity), ["WA_IN"], "a small one fits where a large one does not");
        assert!(!capacity.has("WA_IN", 1_000));
        capacity.taken(MESSAGE, 1_000);
        assert!(full(&capacity).is_empty());
        assert!(capacity.has("WA_IN", 0), "nothing was refused");
    }
}
