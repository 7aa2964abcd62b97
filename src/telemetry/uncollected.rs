//! Traces that no collector gets. Nothing of them is recorded: a span has its place in its trace, so that log lines, the
//! backend and the bus get the same ids as with a collector.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceState};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{self, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A span's place in its trace.
#[derive(Debug, Clone)]
pub(super) struct Place(pub(super) Context);

impl Place {
    /// A new span within `around`. As OpenTelemetry's default sampler has it, a trace is sampled unless whoever began it
    /// says otherwise.
    fn within(around: &Context) -> Self {
        let parent = around.span().span_context().clone();
        let (trace, flags, state) = if parent.is_valid() {
            let flags = if parent.is_sampled() { parent.trace_flags() } else { TraceFlags::default() };
            (parent.trace_id(), flags, parent.trace_state().clone())
        } else {
            (RandomIdGenerator::default().new_trace_id(), TraceFlags::SAMPLED, TraceState::default())
        };
        let span = RandomIdGenerator::default().new_span_id();
        Self(around.with_remote_span_context(SpanContext::new(trace, span, flags, false, state)))
    }
}

/// Gives each span its place.
#[derive(Debug)]
pub(super) struct Places;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Places {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        let parent = match attributes.parent() {
            Some(parent) => context.span(parent),
            None if attributes.is_contextual() => context.lookup_current(),
            None => None,
        };
        let around = parent.and_then(|span| span.extensions().get::<Place>().cloned());
        if let Some(span) = context.span(id) {
            span.extensions_mut()
                .insert(Place::within(&around.map_or_else(Context::new, |Place(around)| around)));
        }
    }
}

/// The span's place; `None` if its trace is collected.
pub(super) fn place(span: &Span) -> Option<Context> {
    let found = span.with_subscriber(|(id, subscriber)| {
        let span = subscriber.downcast_ref::<Registry>()?.span(id)?;
        let place = span.extensions().get::<Place>().cloned();
        place.map(|Place(context)| context)
    });
    found.flatten()
}

/// Moves a span into the trace of `around`. Returns whether it has a place.
pub(super) fn enter(span: &Span, around: &Context) -> bool {
    let moved = span.with_subscriber(|(id, subscriber)| {
        let span = subscriber.downcast_ref::<Registry>()?.span(id)?;
        let mut extensions = span.extensions_mut();
        *extensions.get_mut::<Place>()? = Place::within(around);
        Some(())
    });
    moved.flatten().is_some()
}

#[cfg(test)]
mod tests {
    use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
    use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::propagation;
    use super::*;
    use crate::wire::{Headers, header};

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    /// What a call within a span gets that continues `headers`: version, trace, span and flags; and its baggage.
    fn passed_on(headers: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
        let known: [Box<dyn TextMapPropagator + Send + Sync>; 2] =
            [Box::new(TraceContextPropagator::new()), Box::new(BaggagePropagator::new())];
        opentelemetry::global::set_text_map_propagator(TextMapCompositePropagator::new(known.into()));
        let _collected_by_nobody =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(Places));
        let turn = tracing::info_span!(parent: None, "turn");
        propagation::continue_from(&turn, &Headers::from_iter(headers.iter().copied()));
        let _within = turn.enter();
        let call = tracing::info_span!("call").in_scope(propagation::current);
        let own = propagation::current();
        let parts = |headers: &Headers| -> Vec<String> {
            headers.get(header::TRACEPARENT).unwrap().split('-').map(str::to_owned).collect()
        };
        let (call_parts, own_parts) = (parts(&call), parts(&own));
        assert_eq!((&call_parts[1], &call_parts[3]), (&own_parts[1], &own_parts[3]), "one trace");
        assert_ne!(call_parts[2], own_parts[2], "two spans");
        (call_parts, call.get("baggage").map(str::to_owned))
    }

    #[test]
    fn a_trace_goes_on_though_nobody_collects_it() {
        for flags in ["00", "01"] {
            let parent = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
            let (call, baggage) = passed_on(&[(header::TRACEPARENT, &parent), ("baggage", "shop=7")]);
            assert_eq!((call[1].as_str(), call[3].as_str()), (TRACE, flags));
            assert_ne!(call[2], "b7ad6b7169203331");
            assert_eq!(baggage.as_deref(), Some("shop=7"));
        }
    }

    #[test]
    fn a_message_without_a_trace_begins_one() {
        let (first, second) = (passed_on(&[]).0, passed_on(&[(header::TRACEPARENT, "nonsense")]).0);
        assert_eq!((first[1].len(), first[2].len(), first[3].as_str()), (32, 16, "01"));
        assert_ne!(first[1], second[1]);
    }
}
