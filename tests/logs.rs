//! Logs are safe to ship, and say which message they are about.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::oracle::write_each;
use crate::support::{Layout, Role, Stage, warning};

const API_KEY: &str = "llave-muy-secreta";
const WEBHOOK_SECRET: &str = "secreto-del-gancho";
/// What a line about a message has to carry.
const ABOUT: [&str; 4] = ["trace_id", "account", "chat", "message_id"];

/// What the connector's processes have said so far.
fn said(dir: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).expect("the logs").flatten() {
        if entry.file_name().to_string_lossy().contains("connector") {
            all += &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default());
        }
    }
    all
}

/// A busy run: answers, failures, dead letters, an outage, a kill, other kinds than text.
#[tokio::test]
async fn nothing_that_went_in_is_in_a_log() {
    let mut stage = Stage::plan()
        .backend("AI_ASSISTANTS_API_KEYS", &format!("shop:{API_KEY}"))
        .backend("WHATSAPP_WEBHOOK_SECRET", WEBHOOK_SECRET)
        .backend("BACKEND_FAIL", "0.3:500,422,503")
        .backend("BACKEND_FAIL_SEED", "7")
        .setting("API_KEY", API_KEY)
        .setting("WHATSAPP_WEBHOOK_SECRET", WEBHOOK_SECRET)
        .setting("BACKEND_RETRY_FOR", "2s")
        .setting("RUST_LOG", "info,whatsapp_connector=trace")
        .set()
        .await;
    stage.logs.expects(&warning::held(""));
    stage.logs.may_have(&warning::retried(""));
    stage.logs.may_have(&warning::given_up(""));
    stage.logs.may_have_broken_traffic();
    let mut product = stage.product(Layout::Split { forwarders: 2 }).await;
    let mut customers = stage.customers("54911666", 8).await;
    customers.push(stage.simulator.customer("5491166699999", crate::support::Addressing::Lid).await);
    let mut written = write_each(&customers, 1).await;
    for customer in &customers {
        customer.write_kind("image", "una foto privada").await;
    }
    written.extend(write_each(&customers, 2).await);
    product.forwarders[0].process.kill();
    stage.simulator.fault("drop_connection", Some(300)).await;
    stage.backend.kill();
    written.extend(write_each(&customers, 3).await);
    stage.streams().await.received(4 * customers.len()).await;
    stage.backend.restart().await;
    stage.streams().await.settled(4 * customers.len()).await;
    let stored = stage.streams().await.messages().await;
    product.edge.stop().await;

    let said = said(stage.dir());
    let mut secrets: BTreeSet<String> = BTreeSet::from(["una foto privada".to_owned()]);
    secrets.extend([API_KEY, WEBHOOK_SECRET].map(str::to_owned));
    secrets.extend(customers.iter().map(|customer| customer.phone().to_owned()));
    // The texts: "1 de 54911..." and the answers to them.
    secrets.extend(written.iter().filter_map(|one| one.answer.clone()));
    secrets.extend(
        stored.iter().filter_map(|entry| Some(entry.inbound().sender?.lid)).filter(|lid| !lid.is_empty()),
    );
    assert!(secrets.len() > customers.len() + written.len(), "{secrets:?}");
    for secret in &secrets {
        let line = said.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "a log shows `{secret}`");
    }

    let mut about_messages = 0;
    for line in said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let is = |field: &str, value: &str| line[field] == value;
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        if is("target", "whatsapp_connector::forwarder::turn") || ["received", "sent"].contains(&message) {
            about_messages += 1;
            for field in ABOUT {
                let value = line[field].as_str().unwrap_or_default();
                assert!(!value.is_empty(), "no {field} in {line}");
            }
            assert!(line["chat"].as_str().is_some_and(|chat| chat.starts_with('…')), "{line}");
        }
    }
    assert!(about_messages >= 5 * customers.len(), "{about_messages} lines about messages");
}

#[tokio::test]
async fn full_numbers_are_shown_only_to_those_who_ask_and_are_warned() {
    let stage = Stage::plan().setting("LOG_PII", "full").set().await;
    stage.logs.expects("LOG_PII=full");
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("un texto").await;
    customer.receives(1).await;
    product.edge.stop().await;

    let said = said(stage.dir());
    assert!(said.contains(&format!("\"chat\":\"{}\"", customer.phone())), "{said}");
    assert!(said.contains("LOG_PII=full"), "{said}");
    assert!(!said.contains("un texto"), "{said}");
}

#[tokio::test]
async fn lines_are_for_people_where_they_are_to_be() {
    let stage = Stage::plan().setting("LOG_FORMAT", "pretty").set().await;
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;
    forwarder.stop().await;
    let said = said(stage.dir());
    let line = said.lines().find(|line| line.contains("ready to work")).expect("a line");
    assert!(
        line.contains(" INFO ready to work") && !line.contains('{') && !line.contains('\u{1b}'),
        "{line}"
    );
}

/// The control of every other test: a warning that its test did not announce fails it.
#[tokio::test]
#[should_panic(expected = "not announced, in ")]
async fn a_warning_that_no_test_has_announced_fails_it() {
    let stage = Stage::plan().setting("LOG_PII", "full").set().await;
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;
}

/// As above, for what was announced and does not come.
#[tokio::test]
#[should_panic(expected = "announced, and in no log: LOG_PII=full")]
async fn a_warning_that_was_announced_and_does_not_come_fails_its_test() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("LOG_PII=full");
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;
}
