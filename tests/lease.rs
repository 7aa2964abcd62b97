//! Of all edges of an account one is connected to WhatsApp; the others wait for its lease.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{Connector, Layout, Role, Stage, eventually};

#[tokio::test]
async fn a_standby_edge_takes_over_at_once_when_the_first_one_stops() {
    let (stage, first, second) = two_edges().await;
    first.stop().await;
    let free = Watch::start();
    takes_over(&stage, second, free, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_standby_edge_takes_over_when_the_first_one_is_killed() {
    let (stage, mut first, second) = two_edges().await;
    let last_heard_of = Watch::start();
    first.process.kill();
    takes_over(&stage, second, last_heard_of, Duration::from_secs(40)).await;
}

#[tokio::test]
async fn an_edge_that_was_killed_need_not_wait_for_its_own_lease() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::OneProcess).await;
    product.edge.process.kill();
    let killed = Watch::start();
    let mut again = stage.start(Role::Run).await;
    again.ready().await;
    killed.within(Duration::from_secs(10), "to be online again").await;
}

/// Another one may take the lease 30 s after it was renewed last. Without a connection to NATS each try fails at once:
/// that is no answer either.
#[tokio::test]
async fn an_edge_without_nats_leaves_whatsapp_before_another_one_may_come() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects_an_outage_of_the_bus();
    stage.logs.expects("the lease cannot be renewed");
    let mut product = stage.product(Layout::OneProcess).await;
    assert!(stage.simulator.somebody_is_online().await);
    stage.nats.kill();
    let away = Watch::start();
    eventually("the edge to leave WhatsApp", Duration::from_secs(60), async || {
        if stage.simulator.somebody_is_online().await { Err("it is online".to_owned()) } else { Ok(()) }
    })
    .await;
    away.within(Duration::from_secs(20), "to leave").await;
    stage.nats.restart().await;
    product.edge.ready().await;
}

/// A linked edge, and another one with a copy of its session.
async fn two_edges() -> (Stage, Connector, Connector) {
    two_edges_on(Stage::plan().set().await).await
}

/// The same on this stage.
pub async fn two_edges_on(stage: Stage) -> (Stage, Connector, Connector) {
    let product = stage.product(Layout::OneProcess).await;
    // Copied while nobody writes to it.
    product.edge.stop().await;
    let copy = stage.dir().join("auth-copy");
    copy_dir(Path::new(&stage.settings()["WHATSAPP_AUTH_DIR"]), &copy);
    let mut first = stage.start(Role::Run).await;
    first.ready().await;
    let copy = copy.display().to_string();
    let second = stage.start_with(Role::Run, &[("WHATSAPP_AUTH_DIR", &copy)]).await;
    second.not_ready("standby").await;
    first.ready().await;
    (stage, first, second)
}

async fn takes_over(stage: &Stage, mut second: Connector, since: Watch, promised: Duration) {
    second.ready().await;
    since.within(promised, "the takeover").await;
    let customer = stage.customer().await;
    let id = customer.write("¿seguís ahí?").await;
    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "¿seguís ahí?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::DirBuilder::new().mode(0o700).create(to).expect("a directory for the copy");
    for entry in std::fs::read_dir(from).expect("the session's directory") {
        let entry = entry.expect("an entry of it");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy of it");
    }
}
