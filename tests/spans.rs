//! What a collector is told: one trace from phone to phone, and nothing that costs a message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::collector::Span;
use crate::support::heart::Watch;
use whatsapp_connector::wire::v1::ReceiptStatus;

use crate::support::oracle::write_each;
use crate::support::{
    Answer, Collector, GATE, Layout, PATIENCE, Process, Role, Stage, Unwell, clean, eventually, root, warning,
};

/// Spans are handed over soon, for tests.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");
/// The only place of the exporter: everything else is its default.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const CALL: &str = "POST /v1/channels/whatsapp/gateway/inbound";
const RECEIPT: &str = "whatsapp receipt";

/// Long enough that only a process that has died has its message delivered to another one.
const CALM: &str = "60s";

async fn stage(collector: &str, ack_wait: &str) -> Stage {
    Stage::plan()
        .backend(ENDPOINT, collector)
        .backend(SOON.0, SOON.1)
        .setting(ENDPOINT, collector)
        .setting(SOON.0, SOON.1)
        .setting("EDGE_ACK_WAIT", ack_wait)
        .setting("FORWARDER_ACK_WAIT", ack_wait)
        .set()
        .await
}

/// name@service < name of the parent@service.
fn family(spans: &[Span]) -> Vec<String> {
    let named = |span: &Span| format!("{} @{}", span.name, span.service);
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut family: Vec<String> = spans
        .iter()
        .map(|span| match by_id.get(span.parent.as_str()) {
            Some(parent) => format!("{} < {}", named(span), named(parent)),
            None if span.parent.is_empty() => named(span),
            None => format!("{} < somebody unknown", named(span)),
        })
        .collect();
    family.sort();
    family
}

/// All spans but those of what became of the answer afterwards.
fn of_the_message(collector: &Collector) -> Vec<Span> {
    let mut spans = collector.spans();
    spans.retain(|span| span.name != RECEIPT);
    spans
}

fn one<'a>(spans: &'a [Span], name: &str, service: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name && span.service == service);
    let span = found.next().unwrap_or_else(|| panic!("no span `{name}` of {service}"));
    assert!(found.next().is_none(), "two spans `{name}` of {service}");
    span
}

#[tokio::test]
async fn one_message_is_one_trace_from_phone_to_phone() {
    let collector = Collector::start().await;
    let stage = stage(collector.url(), CALM).await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;

    let message_id = customer.write("hola").await;
    customer.receives(1).await;
    collector.has("whatsapp receive", 1).await;
    collector.has("whatsapp send", 1).await;
    collector.has("wa.out process", 1).await;
    collector.has("wa.in process", 1).await;
    collector.has(CALL, 2).await;

    let spans = of_the_message(&collector);
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    assert_eq!(traces.len(), 1, "one message is one trace: {:#?}", family(&spans));
    let us = "whatsapp-connector";
    let want = [
        format!("{CALL} @assistant < {CALL} @{us}"),
        format!("{CALL} @{us} < wa.in process @{us}"),
        format!("wa.in process @{us} < wa.in publish @{us}"),
        format!("wa.in publish @{us} < whatsapp receive @{us}"),
        format!("wa.out process @{us} < wa.out publish @{us}"),
        format!("wa.out publish @{us} < wa.in process @{us}"),
        format!("whatsapp receive @{us}"),
        format!("whatsapp send @{us} < wa.out process @{us}"),
    ];
    assert_eq!(family(&spans), want);

    // Two processes, and the conventions.
    let of = |name: &str| one(&spans, name, us);
    assert_eq!(of("whatsapp receive").instance, of("whatsapp send").instance);
    assert_ne!(of("whatsapp receive").instance, of("wa.in process").instance);
    for (name, kind, destination) in [
        ("wa.in publish", "Producer", "WA_IN"),
        ("wa.in process", "Consumer", "WA_IN"),
        ("wa.out publish", "Producer", "WA_OUT"),
        ("wa.out process", "Consumer", "WA_OUT"),
    ] {
        let span = of(name);
        let is = |key: &str, value: &str| {
            assert_eq!(span.attributes.get(key).map(String::as_str), Some(value), "{key} of {name}");
        };
        assert_eq!(span.kind, kind, "{name}");
        is("messaging.system", "nats");
        is("messaging.destination.name", destination);
        is("messaging.message.id", &message_id);
        if kind == "Consumer" {
            is("messaging.nats.delivery_count", "1");
            assert!(span.attributes.contains_key("messaging.consumer.group.name"), "{name}");
        }
    }
    let call = of(CALL);
    assert_eq!(call.kind, "Client");
    assert_eq!(call.attributes["http.request.method"], "POST");
    assert_eq!(call.attributes["http.response.status_code"], "200");
    assert_eq!(of("wa.in process").events, ["attempt"]);
    let shown = format!("{spans:?}");
    for secret in ["hola", customer.phone()] {
        assert!(!shown.contains(secret), "a span shows `{secret}`");
    }
}

