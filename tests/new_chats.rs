//! Who writes to many strangers loses the number. So new chats have a budget, and pause when WhatsApp refuses one; everybody else
//! is written to as before.

use std::time::Duration;

use serde_json::json;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{Receipt, ReceiptStatus, SendMessage, SendText};
use whatsapp_connector::wire::{id, now_ms};

use crate::support::{BUSINESS, Customer, Layout, PATIENCE, Role, Stage, Streams, eventually, warning};

const PAUSED: &str = "WhatsApp takes no messages to new chats";
const OVER: &str = "there were more than SEND_NEW_CHATS_PER_HOUR";

/// A request to a customer, told by its end.
async fn send(streams: &Streams, id: &str, customer: &Customer) {
    let content = Some(Content::Text(SendText { body: format!("aviso {id}"), ..Default::default() }));
    let request = SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() };
    assert!(!streams.send(id, &request).await);
}

/// Whether WhatsApp has it.
async fn state(streams: &Streams, id: &str) -> Receipt {
    eventually(format!("what became of {id}"), PATIENCE, async || {
        let receipts = streams.receipts().await;
        let is_first =
            |one: &&Receipt| matches!(one.status(), ReceiptStatus::Accepted | ReceiptStatus::Failed);
        let of_it = receipts.iter().filter(is_first).find(|receipt| receipt.request_id == id);
        of_it.cloned().ok_or_else(|| format!("{receipts:?}"))
    })
    .await
}

/// It was sent.
async fn goes(streams: &Streams, id: &str, customer: &Customer) {
    send(streams, id, customer).await;
    assert_eq!(state(streams, id).await.status(), ReceiptStatus::Accepted, "{id}");
}

/// It was not sent, for this reason, and would not be before the time that it returns.
async fn fails(streams: &Streams, id: &str, customer: &Customer, reason: &str) -> i64 {
    send(streams, id, customer).await;
    let failed = state(streams, id).await;
    assert_eq!(
        (failed.status(), failed.reason.as_str()),
        (ReceiptStatus::Failed, reason),
        "{id}: {failed:?}"
    );
    assert_eq!(failed.message_ids, [id::whatsapp(id)]);
    failed.until_ms
}

async fn refuses(stage: &Stage, code: u16) {
    stage.simulator.fault_as(json!({"kind": "nack", "account": BUSINESS, "code": code})).await;
}

