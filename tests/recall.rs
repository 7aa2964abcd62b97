//! What was on its way to an edge that is gone comes to the next one at once. The ack wait is longer than any test here.

use futures::StreamExt as _;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{SendMessage, SendText};

use crate::support::oracle::Written;
use crate::support::{Customer, Layout, PATIENCE, Role, Stage, warning};

/// The first answer was in the dead edge's hand. The second one must not overtake it, and waits for it.
#[tokio::test]
async fn the_next_edge_sends_at_once_what_a_killed_one_had_in_hand() {
    let stage = Stage::plan().setting("EDGE_ACK_WAIT", "1h").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut first = product.edge;
    first.process.kill();
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.before-send")]).await;
    dying.ready().await;
    let mut written = vec![say(&customer, "uno").await];
    dying.process.end_by_kill(PATIENCE).await;
    streams.decided(1).await;

    written.push(say(&customer, "dos").await);
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;

    customer.receives(2).await;
    stage.evidence(2, std::slice::from_ref(&customer)).await.assert_kept(&written);
}

/// nats-server hands what is recalled to whoever has a request open. Behind a cut line that may be nobody any more.
#[tokio::test]
async fn what_is_recalled_into_an_old_request_is_recalled_again() {
    let stage = Stage::plan().setting("EDGE_ACK_WAIT", "1h").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut first = product.edge;
    first.process.kill();
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.before-send")]).await;
    dying.ready().await;
    let written = say(&customer, "uno").await;
    dying.process.end_by_kill(PATIENCE).await;
    streams.decided(1).await;
    // The request of an edge that is gone, and that nats-server still believes in.
    let ghost = async_nats::connect(stage.nats.url()).await.expect("a connection");
    let mut taken = ghost.subscribe("ghost").await.expect("a subscription");
    let next = "$JS.API.CONSUMER.MSG.NEXT.WA_OUT.edge-default";
    ghost.publish_with_reply(next, "ghost", "1".into()).await.expect("a request");
    ghost.flush().await.expect("it is sent");

    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let lost = tokio::time::timeout(PATIENCE, taken.next()).await.expect("it is recalled");
    assert!(lost.is_some_and(|message| message.subject.as_str().contains(".reply.")), "into the old request");

    customer.receives(1).await;
    stage.evidence(1, std::slice::from_ref(&customer)).await.assert_kept(&[written]);
}

#[tokio::test]
async fn a_new_request_waits_for_all_that_an_earlier_edge_had_in_hand() {
    assert_eq!(requests_after_a_kill(&[]).await, ["uno", "dos"]);
}

/// The control: without the rule the second one overtakes the first, so the test above can fail.
#[tokio::test]
async fn without_the_wait_a_new_request_is_seen_to_overtake() {
    assert_eq!(requests_after_a_kill(&[("WITHOUT_GUARD", "requests-wait")]).await, ["dos", "uno"]);
}

/// A request of another service names no predecessor. The first one was in the dead edge's hand, and what is recalled of it
/// goes astray once; the second one is new, and comes to the next edge first. Returns what the phone shows, in its order.
async fn requests_after_a_kill(settings: &[(&str, &str)]) -> Vec<String> {
    let stage = Stage::plan().setting("EDGE_ACK_WAIT", "1h").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    let mut first = product.edge;
    first.process.kill();
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.before-send")]).await;
    dying.ready().await;
    streams.send("uno", &text(&customer, "uno")).await;
    dying.process.end_by_kill(PATIENCE).await;
    let ghost = async_nats::connect(stage.nats.url()).await.expect("a connection");
    let mut taken = ghost.subscribe("ghost").await.expect("a subscription");
    let next = "$JS.API.CONSUMER.MSG.NEXT.WA_OUT.edge-default";
    ghost.publish_with_reply(next, "ghost", "1".into()).await.expect("a request");
    ghost.flush().await.expect("it is sent");

    let mut edge = stage.start_with(Role::Edge, settings).await;
    edge.ready().await;
    let lost = tokio::time::timeout(PATIENCE, taken.next()).await.expect("it is recalled");
    assert!(lost.is_some_and(|message| message.subject.as_str().contains(".send.")), "into the old request");
    streams.send("dos", &text(&customer, "dos")).await;

    customer.receives(2).await.into_iter().map(|one| one.text).collect()
}

fn text(customer: &Customer, body: &str) -> SendMessage {
    let content = Some(Content::Text(SendText { body: body.to_owned(), ..SendText::default() }));
    SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() }
}

async fn say(customer: &Customer, text: &str) -> Written {
    Written::echoed(customer.phone(), customer.write(text).await, text)
}