/// What the dead process had not told yet is missing; all the rest hangs together, and says that it is a second
/// delivery.
#[tokio::test]
async fn a_forwarder_killed_in_the_middle_leaves_one_connected_trace() {
    let collector = Collector::start().await;
    let stage = stage(collector.url(), "2s").await;
    let mut product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customer = stage.customer().await;
    let mut doomed = stage.start_with(Role::Forwarder, &[("CRASH_AT", "forwarder.after-call")]).await;

    customer.write("hola").await;
    doomed.process.end_by_kill(PATIENCE).await;
    product.forwarders.push(stage.start(Role::Forwarder).await);
    customer.receives(1).await;
    collector.has("wa.out process", 1).await;
    collector.has("wa.in process", 1).await;
    collector.has("wa.in publish", 1).await;
    collector.has("whatsapp receive", 1).await;
    // Two calls of the backend were answered, and one client has lived to tell of it.
    eventually("the backend's two spans and the caller's", PATIENCE, async || {
        let spans = collector.spans();
        let count =
            |service: &str| spans.iter().filter(|span| span.name == CALL && span.service == service).count();
        let counts = (count("assistant"), count("whatsapp-connector"));
        if counts.0 == 2 && counts.1 >= 1 { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;

    let spans = of_the_message(&collector);
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    assert_eq!(traces.len(), 1, "{:#?}", family(&spans));
    let process = one(&spans, "wa.in process", "whatsapp-connector");
    let publish = one(&spans, "wa.in publish", "whatsapp-connector");
    assert_eq!(process.parent, publish.id, "it goes on where the edge left it");
    assert_eq!(process.attributes["messaging.nats.delivery_count"], "2");
    let lost: Vec<String> = family(&spans).into_iter().filter(|line| line.contains("unknown")).collect();
    let of_the_dead = |line: &String| line.starts_with(CALL);
    assert!(lost.len() == 1 && lost.iter().all(of_the_dead), "only the dead call has no parent: {lost:?}");
}

/// Each text of a burst has a trace of its own, which the call is not in.
#[tokio::test]
async fn the_turn_of_a_burst_is_linked_to_the_traces_of_all_its_texts() {
    let collector = Collector::start().await;
    let mut stage = stage(collector.url(), CALM).await;
    stage.set("JOIN_WITHIN", "2s");
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    for text in ["uno", "dos", "tres"] {
        customer.write(text).await;
    }
    customer.receives(1).await;
    collector.has("wa.in process", 3).await;
    let traces: Vec<String> =
        stage.streams().await.messages().await.iter().map(crate::support::Entry::trace_id).collect();
    let turns = collector.spans().into_iter().filter(|span| span.name == "wa.in process");
    let links: BTreeMap<String, Vec<String>> = turns.map(|turn| (turn.trace_id, turn.links)).collect();
    assert_eq!(links[&traces[2]], traces[..2]);
    assert!(links[&traces[0]].is_empty() && links[&traces[1]].is_empty(), "{links:?}");
}

#[tokio::test]
async fn what_becomes_of_an_answer_is_linked_to_its_trace() {
    let collector = Collector::start().await;
    let stage = stage(collector.url(), CALM).await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.simulator.reader("5491112345678").await;

    customer.write("hola").await;
    customer.receives(1).await;
    collector.has(RECEIPT, 2).await;
    collector.has("whatsapp send", 1).await;

    let all = collector.spans();
    let send = one(&all, "whatsapp send", "whatsapp-connector");
    let receipts: Vec<&Span> = all.iter().filter(|span| span.name == RECEIPT).collect();
    for receipt in &receipts {
        assert_ne!(receipt.trace_id, send.trace_id, "a trace of its own");
        assert_eq!(receipt.links, [send.trace_id.as_str()]);
        assert_eq!(receipt.attributes["wa.sent.id"], send.attributes["wa.sent.id"]);
    }
    let told: BTreeSet<&str> =
        receipts.iter().map(|receipt| receipt.attributes["wa.receipt.status"].as_str()).collect();
    assert_eq!(told, BTreeSet::from(["delivered", "read"]));
    let stored = stage.streams().await.receipts().await;
    let stored: Vec<_> =
        stored.iter().map(|receipt| (receipt.status(), receipt.message_ids.concat())).collect();
    let id = &send.attributes["wa.sent.id"];
    for status in [ReceiptStatus::Delivered, ReceiptStatus::Read] {
        assert!(stored.contains(&(status, id.clone())), "no {status:?} in {stored:?}");
    }
}

/// Waits for a span `wa.in process` with just these events within.
async fn events(collector: &Collector, want: &[&str]) {
    eventually(format!("a `wa.in process` with {want:?}"), PATIENCE, async || {
        let spans = collector.spans();
        let all: Vec<Vec<String>> =
            spans.into_iter().filter(|span| span.name == "wa.in process").map(|span| span.events).collect();
        if all.iter().any(|events| events == want) { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_message_that_waits_for_the_one_before_it_says_so_in_its_span() {
    let collector = Collector::start().await;
    let stage = Stage::plan()
        .backend(GATE.0, GATE.1)
        .setting(ENDPOINT, collector.url())
        .setting(SOON.0, SOON.1)
        .setting("FORWARDER_ACK_WAIT", CALM)
        .set()
        .await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("uno").await;
    customer.write("dos").await;
    eventually("the second to wait for the first", PATIENCE, async || {
        let metrics = product.edge.metrics().await;
        if metrics.contains("\nwa_turns{state=\"chain\"} 1\n") { Ok(()) } else { Err(metrics) }
    })
    .await;
    stage.backend.open().await;
    customer.receives(2).await;

    events(&collector, &["attempt"]).await;
    events(&collector, &["chain.wait", "chain.go", "attempt"]).await;
}

/// A backend that is away for one call, and one that fails at one message.
#[tokio::test]
async fn a_message_that_is_held_or_tried_again_says_so_in_its_span() {
    let collector = Collector::start().await;
    let calls = AtomicUsize::new(0);
    let backend = Unwell::start(move |_question| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::new(503, ""),
        2 => Answer::new(500, ""),
        _ => Answer::text("bien"),
    })
    .await;
    let stage = Stage::plan()
        .setting("BACKEND_URL", backend.url())
        .setting(ENDPOINT, collector.url())
        .setting(SOON.0, SOON.1)
        .setting("FORWARDER_ACK_WAIT", CALM)
        .set()
        .await;
    stage.logs.expects(&warning::held("http-503"));
    stage.logs.expects(&warning::retried("http-500"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("uno").await;
    customer.receives(1).await;
    events(&collector, &["attempt", "hold", "attempt"]).await;
    customer.write("dos").await;
    customer.receives(2).await;
    events(&collector, &["attempt", "retry", "attempt"]).await;
}

/// All that OpenTelemetry is told is in `.env`, the resource and the sampling too.
#[tokio::test]
async fn a_collector_that_only_the_dotenv_file_names_is_told() {
    let collector = Collector::start().await;
    let stage = Stage::plan().set().await;
    let work = stage.dir().join("work");
    std::fs::create_dir_all(&work).expect("a working directory");
    let lines = format!(
        "{ENDPOINT}={}\n{}={}\nOTEL_SERVICE_NAME='from the file'\nOTEL_METRICS_EXPORTER=none\n",
        collector.url(),
        SOON.0,
        SOON.1
    );
    std::fs::write(work.join(".env"), lines).expect("a file");
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("hola").await;
    customer.receives(1).await;
    collector.has("whatsapp send", 1).await;
    product.edge.stop().await;

    let services: BTreeSet<String> = collector.spans().into_iter().map(|span| span.service).collect();
    assert_eq!(services, BTreeSet::from(["from the file".to_owned()]));
    assert!(collector.metrics().is_empty(), "{:?}", collector.metrics());
}

#[tokio::test]
async fn without_sampling_nothing_is_told_and_everything_is_answered() {
    let collector = Collector::start().await;
    let stage = Stage::plan()
        .backend(ENDPOINT, collector.url())
        .backend(SOON.0, SOON.1)
        .setting(ENDPOINT, collector.url())
        .setting(SOON.0, SOON.1)
        .setting("OTEL_TRACES_SAMPLER", "always_off")
        .setting("OTEL_METRIC_EXPORT_INTERVAL", "100")
        .set()
        .await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("hola").await;
    customer.receives(1).await;
    product.edge.stop().await;

    // The metrics say that the collector is heard at all, and that the process has told all it had to.
    assert!(collector.metrics().contains("wa.whole.duration"), "{:?}", collector.metrics());
    assert!(collector.spans().is_empty(), "{:#?}", family(&collector.spans()));
}

/// No delay, no loss; and the counter says what nobody will see. Of two dead collectors one has no port, and the
/// other takes what it is told and never answers: an exporter that somebody has to wait for would wait for ever.
#[tokio::test]
async fn a_dead_collector_costs_nothing_but_its_spans() {
    const ROOM: u64 = 64;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let no_port = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    // The kernel takes the connections; nobody reads them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let no_answer = format!("http://{}", silent.local_addr().expect("an address"));

    all_answered(Stage::plan().set().await, None).await;
    for (dead, kept, refuses) in [(no_port, 0, true), (no_answer, ROOM, false)] {
        let plan = Stage::plan()
            .setting(ENDPOINT, &dead)
            .setting(SOON.0, SOON.1)
            .setting("OTEL_BSP_MAX_QUEUE_SIZE", &ROOM.to_string())
            .setting("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
        let stage = plan.set().await;
        // Who is silent has not refused anything yet.
        if refuses {
            stage.logs.expects("the collector takes no spans; they are dropped until it does");
        }
        all_answered(stage, Some(kept)).await;
    }
}

/// A hundred messages of twenty customers are answered. All their spans are dropped but for so many that are kept;
/// `None`: nothing is dropped.
async fn all_answered(stage: Stage, kept: Option<u64>) {
    let product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911777", 20).await;
    let mut written = Vec::new();
    for number in 1..=5 {
        written.extend(write_each(&customers, number).await);
    }
    for customer in &customers {
        customer.receives(5).await;
    }
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    // Seven spans a message, and one for each receipt that came from a phone (a receipt may be lost); more if something is
    // delivered twice.
    let receipts = stage.streams().await.phones_receipts().await.len();
    let made = u64::try_from(7 * written.len() + receipts).expect("a count");
    let drops = kept.map_or(0..=0, |kept| made - kept..=u64::MAX);
    eventually("the counter of dropped spans", PATIENCE, async || {
        let metrics = product.edge.metrics().await;
        let lost = ["queue-full", "export-failed"].map(|reason| {
            let name = format!("wa_telemetry_spans_dropped_total{{reason=\"{reason}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok());
            value.unwrap_or_else(|| panic!("no {name}in {metrics}"))
        });
        let lost: u64 = lost.iter().sum();
        if drops.contains(&lost) { Ok(()) } else { Err(format!("{lost}")) }
    })
    .await;
    let stopping = Watch::start();
    product.edge.stop().await;
    stopping.within(Duration::from_secs(10), "an end that does not wait for the dead").await;
}

/// The connector speaks gRPC to a real collector, which hands on to ours.
#[tokio::test]
async fn a_real_collector_takes_spans_and_metrics_over_grpc() {
    let collector = Collector::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let [grpc, http] = [free_port(), free_port()];
    let mut command = clean(&rotel());
    command
        .args(["start", "--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
        .args(["--otlp-exporter-endpoint", collector.url(), "--batch-timeout", "100ms"]);
    let _rotel = Process::start("rotel", &mut command, dir.path());
    let listens = || std::net::TcpStream::connect(&grpc).map(drop).map_err(|error| error.to_string());
    eventually("the collector to listen", PATIENCE, async || listens()).await;
    let stage = Stage::plan()
        .setting(ENDPOINT, &format!("http://{grpc}"))
        .setting("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .setting("OTEL_METRIC_EXPORT_INTERVAL", "200")
        .setting("EDGE_ACK_WAIT", CALM)
        .setting("FORWARDER_ACK_WAIT", CALM)
        .setting("OTEL_SERVICE_NAME", "my shop")
        .setting("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .set()
        .await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("hola").await;
    customer.receives(1).await;
    // The default delay of five seconds has not passed: the end of the process hands over what waits.
    product.edge.stop().await;

    collector.has("whatsapp send", 1).await;
    let spans = of_the_message(&collector);
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    assert_eq!((traces.len(), spans.len()), (1, 7), "{:#?}", family(&spans));
    assert!(spans.iter().all(|span| span.service == "my shop"), "{spans:#?}");
    eventually("the metrics", PATIENCE, async || {
        let metrics = collector.metrics();
        if metrics.contains("wa.whole.duration") { Ok(()) } else { Err(format!("{metrics:?}")) }
    })
    .await;
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// `ROTEL_AGENT_BIN`, else what `make tools` installs.
fn rotel() -> PathBuf {
    let installed = || root().join(".tools/bin/rotel-agent");
    let binary = std::env::var_os("ROTEL_AGENT_BIN").map_or_else(installed, PathBuf::from);
    assert!(
        binary.exists(),
        "there is no {}: run `make tools`, or name one with ROTEL_AGENT_BIN",
        binary.display()
    );
    binary
}
