//! `ROUTES_FILE`: each account's messages go to its own assistant, and what becomes of one assistant is nothing to the
//! customers of another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::join_all;
use prost::Message as _;
use serde_json::Value;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::{ChatKind, Identity, InboundMessage, Text};
use whatsapp_connector::wire::{header, now_ms};

use crate::support::heart::Watch;
use crate::support::oracle::{Evidence, Written, write_each};
use crate::support::{
    Answer, Connector, Customer, GATE, PATIENCE, Plan, Port, Role, Stage, Streams, Unwell, eventually, spawn,
    spawn_command,
};

/// What a forwarder says of a file that it refuses.
const REFUSED: &str = "ROUTES_FILE cannot be used; the routes stay as they were";
/// And of one that it uses.
const READ: &str = "ROUTES_FILE is read again";

/// A route is held, and this is why.
fn held(account: &str, reason: &str) -> String {
    format!(
        "the backend of a route is unavailable; its messages are held until it is back reason={reason} route={account}"
    )
}

/// Two businesses on one bus: one is the account `default` with `BACKEND_URL`, the other one `acme` has a route. Each has
/// a number, an edge and an assistant of its own.
struct Two {
    /// The number and the assistant of `acme`. Its bus is nobody's. First, so that it is judged while there is a bus.
    acme: Stage,
    /// The bus, the forwarders, and all of `default`.
    stage: Stage,
    _edges: [Connector; 2],
}

impl Two {
    async fn set(default: Plan, acme: Plan) -> Self {
        let (mut stage, mut acme) = tokio::join!(default.set(), acme.set());
        acme.set("NATS_URL", &stage.nats.url());
        acme.set("WHATSAPP_ACCOUNT", "acme");
        let file = route(stage.dir(), &[("acme", acme.backend.url(), "")]);
        stage.set("ROUTES_FILE", &file.display().to_string());
        let (mut first, mut second) = tokio::join!(stage.start(Role::Edge), acme.start(Role::Edge));
        tokio::join!(first.link(&stage.simulator), second.link(&acme.simulator));
        Self { acme, stage, _edges: [first, second] }
    }

    async fn customers(&self) -> (Vec<Customer>, Vec<Customer>) {
        tokio::join!(self.stage.customers("54911888", 3), self.acme.customers("54911999", 3))
    }

    /// What all this left behind, once nothing more can happen.
    async fn evidence<'a>(&self, count: usize, all: impl IntoIterator<Item = &'a Customer>) -> Evidence {
        let all: Vec<_> = all.into_iter().collect();
        let acmes = self.stage.streams().await.of_account("acme");
        acmes.settled(count).await;
        let mut evidence = self.stage.evidence(count, all).await;
        evidence.calls.extend(self.acme.backend.calls().await);
        evidence
    }
}

/// Writes the file: accounts, their addresses, and more lines of each.
fn route(dir: &Path, routes: &[(&str, &str, &str)]) -> PathBuf {
    let lines = routes.iter().map(|(account, url, more)| format!("[{account}]\nurl = \"{url}\"\n{more}\n"));
    let path = dir.join("routes.toml");
    std::fs::write(&path, lines.collect::<String>()).expect("the file of routes");
    path
}

/// Sends SIGHUP, and waits until `said` was logged once more.
async fn hang_up(forwarder: &Connector, said: &str) {
    let count = || forwarder.process.stderr().matches(said).count();
    let before = count();
    forwarder.process.hang_up();
    eventually(format!("`{said}`"), PATIENCE, async || {
        if count() > before { Ok(()) } else { Err(forwarder.process.stderr()) }
    })
    .await;
}

/// Waits until `GET /readyz` is `code` and says this.
async fn readiness(forwarder: &Connector, code: u16, words: &str) {
    eventually(format!("a readiness of {code} with {words}"), PATIENCE, async || {
        let (status, body) = forwarder.readiness().await?;
        if status == code && body.to_string().contains(words) {
            Ok(())
        } else {
            Err(format!("{status} {body}"))
        }
    })
    .await;
}

