//! Bus → backend → bus.
//!
//! `turn` takes one message from its delivery to its ack.
//!
//! Decisions, pure: `chain` says whose turn it is; `eligible` whether the backend is asked
//! (`numbers`: who is one person); `policy` what the
//! backend's answers mean; `burst` which texts are asked about together; `hold` whether a refusal concerns everybody; `limiter` how many calls may be under way;
//! `decision` how a message ends; `notice` whether a person is told that only text is read; `calls_per_chat` how often the backend is called for one chat; `crash_loop` when a message that kills is given up on. `records` is what the forwarder
//! writes about a message.
//!
//! What waits: `hand` has the queues of the chats (pure), `waiting` what they need from the bus, and `elsewhere` looks
//! after chats that wait for another process.
//!
//! State: `chats` (last outcomes, a cache); `ack_floor`; `circuit_breaker` (holds all messages
//! while the backend is away); `slots` (who may call now); `attempts` (marks on the bus for messages over which a
//! process dies).
//!
//! `typing` says that the backend works on a message. `backend` is the HTTP client. Any number of processes run this side by side. What they share is on the bus.

mod ack_floor;
mod attempts;
pub mod backend;
pub mod burst;
pub mod calls_per_chat;
pub mod chain;
mod chats;
mod circuit_breaker;
pub mod crash_loop;
mod decision;
pub mod eligible;
mod elsewhere;
mod hand;
mod hold;
mod limiter;
mod looks;
pub mod markdown;
mod notice;
pub mod numbers;
pub mod policy;
pub mod records;
mod slots;
mod turn;
mod typing;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, Delivery, Gone, ReadError, StreamClock};
use crate::task::{OnPanic, Tasks, spawn};
use crate::telemetry::Seldom;
use crate::wire::{FileLinks, Subjects};
use ack_floor::AckFloor;
use attempts::Attempts;
use backend::{Backend, Transcriber, Url};
use chats::Chats;
use circuit_breaker::{CircuitBreaker, Wanted};
pub use decision::{Format, Mode};
use slots::{Slot, Slots};
use waiting::{Message, Waiting, Working};

/// The most messages that one pull request asks for.
const MAX_BATCH: usize = 256;
/// So many messages may be at work beside those that have a slot: between two attempts, or held.
const MAX_BETWEEN: usize = 2_048;

/// So many voice notes are listened to at once; each takes as much memory as it has bytes, up to 16 MiB, twice.
const LISTENERS: usize = 4;

/// What an operator can set for the forwarder.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The backend.
    pub backend: backend::Settings,
    /// Which messages the backend is asked about.
    pub eligible: eligible::Settings,
    /// How many calls may be in flight in this process, if the backend can take so many.
    pub concurrency: usize,
    /// How long a failing message is retried before it becomes a dead letter.
    pub retry_for: Duration,
    /// What the customer gets instead of an answer. Empty: nothing.
    pub fallback_text: String,
    /// What a person gets whose message has no words that could be asked about. Empty: nothing.
    pub unsupported_text: String,
    /// How many calls of the backend one chat may cause. `None`: any number.
    pub calls_per_chat: Option<calls_per_chat::Limit>,
    /// What a person gets whose chat has caused so many. Empty: nothing.
    pub rate_text: String,
    /// The files of messages that are asked about with all fields.
    pub files: Files,
    /// Has voice notes written down. `None`: they have no words.
    pub transcriber: Option<backend::TranscriberSettings>,
    /// How the backend writes its answers.
    pub format: Format,
    /// What happens to the backend's answers.
    pub mode: Mode,
    /// People see that the backend works on an answer.
    pub typing: bool,
    /// In shadow: how long after a message was stored the live service may ask first.
    pub shadow_delay: Duration,
    /// Which texts are asked about together.
    pub join: burst::Settings,
    /// A person who writes keeps the assistant silent.
    pub takeover: bool,
}

