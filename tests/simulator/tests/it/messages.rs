//! Linking, messages in and out, acknowledgements.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context as _, Result};
use serde_json::json;
use whatsapp_rust::prelude::*;

use crate::edge::{Edge, Manners};
use crate::{ANA, LEO, SHOP, World, http, pn};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_linked_by_its_qr_code() -> Result<()> {
    let world = World::new().await?;
    let edge = world.edge(Manners::Take).await?;
    let qr = edge.qr().await?;
    let path = format!("/sim/accounts/{SHOP}/scan");
    let (_, keys) = qr.split_once(',').context("a QR code")?;
    let expired = json!({"qr": format!("2@EXPIRED,{keys}")}).to_string();
    http::bad(world.address(), "POST", &path, &expired, 409).await?;
    world.post(&path, json!({"qr": qr})).await?;
    edge.connected().await?;
    assert!(edge.client.is_logged_in());
    assert_eq!(edge.client.pn().map(|jid| jid.user.to_string()).as_deref(), Some(SHOP));
    let state = world.all_acknowledged().await?;
    let device = &state["accounts"][0]["devices"][0];
    assert_eq!(device["id"], 1);
    assert_eq!(device["active"], true);
    assert!(device["prekeys_left"].as_u64() >= Some(29), "{device}");
    assert_eq!(state["counters"]["pairings"], 1);
    assert_eq!(state["counters"]["handshakes"]["xx"], 2);
    // That of the keys for settings, without which the first login takes ten seconds more.
    assert_eq!(state["counters"]["receipts"], 1);
    assert_eq!(state["counters"]["unknown_iqs"], 0);
    assert_eq!(state["counters"]["malformed"], 0);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_linked_by_the_code_it_shows() -> Result<()> {
    let world = World::new().await?;
    let url = world.simulator.ws_url();
    let mut edge = Edge::start_with(&url, &world.store(), Manners::Take, Some(SHOP)).await?;
    let code = edge
        .event("a pairing code", |event| match event {
            Event::PairingCode(pairing) => Some(pairing.code.clone()),
            _ => None,
        })
        .await?;
    let path = format!("/sim/accounts/{SHOP}/pair-code");
    let error = http::bad(world.address(), "POST", &path, r#"{"code":"123"}"#, 400).await?;
    assert!(error.contains("eight characters"), "{error}");
    let linked = world.post(&path, json!({"code": code})).await?;
    assert_eq!(linked["device"], 1);
    edge.connected().await?;
    let id = world.writes(ANA, "hola").await?;
    assert_eq!(edge.message().await?.id, id);
    let error = http::bad(world.address(), "POST", &path, &json!({"code": code}).to_string(), 409).await?;
    assert!(error.contains("no device shows"), "{error}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_reach_the_edge_by_number_and_by_hidden_id() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;

    let id = world.writes(ANA, "hola, soy Ana").await?;
    let inbound = edge.message().await?;
    assert_eq!((inbound.id.as_str(), inbound.text.as_str()), (id.as_str(), "hola, soy Ana"));
    assert!(inbound.sender.is_pn());
    assert_eq!(inbound.sender.user, ANA);
    assert!(!inbound.from_me);
    world.status(ANA, &id, "delivered").await?;

    let id = world.writes(LEO, "hola, soy Leo").await?;
    let inbound = edge.message().await?;
    assert_eq!((inbound.id.as_str(), inbound.text.as_str()), (id.as_str(), "hola, soy Leo"));
    assert!(inbound.sender.is_lid());
    let number = inbound.sender_alt.context("no number beside the hidden id")?;
    assert_eq!(number.user, LEO);
    world.status(LEO, &id, "delivered").await?;
    world.all_acknowledged().await?;
    edge.stop().await
}

async fn conversation(lid_migrated: bool) -> Result<()> {
    let world = World::new_with(json!({"lid_migrated": lid_migrated})).await?;
    let mut edge = world.linked(Manners::Take).await?;
    for customer in [ANA, LEO] {
        for round in 0..3 {
            world.writes(customer, &format!("pregunta {round}")).await?;
            let inbound = edge.message().await?;
            assert_eq!(inbound.text, format!("pregunta {round}"));
            let id = edge.send(inbound.chat, &format!("respuesta {round}")).await?;
            let inbox = world.inbox(customer, round).await?;
            assert_eq!(inbox.len(), 1, "{inbox:?}");
            assert_eq!(inbox[0]["seq"], round + 1);
            assert_eq!(inbox[0]["id"], id.as_str());
            assert_eq!(inbox[0]["from"], SHOP);
            assert_eq!(inbox[0]["kind"], "text");
            assert_eq!(inbox[0]["text"], format!("respuesta {round}"));
            assert_eq!(inbox[0]["copies"], 1);
        }
    }
    let state = world.all_acknowledged().await?;
    assert_eq!(state["counters"]["undecryptable"], 0);
    assert_eq!(state["counters"]["retry_requests"], 0);
    assert_eq!(state["counters"]["messages_out"], 6);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_with_a_migrated_account() -> Result<()> {
    conversation(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_with_an_account_not_migrated() -> Result<()> {
    conversation(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_can_write_first_and_is_told_of_delivery_and_reading() -> Result<()> {
    let world = World::new().await?;
    let reader = "5491100000001";
    let body = json!({"phone": reader, "name": "Eva", "addressing": "lid", "read_receipts": true});
    world.post("/sim/customers", body).await?;
    let edge = world.linked(Manners::Take).await?;
    let text = wa::Message::text("¿Sigue en pie la reserva?");
    let id = edge.client.send_message(pn(reader), text).await?.message_id;
    // The client hands them on in parallel, so they may come in either order.
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let kind = edge.event("a receipt", |event| match event {
            Event::Receipt(receipt) if receipt.message_ids.contains(&id) => {
                Some(format!("{:?}", receipt.r#type))
            }
            _ => None,
        });
        kinds.push(kind.await?);
    }
    kinds.sort();
    assert_eq!(kinds, ["Delivered", "Read"]);
    let inbox = world.inbox(reader, 0).await?;
    assert_eq!(inbox[0]["text"], "¿Sigue en pie la reserva?");
    world.all_acknowledged().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_read_by_the_business_is_read_for_the_customer() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    for customer in [ANA, LEO] {
        let id = world.writes(customer, "¿hay alguien?").await?;
        let inbound = edge.message().await?;
        world.status(customer, &id, "delivered").await?;
        edge.client.mark_as_read(&inbound.chat, None, &[id.as_str()]).await?;
        world.status(customer, &id, "read").await?;
    }
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_the_hook_refused_comes_again_after_a_reconnect() -> Result<()> {
    let world = World::new().await?;
    let left = Arc::new(AtomicUsize::new(1));
    let mut edge = world.linked(Manners::Refuse(left)).await?;
    let id = world.writes(ANA, "otra vez").await?;
    assert_eq!(edge.message().await?.id, id);
    let state = world.get("/sim/state").await?;
    assert_eq!(state["accounts"][0]["devices"][0]["queued_messages"], 1);
    edge.client.reconnect_immediately().await;
    let again = edge.message().await?;
    assert_eq!((again.id, again.text.as_str()), (id.clone(), "otra vez"));
    world.status(ANA, &id, "delivered").await?;
    world.all_acknowledged().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_hand_when_the_client_dies_comes_again() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Hang).await?;
    let id = world.writes(LEO, "en mano").await?;
    assert_eq!(edge.message().await?.id, id);
    edge.kill();
    let mut edge = world.edge(Manners::Take).await?;
    let again = edge.message().await?;
    assert_eq!((again.id, again.text.as_str()), (id.clone(), "en mano"));
    world.status(LEO, &id, "delivered").await?;
    world.all_acknowledged().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_edge_is_away_comes_in_order_over_ik() -> Result<()> {
    let world = World::new().await?;
    let edge = world.linked(Manners::Take).await?;
    edge.stop().await?;
    world.until("/sim/state", |state| state["accounts"][0]["devices"][0]["online"] == false).await?;
    for text in ["uno", "dos", "tres"] {
        world.writes(ANA, text).await?;
    }
    let state = world.get("/sim/state").await?;
    let device = &state["accounts"][0]["devices"][0];
    assert_eq!(device["queued_messages"], 3, "{device}");
    assert_eq!(device["unacknowledged"], 0, "{device}");

    let mut edge = world.edge(Manners::Take).await?;
    for text in ["uno", "dos", "tres"] {
        assert_eq!(edge.message().await?.text, text);
    }
    let state = world.all_acknowledged().await?;
    assert_eq!(state["counters"]["handshakes"]["ik"], 1);
    assert_eq!(state["counters"]["retry_requests"], 0);
    assert!(edge.pending().is_none());
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_message_reaches_the_edge() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    let path = format!("/sim/customers/{ANA}/messages");
    let first = world.writes(ANA, "hola").await?;
    edge.message().await?;
    for kind in ["image", "sticker", "location", "reaction"] {
        let body = json!({"to": SHOP, "kind": kind, "text": "x", "about": first, "at": 1_700_000_000});
        world.post(&path, body).await?;
        let inbound = edge.message().await?;
        assert_eq!(inbound.timestamp, 1_700_000_000);
        let base = inbound.message.get_base_message();
        let arrived = match kind {
            "image" => base.image_message.is_set() && base.get_caption() == Some("x"),
            "sticker" => base.sticker_message.is_set(),
            "location" => base.location_message.is_set(),
            _ => base
                .reaction_message
                .as_option()
                .and_then(|reaction| reaction.key.as_option())
                .is_some_and(|key| key.id.as_deref() == Some(first.as_str())),
        };
        assert!(arrived, "{kind}: {base:?}");
    }
    let path = format!("/sim/customers/{ANA}/sent");
    let sent = world
        .until(&path, |sent| {
            sent["messages"].as_array().is_some_and(|messages| {
                messages.len() == 5 && messages.iter().all(|m| m["status"] == "delivered")
            })
        })
        .await?;
    assert_eq!(sent["messages"][1]["at"], "2023-11-14T22:13:20Z");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_one_entry_with_copies() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    for _ in 0..2 {
        let options = SendOptions::default().with_message_id("3EB0COPY");
        edge.client.send_message_with_options(pn(ANA), wa::Message::text("una sola vez"), options).await?;
        assert_eq!(edge.server_ack("3EB0COPY").await?, None);
    }
    let path = format!("/sim/customers/{ANA}/inbox");
    let inbox = world.until(&path, |inbox| inbox["messages"][0]["copies"] == 2).await?;
    assert_eq!(inbox["messages"].as_array().map(Vec::len), Some(1));

    // The other way round: a customer repeats a message.
    let path = format!("/sim/customers/{ANA}/messages");
    for _ in 0..2 {
        let body = json!({"to": SHOP, "text": "repetido", "id": "3EB0AGAIN"});
        world.post(&path, body).await?;
        assert_eq!(edge.message().await?.id, "3EB0AGAIN");
    }
    let sent = world.status(ANA, "3EB0AGAIN", "delivered").await?;
    assert_eq!(sent["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(sent["messages"][0]["copies"], 2);
    world.all_acknowledged().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_nobody_has_is_not_on_whatsapp() -> Result<()> {
    let world = World::new().await?;
    let edge = world.linked(Manners::Take).await?;
    let asked = [pn(ANA), pn("5490000000001")];
    let found = edge.client.contacts().is_on_whatsapp(&asked).await?;
    let there: Vec<bool> = found.iter().map(|result| result.is_registered).collect();
    assert_eq!(there, [true, false], "{found:?}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_seen_on_both_sides() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    let path = format!("/sim/customers/{LEO}/typing");
    world.post(&path, json!({"to": SHOP})).await?;
    edge.event("typing", |event| matches!(event, Event::ChatPresence(_)).then_some(())).await?;
    world.writes(LEO, "hola").await?;
    let chat = edge.message().await?.chat;
    edge.client.chatstate().send_composing(&chat).await?;
    world.until(&format!("/sim/customers/{LEO}"), |leo| leo["typing"][SHOP]["state"] == "composing").await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_types_on_the_phone_is_an_own_message() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    for customer in [ANA, LEO] {
        let body = json!({"to": customer, "text": "lo atiendo yo"});
        let path = format!("/sim/accounts/{SHOP}/messages");
        world.post(&path, body).await?;
        let inbound = edge.message().await?;
        assert!(inbound.from_me, "{inbound:?}");
        let inbox = world.inbox(customer, 0).await?;
        assert_eq!(inbox[0]["text"], "lo atiendo yo");
    }
    world.all_acknowledged().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_customers_write_at_once_and_each_chat_keeps_its_order() -> Result<()> {
    let world = World::new().await?;
    let mut edge = world.linked(Manners::Take).await?;
    let numbers: Vec<String> = (0..50).map(|n| format!("54911600000{n:02}")).collect();
    for (n, number) in numbers.iter().enumerate() {
        let addressing = if n % 2 == 0 { "pn" } else { "lid" };
        let body = json!({"phone": number, "name": "C", "addressing": addressing});
        world.post("/sim/customers", body).await?;
    }
    let world = &world;
    let writers = numbers.iter().map(|number| async move {
        for n in 0..3 {
            world.writes(number, &format!("{number} {n}")).await?;
        }
        anyhow::Ok(())
    });
    let (written, received) = tokio::join!(futures::future::try_join_all(writers), async {
        let mut next = std::collections::HashMap::new();
        for _ in 0..150 {
            let inbound = edge.message().await?;
            let (number, n) = inbound.text.split_once(' ').context("a text")?;
            let expected = next.entry(number.to_owned()).or_insert(0);
            assert_eq!(n, expected.to_string(), "out of order");
            *expected += 1;
        }
        anyhow::Ok(next.len())
    });
    written?;
    assert_eq!(received?, 50);
    world.all_acknowledged().await?;
    edge.stop().await
}
