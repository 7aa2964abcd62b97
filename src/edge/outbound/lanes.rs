//! Bus → WhatsApp: outcomes and send requests, one at a time per chat, many chats in parallel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::carrying::{Carried, Carrier, Means};
use super::order::{Progress, Spot};
use super::recalls::Asking;
use super::reports::Reporter;
use crate::bus::topology::{self, Role};
use crate::bus::{Bus, Delivery, Gone, ReadError, Record};
use crate::crash;
use crate::task::{OnPanic, Tasks, spawn};
use crate::telemetry::{metrics, spans};
use crate::wire::{Account, ChatToken, Subjects};

/// The most messages that one pull request asks for.
const MAX_BATCH: usize = 256;
/// The most messages in flight at once. It equals the consumer's own limit of unacknowledged messages: replies that
/// wait for an earlier reply must never keep that one out.
const MAX_IN_FLIGHT: usize = topology::EDGE_MAX_ACK_PENDING;
/// How often a message that waits for its predecessor checks the consumer.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The kind of a request's subject.
const SEND: &str = "send";

/// The sending half of the edge.
#[derive(Debug)]
pub(crate) struct Outbound {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    carrier: Carrier,
    topology: topology::Settings,
    progress: Mutex<Progress>,
    /// The incarnation of `WA_OUT` that `progress` is about.
    incarnation: Mutex<String>,
    /// What `WA_OUT` has no more.
    gone: Gone,
    in_flight: Mutex<HashMap<ChatToken, Lane>>,
    recalls: Asking,
    /// Something was finished or has come in, so all waiting tasks check again.
    moved: Notify,
    tasks: Tasks,
    stop: CancellationToken,
    abandon: CancellationToken,
}

/// If a lane's task panics, the lane must not stay without a task. The lane is removed, and its messages are
/// redelivered after the ack wait. Other chats are not affected.
struct Unwinding<'a> {
    outbound: &'a Outbound,
    chat: &'a ChatToken,
}

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.outbound.lanes().remove(self.chat);
            self.outbound.moved.notify_waiters();
        }
    }
}

/// The messages of one chat in flight, in their order. The lane's task works on the lowest.
type Lane = BTreeMap<Spot, Arc<Delivery>>;

