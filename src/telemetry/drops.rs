//! Counts the spans that are lost.
//!
//! The SDK's batch processor never blocks. It drops spans that do not fit, but logs that only when it ends. Two types
//! wrap it: one counts the spans that go in and refuses those that do not fit, the other counts the spans that the
//! collector did not take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

use super::metrics;

/// Spans between their end and the end of their export.
type Waiting = Arc<AtomicUsize>;

/// A batch processor for `exporter` that holds up to `room` spans.
pub(super) fn counted<E: SpanExporter + 'static>(exporter: E, room: usize) -> impl SpanProcessor + 'static {
    let waiting = Waiting::default();
    let taken = Taken { exporter, waiting: Arc::clone(&waiting), failing: AtomicBool::new(false) };
    Gate { batches: BatchSpanProcessor::builder(taken).build(), waiting, room }
}

#[derive(Debug)]
struct Gate {
    batches: BatchSpanProcessor,
    waiting: Waiting,
    room: usize,
}

impl SpanProcessor for Gate {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        // Taken before the span is handed on, so that the batches' own queue never overflows.
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.room {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            metrics::SPANS_DROPPED.add(1, ["queue-full"]);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

#[derive(Debug)]
struct Taken<E> {
    exporter: E,
    waiting: Waiting,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Taken<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let failed = result.is_err();
        if failed {
            metrics::SPANS_DROPPED.add(count, ["export-failed"]);
        }
        match (self.failing.swap(failed, Ordering::Relaxed), &result) {
            // The error may hold the collector's address, which is no secret; its headers are not in it.
            (false, Err(error)) => {
                tracing::warn!(%error, "the collector takes no spans; they are dropped until it does");
            }
            (true, Ok(())) => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
