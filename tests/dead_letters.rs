//! A message that the backend will not answer is given up on with its reason, and blocks nobody.

use serde_json::Value;
use whatsapp_connector::wire::v1::DeadReason;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::oracle::{Evidence, Written, write_each};
use crate::support::{Customer, Layout, Stage, warning};

const FALLBACK: &str = "Ahora no puedo contestar.";

#[tokio::test]
async fn a_rejected_message_is_given_up_on_at_once_and_its_chat_goes_on() {
    let mut stage = Stage::plan().backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let rejected = customer.write("esto no").await;
    stage.streams().await.decided(1).await;
    assert_eq!(stage.backend.calls().await.len(), 1, "what is rejected is not tried again");
    accept_again(&mut stage).await;
    let accepted = customer.write("esto sí").await;

    customer.receives(1).await;
    let written = [
        Written::unanswered(customer.phone(), rejected),
        Written::echoed(customer.phone(), accepted, "esto sí"),
    ];
    let evidence = stage.evidence(2, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(dead_reason(&evidence), DeadReason::Rejected);
    assert_one_letter(&stage, &customer, "rejected").await;
}

#[tokio::test]
async fn a_message_that_keeps_failing_is_given_up_on_after_a_while_with_a_word_to_the_person() {
    let mut stage = Stage::plan()
        .backend("BACKEND_FAIL", "1:500")
        .setting("BACKEND_RETRY_FOR", "2s")
        .setting("FALLBACK_TEXT", FALLBACK)
        .set()
        .await;
    stage.logs.expects(&warning::retried("http-500"));
    stage.logs.expects(&warning::given_up("http-500"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let failing = customer.write("uno").await;
    let inbox = customer.receives(1).await;
    assert_eq!(inbox[0].text, FALLBACK);
    assert!(stage.backend.calls().await.len() > 1, "what fails is tried again");
    accept_again(&mut stage).await;
    let accepted = customer.write("dos").await;

    customer.receives(2).await;
    let mut fallback = Written::unanswered(customer.phone(), failing);
    fallback.answer = Some(FALLBACK.to_owned());
    let written = [fallback, Written::echoed(customer.phone(), accepted, "dos")];
    let evidence = stage.evidence(2, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(dead_reason(&evidence), DeadReason::Failed);
    assert_one_letter(&stage, &customer, "failed").await;
}

/// Failures and refusals of all sorts, half of the time: each is dealt with in its way, and in the end
/// everybody has one answer to each message.
#[tokio::test]
async fn a_backend_that_fails_half_of_the_time_loses_nothing() {
    let stage = Stage::plan().backend("BACKEND_FAIL", "0.5:500,502,503,504,429,401").set().await;
    stage.logs.may_have(&warning::held("http-"));
    stage.logs.may_have(&warning::retried("http-"));
    let _product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911555", 6).await;

    let mut written = write_each(&customers, 1).await;
    written.extend(write_each(&customers, 2).await);

    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    assert_eq!(stage.streams().await.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn a_replayed_dead_letter_is_answered() {
    let mut stage = Stage::plan().backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    let id = customer.write("otra oportunidad").await;
    streams.decided(1).await;
    accept_again(&mut stage).await;

    let listed = stage.output(&["dlq", "list", "--json"]).await;
    let letter: Value = serde_json::from_str(&listed).unwrap_or_else(|error| panic!("{error}: {listed}"));
    assert_eq!(letter["reason"], "rejected");
    assert!(!listed.contains("oportunidad") && !listed.contains(customer.phone()), "{listed}");
    stage.output(&["dlq", "replay", &letter["id"].to_string()]).await;

    let next = customer.write("¿y esto?").await;

    customer.receives(2).await;
    let written = [
        Written::unanswered(customer.phone(), id.clone()),
        Written::echoed(customer.phone(), id, "otra oportunidad"),
        Written::echoed(customer.phone(), next, "¿y esto?"),
    ];
    stage.evidence(3, [&customer]).await.assert_kept(&written);
    assert_eq!(streams.dead_letters().await.len(), 0, "it is no dead letter any more");
}

/// Whoever may publish what comes in may publish anything.
#[tokio::test]
async fn a_message_that_is_none_is_given_up_on_whatever_it_tells_nats_server() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(&warning::given_up("not-an-inbound-message"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    let mut headers = async_nats::HeaderMap::new();
    // True of the message, and of its dead letter it would not be.
    headers.insert("Nats-Expected-Stream", "WA_IN");
    let subject = format!("wa.in.default.message.{}", customer.phone());
    let published = streams.jetstream().publish_with_headers(subject, headers, "no protobuf".into()).await;
    published.expect("a publish").await.expect("an ack");

    streams.decided(1).await;
    assert_one_letter(&stage, &customer, "unreadable").await;

    customer.write("hola").await;
    customer.receives(1).await;
}

async fn accept_again(stage: &mut Stage) {
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "");
    stage.backend.restart().await;
}

/// Why the first message was given up on.
fn dead_reason(evidence: &Evidence) -> DeadReason {
    match evidence.outcomes[0].outcome().result {
        Some(Ending::Dead(dead)) => dead.reason(),
        other => panic!("not given up on: {other:?}"),
    }
}

async fn assert_one_letter(stage: &Stage, customer: &Customer, reason: &str) {
    let letters = stage.streams().await.dead_letters().await;
    let found: Vec<_> =
        letters.iter().map(|letter| (letter.chat(), letter.header("Wa-Dead-Reason"))).collect();
    assert_eq!(found, [(customer.phone(), Some(reason))]);
}
