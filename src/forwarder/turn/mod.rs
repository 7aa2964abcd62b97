//! One message's turn: from its delivery to its stored outcome. `asking` has the calls and the waits between them,
//! `storing` writes to the bus, and `telemetry` has the spans and metrics.
//!
//! A `kill -9` at any await loses nothing. Until the outcome is stored, the message is not acknowledged, so it
//! comes again, to any replica. After that, the replica that gets the message again sees the outcome and
//! acknowledges.

mod asking;
mod failing;
mod storing;
mod telemetry;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::attempts::Attempt;
use super::chain::{self, Place, Step};
use super::chats::Open;
use super::decision::{self, Decision};
use super::slots::Slot;
use super::{Forwarder, Settings};
use crate::bus::{AppendError, Delivery};
use crate::crash;
use crate::telemetry::{metrics, spans};
use crate::wire::v1::DeadReason;
use crate::wire::{Envelope, now_ms};

/// No more turns of one chat than this wait in memory. The bus keeps the other messages.
const MAX_WAITING_PER_CHAT: usize = 1_000;
/// When such a message is delivered again. The bus hands over again what was given back before it hands over what is
/// new. So the delay doubles: many such messages must not keep other chats' messages from coming.
fn over_cap_delay(delivered: u64) -> Duration {
    let doubled = delivered.saturating_sub(1).min(4);
    Duration::from_secs(2 << doubled)
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// This turn stored its outcome.
    Stored,
    /// Its outcome was already stored, by any replica.
    Answered,
    /// Not now: the message is given back to the bus.
    GivenBack {
        /// When to deliver it again. `None`: at once.
        after: Option<Duration>,
    },
    /// Its stream was deleted before it had an outcome.
    Dropped,
}

/// Why a turn did not reach its end.
enum Interrupted {
    /// The process is stopping.
    Stopping,
    /// The bus did not answer. The message comes again.
    Bus(String),
    /// The stream was deleted with all that had no answer yet.
    StreamGone,
}

impl From<crate::bus::ReadError> for Interrupted {
    fn from(error: crate::bus::ReadError) -> Self {
        Self::Bus(error.to_string())
    }
}

/// Runs a turn to its end. In the meantime it tells the bus that the message is being worked on; at the end it
/// tells the bus the result.
///
/// `slot` is the one that the message was pulled for, if no other turn has taken it in the meantime.
pub(super) async fn run(forwarder: Arc<Forwarder>, delivery: Box<Delivery>, slot: Option<Slot>) {
    let span = telemetry::turn(&forwarder.subjects, &delivery);
    async {
        let incarnation = forwarder.chats.incarnation();
        let work = work(&forwarder, &delivery, &incarnation, slot);
        let is_current = || incarnation == forwarder.chats.incarnation();
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(forwarder.topology.forwarder_ack_wait / 3);
        let ended = loop {
            tokio::select! {
                ended = &mut work => break ended,
                _ = ticks.tick() => if is_current() { delivery.progress().await },
            }
        };
        crash::point("forwarder.before-ack");
        match ended {
            // In the stream as it is now, this sequence may be another message's, which nobody has answered.
            _ if !is_current() => {}
            Ended::Dropped => {}
            Ended::Stored | Ended::Answered => delivery.ack().await,
            Ended::GivenBack { after } => delivery.nak(after).await,
        }
        tracing::debug!(?ended, "turn ended");
    }
    .instrument(span)
    .await;
}

async fn work(forwarder: &Forwarder, delivery: &Delivery, incarnation: &str, slot: Option<Slot>) -> Ended {
    let turn = Turn::open(forwarder, delivery, incarnation);
    let mut attempt = forwarder.attempts.of(incarnation, delivery.sequence, delivery.delivered);
    let taken = turn.take(slot, &mut attempt).await;
    match taken {
        Ok(Ended::Stored | Ended::Answered) => attempt.over().await,
        Ok(Ended::GivenBack { .. } | Ended::Dropped) | Err(_) => attempt.leave().await,
    }
    match taken {
        Ok(ended) => ended,
        Err(Interrupted::Stopping) => {
            // Before that, this process's own pull request may still be open, and would receive the message again.
            forwarder.closed.cancelled().await;
            Ended::GivenBack { after: None }
        }
        Err(Interrupted::Bus(error)) => {
            tracing::warn!(error, "the bus did not answer; the message is given back");
            Ended::GivenBack { after: Some(Duration::from_millis(500)) }
        }
        Err(Interrupted::StreamGone) => {
            tracing::debug!("the message was deleted with its stream");
            Ended::Dropped
        }
    }
}

