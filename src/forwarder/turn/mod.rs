//! One message's turn: from its delivery to its stored outcome. `asking` has the calls and the waits between them,
//! `storing` what is left on the bus, `telemetry` what is told of it.
//!
//! Nothing here is lost by a `kill -9` at any await: until the outcome is stored the message is not
//! acknowledged, and it comes again, to any replica; once it is stored, whoever gets the message again
//! sees that and acknowledges.

mod asking;
mod storing;
mod telemetry;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Forwarder;
use super::attempts::Attempt;
use super::chain::{self, Place, Step};
use super::chats::Open;
use super::decision::Decision;
use crate::bus::{AppendError, Delivery};
use crate::crash;
use crate::telemetry::{metrics, spans};
use crate::wire::Envelope;
use crate::wire::v1::DeadReason;

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
    let span = telemetry::turn(&forwarder.subjects, &delivery);
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
    let turn = Turn::open(forwarder, delivery);
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
    place: Place,
    chat: Open,
    /// Tells to give back what has not begun its call.
    stop: &'a CancellationToken,
}

impl<'a> Turn<'a> {
    fn open(forwarder: &'a Forwarder, delivery: &'a Delivery) -> Self {
        let Envelope { route, previous, .. } = &delivery.envelope;
        let chat = forwarder.chats.open(forwarder.subjects.reply(&route.account, &route.chat));
        let place = Place { sequence: delivery.sequence, previous: *previous };
        Self { forwarder, delivery, place, chat, stop: &forwarder.stop }
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
}
