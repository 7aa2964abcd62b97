//! The trace context in headers: by default W3C `traceparent`/`tracestate`, on the bus and towards the
//! backend.

use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::{Context, global};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::uncollected;
use crate::wire::Headers;

struct Carrier<'a>(&'a mut Headers);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.set(key, &value);
        }
    }
}

struct Source<'a>(&'a Headers);

impl Extractor for Source<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name).collect()
    }
}

/// The span's place in its trace.
pub(super) fn context(span: &Span) -> Context {
    uncollected::place(span).unwrap_or_else(|| span.context())
}

/// Writes the current span's context into `headers`.
pub fn inject(headers: &mut Headers) {
    let context = context(&Span::current());
    global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut Carrier(headers)));
}

/// The current span's context as headers.
pub fn current() -> Headers {
    let mut headers = Headers::default();
    inject(&mut headers);
    headers
}

/// Makes `span` a child of the context in `headers`; without one it stays a root.
pub fn continue_from(span: &Span, headers: &Headers) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&Source(headers)));
    if !uncollected::enter(span, &context) {
        // Fails only without an OpenTelemetry layer, as in unit tests.
        let _ = span.set_parent(context);
    }
}

/// Links the current span to the context in `headers`, if there is one.
pub fn link_to(headers: &Headers) {
    let context = global::get_text_map_propagator(|propagator| propagator.extract(&Source(headers)));
    let place = context.span().span_context().clone();
    if place.is_valid() {
        Span::current().add_link(place);
    }
}
