//! A backend that refuses everything is held: nothing is lost or dead-lettered, readiness says why, and
//! once it is put right the waiting message is answered.

use crate::support::oracle::Written;
use crate::support::{Layout, PATIENCE, Role, Stage, eventually, warning};

const KEYS: &str = "AI_ASSISTANTS_API_KEYS";
const SECRET: &str = "WHATSAPP_WEBHOOK_SECRET";

#[tokio::test]
async fn a_wrong_api_key_holds_the_message_until_the_key_is_right() {
    let stage = Stage::plan().backend(KEYS, "shop:right").setting("API_KEY", "wrong").set().await;
    held_until(stage, ("API_KEY", "right")).await;
}

#[tokio::test]
async fn a_missing_api_key_holds_the_message_until_there_is_one() {
    let stage = Stage::plan().backend(KEYS, "shop:right").set().await;
    held_until(stage, ("API_KEY", "right")).await;
}

#[tokio::test]
async fn different_webhook_secrets_hold_the_message_until_they_agree() {
    let stage = Stage::plan().backend(SECRET, "one").setting(SECRET, "another").set().await;
    held_until(stage, (SECRET, "one")).await;
}

#[tokio::test]
async fn with_the_same_secret_on_both_sides_the_signature_is_accepted() {
    let stage = Stage::plan().backend(SECRET, "one").setting(SECRET, "one").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let id = customer.write("firmado").await;

    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "firmado")];
    let evidence = stage.evidence(1, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls.len(), 1, "accepted at once: {:?}", evidence.calls);
}

/// With nothing wrong but a backend that is away for a while, no restart is needed.
#[tokio::test]
async fn a_backend_that_is_away_is_waited_for() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects(&warning::held("unreachable"));
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    stage.backend.kill();

    let id = customer.write("¿hay alguien?").await;
    product.edge.not_ready("unreachable").await;
    assert_nothing_decided(&stage).await;
    stage.backend.restart().await;

    customer.receives(1).await;
    let written = [Written::echoed(customer.phone(), id, "¿hay alguien?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
    product.edge.ready().await;
}

/// The backend answers 401 to everything until `right` is set, and the product is started again.
async fn held_until(mut stage: Stage, right: (&str, &str)) {
    stage.logs.expects(&warning::held("http-401"));
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let id = customer.write("¿me escuchan?").await;
    product.edge.not_ready("http-401").await;
    // It goes on asking: held is not given up.
    eventually("a second call that is refused", PATIENCE, async || {
        let calls = stage.backend.calls().await;
        let refused = calls.iter().filter(|call| call.status == Some(401)).count();
        if refused >= 2 { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
    product.edge.not_ready("http-401").await;
    assert_nothing_decided(&stage).await;
    product.edge.stop().await;

    stage.set(right.0, right.1);
    let mut again = stage.start(Role::Run).await;
    customer.receives(1).await;
    again.ready().await;
    let written = [Written::echoed(customer.phone(), id, "¿me escuchan?")];
    stage.evidence(1, [&customer]).await.assert_kept(&written);
    assert_eq!(stage.streams().await.dead_letters().await.len(), 0);
}

async fn assert_nothing_decided(stage: &Stage) {
    let streams = stage.streams().await;
    streams.received(1).await;
    assert_eq!(streams.dead_letters().await.len(), 0, "nothing is wrong with the message");
    assert_eq!(streams.outcomes().await.len(), 0, "nobody has answered it");
}