struct Turn<'a> {
    forwarder: &'a Forwarder,
    delivery: &'a Delivery,
    /// The incarnation of `WA_IN` that it came from.
    incarnation: &'a str,
    place: Place,
    chat: Open,
    /// Until then the live service may ask first, in shadow. The wait for it holds nothing.
    not_before: Instant,
    /// Tells the turn to give the message back if its call has not begun.
    stop: &'a CancellationToken,
}

impl<'a> Turn<'a> {
    fn open(forwarder: &'a Forwarder, delivery: &'a Delivery, incarnation: &'a str) -> Self {
        let Envelope { route, previous, .. } = &delivery.envelope;
        let chat = forwarder.chats.open(forwarder.subjects.reply(&route.account, &route.chat));
        let place = Place { sequence: delivery.sequence, previous: *previous };
        let Settings { mode, shadow_delay, .. } = &forwarder.settings;
        let wait = decision::head_start(*mode, *shadow_delay, delivery.stored_at_ms, now_ms());
        let not_before = Instant::now() + wait;
        Self { forwarder, delivery, incarnation, place, chat, not_before, stop: &forwarder.stop }
    }

    async fn take(&self, mut slot: Option<Slot>, attempt: &mut Attempt<'_>) -> Result<Ended, Interrupted> {
        let mut decided: Option<Decision> = None;
        let mut has_waited = false;
        if self.delivery.delivered > 1 {
            // Another replica may have answered it in the meantime: what is known may be older than that.
            self.chat.forget();
        }
        loop {
            // From here on the turn needs a slot. Slots limit what is being worked on, and what is pulled.
            let slot = match slot.take() {
                Some(slot) => slot,
                None => self.slot(attempt).await?,
            };
            match self.step().await? {
                Step::Answered => return Ok(Ended::Answered),
                Step::Wait => {
                    drop(slot);
                    attempt.leave().await;
                    let (waiting, _guard) = self.chat.waiting();
                    if waiting > MAX_WAITING_PER_CHAT {
                        return Ok(Ended::GivenBack { after: Some(over_cap_delay(self.delivery.delivered)) });
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
                    if Instant::now() < self.not_before {
                        drop(slot);
                        attempt.leave().await;
                        self.or_stop(tokio::time::sleep_until(self.not_before)).await?;
                        continue;
                    }
                    let decision = match decided.take() {
                        Some(decision) => decision,
                        None => match self.decide(slot, attempt).await? {
                            Some(decision) => decision,
                            // The message is a suspect: check again once it has its capacity.
                            None => continue,
                        },
                    };
                    match self.store(&decision, expected).await {
                        Ok(()) => return Ok(Ended::Stored),
                        // Another replica was faster, or what is known is old: check again. If the place of a
                        // decision is gone, the next step drops the decision.
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

    /// A suspect waits for its capacity first, so that this wait blocks no slot.
    async fn slot(&self, attempt: &mut Attempt<'_>) -> Result<Slot, Interrupted> {
        self.or_stop(attempt.capacity()).await?;
        self.one_of(self.forwarder.slots.one()).await
    }

    async fn one_of(&self, slot: impl Future<Output = Option<Slot>>) -> Result<Slot, Interrupted> {
        self.or_stop(slot).await?.ok_or(Interrupted::Stopping)
    }

    async fn step(&self) -> Result<Step, Interrupted> {
        if self.is_of_another_stream() {
            return Err(Interrupted::StreamGone);
        }
        let last = self.chat.last().await?;
        let step = chain::step(self.place, last, self.forwarder.ack_floor.known());
        if step != Step::Wait {
            return Ok(step);
        }
        if crash::switched_off("chain") {
            return Ok(Step::Go { expected: last.out_sequence });
        }
        let state = self.forwarder.ack_floor.fresh().await?;
        let step = chain::step(self.place, last, state.ack_floor);
        let Place { sequence, previous } = self.place;
        let is_gone = async || {
            // No answer is no reason to give the message back: it waits on.
            self.forwarder.gone.has(self.incarnation, previous).await.unwrap_or(false)
        };
        if step == Step::Wait && (state.is_alone(sequence) || is_gone().await) {
            return Ok(chain::step(self.place.behind_nothing(), last, state.ack_floor));
        }
        Ok(step)
    }

    /// The stream that the message was in was deleted, and made anew. Whoever has its sequence now is another message.
    fn is_of_another_stream(&self) -> bool {
        self.incarnation != self.forwarder.chats.incarnation()
    }

    /// Ends `work` when the process stops.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Interrupted::Stopping),
            done = work => Ok(done),
        }
    }
}
