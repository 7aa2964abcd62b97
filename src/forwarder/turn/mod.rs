//! One message's turn: from its delivery to its stored outcome. `asking` has the calls and the waits between them,
//! `joining` looks at the texts around it, `file` waits for a message's file, `voice` for a voice note's words, `takeover` looks whether a person has taken over, `storing` writes to the bus, and `telemetry` has the spans and metrics.
//!
//! A `kill -9` at any await loses nothing. Until the outcome is stored, the message is not acknowledged, so it
//! comes again, to any replica. After that, the replica that gets the message again sees the outcome and
//! acknowledges.

mod asking;
mod failing;
mod file;
mod joining;
mod storing;
mod takeover;
mod telemetry;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::attempts::Attempt;
use super::burst::{self, Burst, Share};
use super::calls_per_chat::Calls;
use super::chain::{self, Last, Place, Step};
use super::decision::{self, Decision};
use super::hand::Held;
use super::routes::{Route, Seat};
use super::slots::Slot;
use super::waiting::{Message, Working};
use super::{Forwarder, Settings};
use crate::bus::{AppendError, Delivery};
use crate::crash;
use crate::telemetry::metrics;
use crate::telemetry::spans;
use crate::wire::now_ms;
use crate::wire::v1::DeadReason;
use joining::Joining;

/// When a message is delivered again that could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// This turn stored its outcome.
    Stored,
    /// Its outcome was already stored, by any replica.
    Answered,
    /// The message before it has no outcome, as the bus said at this time, and is not in this process's hand.
    Waits {
        /// When the bus was asked.
        read_at: Instant,
    },
    /// Not now: the message is given back to the bus.
    GivenBack {
        /// When to deliver it again. `None`: at once.
        after: Option<Duration>,
    },
    /// Its stream was deleted before it had an outcome.
    Dropped,
}

/// How a message ends, as soon as that is stored.
#[derive(Debug)]
struct Decided {
    result: Decision,
    /// The burst that its words go into.
    burst: Option<Burst>,
}

impl From<Decision> for Decided {
    fn from(result: Decision) -> Self {
        Self { result, burst: None }
    }
}

impl Decided {
    /// It goes into the last message of the burst, which has this `inbound_id`.
    fn joined(burst: Burst, into: &str) -> Self {
        Self { result: decision::joined(into), burst: Some(burst) }
    }
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
/// `seat` is the one that the message was pulled for, if no other turn has taken it in the meantime.
pub(super) async fn run(forwarder: &Forwarder, working: Working, message: Message, seat: Option<Seat>) {
    let incarnation = forwarder.chats.incarnation();
    let Some((delivery, waited)) = open(forwarder, message).await else { return };
    let ended = work(forwarder, &delivery, &working, &waited, &incarnation, seat);
    let ended = ended.instrument(telemetry::turn(&forwarder.subjects, &delivery)).await;
    if let Ended::Waits { read_at } = ended {
        let message = Held { kept: Some(delivery), ..waited };
        if let Some(message) = forwarder.waiting.waits_elsewhere(&working.at_work, message, read_at)
            && incarnation == forwarder.chats.incarnation()
        {
            forwarder.bus.give_back(&message.claim, None).await;
        }
    }
}

/// The message of a turn, which is read again if it was not kept. `None`: it is given back.
async fn open(forwarder: &Forwarder, mut message: Message) -> Option<(Box<Delivery>, Message)> {
    let delivery = match message.kept.take() {
        Some(mut delivery) => {
            delivery.claim.clone_from(&message.claim);
            delivery
        }
        None => {
            let stream = forwarder.subjects.stream_in();
            match forwarder.bus.fetch(&forwarder.subjects, &stream, &message.claim).await {
                Ok(Some(delivery)) => delivery,
                unread => {
                    // If it exists, it comes again; then it is not only a claim.
                    let error = unread.err().map(|error| error.to_string());
                    tracing::debug!(error, "a message that waited cannot be read; it is given back");
                    forwarder.bus.give_back(&message.claim, Some(AGAIN)).await;
                    return None;
                }
            }
        }
    };
    Some((delivery, message))
}

async fn work(
    forwarder: &Forwarder,
    delivery: &Delivery,
    working: &Working,
    waited: &Message,
    incarnation: &Arc<str>,
    seat: Option<Seat>,
) -> Ended {
    let is_current = || *incarnation == forwarder.chats.incarnation();
    let work = attempt(forwarder, delivery, working, waited, incarnation, seat);
    tokio::pin!(work);
    let ack_wait = forwarder.topology.forwarder_ack_wait;
    let now = Instant::now();
    // A message that has waited may be reserved for longer than it takes to notice that this process is gone.
    let first =
        if waited.reserved > now + ack_wait { now } else { now.max(waited.reserved - ack_wait * 2 / 3) };
    let mut ticks = tokio::time::interval_at(first, ack_wait / 3);
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
        Ended::Dropped | Ended::Waits { .. } => {}
        Ended::Stored | Ended::Answered => delivery.ack().await,
        Ended::GivenBack { after } => delivery.nak(after).await,
    }
    tracing::debug!(?ended, "turn ended");
    ended
}

