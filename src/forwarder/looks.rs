//! When a chat is looked up that waits for what another process does. Pure.
//!
//! The outcome that it waits for is heard as it passes by, which is a moment before it is stored and readable. What was
//! stored before anybody listened is never heard, nor what passes while the chat's message is still being read. So it
//! is looked up when that can have happened, and now and then in any case.

use std::time::Duration;

use tokio::time::Instant;

/// What a chat waits for elsewhere is looked up at least this often.
pub(super) const STALE: Duration = Duration::from_secs(1);
/// How long an outcome may take between passing by and being stored and readable.
pub(super) const SETTLE: Duration = Duration::from_millis(50);
/// How often an outcome that passed by is looked for: at once, and then 1, 2, 4 ... ms after the look before. The last
/// of these pauses is half of [`STALE`].
pub(super) const LOOKS: u32 = 11;

/// The first that waits in a chat has to wait for what another process does.
#[derive(Debug)]
pub(super) struct Elsewhere {
    /// Which one.
    pub sequence: u64,
    /// When the bus was asked last.
    read_at: Instant,
    /// From then on it was in hand, so its outcomes were listened for, if anybody listened.
    in_hand_since: Instant,
    /// When to look next. `None`: somebody looks at this moment, or nobody listens yet.
    pub due: Option<Instant>,
    /// The outcome passed by, and so many looks have not found it yet.
    looks: Option<u32>,
}

impl Elsewhere {
    /// Message `sequence` waits; it is in hand since `since`, and the bus was asked at `read_at`. `passed`: the outcome
    /// that it waits for passed by in the meantime.
    pub(super) fn new(sequence: u64, in_hand_since: Instant, read_at: Instant, passed: bool) -> Self {
        Self { sequence, read_at, in_hand_since, due: None, looks: passed.then_some(0) }
    }

    /// Has the outcome passed by, as far as that is known?
    pub(super) fn has_passed(&self) -> bool {
        self.looks.is_some()
    }

    /// The outcome passed by.
    pub(super) fn passed(&mut self) {
        self.looks = Some(0);
    }

    /// A look found nothing.
    pub(super) fn found_nothing(&mut self, read_at: Instant) {
        self.read_at = read_at;
        self.looks = self.looks.map(|looks| looks + 1).filter(|looks| *looks < LOOKS);
    }

    /// When to look next, if somebody listens since `since`.
    pub(super) fn next(&self, since: Instant) -> Instant {
        // What was stored before this moment is not heard. Nor is what passed before it, and was not stored yet.
        let heard_since = since.max(self.in_hand_since);
        match self.looks {
            Some(looks) => self.read_at + Duration::from_millis((1 << looks) >> 1),
            None if self.read_at < heard_since => heard_since,
            None if self.read_at < heard_since + SETTLE => heard_since + SETTLE,
            None => self.read_at + STALE,
        }
    }
}
