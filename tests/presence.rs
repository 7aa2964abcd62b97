//! The connector is not "online" for WhatsApp, so that the owner's phone keeps ringing; customers see two grey ticks.

use crate::support::{Layout, PATIENCE, Stage, eventually};

/// Waits until the device's last word on this connection is `wanted`, after `count` words or more.
async fn says(stage: &Stage, wanted: &str, count: usize) {
    eventually(format!("the last word to be {wanted}"), PATIENCE, async || {
        let said = stage.simulator.presence().await;
        let is_so = said.len() >= count && said.last().is_some_and(|last| last == wanted);
        if is_so { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_owners_phone_keeps_ringing() {
    let stage = Stage::plan().set().await;
    stage.logs.may_have_broken_traffic();
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    says(&stage, "unavailable", 1).await;

    // The library announces itself with each new name, and after each login but the first.
    stage.simulator.rename("Restaurante Sol").await;
    eventually("the library to announce itself", PATIENCE, async || {
        let said = stage.simulator.presence().await;
        if said.contains(&"available".to_owned()) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    says(&stage, "unavailable", 3).await;

    let logins = stage.simulator.counter("logins").await;
    stage.simulator.fault("drop_connection", None).await;
    eventually("another login", PATIENCE, async || {
        let now = stage.simulator.counter("logins").await;
        if now > logins { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    // The library says nothing of its own where the connection broke while its first sync was still going on, so
    // the edge's word may be the only one. What counts is that it is the last.
    product.edge.ready().await;
    says(&stage, "unavailable", 1).await;

    customer.write("hola").await;
    customer.receives(1).await;
    eventually("two grey ticks", PATIENCE, async || match customer.sent().await.last() {
        Some(sent) if sent.status == "delivered" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn who_wants_to_be_online_is() {
    let stage = Stage::plan().setting("PRESENCE", "available").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    says(&stage, "available", 1).await;
    assert!(!stage.simulator.presence().await.contains(&"unavailable".to_owned()));
}