async fn status(stage: &Stage) -> String {
    let mut process = spawn_command(&["status"], stage.settings(), stage.dir());
    process.end(PATIENCE).await;
    process.stdout()
}

#[tokio::test]
async fn each_account_has_its_own_assistant_with_its_own_key_and_secret() {
    let keys = |key: &str, secret: &str| {
        Stage::plan()
            .backend("AI_ASSISTANTS_API_KEYS", &format!("shop:{key}"))
            .backend("WHATSAPP_WEBHOOK_SECRET", secret)
    };
    let others = keys("others-key", "others-secret")
        .setting("API_KEY", "others-key")
        .setting("WHATSAPP_WEBHOOK_SECRET", "others-secret")
        .setting("JOIN_WITHIN", "4s");
    let two = Two::set(others, keys("acme-key", "acme-secret")).await;
    std::fs::write(two.stage.dir().join("acme.key"), "acme-key\n").expect("a key");
    std::fs::write(two.stage.dir().join("acme.secret"), "acme-secret").expect("a secret");
    let login = "api_key_file = \"acme.key\"\nwebhook_secret_file = \"acme.secret\"\ntimeout = \"20s\"";
    route(two.stage.dir(), &[("acme", two.acme.backend.url(), login)]);
    let forwarder = two.stage.start(Role::Forwarder).await;
    let (others, acme) = two.customers().await;

    let mut written = Vec::new();
    for customer in others.iter().chain(&acme) {
        // A burst is one call, there as here.
        let ids = [customer.write("hola").await, customer.write("¿abren hoy?").await];
        written.push(Written::unanswered(customer.phone(), ids[0].clone()));
        written.push(Written::echoed(customer.phone(), ids[1].clone(), "hola\n¿abren hoy?"));
    }
    for customer in others.iter().chain(&acme) {
        customer.receives(1).await;
    }
    let evidence = two.evidence(written.len(), others.iter().chain(&acme)).await;
    evidence.assert_kept(&written);
    for (calls, prefix) in
        [(two.stage.backend.calls().await, "54911888"), (two.acme.backend.calls().await, "54911999")]
    {
        let from: Vec<_> = calls.iter().filter_map(|call| call.from_number.as_deref()).collect();
        assert!(from.len() == 3 && from.iter().all(|number| number.starts_with(prefix)), "{from:?}");
        assert!(calls.iter().all(|call| call.status == Some(200)), "{calls:?}");
    }
    let metrics = forwarder.metrics().await;
    for line in
        ["wa_route_held{route=\"acme\"} 0", "wa_route_held{route=\"BACKEND_URL\"} 0", "wa_backend_held 0"]
    {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let logs = forwarder.process.stderr() + &forwarder.process.stdout();
    assert!(!logs.contains("acme-key") && !logs.contains("acme-secret"), "a secret is in the log");
}

#[tokio::test]
async fn while_one_assistant_is_down_the_others_customers_are_answered() {
    let mut two = Two::set(Stage::plan(), Stage::plan()).await;
    two.stage.logs.expects(&held("acme", "unreachable"));
    let mut forwarder = two.stage.start(Role::Forwarder).await;
    let (others, acme) = two.customers().await;
    two.acme.backend.kill();

    let mut written = Vec::new();
    for number in 1..=3 {
        written.extend(write_each(&acme, number).await);
    }
    // Nobody else has written: all that is in use is held.
    readiness(&forwarder, 503, "Route acme: its backend cannot be reached").await;
    for number in 1..=3 {
        written.extend(write_each(&others, number).await);
    }
    for customer in &others {
        customer.receives(3).await;
    }
    readiness(&forwarder, 200, "Route acme: its backend cannot be reached").await;
    eventually("status to name the route", PATIENCE, async || {
        let said = status(&two.stage).await;
        let wants = [
            "held 9, route acme: backend/unreachable",
            ", route acme backend/unreachable: Route acme: its backend",
        ];
        if wants.iter().all(|want| said.contains(want)) { Ok(()) } else { Err(said) }
    })
    .await;
    assert!(forwarder.metrics().await.contains("wa_route_held{route=\"acme\"} 1"));
    assert_eq!(two.stage.streams().await.dead_letters().await.len(), 0);

    two.acme.backend.restart().await;
    for customer in &acme {
        customer.receives(3).await;
    }
    two.evidence(written.len(), others.iter().chain(&acme)).await.assert_kept(&written);
    forwarder.ready().await;
    assert!(!status(&two.stage).await.contains("route acme"), "it is back");
}

#[tokio::test]
async fn a_forwarder_that_is_killed_with_a_route_held_loses_nothing() {
    let plan = || Stage::plan().setting("FORWARDER_ACK_WAIT", "1s");
    let mut two = Two::set(plan(), plan()).await;
    two.stage.logs.may_have(&held("acme", "unreachable"));
    // A chat's messages are in the hands of both.
    let mut first = two.stage.start(Role::Forwarder).await;
    let mut second = two.stage.start(Role::Forwarder).await;
    let (others, acme) = two.customers().await;
    two.acme.backend.kill();
    let mut written = Vec::new();
    for number in 1..=20 {
        written.extend(write_each(&acme, number).await);
    }
    two.stage.streams().await.in_the_forwarders_hand(written.len()).await;
    first.process.kill();

    written.extend(write_each(&others, 1).await);
    for customer in &others {
        customer.receives(1).await;
    }
    two.acme.backend.restart().await;
    for customer in &acme {
        customer.receives(20).await;
    }
    two.evidence(written.len(), others.iter().chain(&acme)).await.assert_kept(&written);
    second.ready().await;
}

/// Customers of an account, on the bus as an edge stores what they write. No phone is needed to see how a forwarder works.
struct Crowd<'a> {
    streams: &'a Streams,
    account: &'static str,
    /// The last message of each.
    last: BTreeMap<String, u64>,
    /// Other people than those of another round.
    round: usize,
}

