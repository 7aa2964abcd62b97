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
//! `routes` has the ways to the assistants: one for each account that has its own, one for all others. Each has its
//! `circuit_breaker` (holds its messages while it is away) and its `slots` (who may call now).
//!
//! State: `chats` (last outcomes, a cache); `ack_floor`; `attempts` (marks on the bus for messages over which a
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
mod routes;
mod slots;
mod turn;
mod typing;
mod waiting;

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, Delivery, Gone, ReadError, StreamClock};
use crate::task::{OnPanic, Task, Tasks, spawn};
use crate::telemetry::Seldom;
use crate::wire::{FileLinks, Subjects};
use ack_floor::AckFloor;
use attempts::Attempts;
use backend::{Transcriber, Url};
use chats::Chats;
pub use decision::{Format, Mode};
use hand::Lane;
pub use routes::{Changes, HeldRoute, OTHERS, RouteState, Settings as RouteSettings};
use routes::{Route, Routes, Seat};
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
    /// The backend of all accounts that have no route of their own.
    pub backend: backend::Settings,
    /// The accounts that have one (`ROUTES_FILE`).
    pub routes: Vec<RouteSettings>,
    /// Which messages the backend is asked about.
    pub eligible: eligible::Settings,
    /// How many calls of `backend` may be in flight in this process, if it can take so many.
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
    routes: Routes,
    transcriber: Option<Transcriber>,
    /// A place for each voice note that is listened to.
    listeners: Semaphore,
    unheard: Seldom,
    chats: Chats,
    waiting: Arc<Waiting>,
    ack_floor: AckFloor,
    /// What `WA_IN` has no more.
    gone: Gone,
    /// What time it is for `WA_IN`.
    clock: StreamClock,
    attempts: Attempts,
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
        let routes = Routes::new(&settings.backend, settings.concurrency, &settings.routes)?;
        let waiting = Arc::new(Waiting::new(bus.clone(), topology.forwarder_ack_wait));
        waiting.reroute(routes.lanes());
        Ok(Arc::new(Self {
            routes,
            transcriber: settings.transcriber.clone().map(Transcriber::new).transpose()?,
            listeners: Semaphore::new(LISTENERS),
            unheard: Seldom::default(),
            chats: Chats::new(bus.clone(), subjects.stream_out(), incarnation),
            ack_floor: AckFloor::new(bus.clone(), subjects.stream_in(), subjects.consumer_forwarder()),
            gone: Gone::new(bus.clone(), subjects.stream_in()),
            clock: StreamClock::new(bus.clone(), subjects.stream_in()),
            attempts: Attempts::new(bus.clone(), subjects.clone()),
            waiting,
            bus,
            subjects,
            topology,
            settings,
            stop,
            closed: CancellationToken::new(),
            abandon: CancellationToken::new(),
        }))
    }

    /// The routes whose messages do not go to their backend now, and whether no other route is in use.
    pub fn held(&self) -> (Vec<HeldRoute>, bool) {
        self.routes.held(|lane| self.waiting.waiting_in(lane))
    }

    /// How the routes are. Empty if there is only one.
    pub fn routes(&self) -> Vec<RouteState> {
        self.routes.states(|lane| self.waiting.waiting_in(lane))
    }

    /// How many calls may be under way at once, of up to `BACKEND_CONCURRENCY` for each route.
    pub fn limit(&self) -> usize {
        self.routes.limit()
    }

    /// From now on these accounts have routes of their own. What waits goes on there; calls that are under way end where
    /// they began.
    pub fn reroute(&self, routes: &[RouteSettings]) -> Result<Changes, backend::ClientError> {
        self.routes.replace(routes, |lanes| self.waiting.reroute(lanes))
    }

    /// What happens to the backend's answers.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Works until `stop`. Then finishes or gives back what is in flight, within `grace`.
    pub async fn run(self: Arc<Self>, grace: Duration) {
        let turns = Tasks::new("turn");
        let helpers = [
            spawn("lanes", OnPanic::EndProcess, Arc::clone(&self).keep_lanes(turns.clone())),
            spawn("reservations", OnPanic::EndProcess, {
                let forwarder = Arc::clone(&self);
                async move { forwarder.waiting.reserve(|lane| forwarder.routes.is_held(lane)).await }
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
                |_may_have_lost| self.capacity(),
                |delivery| {
                    self.take(delivery, turns);
                    ready(())
                },
                || self.closed.cancel(),
            )
            .await
    }

    /// How many messages to ask for. Waits until at least one could begin, whosever it is.
    async fn capacity(&self) -> usize {
        let mut changes = self.routes.changes();
        loop {
            let table = Arc::clone(&changes.borrow_and_update());
            tokio::select! {
                (free, most) = table.can_begin() => return self.waiting.ask(free, most),
                // The sender lives as long as `self`.
                _ = changes.changed() => {}
            }
        }
    }

    /// A message has come. It begins, or it waits in the hand.
    fn take(self: &Arc<Self>, delivery: Box<Delivery>, turns: &Tasks) {
        let place = &delivery.envelope.route;
        let chat = self.subjects.reply(&place.account, &place.chat);
        let route = self.routes.of(&place.account);
        // The slot is taken here and not in the turn, because the next pull counts the free slots.
        let begins = route.begin_now();
        if let Some((at_work, message)) = self.waiting.arrives(&chat, delivery, begins.is_some()) {
            let (seat, room) = begins.unzip();
            self.begin(turns, Working::new(&self.waiting, at_work), message, (route, seat, room));
        }
    }

    /// Sees to it that each lane is worked through, as long as there is such a route.
    async fn keep_lanes(self: Arc<Self>, turns: Tasks) {
        let mut changes = self.routes.changes();
        let mut lanes: HashMap<Lane, Task<()>> = HashMap::new();
        let work = async {
            loop {
                let table = Arc::clone(&changes.borrow_and_update());
                lanes.retain(|lane, _| table.has(*lane));
                for route in table.all() {
                    lanes.entry(route.lane).or_insert_with(|| {
                        let work = Arc::clone(&self).begin_what_is_ready(Arc::clone(route), turns.clone());
                        spawn("next turns", OnPanic::EndProcess, work)
                    });
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // What waits is given back.
        self.stop.run_until_cancelled(work).await;
    }

    /// Begins what waits in a route's lane as soon as it is its turn and there is a slot for it. Ends never.
    async fn begin_what_is_ready(self: Arc<Self>, route: Arc<Route>, turns: Tasks) {
        loop {
            self.waiting.ready(route.lane).await;
            let (seat, room) = route.begin().await.unzip();
            if let Some((at_work, message)) = self.waiting.next(route.lane) {
                let working = Working::new(&self.waiting, at_work);
                self.begin(&turns, working, message, (Arc::clone(&route), seat, room));
            }
        }
    }

    /// Begins a message of `route`.
    fn begin(
        self: &Arc<Self>,
        turns: &Tasks,
        working: Working,
        message: Message,
        (route, seat, room): (Arc<Route>, Option<Seat>, Option<OwnedSemaphorePermit>),
    ) {
        let forwarder = Arc::clone(self);
        turns.spawn(async move {
            let mut next = Some((working, message, seat));
            while let Some((working, message, seat)) = next.take() {
                turn::run(&forwarder, working, message, seat).await;
                // Often that was what the next one of its chat has waited for. It needs no other task.
                next = forwarder.next_at_once(&route);
            }
            drop(room);
        });
    }

    /// What could begin without waiting for anything, of this route.
    fn next_at_once(&self, route: &Arc<Route>) -> Option<(Working, Message, Option<Seat>)> {
        if self.stop.is_cancelled() || route.breaker.is_held() {
            return None;
        }
        let slot = route.slots.one_now()?;
        let (at_work, message) = self.waiting.next(route.lane)?;
        let seat = Seat { route: Arc::clone(route), slot };
        Some((Working::new(&self.waiting, at_work), message, Some(seat)))
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
