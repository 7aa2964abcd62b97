//! Linking a number whose account has a passkey: WhatsApp wants it shown before it links anything.

use serde_json::{Value, json};

use crate::support::{Connector, PATIENCE, PROTECTED, Role, Stage, eventually, http_client, spawn_command};

const TOKEN: &str = "a-token-of-the-tests";
/// What the edge says when it is asked for the passkey.
const WANTED: &str = "WhatsApp wants to see the account's passkey";

/// The edge of a number that is not linked, and whose account has a passkey.
async fn unlinked() -> (Stage, Connector) {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    stage.logs.expects(WANTED);
    stage.simulator.protect().await;
    let edge = stage.start(Role::Edge).await;
    (stage, edge)
}

/// What a script does on the page: the status, and the answer.
async fn does(edge: &Connector, what: &str, answer: &str) -> (u16, Value) {
    let escaped: String = answer.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request = http_client().post(format!("http://{}/console/passkey", edge.address())).bearer_auth(TOKEN);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let told = request.body(format!("do={what}&answer={escaped}")).send().await.expect("an answer");
    (told.status().as_u16(), told.json().await.expect("JSON"))
}

/// The link, as soon as it is in this state.
async fn in_state(edge: &Connector, state: &str) -> Value {
    eventually(format!("the state {state}"), PATIENCE, async || {
        let link = edge.link_state().await;
        if link["state"] == state { Ok(link) } else { Err(link["state"].to_string()) }
    })
    .await
}

/// The phone scans the code that the edge shows; what WhatsApp wants then.
async fn asked(stage: &Stage, edge: &Connector) -> String {
    eventually("a scan", PATIENCE, async || {
        let link = edge.link_state().await;
        let qr = link["qr"].as_str().ok_or_else(|| link.to_string())?;
        stage.simulator.protected_scan(qr).await
    })
    .await;
    let link = in_state(edge, "passkey-required").await;
    assert!(link["expires_in_s"].as_u64().is_some_and(|left| (540..=600).contains(&left)), "{link}");
    link["passkey"].as_str().expect("the options").to_owned()
}

/// The rest of the way, from the answer on.
async fn goes_on(stage: &Stage, edge: &mut Connector, options: &str) {
    let answer = stage.simulator.passkey_answers(options).await;
    assert_eq!(does(edge, "answer", &answer).await, (200, json!({"done": "passkey-sent"})));
    let link = in_state(edge, "passkey-confirm").await;
    let shown = stage.simulator.passkey_code().await;
    assert_eq!(link["code"].as_str(), shown.as_deref(), "the phone shows the same");
    assert_eq!(stage.simulator.protected_devices().await, 0);
    assert_eq!(does(edge, "confirm", "").await, (200, json!({"done": "passkey-confirmed"})));
    edge.ready().await;
    assert_eq!(edge.link_state().await["phone"], PROTECTED);
    assert_eq!(stage.simulator.protected_devices().await, 1);
}

