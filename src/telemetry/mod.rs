//! Logs, traces and metrics, and the redaction of what none of them may show.
//!
//! `spans` and `metrics` define all spans and instruments. `otel` decides where they go, as `variables` says.

mod drops;
pub mod instrument;
mod links;
mod logs;
pub mod metrics;
pub mod otel;
pub mod propagation;
pub mod redact;
mod seldom;
pub mod spans;
mod uncollected;
mod variables;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, FilterFn, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{self, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub use instrument::{Definition, Kind};
pub use logs::LogFormat;
pub(crate) use seldom::Seldom;

/// This program's own log lines need no redaction: they never hold what would be redacted.
const OWN: &str = "whatsapp_connector";

/// How long the end of the process waits for the collector.
const FLUSH: Duration = Duration::from_secs(2);

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `LOG_FORMAT`; if it is not set, the terminal decides.
    pub format: Option<LogFormat>,
    /// `RUST_LOG`.
    pub filter: String,
    /// `LOG_PII=full`: logs show whole numbers.
    pub full_pii: bool,
    /// The `OTEL_*` variables.
    pub otel: otel::Settings,
}

/// Running telemetry.
#[derive(Debug)]
pub struct Telemetry {
    providers: otel::Providers,
}

/// Starts logs on standard error, traces and metrics. Exporters over gRPC have to be created inside a Tokio runtime.
pub fn start(settings: &Settings) -> Result<Telemetry, otel::StartError> {
    if settings.full_pii {
        redact::lift();
    }
    let providers = otel::Providers::start(&settings.otel)?;
    log(settings, &providers);
    for (what, error) in &providers.failed {
        // The error may quote an address.
        let error = redact::addresses(&error.to_string(), "***@");
        tracing::warn!(
            what,
            error,
            "nothing of it is exported: the OTEL_EXPORTER_OTLP_* variables cannot be used"
        );
    }
    if settings.full_pii {
        tracing::warn!("LOG_PII=full: logs and traces show whole phone numbers; do not ship them");
    }
    Ok(Telemetry { providers })
}

fn log(settings: &Settings, providers: &otel::Providers) {
    let is_terminal = io::stderr().is_terminal();
    let by_terminal = if is_terminal { LogFormat::Pretty } else { LogFormat::Json };
    let format = settings.format.unwrap_or(by_terminal);
    let own = |meta: &tracing::Metadata<'_>| meta.target().starts_with(OWN);
    let spans = providers.tracer.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(OWN))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
    });
    let own_spans = move || FilterFn::new(move |meta| meta.is_span() && own(meta));
    // Two layers: lines of other crates go through the redaction, this program's own lines do not. A line needs the
    // spans around it, whatever its level.
    let own_lines = fmt::layer()
        .event_format(logs::Lines(format))
        .fmt_fields(logs::NoFields)
        .with_ansi(is_terminal)
        .with_writer(io::stderr)
        .with_filter(level(&settings.filter).and(FilterFn::new(own)).or(own_spans()));
    let other = fmt::layer().with_ansi(false).with_writer(|| redact::Redacted(io::stderr()));
    let other_filter = level(&settings.filter).and(FilterFn::new(move |meta| !own(meta)));
    let other_lines = match format {
        LogFormat::Pretty => other.with_filter(other_filter).boxed(),
        LogFormat::Json => other.json().with_filter(other_filter).boxed(),
    };
    tracing_subscriber::registry()
        .with(spans.map(|spans| spans.with_filter(own_spans())))
        .with(providers.uncollected.then(|| uncollected::Places.with_filter(own_spans())))
        .with(logs::Messages.with_filter(own_spans()))
        .with(own_lines)
        .with(other_lines)
        .init();
}

/// Which lines are shown. An `EnvFilter` looks at each span that is entered. That is needed only if it was asked for what
/// is in a span, which it has in square brackets.
fn level<S>(filter: &str) -> Box<dyn layer::Filter<S> + Send + Sync> {
    let whole = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    match whole.to_string() {
        plain if !plain.contains('[') => {
            plain.parse::<Targets>().map_or_else(|_| Box::new(whole) as _, |targets| Box::new(targets) as _)
        }
        _ => Box::new(whole),
    }
}

impl Telemetry {
    /// What `/metrics` shows.
    pub fn registry(&self) -> prometheus::Registry {
        self.providers.registry.clone()
    }

    /// Sends what waits for the collector, for two seconds at most. To be called outside of the runtime, while the
    /// runtime still lives.
    pub fn shutdown(&self) {
        self.providers.shutdown(FLUSH);
    }
}

/// The client library's own lines are for its developers: only with `RUST_LOG`.
pub const DEFAULT_FILTER: &str = "off,whatsapp_connector=info";

/// Does this text work as `RUST_LOG`?
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(|_| ()).map_err(|error| error.to_string())
}
