//! Outages that are longer than anything that waits, and crashes with much in hand.

use crate::support::oracle::Written;
use crate::support::{Layout, PATIENCE, Role, Stage, eventually, warning};

/// The first message has to grow older than this, and the second one has to be answered while it is not.
const REPLY_MAX_AGE: &str = "20s";

/// Everything that was held has grown too old and got no answer; the end of the outage is noticed all the
/// same.
#[tokio::test]
async fn an_outage_that_outlives_every_held_message_ends() {
    let mut stage = Stage::plan().setting("REPLY_MAX_AGE", REPLY_MAX_AGE).set().await;
    stage.logs.expects(&warning::held("unreachable"));
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    stage.backend.kill();

    let expired = customer.write("¿hola?").await;
    product.edge.not_ready("unreachable").await;
    stage.streams().await.decided(1).await;
    stage.backend.restart().await;
    let answered = customer.write("¿y ahora?").await;

    customer.receives(1).await;
    let written = [
        Written::unanswered(customer.phone(), expired),
        Written::echoed(customer.phone(), answered, "¿y ahora?"),
    ];
    stage.evidence(2, [&customer]).await.assert_kept(&written);
    product.edge.ready().await;
}

/// More replies of one chat in the dead edge's hands than are asked for at once: those that come first
/// wait for those that come later, and must not keep them out.
#[tokio::test]
async fn an_edge_killed_with_many_replies_in_hand_sends_them_in_order() {
    const MANY: usize = 400;
    let stage = Stage::plan().set().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    stage.simulator.fault("mute_acks", None).await;

    for number in 0..MANY {
        customer.write(&format!("{number}")).await;
    }
    let streams = stage.streams().await;
    streams.decided(MANY).await;
    eventually("all replies to be in the edge's hand", PATIENCE, async || {
        let found = streams.in_the_edges_hand().await;
        if found == MANY { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
    product.edge.process.kill();
    stage.simulator.no_faults().await;
    let _successor = stage.start(Role::Edge).await;

    // The first one has been on its way to the phone for as long as its ack was muted: how often it
    // arrived says nothing. Every other one arrived once.
    let inbox = customer.receives(MANY).await;
    let shown: Vec<_> = inbox.iter().map(|entry| entry.text.clone()).collect();
    assert_eq!(shown, (0..MANY).map(|number| format!("eco: {number}")).collect::<Vec<_>>());
    assert_eq!(inbox.iter().skip(1).map(|entry| entry.copies).max(), Some(1));
}
