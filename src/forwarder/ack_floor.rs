//! The shared consumer's ack floor, requested at most once a second, no matter how many turns wait.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::bus::{Bus, ReadError};

const STALE: Duration = Duration::from_secs(1);

/// A cached ack floor. It only grows, so an old value is only less helpful.
#[derive(Debug)]
pub(super) struct AckFloor {
    bus: Bus,
    stream: String,
    consumer: String,
    known: std::sync::atomic::AtomicU64,
    asked: Mutex<Option<Instant>>,
}

impl AckFloor {
    /// The ack floor of `consumer` on `stream`.
    pub(super) fn new(bus: Bus, stream: String, consumer: String) -> Self {
        Self { bus, stream, consumer, known: 0.into(), asked: Mutex::default() }
    }

    /// The value as far as known.
    pub(super) fn known(&self) -> u64 {
        self.known.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A value that is not older than a second.
    pub(super) async fn fresh(&self) -> Result<u64, ReadError> {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= STALE) {
            let state = self.bus.consumer_state(&self.stream, &self.consumer).await?;
            self.known.store(state.ack_floor, std::sync::atomic::Ordering::Relaxed);
            *asked = Some(Instant::now());
        }
        Ok(self.known())
    }

    /// The consumer was made anew.
    pub(super) fn reset(&self) {
        self.known.store(0, std::sync::atomic::Ordering::Relaxed);
    }
}
