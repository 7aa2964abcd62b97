//! A person writes a word of `OPT_OUT_WORDS`: nothing unasked is sent to them, until they write one of `OPT_IN_WORDS`.

use serde_json::{Value, json};
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{
    OptOut, OptOutCause, OptOutState, Receipt, ReceiptStatus, SendMessage, SendReaction, SendTarget, SendText,
};
use whatsapp_connector::wire::{id, now_ms};

use crate::support::{
    Addressing, Answer, Layout, PATIENCE, Plan, Product, Role, Stage, Streams, Unwell, eventually,
};

/// The operator's words.
fn plan() -> Plan {
    Stage::plan().setting("OPT_OUT_WORDS", "stop, baja, no más").setting("OPT_IN_WORDS", "start, ALTA")
}

fn text(to: &str, body: &str) -> SendMessage {
    let content = Some(Content::Text(SendText { body: body.to_owned(), ..Default::default() }));
    SendMessage { to: to.to_owned(), content, ..SendMessage::default() }
}

/// Whether WhatsApp has it.
async fn ends(streams: &Streams, id: &str) -> Receipt {
    eventually(format!("what became of {id}"), PATIENCE, async || {
        let receipts = streams.receipts().await;
        let is_end = |one: &&Receipt| matches!(one.status(), ReceiptStatus::Accepted | ReceiptStatus::Failed);
        let of_it = receipts.iter().filter(is_end).find(|receipt| receipt.request_id == id);
        of_it.cloned().ok_or_else(|| format!("{receipts:?}"))
    })
    .await
}

async fn goes(streams: &Streams, id: &str, request: &SendMessage) {
    streams.send(id, request).await;
    let end = ends(streams, id).await;
    assert_eq!(end.status(), ReceiptStatus::Accepted, "{id}: {end:?}");
}

async fn is_held_back(streams: &Streams, id: &str, request: &SendMessage) {
    streams.send(id, request).await;
    was_held_back(streams, id).await;
}

async fn was_held_back(streams: &Streams, id: &str) {
    let end = ends(streams, id).await;
    assert_eq!((end.status(), end.reason.as_str()), (ReceiptStatus::Failed, "opted-out"), "{id}: {end:?}");
    assert_eq!(end.message_ids, [id::whatsapp(id)]);
}

