//! OpenTelemetry: where spans and measurements go. Only the standard `OTEL_*` variables configure it.
//!
//! The OpenTelemetry crates read most of these variables themselves. `variables` reads those that they leave to the
//! program, and finds values that they would not understand.

use std::time::Duration;

use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol as Otlp, SpanExporter, WithExportConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::variables::{Propagator, Protocol};
use super::{drops, metrics};

pub use super::variables::{ENDPOINT, Ignored, Settings};

/// The default of `OTEL_SERVICE_NAME`.
const SERVICE: &str = "whatsapp-connector";

/// The providers, for as long as the process runs.
#[derive(Debug)]
pub struct Providers {
    /// The provider of spans; `None` if nothing of them is recorded.
    pub tracer: Option<SdkTracerProvider>,
    /// No collector gets the spans, but they have ids.
    pub uncollected: bool,
    /// The provider of measurements.
    meter: SdkMeterProvider,
    /// The registry that `/metrics` shows.
    pub registry: prometheus::Registry,
    /// What is not exported although it should be, and why.
    pub failed: Vec<(&'static str, ExporterBuildError)>,
}

/// Why there are no providers.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `/metrics` cannot be set up.
    #[error("the metrics cannot be registered: {0}")]
    Registry(#[from] opentelemetry_sdk::error::OTelSdkError),
}

impl Providers {
    /// Creates the providers and makes them global. Exporters over gRPC have to be created inside a Tokio runtime.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        let registry = prometheus::Registry::new();
        let scraped = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()?;
        let mut meter = SdkMeterProvider::builder().with_resource(resource()).with_reader(scraped);
        let mut failed = Vec::new();
        if let Some(protocol) = settings.metrics.filter(|_| !settings.disabled) {
            let builder = MetricExporter::builder();
            let exporter = match protocol {
                Protocol::Http => builder.with_http().with_protocol(Otlp::HttpBinary).build(),
                Protocol::Grpc => builder.with_tonic().with_protocol(Otlp::Grpc).build(),
            };
            match exporter {
                Ok(exporter) => meter = meter.with_reader(PeriodicReader::builder(exporter).build()),
                Err(error) => failed.push(("metrics", error)),
            }
        }
        let meter = meter.build();
        global::set_meter_provider(meter.clone());
        metrics::zero();

        let mut tracer = SdkTracerProvider::builder().with_resource(resource());
        let mut is_collected = false;
        if let Some(protocol) = settings.traces.filter(|_| !settings.disabled) {
            let builder = SpanExporter::builder();
            let exporter = match protocol {
                Protocol::Http => builder.with_http().with_protocol(Otlp::HttpBinary).build(),
                Protocol::Grpc => builder.with_tonic().with_protocol(Otlp::Grpc).build(),
            };
            match exporter {
                Ok(exporter) => {
                    tracer = tracer.with_span_processor(drops::counted(exporter, settings.queue));
                    is_collected = true;
                }
                Err(error) => failed.push(("traces", error)),
            }
        }
        let propagators = settings.propagators.iter().map(|propagator| match propagator {
            Propagator::TraceContext => {
                Box::new(TraceContextPropagator::new()) as Box<dyn TextMapPropagator + Send + Sync>
            }
            Propagator::Baggage => Box::new(BaggagePropagator::new()),
        });
        global::set_text_map_propagator(TextMapCompositePropagator::new(propagators.collect()));
        // Another sampler decides which traces the collectors of others get, so it has to be asked all the same.
        let uncollected = !settings.disabled && !is_collected && settings.samples_all;
        let tracer = (!settings.disabled && !uncollected).then(|| tracer.build());
        Ok(Self { tracer, uncollected, meter, registry, failed })
    }

    /// Exports what waits, within `bound`. To be called outside of the runtime. The runtime has to live on meanwhile,
    /// because the exporters run on it.
    pub fn shutdown(&self, bound: Duration) {
        // What was not exported in time is lost. Nothing can be done about it.
        let spans = self.tracer.clone();
        let spans = std::thread::spawn(move || spans.map(|tracer| tracer.shutdown_with_timeout(bound)));
        let _ = self.meter.shutdown_with_timeout(bound);
        let _ = spans.join();
    }
}

/// The attributes of this process. The operator's settings win.
fn resource() -> Resource {
    let instance = rustix::system::uname();
    let host = instance.nodename().to_string_lossy().into_owned();
    let own = [
        KeyValue::new("service.name", SERVICE),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", format!("{host}:{}", std::process::id())),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(own)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    #[expect(clippy::disallowed_methods, reason = "one of the SDK's variables, which reads them by itself")]
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.trim().is_empty() => resource.with_service_name(name).build(),
        _ => resource.build(),
    }
}
