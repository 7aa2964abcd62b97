//! Faults, seen from the client.

use anyhow::Result;
use serde_json::json;
use whatsapp_rust::prelude::*;

use crate::edge::Manners;
use crate::{ANA, SHOP, World, pn};

#[tokio::test(flavor = "multi_thread")]
async fn muted_acks_leave_the_sender_in_doubt_though_the_message_arrives() -> Result<()> {
    let world = World::new().await?;
    let edge = world.linked(Manners::Take).await?;
    world.fault(json!({"kind": "mute_acks", "account": SHOP})).await?;
    let options = SendOptions::default().with_message_id("3EB0DOUBT");
    edge.client.send_message_with_options(pn(ANA), wa::Message::text("¿llegó?"), options.clone()).await?;
    assert_eq!(world.inbox(ANA, 0).await?[0]["id"], "3EB0DOUBT");
    assert_eq!(world.get("/sim/state").await?["counters"]["acks_muted"], 1);
    assert!(!edge.was_acked("3EB0DOUBT").await?);
    world.clear_faults().await?;
    edge.client.send_message_with_options(pn(ANA), wa::Message::text("¿llegó?"), options).await?;
    assert_eq!(edge.server_ack("3EB0DOUBT").await?, None);
    let path = format!("/sim/customers/{ANA}/inbox");
    world.until(&path, |inbox| inbox["messages"][0]["copies"] == 2).await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nack_names_its_code_and_the_message_does_not_arrive() -> Result<()> {
    let world = World::new().await?;
    let edge = world.linked(Manners::Take).await?;
    for (body, code) in [(json!({"kind": "nack"}), "463"), (json!({"kind": "nack", "code": 479}), "479")] {
        world.fault(body).await?;
        let sent = edge.client.send_message(pn(ANA), wa::Message::text("no")).await?;
        let error = edge.server_ack(&sent.message_id).await?;
        assert_eq!(error.as_deref(), Some(code));
    }
    world.clear_faults().await?;
    edge.send(pn(ANA), "sí").await?;
    let inbox = world.inbox(ANA, 0).await?;
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    assert_eq!(inbox[0]["text"], "sí");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_comes_back_over_ik() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    world.all_acknowledged().await?;
    let struck = world.fault(json!({"kind": "drop_connection"})).await?;
    assert_eq!(struck["affected"], 1);
    let state = world
        .until("/sim/state", |state| {
            state["counters"]["logins"] == 2 && state["accounts"][0]["devices"][0]["active"] == true
        })
        .await?;
    assert_eq!(state["counters"]["handshakes"]["ik"], 1);
    let id = world.writes(ANA, "¿seguís ahí?").await?;
    assert_eq!(edge.message().await?.id, id);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_drop_keeps_the_client_out_for_its_time() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    world.all_acknowledged().await?;
    let fault = json!({"kind": "drop_connection", "account": SHOP, "for_ms": 60_000});
    world.fault(fault).await?;
    world
        .until("/sim/state", |state| {
            // It tried to come back, and was not let in.
            state["counters"]["handshakes"]["ik"].as_u64() >= Some(1)
                && state["counters"]["logins"] == 1
                && state["accounts"][0]["devices"][0]["online"] == false
        })
        .await?;
    let id = world.writes(ANA, "esperando").await?;
    world.clear_faults().await?;
    assert_eq!(edge.message().await?.id, id);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn muted_receipts_leave_messages_queued_until_they_are_redelivered() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    world.all_acknowledged().await?;
    world.fault(json!({"kind": "mute_receipts"})).await?;
    let id = world.writes(ANA, "¿recibido?").await?;
    assert_eq!(edge.message().await?.id, id);
    let state =
        world.until("/sim/state", |state| state["counters"]["receipts_muted"].as_u64() >= Some(1)).await?;
    let device = &state["accounts"][0]["devices"][0];
    assert_eq!(device["unacknowledged"], 1, "{device}");
    let sent = world.get(&format!("/sim/customers/{ANA}/sent")).await?;
    assert_eq!(sent["messages"][0]["status"], "sent");

    world.clear_faults().await?;
    let struck = world.fault(json!({"kind": "redeliver_unacked"})).await?;
    assert_eq!(struck["affected"], 1);
    world.status(ANA, &id, "delivered").await?;
    world.all_acknowledged().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_client_gives_up() -> Result<()> {
    let world = World::new().await?;
    let edge = world.linked(Manners::Take).await?;
    world.fault(json!({"kind": "stream_replaced"})).await?;
    edge.event("StreamReplaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await?;
    edge.ended().await?;
    // The link is as good as before.
    let edge = world.edge(Manners::Take).await?;
    edge.connected().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_on_the_same_store_replaces_the_first() -> Result<()> {
    let world = World::new().await?;
    let first = world.linked(Manners::Take).await?;
    let second = world.edge(Manners::Take).await?;
    second.connected().await?;
    first.event("StreamReplaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logged_out_device_is_told_now_and_at_every_later_login() -> Result<()> {
    let world = World::new().await?;
    let edge = world.linked(Manners::Take).await?;
    world.fault(json!({"kind": "logged_out", "account": SHOP})).await?;
    let logged_out = |event: &Event| match event {
        Event::LoggedOut(event) => Some(event.on_connect),
        _ => None,
    };
    assert!(!edge.event("LoggedOut", logged_out).await?);
    edge.ended().await?;
    let state = world.get("/sim/state").await?;
    assert_eq!(state["accounts"][0]["devices"], json!([]));

    let edge = world.edge(Manners::Take).await?;
    assert!(edge.event("LoggedOut", logged_out).await?);
    edge.ended().await?;

    // A new store can be linked again, as another device.
    std::fs::remove_file(world.store())?;
    let mut edge = world.linked(Manners::Take).await?;
    let state = world.get("/sim/state").await?;
    assert_eq!(state["accounts"][0]["devices"][0]["id"], 2);
    let id = world.writes(ANA, "de vuelta").await?;
    assert_eq!(edge.message().await?.id, id);
    edge.send(pn(ANA), "hola de nuevo").await?;
    assert_eq!(world.inbox(ANA, 0).await?[0]["text"], "hola de nuevo");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_holds_every_stanza_back() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    world.all_acknowledged().await?;
    world.fault(json!({"kind": "delay", "delay_ms": 700})).await?;
    let start = tokio::time::Instant::now();
    let id = world.writes(ANA, "con calma").await?;
    assert_eq!(edge.message().await?.id, id);
    assert!(start.elapsed().as_millis() >= 700, "{:?}", start.elapsed());
    edge.stop().await
}