#[tokio::test]
async fn a_number_with_a_passkey_is_linked_once_a_browser_has_answered_and_the_codes_are_the_same() {
    let (stage, mut edge) = unlinked().await;
    edge.shows_a_code().await;
    assert_eq!(does(&edge, "answer", "{}").await.1["code"], "no-passkey");
    let options = asked(&stage, &edge).await;
    let page = http_client().get(format!("http://{}/", edge.address())).bearer_auth(TOKEN);
    let page = page.send().await.expect("a page").text().await.expect("text");
    assert!(
        page.contains("navigator.credentials.get") && page.contains("https://web.whatsapp.com"),
        "{page}"
    );
    let mut status = spawn_command(&["status"], stage.settings(), stage.dir());
    assert_eq!(status.end(PATIENCE).await.code(), Some(1), "a person has to act");
    let report = status.stdout();
    assert!(report.contains("passkey-required") && report.contains("use-passkey"), "{report}");
    let challenge: Value = serde_json::from_str(&options).expect("JSON");
    let challenge = challenge["challenge"].as_str().expect("a challenge").to_owned();

    goes_on(&stage, &mut edge, &options).await;

    let log = edge.process.stderr();
    assert!(!log.contains(&challenge), "what WhatsApp wants signed is nobody else's business: {log}");
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart_from_what_whatsapp_refuses_and_both_can_be_done_again() {
    let (stage, mut edge) = unlinked().await;
    stage.logs.expects("WhatsApp does not accept the passkey's answer");
    let options = asked(&stage, &edge).await;
    for nonsense in ["", "hello", "{\"id\":\"AQI\"}", &"x".repeat(1_000)] {
        let (status, told) = does(&edge, "answer", nonsense).await;
        assert_eq!((status, &told["code"]), (409, &json!("not-an-answer")), "{told}");
    }
    let mut other: Value = serde_json::from_str(&options).expect("JSON");
    other["challenge"] = json!("YW5vdGhlcg");
    let late = stage.simulator.passkey_answers(&other.to_string()).await;
    let (status, told) = does(&edge, "answer", &late).await;
    assert_eq!((status, &told["code"]), (409, &json!("passkey-refused")), "{told}");
    assert_eq!(does(&edge, "confirm", "").await.1["code"], "no-passkey");

    goes_on(&stage, &mut edge, &options).await;
}

/// A person gives up, the connection breaks, or the edge dies: a new code comes, and nothing is left of the old one.
#[tokio::test]
async fn what_came_to_nothing_begins_anew_with_the_next_code() {
    let (mut stage, edge) = unlinked().await;
    stage.logs.may_have("WhatsApp cannot be reached");
    let first = asked(&stage, &edge).await;
    assert_eq!(does(&edge, "give-up", "").await, (200, json!({"done": "passkey-given-up"})));
    let second = asked(&stage, &edge).await;
    assert_ne!(first, second);
    stage.simulator.stop().await;
    stage.simulator.restart().await;
    let third = asked(&stage, &edge).await;
    assert_ne!(second, third);
    let answer = stage.simulator.passkey_answers(&third).await;
    does(&edge, "answer", &answer).await;
    in_state(&edge, "passkey-confirm").await;
    let mut edge = edge;
    edge.process.kill();
    let mut edge = stage.start(Role::Edge).await;
    let fourth = asked(&stage, &edge).await;
    goes_on(&stage, &mut edge, &fourth).await;
}

/// The client library ends a connection whose QR codes have run out. WhatsApp shows one for a minute here.
#[tokio::test]
async fn a_person_has_more_time_for_the_passkey_than_the_codes_last() {
    let (stage, mut edge) = unlinked_with_one_code(&[]).await;
    let options = asked(&stage, &edge).await;
    let began = std::time::Instant::now();
    eventually("the code to be over", PATIENCE * 2, async || {
        if began.elapsed().as_secs() > 63 { Ok(()) } else { Err(in_short(&edge).await) }
    })
    .await;
    goes_on(&stage, &mut edge, &options).await;
}

/// The control.
#[tokio::test]
async fn without_that_time_the_passkey_ends_with_the_codes() {
    let (stage, edge) = unlinked_with_one_code(&[("WITHOUT_GUARD", "passkey-pace")]).await;
    asked(&stage, &edge).await;
    eventually("the end of it", PATIENCE * 2, async || {
        let state = in_short(&edge).await;
        if state == "passkey-required" { Err(state) } else { Ok(()) }
    })
    .await;
}

async fn unlinked_with_one_code(settings: &[(&str, &str)]) -> (Stage, Connector) {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    stage.logs.expects(WANTED);
    stage.simulator.protect().await;
    stage.simulator.fault_as(json!({"kind": "few_codes", "code": 1})).await;
    let edge = stage.start_with(Role::Edge, settings).await;
    (stage, edge)
}

async fn in_short(edge: &Connector) -> String {
    edge.link_state().await["state"].as_str().unwrap_or_default().to_owned()
}
