//! Bus → WhatsApp: outcomes and send requests, one at a time per chat, chats side by side.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::job::Job;
use super::loop_breaker::{LoopBreaker, Verdict};
use super::order::Progress;
use super::rate::Limit;
use super::rate_limit::RateLimits;
use super::reports::Reporter;
use super::sending::{Sender, Undeliverable};
use crate::bus::topology::{self, Role};
use crate::bus::{Bus, Delivery, ReadError};
use crate::crash;
use crate::task::{OnPanic, Tasks, spawn};
use crate::telemetry::{metrics, spans};
use crate::wire::{Account, ChatToken, Subjects, id, now_ms};

/// The most messages that one pull request asks for.
const MAX_BATCH: usize = 256;
/// More messages than this are not in hand at once. It is the consumer's own bound on what is not
/// acknowledged: replies that wait for an earlier one must never keep that earlier one out.
const MAX_IN_HAND: usize = topology::EDGE_MAX_ACK_PENDING;
/// So many chats are sent to at once.
const MAX_SENDING: usize = 64;
/// How often a message that has to wait for its predecessor looks at the consumer.
const LOOK: Duration = Duration::from_secs(1);

/// How fast messages may leave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Messages to one chat (`SEND_PER_CHAT`): over it they wait.
    pub per_chat: Limit,
    /// Messages in all (`SEND_TOTAL`): over it they wait.
    pub total: Limit,
    /// Answers to one chat, by when their messages were written (`LOOP_LIMIT`): over it they are not sent.
    pub loops: Limit,
}

/// The sending half of the edge.
#[derive(Debug)]
pub(crate) struct Outbound {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    sender: Sender,
    rate_limits: RateLimits,
    loop_breaker: Mutex<LoopBreaker>,
    reporter: Reporter,
    topology: topology::Settings,
    progress: Mutex<Progress>,
    in_hand: Mutex<HashMap<ChatToken, Lane>>,
    /// Something was finished, or came in: whoever waits looks again.
    moved: Notify,
    sending: Semaphore,
    tasks: Tasks,
    stop: CancellationToken,
    abandon: CancellationToken,
}

/// A lane whose task panics must not stand there without one: it goes, its messages are delivered again after the
/// ack wait, and other chats feel nothing.
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

/// What one chat has in hand, by sequence. Its task works on the lowest.
type Lane = BTreeMap<u64, Arc<Delivery>>;

impl Outbound {
    /// Ready to run.
    pub(crate) async fn new(
        bus: Bus,
        subjects: Subjects,
        account: Account,
        sender: Sender,
        topology: topology::Settings,
        limits: Limits,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ReadError> {
        let state = bus.consumer_state(&subjects.stream_out(), &subjects.consumer_edge(&account)).await?;
        let abandon = CancellationToken::new();
        Ok(Arc::new(Self {
            progress: Mutex::new(Progress::new(state.ack_floor, state.delivered, state.ack_pending)),
            rate_limits: RateLimits::new(limits.per_chat, limits.total),
            loop_breaker: Mutex::new(LoopBreaker::new(limits.loops)),
            reporter: Reporter {
                bus: bus.clone(),
                subjects: subjects.clone(),
                account: account.clone(),
                abandon: abandon.clone(),
            },
            bus,
            subjects,
            account,
            sender,
            topology,
            in_hand: Mutex::default(),
            moved: Notify::new(),
            sending: Semaphore::new(MAX_SENDING),
            tasks: Tasks::new("edge lane"),
            stop,
            abandon,
        }))
    }

    /// Works until `stop`, then waits for the sends under way, up to `grace`, and not at all once `lost`.
    pub(crate) async fn run(self: Arc<Self>, grace: Duration, lost: CancellationToken) {
        let heart = {
            let this = Arc::clone(&self);
            let beat = this.abandon.clone();
            spawn("edge heartbeat", OnPanic::EndProcess, async move {
                beat.run_until_cancelled(this.keep_in_hand()).await;
            })
        };
        while !self.stop.is_cancelled() {
            if let Err(error) = self.pull().await {
                tracing::warn!(%error, "pulling replies is interrupted");
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), self.stop.cancelled()).await;
            self.rebind().await;
        }
        let finished = tokio::time::timeout(grace, lost.run_until_cancelled(self.tasks.ended())).await;
        if !matches!(finished, Ok(Some(()))) {
            tracing::warn!(
                chats = self.tasks.len(),
                "sends that did not end in time are unknown; they go again under the same ids"
            );
        }
        self.abandon.cancel();
        self.tasks.ended().await;
        let rest: Vec<_> =
            std::mem::take(&mut *self.lanes()).into_values().flat_map(Lane::into_values).collect();
        for delivery in rest {
            delivery.nak(None).await;
        }
        // Ended by `abandon`.
        let _ = heart.await;
    }