impl<'a> Crowd<'a> {
    fn of(streams: &'a Streams, account: &'static str) -> Self {
        Self { streams, account, last: BTreeMap::new(), round: 0 }
    }

    /// So many people write so often, and all of it is in the forwarder's hand. Returns how much that is.
    async fn waits(mut self, (people, each): (usize, usize)) -> usize {
        for _ in 0..each {
            self.write(people).await;
        }
        self.streams.in_the_forwarders_hand(people * each).await;
        people * each
    }

    /// Each of `people` writes once.
    async fn write(&mut self, people: usize) {
        for number in 0..people {
            let phone = format!("54911777{:05}", self.round + number);
            let (at_ms, account) = (now_ms(), self.account);
            let previous = self.last.get(&phone).copied().unwrap_or(0);
            let message_id = format!("3EB0{account}{phone}N{previous}").to_uppercase();
            let mut headers = HeaderMap::new();
            headers.insert(header::PREV_SEQ, previous.to_string());
            headers.insert(header::CE_ID, format!("{account}/{phone}/{phone}/{message_id}"));
            let message = InboundMessage {
                message_id,
                account: account.to_owned(),
                chat: phone.clone(),
                chat_jid: format!("{phone}@s.whatsapp.net"),
                chat_kind: ChatKind::Direct.into(),
                sender: Some(Identity { phone: phone.clone(), ..Identity::default() }),
                sent_at_ms: at_ms,
                content: Some(Content::Text(Text { body: "hola".to_owned() })),
                ..InboundMessage::default()
            };
            let subject = format!("wa.in.{account}.message.{phone}");
            let published = self.streams.jetstream().publish_with_headers(
                subject,
                headers,
                message.encode_to_vec().into(),
            );
            let stored = published.await.expect("a publish").await.expect("an ack");
            self.last.insert(phone, stored.sequence);
        }
    }
}

