//! Every span: its name, its kind, and the attributes that OpenTelemetry's conventions ask for.
//!
//! Names are few and fixed. No attribute holds a subject (its last token is a phone number), a text or a key. Log lines
//! take what they say about their message from these spans: see `logs`.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::{KeyValue, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{links, propagation, redact};
use crate::wire::{Account, ChatToken, Envelope, now_ms};

/// One delivery of a message by the bus.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The durable consumer.
    pub consumer: &'a str,
    /// The message's place.
    pub sequence: u64,
    /// The number of this delivery: 1 for the first.
    pub count: u64,
}

/// The edge has received a message from WhatsApp. A trace begins. [`chat`] adds the chat once it is known.
pub fn receive(account: &Account, message_id: &str, offline: bool) -> Span {
    // A root, because WhatsApp's library may call while another span is current.
    tracing::info_span!(
        parent: None,
        "whatsapp receive",
        otel.kind = "consumer",
        messaging.system = "whatsapp",
        messaging.operation.name = "receive",
        messaging.operation.type = "receive",
        messaging.message.id = message_id,
        wa.account = account.as_str(),
        wa.chat = tracing::field::Empty,
        wa.offline = offline,
    )
}

/// The chat of the current span's message.
pub fn chat(chat: &ChatToken) {
    Span::current().record("wa.chat", redact::chat(chat));
}

/// The edge stores a message.
pub fn publish_in(stream: &str, message_id: &str) -> Span {
    tracing::info_span!(
        "wa.in publish",
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "nats",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = stream,
        messaging.destination.template = "wa.in.{account}.{kind}.{chat}",
        messaging.message.id = message_id,
        messaging.nats.stream.sequence = tracing::field::Empty,
    )
}

/// A forwarder has a message in hand.
pub fn process_in(envelope: &Envelope, delivered: Delivered<'_>) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "wa.in process",
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "nats",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = delivered.stream,
        messaging.destination.template = "wa.in.{account}.{kind}.{chat}",
        messaging.consumer.group.name = delivered.consumer,
        messaging.message.id = envelope.message_id,
        messaging.nats.stream.sequence = delivered.sequence,
        messaging.nats.delivery_count = delivered.count,
        wa.account = envelope.route.account.as_str(),
        wa.chat = redact::chat(&envelope.route.chat),
        wa.outcome = tracing::field::Empty,
    );
    propagation::continue_from(&span, &envelope.headers);
    span
}

/// A forwarder calls the backend; `route` is the account that it belongs to, if it is one account's own.
pub fn call((host, port): (&str, u16), route: Option<&str>, attempt: u32) -> Span {
    tracing::info_span!(
        "POST /v1/channels/whatsapp/gateway/inbound",
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        http.request.method = "POST",
        http.request.resend_count = attempt,
        http.response.status_code = tracing::field::Empty,
        url.template = "/v1/channels/whatsapp/gateway/inbound",
        server.address = host,
        server.port = port,
        wa.route = route,
        error.type = tracing::field::Empty,
    )
}

/// A forwarder stores an outcome.
pub fn publish_out(stream: &str, message_id: &str) -> Span {
    tracing::info_span!(
        "wa.out publish",
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "nats",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = stream,
        messaging.destination.template = "wa.out.{account}.{kind}.{chat}",
        messaging.message.id = message_id,
        messaging.nats.stream.sequence = tracing::field::Empty,
    )
}

/// The edge has an outcome or a request to send in hand.
pub fn process_out(envelope: &Envelope, delivered: Delivered<'_>) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "wa.out process",
        otel.kind = "consumer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "nats",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = delivered.stream,
        messaging.destination.template = "wa.out.{account}.{kind}.{chat}",
        messaging.consumer.group.name = delivered.consumer,
        messaging.message.id = envelope.message_id,
        messaging.nats.stream.sequence = delivered.sequence,
        messaging.nats.delivery_count = delivered.count,
        wa.account = envelope.route.account.as_str(),
        wa.chat = redact::chat(&envelope.route.chat),
    );
    propagation::continue_from(&span, &envelope.headers);
    span
}

/// The edge sends to WhatsApp, until its server has acknowledged it.
pub fn send(whatsapp_id: &str) -> Span {
    let span = tracing::info_span!(
        "whatsapp send",
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "whatsapp",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        wa.sent.id = whatsapp_id,
        error.type = tracing::field::Empty,
    );
    links::remember(whatsapp_id, &span);
    span
}

/// The edge receives a receipt for a message that it has sent. The receipt has a trace of its own, linked to the
/// message's trace.
pub fn receipt(account: &Account, chat: &ChatToken, whatsapp_id: &str, status: &str) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "whatsapp receipt",
        otel.kind = "consumer",
        messaging.system = "whatsapp",
        messaging.operation.name = "receipt",
        messaging.operation.type = "receive",
        messaging.nats.stream.sequence = tracing::field::Empty,
        wa.account = account.as_str(),
        wa.chat = redact::chat(chat),
        wa.sent.id = whatsapp_id,
        wa.receipt.status = status,
    );
    links::link(&span, whatsapp_id);
    span
}

/// Something happened within the current span.
pub fn event<const N: usize>(name: &'static str, attributes: [(&'static str, Value); N]) {
    let attributes = attributes.map(|(name, value)| KeyValue::new(name, value));
    Span::current().add_event(Cow::Borrowed(name), attributes.to_vec());
}

/// Something happened so long ago, before the current span began.
pub fn event_since(name: &'static str, ago: Duration) {
    let now = Duration::from_millis(u64::try_from(now_ms()).unwrap_or(0));
    let at = SystemTime::UNIX_EPOCH + now.saturating_sub(ago);
    Span::current().add_event_with_timestamp(Cow::Borrowed(name), at, Vec::new());
}

/// The backend answered with this status.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 400 {
        failed(span, &status.to_string());
    }
}

/// The span's operation failed. `kind` is a code.
pub fn failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// The current span's message is stored at `sequence`.
pub fn stored(sequence: u64) {
    Span::current().record("messaging.nats.stream.sequence", sequence);
}