    /// The consumer or its stream may be gone: makes sure of both, as at the start.
    async fn rebind(&self) {
        let ensured = self.bus.ensure(&self.subjects, &self.topology, Role::Edge(&self.account));
        if let Some(Err(error)) = self.stop.run_until_cancelled(ensured).await {
            tracing::warn!(%error, "the outbound consumer is not to be had yet");
        }
    }

    async fn pull(self: &Arc<Self>) -> Result<(), ReadError> {
        let consumer = (self.subjects.stream_out(), self.subjects.consumer_edge(&self.account));
        self.bus
            .pull(
                &self.subjects,
                consumer,
                &self.stop,
                async || self.room().await,
                async |delivery| self.take(*delivery).await,
                || {},
            )
            .await
    }

    /// How many more may be taken; waits until WhatsApp is there and it is at least one.
    async fn room(&self) -> usize {
        loop {
            let moved = self.moved.notified();
            let in_hand: usize = self.lanes().values().map(Lane::len).sum();
            if in_hand < MAX_IN_HAND {
                self.sender.connection().client().await;
                return MAX_BATCH.min(MAX_IN_HAND - in_hand);
            }
            moved.await;
        }
    }

    /// Puts a delivery into its chat's lane, and starts the lane's task if it has none.
    async fn take(self: &Arc<Self>, delivery: Delivery) {
        let chat = delivery.envelope.route.chat.clone();
        let finished = {
            let mut progress = self.progress();
            progress.delivered(delivery.sequence);
            progress.is_done(delivery.sequence)
        };
        if finished {
            delivery.ack().await;
            return;
        }
        let is_new = {
            let mut lanes = self.lanes();
            let is_new = !lanes.contains_key(&chat);
            // A second delivery of what is in hand: its acks reach further than the first one's.
            lanes.entry(chat.clone()).or_default().insert(delivery.sequence, Arc::new(delivery));
            is_new
        };
        if is_new {
            let this = Arc::clone(self);
            self.tasks.spawn(async move { this.work_off(chat).await });
        }
        self.moved.notify_waiters();
    }

