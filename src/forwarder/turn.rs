//! One message's turn: from its delivery to its stored outcome.
//!
//! Nothing here is lost by a `kill -9` at any await: until the outcome is stored the message is not
//! acknowledged, and it comes again, to any replica; once it is stored, whoever gets the message again
//! sees that and acknowledges.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::attempts::{Attempt, Begun};
use super::backend::Question;
use super::chain::{self, Last, Place, Step};
use super::chats::Open;
use super::circuit_breaker::Pass;
use super::decision::{self, Decision};
use super::policy::{self, Class};
use super::records::About;
use super::{Forwarder, Settings, eligible, turn_telemetry};
use crate::bus::{AppendError, Delivery, Record};
use crate::crash;
use crate::telemetry::{metrics, propagation, spans};
use crate::wire::subject::Route;
use crate::wire::v1::{DeadReason, InboundMessage, NoReplyReason};
use crate::wire::{header, kind, now_ms};

/// More turns of one chat than this do not wait in memory; the bus keeps them.
const MAX_WAITING_PER_CHAT: usize = 1_000;
/// When such a message is delivered again.
const OVER_CAP_DELAY: Duration = Duration::from_secs(2);

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its outcome is stored, by this turn.
    Stored,
    /// Its outcome was stored already, by whomever.
    Answered,
    /// Not now: the message is given back to the bus.
    GivenBack {
        /// When to deliver it again; at once without.
        after: Option<Duration>,
    },
}

/// Why a turn did not get to its end.
enum Interrupted {
    /// The process stops.
    Stopping,
    /// The bus did not answer; the message will come again.
    Bus(String),
}

impl From<crate::bus::ReadError> for Interrupted {
    fn from(error: crate::bus::ReadError) -> Self {
        Self::Bus(error.to_string())
    }
}

/// Runs a turn to its end, tells the bus that it is being worked on meanwhile, and how it ended.
///
/// `permit` is the one that the message was pulled for, if it was not taken in the meantime.
pub(super) async fn run(
    forwarder: Arc<Forwarder>,
    delivery: Box<Delivery>,
    permit: Option<OwnedSemaphorePermit>,
) {
    let span = turn_telemetry::turn(&forwarder.subjects, &delivery);
    async {
        let work = work(&forwarder, &delivery, permit);
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(forwarder.topology.forwarder_ack_wait / 3);
        let ended = loop {
            tokio::select! {
                ended = &mut work => break ended,
                _ = ticks.tick() => delivery.progress().await,
            }
        };
        crash::point("forwarder.before-ack");
        match ended {
            Ended::Stored | Ended::Answered => delivery.ack().await,
            Ended::GivenBack { after } => delivery.nak(after).await,
        }
        tracing::debug!(?ended, "turn ended");
    }
    .instrument(span)
    .await;
}

async fn work(forwarder: &Forwarder, delivery: &Delivery, permit: Option<OwnedSemaphorePermit>) -> Ended {
    let turn = match Turn::open(forwarder, delivery) {
        Ok(turn) => turn,
        Err(reason) => {
            // Not a subject of the design: nothing can be answered, and nobody else waits for it.
            tracing::error!(
                subject_tokens = delivery.subject.split('.').count(),
                reason,
                "a message on a subject that no chat has; it is skipped"
            );
            return Ended::Answered;
        }
    };
    let incarnation = forwarder.chats.incarnation();
    let mut attempt = forwarder.attempts.of(&incarnation, delivery.sequence, delivery.delivered);
    let taken = turn.take(permit, &mut attempt).await;
    match taken {
        Ok(Ended::Stored | Ended::Answered) => attempt.over().await,
        Ok(Ended::GivenBack { .. }) | Err(_) => attempt.leave().await,
    }
    match taken {
        Ok(ended) => ended,
        Err(Interrupted::Stopping) => {
            // Before that, this process's own pull request may still be open, and would get it back.
            forwarder.closed.cancelled().await;
            Ended::GivenBack { after: None }
        }
        Err(Interrupted::Bus(error)) => {
            tracing::warn!(error, "the bus did not answer; the message is given back");
            Ended::GivenBack { after: Some(Duration::from_millis(500)) }
        }
    }
}

