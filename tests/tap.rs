//! `tap`: everything on the bus, once and in order, and nobody's number or words.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use secrecy::SecretString;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use whatsapp_connector::bus::{Access, Bus, Settings};
use whatsapp_connector::commands::tap::{Kind, Tap};
use whatsapp_connector::wire::Subjects;

use crate::support::oracle::{Written, write_each};
use crate::support::{
    Customer, Layout, PATIENCE, Stage, clean, connector_binary, eventually, spawn_command, warning,
};

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

async fn tap(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = ["tap"].iter().chain(arguments).copied().collect();
    lines(&stage.output(&arguments).await)
}

/// The sequences that were shown, per stream.
fn sequences(lines: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut shown: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in lines {
        let stream = line["stream"].as_str().expect("a stream").to_owned();
        shown.entry(stream).or_default().push(line["sequence"].as_u64().expect("a sequence"));
    }
    shown
}

/// The sequences that there are.
async fn stored(stage: &Stage) -> BTreeMap<String, Vec<u64>> {
    let streams = stage.streams().await;
    let mut stored = BTreeMap::new();
    for name in ["WA_IN", "WA_OUT", "WA_DLQ"] {
        let stream = streams.jetstream().get_stream(name).await.expect("a stream");
        let state = stream.cached_info().state.clone();
        if state.messages > 0 {
            stored.insert(name.to_owned(), (state.first_sequence..=state.last_sequence).collect());
        }
    }
    stored
}

async fn consumers(stage: &Stage) -> usize {
    let streams = stage.streams().await;
    let mut count = 0;
    for name in ["WA_IN", "WA_OUT", "WA_DLQ"] {
        let stream = streams.jetstream().get_stream(name).await.expect("a stream");
        count += stream.cached_info().state.consumer_count;
    }
    count
}

/// Two customers, two messages each.
async fn round(stage: &Stage) -> (Vec<Customer>, Vec<Written>) {
    let customers = stage.customers("54911444", 2).await;
    let mut written = write_each(&customers, 1).await;
    written.extend(write_each(&customers, 2).await);
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    (customers, written)
}

#[tokio::test]
async fn a_round_is_shown_once_and_in_order_without_words_and_numbers() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customers, written) = round(&stage).await;
    let harness = stage.streams().await;
    let garbage =
        harness.jetstream().publish("wa.in.default.receipt.54911444999", "\u{1}garbage".into()).await;
    garbage.expect("published").await.expect("stored");
    let before = (consumers(&stage).await, harness.jetstream().query_account().await.expect("it").streams);

    let all = tap(&stage, &[]).await;

    assert_eq!(sequences(&all), stored(&stage).await);
    let times: Vec<_> = all.iter().map(|line| line["stored_at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    let of = |kind: &str| -> Vec<&Value> { all.iter().filter(|line| line["kind"] == kind).collect() };
    let (messages, outcomes) = (of("message"), of("reply"));
    assert_eq!((messages.len(), outcomes.len()), (written.len(), written.len()));
    for one in &written {
        let is_it = |line: &&&Value| line["payload"]["message_id"] == one.id.as_str();
        let [message] = messages.iter().filter(is_it).collect::<Vec<_>>()[..] else { panic!("{}", one.id) };
        let [outcome] = outcomes.iter().filter(is_it).collect::<Vec<_>>()[..] else { panic!("{}", one.id) };
        assert_eq!(outcome["in_seq"], message["sequence"]);
        assert_eq!(outcome["trace_id"], message["trace_id"]);
        assert_eq!(outcome["payload"]["class"], "reply");
        assert_eq!(message["payload"]["content"], "text");
        assert!(message["trace_id"].is_string() && message["account"] == "default");
        assert!(one.phone.ends_with(message["chat"].as_str().expect("a chat").trim_start_matches('…')));
    }
    assert!(
        !of("session").is_empty() && of("session").iter().any(|line| line["payload"]["state"] == "online")
    );
    assert!(
        of("receipt").iter().any(|line| line["payload"]["unreadable"] == true),
        "garbage is shown as such"
    );
    let printed = stage.output(&["tap"]).await;
    let texts = stage.output(&["tap", "--text"]).await;
    for customer in &customers {
        assert!(!printed.contains(customer.phone()), "{printed}");
        assert!(texts.contains(&format!("1 de {}", customer.phone())), "the text itself is shown as it is");
        let without_texts: Vec<Value> = lines(&texts).into_iter().map(forget_texts).collect();
        assert!(!Value::from(without_texts).to_string().contains(customer.phone()), "{texts}");
    }
    assert!(!printed.contains(" de ") && !printed.contains("eco"), "{printed}");
    assert!(texts.contains("eco: 2 de "));
    let after = (consumers(&stage).await, harness.jetstream().query_account().await.expect("it").streams);
    assert_eq!(before, after, "it leaves nothing on the server");
}

fn forget_texts(mut line: Value) -> Value {
    line["payload"].as_object_mut().expect("an object").remove("text");
    line
}

#[tokio::test]
async fn the_choice_is_by_kind_account_time_and_number() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (_, written) = round(&stage).await;
    let all = tap(&stage, &[]).await;
    let kinds = async |arguments: &[&str]| -> Vec<String> {
        tap(&stage, arguments)
            .await
            .iter()
            .map(|line| line["kind"].as_str().expect("a kind").to_owned())
            .collect()
    };

    assert_eq!(kinds(&["--kind", "reply"]).await, vec!["reply"; written.len()]);
    let some = kinds(&["--kind", "message", "--kind", "session", "--kind", "dead"]).await;
    let want: Vec<_> = all.iter().filter_map(|line| line["kind"].as_str()).collect();
    let want: Vec<_> = want.into_iter().filter(|kind| ["message", "session"].contains(kind)).collect();
    assert_eq!(some, want);
    assert_eq!(tap(&stage, &["--account", "default"]).await.len(), all.len());
    assert_eq!(kinds(&["--account", "other"]).await, Vec::<String>::new());
    assert_eq!(kinds(&["--since", "0s"]).await, Vec::<String>::new());
    assert_eq!(tap(&stage, &["--limit", "3"]).await, all[..3]);

    // To the millisecond, by what the server has written down.
    let harness = stage.streams().await.messages().await;
    let since_ms = (harness[2].stored_at * 1000.0) as i64;
    let url = SecretString::from(stage.nats.url());
    let settings = Settings { url, access: Access::default(), name: "a test".to_owned(), private: None };
    let bus = Bus::connect(&settings, &CancellationToken::new()).await.expect("the bus");
    let mut tap = Tap::new(bus, Subjects::new("wa").expect("a prefix"), None, &[Kind::Message], since_ms);
    let mut found = Vec::new();
    while let Some((_, stored)) = tap.next().await.expect("an answer") {
        found.push(stored.sequence);
    }
    let want = harness.iter().filter(|entry| (entry.stored_at * 1000.0) as i64 >= since_ms);
    assert_eq!(found, want.map(|entry| entry.sequence).collect::<Vec<_>>());
    assert!(found.contains(&harness[2].sequence) && !found.contains(&harness[0].sequence), "{found:?}");
}

