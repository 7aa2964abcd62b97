//! The `OTEL_*` variables. Pure.
//!
//! A platform sets these variables for all its processes, whatever those can do. So no value ends the start: one that is
//! not known is named, and counts as not set, as OpenTelemetry's specification wants it.

/// The default of `OTEL_BSP_MAX_QUEUE_SIZE`: the most spans that wait for their export.
const QUEUE: usize = 2_048;

/// The `OTEL_*` variables that this program has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `OTEL_SDK_DISABLED`: no spans, no export. `/metrics` stays.
    pub(super) disabled: bool,
    /// Where spans go, if anywhere.
    pub(super) traces: Option<Protocol>,
    /// Where measurements go besides `/metrics`, if anywhere.
    pub(super) metrics: Option<Protocol>,
    /// `OTEL_TRACES_SAMPLER` asks for what is the default.
    pub(super) samples_all: bool,
    /// `OTEL_PROPAGATORS`.
    pub(super) propagators: Vec<Propagator>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub(super) queue: usize,
}

/// The protocol of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagator {
    TraceContext,
    Baggage,
}

/// A variable with a value, or a part of one, that counts as not set: its name, that value, what it takes.
pub type Ignored = (&'static str, String, &'static str);

/// The variables of one signal.
struct Signal {
    exporter: &'static str,
    endpoint: &'static str,
    protocol: &'static str,
}

const TRACES: Signal = Signal {
    exporter: "OTEL_TRACES_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
};

const METRICS: Signal = Signal {
    exporter: "OTEL_METRICS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
};

/// The address of the collector, for all signals that have none of their own.
pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// Numbers that the SDK reads itself. It takes its default for what is no number; a zero would keep it busy.
const NUMBERS: [&str; 9] = [
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
];

/// Reads variables by name; a blank one counts as not set.
struct Variables<'a, F: Fn(&str) -> Option<&'a str>> {
    get: F,
    ignored: Vec<Ignored>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Variables<'a, F> {
    fn text(&self, name: &str) -> Option<&'a str> {
        (self.get)(name).map(str::trim).filter(|value| !value.is_empty())
    }

    fn ignore(&mut self, name: &'static str, got: &str, takes: &'static str) {
        let ignored = (name, got.to_owned(), takes);
        if !self.ignored.contains(&ignored) {
            self.ignored.push(ignored);
        }
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
            self.ignore(name, value, takes);
        }
        read
    }

    /// Those parts of a list that are known; `None` if there are none. An empty list is `none`.
    fn list<T>(
        &mut self,
        name: &'static str,
        takes: &'static str,
        known: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let parts = self.text(name)?.split(',').map(str::trim).filter(|part| !part.is_empty());
        let (mut found, mut is_none) = (Vec::new(), false);
        for part in parts {
            match known(part) {
                Some(one) => found.push(one),
                None if part == "none" => is_none = true,
                None => self.ignore(name, part, takes),
            }
        }
        (is_none || !found.is_empty()).then_some(found)
    }

    /// Where one signal goes. Its own variables win over those of all signals.
    fn export(&mut self, signal: &Signal) -> Option<Protocol> {
        let exporters = self.list(signal.exporter, "otlp or none", |text| (text == "otlp").then_some(()));
        let takes = "grpc or http/protobuf";
        let own = self.read(signal.protocol, takes, parse_protocol);
        let general = self.read(PROTOCOL, takes, parse_protocol);
        let protocol = own.or(general).unwrap_or(Protocol::Http);
        let is_wanted = exporters.is_none_or(|wanted| !wanted.is_empty());
        (self.endpoint(signal.endpoint, protocol) && is_wanted).then_some(protocol)
    }

    /// Is there an address to which this protocol can export?
    fn endpoint(&mut self, own: &'static str, protocol: Protocol) -> bool {
        let takes = match protocol {
            Protocol::Http => "http://host:port or https://host for http/protobuf",
            Protocol::Grpc => "http://host:port, https://host or unix:///path for grpc",
        };
        [own, ENDPOINT]
            .into_iter()
            .any(|name| self.read(name, takes, |text| is_endpoint(text, protocol).then_some(())).is_some())
    }
}

