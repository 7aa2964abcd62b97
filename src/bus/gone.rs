//! What a stream had and has no more: what has expired, or was purged from its beginning, and streams that were made
//! anew.
//!
//! The stream's leader says so (`STREAM.INFO`), never a follower. A leader that has just been elected may be behind for
//! a moment. That is harmless here: a message that is gone does not come back, so an old answer only says less.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Bus, ReadError};

/// How often the leader is asked at most, no matter how many messages wait.
const STALE: Duration = Duration::from_secs(1);

/// A stream, as its leader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamState {
    /// When it was created, in nanoseconds since the epoch. This identifies its incarnation.
    pub incarnation: String,
    /// The sequence of its first message. All before it are gone.
    pub first: u64,
    /// The last sequence that it has given to a message.
    pub last: u64,
}

impl StreamState {
    /// Are message `sequence`, which this incarnation of the stream has stored, and all before it gone?
    fn has_no_more(&self, incarnation: &str, sequence: u64) -> bool {
        self.incarnation == incarnation && sequence < self.first
    }
}

impl Bus {
    /// The stream as its leader sees it now. Asks once.
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, ReadError> {
        let info = self.stream_info(stream).await?;
        Ok(StreamState {
            incarnation: info.created.unix_timestamp_nanos().to_string(),
            first: info.state.first_sequence,
            last: info.state.last_sequence,
        })
    }
}

/// What one stream has no more, as far as known.
#[derive(Debug)]
pub struct Gone {
    bus: Bus,
    stream: String,
    known: Mutex<StreamState>,
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Gone {
    /// Nothing is known yet.
    pub fn new(bus: Bus, stream: String) -> Self {
        Self { bus, stream, known: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// Are message `sequence`, which this incarnation of the stream has stored, and all before it gone? What is known of
    /// that is not older than a second.
    pub async fn has(&self, incarnation: &str, sequence: u64) -> Result<bool, ReadError> {
        if self.known().has_no_more(incarnation, sequence) {
            return Ok(true);
        }
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= STALE) {
            // First, so that a server that does not answer is not asked by all who wait, one after the other.
            *asked = Some(Instant::now());
            let now = self.bus.stream_state(&self.stream).await?;
            *self.known() = now;
        }
        Ok(self.known().has_no_more(incarnation, sequence))
    }

    fn known(&self) -> MutexGuard<'_, StreamState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_the_first_is_gone_in_its_own_incarnation_only() {
        let state = StreamState { incarnation: "1".to_owned(), first: 4, last: 9 };
        let gone: Vec<u64> = (1..=12).filter(|sequence| state.has_no_more("1", *sequence)).collect();
        assert_eq!(gone, [1, 2, 3]);
        assert!((1..=12).all(|sequence| !state.has_no_more("2", sequence)), "another stream's sequences");
        assert!(!StreamState::default().has_no_more("1", 1), "nothing is known yet");
    }
}