/// What the backend is told of files.
#[derive(Debug, Clone)]
pub struct Files {
    /// How long after a message was stored its call waits for the file.
    pub wait: Duration,
    /// Addresses under which the backend fetches them. `None`: it reads the bucket.
    pub links: Option<Links>,
}

/// Addresses of files.
#[derive(Debug, Clone)]
pub struct Links {
    /// Where a process serves them.
    pub base: Url,
    /// Signs them.
    pub signer: FileLinks,
    /// How long one is good.
    pub good_for: Duration,
}

impl Links {
    /// The address of a file, as of now.
    pub(crate) fn to(&self, key: &str, mime_type: &str, now_ms: i64) -> String {
        let now = u64::try_from(now_ms / 1_000).unwrap_or(0);
        self.signer.sign(self.base.as_str(), key, mime_type, now.saturating_add(self.good_for.as_secs()))
    }
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
    transcriber: Option<Transcriber>,
    /// A place for each voice note that is listened to.
    listeners: Semaphore,
    unheard: Seldom,
    chats: Chats,
    waiting: Arc<Waiting>,
    /// One for each message at work.
    room: Arc<Semaphore>,
    ack_floor: AckFloor,
    /// What `WA_IN` has no more.
    gone: Gone,
    /// What time it is for `WA_IN`.
    clock: StreamClock,
    breaker: CircuitBreaker,
    attempts: Attempts,
    slots: Slots,
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
            transcriber: settings.transcriber.clone().map(Transcriber::new).transpose()?,
            listeners: Semaphore::new(LISTENERS),
            unheard: Seldom::default(),
            chats: Chats::new(bus.clone(), subjects.stream_out(), incarnation),
            ack_floor: AckFloor::new(bus.clone(), subjects.stream_in(), subjects.consumer_forwarder()),
            gone: Gone::new(bus.clone(), subjects.stream_in()),
            clock: StreamClock::new(bus.clone(), subjects.stream_in()),
            breaker: CircuitBreaker::new(),
            attempts: Attempts::new(bus.clone(), subjects.clone()),
            slots: Slots::new(settings.concurrency, settings.backend.timeout),
            waiting: Arc::new(Waiting::new(bus.clone(), topology.forwarder_ack_wait)),
            room: Arc::new(Semaphore::new(
                settings.concurrency.saturating_add(MAX_BETWEEN).min(Semaphore::MAX_PERMITS),
            )),
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

    /// How many calls may be under way at once, of up to `BACKEND_CONCURRENCY`.
    pub fn limit(&self) -> usize {
        self.slots.limit()
    }

    /// What happens to the backend's answers.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Works until `stop`. Then finishes or gives back what is in flight, within `grace`.
    pub async fn run(self: Arc<Self>, grace: Duration) {
        let turns = Tasks::new("turn");
        let helpers = [
            spawn("next turns", OnPanic::EndProcess, Arc::clone(&self).begin_what_is_ready(turns.clone())),
            spawn("reservations", OnPanic::EndProcess, {
                let waiting = Arc::clone(&self.waiting);
                async move { waiting.reserve().await }
            }),
            spawn("outcome listener", OnPanic::EndProcess, {
                let forwarder = Arc::clone(&self);
                async move { forwarder.listen().await }
            }),
        ];
        while !self.stop.is_cancelled() {
            if let Err(error) = self.pull(&turns).await {
                tracing::warn!(%error, "pulling is interrupted");
                self.pause(Duration::from_millis(500)).await;
            }
            // Nothing is taken from a stream before it is known whether it is another one.
            while !self.stop.is_cancelled() && !self.rebind().await {
                self.pause(Duration::from_secs(1)).await;
            }
        }
        drop(helpers);
        self.closed.cancel();
        let end = Instant::now() + grace;
        self.waiting.give_back(grace / 2).await;
        if !turns.is_empty() {
            tracing::info!(turns = turns.len(), "finishing what is in flight");
        }
        if tokio::time::timeout_at(end, turns.ended()).await.is_err() {
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
                async |_may_have_lost| self.capacity().await,
                async |delivery| self.take(delivery, turns),
                || self.closed.cancel(),
            )
            .await
    }

