//! OpenTelemetry: where spans and measurements go. Only the standard `OTEL_*` variables configure it.
//!
//! The OpenTelemetry crates read most of these variables themselves. This module reads those that they leave to the
//! program, and checks values that they would ignore without a word.

use std::time::Duration;

use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::{drops, metrics};

/// The default of `OTEL_SERVICE_NAME`.
const SERVICE: &str = "whatsapp-connector";
/// The default of `OTEL_BSP_MAX_QUEUE_SIZE`: the most spans that wait for their export.
const QUEUE: usize = 2_048;

/// The `OTEL_*` variables that this program has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `OTEL_SDK_DISABLED`: no spans, no export. `/metrics` stays.
    disabled: bool,
    /// Where spans go, if anywhere.
    traces: Option<Protocol>,
    /// Where measurements go besides `/metrics`, if anywhere.
    metrics: Option<Protocol>,
    /// `OTEL_PROPAGATORS`.
    propagators: Vec<Propagator>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`.
    queue: usize,
}

/// The protocol of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Grpc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagator {
    TraceContext,
    Baggage,
}

/// A variable that cannot be used: its name, what it got, what it takes.
pub type Bad = (&'static str, String, &'static str);

/// Puts the OpenTelemetry variables of a `.env` file into the process's environment, because the OpenTelemetry crates
/// read most of them from there. Variables that the environment has already stay. To be called before there are
/// threads.
pub fn hand_on(dotenv: &str) {
    let of_otel = |line: &&str| {
        let line = line.trim_start();
        line.strip_prefix("export ").unwrap_or(line).trim_start().starts_with("OTEL_")
    };
    let lines: Vec<&str> = dotenv.lines().filter(of_otel).collect();
    // The file was read without an error before.
    let _ = dotenvy::from_read(lines.join("\n").as_bytes());
}

/// Reads variables by name; a blank one counts as not set.
struct Variables<'a, F: Fn(&str) -> Option<&'a str>> {
    get: F,
    bad: Vec<Bad>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Variables<'a, F> {
    fn text(&self, name: &str) -> Option<&'a str> {
        (self.get)(name).map(str::trim).filter(|value| !value.is_empty())
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        takes: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(name)?;
        let read = parse(value);
        if read.is_none() {
            self.bad.push((name, value.to_owned(), takes));
        }
        read
    }

    /// Where one signal goes. Its own variables win over those of all signals.
    fn export(&mut self, [exporter, endpoint, protocol]: [&'static str; 3]) -> Option<Protocol> {
        let wanted = self.read(exporter, "otlp or none", |text| match text {
            "otlp" => Some(true),
            "none" => Some(false),
            _ => None,
        });
        let takes = "grpc or http/protobuf";
        let own = self.read(protocol, takes, parse_protocol);
        let general = self.read("OTEL_EXPORTER_OTLP_PROTOCOL", takes, parse_protocol);
        self.text(endpoint).or(self.text("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
        (wanted != Some(false)).then_some(own.or(general).unwrap_or(Protocol::Http))
    }
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    match text {
        "grpc" => Some(Protocol::Grpc),
        "http/protobuf" => Some(Protocol::Http),
        _ => None,
    }
}

fn parse_propagators(text: &str) -> Option<Vec<Propagator>> {
    let names = text.split(',').map(str::trim).filter(|name| !["", "none"].contains(name));
    names
        .map(|name| match name {
            "tracecontext" => Some(Propagator::TraceContext),
            "baggage" => Some(Propagator::Baggage),
            _ => None,
        })
        .collect()
}

impl Settings {
    /// Reads them, or names every one that cannot be used.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Vec<Bad>> {
        let mut variables = Variables { get, bad: Vec::new() };
        let disabled = variables.read("OTEL_SDK_DISABLED", "true or false", |text| {
            ["true", "false"].iter().position(|known| text.eq_ignore_ascii_case(known)).map(|at| at == 0)
        });
        let traces = variables.export([
            "OTEL_TRACES_EXPORTER",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ]);
        let metrics = variables.export([
            "OTEL_METRICS_EXPORTER",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        ]);
        let takes = "tracecontext and baggage, separated by a comma, or none";
        let propagators = variables.read("OTEL_PROPAGATORS", takes, parse_propagators);
        // The SDK reads these three itself, and takes its default for what it does not understand.
        let takes = "always_on, always_off, traceidratio, or one of them with parentbased_ in front";
        variables.read("OTEL_TRACES_SAMPLER", takes, |text| {
            let name = text.strip_prefix("parentbased_").unwrap_or(text);
            ["always_on", "always_off", "traceidratio"].contains(&name).then_some(())
        });
        variables.read("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1", |text| {
            text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share))
        });
        let queue = variables.read("OTEL_BSP_MAX_QUEUE_SIZE", "a number of spans", |text| {
            text.parse::<usize>().ok().filter(|spans| *spans > 0)
        });
        let mut bad = variables.bad;
        if !bad.is_empty() {
            bad.dedup();
            return Err(bad);
        }
        Ok(Self {
            disabled: disabled.unwrap_or(false),
            traces,
            metrics,
            propagators: propagators.unwrap_or_else(|| vec![Propagator::TraceContext, Propagator::Baggage]),
            queue: queue.unwrap_or(QUEUE),
        })
    }

    /// For commands: spans exist, but nothing leaves the process.
    pub fn local(&self) -> Self {
        Self { traces: None, metrics: None, ..self.clone() }
    }

    /// Is anything exported?
    pub fn exports(&self) -> bool {
        !self.disabled && (self.traces.is_some() || self.metrics.is_some())
    }
}

/// The providers, for as long as the process runs.
#[derive(Debug)]
pub struct Providers {
    /// The provider of spans; `None` if the SDK is disabled.
    pub tracer: Option<SdkTracerProvider>,
    /// The provider of measurements.
    meter: SdkMeterProvider,
    /// The registry that `/metrics` shows.
    pub registry: prometheus::Registry,
}

/// Why there are no providers.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An exporter cannot be created.
    #[error("the OTEL_EXPORTER_OTLP_* variables cannot be used: {0}")]
    Exporter(#[from] ExporterBuildError),
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
        if let Some(protocol) = settings.metrics.filter(|_| !settings.disabled) {
            let exporter = match protocol {
                Protocol::Http => MetricExporter::builder().with_http().build(),
                Protocol::Grpc => MetricExporter::builder().with_tonic().build(),
            };
            meter = meter.with_reader(PeriodicReader::builder(exporter?).build());
        }
        let meter = meter.build();
        global::set_meter_provider(meter.clone());
        metrics::zero();

        let mut tracer = SdkTracerProvider::builder().with_resource(resource());
        if let Some(protocol) = settings.traces.filter(|_| !settings.disabled) {
            let exporter = match protocol {
                Protocol::Http => SpanExporter::builder().with_http().build(),
                Protocol::Grpc => SpanExporter::builder().with_tonic().build(),
            };
            tracer = tracer.with_span_processor(drops::counted(exporter?, settings.queue));
        }
        let propagators = settings.propagators.iter().map(|propagator| match propagator {
            Propagator::TraceContext => {
                Box::new(TraceContextPropagator::new()) as Box<dyn TextMapPropagator + Send + Sync>
            }
            Propagator::Baggage => Box::new(BaggagePropagator::new()),
        });
        global::set_text_map_propagator(TextMapCompositePropagator::new(propagators.collect()));
        let tracer = (!settings.disabled).then(|| tracer.build());
        Ok(Self { tracer, meter, registry })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &'static str)]) -> Result<Settings, Vec<Bad>> {
        Settings::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn without_an_endpoint_nothing_leaves_the_process() {
        assert!(!read(&[]).unwrap().exports());
        assert!(!read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().exports());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        assert!(read(&[endpoint]).unwrap().exports());
        assert!(!read(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap().exports());
        assert!(!read(&[endpoint]).unwrap().local().exports());
    }

    #[test]
    fn a_signals_own_variables_count_before_the_general_ones() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ])
        .unwrap();
        assert_eq!((settings.traces, settings.metrics), (Some(Protocol::Http), Some(Protocol::Grpc)));
        let traces = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/v1/traces")];
        let settings = read(&traces).unwrap();
        assert_eq!((settings.traces, settings.metrics), (Some(Protocol::Http), None));
    }

    #[test]
    fn what_would_be_ignored_in_silence_is_named() {
        let bad = read(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("OTEL_PROPAGATORS", "b3"),
        ])
        .unwrap_err();
        let names: Vec<_> = bad.iter().map(|(name, ..)| *name).collect();
        let want = [
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_PROPAGATORS",
            "OTEL_TRACES_SAMPLER",
            "OTEL_TRACES_SAMPLER_ARG",
        ];
        assert_eq!(names, want);
    }

    #[test]
    fn propagators_can_be_chosen_and_switched_off() {
        let chosen = |text| read(&[("OTEL_PROPAGATORS", text)]).unwrap().propagators;
        assert_eq!(chosen("tracecontext"), [Propagator::TraceContext]);
        assert_eq!(chosen("none"), []);
        assert_eq!(read(&[]).unwrap().propagators, [Propagator::TraceContext, Propagator::Baggage]);
    }
}
