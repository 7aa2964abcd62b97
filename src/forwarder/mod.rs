//! Bus → backend → bus.
//!
//! `turn` takes one message from its delivery to its ack.
//!
//! Decisions, pure: `chain` says whose turn it is; `eligible` whether the backend is asked
//! (`numbers`: who is one person); `policy` what the
//! backend's answers mean; `decision` how a message ends; `crash_loop` when a message that kills is given up on.
//! `records` is what the forwarder writes about a message.
//!
//! State: `chats` (last outcomes: a cache and an alarm clock); `ack_floor`; `circuit_breaker` (holds all messages
//! while the backend is away); `attempts` (marks on the bus for messages over which a process dies).
//!
//! `backend` is the HTTP client. Any number of processes run this side by side. What they share is on the bus.

mod ack_floor;
mod attempts;
pub mod backend;
pub mod chain;
mod chats;
mod circuit_breaker;
pub mod crash_loop;
mod decision;
pub mod eligible;
pub mod numbers;
pub mod policy;
pub mod records;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::task::Tasks;
use crate::wire::Subjects;
use ack_floor::AckFloor;
use attempts::Attempts;
use backend::Backend;
use chats::Chats;
use circuit_breaker::{CircuitBreaker, Wanted};
pub use decision::Mode;

/// The most messages that one pull request asks for.
const MAX_BATCH: usize = 256;

/// What an operator can set for the forwarder.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The backend.
    pub backend: backend::Settings,
    /// Which messages the backend is asked about.
    pub eligible: eligible::Settings,
    /// How many calls may be in flight in this process.
    pub concurrency: usize,
    /// How long a failing message is retried before it becomes a dead letter.
    pub retry_for: Duration,
    /// What the customer gets instead of an answer. Empty: nothing.
    pub fallback_text: String,
    /// What happens to the backend's answers.
    pub mode: Mode,
}

/// Why the forwarder cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// The streams are not set up as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The bus did not answer at the start.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// The HTTP client could not be made.
    #[error("the HTTP client for BACKEND_URL cannot be made: {0}")]
    Http(#[from] backend::ClientError),
}

/// The forwarder of one process.
#[derive(Debug)]
pub struct Forwarder {
    bus: Bus,
    subjects: Subjects,
    topology: topology::Settings,
    settings: Settings,
    backend: Backend,
    chats: Arc<Chats>,
    ack_floor: AckFloor,
    breaker: CircuitBreaker,
    attempts: Attempts,
    permits: Arc<Semaphore>,
    /// How many of the permits retries may have. It is half of them, so that first attempts always get some.
    retries: Arc<Semaphore>,
    /// Begin nothing new, and give back what waits.
    stop: CancellationToken,
    /// Nothing is pulled any more, so a message that is given back goes to another process.
    closed: CancellationToken,
    /// Give back also what is in flight.
    abandon: CancellationToken,
}

impl Forwarder {
    /// Makes sure that the streams exist, and gets ready.
    pub async fn start(
        bus: Bus,
        subjects: Subjects,
        topology: topology::Settings,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ForwarderError> {
        bus.ensure(&subjects, &topology, Role::Forwarder).await?;
        let incarnation = bus.stream_created(&subjects.stream_in()).await?;
        if settings.mode == Mode::Shadow {
            tracing::warn!(
                "shadow: nobody gets an answer. Answers are stored on the bus and not sent; BACKEND_MODE=answer ends this"
            );
        }
        Ok(Arc::new(Self {
            backend: Backend::new(settings.backend.clone())?,
            chats: Chats::new(bus.clone(), subjects.stream_out(), incarnation),
            ack_floor: AckFloor::new(bus.clone(), subjects.stream_in(), subjects.consumer_forwarder()),
            breaker: CircuitBreaker::new(),
            attempts: Attempts::new(bus.clone(), subjects.clone()),
            permits: Arc::new(Semaphore::new(settings.concurrency)),
            retries: Arc::new(Semaphore::new((settings.concurrency / 2).max(1))),
            bus,
            subjects,
            topology,
            settings,
            stop,
            closed: CancellationToken::new(),
            abandon: CancellationToken::new(),
        }))
    }

    /// Why no message goes to the backend now. `None`: messages go.
    pub fn held(&self) -> Option<String> {
        self.breaker.reason()
    }

    /// What happens to the backend's answers.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Works until `stop`. Then finishes or gives back what is in flight, within `grace`.
    pub async fn run(self: Arc<Self>, grace: Duration) {
        let turns = Tasks::new("turn");
        while !self.stop.is_cancelled() {
            if let Err(error) = self.pull(&turns).await {
                tracing::warn!(%error, "pulling is interrupted");
                self.pause(Duration::from_millis(500)).await;
            }
            if !self.stop.is_cancelled() {
                self.rebind().await;
            }
        }
        self.closed.cancel();
        if !turns.is_empty() {
            tracing::info!(turns = turns.len(), "finishing what is in flight");
        }
        if tokio::time::timeout(grace, turns.ended()).await.is_err() {
            tracing::warn!(turns = turns.len(), "giving back what did not finish in time");
            self.abandon.cancel();
            turns.ended().await;
        }
    }

    /// Pulls until `stop`, or until the consumer is gone.
    async fn pull(self: &Arc<Self>, turns: &Tasks) -> Result<(), ReadError> {
        let consumer = (self.subjects.stream_in(), self.subjects.consumer_forwarder());
        self.bus
            .pull(
                &self.subjects,
                consumer,
                &self.stop,
                async || self.capacity().await,
                async |delivery| {
                    // The permit is taken here and not in the turn, because the next pull counts the free permits.
                    let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
                    turns.spawn(turn::run(Arc::clone(self), delivery, permit));
                },
                || self.closed.cancel(),
            )
            .await
    }

    /// How many messages could begin now. Waits until it is at least one.
    async fn capacity(&self) -> usize {
        if self.breaker.wants_a_turn().await == Wanted::Probe {
            return 1;
        }
        // This fails only when the semaphore is closed, and nothing closes it.
        drop(self.permits.acquire().await);
        self.permits.available_permits().clamp(1, MAX_BATCH)
    }

    /// The consumer or its stream may be gone. Makes sure that both exist, as at the start.
    async fn rebind(&self) {
        let ensured = self.bus.ensure(&self.subjects, &self.topology, Role::Forwarder);
        let bound = async {
            ensured.await?;
            let incarnation = self.bus.stream_created(&self.subjects.stream_in()).await?;
            if incarnation != self.chats.incarnation() {
                tracing::error!("the inbound stream was made anew; its messages are counted from the start");
                self.chats.reincarnate(incarnation);
                self.ack_floor.reset();
            }
            Ok::<(), ForwarderError>(())
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            result = bound => {
                if let Err(error) = result {
                    tracing::warn!(%error, "the inbound consumer is not available yet");
                    self.pause(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }
}
