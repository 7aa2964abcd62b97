//! Everything stops and starts again: the link survives.

use crate::support::oracle::Written;
use crate::support::{Layout, PATIENCE, Role, Stage, eventually};

#[tokio::test]
async fn the_link_survives_a_restart_of_everything() {
    let mut stage = Stage::plan().set().await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let first = customer.write("hoy").await;
    customer.receives(1).await;
    stage.evidence(1, [&customer]).await;

    product.edge.stop().await;
    stage.backend.kill();
    stage.simulator.stop().await;
    stage.nats.stop().await;
    stage.nats.restart().await;
    stage.simulator.restart().await;
    stage.backend.restart().await;
    let edge = stage.start(Role::Run).await;

    eventually("the edge to be online without a QR code", PATIENCE, async || {
        let link = edge.link_state().await;
        assert!(link["qr"].is_null(), "it asks to be linked again: {}", link["state"]);
        if link["state"] == "online" { Ok(()) } else { Err(link.to_string()) }
    })
    .await;
    let second = customer.write("mañana").await;

    customer.receives(2).await;
    let written = [
        Written::echoed(customer.phone(), first, "hoy"),
        Written::echoed(customer.phone(), second, "mañana"),
    ];
    // The call log is the restarted backend's, so it knows of the second message only.
    stage.evidence(2, [&customer]).await.assert_kept(&written);
}
