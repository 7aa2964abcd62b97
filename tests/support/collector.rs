//! An OTLP receiver over HTTP: what a collector is told, kept to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message as _;
use tokio_util::task::AbortOnDropHandle;

use super::{PATIENCE, eventually};

/// A span as it was told.
#[derive(Debug, Clone)]
pub struct Span {
    /// Hex.
    pub trace_id: String,
    /// Hex.
    pub id: String,
    /// Hex; empty for a root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `Server`, `Producer`, ...
    pub kind: String,
    /// `service.name` of its process.
    pub service: String,
    /// `service.instance.id` of its process.
    pub instance: String,
    /// When, in nanoseconds since the epoch.
    pub time: (u64, u64),
    /// `Error`, ...
    pub status: String,
    /// Its attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// The names of what happened within it.
    pub events: Vec<String>,
    /// The trace ids that it is linked to.
    pub links: Vec<String>,
}

#[derive(Debug, Default)]
struct Told {
    spans: Vec<Span>,
    metrics: BTreeSet<String>,
}

/// Listens on a free port until it is dropped.
#[derive(Debug)]
pub struct Collector {
    url: String,
    told: Arc<Mutex<Told>>,
    _serving: AbortOnDropHandle<()>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let told = Arc::new(Mutex::new(Told::default()));
        let app = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(Arc::clone(&told));
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("a collector");
        });
        Self { url, told, _serving: AbortOnDropHandle::new(serving) }
    }

    /// What goes into `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// The names of all metrics so far.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).metrics.clone()
    }

    /// Waits until there are `count` spans with this name.
    pub async fn has(&self, name: &str, count: usize) {
        let what = format!("{count} spans `{name}`");
        eventually(what, PATIENCE, async || {
            let spans = self.spans();
            if spans.iter().filter(|span| span.name == name).count() >= count {
                return Ok(());
            }
            Err(format!("{:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>()))
        })
        .await;
    }

    /// The spans of one trace.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace_id == id).collect()
    }
}

async fn traces(State(told): State<Arc<Mutex<Told>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(plain(&headers, body)) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let who = attributes(&resource.resource.unwrap_or_default().attributes);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(read(span, &who));
        }
    }
    told.lock().unwrap_or_else(PoisonError::into_inner).spans.extend(spans);
    StatusCode::OK
}

async fn metrics(State(told): State<Arc<Mutex<Told>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportMetricsServiceRequest::decode(plain(&headers, body)) else {
        return StatusCode::BAD_REQUEST;
    };
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
    told.lock().unwrap_or_else(PoisonError::into_inner).metrics.extend(names);
    StatusCode::OK
}

/// Other collectors hand on in gzip.
fn plain(headers: &HeaderMap, body: Bytes) -> Bytes {
    if headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding != "gzip") {
        return body;
    }
    let mut plain = Vec::new();
    GzDecoder::new(body.as_ref()).read_to_end(&mut plain).expect("gzip");
    plain.into()
}

fn read(span: otlp::Span, who: &BTreeMap<String, String>) -> Span {
    let of = |name: &str| who.get(name).cloned().unwrap_or_default();
    Span {
        trace_id: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: format!("{:?}", span.kind()),
        service: of("service.name"),
        instance: of("service.instance.id"),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
        status: span.status.map_or_else(String::new, |status| format!("{:?}", status.code())),
        attributes: attributes(&span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        name: span.name,
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| {
            let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
            let text = match value {
                Some(Value::StringValue(text)) => text.clone(),
                Some(Value::IntValue(number)) => number.to_string(),
                Some(Value::BoolValue(yes)) => yes.to_string(),
                other => format!("{other:?}"),
            };
            (pair.key.clone(), text)
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a text");
    }
    text
}