/// How many outcomes an account's chats have, of how many messages; each chat's in the order of its messages.
async fn outcomes(streams: &Streams, account: &str) -> usize {
    let mut chats: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let of = format!("wa.out.{account}.reply.");
    for entry in streams.outcomes().await.iter().filter(|entry| entry.subject.starts_with(&of)) {
        chats.entry(entry.subject.clone()).or_default().push(entry.sequence_in(header::IN_SEQ));
    }
    for (chat, answered) in &chats {
        assert!(answered.windows(2).all(|pair| pair[0] < pair[1]), "{chat}: {answered:?}");
    }
    chats.values().map(Vec::len).sum()
}

/// Three hundred people with ten messages each wait for an assistant that is down.
const DEEP: (usize, usize) = (300, 10);
/// So many people write to the other one.
const OTHERS: usize = 40;

async fn deep(guard: &str) -> (Stage, Unwell, Unwell) {
    let down = Unwell::start(|_| Answer::new(503, "")).await;
    let well = Unwell::start(|_| Answer::text("eco")).await;
    let mut stage =
        Stage::plan().setting("BACKEND_URL", well.url()).setting("WITHOUT_GUARD", guard).set().await;
    stage.logs.expects(&held("acme", "http-503"));
    let file = route(stage.dir(), &[("acme", down.url(), "")]);
    stage.set("ROUTES_FILE", &file.display().to_string());
    (stage, down, well)
}

/// With nothing beside them: what they promise is a matter of two seconds.
mod alone {
    use super::*;

    #[tokio::test]
    #[ignore = "its time counts: `make test-rust` runs it with nothing beside it"]
    async fn a_deep_backlog_of_a_held_route_slows_nobody() {
        let (stage, down, well) = deep("").await;
        let forwarder = begun(&stage).await;
        let streams = stage.streams().await;
        let waiting = Crowd::of(&streams, "acme").waits(DEEP).await;
        let calls = down.asked().len();
        the_others_are_answered(&streams, &well).await;
        // About one a second is a probe; they are no part of this.
        assert!(down.asked().len() - calls < 64, "{} probes", down.asked().len() - calls);
        streams.in_the_forwarders_hand(waiting).await;
        let metrics = forwarder.metrics().await;
        assert!(metrics.contains("wa_redeliveries_total{consumer=\"forwarder\"} 0"), "{metrics}");

        down.set(|_| Answer::text("eco"));
        eventually("all that waited", PATIENCE, async || match outcomes(&streams, "acme").await {
            found if found == waiting => Ok(()),
            found => Err(format!("{found} of {waiting}")),
        })
        .await;
        streams.in_the_forwarders_hand(0).await;
        assert_eq!(streams.dead_letters().await.len(), 0);
    }
}

/// `cargo test … -- --ignored of_a_held_route_slow_nobody --nocapture`: more than the consumer is made for, with the
/// default ack wait. An operator has raised its limit, as the guide says.
#[tokio::test]
#[ignore = "takes minutes"]
async fn many_messages_of_a_held_route_slow_nobody() {
    let (mut stage, _down, well) = deep("").await;
    stage.set("FORWARDER_ACK_WAIT", "15s");
    let forwarder = begun(&stage).await;
    let streams = stage.streams().await;
    streams.let_the_forwarders_have(1_000_000).await;
    let before = forwarder.process.memory();
    Crowd::of(&streams, "acme").waits((900, 200)).await;
    for _ in 0..5 {
        let cpu = forwarder.process.cpu();
        let watch = Watch::start();
        the_others_are_answered(&streams, &well).await;
        eprintln!("forty people in {}", watch.took().await);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let (memory, cpu) = (forwarder.process.memory() - before, forwarder.process.cpu() - cpu);
        eprintln!("{memory} more bytes of memory; {cpu:?} of CPU in 20 s");
    }
    let metrics = forwarder.metrics().await;
    assert!(metrics.contains("wa_redeliveries_total{consumer=\"forwarder\"} 0"), "{metrics}");
}

/// A forwarder that has made its streams.
async fn begun(stage: &Stage) -> Connector {
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;
    forwarder
}

