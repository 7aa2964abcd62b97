//! An assistant that remembers the last text of a conversation, and neither each answer nor what it offered: what that
//! costs, and how the live service beside a shadow is kept from paying for it.

use std::time::Duration;

use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{Layout, PATIENCE, Role, Stage, warning};

const FORGETFUL: (&str, &str) = ("ASSISTANT_MODE", "forgetful");
const MENU: &str = "¿Qué querés hacer?";

#[tokio::test]
async fn a_menu_becomes_bare_text_after_a_crash_between_call_and_outcome() {
    let stage = Stage::plan().backend(FORGETFUL.0, FORGETFUL.1).set().await;
    let mut product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customer = stage.customer().await;
    let doomed = [("CRASH_AT", "forwarder.after-call")];
    let mut dying = stage.start_with(Role::Forwarder, &doomed).await;
    dying.ready().await;

    let crashed = customer.write("El menú, por favor").await;
    dying.process.end_by_kill(PATIENCE).await;
    product.forwarders.push(stage.start(Role::Forwarder).await);
    customer.receives(1).await;
    let whole = customer.write("Otra vez el menú").await;
    customer.receives(2).await;

    let answered = |id: String, answer: &str| Written {
        phone: customer.phone().to_owned(),
        id,
        answer: Some(answer.to_owned()),
    };
    let options = format!("{MENU}\n\n1. Reservar\n2. Cancelar");
    let written = [answered(crashed, MENU), answered(whole, &options)];
    stage.evidence(2, [&customer]).await.assert_kept(&written);
}

#[tokio::test]
async fn in_shadow_the_live_service_asks_first_and_gets_the_menu() {
    let stage = Stage::plan()
        .backend(FORGETFUL.0, FORGETFUL.1)
        .setting("BACKEND_MODE", "shadow")
        .setting("SHADOW_DELAY", "10s")
        .set()
        .await;
    stage.logs.expects(warning::SHADOW);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;

    let id = customer.write("El menú, por favor").await;
    streams.received(1).await;
    let live = stage.backend.ask(&id, customer.phone(), "El menú, por favor").await;

    assert_eq!(
        live["buttons"],
        serde_json::json!(["Reservar", "Cancelar"]),
        "the shadow asked first: {live}"
    );
    let written = [Written::unanswered(customer.phone(), id)];
    let evidence = stage.evidence(1, [&customer]).await;
    assert_eq!(evidence.calls.len(), 2, "and the shadow asks too");
    evidence.assert_kept(&written);
    match evidence.outcomes[0].outcome().result {
        Some(Ending::None(none)) => {
            let would_be = none.would_be.expect("what would have been the answer");
            assert_eq!((would_be.text.as_str(), would_be.interactive), (MENU, None));
        }
        other => panic!("{other:?}"),
    }
}

/// One call at a time, and six chats: if one that waits held the call, they would wait one after the other.
#[tokio::test]
async fn who_lets_the_live_service_ask_first_keeps_nobody_from_asking() {
    let delay = Duration::from_secs(4);
    let stage = Stage::plan()
        .setting("BACKEND_MODE", "shadow")
        .setting("SHADOW_DELAY", "4s")
        .setting("BACKEND_CONCURRENCY", "1")
        .set()
        .await;
    stage.logs.expects(warning::SHADOW);
    let _product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911444", 6).await;

    let watch = Watch::start();
    for customer in &customers {
        customer.write("hola").await;
        customer.write("¿hola?").await;
    }
    let streams = stage.streams().await;
    streams.decided(12).await;
    watch.within(3 * delay, "that twelve messages wait at the same time").await;

    let messages = streams.messages().await;
    for call in stage.backend.calls().await {
        let id = call.message_id.as_deref().expect("an id");
        let stored = messages.iter().find(|entry| entry.inbound().message_id == id).expect("its message");
        let waited = call.started_at - stored.stored_at;
        assert!(waited > delay.as_secs_f64() - 0.1, "asked after {waited} s");
    }
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_the_live_service_and_loses_nothing() {
    let stage = Stage::plan().setting("BACKEND_MODE", "shadow").set().await;
    stage.logs.expects(warning::SHADOW);
    let mut product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customer = stage.customer().await;
    let mut patient = stage.start_with(Role::Forwarder, &[("SHADOW_DELAY", "1h")]).await;
    patient.ready().await;
    let id = customer.write("hola").await;
    let streams = stage.streams().await;
    streams.received(1).await;
    streams.in_the_forwarders_hand(1).await;

    let watch = Watch::start();
    patient.stop().await;
    watch.within(Duration::from_secs(5), "a stop").await;

    assert!(stage.backend.calls().await.is_empty());
    product.forwarders.push(stage.start(Role::Forwarder).await);
    let evidence = stage.evidence(1, [&customer]).await;
    evidence.assert_kept(&[Written::unanswered(customer.phone(), id)]);
    assert_eq!(evidence.calls.len(), 1);
}
