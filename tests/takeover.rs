//! A person of the number writes in a chat: the assistant is silent there, and does not talk over them.

use serde_json::{Value, json};
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{
    ReceiptStatus, SendMessage, SendText, TakeoverCause, TakeoverState, outcome,
};
use whatsapp_connector::wire::{id, now_ms};

use crate::support::{
    Answer, Customer, GATE, Layout, PATIENCE, Product, Role, Stage, Streams, Unwell, eventually,
};

/// Why the messages got no answer, in their order; `reply` for those that got one.
async fn endings(streams: &Streams, count: usize) -> Vec<String> {
    streams.settled(count).await;
    let ending = |result: outcome::Result| match result {
        outcome::Result::None(none) => none.reason().as_str_name().replace("NO_REPLY_REASON_", ""),
        outcome::Result::Reply(_) => "reply".to_owned(),
        outcome::Result::Dead(_) => "dead".to_owned(),
    };
    let outcomes = streams.outcomes().await;
    outcomes.iter().filter_map(|entry| entry.outcome().result.map(ending)).collect()
}

fn texts(received: &[crate::support::Received]) -> Vec<&str> {
    received.iter().map(|one| one.text.as_str()).collect()
}

/// The one receipt of an answer that was held back.
async fn held_back(streams: &Streams, message: &str) {
    let receipt = eventually("the receipt of the answer", PATIENCE, async || {
        let failed = streams.receipts().await;
        let failed: Vec<_> = failed.into_iter().filter(|one| one.status() == ReceiptStatus::Failed).collect();
        match failed.as_slice() {
            [one] => Ok(one.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(receipt.reason, "human", "{receipt:?}");
    assert!(receipt.request_id.ends_with(&format!("/{message}/outcome")), "{receipt:?}");
    assert_eq!(receipt.message_ids, [id::whatsapp(&receipt.request_id)]);
}

#[tokio::test]
async fn a_person_who_writes_silences_the_assistant_in_that_chat_until_the_time_has_passed() {
    let stage = Stage::plan().setting("TAKEOVER", "6s").set().await;
    let _product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911801", 2).await;
    let [ana, leo] = customers.as_slice() else { panic!("two") };
    let streams = stage.streams().await;
    ana.write("hola").await;
    ana.receives(1).await;

    let own = stage.simulator.owner_writes(ana, "Sigo yo.").await;
    streams.received(2).await;
    ana.write("gracias").await;
    leo.write("¿abren hoy?").await;
    assert_eq!(texts(&leo.receives(1).await), ["eco: ¿abren hoy?"], "it is that chat's only");
    streams.settled(4).await;
    let messages = streams.messages().await;
    let typed = messages.iter().map(|entry| entry.inbound()).find(|message| message.from_me);
    assert_eq!(typed.map(|message| message.message_id), Some(own.clone()), "what was typed is on the bus");
    let takeovers = streams.takeovers().await;
    let [began] = takeovers.as_slice() else { panic!("{takeovers:?}") };
    assert_eq!((began.state(), began.cause()), (TakeoverState::Began, TakeoverCause::Person));
    assert_eq!((began.message_id.as_str(), began.chat.as_str()), (own.as_str(), ana.phone()));
    assert_eq!(began.until_ms - began.began_at_ms, 6_000);

    eventually("the takeover to be over", PATIENCE, async || {
        if now_ms() >= began.until_ms { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    ana.write("¿y mañana?").await;
    assert_eq!(texts(&ana.receives(3).await), ["eco: hola", "Sigo yo.", "eco: ¿y mañana?"]);
    let ended =
        eventually("word of its end", PATIENCE, async || match streams.takeovers().await.as_slice() {
            [_, ended] => Ok(ended.clone()),
            other => Err(format!("{other:?}")),
        })
        .await;
    assert_eq!((ended.state(), ended.cause()), (TakeoverState::Ended, TakeoverCause::Time));
    assert_eq!((ended.until_ms, ended.began_at_ms), (began.until_ms, began.began_at_ms));
    let mut endings = endings(&streams, 5).await;
    endings.sort();
    assert_eq!(endings, ["FROM_ME", "HUMAN", "reply", "reply", "reply"]);
    assert_eq!(stage.backend.calls().await.len(), 3);
}

/// The customer asks, the assistant works on it, the person answers, and then so does the assistant.
async fn raced(stage: &Stage, customer: &Customer) -> String {
    let asked = customer.write("¿hay mesa?").await;
    stage.backend.under_way(1).await;
    stage.simulator.owner_writes(customer, "Sí, te anoto.").await;
    asked
}

#[tokio::test]
async fn an_answer_that_was_on_its_way_when_the_person_wrote_is_not_sent() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting("TAKEOVER", "30m").set().await;
    let product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let asked = raced(&stage, &customer).await;
    streams.received(2).await;
    stage.backend.open().await;
    held_back(&streams, &asked).await;
    // What a service has sent goes out all the same.
    let content = Some(Content::Text(SendText { body: "Su pedido está listo.".to_owned(), options: None }));
    let request = SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() };
    assert!(!streams.send("aviso", &request).await);
    assert_eq!(texts(&customer.receives(2).await), ["Sí, te anoto.", "Su pedido está listo."]);
    let page = product.edge.metrics().await;
    assert!(page.contains("wa_undeliverable_total{reason=\"human\"} 1"), "{page}");
}

/// The control: it is the edge's look that holds it back.
#[tokio::test]
async fn without_the_look_before_the_send_the_same_answer_is_seen_to_be_sent() {
    let stage = Stage::plan()
        .backend(GATE.0, GATE.1)
        .setting("TAKEOVER", "30m")
        .setting("WITHOUT_GUARD", "takeover")
        .set()
        .await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    raced(&stage, &customer).await;
    streams.received(2).await;
    stage.backend.open().await;
    assert_eq!(texts(&customer.receives(2).await), ["Sí, te anoto.", "eco: ¿hay mesa?"]);
}

/// An edge that dies over what the person wrote; the answer is on the bus when the next one starts.
async fn killed_over_it(point: &str, stored: usize) {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting("TAKEOVER", "30m").set().await;
    let Product { edge, forwarders } = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let asked = customer.write("¿hay mesa?").await;
    stage.backend.under_way(1).await;
    edge.stop().await;
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", point)]).await;
    dying.ready().await;
    stage.simulator.owner_writes(&customer, "Sí, te anoto.").await;
    dying.process.end_by_kill(PATIENCE).await;
    assert_eq!(streams.takeovers().await.len(), stored, "it died somewhere else");
    stage.backend.open().await;
    streams.decided(1).await;

    let mut next = stage.start(Role::Edge).await;
    next.ready().await;
    held_back(&streams, &asked).await;
    assert_eq!(endings(&streams, 2).await, ["reply", "FROM_ME"]);
    let takeovers = streams.takeovers().await;
    assert!(matches!(takeovers.as_slice(), [one] if one.state() == TakeoverState::Began), "{takeovers:?}");
    assert_eq!(texts(&customer.receives(1).await), ["Sí, te anoto."]);
    drop(forwarders);
}

#[tokio::test]
async fn edge_killed_before_a_takeover_is_on_the_bus() {
    killed_over_it("edge.before-takeover", 0).await;
}

#[tokio::test]
async fn edge_killed_after_a_takeover_before_its_message_is_on_the_bus() {
    killed_over_it("edge.after-takeover", 1).await;
}

#[tokio::test]
async fn edge_killed_after_the_persons_message_before_whatsapps_ack() {
    killed_over_it("edge.after-puback", 1).await;
}

#[tokio::test]
async fn an_operator_takes_over_and_gives_the_chat_back() {
    let stage = Stage::plan().setting("TAKEOVER", "30m").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let run = async |arguments: &[&str]| -> Value {
        let line = [arguments, &["--chat", customer.phone()]].concat();
        serde_json::from_str(&stage.output(&line).await).expect("JSON")
    };
    assert_eq!(run(&["resume"]).await, json!({"state": "none"}));
    let taken = run(&["takeover", "--for", "2h"]).await;
    assert_eq!(taken["state"], "began");
    customer.write("hola").await;
    assert_eq!(endings(&streams, 1).await, ["HUMAN"]);
    assert_eq!(run(&["resume"]).await["state"], "ended");
    let takeovers = streams.takeovers().await;
    let [_, ended] = takeovers.as_slice() else { panic!("{takeovers:?}") };
    assert_eq!((ended.state(), ended.cause()), (TakeoverState::Ended, TakeoverCause::Operator));
    // WhatsApp's times are whole seconds.
    let since = now_ms();
    eventually("the next second", PATIENCE, async || {
        if now_ms() / 1_000 > since / 1_000 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    customer.write("¿y ahora?").await;
    assert_eq!(texts(&customer.receives(1).await), ["eco: ¿y ahora?"]);
}

/// What the person wrote, for a backend that is told everything: once, at its next call.
#[tokio::test]
async fn the_assistant_is_told_at_its_next_call_what_the_person_wrote() {
    let backend = Unwell::start(|question| Answer::text(&format!("eco: {}", question.text))).await;
    let stage = Stage::plan()
        .setting("BACKEND_URL", backend.url())
        .setting("BACKEND_FIELDS", "full")
        .setting("TAKEOVER", "30m")
        .set()
        .await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    customer.write("hola").await;
    customer.receives(1).await;
    for text in ["Sigo yo.", "¿Para cuántos?"] {
        stage.simulator.owner_writes(&customer, text).await;
    }
    streams.received(3).await;
    customer.write("para dos").await;
    streams.settled(4).await;
    stage.output(&["resume", "--chat", customer.phone()]).await;
    let since = now_ms();
    eventually("the next second", PATIENCE, async || {
        if now_ms() / 1_000 > since / 1_000 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    customer.write("¿y la carta?").await;
    customer.receives(4).await;
    customer.write("gracias").await;
    customer.receives(5).await;
    let told: Vec<Value> = backend
        .asked()
        .into_iter()
        .map(|asked| serde_json::from_str::<Value>(&asked.body).expect("JSON")["person"].clone())
        .collect();
    let [first, second, third] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((first, third), (&Value::Null, &Value::Null), "once");
    let wrote: Vec<_> = second["messages"].as_array().into_iter().flatten().map(|one| &one["text"]).collect();
    assert_eq!(wrote, ["Sigo yo.", "¿Para cuántos?"]);
    assert_eq!(second["messages"][0]["kind"], "text");
}

#[tokio::test]
async fn by_default_and_for_what_is_no_message_to_somebody_nobody_takes_over() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    streams.received(1).await;
    customer.write("hola").await;
    assert_eq!(texts(&customer.receives(2).await), ["Sigo yo.", "eco: hola"]);
    assert!(streams.takeovers().await.is_empty());

    let stage = Stage::plan().setting("TAKEOVER", "30m").setting("SELF_CHAT", "on").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    stage.simulator.note_to_self("¿qué hay hoy?").await;
    let streams = stage.streams().await;
    assert_eq!(endings(&streams, 1).await, ["reply"]);
    assert!(streams.takeovers().await.is_empty(), "a note to self is no takeover");
}
