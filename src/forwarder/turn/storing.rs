//! What a turn stores on the bus: an outcome, or a dead letter and then its outcome.

use bytes::Bytes;
use prost::Message as _;
use tracing::Instrument as _;

use super::{Decided, Interrupted, Turn, telemetry};
use crate::bus::{AppendError, Record};
use crate::crash;
use crate::forwarder::calls_per_chat::{self, Limit};
use crate::forwarder::chain::Last;
use crate::forwarder::decision::{self, Decision, Mode};
use crate::forwarder::records::About;
use crate::forwarder::{Settings, eligible, notice};
use crate::telemetry::{metrics, propagation, spans};
use crate::wire::v1::{DeadReason, InboundMessage};
use crate::wire::{Envelope, Headers, header, kind, now_ms};

impl Turn<'_> {
    /// Dead letter: first the copy, then the outcome, then the ack. What was joined into the message since `first` has no
    /// other call, so there is a copy of each, in their order. Nobody looks into them.
    pub(super) async fn dead(
        &self,
        reason: DeadReason,
        detail: &str,
        first: u64,
    ) -> Result<Decision, Interrupted> {
        let code = kind::code(reason.as_str_name(), "DEAD_REASON_");
        tracing::error!(reason = code, detail, "a message is given up on; its copy is in the dead letters");
        for stored in self.burst_since(first).await? {
            let subjects = &self.forwarder.subjects;
            let Some(envelope) = Envelope::open(subjects, &stored.subject, stored.headers) else { continue };
            let about = About { envelope: &envelope, sequence: stored.sequence, ..self.about() };
            self.copy(about.dead_letter(&code), stored.payload, &code).await?;
        }
        let mut headers = self.about().dead_letter(&code);
        propagation::inject(&mut headers);
        self.copy(headers, self.delivery.payload.clone(), &code).await?;
        crash::point("forwarder.after-dead-letter");
        let Settings { mode, fallback_text, .. } = &self.forwarder.settings;
        Ok(decision::dead(*mode, reason, detail, fallback_text))
    }

    /// Stores a copy in the dead letters.
    async fn copy(&self, headers: Headers, payload: Bytes, code: &str) -> Result<(), Interrupted> {
        let route = &self.delivery.envelope.route;
        let subject = self.forwarder.subjects.dead(&route.account, &route.chat);
        let record = Record { subject, headers, payload };
        match self.forwarder.bus.append_until_known(&record, &self.forwarder.abandon).await {
            Ok(_) => {}
            Err(AppendError::Stopped) => return Err(Interrupted::Stopping),
            Err(error) => return Err(Interrupted::Bus(error.to_string())),
        }
        metrics::DEAD_LETTERS.add(1, [code]);
        Ok(())
    }

    pub(super) fn about(&self) -> About<'_> {
        About {
            envelope: &self.delivery.envelope,
            incarnation: self.incarnation,
            sequence: self.place.sequence,
            payload: &self.delivery.payload,
        }
    }

    /// The text that says that only text is read, if the message is due to get it behind the chat's last outcome.
    fn notice(&self, decision: &Decision, last: Last, now_ms: i64) -> Option<Decision> {
        let Settings { mode, unsupported_text, eligible, .. } = &self.forwarder.settings;
        if unsupported_text.is_empty() || *mode == Mode::Shadow || !notice::is_without_words(decision) {
            return None;
        }
        let message = InboundMessage::decode(self.delivery.payload.clone()).ok()?;
        let lacks_words = eligible::lacks_only_words(&message, eligible, now_ms);
        notice::due(unsupported_text, last, now_ms).filter(|_| lacks_words)
    }

    /// The text that says that the chat has to wait, if it is due behind the chat's last outcome.
    fn over_the_limit(&self, decision: &Decision, last: Last, now_ms: i64) -> Option<Decision> {
        let Settings { mode, rate_text, calls_per_chat, .. } = &self.forwarder.settings;
        let is_meant = *mode == Mode::Answer && calls_per_chat::is_over_the_limit(decision);
        calls_per_chat.filter(|_| is_meant)?.notice(rate_text, last, now_ms)
    }

    /// Appends the outcome behind the chat's `last` one, if that still is the last.
    pub(super) async fn store(&self, decided: &Decided, last: Last) -> Result<(), AppendError> {
        let Decided { result: decision, burst } = decided;
        let now_ms = now_ms();
        let notice = self.notice(decision, last, now_ms);
        let told_at_ms = notice::next_told_at_ms(notice.is_some(), last, now_ms);
        let over = self.over_the_limit(decision, last, now_ms);
        let limit = self.forwarder.settings.calls_per_chat;
        let counted = |limit: Limit| limit.next(last, (self.calls.were_made(), over.is_some()), now_ms);
        let calls = limit.map(counted).unwrap_or_default();
        let notice = notice.or(over);
        let decision = notice.as_ref().unwrap_or(decision);
        let (mut headers, payload) = self.about().outcome(decision, last.out_sequence, now_ms);
        if told_at_ms > 0 {
            headers.set(header::TOLD_AT, &told_at_ms.to_string());
        }
        if let Some(burst) = burst {
            headers.set(header::JOINED, &burst.header());
        }
        calls.set(&mut headers);
        let span = spans::publish_out(&self.forwarder.subjects.stream_out(), &payload.message_id);
        async {
            propagation::inject(&mut headers);
            let record =
                Record { subject: self.chat.to_string(), headers, payload: payload.encode_to_vec().into() };
            crash::point("forwarder.before-outcome");
            let stored = self.forwarder.bus.append_until_known(&record, &self.forwarder.abandon).await?;
            crash::point("forwarder.after-outcome");
            spans::stored(stored.sequence);
            telemetry::outcome(decision);
            let in_sequence = if self.is_of_another_stream() { 0 } else { self.place.sequence };
            let burst = burst.filter(|_| in_sequence > 0);
            let last = Last { in_sequence, out_sequence: stored.sequence, told_at_ms, calls, burst };
            self.forwarder.chats.wrote(self.chat, last);
            Ok(())
        }
        .instrument(span)
        .await
    }
}