#[tokio::test]
async fn following_outlives_a_restart_of_nats_server() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects_an_outage_of_the_bus();
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut following = spawn_command(&["tap", "--follow", "--text"], stage.settings(), stage.dir());
    customer.write("uno").await;
    customer.receives(1).await;
    let sees = async |following: &crate::support::Process, text: &str| {
        let what = format!("tap to show `{text}`");
        eventually(what, PATIENCE, async || {
            let printed = following.stdout();
            if printed.contains(text) { Ok(()) } else { Err(printed) }
        })
        .await;
    };
    sees(&following, "eco: uno").await;

    stage.nats.kill();
    customer.write("dos").await;
    stage.nats.restart().await;
    customer.receives(2).await;
    customer.write("tres").await;
    customer.receives(3).await;

    sees(&following, "eco: tres").await;
    stage.streams().await.settled(3).await;
    let want = stored(&stage).await;
    eventually("tap to show all", PATIENCE, async || {
        let shown = sequences(&lines(&following.stdout()));
        if shown == want { Ok(()) } else { Err(format!("{shown:?}, and there is {want:?}")) }
    })
    .await;
    assert_eq!(following.ended(), None, "it goes on");
}

#[tokio::test]
async fn a_reader_who_has_seen_enough_is_no_failure() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let jetstream = stage.streams().await.jetstream().clone();
    let mut acks = Vec::new();
    for number in 0..3000 {
        acks.push(
            jetstream.publish(format!("wa.in.default.receipt.{number}"), "".into()).await.expect("sent"),
        );
    }
    for ack in acks {
        ack.await.expect("stored");
    }
    let mut command = clean(connector_binary());
    command.arg("tap").envs(stage.settings()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("RUST_LOG").current_dir(stage.dir());

    let mut child = command.spawn().expect("tap");
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
    let (status, said) = tokio::task::spawn_blocking(move || {
        let status = child.wait().expect("an end");
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (status, said)
    })
    .await
    .expect("an end");

    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    assert_eq!(lines(&first).len(), 1);
    assert!(tap(&stage, &[]).await.len() > 3000);
}

#[tokio::test]
async fn without_a_bus_it_finds_the_private_one() {
    let binary = crate::support::nats_server().display().to_string();
    let stage = Stage::plan().setting("NATS_URL", "").setting("NATS_SERVER_BIN", &binary).set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);
    stage.logs.may_have_a_private_bus();
    let mut alone = spawn_command(&["tap"], stage.settings(), stage.dir());
    assert_eq!(alone.end(PATIENCE).await.code(), Some(78), "{}", alone.stderr());
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.receives(1).await;

    assert_eq!(tap(&stage, &["--kind", "message"]).await.len(), 1);
    eventually("status to find it as well", PATIENCE, async || {
        let mut status = spawn_command(&["status"], stage.settings(), stage.dir());
        // Who is too busy to answer at once is missing in its report.
        status.end(PATIENCE).await;
        let shown = status.stdout();
        if shown.contains("all is well") { Ok(()) } else { Err(shown) }
    })
    .await;
}
