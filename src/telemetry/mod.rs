//! Logs, trace context, redaction.

pub mod propagation;
pub mod redact;

use std::io;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, FilterFn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look (`LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: a JSON object a line.
    Json,
}

/// Our own lines need no redaction: they are written without anything to redact.
const OWN: &str = "whatsapp_connector";

/// Starts logging to standard error, and gives every span a trace context (which goes into headers;
/// nothing is exported). `filter` is `RUST_LOG`.
pub fn start(format: LogFormat, filter: &str) -> SdkTracerProvider {
    let own = || FilterFn::new(|meta| meta.target().starts_with(OWN));
    let other = || FilterFn::new(|meta| !meta.target().starts_with(OWN));
    let level = || EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let redacted = || redact::Redacted(io::stderr());
    let provider = SdkTracerProvider::builder().build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(OWN))
        .with_filter(FilterFn::new(|meta| meta.is_span() && meta.target().starts_with(OWN)));
    let registry = tracing_subscriber::registry().with(spans);
    // Two layers, so that what other crates say goes through the redaction and our own lines keep theirs.
    match format {
        LogFormat::Pretty => {
            let own_lines = fmt::layer().with_writer(io::stderr).with_filter(level().and(own()));
            let other_lines =
                fmt::layer().with_ansi(false).with_writer(redacted).with_filter(level().and(other()));
            registry.with(own_lines).with(other_lines).init();
        }
        LogFormat::Json => {
            let own_lines = fmt::layer().json().with_writer(io::stderr).with_filter(level().and(own()));
            let other_lines = fmt::layer().json().with_writer(redacted).with_filter(level().and(other()));
            registry.with(own_lines).with(other_lines).init();
        }
    }
    provider
}

/// The client library's own lines are for its developers: only with `RUST_LOG`.
pub const DEFAULT_FILTER: &str = "off,whatsapp_connector=info";

/// Does this text work as `RUST_LOG`?
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(|_| ()).map_err(|error| error.to_string())
}
