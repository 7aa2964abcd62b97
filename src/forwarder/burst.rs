//! One answer for a burst (`JOIN_WITHIN`): which texts of a chat are asked about together. Pure.
//!
//! What belongs together is said by what the streams hold, and by the servers' times of it. Whose turn it is to begin a
//! burst sees how far it goes, and its outcome says so for all the others. So whoever comes to the next message reads on
//! the chat's last outcome what has to become of it, and nobody decides that a second time.

use std::time::Duration;

use crate::wire::{Headers, header};

/// So many messages are joined at most.
pub(super) const MOST: usize = 64;
/// So many bytes of text are joined at most. One text alone may be longer.
const LONGEST: usize = 64 << 10;
/// WhatsApp tells the time of writing in whole seconds.
const WRITTEN_MS: i64 = 1_000;
/// How long a message may take from its time to being readable.
const SETTLE_MS: i64 = 50;

/// When texts are joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// How long after a text the next one may come. Zero: nothing is joined.
    pub within: Duration,
    /// How long after the first one the last one may come.
    pub at_most: Duration,
}

/// Messages of a chat that are asked about together, by their sequences in `WA_IN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// The first of them.
    pub first: u64,
    /// The last of them, which is the one that is asked about.
    pub into: u64,
}

impl Burst {
    /// As an outcome says it.
    pub(super) fn header(self) -> String {
        format!("{}-{}", self.first, self.into)
    }

    /// What an outcome says of it. `None`: its message was not joined.
    pub(super) fn read(outcome: &Headers) -> Option<Self> {
        let (first, into) = outcome.get(header::JOINED)?.split_once('-')?;
        let burst = Self { first: first.parse().ok()?, into: into.parse().ok()? };
        (0 < burst.first && burst.first < burst.into).then_some(burst)
    }
}

/// What the chat's last outcome says of the message whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Nothing: it may begin a burst.
    Open,
    /// It goes into a later one.
    Joins(Burst),
    /// The words since this message have had no call yet, and go with its own.
    Ends {
        /// The first message of the burst.
        first: u64,
    },
}

impl Share {
    /// The first message whose words belong to the call of message `sequence`.
    pub(super) fn first(self, sequence: u64) -> u64 {
        match self {
            Self::Ends { first } => first.min(sequence),
            Self::Open | Self::Joins(_) => sequence,
        }
    }
}

/// The rule. `last` is what the chat's last outcome says. If the burst's last message has gone from the stream, the first
/// one behind it takes its place.
pub fn share(sequence: u64, last: Option<Burst>) -> Share {
    match last {
        None => Share::Open,
        Some(burst) if sequence < burst.into => Share::Joins(burst),
        Some(burst) => Share::Ends { first: burst.first },
    }
}

/// A text that may be joined, as the rule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its sequence in `WA_IN`.
    pub sequence: u64,
    /// When the stream stored it, by the server's clock.
    pub stored_at_ms: i64,
    /// When it was written, as WhatsApp says. 0: not known.
    pub sent_at_ms: i64,
    /// Who wrote it.
    pub sender: String,
    /// How long its text is, in bytes.
    pub bytes: usize,
    /// Its `inbound_id`.
    pub id: String,
}

/// A burst, as far as it was seen.
#[derive(Debug)]
pub struct Walk {
    settings: Settings,
    first: Line,
    last: Line,
    count: usize,
    bytes: usize,
}

impl Walk {
    /// Begins with this text.
    pub fn new(settings: Settings, first: Line) -> Self {
        Self { settings, last: first.clone(), count: 1, bytes: first.bytes, first }
    }

    /// The chat's next message. Returns whether it belongs to the burst; if not, the burst has ended before it.
    /// `None`: it is none that may be joined.
    pub fn takes(&mut self, next: Option<Line>) -> bool {
        let Some(next) = next else { return false };
        let Settings { within, at_most } = self.settings;
        let bytes = self.bytes.saturating_add(1).saturating_add(next.bytes);
        let belongs = next.sender == self.first.sender
            && self.count < MOST
            && bytes <= LONGEST
            && between(&self.last, &next) <= ms(within)
            && between(&self.first, &next) <= ms(at_most);
        if belongs {
            (self.last, self.count, self.bytes) = (next, self.count + 1, bytes);
        }
        belongs
    }

    /// Nothing can join any more that is stored after this time.
    fn open_until_ms(&self) -> i64 {
        if self.count >= MOST || self.bytes >= LONGEST {
            return i64::MIN;
        }
        let Settings { within, at_most } = self.settings;
        let (last, first) = (self.last.stored_at_ms, self.first.stored_at_ms);
        last.saturating_add(ms(within)).min(first.saturating_add(ms(at_most)))
    }

    /// All that was stored was looked at, and it was at least this time by the server's clock. How long to wait before the
    /// next look. `None`: the burst has ended.
    pub fn wait(&self, now_ms: i64) -> Option<Duration> {
        let left = self.open_until_ms().saturating_add(SETTLE_MS + 1).saturating_sub(now_ms);
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }

    /// Where the next message is looked for.
    pub fn next(&self) -> u64 {
        self.last.sequence + 1
    }

    /// The burst, and the `inbound_id` of its last message. `None`: there is only one.
    pub fn burst(&self) -> Option<(Burst, &str)> {
        let burst = Burst { first: self.first.sequence, into: self.last.sequence };
        (self.count > 1).then_some((burst, self.last.id.as_str()))
    }
}

/// The time between two texts: by the stream's clock, or by the phones' if that is more. After an outage what was written
/// over hours is stored at once.
fn between(earlier: &Line, later: &Line) -> i64 {
    let stored = later.stored_at_ms.saturating_sub(earlier.stored_at_ms);
    if earlier.sent_at_ms <= 0 || later.sent_at_ms <= 0 {
        return stored;
    }
    let sent = later.sent_at_ms.saturating_sub(earlier.sent_at_ms).saturating_sub(WRITTEN_MS);
    stored.max(sent)
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "burst_tests.rs"]
mod tests;
