//! In order per chat, chats independent of each other, nothing lost, one answer each: fifty customers
//! write at once, to one process and to several.

use tokio::sync::Semaphore;

use crate::support::oracle::{Evidence, Written, write_each};
use crate::support::{Customer, GATE, Layout, Stage};

const CUSTOMERS: usize = 50;
const MESSAGES: usize = 3;

/// These are the heaviest tests; one at a time is enough for any machine.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

#[tokio::test]
async fn fifty_customers_at_once_in_one_process() {
    let (evidence, written) = fifty_customers(Layout::OneProcess, &[]).await;
    evidence.assert_kept(&written);
}

#[tokio::test]
async fn fifty_customers_at_once_with_two_forwarders() {
    let (evidence, written) = fifty_customers(Layout::Split { forwarders: 2 }, &[]).await;
    evidence.assert_kept(&written);
}

/// The control: if the chain's check is taken out, the same scenario must be seen to fail. A test that
/// cannot fail proves nothing.
#[tokio::test]
async fn without_the_chains_check_the_same_scenario_is_seen_to_fail() {
    let without = [("WITHOUT_GUARD", "chain")];
    let (evidence, written) = fifty_customers(Layout::Split { forwarders: 2 }, &without).await;
    let broken = evidence.violations(&written);
    let out_of_turn = broken.iter().filter(|line| line.contains("out of turn")).count();
    assert!(
        out_of_turn > 0,
        "nothing was out of turn without the check, so the test above shows nothing: {broken:?}"
    );
}

/// There is no order across chats to wait for: the calls of all are under way at the same time.
#[tokio::test]
async fn chats_do_not_wait_for_each_other() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911444", 5).await;

    let written = write_each(&customers, 1).await;
    // The assistant answers nobody until it has been asked by all.
    stage.backend.under_way(customers.len()).await;
    stage.backend.open().await;

    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// Fifty customers write three messages each, all at once; ends when nothing more can happen.
async fn fifty_customers(layout: Layout, settings: &[(&str, &str)]) -> (Evidence, Vec<Written>) {
    let _turn = ONE_AT_A_TIME.acquire().await;
    // As many calls at once as there are messages, from the first on: the more, the more there is to keep in order.
    let plan = Stage::plan().backend("BACKEND_DELAY_MS", "0-300").setting("BACKEND_CONCURRENCY", "100000");
    let plan = settings.iter().fold(plan, |plan, (name, value)| plan.setting(name, value));
    let mut stage = plan.set().await;
    let _product = stage.product(layout).await;
    let customers = stage.customers("54911222", CUSTOMERS).await;

    // The assistant thinks until all have written: every message then has to wait for those before it.
    stage.backend.freeze();
    let written = futures::future::join_all(customers.iter().map(write)).await.concat();
    stage.streams().await.received(CUSTOMERS * MESSAGES).await;
    stage.backend.thaw();

    let evidence = stage.evidence(CUSTOMERS * MESSAGES, &customers).await;
    let chances = evidence.chances_to_overtake();
    assert_eq!(chances, CUSTOMERS * (MESSAGES - 1), "there was less order to keep than this test needs");
    (evidence, written)
}

/// One customer's messages, each written as soon as the one before it is on its way.
async fn write(customer: &Customer) -> Vec<Written> {
    let mut written = Vec::new();
    for number in 1..=MESSAGES {
        let text = format!("{number} de {}", customer.phone());
        let id = customer.write(&text).await;
        written.push(Written::echoed(customer.phone(), id, &text));
    }
    written
}
