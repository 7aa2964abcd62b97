//! Numbers that others want to write to: WhatsApp says whose they are, and may take its time.

use async_nats::HeaderMap;
use prost::Message as _;
use serde_json::json;
use whatsapp_connector::wire::v1::{ReceiptStatus, SendMessage, SendText, send_message};

use crate::support::{BUSINESS, Layout, PATIENCE, Stage, Streams, eventually};

/// Another service writes to somebody.
async fn send(streams: &Streams, number: &str, text: &str) {
    let content = Some(send_message::Content::Text(SendText { body: text.to_owned(), ..Default::default() }));
    let request = SendMessage { to: number.to_owned(), content, ..SendMessage::default() };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{number}/{text}").as_str());
    let subject = format!("wa.out.default.send.{number}");
    let sent =
        streams.jetstream().publish_with_headers(subject, headers, request.encode_to_vec().into()).await;
    sent.expect("a request").await.expect("a stored request");
}

/// Dialled without the 9 that WhatsApp has in the middle: the message goes where WhatsApp says, and its receipts
/// are found where its sender looks for them.
#[tokio::test]
async fn a_message_goes_to_the_address_that_whatsapp_names() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let dialled = "541112345678";
    customer.is_dialled(dialled).await;
    let streams = stage.streams().await;

    send(&streams, dialled, "su pedido").await;
    send(&streams, dialled, "está listo").await;
    let inbox = customer.receives(2).await;
    assert_eq!(inbox[0].text, "su pedido");
    assert_eq!(stage.simulator.counter("lookups").await, 1, "it is remembered");
    eventually("receipts where the sender looks", PATIENCE, async || {
        let receipts = streams.receipts().await;
        let delivered = receipts
            .iter()
            .filter(|receipt| receipt.status() == ReceiptStatus::Delivered && receipt.chat == dialled);
        if delivered.count() == 2 { Ok(()) } else { Err(format!("{receipts:?}")) }
    })
    .await;
}

/// WhatsApp answers no look-ups. Answers go on, however many look-ups wait.
#[tokio::test]
async fn look_ups_that_are_rate_limited_hold_nobody_else() {
    const MANY: usize = 80;
    let stage = Stage::plan().set().await;
    stage.logs.may_have("WhatsApp answers no look-ups");
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let others = stage.customers("54911888", MANY).await;
    let streams = stage.streams().await;
    stage.simulator.fault_as(json!({"kind": "refuse_lookups", "account": BUSINESS})).await;
    for other in &others {
        send(&streams, other.phone(), "oferta").await;
    }
    eventually("look-ups to be refused", PATIENCE, async || {
        match stage.simulator.counter("lookups_refused").await {
            0 | 1 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;

    customer.write("hola").await;
    customer.receives(1).await;
    let refused = stage.simulator.counter("lookups_refused").await;
    assert!(refused <= 10, "{refused} look-ups for {MANY} numbers: each one asks for itself");
    stage.simulator.no_faults().await;
    for other in &others {
        other.receives(1).await;
    }
}
