//! An edge without a disk: its session is on the bus, and any other edge goes on with it.

use crate::support::oracle::{Written, write_each};
use crate::support::{Connector, Customer, PATIENCE, Plan, Role, Stage, eventually, warning};

/// A key of tests: 32 times 7.
pub const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Another one.
const OTHER: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";

/// Edges keep their session on the bus. What a file would be in cannot be made.
pub fn plan() -> Plan {
    Stage::plan()
        .setting("SESSION_STORE", "nats")
        .setting("SESSION_KEY", KEY)
        .setting("SESSION_UNSAFE_SYNC", "on")
        .setting("WHATSAPP_AUTH_DIR", "/proc/nowhere")
}

/// A linked edge, and a forwarder.
pub async fn linked(stage: &Stage) -> (Connector, Connector) {
    let mut edge = stage.start(Role::Edge).await;
    let forwarder = stage.start(Role::Forwarder).await;
    edge.link(&stage.simulator).await;
    (edge, forwarder)
}

pub async fn said(customer: &Customer, text: &str, answers: usize) -> Written {
    let id = customer.write(text).await;
    customer.receives(answers).await;
    Written::echoed(customer.phone(), id, text)
}

/// In the middle of traffic, again and again; the bus, too.
#[tokio::test]
async fn edges_and_the_bus_are_killed_in_the_middle_of_traffic_and_nothing_is_lost() {
    let mut stage = plan().set().await;
    stage.logs.expects_an_outage_of_the_bus();
    stage.logs.may_have_broken_traffic();
    let (mut edge, _forwarder) = linked(&stage).await;
    let customers = stage.customers("54911777", 6).await;
    let mut written = Vec::new();
    for round in 0..2 {
        for number in [2 * round, 2 * round + 1] {
            written.extend(write_each(&customers, number).await);
        }
        if round == 0 {
            stage.nats.kill();
            stage.nats.restart().await;
            edge.ready().await;
        } else {
            edge.process.kill();
            edge = stage.start(Role::Edge).await;
            edge.ready().await;
        }
    }
    stage.streams().await.decided(written.len()).await;
    stage.evidence(written.len(), &customers).await.assert_kept(&written);
}

/// Whoever does not have the key must not take the account for one that is not linked.
#[tokio::test]
async fn a_session_that_cannot_be_decrypted_is_no_number_that_is_not_linked() {
    let stage = plan().set().await;
    stage.logs.expects("the session cannot be taken over from the bus; trying again");
    let (first, _forwarder) = linked(&stage).await;
    first.stop().await;
    let wrong = stage.start_with(Role::Edge, &[("SESSION_KEY", OTHER)]).await;
    eventually("word of the key", PATIENCE, async || {
        let log = wrong.process.stderr();
        if log.contains("a key that SESSION_KEY does not have") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(wrong.link_state().await["qr"].is_null(), "nobody is asked to link again");
    wrong.stop().await;
    // A new key that encrypts, beside the old one.
    let both = format!("{OTHER},{KEY}");
    let mut rotated = stage.start_with(Role::Edge, &[("SESSION_KEY", &both)]).await;
    rotated.ready().await;
    let customer = stage.customer().await;
    let written = [said(&customer, "hola", 1).await];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
}

/// One replica may lose what it has acknowledged, and that would be keys that are used twice.
#[tokio::test]
async fn one_replica_is_refused_unless_the_operator_says_so() {
    let stage = plan().setting("SESSION_UNSAFE_SYNC", "off").set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);
    let mut settings = stage.settings().clone();
    settings.remove("HTTP_TOKEN");
    let mut edge = crate::support::spawn(Role::Edge, &settings, stage.dir());
    let status = edge.end(PATIENCE).await;
    assert_eq!(status.code(), Some(78));
    let log = edge.stderr();
    assert!(log.contains("WA_SESSION has one replica") && log.contains("SESSION_UNSAFE_SYNC"), "{log}");
}

/// The stream is another one than before. The lease remembers that the number is linked, so it is not taken for a new one.
#[tokio::test]
async fn a_session_whose_stream_was_removed_is_no_number_that_is_not_linked() {
    let stage = plan().set().await;
    stage.logs.expects("the session cannot be taken over from the bus; trying again");
    let (first, _forwarder) = linked(&stage).await;
    let customer = stage.customer().await;
    said(&customer, "uno", 1).await;
    first.stop().await;
    let streams = stage.streams().await;
    streams.jetstream().delete_stream("WA_SESSION").await.expect("it is removed");
    let mut second = stage.start(Role::Edge).await;
    eventually("word of the stream", PATIENCE, async || {
        let log = second.process.stderr();
        if log.contains("is gone from the bus: the stream WA_SESSION was removed") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    second.not_ready("standby").await;
    assert!(second.link_state().await["qr"].is_null(), "nobody is asked to link again");
    // What the error names.
    let leases = streams.jetstream().get_key_value("WA_LEASES").await.expect("the bucket of leases");
    eventually("the lease to be free of it", PATIENCE, async || {
        // The edge has the lease for a moment, again and again, and writes it as it was.
        leases.delete("default").await.map_err(|error| error.to_string())?;
        if second.link_state().await["qr"].is_string() { Ok(()) } else { Err("no code yet".to_owned()) }
    })
    .await;
    second.link(&stage.simulator).await;
}
