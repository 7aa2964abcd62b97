//! Streams that take nothing more: full up to their limit, or a server that is out of space.
//!
//! A full stream refuses what is new, and what is refused waits where it is, as it does while nats-server is
//! away. Here is known which streams those are, since when, and how much the largest record needs that waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Bus;
use crate::wire::Subjects;

/// What a stream stores beside subject, headers and payload, with some to spare.
const OVERHEAD: u64 = 128;

/// A stream that takes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Its name.
    pub stream: String,
    /// In the server's words.
    pub why: String,
    /// For how long it has been so.
    pub since: Duration,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is full and takes nothing more ({}): raise its limit", self.stream, self.why)
    }
}

/// All of them. Clones share it.
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
            "the stream is full and takes nothing more; all that it has to take waits until its limit is raised, as by `nats stream edit {stream} --max-bytes=...`, or old messages have expired"
        );
        all.insert(stream, Refusal { since: Instant::now(), needs, why: why.to_owned() });
    }

    /// The stream of `subject` has taken `size` bytes. Less than what was refused proves nothing.
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
    /// The streams that take nothing more, as far as this process has noticed.
    pub fn full(&self) -> Vec<Full> {
        let all = self.capacity.all();
        let full = |(stream, refusal): (&String, &Refusal)| Full {
            stream: stream.clone(),
            why: refusal.why.clone(),
            since: refusal.since.elapsed(),
        };
        all.iter().map(full).collect()
    }

    /// Does `stream` take what it has refused to this process before? Asks the server only if it has.
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
