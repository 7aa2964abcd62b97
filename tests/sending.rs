//! What is written to the socket is not sent: only WhatsApp's own word counts, and until then the same
//! message goes again under the same id.

use crate::support::oracle::{Written, write_each};
use crate::support::{Layout, PATIENCE, Role, Stage, eventually, warning};

#[tokio::test]
async fn a_message_that_whatsapp_does_not_acknowledge_is_not_taken_for_sent() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::SENT_AGAIN);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    stage.simulator.fault("mute_acks", None).await;

    let id = customer.write("¿llegó?").await;
    customer.receives(1).await;
    assert_eq!(stage.streams().await.in_the_edges_hand().await, 1, "nobody said that it was sent");
    stage.simulator.no_faults().await;

    let written = [Written::echoed(customer.phone(), id, "¿llegó?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
    let inbox = customer.receives_copies(2).await;
    assert_eq!((inbox.len(), inbox[0].copies), (1, 2), "it went again, under the same id");
}

#[tokio::test]
async fn a_message_that_whatsapp_refuses_for_a_moment_is_sent_in_the_end() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::REFUSED);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    stage.simulator.fault("nack", None).await;

    let written = [
        Written::echoed(customer.phone(), customer.write("uno").await, "uno"),
        Written::echoed(customer.phone(), customer.write("dos").await, "dos"),
    ];
    // The edge tries four times, within seven seconds.
    eventually("a refusal", PATIENCE, async || match stage.simulator.refused().await {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    stage.simulator.no_faults().await;

    customer.receives(2).await;
    stage.evidence(2, [&customer]).await.assert_kept(&written);
    assert!(stage.streams().await.failed_sends().await.is_empty());
}

#[tokio::test]
async fn a_message_that_whatsapp_refuses_for_good_is_reported_and_the_chat_goes_on() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    stage.simulator.fault("nack", None).await;

    customer.write("uno").await;
    let failed = eventually("a report that WhatsApp refused it", PATIENCE, async || {
        streams.failed_sends().await.pop().ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!((failed.chat.as_str(), failed.reason.as_str()), (customer.phone(), "refused-463"));
    stage.simulator.no_faults().await;
    customer.write("dos").await;

    let inbox = customer.receives(1).await;
    assert_eq!(inbox[0].text, "eco: dos");
}

/// Answers are on their way when it breaks, and customers write on meanwhile.
#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_traffic_loses_nothing() {
    let stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-300").set().await;
    stage.logs.may_have_broken_traffic();
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911666", 8).await;
    let streams = stage.streams().await;

    let mut written = write_each(&customers, 1).await;
    everything_received(&stage).await;
    stage.simulator.fault("drop_connection", Some(500)).await;
    written.extend(write_each(&customers, 2).await);
    streams.decided(10).await;
    everything_received(&stage).await;
    stage.simulator.fault("drop_connection", None).await;
    written.extend(write_each(&customers, 3).await);

    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// As above, but with messages that the edge is receiving at that very moment. The client library now and
/// then drops one of those; it is asked for again, and may then come after the one written next.
#[tokio::test]
async fn a_connection_that_breaks_while_messages_come_in_loses_nothing() {
    let stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-300").set().await;
    stage.logs.may_have_broken_traffic();
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911777", 8).await;
    let streams = stage.streams().await;

    let mut written = write_each(&customers, 1).await;
    streams.decided(2).await;
    stage.simulator.fault("drop_connection", Some(500)).await;
    written.extend(write_each(&customers, 2).await);
    streams.decided(10).await;
    stage.simulator.fault("drop_connection", None).await;
    written.extend(write_each(&customers, 3).await);

    let evidence = stage.evidence(written.len(), &customers).await;
    evidence.assert_kept(&evidence.as_it_came(written));
}

/// Waits until WhatsApp was told that everything written so far has arrived.
async fn everything_received(stage: &Stage) {
    eventually("WhatsApp to be told that all is received", PATIENCE, async || {
        let left = stage.simulator.unreceived().await;
        if left == 0 { Ok(()) } else { Err(format!("{left} are not")) }
    })
    .await;
}

/// Two programs on one session would throw each other out for ever.
#[tokio::test]
async fn an_edge_that_was_replaced_does_not_fight_for_the_session() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("another program logged in with this session");
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    stage.simulator.fault("stream_replaced", None).await;
    product.edge.not_ready("replaced").await;

    let id = customer.write("¿hola?").await;
    assert_eq!(stage.simulator.unreceived().await, 1, "it fights for the session");
    product.edge.stop().await;
    let _again = stage.start(Role::Run).await;

    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "¿hola?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
}

#[tokio::test]
async fn a_session_that_was_logged_out_is_linked_again_with_a_new_code() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("WhatsApp has logged this number out");
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let before = customer.write("antes").await;
    customer.receives(1).await;

    stage.simulator.fault("logged_out", None).await;
    product.edge.shows_a_code().await;
    product.edge.link(&stage.simulator).await;
    let after = customer.write("después").await;

    customer.receives(2).await;
    let written = [
        Written::echoed(customer.phone(), before, "antes"),
        Written::echoed(customer.phone(), after, "después"),
    ];
    stage.evidence(2, [&customer]).await.assert_kept(&written);
}
