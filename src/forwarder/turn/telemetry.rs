//! The spans and metrics of turns.

use std::time::Duration;

use tracing::Span;

use crate::bus::Delivery;
use crate::forwarder::backend::{Answer, Failure};
use crate::forwarder::policy::Class;
use crate::telemetry::instrument::Inside;
use crate::telemetry::{metrics, spans};
use crate::wire::v1::outcome;
use crate::wire::{Subjects, kind};

/// A turn begins. It continues the message's trace.
pub(super) fn turn(subjects: &Subjects, delivery: &Delivery) -> Span {
    let consumer = subjects.consumer_forwarder();
    if delivery.delivered > 1 {
        metrics::REDELIVERIES.add(1, [&consumer]);
    }
    spans::process_in(
        &delivery.envelope,
        spans::Delivered {
            stream: &subjects.stream_in(),
            consumer: &consumer,
            sequence: delivery.sequence,
            count: delivery.delivered,
        },
    )
}

/// The turn is held until the guard is dropped.
pub(super) fn held(reason: String) -> Inside<'static> {
    spans::event("hold", [("wa.reason", reason.into())]);
    metrics::TURNS.enter(["held"])
}

/// The turn waits before its next call, until the guard is dropped.
pub(super) fn retrying(reason: String, wait: Duration) -> Inside<'static> {
    let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    spans::event("retry", [("wa.reason", reason.into()), ("wa.wait_ms", wait_ms.into())]);
    metrics::TURNS.enter(["retrying"])
}

/// The result of the call of `span`.
pub(super) fn answer(span: &Span, answer: &Result<Answer, Failure>) {
    match answer {
        Ok(Answer::Reply(_)) => spans::answered(span, 200),
        Ok(Answer::Status { code, .. }) => spans::answered(span, *code),
        Err(failure) => spans::failed(span, failure.code()),
    }
}

/// The result of a call to the backend.
pub(super) fn call(class: &Class, took: Duration) {
    let [name, reason] = class.codes();
    metrics::CALL.record(took, [name]);
    metrics::CALLS.add(1, [name, reason]);
}

/// An outcome is stored.
pub(super) fn outcome(decision: &outcome::Result) {
    let (class, reason) = match decision {
        outcome::Result::Reply(_) => ("reply", String::new()),
        outcome::Result::None(none) => ("none", kind::code(none.reason().as_str_name(), "NO_REPLY_REASON_")),
        outcome::Result::Dead(dead) => ("dead", kind::code(dead.reason().as_str_name(), "DEAD_REASON_")),
    };
    metrics::OUTCOMES.add(1, [class, &reason]);
}
