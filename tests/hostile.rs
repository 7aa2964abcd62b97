//! Answers that are none: each is a failure with a reason, tried again in its own chat, and it costs neither
//! memory nor anybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpListener;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{
    Addressing, Answer, Customer, Layout, PATIENCE, Product, Question, Stage, Unwell, eventually, warning,
};

/// More than the connector reads of an answer: 1 MiB.
const TOO_MUCH: usize = 2 << 20;
/// What all of these answers may take of memory on top of what was needed before: 1 MiB for each that is being
/// read, and some of it twice while it grows.
const MEMORY: u64 = 96 << 20;
/// After so long the connector gives up on a call: more than a busy machine needs for the largest of these
/// answers, whose reason must not be that they took too long.
const TIMEOUT: &str = "10s";
/// A healthy chat is answered within this: it does not stand behind a call that hangs.
const NOT_BEHIND_THEM: Duration = Duration::from_secs(5);
/// A chat in which nothing is wrong.
const HEALTHY: &str = "5491155500000";

/// What the backend does, and what the connector says of it. Redirects lead to `trap`.
fn hostile(trap: &str) -> Vec<(Answer, String)> {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked = || Answer::head(200, &[("Transfer-Encoding", "chunked")]);
    let long = format!(r#"{{"response_text":"{}"}}"#, "a".repeat(TOO_MUCH));
    let kilobyte = chunk(&"a".repeat(1_000));
    let bomb = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".repeat(1_000);
    let gzip = [("Content-Encoding", "gzip"), ("Content-Length", "10000")];
    let mut all = vec![
        (Answer::new(200, &long), "body-too-large"),
        (chunked().and(chunk(&long)), "body-too-large"),
        (Answer::head(200, &[]).and(&long).then_close(), "body-too-large"),
        (chunked().then_repeat(kilobyte.repeat(64), Duration::ZERO), "body-too-large"),
        (chunked().then_repeat(chunk(" "), Duration::from_millis(100)), "timeout"),
        (Answer::head(200, &[("Content-Length", "100")]).then_hang(), "timeout"),
        (Answer::raw("").then_hang(), "timeout"),
        (Answer::raw("HTTP/1.1 200 OK\r\nX: ").then_repeat("a", Duration::from_millis(50)), "timeout"),
        (
            Answer::raw("HTTP/1.1 200 OK\r\n").then_repeat("X: a\r\n".repeat(1_000), Duration::ZERO),
            "broken-answer",
        ),
        (
            Answer::raw("HTTP/1.1 200 OK\r\nX: ").then_repeat("a".repeat(4_096), Duration::ZERO),
            "broken-answer",
        ),
        (Answer::raw("").then_close(), "broken-answer"),
        (Answer::raw("SSH-2.0-OpenSSH_9.9\r\n").then_close(), "broken-answer"),
        (chunked().and("zz\r\nhola\r\n"), "broken-answer"),
        (Answer::head(200, &[("Content-Length", "100")]).and(r#"{"resp"#).then_close(), "broken-answer"),
        (chunked().and(chunk(r#"{"resp"#)).then_close(), "broken-answer"),
        (Answer::head(200, &gzip).and(bomb), "bad-body"),
        (Answer::new(200, "Hola"), "bad-body"),
        (Answer::new(200, "<html>Bad gateway</html>"), "bad-body"),
        (Answer::new(200, "null"), "bad-body"),
        (Answer::new(200, "[]"), "bad-body"),
        (Answer::new(200, r#"["c","Hola"]"#), "bad-body"),
        (Answer::new(200, r#"{"response_text":7}"#), "bad-body"),
        (Answer::new(200, r#"{"response_text":["Hola"]}"#), "bad-body"),
        (Answer::new(200, r#"{"response_text":"Hola","buttons":"no"}"#), "bad-body"),
        (Answer::new(200, r#"{"response_text":"Hola"} Hola"#), "bad-body"),
        (Answer::new(200, b"{\"response_text\":\"Hola \xff\"}"), "bad-body"),
        (Answer::new(200, r#"{"response_text":"Hola \ud800"}"#), "bad-body"),
        (Answer::new(200, format!(r#"{{"new":{}"#, "[".repeat(1_000_000))), "bad-body"),
        (Answer::head(500, &[]).then_repeat(&kilobyte, Duration::ZERO), "http-500"),
    ]
    .into_iter()
    .map(|(answer, reason)| (answer, reason.to_owned()))
    .collect::<Vec<_>>();
    for status in [301, 302, 303, 307, 308] {
        let redirect = Answer::head(status, &[("Location", trap), ("Content-Length", "0")]);
        all.push((redirect, format!("http-{status}")));
    }
    all
}

/// The product with a hostile backend: each customer gets one of its answers, but the healthy one.
struct Scene {
    stage: Stage,
    product: Product,
    backend: Unwell,
    victims: Vec<Customer>,
    reasons: Vec<String>,
    healthy: Customer,
    trapped: Arc<AtomicUsize>,
    memory: u64,
}

impl Scene {
    async fn set(settings: &[(&str, &str)]) -> Self {
        let trap = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = format!("http://{}/v1/channels", trap.local_addr().expect("its port"));
        let trapped = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&trapped);
        tokio::spawn(async move {
            while trap.accept().await.is_ok() {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (answers, reasons): (Vec<_>, Vec<_>) = hostile(&target).into_iter().unzip();
        let backend = Unwell::start(move |question| match number(question) {
            None => echo(question),
            Some(number) => answers[number].clone(),
        })
        .await;
        let mut plan = Stage::plan()
            .setting("BACKEND_URL", backend.url())
            .setting("API_KEY", "the-key")
            .setting("BACKEND_TIMEOUT", TIMEOUT);
        for (name, value) in settings {
            plan = plan.setting(name, value);
        }
        let stage = plan.set().await;
        stage.logs.expects(&warning::retried(""));
        let product = stage.product(Layout::Split { forwarders: 1 }).await;
        let victims = stage.customers("54911444", reasons.len()).await;
        let healthy = stage.simulator.customer(HEALTHY, Addressing::Phone).await;
        healthy.write("antes").await;
        healthy.receives(1).await;
        let memory = product.forwarders[0].process.peak_memory();
        Self { stage, product, backend, victims, reasons, healthy, trapped, memory }
    }

    /// Every victim writes; returns what was written.
    async fn all_write(&self) -> Vec<Written> {
        let written = self
            .victims
            .iter()
            .map(async |customer| Written::echoed(customer.phone(), customer.write("hola").await, "hola"));
        join_all(written).await
    }

    /// Nobody else notices.
    async fn the_healthy_chat_is_answered(&self) {
        let before = self.healthy.inbox().await.len();
        let asked = Watch::start();
        self.healthy.write("¿y yo?").await;
        self.healthy.receives(before + 1).await;
        asked.within(NOT_BEHIND_THEM, "a healthy chat's answer").await;
    }

    fn nothing_leaked(&self) {
        assert_eq!(self.trapped.load(Ordering::Relaxed), 0, "a redirect was followed, with the key");
        let memory = self.product.forwarders[0].process.peak_memory();
        eprintln!("the forwarder's memory: {} MiB before, {} MiB at most", self.memory >> 20, memory >> 20);
        assert!(memory < self.memory + MEMORY, "{} bytes before, {memory} at most", self.memory);
    }
}

/// The victim's number in the row; `None` for the healthy one.
fn number(question: &Question) -> Option<usize> {
    question.from_number.strip_prefix("54911444")?.parse().ok()
}

fn echo(question: &Question) -> Answer {
    Answer::text(&format!("eco: {}", question.text))
}

#[tokio::test]
async fn an_answer_that_is_none_is_tried_again_and_then_given_up_on_with_its_reason() {
    let scene = Scene::set(&[("BACKEND_RETRY_FOR", "1s")]).await;
    scene.stage.logs.expects(&warning::given_up(""));
    scene.all_write().await;
    scene.the_healthy_chat_is_answered().await;

    let streams = scene.stage.streams().await;
    // The healthy chat has two.
    streams.decided(scene.victims.len() + 2).await;
    let outcomes = streams.outcomes().await;
    for (customer, reason) in scene.victims.iter().zip(&scene.reasons) {
        let outcome = outcomes.iter().find(|entry| entry.chat() == customer.phone()).expect("an outcome");
        match outcome.outcome().result {
            Some(Ending::Dead(dead)) => assert_eq!(dead.detail, *reason, "{}", customer.phone()),
            other => panic!("{} was to be given up on because of {reason}: {other:?}", customer.phone()),
        }
        let asked = scene.backend.asked_by(customer.phone());
        assert!(asked > 1, "{} ({reason}) was tried {asked} times", customer.phone());
    }
    assert_eq!(streams.dead_letters().await.len(), scene.victims.len());
    scene.nothing_leaked();
}

#[tokio::test]
async fn once_the_backend_is_well_again_everything_is_answered() {
    let scene = Scene::set(&[]).await;
    let written = scene.all_write().await;
    scene.the_healthy_chat_is_answered().await;
    eventually("everything to be tried again", PATIENCE, async || {
        let tried = scene.victims.iter().map(|customer| scene.backend.asked_by(customer.phone()));
        let tried: Vec<_> = tried.collect();
        if tried.iter().all(|tried| *tried > 1) { Ok(()) } else { Err(format!("{tried:?}")) }
    })
    .await;
    scene.the_healthy_chat_is_answered().await;

    scene.backend.set(echo);

    join_all(scene.victims.iter().map(|customer| customer.receives(1))).await;
    let mut evidence = scene.stage.evidence(written.len() + 3, &scene.victims).await;
    evidence.messages.retain(|entry| entry.chat() != HEALTHY);
    evidence.outcomes.retain(|entry| entry.chat() != HEALTHY);
    evidence.assert_kept(&written);
    assert_eq!(scene.stage.streams().await.dead_letters().await.len(), 0);
    scene.nothing_leaked();
}

/// Well-formed answers that are as strange as they can be: they reach the phone, or the message is given up
/// on with a reason; the chat goes on in any case.
#[tokio::test]
async fn a_strange_text_reaches_the_phone_or_is_given_up_on() {
    // As long as one message may be; `long_answers` has longer ones.
    let long = "ñ".repeat(4_096);
    let nul = "antes\0después";
    // It is within the backend's bound, and with everything around it over the bus's.
    let huge = "a".repeat((1 << 20) - 30);
    let texts = [long.clone(), nul.to_owned(), huge];
    let http_1_0 = r#"{"response_text":"sin longitud"}"#;
    let backend = Unwell::start(move |question| match question.text.parse::<usize>() {
        Ok(number) => match texts.get(number) {
            Some(text) => Answer::text(text),
            None => Answer::raw("HTTP/1.0 200 OK\r\n\r\n").and(http_1_0).then_close(),
        },
        Err(_) => echo(question),
    })
    .await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).set().await;
    stage.logs.expects("the outcome cannot be stored; the message is dead-lettered");
    stage.logs.expects(&warning::given_up("outcome-too-large"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let mut written = Vec::new();
    let shown = [Some(long.as_str()), Some(nul), None, Some("sin longitud")];
    for (number, answer) in shown.into_iter().enumerate() {
        let id = customer.write(&number.to_string()).await;
        let answer = answer.map(str::to_owned);
        written.push(Written { phone: customer.phone().to_owned(), id, answer });
    }
    written.push(Written::echoed(customer.phone(), customer.write("fin").await, "fin"));

    customer.receives(4).await;
    let evidence = stage.evidence(written.len(), [&customer]).await;
    evidence.assert_kept(&written);
    let Some(Ending::Dead(dead)) = evidence.outcomes[2].outcome().result else {
        panic!("{:?}", evidence.outcomes[2])
    };
    assert_eq!(dead.detail, "outcome-too-large");
    assert_eq!(stage.streams().await.dead_letters().await.len(), 1);
}
