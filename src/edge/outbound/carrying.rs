//! From a delivery to WhatsApp: what it asks for, whether it should go, when it may, and what is left if it cannot.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::job::Job;
use super::loop_breaker::{LoopBreaker, Verdict};
use super::rate::Limit;
use super::rate_limit::RateLimits;
use super::reports::Reporter;
use super::sending::{Sender, Undeliverable};
use crate::bus::Delivery;
use crate::edge::session::Connection;
use crate::telemetry::{metrics, spans};
use crate::wire::{ChatToken, id, now_ms};

/// So many chats are sent to at once.
const MAX_SENDING: usize = 64;

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

/// What all lanes carry by.
#[derive(Debug)]
pub(super) struct Carrier {
    sender: Sender,
    rate_limits: RateLimits,
    loop_breaker: Mutex<LoopBreaker>,
    reporter: Reporter,
    sending: Semaphore,
    /// The stream that deliveries come from.
    stream: String,
    stop: CancellationToken,
}

impl Carrier {
    /// Nothing sent so far: buckets are full, and the loop breaker has counted nothing.
    pub(super) fn new(
        sender: Sender,
        limits: Limits,
        reporter: Reporter,
        stream: String,
        stop: CancellationToken,
    ) -> Self {
        Self {
            sender,
            rate_limits: RateLimits::new(limits.per_chat, limits.total),
            loop_breaker: Mutex::new(LoopBreaker::new(limits.loops)),
            reporter,
            sending: Semaphore::new(MAX_SENDING),
            stream,
            stop,
        }
    }

    /// Where the link stands.
    pub(super) fn connection(&self) -> &Connection {
        self.sender.connection()
    }

    /// Forgets the chats that are not sent to any more.
    pub(super) fn forget_idle(&self) {
        self.rate_limits.forget_idle();
        self.loop_breaker().forget_idle(Instant::now());
    }

    /// Carries one delivery to its end. Returns whether that is settled; it is not if the process stops.
    pub(super) async fn carry(&self, chat: &ChatToken, delivery: &Delivery) -> bool {
        let job = match Job::read(&delivery.envelope, &delivery.payload) {
            Ok(Some(job)) => job,
            Ok(None) => return true,
            Err(why) => {
                tracing::error!(why, "a message for WhatsApp cannot be read; it is given up on");
                let place = format!("{}/{}", self.stream, delivery.sequence);
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

    fn loop_breaker(&self) -> MutexGuard<'_, LoopBreaker> {
        self.loop_breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
