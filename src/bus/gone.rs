//! What a stream had and has no more: messages that have expired, were purged or were deleted, and streams that were
//! made anew.
//!
//! The stream's leader says so (`STREAM.INFO`), never a follower. A leader that has just been elected may be behind for
//! a moment. That is harmless here: a message that is gone does not come back, so an old answer only says less.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Bus, ReadError};

/// How often the leader is asked at most, no matter how many messages wait.
const STALE: Duration = Duration::from_secs(1);
/// How many gaps between messages a stream may have and still be asked for them, because the answer lists each. Only an
/// operator makes gaps: by a purge of some subjects, or by deleting single messages.
const MOST_GAPS: u64 = 50_000;

/// A stream, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// When it was created, in nanoseconds since the epoch. This identifies its incarnation.
    pub incarnation: String,
    /// The last sequence that it has given to a message.
    pub last: u64,
}

impl Bus {
    /// The stream as its leader sees it now. Asks once.
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, ReadError> {
        let info = self.stream_info(stream).await?;
        Ok(StreamState { incarnation: incarnation(&info), last: info.state.last_sequence })
    }
}

/// The messages of one stream that are gone, as far as known.
#[derive(Debug)]
pub struct Gone {
    bus: Bus,
    stream: String,
    known: Mutex<Known>,
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Gone {
    /// Nothing is known yet.
    pub fn new(bus: Bus, stream: String) -> Self {
        Self { bus, stream, known: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// Is message `sequence`, which this incarnation of the stream has stored, gone? What is known of that is not older
    /// than a second.
    pub async fn has(&self, incarnation: &str, sequence: u64) -> Result<bool, ReadError> {
        if self.known().has(incarnation, sequence) {
            return Ok(true);
        }
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= STALE) {
            self.ask().await?;
            *asked = Some(Instant::now());
        }
        Ok(self.known().has(incarnation, sequence))
    }

    async fn ask(&self) -> Result<(), ReadError> {
        let info = self.bus.stream_info(&self.stream).await?;
        let now = Known::of(&info);
        if now.gaps == 0 || now.gaps > MOST_GAPS {
            *self.known() = now;
            return Ok(());
        }
        if self.known().is_as(&now) {
            return Ok(());
        }
        let api = format!("STREAM.INFO.{}", self.stream);
        let details = Bytes::from_static(br#"{"deleted_details":true}"#);
        let info = self.bus.ask_for::<stream::Info>(&api, details).await?;
        if let Some(info) = info {
            *self.known() = Known::of(&info);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    incarnation: String,
    /// Everything before this sequence is gone.
    first: u64,
    /// How many are gone after it.
    gaps: u64,
    /// Which, in order.
    deleted: Vec<u64>,
}

impl Known {
    fn of(info: &stream::Info) -> Self {
        let mut deleted = info.state.deleted.clone().unwrap_or_default();
        deleted.sort_unstable();
        let (first, gaps) = (info.state.first_sequence, info.state.deleted_count.unwrap_or(0));
        Self { incarnation: incarnation(info), first, gaps, deleted }
    }

    fn has(&self, incarnation: &str, sequence: u64) -> bool {
        self.incarnation == incarnation
            && (sequence < self.first || self.deleted.binary_search(&sequence).is_ok())
    }

    /// Gaps only become more, but for those that `first` passes. So with the same numbers they are the same ones.
    fn is_as(&self, other: &Self) -> bool {
        (&self.incarnation, self.first, self.gaps) == (&other.incarnation, other.first, other.gaps)
    }
}

fn incarnation(info: &stream::Info) -> String {
    info.created.unix_timestamp_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_the_first_or_in_a_gap_is_gone_and_the_rest_is_not() {
        let known = Known { incarnation: "1".to_owned(), first: 4, gaps: 2, deleted: vec![6, 9] };
        let gone: Vec<u64> = (1..=12).filter(|sequence| known.has("1", *sequence)).collect();
        assert_eq!(gone, [1, 2, 3, 6, 9]);
        assert!((1..=12).all(|sequence| !known.has("2", sequence)), "another stream's sequences");
        assert!(!Known::default().has("1", 1), "nothing is known yet");
    }

    #[test]
    fn the_gaps_are_read_again_when_there_are_others() {
        let known = |incarnation: &str, first, gaps| Known {
            incarnation: incarnation.to_owned(),
            first,
            gaps,
            deleted: Vec::new(),
        };
        assert!(known("1", 4, 2).is_as(&known("1", 4, 2)));
        for other in [known("2", 4, 2), known("1", 5, 2), known("1", 4, 3)] {
            assert!(!known("1", 4, 2).is_as(&other), "{other:?}");
        }
    }
}
