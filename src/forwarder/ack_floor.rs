//! The shared consumer's state, with its ack floor, requested at most once a second, no matter how many turns wait.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{Bus, ConsumerState, ReadError};

const STALE: Duration = Duration::from_secs(1);

/// A cached state. The ack floor only grows, so an old value is only less helpful.
#[derive(Debug)]
pub(super) struct AckFloor {
    bus: Bus,
    stream: String,
    consumer: String,
    known: Mutex<ConsumerState>,
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl AckFloor {
    /// The ack floor of `consumer` on `stream`.
    pub(super) fn new(bus: Bus, stream: String, consumer: String) -> Self {
        Self { bus, stream, consumer, known: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// The ack floor as far as known.
    pub(super) fn known(&self) -> u64 {
        self.state().ack_floor
    }

    /// A state that is not older than a second. What has ended in it has ended for good.
    pub(super) async fn fresh(&self) -> Result<ConsumerState, ReadError> {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= STALE) {
            let state = self.bus.consumer_state(&self.stream, &self.consumer).await?;
            *self.state() = state;
            *asked = Some(Instant::now());
        }
        Ok(*self.state())
    }

    /// The consumer was made anew.
    pub(super) fn reset(&self) {
        *self.state() = ConsumerState::default();
    }

    fn state(&self) -> MutexGuard<'_, ConsumerState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
