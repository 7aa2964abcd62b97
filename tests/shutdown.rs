//! SIGTERM: finish or give back what is under way, within the grace period, and end with 0.

use std::time::Duration;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{
    Connector, Customer, GATE, Layout, PATIENCE, Product, Role, Stage, eventually, warning,
};

/// Longer than any test waits: what is not given back by the process that ends would never come again.
const LONG: &str = "10m";

#[tokio::test]
async fn a_call_that_ends_within_the_grace_is_finished() {
    let (stage, mut product, customer, ids) = in_a_call("60s").await;
    product.edge.process.terminate();
    stopping(&product.edge).await;
    stage.backend.open().await;
    let called = Watch::start();
    ends_well(&mut product).await;
    called.within(Duration::from_secs(10), "an end after the last call").await;
    let _again = stage.start(Role::Run).await;

    both_answered(&stage, &customer, ids, 1).await;
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_given_back() {
    let (stage, mut product, customer, ids) = in_a_call("3s").await;
    stage.logs.expects(warning::GIVEN_BACK);
    let told = Watch::start();
    product.edge.process.terminate();
    ends_well(&mut product).await;
    told.within(Duration::from_secs(7), "an end with a grace of 3 s").await;
    stage.backend.open().await;
    let _again = stage.start(Role::Run).await;

    both_answered(&stage, &customer, ids, 2).await;
}

/// The backend works on the first of two messages, until it is told that it may end that.
async fn in_a_call(grace: &str) -> (Stage, Product, Customer, [String; 2]) {
    let stage = Stage::plan()
        .backend(GATE.0, GATE.1)
        .setting("SHUTDOWN_GRACE", grace)
        .setting("FORWARDER_ACK_WAIT", LONG)
        .set()
        .await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let ids = [customer.write("primero").await, customer.write("segundo").await];
    stage.backend.under_way(1).await;
    stage.streams().await.received(2).await;
    (stage, product, customer, ids)
}

/// It was told to end, and has heard it.
async fn stopping(process: &Connector) {
    eventually("the stop to have begun", PATIENCE, async || {
        let log = process.process.stderr();
        if log.contains("stopping") { Ok(()) } else { Err("it has not".to_owned()) }
    })
    .await;
}

async fn ends_well(product: &mut Product) {
    let status = product.edge.process.end(PATIENCE).await;
    assert!(status.success(), "a clean end is 0, this one was {status}");
}

async fn both_answered(stage: &Stage, customer: &Customer, ids: [String; 2], calls: usize) {
    customer.receives(2).await;
    let [first, second] = ids;
    let written = [
        Written::echoed(customer.phone(), first.clone(), "primero"),
        Written::echoed(customer.phone(), second, "segundo"),
    ];
    let evidence = stage.evidence(2, [customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls_of(&first), calls, "{:?}", evidence.calls);
}
