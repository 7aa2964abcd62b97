//! A deep backlog: many messages of a chat wait in a forwarder's hand. They cost nobody anything, stay in hand for as long
//! as it takes, and go to another forwarder if this one dies.

use std::time::Duration;

use crate::support::oracle::{Written, write_each};
use crate::support::{Customer, GATE, Layout, PATIENCE, Product, Role, Stage, eventually};

/// The ack wait of these tests.
const ACK_WAIT: (&str, &str) = ("FORWARDER_ACK_WAIT", "1s");
/// More than are reserved for one ack wait at a time.
const DEEP: usize = 150;

async fn metric(product: &Product, line: &str) -> Result<(), String> {
    let metrics = product.forwarders[0].metrics().await;
    if metrics.contains(&format!("\n{line}\n")) { Ok(()) } else { Err(metrics) }
}

/// Each of them writes so many messages.
async fn write(customers: &[Customer], messages: usize) -> Vec<Written> {
    let mut written = Vec::new();
    for number in 1..=messages {
        written.extend(write_each(customers, number).await);
    }
    written
}

/// The first message of a chat is asked about for many ack waits, and all others wait behind it.
#[tokio::test]
async fn what_waits_in_hand_is_delivered_once_and_holds_up_nobody() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting(ACK_WAIT.0, ACK_WAIT.1).set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911777", 2).await;
    let (deep, other) = (&customers[..1], &customers[1..]);

    let mut written = write(deep, DEEP).await;
    let streams = stage.streams().await;
    streams.in_the_forwarders_hand(DEEP).await;
    eventually("all but one to wait", PATIENCE, async || {
        metric(&product, &format!("wa_turns{{state=\"chain\"}} {}", DEEP - 1)).await
    })
    .await;
    // This is what is tested: reservations that are not renewed end in this time.
    tokio::time::sleep(Duration::from_secs(6)).await;
    written.extend(write(other, 1).await);
    stage.backend.under_way(2).await;
    stage.backend.open().await;

    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    // Each has begun by now, and says how often it was delivered.
    let redelivered = metric(&product, "wa_redeliveries_total{consumer=\"forwarder\"} 0").await;
    redelivered.unwrap_or_else(|metrics| panic!("something was delivered twice: {metrics}"));
    metric(&product, "wa_turns{state=\"chain\"} 0").await.unwrap_or_else(|metrics| panic!("{metrics}"));
}

#[tokio::test]
async fn what_waited_in_a_killed_forwarder_goes_on_in_another_one() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting(ACK_WAIT.0, ACK_WAIT.1).set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911777", 1).await;
    let written = write(&customers, DEEP).await;
    stage.streams().await.in_the_forwarders_hand(DEEP).await;
    // Now the later ones are reserved for longer.
    tokio::time::sleep(Duration::from_secs(2)).await;
    product.forwarders[0].process.kill();

    let mut second = stage.start(Role::Forwarder).await;
    second.ready().await;
    stage.backend.open().await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// Above a bound of bytes, a message that waits is only a claim, and is read again. Here the bound is nothing.
#[tokio::test]
async fn what_is_not_kept_in_memory_is_read_again_when_its_turn_comes() {
    let stage =
        Stage::plan().backend("BACKEND_DELAY_MS", "0-50").setting("WITHOUT_GUARD", "kept").set().await;
    let product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911777", 10).await;
    let written = write(&customers, 8).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    let redelivered = metric(&product, "wa_redeliveries_total{consumer=\"forwarder\"} 0").await;
    redelivered.unwrap_or_else(|metrics| panic!("it came again instead: {metrics}"));
}