impl Outbound {
    /// Ready to run.
    pub(crate) async fn new(
        bus: Bus,
        subjects: Subjects,
        account: Account,
        means: Means,
        topology: topology::Settings,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ReadError> {
        let incarnation = Mutex::new(bus.stream_created(&subjects.stream_out()).await?);
        let state = bus.consumer_state(&subjects.stream_out(), &subjects.consumer_edge(&account)).await?;
        means.offers.settled(state.ack_floor);
        let abandon = CancellationToken::new();
        let reporter = Reporter {
            bus: bus.clone(),
            subjects: subjects.clone(),
            account: account.clone(),
            abandon: abandon.clone(),
        };
        Ok(Arc::new(Self {
            progress: Mutex::new(Progress::new(state.ack_floor, state.delivered, state.ack_pending)),
            incarnation,
            gone: Gone::new(bus.clone(), subjects.stream_out()),
            carrier: Carrier::new(means, reporter, subjects.stream_out(), stop.clone()),
            bus,
            subjects,
            account,
            topology,
            in_flight: Mutex::default(),
            recalls: Asking::default(),
            moved: Notify::new(),
            tasks: Tasks::new("edge lane"),
            stop,
            abandon,
        }))
    }

    /// Works until `stop`. Then waits up to `grace` for the sends in flight, but not once the lease is `lost`.
    pub(crate) async fn run(self: Arc<Self>, grace: Duration, lost: CancellationToken) {
        let heartbeat = {
            let this = Arc::clone(&self);
            let abandon = this.abandon.clone();
            spawn("edge heartbeat", OnPanic::EndProcess, async move {
                abandon.run_until_cancelled(this.keep_in_flight()).await;
            })
        };
        while !self.stop.is_cancelled() {
            if let Err(error) = self.pull().await {
                tracing::warn!(%error, "pulling replies is interrupted");
            }
            // Nothing is taken from a stream before it is known whether it is the one that `progress` is about.
            let mut bound = false;
            while !bound && !self.stop.is_cancelled() {
                let _ = tokio::time::timeout(Duration::from_millis(500), self.stop.cancelled()).await;
                bound = self.stop.run_until_cancelled(self.rebind()).await.unwrap_or(false);
            }
        }
        let _ = tokio::time::timeout(grace, lost.run_until_cancelled(self.tasks.ended())).await;
        let chats = self.tasks.len();
        if chats > 0 {
            tracing::warn!(
                chats,
                "sends that did not end in time are unknown; they are sent again under the same ids"
            );
        }
        self.abandon.cancel();
        self.tasks.ended().await;
        for delivery in self.in_flight() {
            delivery.nak(None).await;
        }
        self.lanes().clear();
        // `abandon` ends it.
        let _ = heartbeat.await;
    }

    /// The consumer or its stream may be gone. Makes sure that both exist, as at the start. Returns whether it is known
    /// which stream it is.
    async fn rebind(&self) -> bool {
        self.bus.connected().await;
        let role = Role::Edge(&self.account);
        if let Err(error) = Box::pin(self.bus.ensure(&self.subjects, &self.topology, role)).await {
            tracing::warn!(%error, "the outbound consumer is not available yet");
        }
        let counted = self.count_anew().await;
        if let Err(error) = &counted {
            tracing::warn!(%error, "the outbound consumer is not available yet");
        }
        counted.is_ok()
    }

    /// If the stream was made anew, its sequences start again, and nothing in it has been sent.
    async fn count_anew(&self) -> Result<(), ReadError> {
        let incarnation = self.bus.stream_state(&self.subjects.stream_out()).await?.incarnation;
        if incarnation == *self.incarnation() {
            return Ok(());
        }
        let consumer = self.subjects.consumer_edge(&self.account);
        let state = self.bus.consumer_state(&self.subjects.stream_out(), &consumer).await?;
        tracing::error!(
            "the outbound stream was made anew; what it held is lost, and its messages are counted from the start"
        );
        // First, so that no answer about the old stream is taken for one about the new one.
        *self.incarnation() = incarnation;
        self.progress().anew(state.ack_floor, state.delivered, state.ack_pending);
        self.moved.notify_waiters();
        Ok(())
    }

    async fn pull(self: &Arc<Self>) -> Result<(), ReadError> {
        let consumer = (self.subjects.stream_out(), self.subjects.consumer_edge(&self.account));
        self.bus
            .pull(
                &self.subjects,
                consumer,
                &self.stop,
                |may_have_lost| self.room(may_have_lost),
                |delivery| self.take(*delivery),
                || {},
            )
            .await
    }

    async fn room(&self, may_have_lost: bool) -> usize {
        self.recall(may_have_lost).await;
        self.capacity().await
    }

    /// What was on its way over a connection that broke, or to an edge that is gone, comes at once and not after the ack
    /// wait. No other edge has any of it: this one has the lease.
    async fn recall(&self, may_have_lost: bool) {
        let consumer = (self.subjects.stream_out(), self.subjects.consumer_edge(&self.account));
        let here = || self.in_flight().iter().map(|delivery| delivery.sequence).collect();
        let is_done = |sequence| self.progress().is_done(sequence);
        self.recalls.ask(&self.bus, consumer, may_have_lost, here, is_done).await;
    }

    /// How many more messages may be pulled. Waits until WhatsApp is connected and the number is at least one.
    async fn capacity(&self) -> usize {
        loop {
            let moved = self.moved.notified();
            let in_flight: usize = self.lanes().values().map(Lane::len).sum();
            if in_flight < MAX_IN_FLIGHT {
                self.carrier.connection().client().await;
                return MAX_BATCH.min(MAX_IN_FLIGHT - in_flight);
            }
            moved.await;
        }
    }

    /// Puts a delivery into its chat's lane. Starts the lane's task if it has none.
    async fn take(self: &Arc<Self>, delivery: Delivery) {
        let chat = delivery.envelope.route.chat.clone();
        let (spot, finished) = {
            let mut progress = self.progress();
            (progress.delivered(delivery.sequence), progress.is_done(delivery.sequence))
        };
        if finished {
            delivery.ack().await;
            return;
        }
        let is_new = {
            let mut lanes = self.lanes();
            let is_new = !lanes.contains_key(&chat);
            // This is a second delivery of a message in flight. Its ack is valid for longer than that of the first
            // delivery.
            lanes.entry(chat.clone()).or_default().insert(spot, Arc::new(delivery));
            is_new
        };
        if is_new {
            let this = Arc::clone(self);
            self.tasks.spawn(async move { this.work_off(chat).await });
        }
        self.moved.notify_waiters();
    }

    /// Works through one chat's lane, lowest sequence first, until it is empty.
    async fn work_off(self: &Arc<Self>, chat: ChatToken) {
        let _unwinding = Unwinding { outbound: self, chat: &chat };
        loop {
            let (spot, next) = {
                let mut lanes = self.lanes();
                match lanes.get(&chat).and_then(|lane| lane.first_key_value()) {
                    Some((spot, delivery)) => (*spot, Arc::clone(delivery)),
                    None => {
                        lanes.remove(&chat);
                        return;
                    }
                }
            };
            crash::panic_at("a lane at work");
            let carried = tokio::select! {
                biased;
                () = self.abandon.cancelled() => return,
                carried = self.work(&chat, spot, &next) => carried,
            };
            let ended = match carried {
                Carried::Open => None,
                Carried::Ended => Some(None),
                Carried::Accepted(accepted) => Some(Some(accepted)),
            };
            if let Some(accepted) = ended {
                debug_assert!(
                    self.progress().may_send(spot, next.envelope.previous),
                    "an answer was sent before the answer that it follows"
                );
                crash::point_of("edge.before-ack", &next.envelope.message_id);
                self.finished(spot);
                self.acknowledge(spot, next, accepted);
                if let Some(lane) = self.lanes().get_mut(&chat) {
                    lane.remove(&spot);
                }
                self.moved.notify_waiters();
            } else if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Tells the bus that a message is dealt with: once others can see that WhatsApp has it, and once it is on the disk for a
    /// phone that asks for it again, because the bus does not hand it over any more then. The chat's next message does not
    /// wait for that.
    fn acknowledge(self: &Arc<Self>, spot: Spot, delivery: Arc<Delivery>, accepted: Option<Box<Record>>) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(accepted) = accepted
                && !this.carrier.tell(&accepted).await
            {
                return;
            }
            this.carrier.connection().kept().await;
            if this.progress().is_current(spot) {
                delivery.ack().await;
            }
        });
    }