/// What was told on the bus: so many words.
async fn told(streams: &Streams, count: usize) -> Vec<OptOut> {
    eventually(format!("{count} words"), PATIENCE, async || {
        let told = streams.opt_outs().await;
        if told.len() >= count { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await
}

fn states(told: &[OptOut]) -> Vec<OptOutState> {
    told.iter().map(OptOut::state).collect()
}

fn texts(received: &[crate::support::Received]) -> Vec<&str> {
    received.iter().map(|one| one.text.as_str()).collect()
}

#[tokio::test]
async fn who_writes_the_word_gets_nothing_unasked_and_is_answered_as_before() {
    let stage = plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911807", 2).await;
    let [ana, leo] = customers.as_slice() else { panic!("two") };
    let streams = stage.streams().await;
    goes(&streams, "one", &text(ana.phone(), "Su pedido salió.")).await;
    let word = ana.write("*Stop!*").await;
    // The word goes to the assistant, as each message does.
    assert_eq!(texts(&ana.receives(2).await), ["Su pedido salió.", "eco: *Stop!*"]);
    let words = told(&streams, 1).await;
    let [out] = words.as_slice() else { panic!("{words:?}") };
    assert_eq!((out.state(), out.cause()), (OptOutState::Out, OptOutCause::Person));
    assert_eq!((out.chat.as_str(), out.message_id.as_str()), (ana.phone(), word.as_str()));

    is_held_back(&streams, "two", &text(ana.phone(), "¡Oferta!")).await;
    let quoting = SendMessage { quoted_message_id: word.clone(), ..text(ana.phone(), "¿Por qué?") };
    is_held_back(&streams, "three", &quoting).await;
    // What is only about an earlier message is no message.
    let target = Some(SendTarget { message_id: word, ..SendTarget::default() });
    let content = Some(Content::Reaction(SendReaction { target, emoji: "👍".to_owned() }));
    goes(&streams, "four", &SendMessage { content, ..text(ana.phone(), "") }).await;
    goes(&streams, "five", &text(leo.phone(), "¡Oferta!")).await;
    ana.write("¿abren hoy?").await;
    eventually("the answer", PATIENCE, async || {
        let inbox = ana.inbox().await;
        if inbox.iter().any(|one| one.text == "eco: ¿abren hoy?") {
            Ok(())
        } else {
            Err(format!("{inbox:?}"))
        }
    })
    .await;
    let page = product.edge.metrics().await;
    assert!(page.contains("wa_undeliverable_total{reason=\"opted-out\"} 2"), "{page}");

    ana.write("Alta").await;
    told(&streams, 2).await;
    goes(&streams, "six", &text(ana.phone(), "¡Oferta!")).await;
    let shown = stage.output(&["tap", "--kind", "opt-out"]).await;
    assert!(shown.contains("\"state\":\"out\"") && !shown.to_lowercase().contains("stop"), "{shown}");
}

/// The control: it is the look that holds it back.
#[tokio::test]
async fn without_the_look_before_the_send_the_same_request_is_seen_to_be_sent() {
    let stage = plan().setting("WITHOUT_GUARD", "opt-out").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    customer.write("stop").await;
    told(&streams, 1).await;
    goes(&streams, "one", &text(customer.phone(), "¡Oferta!")).await;
}

#[tokio::test]
async fn an_old_word_that_comes_late_or_again_changes_nothing() {
    let stage = plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let now_s = now_ms() / 1_000;
    let write = async |id: &str, text: &str, at_s: i64| {
        customer.write_with(json!({"id": id, "text": text, "at": at_s})).await
    };
    write("3EB0A1", "stop", now_s - 60).await;
    write("3EB0A2", "start", now_s - 30).await;
    told(&streams, 2).await;
    // It was written before that, and its sender's phone was off.
    write("3EB0A3", "stop", now_s - 45).await;
    streams.received(3).await;
    customer.receives(3).await;
    goes(&streams, "one", &text(customer.phone(), "Su pedido salió.")).await;
    // Within one second it is the order in which they come.
    write("3EB0A4", "stop", now_s - 30).await;
    told(&streams, 3).await;
    is_held_back(&streams, "two", &text(customer.phone(), "¡Oferta!")).await;
    write("3EB0A5", "start", now_s - 29).await;
    let words = told(&streams, 4).await;
    assert_eq!(states(&words), [OptOutState::Out, OptOutState::In, OptOutState::Out, OptOutState::In]);
    goes(&streams, "three", &text(customer.phone(), "Su pedido llegó.")).await;
}

/// An edge that dies over the word. WhatsApp hands it over again, and nothing was lost or told twice.
async fn killed_over_it(point: &str, told_before: usize) {
    let stage = plan().set().await;
    let Product { edge, forwarders } = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    edge.stop().await;
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", point)]).await;
    dying.ready().await;
    customer.write("baja").await;
    dying.process.end_by_kill(PATIENCE).await;
    assert_eq!(streams.opt_outs().await.len(), told_before, "it died somewhere else");
    streams.send("one", &text(customer.phone(), "¡Oferta!")).await;

    let mut next = stage.start(Role::Edge).await;
    next.ready().await;
    eventually("WhatsApp to know that it is received", PATIENCE, async || {
        let unreceived = stage.simulator.unreceived().await;
        if unreceived == 0 { Ok(()) } else { Err(unreceived.to_string()) }
    })
    .await;
    is_held_back(&streams, "two", &text(customer.phone(), "¡Oferta!")).await;
    if told_before > 0 {
        was_held_back(&streams, "one").await;
    }
    assert_eq!(states(&told(&streams, 1).await), [OptOutState::Out], "{point}");
    drop(forwarders);
}

#[tokio::test]
async fn edge_killed_before_a_word_is_in_the_bucket() {
    killed_over_it("edge.before-opt-out", 0).await;
}

#[tokio::test]
async fn edge_killed_after_a_word_is_in_the_bucket_before_it_is_told() {
    killed_over_it("edge.before-opt-out-event", 0).await;
}

#[tokio::test]
async fn edge_killed_after_a_word_is_told_before_whatsapps_ack() {
    killed_over_it("edge.after-opt-out", 1).await;
}

/// A request that waits for its turn is judged when it has it.
#[tokio::test]
async fn a_request_that_waited_when_the_word_came_is_not_sent() {
    let stage = plan().setting("SEND_PER_CHAT", "1/10s").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    for number in 1..=4 {
        streams.send(&number.to_string(), &text(customer.phone(), "¡Oferta!")).await;
    }
    customer.receives(1).await;
    customer.write("No mas").await;
    told(&streams, 1).await;
    // The second had been looked at before, and waited for its turn alone.
    for number in 2..=4 {
        was_held_back(&streams, &number.to_string()).await;
    }
    let sent = customer.inbox().await;
    assert_eq!(sent.iter().filter(|one| one.text == "¡Oferta!").count(), 1, "{sent:?}");
}

/// A number and a hidden id are one person, whichever of them the word came from.
#[tokio::test]
async fn a_person_is_one_by_either_address() {
    let stage = plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let streams = stage.streams().await;
    for (number, addressing) in [("5491180700011", Addressing::Phone), ("5491180700012", Addressing::Lid)] {
        // WhatsApp says with each message by which other address its writer is known.
        let customer = stage.simulator.customer(number, addressing).await;
        customer.write("stop").await;
        customer.receives(1).await;
        let lid = format!("{}@lid", customer.lid().await.trim_end_matches("@lid"));
        let chat = format!("lid-{}", lid.trim_end_matches("@lid"));
        streams.send_to(&chat, &format!("{number}-lid"), &text(&lid, "¡Oferta!")).await;
        was_held_back(&streams, &format!("{number}-lid")).await;
        is_held_back(&streams, &format!("{number}-phone"), &text(customer.phone(), "¡Oferta!")).await;
    }
}

/// What our own buttons say counts, in whichever way somebody picks one; in a group nothing does.
#[tokio::test]
async fn a_picked_option_is_such_a_word_and_one_in_a_group_is_none() {
    const GROUP: &str = "120363000000000807@g.us";
    let menu = json!({"response_text": "¿Qué hacemos?", "buttons": [{"id": "x", "title": "Baja"}, {"id": "y", "title": "Alta"}]});
    let backend = Unwell::start(move |_question| Answer::new(200, menu.to_string())).await;
    let stage = plan().setting("BACKEND_URL", backend.url()).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    stage.simulator.group(GROUP, &[&customer], json!({})).await;
    customer.write_with(json!({"text": "stop", "through": GROUP})).await;
    streams.received(1).await;
    stage.simulator.owner_writes(&customer, "stop").await;
    streams.received(2).await;
    customer.write("hola").await;
    customer.receives(2).await;
    goes(&streams, "one", &text(customer.phone(), "Su pedido salió.")).await;
    customer.write("hola").await;
    streams.settled(4).await;
    customer.receives(4).await;
    assert!(streams.opt_outs().await.is_empty(), "neither a group nor a person of ours opts out");
    customer.write("1").await;
    let words = told(&streams, 1).await;
    assert_eq!(states(&words), [OptOutState::Out]);
    is_held_back(&streams, "two", &text(customer.phone(), "¡Oferta!")).await;
    streams.send_to("group-120363000000000807", "group", &text(GROUP, "¡Oferta!")).await;
    let end = ends(&streams, "group").await;
    assert_eq!(end.status(), ReceiptStatus::Accepted, "{end:?}");
}

#[tokio::test]
async fn an_operator_sees_and_changes_it() {
    let stage = plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911808", 2).await;
    let [ana, leo] = customers.as_slice() else { panic!("two") };
    let streams = stage.streams().await;
    let run = async |arguments: &[&str]| -> Vec<Value> {
        let lines = stage.output(&[&["opt-out"], arguments].concat()).await;
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    assert_eq!(run(&["list"]).await, Vec::<Value>::new());
    assert_eq!(run(&["remove", "--chat", leo.phone()]).await, [json!({"state": "none"})]);
    ana.write("stop").await;
    told(&streams, 1).await;
    let added = run(&["add", "--chat", leo.phone()]).await;
    assert_eq!((&added[0]["state"], &added[0]["cause"]), (&json!("out"), &json!("operator")));
    is_held_back(&streams, "one", &text(leo.phone(), "¡Oferta!")).await;
    let listed = run(&["list"]).await;
    let chats: Vec<_> = listed.iter().map(|one| (one["chat"].as_str(), one["cause"].as_str())).collect();
    assert_eq!(chats, [(Some(ana.phone()), Some("person")), (Some(leo.phone()), Some("operator"))]);
    // Once more is no news.
    run(&["add", "--chat", leo.phone()]).await;
    for customer in [ana, leo] {
        assert_eq!(run(&["remove", "--chat", customer.phone()]).await[0]["state"], "in");
        goes(&streams, customer.phone(), &text(customer.phone(), "Su pedido salió.")).await;
    }
    let told = told(&streams, 4).await;
    assert_eq!(states(&told), [OptOutState::Out, OptOutState::Out, OptOutState::In, OptOutState::In]);
    assert_eq!(run(&["list"]).await, Vec::<Value>::new());
}

#[tokio::test]
async fn by_default_nobody_opts_out() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    customer.write("stop").await;
    customer.receives(1).await;
    goes(&streams, "one", &text(customer.phone(), "¡Oferta!")).await;
    assert!(streams.opt_outs().await.is_empty());
    assert!(streams.jetstream().get_key_value("WA_OPT_OUTS").await.is_err(), "no bucket is made");
}
