//! A session on a bus of three nodes, whose leader dies, and on one behind TLS, which dies as well.

use crate::cluster::Cluster;
use crate::nats_security::authority::Authority;
use crate::nats_security::{text, tls_config};
use crate::session_on_bus::{linked, plan, said};
use crate::support::{Customer, Role, Setup, Stage, warning};

/// The leader of the stream of sessions is killed, then the edge; another edge goes on with what the other two nodes have.
#[tokio::test]
async fn a_session_on_three_nodes_survives_its_leader_and_then_its_edge() {
    let mut stage = plan().setting("SESSION_UNSAFE_SYNC", "off").setting("NATS_REPLICAS", "3").set().await;
    may_have(&stage);
    let mut cluster = Cluster::start(stage.dir()).await;
    stage.set("NATS_URL", &cluster.url());
    let (mut first, _forwarder) = linked(&stage).await;
    let customer = stage.customer().await;
    said(&customer, "uno", 1).await;
    cluster.aim_at("WA_SESSION").await;
    cluster.kill();
    said(&customer, "dos", 2).await;
    first.process.kill();
    let mut second = stage.start_with(Role::Edge, &[("WITHOUT_GUARD", "lease-term")]).await;
    second.ready().await;
    said(&customer, "tres", 3).await;
    cluster.restore();
    said(&customer, "cuatro", 4).await;
    shown_once_and_read_at_once(&stage, &customer, &["uno", "dos", "tres", "cuatro"]).await;
}

#[tokio::test]
async fn a_session_behind_tls_survives_its_server_and_then_its_edge() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = Authority::new(dir.path(), "ours");
    let config = dir.path().join("nats-server.conf");
    std::fs::write(&config, tls_config(&ours, "verify: true")).expect("a configuration");
    let [certificate, key] = ours.sign("client");
    let tls = Some([ours.ca(), certificate.clone(), key.clone()]);
    let setup = Setup { config: Some(config), tls, ..Setup::default() };
    let plan = plan()
        .nats(setup)
        .setting("NATS_CA", &text(&ours.ca()))
        .setting("NATS_CERT", &text(&certificate))
        .setting("NATS_KEY", &text(&key));
    let mut stage = plan.set().await;
    may_have(&stage);
    let (mut first, _forwarder) = linked(&stage).await;
    let customer = stage.customer().await;
    said(&customer, "uno", 1).await;
    stage.nats.kill();
    stage.nats.restart().await;
    said(&customer, "dos", 2).await;
    first.process.kill();
    let mut second = stage.start_with(Role::Edge, &[("WITHOUT_GUARD", "lease-term")]).await;
    second.ready().await;
    said(&customer, "tres", 3).await;
    shown_once_and_read_at_once(&stage, &customer, &["uno", "dos", "tres"]).await;
}

fn may_have(stage: &Stage) {
    stage.logs.may_have_an_outage_of_the_bus();
    stage.logs.may_have(warning::SENT_AGAIN);
}

async fn shown_once_and_read_at_once(stage: &Stage, customer: &Customer, texts: &[&str]) {
    let inbox = customer.inbox().await;
    // One that was under way when the edge died comes again, under the same id.
    let shown: Vec<_> = inbox.iter().map(|one| one.text.clone()).collect();
    let want: Vec<_> = texts.iter().map(|text| format!("eco: {text}")).collect();
    assert_eq!(shown, want);
    let counters = async |name: &str| stage.simulator.counter(name).await;
    assert_eq!((counters("undecryptable").await, counters("retry_requests").await), (0, 0));
}
