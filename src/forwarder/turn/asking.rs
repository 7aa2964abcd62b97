//! From the question to a decision: the calls to the backend, and the waits between them.

use std::time::Duration;

use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use super::{Interrupted, Turn, telemetry};
use crate::crash;
use crate::forwarder::attempts::{Attempt, Begun};
use crate::forwarder::backend::Question;
use crate::forwarder::circuit_breaker::Pass;
use crate::forwarder::decision::{self, Decision};
use crate::forwarder::eligible;
use crate::forwarder::policy::{self, Class};
use crate::telemetry::{metrics, spans};
use crate::wire::now_ms;
use crate::wire::v1::{DeadReason, InboundMessage, NoReplyReason};

impl Turn<'_> {
    /// The decision. `None`: the message must wait for capacity first, and must hold no permit in that time.
    pub(super) async fn decide(
        &self,
        permit: OwnedSemaphorePermit,
        attempt: &mut Attempt<'_>,
    ) -> Result<Option<Decision>, Interrupted> {
        let mut permits = vec![permit];
        let mut pass = None;
        let (mut retries, mut calls) = (0, 0);
        // The time while everything is held uses up no time for retries.
        let mut failing_for = Duration::ZERO;
        let mut failing_since: Option<tokio::time::Instant> = None;
        loop {
            if permits.is_empty() {
                self.or_stop(attempt.capacity()).await?;
                // First get the permission to retry, so that only a few retries queue for permits, however many
                // there are.
                permits.push(self.one_of(&self.forwarder.retries).await?);
                permits.push(self.permit(attempt).await?);
            }
            match attempt.begin().await {
                Begun::Going => {}
                Begun::NeedsCapacity => return Ok(None),
                Begun::GiveUp { deaths } => {
                    return self.dead(DeadReason::CrashLoop, &format!("deaths-{deaths}")).await.map(Some);
                }
            }
            let Ok(message) = InboundMessage::decode(self.delivery.payload.clone()) else {
                return self.dead(DeadReason::Unreadable, "not-an-inbound-message").await.map(Some);
            };
            // Check again after each wait, because the message may have become too old. Check before asking the
            // circuit breaker, so that no turn waits for a backend that it need not ask.
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
            crash::panic_with("forwarder.before-call", &question.text);
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
                    let _retrying = telemetry::retrying(reason, wait);
                    retries += 1;
                    // A waiting retry holds no permit and no capacity.
                    permits.clear();
                    attempt.leave().await;
                    self.or_stop(tokio::time::sleep(wait)).await?;
                }
            }
        }
    }

    /// Permission to call. The wait for it is recorded.
    async fn pass(&self) -> Result<Pass, Interrupted> {
        let _held = self.forwarder.breaker.reason().map(telemetry::held);
        self.or_stop(self.forwarder.breaker.pass()).await
    }

    /// Calls the backend. `before` says how often this turn has called it already.
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
        telemetry::answer(&span, &answer);
        let class = policy::class(answer);
        telemetry::call(&class, began.elapsed());
        Ok(class)
    }
}

/// A random number in 0..1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX)
}
