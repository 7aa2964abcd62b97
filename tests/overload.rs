//! A backend that works on one call at a time is asked at its own pace.

use std::time::Duration;

use futures::future::join_all;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{Customer, Layout, Role, Stage, eventually, warning};

/// Of so many people one may be asked about twice: a busy machine makes the backend slower than it is meant to be.
const ONE_OF: usize = 5;

/// Calls that wait inside such a backend would time out together, and be made again while it still works on the first
/// ones.
#[tokio::test]
async fn a_burst_on_a_backend_of_one_slot_is_answered_at_its_pace() {
    let stage = Stage::plan()
        .backend("BACKEND_SLOTS", "1")
        .backend("BACKEND_DELAY_MS", "100")
        .setting("BACKEND_TIMEOUT", "4s")
        .setting("BACKEND_RETRY_FOR", "8s")
        .set()
        .await;
    // A machine that stands still for seconds may cost some.
    stage.logs.may_have(&warning::retried("timeout"));
    burst(&stage, 150, Duration::from_secs(120)).await;
}

/// `cargo test … -- --ignored four_hundred --nocapture`: with the default settings, and about seven minutes.
#[tokio::test]
#[ignore = "takes seven minutes"]
async fn four_hundred_people_at_once_and_one_slot_of_a_second() {
    let stage = Stage::plan().backend("BACKEND_SLOTS", "1").backend("BACKEND_DELAY_MS", "1000").set().await;
    burst(&stage, 400, Duration::from_secs(900)).await;
}

async fn burst(stage: &Stage, people: usize, bound: Duration) {
    // So many people at once are much for a busy machine, too.
    stage.logs.may_have(warning::SENT_AGAIN);
    let _product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customers = stage.customers("54911666", people).await;
    let written: Vec<_> = join_all(customers.iter().map(write)).await;
    let streams = stage.streams().await;
    streams.received(people).await;
    let begun = Watch::start();
    // All of it is there for the forwarder at once.
    let forwarder = stage.start(Role::Forwarder).await;
    eventually("everybody's outcome", bound, async || match streams.outcomes().await.len() {
        found if found >= people => Ok(()),
        found => Err(format!("{found} of {people}")),
    })
    .await;

    let evidence = stage.evidence(people, &customers).await;
    let (calls, took) = (evidence.calls.len(), begun.took().await);
    let metrics = forwarder.metrics().await;
    let limit = metrics.lines().find(|line| line.starts_with("wa_backend_limit")).unwrap_or("no limit");
    eprintln!("{people} people: {calls} calls in {took}; {limit}");
    assert_eq!(streams.dead_letters().await.len(), 0);
    evidence.assert_kept(&written);
    assert!(calls <= people + people / ONE_OF, "{calls} calls for {people} people");
}

async fn write(customer: &Customer) -> Written {
    Written::echoed(customer.phone(), customer.write("hola").await, "hola")
}
