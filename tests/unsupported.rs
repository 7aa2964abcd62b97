//! `UNSUPPORTED_TEXT`: who sends what cannot be read is told so, once an hour in each chat, whoever dies.

use serde_json::json;
use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::NoReplyReason;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::oracle::Written;
use crate::support::{Addressing, Customer, Layout, PATIENCE, Role, Stage, killed_at};

const TEXT: &str = "Por ahora solo leo texto.";

async fn stage() -> Stage {
    Stage::plan().setting("UNSUPPORTED_TEXT", TEXT).set().await
}

async fn sticker(customer: &Customer) -> String {
    customer.write_kind("sticker", "").await
}

#[tokio::test]
async fn a_burst_of_stickers_gets_one_text_and_words_get_their_answers() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let phone = customer.phone();
    let told = |id: String| Written { phone: phone.to_owned(), id, answer: Some(TEXT.to_owned()) };
    let mut written = vec![Written::echoed(phone, customer.write("hola").await, "hola")];
    written.push(told(sticker(&customer).await));
    for _ in 0..4 {
        written.push(Written::unanswered(phone, sticker(&customer).await));
    }
    written.push(Written::echoed(phone, customer.write("ah").await, "ah"));
    written.push(Written::unanswered(phone, customer.write_kind("location", "Casa").await));
    customer.receives(3).await;
    let evidence = stage.evidence(8, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls.len(), 2, "the backend is asked about texts only");
    let told_at: Vec<_> = evidence.outcomes.iter().map(|entry| entry.header(header::TOLD_AT)).collect();
    assert!(told_at[0].is_none() && told_at[1].is_some(), "{told_at:?}");
    assert!(told_at[2..].iter().all(|at| *at == told_at[1]), "each outcome takes it over: {told_at:?}");
}

/// Another person's hour is another one, and what nobody could have read is answered by nothing.
#[tokio::test]
async fn only_a_person_who_sent_something_in_a_chat_of_two_is_told() {
    let stage = Stage::plan()
        .setting("UNSUPPORTED_TEXT", TEXT)
        .setting("ALLOWED_NUMBERS", "5491112345678,5491112345679")
        .set()
        .await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let second = stage.simulator.customer("5491112345679", Addressing::Phone).await;
    let stranger = stage.simulator.customer("5491112345680", Addressing::Phone).await;
    sticker(&customer).await;
    sticker(&second).await;
    sticker(&stranger).await;
    customer.write_with(json!({"kind": "sticker", "through": "120363000000000778@g.us"})).await;
    customer.receives(1).await;
    second.receives(1).await;
    let id = stage.simulator.owner_writes(&stranger, "yo misma").await;
    customer.write_with(json!({"kind": "reaction", "about": id})).await;
    customer.write_with(json!({"kind": "sticker", "comes": "view_once"})).await;
    let streams = stage.streams().await;
    streams.updated(1).await;
    streams.settled(6).await;
    let outcomes = streams.outcomes().await;
    let texts = outcomes.iter().filter(|entry| matches!(entry.outcome().result, Some(Ending::Reply(_))));
    assert_eq!(texts.count(), 2);
    assert_eq!((customer.inbox().await.len(), second.inbox().await.len()), (1, 1));
    assert_eq!(stranger.inbox().await.iter().filter(|received| received.text == TEXT).count(), 0);
}

#[tokio::test]
async fn the_hour_is_on_the_bus_and_not_in_a_process() {
    let stage = stage().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    sticker(&customer).await;
    assert_eq!(customer.receives(1).await[0].text, TEXT);
    product.forwarders.remove(0).process.kill();
    let _successor = stage.start(Role::Forwarder).await;
    sticker(&customer).await;
    let streams = stage.streams().await;
    streams.settled(2).await;
    assert_eq!(customer.inbox().await.len(), 1);
    let outcomes = streams.outcomes().await;
    let Some(Ending::None(none)) = &outcomes[1].outcome().result else {
        panic!("{:?}", outcomes[1].outcome())
    };
    assert_eq!(none.reason(), NoReplyReason::NotText);
    // The control: when the chat's outcomes are gone, nobody knows of it.
    streams.purge_out(&format!("reply.{}", customer.phone())).await;
    sticker(&customer).await;
    customer.receives(2).await;
}

// A test for each point at which a forwarder can die over it.
killed_at! {
    killed_at;
    a_forwarder_killed_before_it_says_so_says_it_once: "forwarder.before-outcome";
    a_forwarder_killed_after_it_has_said_so_says_it_once: "forwarder.after-outcome";
    a_forwarder_killed_before_the_ack_says_it_once: "forwarder.before-ack";
}

async fn killed_at(point: &str) {
    let stage = stage().await;
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let mut dying = stage.start_with(Role::Forwarder, &[("CRASH_AT", point)]).await;
    let customer = stage.customer().await;
    for _ in 0..3 {
        sticker(&customer).await;
    }
    dying.process.end_by_kill(PATIENCE).await;
    let _successor = stage.start(Role::Forwarder).await;
    customer.receives(1).await;
    stage.streams().await.settled(3).await;
    let inbox = customer.inbox().await;
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    assert_eq!((inbox[0].text.as_str(), inbox[0].altered), (TEXT, 0));
    drop(product);
}

#[tokio::test]
async fn in_shadow_nobody_is_told() {
    let stage = Stage::plan().setting("UNSUPPORTED_TEXT", TEXT).setting("BACKEND_MODE", "shadow").set().await;
    stage.logs.expects(crate::support::warning::SHADOW);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    sticker(&customer).await;
    stage.streams().await.settled(1).await;
    assert_eq!(customer.inbox().await.len(), 0);
}
