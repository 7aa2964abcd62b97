//! WhatsApp gives no keys of somebody, or of nobody for the moment: who cannot be written to, and who need not wait for that.

use serde_json::json;
use whatsapp_connector::wire::v1::SendMessage;
use whatsapp_connector::wire::{id, now_ms};

use crate::sends::{failures, text, to};
use crate::support::{BUSINESS, Layout, PATIENCE, Stage, eventually, warning};

/// The library sends to the devices that it has keys of, and WhatsApp accepts that: here to the owner's phone alone.
#[tokio::test]
async fn a_message_that_was_sent_to_all_but_its_reader_is_no_sent_message() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let product = stage.product(Layout::OneProcess).await;
    let (first, streams) = (stage.customer().await, stage.streams().await);
    let others = stage.customers("54911555", 2).await;
    streams.send("first", &to(&first, text("hola"))).await;
    first.receives(1).await;
    stage.simulator.fault("no_keys", None).await;
    streams.send("nobody-has-it", &to(&others[0], text("hola"))).await;
    let failed = failures(&streams, 1).await.remove(0);
    assert_eq!((failed.request_id.as_str(), failed.reason.as_str()), ("nobody-has-it", "refused-no-keys"));
    streams.send("soon", &to(&others[1], text("hola"))).await;
    eventually("the edge to have tried", PATIENCE, async || {
        let said = product.edge.process.stderr();
        if said.contains(&id::whatsapp("soon")) { Ok(()) } else { Err(said) }
    })
    .await;
    stage.simulator.no_faults().await;
    assert_eq!(others[1].receives(1).await[0].text, "hola");
    assert_eq!(others[0].inbox().await.len(), 0);
}

/// The library does not write a message that no device can read.
#[tokio::test]
async fn a_message_that_nobody_at_all_could_read_fails_and_the_chat_goes_on() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let (other, streams) = (stage.customer().await, stage.streams().await);
    // There is no session with the owner's phone yet either.
    stage.simulator.fault("no_keys", None).await;
    streams.send("nobody-has-it", &to(&other, text("hola"))).await;
    let failed = failures(&streams, 1).await.remove(0);
    assert_eq!((failed.request_id.as_str(), failed.reason.as_str()), ("nobody-has-it", "refused-no-keys"));
    stage.simulator.no_faults().await;
    streams.send("next", &to(&other, text("hola"))).await;
    assert_eq!(other.receives(1).await.len(), 1);
}

/// WhatsApp refuses a client's questions for keys if there are too many. More chats wait for that than the edge sends to at
/// once.
#[tokio::test]
async fn chats_whose_keys_whatsapp_refuses_for_now_hold_nobody_up_and_lose_nothing() {
    const NEW: usize = 80;
    let mut stage = Stage::plan().set().await;
    stage.set("SEND_NEW_CHATS_PER_HOUR", "0");
    stage.logs.expects(warning::NOT_WRITTEN);
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (known, streams) = (stage.customer().await, stage.streams().await);
    let strangers = stage.customers("54911555", NEW).await;
    streams.send("known-1", &to(&known, text("uno"))).await;
    known.receives(1).await;

    stage.simulator.fault_as(json!({"kind": "refuse_keys", "account": BUSINESS})).await;
    for (number, stranger) in strangers.iter().enumerate() {
        streams.send(&format!("new-{number}"), &to(stranger, text("hola"))).await;
    }
    eventually("all to have been tried", PATIENCE, async || {
        let said = product.edge.process.stderr();
        let untried =
            (0..NEW).filter(|number| !said.contains(&id::whatsapp(&format!("new-{number}")))).count();
        if untried == 0 { Ok(()) } else { Err(format!("{untried} are not")) }
    })
    .await;
    streams.send("known-2", &to(&known, text("dos"))).await;
    known.receives(2).await;
    assert_eq!(streams.failed_sends().await.len(), 0, "WhatsApp may give the keys later");

    stage.simulator.no_faults().await;
    for stranger in &strangers {
        assert_eq!(stranger.receives(1).await[0].text, "hola");
    }
}

/// Nothing has left, so it may be too late for it.
#[tokio::test]
async fn what_waits_for_keys_until_it_is_too_late_is_never_sent() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::NOT_WRITTEN);
    let _product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    stage.simulator.fault_as(json!({"kind": "refuse_keys", "account": BUSINESS})).await;
    let wanted = SendMessage { not_after_ms: now_ms() + 2_000, ..to(&customer, text("hola")) };
    streams.send("late", &wanted).await;
    let failed = failures(&streams, 1).await.remove(0);
    assert_eq!((failed.request_id.as_str(), failed.reason.as_str()), ("late", "expired"));
    stage.simulator.no_faults().await;
    streams.send("next", &to(&customer, text("chau"))).await;
    assert_eq!(customer.receives(1).await[0].text, "chau");
}