struct Turn<'a> {
    forwarder: &'a Forwarder,
    delivery: &'a Delivery,
    route: Route,
    place: Place,
    chat: Open,
    /// Tells to give back what has not begun its call.
    stop: &'a CancellationToken,
}

impl<'a> Turn<'a> {
    fn open(forwarder: &'a Forwarder, delivery: &'a Delivery) -> Result<Self, &'static str> {
        let route =
            forwarder.subjects.route(&delivery.subject).ok_or("not <prefix>.in.<account>.message.<chat>")?;
        let previous = delivery.headers.sequence(header::PREV_SEQ).unwrap_or(0);
        let chat = forwarder.chats.open(forwarder.subjects.reply(&route.account, &route.chat));
        Ok(Self {
            forwarder,
            delivery,
            place: Place { sequence: delivery.sequence, previous },
            route,
            chat,
            stop: &forwarder.stop,
        })
    }

    async fn take(
        &self,
        mut permit: Option<OwnedSemaphorePermit>,
        attempt: &mut Attempt<'_>,
    ) -> Result<Ended, Interrupted> {
        let mut decided: Option<Decision> = None;
        let mut has_waited = false;
        if self.delivery.delivered > 1 {
            // Somebody may have answered it in the meantime: what is known may be from before that.
            self.chat.forget();
        }
        loop {
            // A permit from here on: it bounds what is being worked on, and what is pulled.
            let permit = match permit.take() {
                Some(permit) => permit,
                None => self.permit(attempt).await?,
            };
            match self.step().await? {
                Step::Answered => return Ok(Ended::Answered),
                Step::Wait => {
                    drop(permit);
                    attempt.leave().await;
                    let (waiting, _guard) = self.chat.waiting();
                    if waiting > MAX_WAITING_PER_CHAT {
                        return Ok(Ended::GivenBack { after: Some(OVER_CAP_DELAY) });
                    }
                    if !std::mem::replace(&mut has_waited, true) {
                        spans::event("chain.wait", []);
                    }
                    let _in_chain = metrics::TURNS.enter(["chain"]);
                    self.or_stop(self.chat.changed(self.place.previous)).await??;
                }
                Step::Go { expected } => {
                    if std::mem::take(&mut has_waited) {
                        spans::event("chain.go", []);
                    }
                    let decision = match decided.take() {
                        Some(decision) => decision,
                        None => match self.decide(permit, attempt).await? {
                            Some(decision) => decision,
                            // A suspect: once it has room, look again.
                            None => continue,
                        },
                    };
                    match self.store(&decision, expected).await {
                        Ok(()) => return Ok(Ended::Stored),
                        // Another replica was faster, or what was known is old: look again. A decision
                        // whose place is gone is dropped by the next step.
                        Err(AppendError::Refused) => {
                            metrics::CONFLICTS.add(1, ["out"]);
                            self.chat.forget();
                            decided = Some(decision);
                        }
                        Err(AppendError::Impossible(why)) => {
                            tracing::error!(
                                why,
                                "the outcome cannot be stored; the message is dead-lettered"
                            );
                            decided = Some(self.dead(DeadReason::Failed, "outcome-too-large").await?);
                        }
                        Err(AppendError::Stopped) => return Err(Interrupted::Stopping),
                        Err(AppendError::Unknown(error) | AppendError::Full(error)) => {
                            return Err(Interrupted::Bus(error));
                        }
                    }
                }
            }
        }
    }

    /// The suspects' room first, if this is one: who waits for that keeps nobody from a permit. And the
    /// permit before the pass: a probe that had to wait for a permit would wait for those who wait for the
    /// probe.
    async fn permit(&self, attempt: &mut Attempt<'_>) -> Result<OwnedSemaphorePermit, Interrupted> {
        self.or_stop(attempt.room()).await?;
        self.one_of(&self.forwarder.permits).await
    }

    async fn one_of(&self, permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Interrupted> {
        let permit = self.or_stop(Arc::clone(permits).acquire_owned()).await?;
        permit.map_err(|_closed| Interrupted::Stopping)
    }

    async fn step(&self) -> Result<Step, Interrupted> {
        let last = self.chat.last().await?;
        let step = chain::step(self.place, last, self.forwarder.ack_floor.known());
        if step != Step::Wait {
            return Ok(step);
        }
        if crash::switched_off("chain") {
            return Ok(Step::Go { expected: last.out_sequence });
        }
        Ok(chain::step(self.place, last, self.forwarder.ack_floor.fresh().await?))
    }

    /// Ends `work` when the process stops.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Interrupted::Stopping),
            done = work => Ok(done),
        }
    }

    /// The decision; `None` if the message has to have room first, for which it must hold no permit.
    async fn decide(
        &self,
        permit: OwnedSemaphorePermit,
        attempt: &mut Attempt<'_>,
    ) -> Result<Option<Decision>, Interrupted> {
        let mut permits = vec![permit];
        let mut pass = None;
        let (mut retries, mut calls) = (0, 0);
        // Time that passes while everything is held uses up nothing.
        let mut failing_for = Duration::ZERO;
        let mut failing_since: Option<tokio::time::Instant> = None;
        loop {
            if permits.is_empty() {
                self.or_stop(attempt.room()).await?;
                // First the leave to retry: few retries stand in line for permits, however many there are.
                permits.push(self.one_of(&self.forwarder.retries).await?);
                permits.push(self.permit(attempt).await?);
            }
            match attempt.begin().await {
                Begun::Going => {}
                Begun::NeedsRoom => return Ok(None),
                Begun::GiveUp { deaths } => {
                    return self.dead(DeadReason::CrashLoop, &format!("deaths-{deaths}")).await.map(Some);
                }
            }
            let Ok(message) = InboundMessage::decode(self.delivery.payload.clone()) else {
                return self.dead(DeadReason::Unreadable, "not-an-inbound-message").await.map(Some);
            };
            // After each wait anew: the message may have grown too old. And before the pass: nobody waits for
            // a backend that is not to be asked.
            let question = match eligible::question(&message, &self.forwarder.settings.eligible, now_ms()) {
                Ok(question) => question,
                Err(reason) => return Ok(Some(decision::none(reason))),
            };
            let Some(pass) = pass.take().or_else(|| self.forwarder.breaker.free()) else {
                attempt.pause().await;
                pass = Some(self.pass().await?);
                continue;
            };
            crash::point_of("forwarder.before-call", &question.message_id);
            let class = self.call(&question, calls).await?;
            calls += 1;
            crash::point("forwarder.after-call");
            if let Class::Unavailable { reason, retry_after } = &class {
                self.forwarder.breaker.down(reason, *retry_after);
            } else {
                self.forwarder.breaker.up();
            }
            drop(pass);
            match class {
                Class::Answered(reply) => {
                    return Ok(Some(decision::answered(self.forwarder.settings.mode, *reply)));
                }
                Class::Silent => return Ok(Some(decision::none(NoReplyReason::BackendSilent))),
                Class::Unavailable { .. } => {
                    failing_for += failing_since.take().map_or(Duration::ZERO, |since| since.elapsed());
                }
                Class::Rejected { reason } => {
                    return self.dead(DeadReason::Rejected, &reason).await.map(Some);
                }
                Class::Failed { reason } => {
                    let since = *failing_since.get_or_insert_with(tokio::time::Instant::now);
                    let wait = policy::retry_delay(retries, jitter());
                    if failing_for + since.elapsed() + wait > self.forwarder.settings.retry_for {
                        return self.dead(DeadReason::Failed, &reason).await.map(Some);
                    }
                    tracing::warn!(reason, retries, ?wait, "the backend failed; trying again");
                    let _retrying = turn_telemetry::retrying(reason, wait);
                    retries += 1;
                    // A waiting retry holds no permit and no room.
                    permits.clear();
                    attempt.leave().await;
                    self.or_stop(tokio::time::sleep(wait)).await?;
                }
            }
        }
    }

    /// Leave to call; the wait for it is told.
    async fn pass(&self) -> Result<Pass, Interrupted> {
        let _held = self.forwarder.breaker.reason().map(turn_telemetry::held);
        self.or_stop(self.forwarder.breaker.pass()).await
    }

    /// Calls the backend; `before` says how often this turn has done so already.
    async fn call(&self, question: &Question, before: u32) -> Result<Class, Interrupted> {
        let backend = &self.forwarder.backend;
        let (host, port) = backend.server();
        spans::event("attempt", [("wa.attempt", i64::from(before + 1).into())]);
        if before == 0 {
            metrics::DISPATCH.record_since(self.delivery.stored_at_ms, now_ms(), []);
        }
        let span = spans::call(host, port, before);
        let request_id = format!("{}-{}", question.message_id, self.delivery.delivered);
        let _calling = metrics::TURNS.enter(["calling"]);
        let began = tokio::time::Instant::now();
        let answer = tokio::select! {
            answer = backend.ask(question, &request_id).instrument(span.clone()) => answer,
            () = self.forwarder.abandon.cancelled() => return Err(Interrupted::Stopping),
        };
        turn_telemetry::answer(&span, &answer);
        let class = policy::class(answer);
        turn_telemetry::call(&class, began.elapsed());
        Ok(class)
    }

    /// Dead letter: the copy first, then the outcome, then the ack.
    async fn dead(&self, reason: DeadReason, detail: &str) -> Result<Decision, Interrupted> {
        let code = kind::code(reason.as_str_name(), "DEAD_REASON_");
        tracing::error!(reason = code, detail, "a message is given up on; its copy is in the dead letters");
        let mut headers = self.about(&self.forwarder.chats.incarnation()).dead_letter(&code);
        propagation::inject(&mut headers);
        let record = Record {
            subject: self.forwarder.subjects.dead(&self.route.account, &self.route.chat),
            headers,
            payload: self.delivery.payload.clone(),
        };
        match self.forwarder.bus.append_until_known(&record, &self.forwarder.abandon).await {
            Ok(_) => {}
            Err(AppendError::Stopped) => return Err(Interrupted::Stopping),
            Err(error) => return Err(Interrupted::Bus(error.to_string())),
        }
        metrics::DEAD_LETTERS.add(1, [&code]);
        crash::point("forwarder.after-dead-letter");
        let Settings { mode, fallback_text, .. } = &self.forwarder.settings;
        Ok(decision::dead(*mode, reason, detail, fallback_text))
    }

    fn about<'b>(&'b self, incarnation: &'b str) -> About<'b> {
        About {
            account: &self.route.account,
            chat: &self.route.chat,
            incarnation,
            sequence: self.place.sequence,
            headers: &self.delivery.headers,
            payload: &self.delivery.payload,
        }
    }

    async fn store(&self, decision: &Decision, expected: u64) -> Result<(), AppendError> {
        let incarnation = self.forwarder.chats.incarnation();
        let (mut headers, payload) = self.about(&incarnation).outcome(decision, expected, now_ms());
        let span = spans::publish_out(&self.forwarder.subjects.stream_out(), &payload.message_id);
        async {
            propagation::inject(&mut headers);
            let record = Record {
                subject: self.chat.subject().to_owned(),
                headers,
                payload: payload.encode_to_vec().into(),
            };
            crash::point("forwarder.before-outcome");
            let stored = self.forwarder.bus.append_until_known(&record, &self.forwarder.abandon).await?;
            crash::point("forwarder.after-outcome");
            spans::stored(stored.sequence);
            turn_telemetry::outcome(decision);
            self.chat.wrote(Last { in_sequence: self.place.sequence, out_sequence: stored.sequence });
            Ok(())
        }
        .instrument(span)
        .await
    }
}

/// Random, 0..1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX)
}
