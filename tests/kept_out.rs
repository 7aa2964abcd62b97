//! A number that WhatsApp keeps out for a while is left alone, and its operator is told what to do.

use serde_json::json;
use whatsapp_connector::wire::v1::{SessionAction, SessionState};

use crate::support::{BUSINESS, Connector, Layout, PATIENCE, Role, Stage, eventually};

async fn is_in_state(edge: &Connector, code: &str) -> serde_json::Value {
    eventually(format!("the link to be {code}"), PATIENCE, async || {
        let link = edge.link_state().await;
        if link["state"] == code { Ok(link) } else { Err(link.to_string()) }
    })
    .await
}

/// WhatsApp's word of the account, told once; nobody else may read it.
const APPEAL: &str = "A1B2-once-only-C3D4";

#[tokio::test]
async fn a_locked_account_is_left_alone_and_needs_no_new_link() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("WhatsApp has locked this account");
    stage.logs.may_have_broken_traffic();
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let lock = json!({
        "kind": "refuse_login", "account": BUSINESS, "code": 403,
        "attributes": {"appeal_token": APPEAL, "violation_reason": "7"},
    });
    stage.simulator.fault_as(lock).await;
    stage.simulator.fault("drop_connection", None).await;

    let link = is_in_state(&product.edge, "locked").await;
    let detail = link["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("on the phone") && link["qr"].is_null(), "{link}");
    let event = eventually("a session event", PATIENCE, async || {
        let events = stage.streams().await.session_events().await;
        events.into_iter().find(|event| event.code == "locked").ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!((event.state(), event.action()), (SessionState::Locked, SessionAction::OpenPhone));
    assert_eq!(event.detail, detail);
    assert!(!product.edge.process.stderr().contains(APPEAL), "the log has WhatsApp's one-time token");

    // A restart is no reason to try again.
    let connects = stage.simulator.counter("connects").await;
    product.edge.stop().await;
    let edge = stage.start(Role::Edge).await;
    is_in_state(&edge, "locked").await;
    assert_eq!(stage.simulator.counter("connects").await, connects, "it tried to log in");
    edge.stop().await;

    // The person has unlocked the account: the session is as it was.
    stage.simulator.no_faults().await;
    std::fs::remove_file(stage.dir().join("auth/default.kept-out")).expect("what it remembers");
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.receives(1).await;
}

#[tokio::test]
async fn a_ban_says_why_and_until_when() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("WhatsApp has banned this number");
    stage.logs.may_have_broken_traffic();
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let ban = json!({
        "kind": "refuse_login", "account": BUSINESS, "code": 402,
        "attributes": {"code": "101", "expire": "7200"},
    });
    stage.simulator.fault_as(ban).await;
    stage.simulator.fault("drop_connection", None).await;

    let link = is_in_state(&product.edge, "banned").await;
    let detail = link["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("address books") && detail.contains("until 20"), "{detail}");
    let event = eventually("a session event", PATIENCE, async || {
        let events = stage.streams().await.session_events().await;
        events.into_iter().find(|event| event.code == "banned").ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!(event.detail, detail);
    let connects = stage.simulator.counter("connects").await;
    product.edge.stop().await;
    let edge = stage.start(Role::Edge).await;
    let link = is_in_state(&edge, "banned").await;
    assert_eq!(link["detail"].as_str(), Some(detail.as_str()), "the end has not moved");
    assert_eq!(stage.simulator.counter("connects").await, connects, "it tried to log in");
}

/// What WhatsApp refuses a client for, other than the account.
#[tokio::test]
async fn a_client_that_whatsapp_does_not_want_says_upgrade() {
    for code in [405, 409] {
        let stage = Stage::plan().set().await;
        stage.logs.expects("upgrade the connector");
        stage.logs.may_have_broken_traffic();
        let product = stage.product(Layout::Split { forwarders: 1 }).await;
        let refusal = json!({"kind": "refuse_login", "account": BUSINESS, "code": code});
        stage.simulator.fault_as(refusal).await;
        stage.simulator.fault("drop_connection", None).await;
        is_in_state(&product.edge, "outdated").await;
    }
}
