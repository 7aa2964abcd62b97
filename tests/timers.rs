//! In a chat with a disappearing timer, what the connector sends disappears as well.

use async_nats::HeaderMap;
use prost::Message as _;
use whatsapp_connector::wire::v1::{SendMessage, SendText, send_message};

use crate::support::{Customer, Layout, Role, Stage};

const WEEK: u32 = 604_800;
const DAY: u32 = 86_400;

/// Another service writes to the customer.
async fn send(stage: &Stage, customer: &Customer, text: &str) {
    let content = Some(send_message::Content::Text(SendText { body: text.to_owned(), ..Default::default() }));
    let request = SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() };
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", text);
    let subject = format!("wa.out.default.send.{}", customer.phone());
    let streams = stage.streams().await;
    let sent =
        streams.jetstream().publish_with_headers(subject, headers, request.encode_to_vec().into()).await;
    sent.expect("a request").await.expect("a stored request");
}

async fn carry(customer: &Customer, want: &[Option<u32>]) {
    let inbox = customer.receives(want.len()).await;
    let carried: Vec<_> = inbox.iter().map(|received| received.expires_s).collect();
    assert_eq!(carried, want, "{inbox:?}");
}

#[tokio::test]
async fn answers_and_sends_carry_the_chats_timer_until_it_is_off() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("antes").await;
    carry(&customer, &[None]).await;

    // Nobody tells of it but the message itself.
    customer.sets_timer(WEEK, true).await;
    customer.write("uno").await;
    carry(&customer, &[None, Some(WEEK)]).await;
    send(&stage, &customer, "aviso").await;
    carry(&customer, &[None, Some(WEEK), Some(WEEK)]).await;

    // A setting, and no message after it; the edge that sends is another process than the one that heard it.
    customer.sets_timer(DAY, false).await;
    stage.streams().await.updated(1).await;
    product.edge.stop().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    send(&stage, &customer, "otro aviso").await;
    carry(&customer, &[None, Some(WEEK), Some(WEEK), Some(DAY)]).await;

    customer.sets_timer(0, false).await;
    stage.streams().await.updated(2).await;
    send(&stage, &customer, "el último").await;
    customer.write("dos").await;
    carry(&customer, &[None, Some(WEEK), Some(WEEK), Some(DAY), None, None]).await;
}

/// The edge that heard the question is gone when its answer is due: the timer comes with the outcome.
#[tokio::test]
async fn an_answer_that_waits_for_another_edge_carries_the_timer() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customer = stage.customer().await;
    customer.sets_timer(WEEK, true).await;
    customer.write("hola").await;
    stage.streams().await.received(1).await;
    product.edge.process.kill();
    let _forwarder = stage.start(Role::Forwarder).await;
    let streams = stage.streams().await;
    streams.decided(1).await;
    assert_eq!(streams.outcomes().await[0].outcome().disappears_after_s, Some(WEEK));
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    carry(&customer, &[Some(WEEK)]).await;
}