    /// How many messages to ask for. Waits until at least one could begin.
    async fn capacity(&self) -> usize {
        let most = match self.breaker.wants_turns().await {
            Wanted::Any => MAX_BATCH,
            Wanted::Probes(count) => count,
        };
        drop(self.room.acquire().await);
        drop(self.slots.one().await);
        self.waiting.ask(self.slots.free(), most)
    }

    /// A message has come. It begins, or it waits in the hand.
    fn take(self: &Arc<Self>, delivery: Box<Delivery>, turns: &Tasks) {
        // The slot is taken here and not in the turn, because the next pull counts the free slots.
        let (slot, room) = (self.slots.one_now(), Arc::clone(&self.room).try_acquire_owned().ok());
        let may_begin = slot.is_some() && room.is_some();
        let route = &delivery.envelope.route;
        let chat = self.subjects.reply(&route.account, &route.chat);
        if let Some((at_work, message)) = self.waiting.arrives(&chat, delivery, may_begin) {
            self.begin(turns, Working::new(&self.waiting, at_work), message, slot, room);
        }
    }

    /// Begins what waits as soon as it is its turn and there is a slot for it.
    async fn begin_what_is_ready(self: Arc<Self>, turns: Tasks) {
        let work = async {
            loop {
                self.waiting.ready().await;
                // During a hold, few turns are of any use.
                self.breaker.wants_turns().await;
                let room = Arc::clone(&self.room).acquire_owned().await.ok();
                let slot = self.slots.one().await;
                if let Some((at_work, message)) = self.waiting.next() {
                    self.begin(&turns, Working::new(&self.waiting, at_work), message, slot, room);
                }
            }
        };
        // What waits is given back.
        self.stop.run_until_cancelled(work).await;
    }

    fn begin(
        self: &Arc<Self>,
        turns: &Tasks,
        working: Working,
        message: Message,
        slot: Option<Slot>,
        room: Option<OwnedSemaphorePermit>,
    ) {
        let forwarder = Arc::clone(self);
        turns.spawn(async move {
            let mut next = Some((working, message, slot));
            while let Some((working, message, slot)) = next.take() {
                turn::run(&forwarder, working, message, slot).await;
                // Often that was what the next one of its chat has waited for. It needs no other task.
                next = forwarder.next_at_once();
            }
            drop(room);
        });
    }

    /// What could begin without waiting for anything.
    fn next_at_once(&self) -> Option<(Working, Message, Option<Slot>)> {
        if self.stop.is_cancelled() || self.breaker.free().is_none() {
            return None;
        }
        let slot = self.slots.one_now()?;
        let (at_work, message) = self.waiting.next()?;
        Some((Working::new(&self.waiting, at_work), message, Some(slot)))
    }

    /// The consumer or its stream may be gone. Makes sure that both exist, as at the start. Returns whether it is known
    /// which stream it is.
    async fn rebind(&self) -> bool {
        let bound = async {
            self.bus.connected().await;
            let ensured = Box::pin(self.bus.ensure(&self.subjects, &self.topology, Role::Forwarder)).await;
            if let Err(error) = ensured {
                tracing::warn!(%error, "the inbound consumer is not available yet");
                self.pause(Duration::from_secs(1)).await;
            }
            self.bus.stream_state(&self.subjects.stream_in()).await
        };
        match self.stop.run_until_cancelled(bound).await {
            None => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "the inbound consumer is not available yet");
                return false;
            }
            Some(Ok(now)) if *now.incarnation != *self.chats.incarnation() => {
                tracing::error!("the inbound stream was made anew; its messages are counted from the start");
                self.chats.reincarnate(now.incarnation);
                self.waiting.forget();
                self.ack_floor.reset();
            }
            Some(Ok(_)) => {}
        }
        true
    }

    async fn pause(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }
}