    /// Works on a delivery. If it stays open, the lane must be checked again.
    async fn work(&self, chat: &ChatToken, spot: Spot, delivery: &Delivery) -> Carried {
        let moved = self.moved.notified();
        let is_request = delivery.envelope.route.kind == SEND;
        let may_send = {
            let progress = self.progress();
            let of_request =
                !is_request || progress.may_send_request(spot) || crash::switched_off("requests-wait");
            of_request && progress.may_send(spot, delivery.envelope.previous)
        };
        if !may_send {
            // An earlier reply may be on its way to this edge, or the consumer may say that there is none.
            let heard = tokio::select! {
                () = moved => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
                () = self.stop.cancelled() => return Carried::Open,
            };
            if !heard && is_request {
                self.check_in_hand(spot).await;
            } else if !heard {
                self.check(spot, delivery.envelope.previous).await;
            }
            return Carried::Open;
        }
        if self.stop.is_cancelled() {
            return Carried::Open;
        }
        self.carrier.carry(chat, delivery).instrument(self.span(delivery)).await
    }

    /// The span continues the trace of the message to send.
    fn span(&self, delivery: &Delivery) -> tracing::Span {
        if delivery.delivered > 1 {
            metrics::REDELIVERIES.add(1, [&self.subjects.consumer_edge(&self.account)]);
        }
        spans::process_out(
            &delivery.envelope,
            spans::Delivered {
                stream: &self.subjects.stream_out(),
                consumer: &self.subjects.consumer_edge(&self.account),
                sequence: delivery.sequence,
                count: delivery.delivered,
            },
        )
    }