fn is_endpoint(text: &str, protocol: Protocol) -> bool {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return false;
    }
    match text.split_once("://") {
        Some(("http" | "https", rest)) => names_a_host(rest),
        Some(("unix", path)) => protocol == Protocol::Grpc && path.starts_with('/'),
        Some(_) => false,
        // The specification takes `host:port` for gRPC.
        None => {
            let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
            protocol == Protocol::Grpc && port.is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        }
    }
}

/// A host, with or without a port, a login and a path.
fn names_a_host(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let in_a_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    !host.is_empty() && host.chars().all(in_a_host) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    match text {
        "grpc" => Some(Protocol::Grpc),
        "http/protobuf" => Some(Protocol::Http),
        _ => None,
    }
}

fn parse_propagator(text: &str) -> Option<Propagator> {
    match text {
        "tracecontext" => Some(Propagator::TraceContext),
        "baggage" => Some(Propagator::Baggage),
        _ => None,
    }
}

impl Settings {
    /// Reads them. What is not known is returned besides, and counts as not set.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> (Self, Vec<Ignored>) {
        let mut variables = Variables { get, ignored: Vec::new() };
        let disabled = variables.read("OTEL_SDK_DISABLED", "true or false", |text| {
            ["true", "false"].iter().position(|known| text.eq_ignore_ascii_case(known)).map(|at| at == 0)
        });
        let traces = variables.export(&TRACES);
        let metrics = variables.export(&METRICS);
        let takes = "tracecontext and baggage, separated by a comma, or none";
        let propagators = variables.list("OTEL_PROPAGATORS", takes, parse_propagator);
        // The SDK reads what follows itself, and takes its default for what it does not understand, without a word.
        let takes = "always_on, always_off, traceidratio, or one of them with parentbased_ in front";
        let sampler = variables.read("OTEL_TRACES_SAMPLER", takes, |text| {
            let name = text.strip_prefix("parentbased_").unwrap_or(text);
            ["always_on", "always_off", "traceidratio"].contains(&name).then(|| text.to_owned())
        });
        variables.read("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1", |text| {
            text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share))
        });
        for name in [
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
        ] {
            variables.read(name, "none", |text| text.eq_ignore_ascii_case("none").then_some(()));
        }
        let positive = |text: &str| text.parse::<usize>().ok().filter(|number| *number > 0);
        let mut queue = None;
        for name in NUMBERS {
            let number = variables.read(name, "a number above 0", positive);
            if name == "OTEL_BSP_MAX_QUEUE_SIZE" {
                queue = number;
            }
        }
        let both = || vec![Propagator::TraceContext, Propagator::Baggage];
        let settings = Self {
            disabled: disabled.unwrap_or(false),
            traces,
            metrics,
            samples_all: sampler.is_none_or(|name| name == "parentbased_always_on"),
            propagators: propagators.unwrap_or_else(both),
            queue: queue.unwrap_or(QUEUE),
        };
        (settings, variables.ignored)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &'static str)]) -> (Settings, Vec<Ignored>) {
        Settings::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    /// With these variables nothing is ignored.
    fn known(variables: &[(&str, &'static str)]) -> Settings {
        let (settings, ignored) = read(variables);
        assert_eq!(ignored, []);
        settings
    }

    const COLLECTOR: (&str, &str) = (ENDPOINT, "http://localhost:4318");

    #[test]
    fn without_an_endpoint_nothing_leaves_the_process() {
        assert!(!known(&[]).exports());
        assert!(!known(&[(ENDPOINT, " ")]).exports());
        assert!(known(&[COLLECTOR]).exports());
        assert!(!known(&[COLLECTOR, ("OTEL_SDK_DISABLED", "TRUE")]).exports());
        assert!(!known(&[COLLECTOR]).local().exports());
    }

    #[test]
    fn a_signals_own_variables_count_before_the_general_ones() {
        let settings = known(&[
            (ENDPOINT, "http://localhost:4317"),
            (PROTOCOL, "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ]);
        assert_eq!((settings.traces, settings.metrics), (Some(Protocol::Http), Some(Protocol::Grpc)));
        let settings = known(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/v1/traces")]);
        assert_eq!((settings.traces, settings.metrics), (Some(Protocol::Http), None));
    }

    #[test]
    fn what_is_not_known_is_named_and_the_rest_counts() {
        for (name, value, got) in [
            ("OTEL_TRACES_EXPORTER", "console", "console"),
            ("OTEL_TRACES_EXPORTER", "otlp,zipkin", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "prometheus", "prometheus"),
            (PROTOCOL, "http/json", "http/json"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "HTTP", "HTTP"),
            ("OTEL_PROPAGATORS", "tracecontext,baggage,b3", "b3"),
            ("OTEL_PROPAGATORS", "xray", "xray"),
            ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote", "parentbased_jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "2", "2"),
            ("OTEL_SDK_DISABLED", "yes", "yes"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "10s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1", "-1"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0", "0"),
        ] {
            let (settings, ignored) = read(&[COLLECTOR, (name, value)]);
            let told: Vec<_> = ignored.iter().map(|(name, got, _)| (*name, got.as_str())).collect();
            assert_eq!(told, [(name, got)]);
            assert_eq!(settings, known(&[COLLECTOR]), "{name}={value}");
        }
    }

    #[test]
    fn an_address_to_which_nothing_can_be_exported_is_named_once_and_the_other_one_counts() {
        let named = |variables: &[(&str, &'static str)]| {
            let (settings, ignored) = read(variables);
            let names: Vec<_> = ignored.iter().map(|(name, ..)| *name).collect();
            (settings.traces, names)
        };
        for text in [
            "unix:/run/otel.sock",
            "unix:///run/otel.sock",
            "collector:4318",
            "http://c:port",
            "http://%zz",
            "http://[::1",
            "http://me:x@",
            "http://",
            "a b",
            "://",
        ] {
            assert_eq!(named(&[(ENDPOINT, text)]), (None, vec![ENDPOINT]), "{text}");
            let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
            assert_eq!(named(&[(own, text), COLLECTOR]), (Some(Protocol::Http), vec![own]), "{text}");
        }
        for (text, is_taken) in [
            ("unix:///run/otel.sock", true),
            ("collector:4317", true),
            ("unix:/run/otel.sock", false),
            ("collector", false),
            ("dns:///collector:4317", false),
        ] {
            let (traces, names) = named(&[(ENDPOINT, text), (PROTOCOL, "grpc")]);
            assert_eq!((traces.is_some(), names.is_empty()), (is_taken, is_taken), "{text}");
        }
    }

    #[test]
    fn an_address_may_have_a_login_a_port_and_a_path() {
        for text in [
            "http://c",
            "https://c:4318/",
            "http://me:x@c:1/otlp?a=b",
            "http://[::1]:4318",
            "http://127.0.0.1",
        ] {
            assert!(known(&[(ENDPOINT, text)]).exports(), "{text}");
        }
    }

    #[test]
    fn exporters_and_propagators_can_be_chosen_and_switched_off() {
        assert!(
            !known(&[COLLECTOR, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")])
                .exports()
        );
        let chosen = |text| known(&[("OTEL_PROPAGATORS", text)]).propagators;
        assert_eq!(chosen("tracecontext"), [Propagator::TraceContext]);
        assert_eq!(chosen("none"), []);
        assert_eq!(chosen("baggage, tracecontext"), [Propagator::Baggage, Propagator::TraceContext]);
        assert_eq!(known(&[]).propagators, [Propagator::TraceContext, Propagator::Baggage]);
        assert_eq!(known(&[("OTEL_BSP_MAX_QUEUE_SIZE", "7")]).queue, 7);
    }
}