/// Forty people write to the assistant that is well.
async fn the_others_are_answered(streams: &Streams, well: &Unwell) {
    let before = well.asked().len();
    let watch = Watch::start();
    let mut bolt = Crowd::of(streams, "bolt");
    bolt.round = before;
    bolt.write(OTHERS).await;
    eventually("the others' outcomes", PATIENCE, async || match outcomes(streams, "bolt").await {
        found if found == before + OTHERS => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
    watch.within(Duration::from_secs(5), "the answer to forty people").await;
    assert_eq!(well.asked().len(), before + OTHERS, "each is asked about once");
}

#[tokio::test]
async fn without_the_routes_own_holds_the_same_backlog_is_seen_to_stop_everybody() {
    let (stage, _down, well) = deep("routes").await;
    let _forwarder = begun(&stage).await;
    let streams = stage.streams().await;
    Crowd::of(&streams, "acme").write(DEEP.0).await;
    eventually("the hold", PATIENCE, async || {
        if stage.logs.count(&held("acme", "http-503")) > 0 { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    Crowd::of(&streams, "bolt").write(OTHERS).await;
    // As long as the others are allowed with the guard.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(well.asked().len() < OTHERS, "{} are asked about", well.asked().len());
}

/// A call that is under way ends where it began; what comes later, and what waits, goes to the new address.
#[tokio::test]
async fn another_address_counts_at_once_and_nothing_is_lost() {
    let two =
        Two::set(Stage::plan().backend(GATE.0, GATE.1), Stage::plan().backend("BACKEND_DELAY_MS", "0-200"))
            .await;
    let forwarder = two.stage.start(Role::Forwarder).await;
    let acme = two.acme.customers("54911999", 6).await;
    // At first it is at the assistant whose gate is closed.
    route(two.stage.dir(), &[("acme", two.stage.backend.url(), "")]);
    hang_up(&forwarder, READ).await;
    let mut written = write_each(&acme, 1).await;
    two.stage.backend.under_way(6).await;
    written.extend(write_each(&acme, 2).await);

    route(two.stage.dir(), &[("acme", two.acme.backend.url(), "")]);
    let write = async {
        let mut written = Vec::new();
        for number in 3..=8 {
            written.extend(write_each(&acme, number).await);
        }
        written
    };
    let (later, ()) = tokio::join!(write, async {
        hang_up(&forwarder, READ).await;
        two.stage.backend.open().await;
    });
    written.extend(later);
    join_all(acme.iter().map(|customer| customer.receives(8))).await;
    let evidence = two.evidence(written.len(), &acme).await;
    evidence.assert_kept(&written);
    assert_eq!(two.stage.backend.calls().await.len(), 6, "the old one was asked what it was asked before");
    assert_eq!(evidence.calls.len(), written.len(), "and nobody twice");
}

/// Two messages each of `acme` are held because of a wrong line; then that is put right.
async fn put_right(guard: &str) -> (Two, Connector, Vec<Customer>, Vec<Written>) {
    let two = Two::set(Stage::plan().setting("WITHOUT_GUARD", guard), Stage::plan()).await;
    two.stage.logs.expects(&held("acme", "unreachable"));
    let nobody = Port::free();
    route(two.stage.dir(), &[("acme", &format!("http://127.0.0.1:{}", nobody.number()), "")]);
    let forwarder = two.stage.start(Role::Forwarder).await;
    let (_, acme) = two.customers().await;
    let mut written = write_each(&acme, 1).await;
    written.extend(write_each(&acme, 2).await);
    two.stage.streams().await.in_the_forwarders_hand(written.len()).await;
    readiness(&forwarder, 503, "check url of [acme] in ROUTES_FILE").await;
    route(two.stage.dir(), &[("acme", two.acme.backend.url(), "")]);
    hang_up(&forwarder, READ).await;
    (two, forwarder, acme, written)
}

/// What is held because of a wrong line goes as soon as that is put right.
#[tokio::test]
async fn a_route_that_is_put_right_goes_on_at_once() {
    let (two, mut forwarder, acme, written) = put_right("").await;
    join_all(acme.iter().map(|customer| customer.receives(2))).await;
    two.evidence(written.len(), &acme).await.assert_kept(&written);
    forwarder.ready().await;
    // Its account has no route any more: it is one of the others.
    route(two.stage.dir(), &[]);
    hang_up(&forwarder, READ).await;
    write_each(&acme, 3).await;
    join_all(acme.iter().map(|customer| customer.receives(3))).await;
    assert_eq!(two.stage.backend.calls().await.len(), 3);
}

#[tokio::test]
async fn without_another_place_in_the_hand_what_waits_is_seen_to_wait_on() {
    let (two, _forwarder, _acme, _written) = put_right("lanes").await;
    // With the guard it is a matter of a moment. What is at work goes on, what waits behind it does not.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(outcomes(&two.stage.streams().await, "acme").await, 3);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_whole() {
    let two = Two::set(Stage::plan(), Stage::plan()).await;
    let forwarder = two.stage.start(Role::Forwarder).await;
    let (_, acme) = two.customers().await;
    two.stage.logs.expects(REFUSED);
    // The first line is right, and would send them elsewhere.
    route(
        two.stage.dir(),
        &[("acme", two.stage.backend.url(), ""), ("bolt", "http://b", "tiemout = \"5s\"")],
    );
    hang_up(&forwarder, REFUSED).await;
    let logs = forwarder.process.stderr() + &forwarder.process.stdout();
    let said = logs.lines().find(|line| line.contains(REFUSED)).expect("a line");
    for word in ["routes.toml", "6", "tiemout is not known", "was timeout meant?"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let written = write_each(&acme, 1).await;
    join_all(acme.iter().map(|customer| customer.receives(1))).await;
    two.evidence(written.len(), &acme).await.assert_kept(&written);
    assert_eq!(two.stage.backend.calls().await.len(), 0, "they are where they were");

    // And nothing starts with it.
    let mut refused = spawn(Role::Forwarder, two.stage.settings(), two.stage.dir());
    assert_eq!(refused.end(PATIENCE).await.code(), Some(78));
    let said = refused.stderr();
    assert!(said.contains("ROUTES_FILE=") && said.contains("line 6: tiemout is not known"), "{said}");
}

#[tokio::test]
async fn check_asks_each_route() {
    let mut stage = Stage::plan().setting("API_KEY", "others-key").set().await;
    let wants_a_key = Unwell::start(|_| Answer::new(401, "{\"detail\":\"key\"}")).await;
    let nobody = Port::free();
    let nobody = format!("http://127.0.0.1:{}", nobody.number());
    let file = route(
        stage.dir(),
        &[
            ("acme", wants_a_key.url(), "api_key_file = \"\""),
            ("default", &nobody, ""),
            ("cord", stage.backend.url(), ""),
        ],
    );
    stage.set("ROUTES_FILE", &file.display().to_string());
    let mut process = spawn_command(&["check", "forwarder", "--json"], stage.settings(), stage.dir());
    assert_eq!(process.end(PATIENCE).await.code(), Some(1));
    let report: Value = serde_json::from_str(&process.stdout()).expect("a report");
    let findings = report["findings"].as_array().expect("findings");
    for (code, what, mend) in [
        (
            "backend-key-refused",
            "the backend of [acme] wants a key, and api_key_file of [acme] is not set",
            "set api_key_file of [acme]",
        ),
        ("backend-unreachable", "no connection to url of [default]=", "check url of [default]"),
        ("backend", "url of [cord]=", ""),
        ("backend", "BACKEND_URL=", ""),
        ("route-default", "[default] is the route of the account `default` alone", ""),
        ("route-key-lent", "route default: another address than BACKEND_URL gets API_KEY", "api_key_file"),
    ] {
        let is_it = |finding: &&Value| {
            let has = |field: &str, words: &str| finding[field].as_str().unwrap_or_default().contains(words);
            finding["code"] == code && has("what", what) && has("mend", mend)
        };
        assert!(findings.iter().any(|finding| is_it(&finding)), "{code} `{what}` is not in {report:#}");
    }
    let lent = findings.iter().filter(|finding| finding["code"] == "route-key-lent").count();
    assert_eq!(lent, 1, "acme gets none, and cord is at the same address: {report:#}");
}