async fn attempt(
    forwarder: &Forwarder,
    delivery: &Delivery,
    working: &Working,
    waited: &Message,
    incarnation: &Arc<str>,
    seat: Option<Seat>,
) -> Ended {
    let turn = Turn::open(forwarder, delivery, &working.at_work.chat, waited, incarnation);
    let mut attempt = forwarder.attempts.of(incarnation, delivery.sequence, delivery.delivered);
    let taken = turn.take(seat, &mut attempt).await;
    match taken {
        Ok(Ended::Stored | Ended::Answered) => attempt.over().await,
        Ok(Ended::GivenBack { .. } | Ended::Waits { .. } | Ended::Dropped) | Err(_) => attempt.leave().await,
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
    incarnation: &'a Arc<str>,
    place: Place,
    /// The subject of the chat's outcomes.
    chat: &'a Arc<str>,
    /// Since when the message is in hand, and whether it had to wait for others.
    waited: &'a Message,
    /// Until then the live service may ask first, in shadow. The wait for it holds nothing.
    not_before: Instant,
    /// Whether its chat may cause a call, and whether it has.
    calls: Calls,
    /// Tells the turn to give the message back if its call has not begun.
    stop: &'a CancellationToken,
}

impl<'a> Turn<'a> {
    fn open(
        forwarder: &'a Forwarder,
        delivery: &'a Delivery,
        chat: &'a Arc<str>,
        waited: &'a Message,
        incarnation: &'a Arc<str>,
    ) -> Self {
        let Settings { mode, shadow_delay, .. } = &forwarder.settings;
        let wait = decision::head_start(*mode, *shadow_delay, delivery.stored_at_ms, now_ms());
        let not_before = Instant::now() + wait;
        let (place, stop) = (waited.place, &forwarder.stop);
        let calls = Calls::default();
        Self { forwarder, delivery, incarnation, place, chat, waited, not_before, calls, stop }
    }

    async fn take(&self, mut seat: Option<Seat>, attempt: &mut Attempt<'_>) -> Result<Ended, Interrupted> {
        let mut decided: Option<Decided> = None;
        let mut joining = Joining::new(Share::Open);
        let mut told = !self.waited.has_waited;
        if self.delivery.delivered > 1 || self.waited.reserved < Instant::now() {
            // Another replica may have answered it in the meantime: what is known may be older than that.
            self.forwarder.chats.forget(self.chat);
        }
        loop {
            // From here on the turn needs a slot. Slots limit what is being worked on, and what is pulled.
            let seat = match seat.take() {
                Some(seat) => seat,
                None => self.seat(attempt).await?,
            };
            let read_at = Instant::now();
            let (step, last) = self.step().await?;
            match step {
                Step::Answered => return Ok(Ended::Answered),
                Step::Wait => return Ok(Ended::Waits { read_at }),
                Step::Go { .. } => self.calls.turn(self.forwarder.settings.calls_per_chat, last, now_ms()),
            }
            if !std::mem::replace(&mut told, true) {
                spans::event_since("chain.wait", self.waited.since.elapsed());
                spans::event("chain.go", []);
            }
            if Instant::now() < self.not_before {
                drop(seat);
                attempt.leave().await;
                self.or_stop(tokio::time::sleep_until(self.not_before)).await?;
                continue;
            }
            let said = last.burst.filter(|_| !crash::switched_off("bursts"));
            let share = burst::share(self.place.sequence, said);
            if !joining.is_of(share) {
                // What was decided without knowing that is void.
                (joining, decided) = (Joining::new(share), None);
            }
            if decided.is_none() {
                decided = self.joined(&mut joining).await?;
            }
            let decision = match decided.take() {
                Some(decision) => decision,
                None => match self.decide(seat, attempt, &mut joining).await? {
                    Some(decision) => decision,
                    // The message is a suspect: check again once it has its capacity.
                    None => continue,
                },
            };
            match self.store(&decision, last).await {
                Ok(()) => return Ok(Ended::Stored),
                // Another replica was faster, or what is known is old: check again. If the place of a
                // decision is gone, the next step drops the decision.
                Err(AppendError::Refused) => {
                    metrics::CONFLICTS.add(1, ["out"]);
                    self.forwarder.chats.forget(self.chat);
                    decided = Some(decision);
                }
                Err(AppendError::Impossible(why)) => {
                    tracing::error!(why, "the outcome cannot be stored; the message is dead-lettered");
                    let first = joining.first(self.place.sequence);
                    decided = Some(self.dead(DeadReason::Failed, "outcome-too-large", first).await?.into());
                }
                Err(AppendError::Stopped) => return Err(Interrupted::Stopping),
                Err(AppendError::Unknown(error) | AppendError::Full(error)) => {
                    return Err(Interrupted::Bus(error));
                }
            }
        }
    }

    /// Whom to ask about the message, as of now.
    fn route(&self) -> Arc<Route> {
        self.forwarder.routes.of(&self.delivery.envelope.route.account)
    }

    /// A suspect waits for its capacity first, so that this wait blocks no slot.
    async fn seat(&self, attempt: &mut Attempt<'_>) -> Result<Seat, Interrupted> {
        loop {
            self.or_stop(attempt.capacity()).await?;
            let route = self.route();
            if let Some(slot) = self.slot_of(&route, route.slots.one()).await? {
                return Ok(Seat { route, slot });
            }
        }
    }

    /// A slot of this route. `None`: another one has taken its place.
    async fn slot_of(
        &self,
        route: &Route,
        slot: impl Future<Output = Option<Slot>>,
    ) -> Result<Option<Slot>, Interrupted> {
        let slot = self.unless_retired(route, slot).await?;
        slot.map(|slot| slot.ok_or(Interrupted::Stopping)).transpose()
    }

    /// Ends `work` also when another route takes the place of this one: then there is nothing.
    async fn unless_retired<T>(
        &self,
        route: &Route,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Interrupted> {
        self.or_stop(async {
            tokio::select! {
                done = work => Some(done),
                () = route.retired() => None,
            }
        })
        .await
    }

    /// What to do with the message, as far as is known, and else as the bus says. With it the chat's last outcome.
    async fn step(&self) -> Result<(Step, Last), Interrupted> {
        if self.is_of_another_stream() {
            return Err(Interrupted::StreamGone);
        }
        let ack_floor = self.forwarder.ack_floor.known();
        let known = self.forwarder.chats.known_last(self.chat);
        let step = known.map(|last| (chain::step(self.place, last, ack_floor), last));
        // Only the outcome of the message right before it says for certain whether it is of a burst.
        let is_certain = |(step, last): &(Step, Last)| match step {
            Step::Answered => true,
            Step::Go { .. } => last.in_sequence == self.place.previous,
            Step::Wait => false,
        };
        if let Some(step) = step.filter(is_certain) {
            return Ok(step);
        }
        let last = self.forwarder.chats.read_last(self.chat).await?;
        let step = chain::step(self.place, last, ack_floor);
        if step == Step::Wait && crash::switched_off("chain") {
            return Ok((Step::Go { expected: last.out_sequence }, last));
        }
        Ok((step, last))
    }

    /// The stream that the message was in was deleted, and made anew. Whoever has its sequence now is another message.
    fn is_of_another_stream(&self) -> bool {
        *self.incarnation != self.forwarder.chats.incarnation()
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
