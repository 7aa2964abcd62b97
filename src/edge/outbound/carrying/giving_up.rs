//! A message that is not sent: whoever asked for it is told why, and only then is it settled.

use super::super::job::Job;
use super::super::reports::Failure;
use super::super::sending::Undeliverable;
use super::Carrier;
use crate::telemetry::metrics;
use crate::wire::{ChatToken, id};

impl Carrier {
    /// It is reported before it is settled.
    pub(super) async fn given_up(
        &self,
        chat: &ChatToken,
        job: &Job,
        ids: Vec<String>,
        why: Undeliverable,
    ) -> bool {
        let (reason, detail) = (why.to_string(), why.detail());
        let (whatsapp_id, mut until_ms) = (ids.first(), 0);
        match why {
            // The caller wants it so, and nobody has to act.
            Undeliverable::Expired => tracing::info!(whatsapp_id, "not sent: it is too late for it"),
            // The person who has taken over answers.
            Undeliverable::Human => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::info!(whatsapp_id, "not sent: a person has taken over the chat");
            }
            Undeliverable::OptedOut => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::info!(whatsapp_id, "not sent: the person wants nothing unasked");
            }
            // The caller is told when to ask again.
            Undeliverable::NewChat(closed) => {
                metrics::UNDELIVERABLE.add(1, [closed.why.code()]);
                tracing::info!(whatsapp_id, %closed, "not sent: it would be the first message in its chat");
                until_ms = closed.until_ms;
                let state = self.sender.connection().state();
                if !self.strangers.tell(&self.reporter, &closed, &state).await {
                    return false;
                }
            }
            why => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::error!(
                    whatsapp_id, %why, detail, "WhatsApp does not take a message; it is given up on"
                );
            }
        }
        let failure = Failure { detail, until_ms, whatsapp_ids: ids, ..Failure::of(&job.cause, &reason) };
        self.reporter.failure(chat, failure).await
    }

    /// An answer that would keep a loop running.
    pub(super) async fn suppress(&self, chat: &ChatToken, cause: &str, first: bool) -> bool {
        let whatsapp_id = id::whatsapp(cause);
        if first {
            tracing::warn!(
                "a chat writes faster than LOOP_LIMIT, like two bots that answer each other; it gets no answers until it slows down"
            );
            let state = self.sender.connection().state();
            if !self.reporter.loop_broken(chat, cause, &state).await {
                return false;
            }
        }
        tracing::debug!(whatsapp_id, "not sent, because of LOOP_LIMIT");
        metrics::UNDELIVERABLE.add(1, ["loop-limit"]);
        let failure = Failure { whatsapp_ids: vec![whatsapp_id], ..Failure::of(cause, "loop-limit") };
        self.reporter.failure(chat, failure).await
    }
}