#[tokio::test]
async fn a_capped_number_pauses_new_chats_and_goes_on_answering() {
    let stage = Stage::plan().setting("SEND_NEW_CHATS_PAUSE", "10s").set().await;
    stage.logs.expects(PAUSED);
    let product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911885", 5).await;
    let [known, refused, waiting, later, also] = customers.as_slice() else { panic!("five") };
    let streams = stage.streams().await;
    known.write("hola").await;
    known.receives(1).await;

    refuses(&stage, 475).await;
    let until_ms = fails(&streams, "one", refused, "new-chats-capped").await;
    assert_eq!(stage.simulator.refused().await, 1, "it is not tried again");
    assert!((now_ms() + 1_000..now_ms() + 10_000).contains(&until_ms), "{until_ms}");
    stage.simulator.no_faults().await;
    // WhatsApp would take this one now; nobody asks.
    assert_eq!(fails(&streams, "two", waiting, "new-chats-capped").await, until_ms);
    goes(&streams, "three", known).await;
    known.write("¿y?").await;
    assert_eq!(known.receives(3).await.len(), 3, "who asks is answered");

    let events = streams.session_events().await;
    let told: Vec<_> = events.iter().filter(|event| event.code == "new-chats-paused").collect();
    assert!(matches!(told.as_slice(), [event] if event.detail.contains("new-chats-capped")), "{events:?}");
    let (status, ready) = product.edge.readiness().await.expect("an answer");
    assert_eq!((status, ready["notes"][0]["code"].as_str()), (200, Some("new-chats-capped")), "{ready}");
    let page = product.edge.metrics().await;
    assert!(page.contains("wa_new_chats_paused{account=\"default\"} 1"), "{page}");
    assert!(page.contains("wa_undeliverable_total{reason=\"new-chats-capped\"} 2"), "{page}");

    // A restart is no way around it.
    product.edge.stop().await;
    let mut edge = stage.start(Role::Run).await;
    edge.ready().await;
    assert_eq!(fails(&streams, "four", later, "new-chats-capped").await, until_ms);
    eventually("the pause to be over", PATIENCE, async || {
        if now_ms() > until_ms { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    goes(&streams, "five", also).await;
    assert!(edge.metrics().await.contains("wa_new_chats_paused{account=\"default\"} 0"));
    // Who was refused may be asked for again, under another id.
    goes(&streams, "one again", refused).await;
    refused.receives(1).await;
}

/// Somebody known has no token for a while: that is nobody else's trouble.
#[tokio::test]
async fn a_refusal_in_a_known_chat_pauses_nothing() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911886", 2).await;
    let streams = stage.streams().await;
    customers[0].write("hola").await;
    customers[0].receives(1).await;
    refuses(&stage, 463).await;
    assert_eq!(fails(&streams, "one", &customers[0], "refused-463").await, 0);
    stage.simulator.no_faults().await;
    goes(&streams, "two", &customers[1]).await;
    // It was written to, so it is known.
    refuses(&stage, 463).await;
    fails(&streams, "three", &customers[1], "refused-463").await;
    assert!(!product.edge.process.stderr().contains(PAUSED));
}

#[tokio::test]
async fn so_many_new_chats_are_opened_in_an_hour_also_across_a_restart() {
    let stage = Stage::plan().setting("SEND_NEW_CHATS_PER_HOUR", "2").set().await;
    stage.logs.expects(OVER);
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911887", 5).await;
    let [known, first, second, third, asks] = customers.as_slice() else { panic!("five") };
    let streams = stage.streams().await;
    known.write("hola").await;
    known.receives(1).await;
    let start = now_ms();
    goes(&streams, "one", first).await;
    goes(&streams, "one more", first).await;
    product.edge.stop().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    goes(&streams, "two", second).await;
    let until_ms = fails(&streams, "three", third, "new-chats").await;
    let hour = i64::try_from(Duration::from_secs(3_600).as_millis()).expect("an hour");
    assert!((start + hour..now_ms() + hour).contains(&until_ms), "{until_ms}");
    // Whoever is known, was written to, or asks, is not new.
    goes(&streams, "four", known).await;
    goes(&streams, "five", second).await;
    asks.write("hola").await;
    asks.receives(1).await;
    goes(&streams, "six", asks).await;
    edge.stop().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    fails(&streams, "seven", third, "new-chats").await;
    goes(&streams, "eight", first).await;
    let (_, ready) = edge.readiness().await.expect("an answer");
    assert!(ready["notes"].is_null(), "a budget is no trouble: {ready}");
    assert!(third.inbox().await.is_empty());
}

/// Nothing of the pause is lost if the edge dies before it told anybody.
#[tokio::test]
async fn an_edge_that_is_killed_over_a_refusal_leaves_the_pause_to_the_next_one() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(PAUSED);
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customers = stage.customers("54911888", 3).await;
    let streams = stage.streams().await;
    product.edge.stop().await;
    let mut edge = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.after-pause")]).await;
    edge.ready().await;
    refuses(&stage, 463).await;
    send(&streams, "one", &customers[0]).await;
    edge.process.end_by_kill(PATIENCE).await;
    assert!(streams.receipts().await.is_empty(), "it was to die before");
    stage.simulator.no_faults().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    assert_eq!(state(&streams, "one").await.reason, "reachout-locked");
    fails(&streams, "two", &customers[1], "reachout-locked").await;
    // Whoever has written is known, answered or not.
    customers[2].write("hola").await;
    streams.received(1).await;
    goes(&streams, "three", &customers[2]).await;
    let events = streams.session_events().await;
    assert_eq!(events.iter().filter(|event| event.code == "new-chats-paused").count(), 1);
}
