//! However long WhatsApp was away, the link is back soon after the line is.

use std::time::Duration;

use crate::support::heart::Watch;
use crate::support::{Layout, PATIENCE, Stage, eventually};

/// After this attempt the client library pauses for 21 s.
const GROWN: &str = "(attempt 8)";

/// The library's own pauses have grown beyond what is promised. Who waits for them waits twice as long.
#[tokio::test]
async fn the_link_is_back_within_ten_seconds_of_the_lines_return() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects("WhatsApp cannot be reached");
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("antes").await;
    customer.receives(1).await;

    stage.simulator.stop().await;
    eventually("the client library to have lost its patience", PATIENCE, async || {
        if product.edge.process.stderr().contains(GROWN) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    stage.simulator.restart().await;
    let watch = Watch::start();
    customer.write("¿hay alguien?").await;

    customer.receives(2).await;
    watch.within(Duration::from_secs(10), "an answer after the line's return").await;
    product.edge.ready().await;
}

/// A router that forgets the line, or a server that hangs: nothing comes, and nothing breaks.
#[tokio::test]
async fn a_silent_connection_is_told_from_a_quiet_one_and_given_up() {
    let stage = Stage::plan().set().await;
    stage.logs.may_have_broken_traffic();
    stage.logs.expects("WhatsApp is connected and says nothing, not even to a ping");
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("antes").await;
    customer.receives(1).await;
    let silences = async |wanted: &str| {
        let counted = product.edge.metrics().await;
        counted.lines().any(|line| line == format!("wa_whatsapp_silences_total {wanted}"))
    };

    // Quiet: the edge has pinged, and the connection is what it was.
    let logins = stage.simulator.counter("logins").await;
    let pings = stage.simulator.counter("pings").await;
    eventually("two pings", Duration::from_secs(120), async || {
        match stage.simulator.counter("pings").await - pings {
            0 | 1 => Err("fewer".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(stage.simulator.counter("logins").await, logins);
    assert!(silences("0").await);

    stage.simulator.fault("silence", None).await;
    let watch = Watch::start();
    product.edge.not_ready("silent").await;
    watch.within(Duration::from_secs(36), "word of the silence").await;
    stage.simulator.no_faults().await;
    product.edge.ready().await;
    customer.write("¿hay alguien?").await;
    customer.receives(2).await;
}

/// WhatsApp takes connections and lets nobody in. The edge tries less and less often, and not at every probe.
#[tokio::test]
async fn an_edge_that_is_let_in_nowhere_does_not_knock_all_the_time() {
    let stage = Stage::plan().set().await;
    stage.logs.may_have("WhatsApp cannot be reached");
    let mut product = stage.product(Layout::OneProcess).await;
    let before = stage.simulator.counter("logins").await;
    stage.simulator.fault("drop_connection", Some(600_000)).await;
    eventually("the edge to give up waiting for the library", PATIENCE, async || {
        let log = product.edge.process.stderr();
        let knocks = log.lines().filter(|line| line.contains("connecting at once")).count();
        if knocks == 2 { Ok(()) } else { Err(format!("{knocks} times")) }
    })
    .await;
    assert_eq!(stage.simulator.counter("logins").await, before, "nobody was let in");
    stage.simulator.no_faults().await;
    product.edge.ready().await;
}
