//! What is around the connector: variables that a platform sets for all its processes, proxies, `.env` files, secrets
//! as they are written down, and who is answered.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{
    Addressing, Collector, Layout, PATIENCE, Process, Role, Stage, eventually, spawn_command, warning,
};

/// Waits until the log has all of these parts.
async fn says(process: &Process, parts: &[&str]) {
    eventually(format!("{parts:?} in the log"), PATIENCE, async || {
        let log = process.stderr();
        let missing: Vec<_> = parts.iter().filter(|part| !log.contains(**part)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} is not in:\n{log}")) }
    })
    .await;
}

/// What ended the start of older versions, or went without a word.
const PLATFORM: [(&str, &str, &str); 9] = [
    ("OTEL_PROPAGATORS", "tracecontext,baggage,b3", "OTEL_PROPAGATORS=b3 is ignored"),
    ("OTEL_TRACES_EXPORTER", "console", "OTEL_TRACES_EXPORTER=console is ignored"),
    ("OTEL_METRICS_EXPORTER", "prometheus", "OTEL_METRICS_EXPORTER=prometheus is ignored"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json is ignored"),
    (
        "OTEL_TRACES_SAMPLER",
        "parentbased_jaeger_remote",
        "OTEL_TRACES_SAMPLER=parentbased_jaeger_remote is ignored",
    ),
    ("OTEL_TRACES_SAMPLER_ARG", "endpoint=x", "OTEL_TRACES_SAMPLER_ARG=endpoint=x is ignored"),
    ("OTEL_BSP_SCHEDULE_DELAY", "0", "OTEL_BSP_SCHEDULE_DELAY=0 is ignored"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip is ignored"),
    (
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "unix:///run/otel.sock",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=unix:///run/otel.sock is ignored",
    ),
];

#[tokio::test]
async fn what_opentelemetry_has_and_the_connector_has_not_is_a_warning_and_the_rest_is_exported() {
    let collector = Collector::start().await;
    let mut plan = Stage::plan().setting("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    for (name, value, _) in PLATFORM {
        plan = plan.setting(name, value);
    }
    let stage = plan.set().await;
    for (.., warning) in PLATFORM {
        stage.logs.expects(warning);
    }

    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("Hola").await;
    customer.receives(1).await;

    eventually("spans of it", PATIENCE, async || {
        if collector.spans().is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
    product.edge.stop().await;
    assert!(!collector.metrics().is_empty(), "they are told at the end at the latest");
}

#[tokio::test]
async fn an_endpoint_of_another_world_ends_no_start_whatever_the_protocol() {
    let stage = Stage::plan().set().await;
    for (protocol, endpoint) in [
        ("http/protobuf", "unix:/run/otel.sock"),
        ("grpc", "unix:/run/otel.sock"),
        ("grpc", "http://%zz"),
        ("http/protobuf", "http://me:topsecret@collector:port"),
    ] {
        let own = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
        let mut forwarder = stage.start_with(Role::Forwarder, &own).await;
        forwarder.ready().await;
        says(&forwarder.process, &["OTEL_EXPORTER_OTLP_"]).await;
        assert!(!forwarder.process.stderr().contains("topsecret"));
        forwarder.stop().await;
    }
    stage.logs.expects("OTEL_EXPORTER_OTLP_ENDPOINT=unix:/run/otel.sock is ignored");
    stage.logs.expects("OTEL_EXPORTER_OTLP_ENDPOINT=http://%zz is ignored");
    stage.logs.expects("OTEL_EXPORTER_OTLP_ENDPOINT=http://***@collector:port is ignored");
}

/// A proxy that knows one name, and takes it for the backend.
struct Proxy {
    url: String,
    backend: String,
    http: reqwest::Client,
    /// Each call: what was asked for, and with which login.
    seen: Mutex<Vec<(String, String)>>,
}

impl Proxy {
    async fn start(backend: &str) -> (Arc<Self>, AbortOnDropHandle<()>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Arc::new(Self {
            url: format!("127.0.0.1:{}", listener.local_addr().expect("an address").port()),
            backend: backend.trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client"),
            seen: Mutex::default(),
        });
        let app = Router::new().fallback(pass_on).with_state(Arc::clone(&proxy));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("a proxy") });
        (proxy, AbortOnDropHandle::new(serving))
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass_on(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let login = parts.headers.get("proxy-authorization").and_then(|value| value.to_str().ok());
    let call = (parts.uri.to_string(), login.unwrap_or_default().to_owned());
    proxy.seen.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    if parts.uri.host() != Some("backend.test") {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let url = format!("{}{}", proxy.backend, parts.uri.path());
    let mut headers = parts.headers;
    headers.remove("host");
    let answer =
        proxy.http.request(parts.method, url).headers(headers).body(body).send().await.expect("the backend");
    let status = answer.status();
    (status, Body::from(answer.bytes().await.expect("a body"))).into_response()
}

#[tokio::test]
async fn what_is_on_this_machine_is_called_without_the_proxy_of_the_environment() {
    let (proxy, _serving) = Proxy::start("http://127.0.0.1:1").await;
    let collector = Collector::start().await;
    let stage = Stage::plan()
        .setting("HTTP_PROXY", &format!("http://{}", proxy.url))
        .setting("HTTPS_PROXY", &format!("http://{}", proxy.url))
        .setting("ALL_PROXY", &format!("http://{}", proxy.url))
        .setting("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .set()
        .await;

    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("Hola").await;
    assert_eq!(customer.receives(1).await[0].text, "eco: Hola");
    let report = stage.output(&["check"]).await;
    assert!(!report.contains("_PROXY"), "{report}");
    product.edge.stop().await;

    assert!(!collector.spans().is_empty(), "the collector is on this machine, too");
    assert_eq!(proxy.seen(), []);
}

#[tokio::test]
async fn a_backend_elsewhere_is_called_through_the_proxy_which_is_named_without_its_password() {
    let mut stage = Stage::plan().set().await;
    let (proxy, serving) = Proxy::start(&stage.settings()["BACKEND_URL"]).await;
    stage.set("BACKEND_URL", "http://backend.test:8000");
    stage.set("HTTP_PROXY", &format!("http://me:topsecret@{}", proxy.url));
    // OpenTelemetry and WhatsApp are on this machine.
    let named = format!("HTTP_PROXY=http://{}", proxy.url);

    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("Hola").await;
    assert_eq!(customer.receives(1).await[0].text, "eco: Hola");
    let seen = proxy.seen();
    let (url, login) = seen.first().expect("a call");
    assert_eq!(url, "http://backend.test:8000/v1/channels/whatsapp/gateway/inbound");
    // `me:topsecret`
    assert_eq!(login, "Basic bWU6dG9wc2VjcmV0");
    let forwarder = &product.forwarders[0];
    says(&forwarder.process, &["the backend is called through a proxy", &named]).await;
    let report = stage.output(&["check", "forwarder"]).await;
    assert!(report.contains(&format!("http://backend.test:8000 (through the proxy {named})")), "{report}");

    // And when it is away.
    stage.logs.expects(&warning::held("unreachable"));
    stage.logs.expects("the backend cannot be reached through the proxy");
    serving.abort();
    eventually("the proxy to be away", PATIENCE, async || {
        if tokio::net::TcpStream::connect(&proxy.url).await.is_err() {
            Ok(())
        } else {
            Err("it is there".to_owned())
        }
    })
    .await;
    customer.write("otra").await;
    says(&forwarder.process, &["the backend cannot be reached through the proxy"]).await;
    let mut check = spawn_command(&["check", "forwarder"], stage.settings(), stage.dir());
    assert_eq!(check.end(PATIENCE).await.code(), Some(1));
    assert!(check.stdout().contains(&named) && check.stdout().contains("NO_PROXY"), "{}", check.stdout());
    for text in [forwarder.process.stderr(), report, check.stdout(), check.stderr()] {
        assert!(!text.contains("topsecret"), "{text}");
    }
}

#[tokio::test]
async fn a_dotenv_file_is_taken_as_it_is_written() {
    let key = "pa$sword-1$$\\n#x";
    let stage = Stage::plan().backend("AI_ASSISTANTS_API_KEYS", &format!("shop:{key}")).set().await;
    let work = stage.dir().join("work");
    std::fs::create_dir(&work).expect("a working directory");
    let file = format!(
        "\u{feff}# for the shop\r\nAPI_KEY={key} # the key\r\nexport FALLBACK_TEXT=\"un momento\"\r\n"
    );
    std::fs::write(work.join(".env"), file).expect("a file");

    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("Hola").await;
    assert_eq!(customer.receives(1).await[0].text, "eco: Hola");
    let shown = stage.output(&["config"]).await;
    assert!(shown.contains("un momento") && !shown.contains("sword"), "{shown}");
}

#[tokio::test]
async fn a_line_break_at_the_end_of_a_secret_is_no_part_of_it() {
    let stage = Stage::plan()
        .backend("AI_ASSISTANTS_API_KEYS", "shop:right")
        .backend("WHATSAPP_WEBHOOK_SECRET", "one")
        .setting("API_KEY", "right\n")
        .setting("WHATSAPP_WEBHOOK_SECRET", "one\r\n")
        .set()
        .await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("Hola").await;
    assert_eq!(customer.receives(1).await[0].text, "eco: Hola");
    let mut other = stage.start_with(Role::Forwarder, &[("HTTP_TOKEN", "0123456789abcdef\n")]).await;
    other.ready().await;
}

#[tokio::test]
async fn quotes_that_docker_has_kept_are_a_warning_with_the_name_and_not_the_value() {
    let stage = Stage::plan().setting("API_KEY", "\"topsecret\"").set().await;
    stage.logs.expects("API_KEY stands in quotes");
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;
    let report = stage.output(&["check", "forwarder", "--json"]).await;
    assert!(report.contains("quoted-setting"), "{report}");
    assert!(!forwarder.process.stderr().contains("topsecret") && !report.contains("topsecret"));

    // Where they make a value unusable, the two are told together.
    let mut settings = stage.settings().clone();
    settings.insert("BACKEND_TIMEOUT".to_owned(), "'30s'".to_owned());
    let mut refused = spawn_command(&["forwarder"], &settings, &stage.dir().join("refused"));
    assert_eq!(refused.end(PATIENCE).await.code(), Some(78));
    assert!(refused.stderr().contains("BACKEND_TIMEOUT stands in quotes"), "{}", refused.stderr());
}

#[tokio::test]
async fn every_start_says_whom_it_answers_and_shows_no_number() {
    let mut stage = Stage::plan().set().await;
    for role in [Role::Edge, Role::Forwarder, Role::Run] {
        let process = stage.start(role).await;
        says(&process.process, &["everybody who writes (ALLOWED_NUMBERS is not set)"]).await;
    }
    let checked = async |stage: &Stage| -> Value {
        serde_json::from_str(&stage.output(&["check", "run", "--json"]).await).expect("JSON")
    };
    let has = |report: &Value, code: &str, verdict: &str| {
        let findings = report["findings"].as_array().into_iter().flatten();
        findings.into_iter().any(|found| found["code"] == code && found["verdict"] == verdict)
    };
    let report = checked(&stage).await;
    assert!(has(&report, "answers-everybody", "note"), "{report}");

    stage.set("ALLOWED_NUMBERS", "+54 9 11 1234-5678, 15551234567");
    for role in [Role::Edge, Role::Forwarder, Role::Run] {
        let process = stage.start(role).await;
        says(&process.process, &["2 numbers, those of ALLOWED_NUMBERS, and nobody else"]).await;
        assert!(!process.process.stderr().contains("1234567"), "{}", process.process.stderr());
    }
    let report = checked(&stage).await;
    assert!(has(&report, "answers", "fine"), "{report}");
}

#[tokio::test]
async fn a_number_is_allowed_in_each_of_its_forms_and_the_answer_goes_to_the_one_that_wrote() {
    let allowed = "+55 11 98765-4321, 525512345678, +54 11 1234-5678";
    let stage = Stage::plan().setting("ALLOWED_NUMBERS", allowed).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    for phone in ["551187654321", "5215512345678", "5491112345678"] {
        let customer = stage.simulator.customer(phone, Addressing::Phone).await;
        customer.write("Hola").await;
        assert_eq!(customer.receives(1).await[0].text, "eco: Hola");
    }
    let stranger = stage.simulator.customer("551187654322", Addressing::Phone).await;
    stranger.write("Hola").await;
    stage.streams().await.decided(4).await;
    let calls = stage.backend.calls().await;
    let from: Vec<_> = calls.iter().filter_map(|call| call.from_number.as_deref()).collect();
    assert_eq!(from, ["551187654321", "5215512345678", "5491112345678"]);
}

/// Two of them are linked to the number and would answer each other for ever, if one took the other's answer for a
/// question.
#[tokio::test]
async fn a_note_to_self_is_answered_once_by_each_that_is_told_to_and_never_an_answer() {
    let own = ("ALLOWED_NUMBERS", "5491100000000");
    let stage = Stage::plan().setting("SELF_CHAT", "on").setting(own.0, own.1).set().await;
    let _one = stage.product(Layout::OneProcess).await;
    let auth = stage.dir().join("other-auth").display().to_string();
    let others = [("NATS_SUBJECT_PREFIX", "other"), ("WHATSAPP_AUTH_DIR", &auth)];
    let mut other = stage.start_with(Role::Run, &others).await;
    other.link(&stage.simulator).await;

    stage.simulator.note_to_self("una nota").await;
    let notes = async |count: usize| {
        eventually(format!("{count} notes"), PATIENCE, async || {
            let notes = stage.simulator.notes().await;
            if notes.len() >= count { Ok(notes) } else { Err(format!("{notes:?}")) }
        })
        .await
    };
    assert_eq!(notes(2).await, ["eco: una nota"; 2]);
    // The first one has heard the other's answer, and has decided that nobody asked. The other one is younger than the
    // first one's list of devices, so it hears nothing.
    stage.streams().await.decided(2).await;
    assert_eq!(stage.backend.calls().await.len(), 2);
    assert_eq!(stage.simulator.notes().await.len(), 2);
}

#[tokio::test]
async fn a_note_to_self_is_nobody_s_business_unless_it_is_wanted() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    stage.simulator.note_to_self("una nota").await;
    stage.streams().await.decided(1).await;
    assert!(stage.backend.calls().await.is_empty());
}

#[tokio::test]
async fn the_words_of_a_panic_are_shown_to_nobody() {
    let stage = Stage::plan().setting("PANIC_AT", "forwarder.before-call").set().await;
    stage.logs.expects("panicked at src/");
    stage.logs.expects("a task panicked; this is a bug");
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("mi tarjeta es 4111").await;
    let forwarder = &product.forwarders[0].process;
    says(forwarder, &["panicked at src/", "a task panicked"]).await;
    assert!(!forwarder.stderr().contains("tarjeta"), "{}", forwarder.stderr());
}
