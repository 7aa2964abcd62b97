//! One stream is gone, and the rest of JetStream answers: nobody moves to another server because of it.

use std::time::Duration;

use crate::support::oracle::Written;
use crate::support::{GATE, Layout, Product, Role, Stage, eventually};

/// The bus is left after eight seconds without an answer, so the first word on it comes then.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_forwarder_whose_answers_have_no_stream_stays_where_it_is() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).set().await;
    stage.logs.may_have("the outbound stream was made anew");
    let Product { edge, forwarders } = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let id = customer.write("hola").await;
    stage.backend.under_way(1).await;
    edge.stop().await;
    streams.jetstream().delete_stream("WA_OUT").await.expect("a deletion");
    stage.backend.open().await;
    let log = eventually("the forwarder to find out that the stream is gone", LONG, async || {
        let log = forwarders[0].process.stderr();
        if log.contains("\"is_gone\":true") { Ok(log) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert!(!log.contains("connecting anew"), "it leaves a server that answers");
    assert!(!forwarders[0].metrics().await.contains("wa_reconnects_total{peer=\"nats\"} 1"));

    let _edge = stage.start(Role::Edge).await;
    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "hola")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
}
