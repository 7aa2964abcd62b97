//! NATS is away for long while customers write on, WhatsApp's connection breaks, and a drain of its offline
//! queue falls into it: every message is stored once, in order, memory stays bounded, and it goes on at once
//! when NATS is back.
//!
//! `NATS_OUTAGE` says for how many seconds; the default is longer than anything that waits for the bus with
//! patience: the lease counts as lost after 15 s, and as anybody's after 30 s.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::heart::{Took, Watch};
use crate::support::oracle::Written;
use crate::support::{Customer, Layout, Product, Role, Stage, eventually, warning};

/// How many customers write, each once in [`PACE`].
const CUSTOMERS: usize = 8;
const PACE: Duration = Duration::from_secs(1);
/// So soon messages are stored and answered again.
const GOES_ON_WITHIN: Duration = Duration::from_secs(5);
/// The client library sends only when WhatsApp's offline queue is drained, and waits for that up to a minute: by
/// then each phone has its next answer, however long the queue is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(65);
/// What the edge may need on top of what it needed before: while NATS is away it holds what comes in until
/// the lease is lost, 15 s of it, and then WhatsApp holds the rest; after it, what one drain hands over at
/// once. Both are a few hundred small messages here: a leak of what waits would be more in a long outage.
const MEMORY: u64 = 64 << 20;
/// How long the backlog may take: some thousand messages in a long outage.
const BACKLOG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn nats_away_for_long_under_load_loses_nothing_and_goes_on_at_once() {
    outage(async |_stage, product| product).await;
}

#[tokio::test]
async fn an_edge_stopped_in_the_middle_of_a_long_nats_outage_loses_nothing() {
    outage(async |stage, Product { edge, forwarders }| {
        edge.stop().await;
        Product { edge: stage.start(Role::Edge).await, forwarders }
    })
    .await;
}

#[tokio::test]
async fn an_edge_killed_in_the_middle_of_a_long_nats_outage_loses_nothing() {
    outage(async |stage, Product { mut edge, forwarders }| {
        edge.process.kill();
        Product { edge: stage.start(Role::Edge).await, forwarders }
    })
    .await;
}

/// The scenario. `midst` happens while the edge has messages in hand that it cannot store.
async fn outage(midst: impl AsyncFnOnce(&Stage, Product) -> Product) {
    let mut stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-100").set().await;
    stage.logs.expects_an_outage_of_the_bus();
    stage.logs.may_have(warning::SENDS_UNKNOWN);
    stage.logs.may_have_broken_traffic();
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911888", CUSTOMERS).await;
    let traffic = Traffic::start(&customers);
    join_all(customers.iter().map(|customer| customer.receives(2))).await;
    let before = product.edge.process.peak_memory();

    stage.nats.kill();
    let began = Instant::now();
    let at = |seconds: u64| tokio::time::sleep_until(began + Duration::from_secs(seconds));
    at(3).await;
    // WhatsApp goes away as well, and what it hands over on its return cannot be stored.
    stage.simulator.fault("drop_connection", Some(2_000)).await;
    at(8).await;
    product = midst(&stage, product).await;
    at(11).await;
    stage.simulator.fault("drop_connection", None).await;
    at(20).await;
    eventually("messages to wait at WhatsApp", BACKLOG, async || match stage.simulator.unreceived().await {
        waiting if waiting >= CUSTOMERS * 10 => Ok(()),
        waiting => Err(format!("{waiting}")),
    })
    .await;
    tokio::time::sleep_until(began + length()).await;

    let shown = join_all(customers.iter().map(Customer::inbox)).await;
    stage.nats.restart().await;
    let back = Watch::start();
    // At most one outcome of each chat was decided when NATS went away: more than those are new ones.
    let streams = stage.streams().await;
    let before_it = streams.count_out().await;
    eventually("messages to flow again", BACKLOG, async || match streams.count_out().await {
        count if count > before_it + 2 * CUSTOMERS => Ok(()),
        count => Err(format!("{count} outcomes")),
    })
    .await;
    let flows = back.took().await;
    let next = customers.iter().zip(&shown).map(async |(customer, shown)| {
        customer.receives_within(shown.len() + 1, BACKLOG).await;
        back.took().await
    });
    let mut next = join_all(next).await;
    next.sort();
    let written = traffic.stop().await;
    eventually("the backlog to be worked off", BACKLOG, async || match stage.simulator.unreceived().await {
        0 => stage.streams().await.left().await,
        left => Err(format!("{left} messages are still with WhatsApp")),
    })
    .await;
    let through = back.took().await;
    let memory = product.edge.process.peak_memory();

    eprintln!(
        "{:?} without NATS, {} messages: they flow {flows} after its return, each phone has its next answer \
         after {}, all are through after {through}; the edge's memory {} MiB before, {} MiB at most",
        length(),
        written.len(),
        next.iter().map(Took::to_string).collect::<Vec<_>>().join(", "),
        before >> 20,
        memory >> 20,
    );
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
    product.edge.ready().await;
    assert!(flows.own() < GOES_ON_WITHIN, "it took {flows} to go on");
    assert!(next.iter().all(|next| next.own() < ANSWERS_WITHIN), "the answers took {next:.2?}");
    assert!(memory < before + MEMORY, "{before} bytes before, {memory} bytes at most");
}

/// How long NATS is away.
fn length() -> Duration {
    let seconds = std::env::var("NATS_OUTAGE").map_or(40, |text| text.parse().expect("seconds"));
    assert!(seconds > 20, "an outage of {seconds} s is too short for what happens in it");
    Duration::from_secs(seconds)
}

/// Customers who write without a pause, whatever is away.
struct Traffic {
    stop: watch::Sender<bool>,
    customers: Vec<JoinHandle<Vec<Written>>>,
}

impl Traffic {
    fn start(customers: &[Customer]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let customers = customers.iter().map(|customer| {
            let (customer, mut stopped) = (customer.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut written = Vec::new();
                loop {
                    let text = format!("{} de {}", written.len(), customer.phone());
                    let id = customer.write(&text).await;
                    written.push(Written::echoed(customer.phone(), id, &text));
                    if tokio::time::timeout(PACE, stopped.changed()).await.is_ok() {
                        return written;
                    }
                }
            })
        });
        Self { customers: customers.collect(), stop }
    }

    /// All that was written, in order per chat.
    async fn stop(self) -> Vec<Written> {
        self.stop.send_replace(true);
        let written = join_all(self.customers).await.into_iter();
        written.flat_map(|written| written.expect("a customer's task")).collect()
    }
}