    /// Has everything up to `previous`, the outcome before this one, ended, or is it gone from the bus unsent?
    async fn check(&self, spot: Spot, previous: u64) {
        let (stream, consumer) = (self.subjects.stream_out(), self.subjects.consumer_edge(&self.account));
        let known = self.incarnation().clone();
        let checked = async {
            let state = self.bus.consumer_state(&stream, &consumer).await?;
            let is_gone = state.is_alone(spot.sequence) || self.gone.has(&known, previous).await?;
            Ok::<_, ReadError>((state.ack_floor, is_gone))
        };
        match checked.await {
            // Else it is an answer about another stream.
            Ok((floor, is_gone)) if *self.incarnation() == known => {
                let mut progress = self.progress();
                progress.floor(floor);
                if is_gone && progress.is_current(spot) {
                    progress.finished(previous);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "what the bus still has is not known"),
        }
    }

    /// Does the bus count nothing as in hand but what is here? Then what an earlier edge had is settled, or gone, and does not come
    /// again.
    async fn check_in_hand(&self, spot: Spot) {
        let (stream, consumer) = (self.subjects.stream_out(), self.subjects.consumer_edge(&self.account));
        let known = self.incarnation().clone();
        let here = |all: Vec<Arc<Delivery>>| all.iter().map(|one| one.sequence).collect::<BTreeSet<u64>>();
        let before = here(self.in_flight());
        let state = match self.bus.consumer_state(&stream, &consumer).await {
            Ok(state) => state,
            Err(error) => return tracing::debug!(%error, "what the bus still has is not known"),
        };
        // What was here before and after was in hand for the bus in between: if it is as many, it is all.
        let all_the_time = here(self.in_flight()).intersection(&before).count();
        // Else it is an answer about another stream.
        if *self.incarnation() == known {
            let mut progress = self.progress();
            progress.floor(state.ack_floor);
            if state.ack_pending <= all_the_time && progress.is_current(spot) {
                progress.none_comes_again();
            }
        }
    }

    fn finished(&self, spot: Spot) {
        let mut progress = self.progress();
        if progress.is_current(spot) {
            progress.finished(spot.sequence);
        }
    }

    /// What is in flight and still in the stream.
    fn in_flight(&self) -> Vec<Arc<Delivery>> {
        let (lanes, progress) = (self.lanes(), self.progress());
        let all = lanes.values().flatten();
        all.filter(|(spot, _)| progress.is_current(**spot))
            .map(|(_, delivery)| Arc::clone(delivery))
            .collect()
    }

    /// Tells the bus, well within the ack wait, that every message in flight is still being worked on. Also forgets
    /// the chats that get no more messages.
    async fn keep_in_flight(&self) {
        let mut ticks = tokio::time::interval(self.topology.edge_ack_wait / 3);
        loop {
            ticks.tick().await;
            for delivery in self.in_flight() {
                delivery.progress().await;
            }
            self.carrier.forget_idle();
        }
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<ChatToken, Lane>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn incarnation(&self) -> std::sync::MutexGuard<'_, String> {
        self.incarnation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
