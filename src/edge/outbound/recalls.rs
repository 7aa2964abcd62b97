//! When an edge asks for what was on its way and came to nobody. Pure.
//!
//! Once is not enough. nats-server hands a recalled message to whoever has a request open, and behind a cut line that
//! may be a connection that is gone and that nats-server still believes in: the edge's own old one, or that of the edge
//! before it. Such a request ends by itself. So it is asked once more when it must have ended.

use std::time::Duration;

use tokio::time::Instant;

use crate::bus::PULL_EXPIRES;

/// What a request's end may take on its way.
const MARGIN: Duration = Duration::from_secs(1);

/// What has to be asked for, and when.
#[derive(Debug)]
pub(super) enum Recalls {
    /// Now, and once more.
    Due,
    /// Once more, then.
    Again(Instant),
    /// Nothing has been lost since.
    Settled,
}

impl Recalls {
    /// Deliveries may have been lost on their way.
    pub(super) fn lost(&mut self) {
        *self = Self::Due;
    }

    /// Is it time to ask?
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self {
            Self::Due => true,
            Self::Again(at) => *at <= now,
            Self::Settled => false,
        }
    }

    /// nats-server has answered.
    pub(super) fn asked(&mut self, now: Instant) {
        *self = match self {
            Self::Due => Self::Again(now + PULL_EXPIRES + MARGIN),
            Self::Again(_) | Self::Settled => Self::Settled,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_at_once_and_again_when_old_requests_have_ended() {
        let (mut recalls, now) = (Recalls::Due, Instant::now());
        assert!(recalls.is_due(now));
        recalls.asked(now);
        assert!(!recalls.is_due(now + PULL_EXPIRES));
        let again = now + PULL_EXPIRES + MARGIN;
        assert!(recalls.is_due(again));
        recalls.asked(again);
        assert!(!recalls.is_due(again + PULL_EXPIRES * 100));
        // A loss in between begins it anew.
        recalls.lost();
        recalls.asked(now);
        recalls.lost();
        assert!(recalls.is_due(now));
    }
}