    /// Works off one chat's lane, lowest sequence first, until it is empty.
    async fn work_off(&self, chat: ChatToken) {
        let _unwinding = Unwinding { outbound: self, chat: &chat };
        loop {
            let next = {
                let mut lanes = self.lanes();
                match lanes.get(&chat).and_then(|lane| lane.first_key_value()) {
                    Some((_, delivery)) => Arc::clone(delivery),
                    None => {
                        lanes.remove(&chat);
                        return;
                    }
                }
            };
            let ended = tokio::select! {
                biased;
                () = self.abandon.cancelled() => return,
                ended = self.work(&chat, &next) => ended,
            };
            if ended {
                debug_assert!(
                    self.progress().may_send(next.envelope.previous),
                    "an answer went before the one in front of it"
                );
                crash::point("edge.before-ack");
                next.ack().await;
                self.progress().finished(next.sequence);
                if let Some(lane) = self.lanes().get_mut(&chat) {
                    lane.remove(&next.sequence);
                }
                self.moved.notify_waiters();
            } else if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Returns whether the delivery is finished; else the lane has to be looked at again.
    async fn work(&self, chat: &ChatToken, delivery: &Delivery) -> bool {
        let moved = self.moved.notified();
        let may_send = self.progress().may_send(delivery.envelope.previous);
        if !may_send {
            // An earlier reply may be on its way here, or the consumer may tell that it is not.
            let heard = tokio::select! {
                () = moved => true,
                () = tokio::time::sleep(LOOK) => false,
                () = self.stop.cancelled() => return false,
            };
            if !heard {
                self.look_at_floor().await;
            }
            return false;
        }
        if self.stop.is_cancelled() {
            return false;
        }
        self.process(chat, delivery).instrument(self.span(delivery)).await
    }

    /// The trace of whatever has to be sent goes on.
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

    async fn look_at_floor(&self) {
        let consumer = self.subjects.consumer_edge(&self.account);
        match self.bus.consumer_state(&self.subjects.stream_out(), &consumer).await {
            Ok(state) => self.progress().floor(state.ack_floor),
            Err(error) => tracing::debug!(%error, "the consumer's state is not to be had"),
        }
    }

    async fn process(&self, chat: &ChatToken, delivery: &Delivery) -> bool {
        let job = match Job::read(&delivery.envelope, &delivery.payload) {
            Ok(Some(job)) => job,
            Ok(None) => return true,
            Err(why) => {
                tracing::error!(why, "a message for WhatsApp cannot be read; it is given up on");
                let place = format!("{}/{}", self.subjects.stream_out(), delivery.sequence);
                let cause = delivery.envelope.any_id().unwrap_or(&place);
                return self.reporter.failure(chat, cause, None, why).await;
            }
        };
        let whatsapp_id = id::whatsapp(&job.cause);
        if let Some(written_ms) = job.answers {
            let verdict = self.loop_breaker().judge(chat, delivery.sequence, written_ms, Instant::now());
            if let Verdict::Suppress { first } = verdict {
                return self.suppress(chat, &job.cause, whatsapp_id, first).await;
            }
        }
        let Some(_permit) = self.stop.run_until_cancelled(self.turn(chat)).await else { return false };
        let span = spans::send(&whatsapp_id);
        let _sending = metrics::SENDING.enter([]);
        match self.send(&job, &whatsapp_id).instrument(span.clone()).await {
            Ok(()) => {
                tracing::info!(whatsapp_id, "sent");
                metrics::MESSAGES.add(1, ["out", "text"]);
                if let Some((decided, received)) = job.times {
                    metrics::DELIVER.record_since(decided, now_ms(), []);
                    metrics::WHOLE.record_since(received, now_ms(), []);
                }
                true
            }
            Err(why) => {
                spans::failed(&span, &why.to_string());
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::error!(whatsapp_id, %why, "WhatsApp does not take a message; it is given up on");
                self.reporter.failure(chat, &job.cause, Some(whatsapp_id), &why.to_string()).await
            }
        }
    }

    /// Waits until the chat may be sent to. What waits for its own chat keeps nobody else from sending; a
    /// token of everybody's is not taken before it can be used.
    async fn turn(&self, chat: &ChatToken) -> Option<SemaphorePermit<'_>> {
        self.rate_limits.of_chat(chat).await;
        // Fails only once the semaphore is closed, which nobody does.
        let permit = self.sending.acquire().await.ok();
        self.sender.connection().client().await;
        self.rate_limits.of_all().await;
        permit
    }

    /// An answer that would keep a loop turning.
    async fn suppress(&self, chat: &ChatToken, cause: &str, whatsapp_id: String, first: bool) -> bool {
        if first {
            tracing::warn!(
                "a chat writes faster than LOOP_LIMIT, as bots do that answer each other; it gets no answers until it has slowed down"
            );
            let state = self.sender.connection().state();
            if !self.reporter.loop_broken(chat, cause, &state).await {
                return false;
            }
        }
        tracing::debug!(whatsapp_id, "not sent, because of LOOP_LIMIT");
        metrics::UNDELIVERABLE.add(1, ["loop-limit"]);
        self.reporter.failure(chat, cause, Some(whatsapp_id), "loop-limit").await
    }

    async fn send(&self, job: &Job, whatsapp_id: &str) -> Result<(), Undeliverable> {
        let to = job.address().ok_or(Undeliverable::Invalid)?;
        if job.first_contact && job.is_to_phone() && !self.sender.is_known(&to).await {
            return Err(Undeliverable::UnknownNumber);
        }
        self.sender.send(&to, whatsapp_id, &job.text).await
    }

    /// Tells the bus, well within the ack wait, that everything in hand is still in hand; and forgets who is
    /// not sent to any more.
    async fn keep_in_hand(&self) {
        let mut ticks = tokio::time::interval(self.topology.edge_ack_wait / 3);
        loop {
            ticks.tick().await;
            let all: Vec<_> = self.lanes().values().flat_map(|lane| lane.values().cloned()).collect();
            for delivery in all {
                delivery.progress().await;
            }
            self.rate_limits.forget_idle();
            self.loop_breaker().forget_idle(Instant::now());
        }
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<ChatToken, Lane>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loop_breaker(&self) -> std::sync::MutexGuard<'_, LoopBreaker> {
        self.loop_breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
