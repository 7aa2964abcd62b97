//! Remembers the trace in which a message was sent to WhatsApp, so that its receipts can be linked to it.
//!
//! In memory and bounded. A receipt that comes after a restart, or after thousands of other messages, is a span without
//! a link.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, PoisonError};

use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::propagation;

/// How many messages are remembered.
const MOST: usize = 4_096;

#[derive(Debug, Default)]
struct Sent {
    by_id: HashMap<String, SpanContext>,
    /// The oldest first.
    order: VecDeque<String>,
}

static SENT: LazyLock<Mutex<Sent>> = LazyLock::new(Mutex::default);

/// `span` sends the message `id`.
pub(super) fn remember(id: &str, span: &Span) {
    let context = propagation::context(span).span().span_context().clone();
    if !context.is_valid() {
        return;
    }
    let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
    if sent.by_id.insert(id.to_owned(), context).is_none() {
        sent.order.push_back(id.to_owned());
    }
    if sent.order.len() > MOST
        && let Some(oldest) = sent.order.pop_front()
    {
        sent.by_id.remove(&oldest);
    }
}

/// Links `span` to the one that has sent the message `id`, if that is known.
pub(super) fn link(span: &Span, id: &str) {
    let context = SENT.lock().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned();
    if let Some(context) = context {
        span.add_link(context);
    }
}
