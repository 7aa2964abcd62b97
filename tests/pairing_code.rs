//! Linking with a phone number: a code lives as long as WhatsApp says, and what is refused says why.

use serde_json::json;

use crate::support::{BUSINESS, PATIENCE, Role, Stage, eventually};

/// What a person reads.
const CODE: &str = "Pair code for WhatsApp";

/// The QR codes run out before the pairing code does.
#[tokio::test]
async fn a_pairing_code_outlives_the_qr_codes() {
    let stage = Stage::plan().setting("WHATSAPP_PAIR_PHONE", BUSINESS).set().await;
    stage.simulator.fault_as(json!({"kind": "few_codes", "code": 1})).await;
    let mut edge = stage.start(Role::Edge).await;
    let said = eventually("a pairing code", PATIENCE, async || {
        let out = edge.process.stdout();
        let line = out.lines().find(|line| line.contains(CODE)).map(str::to_owned);
        line.ok_or_else(|| "none".to_owned())
    })
    .await;
    assert!(said.contains("valid until"), "{said}");
    let code = said.split(": ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a code");
    let code = code.trim_end_matches([',', ';', '.']).to_owned();
    eventually("the QR codes to run out", PATIENCE, async || {
        let log = edge.process.stderr();
        if log.contains("All QR codes for this session have expired") {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    stage.simulator.type_code(&code).await.expect("a code that is valid");
    edge.ready().await;
}

#[tokio::test]
async fn a_refused_pairing_code_says_why_and_when_the_next_one_comes() {
    let stage = Stage::plan().setting("WHATSAPP_PAIR_PHONE", BUSINESS).set().await;
    stage.logs.expects("WhatsApp gives no pairing code");
    let refusal = json!({"kind": "refuse_pair_code", "code": 429, "attributes": {"backoff": "1200"}});
    stage.simulator.fault_as(refusal).await;
    let mut edge = stage.start(Role::Edge).await;
    let line = eventually("a word of the refusal", PATIENCE, async || {
        let log = edge.process.stderr();
        let line =
            log.lines().find(|line| line.contains("WhatsApp gives no pairing code")).map(str::to_owned);
        line.ok_or_else(|| "none".to_owned())
    })
    .await;
    assert!(line.contains("20m") && line.contains("too many"), "{line}");
    // The QR code works meanwhile.
    stage.simulator.no_faults().await;
    edge.link(&stage.simulator).await;
}
