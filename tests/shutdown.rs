//! SIGTERM: finish or give back what is under way, within the grace period, and end with 0.

use std::time::{Duration, Instant};

use crate::support::oracle::Written;
use crate::support::{Customer, Layout, PATIENCE, Role, Stage, eventually, warning};

/// Longer than any test waits: what is not given back by the process that ends would never come again.
const LONG: &str = "10m";

#[tokio::test]
async fn a_call_that_ends_within_the_grace_is_finished() {
    let stage = Stage::plan()
        .backend("BACKEND_DELAY_MS", "1500")
        .setting("SHUTDOWN_GRACE", "20s")
        .setting("FORWARDER_ACK_WAIT", LONG)
        .set()
        .await;
    let took = terminated_in_a_call(stage, 1).await;
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_given_back() {
    let stage = Stage::plan()
        .backend("BACKEND_DELAY_MS", "8000")
        .setting("SHUTDOWN_GRACE", "3s")
        .setting("FORWARDER_ACK_WAIT", LONG)
        .set()
        .await;
    stage.logs.expects(warning::GIVEN_BACK);
    let took = terminated_in_a_call(stage, 2).await;
    assert!(took < Duration::from_secs(7), "a grace of 3 s, and it took {took:?}");
}

/// The product is terminated while the backend works on the first of two messages; both are answered
/// once, after the next start at the latest. Returns how long the end took.
async fn terminated_in_a_call(stage: Stage, calls: usize) -> Duration {
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let first = customer.write("primero").await;
    let second = customer.write("segundo").await;
    call_under_way(&stage).await;
    stage.streams().await.received(2).await;

    let told = Instant::now();
    product.edge.process.terminate();
    let status = product.edge.process.end(PATIENCE).await;
    let took = told.elapsed();
    assert!(status.success(), "a clean end is 0, this one was {status}");
    let _again = stage.start(Role::Run).await;

    both_answered(&stage, &customer, [first, second], calls).await;
    took
}

async fn call_under_way(stage: &Stage) {
    eventually("a call that is under way", PATIENCE, async || {
        let calls = stage.backend.calls().await;
        if calls.iter().any(|call| call.ended_at.is_none()) { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
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
