//! When an edge asks for what was on its way and came to nobody.
//!
//! Once is not enough. nats-server hands a recalled message to whoever has a request open, and behind a cut line that
//! may be a connection that is gone and that nats-server still believes in: the edge's own old one, or that of the edge
//! before it. Such a request ends by itself. So it is asked once more when it must have ended.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{Bus, PULL_EXPIRES};

/// What a request's end may take on its way.
const MARGIN: Duration = Duration::from_secs(1);

/// How often nats-server is asked in a row what is on its way, for up to two seconds each time. Whoever does not answer this
/// hands out nothing either, and a connection that was cut is noticed after six seconds. After so many the next pull
/// request goes first.
const TRIES: usize = 15;

/// Asks for it.
#[derive(Debug, Default)]
pub(super) struct Asking(Mutex<Recalls>);

impl Asking {
    /// Asks, if it is time to, for what the consumer handed out and is neither `here` nor done. Cancel-safe.
    pub(super) async fn ask(
        &self,
        bus: &Bus,
        (stream, consumer): (String, String),
        may_have_lost: bool,
        here: impl Fn() -> HashSet<u64>,
        is_done: impl Fn(u64) -> bool,
    ) {
        if may_have_lost {
            self.recalls().lost();
        }
        // The question may be lost as well, with the connection that it was asked on.
        for _ in 0..TRIES {
            if !self.recalls().is_due(Instant::now()) {
                return;
            }
            bus.connected().await;
            let here = here();
            let has = |sequence| here.contains(&sequence) || is_done(sequence);
            match bus.recall(&stream, &consumer, has).await {
                Ok(()) => self.recalls().asked(Instant::now()),
                Err(error) => tracing::debug!(%error, "what was on its way is not recalled yet"),
            }
        }
    }

    fn recalls(&self) -> MutexGuard<'_, Recalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has to be asked for, and when. Pure.
#[derive(Debug, Default)]
enum Recalls {
    /// Now, and once more.
    #[default]
    Due,
    /// Once more, then.
    Again(Instant),
    /// Nothing has been lost since.
    Settled,
}

impl Recalls {
    /// Deliveries may have been lost on their way.
    fn lost(&mut self) {
        *self = Self::Due;
    }

    /// Is it time to ask?
    fn is_due(&self, now: Instant) -> bool {
        match self {
            Self::Due => true,
            Self::Again(at) => *at <= now,
            Self::Settled => false,
        }
    }

    /// nats-server has answered.
    fn asked(&mut self, now: Instant) {
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
