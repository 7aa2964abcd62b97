//! `INTERACTIVE=native`: options go out as WhatsApp's own buttons and lists, and as text if WhatsApp refuses them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use whatsapp_connector::wire::id;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::{
    ButtonReply, Interactive, ListItem, ListReply, ReceiptStatus, SendMessage, SendText, send_message,
};

use crate::support::{
    Answer, Customer, Entry, Layout, PATIENCE, Product, Question, Received, Role, Stage, Streams, Unwell,
    eventually,
};

const REFUSED: &str = "WhatsApp does not take native buttons and lists from this number";
const WORDS: &str = "¿Qué mesa?";
const AS_TEXT: &str = "¿Qué mesa?\n\n1. Ninguna\n\nMesas\n2. Mesa de dos: al sol";

/// A backend that offers something to who writes `menú`, and echoes all others.
async fn offering() -> (Unwell, Stage, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    let backend = Unwell::start(move |question: &Question| {
        asking.lock().unwrap().push(question.text.clone());
        match question.text.as_str() {
            "menú" => Answer::new(
                200,
                json!({
                    "response_text": WORDS,
                    "buttons": [{"id": "none", "title": "Ninguna"}],
                    "list_title": "Mesas",
                    "list_items": [{"id": "two", "title": "Mesa de dos", "description": "al sol"}],
                })
                .to_string(),
            ),
            other => Answer::text(&format!("eco: {other}")),
        }
    })
    .await;
    let stage =
        Stage::plan().setting("BACKEND_URL", backend.url()).setting("INTERACTIVE", "native").set().await;
    (backend, stage, asked)
}

/// The content of the message with this id.
async fn content(streams: &Streams, id: &str) -> Content {
    let message = eventually("the message on the bus", PATIENCE, async || {
        let messages = streams.messages().await;
        let found = messages.iter().map(Entry::inbound).find(|message| message.message_id == id);
        found.ok_or_else(|| format!("it is none of {}", messages.len()))
    })
    .await;
    message.content.expect("a content")
}

fn choices(received: &Received) -> Value {
    received.more.get("choices").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_tap_and_a_written_number_both_pick_what_is_offered_natively() {
    let (_backend, stage, asked) = offering().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;

    customer.write("menú").await;
    let menu = customer.receives(1).await.remove(0);
    assert_eq!((menu.kind.as_str(), menu.text.as_str()), ("interactive", AS_TEXT));
    let offered = json!([
        {"id": "none", "title": "Ninguna"},
        {"id": "two", "title": "Mesa de dos", "row": true},
    ]);
    assert_eq!(choices(&menu), offered);
    let row = customer.taps(&menu.id, "Mesa de dos").await;
    customer.receives(2).await;
    // It is the last one no more, and says all the same what was tapped.
    let late = customer.taps(&menu.id, "Ninguna").await;
    customer.receives(3).await;
    customer.write("menú").await;
    customer.receives(4).await;
    let written = customer.write("1").await;
    customer.receives(5).await;

    let two = ListReply {
        row_id: "two".into(),
        title: "Mesa de dos".into(),
        description: "al sol".into(),
        written: String::new(),
    };
    assert_eq!(content(&streams, &row).await, Content::ListReply(two));
    let Content::ButtonReply(late) = content(&streams, &late).await else { panic!("no button") };
    assert_eq!((late.button_id.as_str(), late.text.as_str()), ("none", "Ninguna"));
    assert_eq!(late.flow, "quick_reply");
    let none = ButtonReply {
        button_id: "none".into(),
        text: "Ninguna".into(),
        written: "1".into(),
        ..ButtonReply::default()
    };
    assert_eq!(content(&streams, &written).await, Content::ButtonReply(none));
    assert_eq!(*asked.lock().unwrap(), ["menú", "Mesa de dos", "Ninguna", "menú", "1"]);
    assert_eq!(stage.simulator.refused().await, 0);
}

fn request(customer: &Customer) -> SendMessage {
    let options = Interactive {
        buttons: vec!["Confirmo".to_owned(), "Cancelo".to_owned()],
        button_ids: vec!["ok".to_owned(), "no".to_owned()],
        list_items: vec![ListItem { title: "Más tarde".to_owned(), ..ListItem::default() }],
        ..Interactive::default()
    };
    let text = SendText { body: "¿Viene hoy?".to_owned(), options: Some(options) };
    let content = Some(send_message::Content::Text(text));
    SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() }
}

/// With both settings. After a restart, what was asked last counts, whoever has asked.
#[tokio::test]
async fn a_request_offers_what_an_answer_offers() {
    for (setting, kind) in [("text", "text"), ("native", "interactive")] {
        let (_backend, mut stage, _asked) = offering().await;
        stage.set("INTERACTIVE", setting);
        let product = stage.product(Layout::Split { forwarders: 1 }).await;
        let customer = stage.customer().await;
        let streams = stage.streams().await;
        customer.write("menú").await;
        customer.receives(1).await;

        streams.send("reminder", &request(&customer)).await;

        let asked = customer.receives(2).await.remove(1);
        assert_eq!(asked.kind, kind);
        assert_eq!(asked.text, "¿Viene hoy?\n\n1. Confirmo\n2. Cancelo\n\n3. Más tarde");
        assert_eq!(asked.id, id::whatsapp("reminder"));
        streams.settled(1).await;
        eventually("the request to be acknowledged", PATIENCE, async || {
            match streams.in_the_edges_hand().await {
                0 => Ok(()),
                count => Err(count.to_string()),
            }
        })
        .await;
        product.edge.stop().await;
        let mut edge = stage.start(Role::Edge).await;
        edge.ready().await;
        let written = customer.write("2").await;
        customer.receives(3).await;
        let Content::ButtonReply(picked) = content(&streams, &written).await else { panic!("no button") };
        assert_eq!((picked.button_id.as_str(), picked.written.as_str()), ("no", "2"), "{setting}");
    }
}

/// `ACCEPTED` is told once for the outcome or the request with this WhatsApp id.
async fn accepted_once(streams: &Streams, id: &str) {
    eventually("WhatsApp has it", PATIENCE, async || {
        let mut receipts = streams.receipts().await;
        receipts.retain(|one| {
            one.status() == ReceiptStatus::Accepted && one.message_ids.iter().any(|told| told == id)
        });
        match receipts.len() {
            1 => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    assert!(streams.failed_sends().await.is_empty());
}

#[tokio::test]
async fn what_whatsapp_refuses_goes_out_as_text_under_the_same_id_and_the_next_ones_at_once() {
    let (_backend, stage, _asked) = offering().await;
    // Once, and not for each message: whatever else is warned of fails the test.
    stage.logs.expects(REFUSED);
    let _product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911888", 2).await;
    let streams = stage.streams().await;
    stage.simulator.fault_as(json!({"kind": "refuse_native", "code": 479})).await;

    customers[0].write("menú").await;
    let first = customers[0].receives(1).await.remove(0);
    let picked = customers[0].write("2").await;
    customers[0].receives(2).await;
    customers[1].write("menú").await;
    let second = customers[1].receives(1).await.remove(0);

    for received in [&first, &second] {
        assert_eq!((received.kind.as_str(), received.text.as_str()), ("text", AS_TEXT));
        assert_eq!(received.copies, 1);
        accepted_once(&streams, &received.id).await;
    }
    let outcome = &streams.outcomes().await[0];
    assert_eq!(first.id, id::whatsapp(outcome.header("ce-id").expect("an id")));
    assert!(matches!(content(&streams, &picked).await, Content::ListReply(row) if row.row_id == "two"));
    assert_eq!(stage.simulator.refused().await, 1, "WhatsApp is not asked again for each message");
    assert_eq!(stage.logs.count(REFUSED), 1);
}

/// A code that says nothing of the shape: this one goes out as text, and the next one is tried.
#[tokio::test]
async fn a_refusal_for_another_reason_turns_nothing_off() {
    let (_backend, stage, _asked) = offering().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let fault = json!({"kind": "refuse_native", "code": 500, "attributes": {"times": "1"}});
    stage.simulator.fault_as(fault).await;

    customer.write("menú").await;
    customer.receives(1).await;
    customer.write("menú").await;

    let kinds: Vec<_> = customer.receives(2).await.into_iter().map(|one| one.kind).collect();
    assert_eq!(kinds, ["text", "interactive"]);
}

/// What phones would cut off is text from the start.
#[tokio::test]
async fn what_does_not_fit_is_numbered_text() {
    let (backend, stage, _asked) = offering().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let buttons = json!({"response_text": "¿Cuál?", "buttons": ["1a", "2a", "3a", "4a"]}).to_string();
    backend.set(move |_| Answer::new(200, buttons.as_str()));

    customer.write("¿qué hay?").await;

    let received = customer.receives(1).await.remove(0);
    assert_eq!(
        (received.kind.as_str(), received.text.as_str()),
        ("text", "¿Cuál?\n\n1. 1a\n2. 2a\n3. 3a\n4. 4a")
    );
}

/// The edge dies at `point` over one menu; WhatsApp refuses natives for the first edge, and for the second one, as said.
async fn killed(point: &str, refused: [bool; 2], copies: u32) -> (Stage, Received) {
    let (_backend, stage, _asked) = offering().await;
    stage.logs.may_have(REFUSED);
    let Product { edge, forwarders: _others } = stage.product(Layout::Split { forwarders: 1 }).await;
    edge.stop().await;
    let refuse = async |is_on: bool| {
        stage.simulator.no_faults().await;
        if is_on {
            stage.simulator.fault_as(json!({"kind": "refuse_native"})).await;
        }
    };
    refuse(refused[0]).await;
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", point)]).await;
    dying.ready().await;
    let customer = stage.customer().await;
    customer.write("menú").await;
    dying.process.end_by_kill(PATIENCE).await;
    let before = customer.inbox().await.len();
    refuse(refused[1]).await;

    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let streams = stage.streams().await;
    streams.settled(1).await;
    let inbox = customer.receives_copies(copies).await;
    assert_eq!(inbox.len(), 1, "{point}: {before} before: {inbox:?}");
    accepted_once(&streams, &inbox[0].id).await;
    assert_eq!(streams.outcomes().await.len(), 1);
    let received = inbox.into_iter().next().expect("one");
    (stage, received)
}

#[tokio::test]
async fn a_kill_between_the_refusal_and_the_text_costs_nothing() {
    let (_stage, received) = killed("edge.before-text", [true, true], 1).await;
    assert_eq!((received.kind.as_str(), received.copies), ("text", 1));
    // WhatsApp may have changed its mind.
    let (_stage, received) = killed("edge.before-text", [true, false], 1).await;
    assert_eq!((received.kind.as_str(), received.copies), ("interactive", 1));
}

/// The phone has one of the two, and drops the other one, because it has the same id.
#[tokio::test]
async fn a_kill_after_the_text_or_after_the_buttons_shows_neither_twice() {
    let (_stage, received) = killed("edge.before-ack", [true, false], 2).await;
    assert_eq!((received.kind.as_str(), received.copies, received.altered), ("text", 2, 1));
    let (_stage, received) = killed("edge.before-ack", [false, true], 2).await;
    assert_eq!((received.kind.as_str(), received.copies, received.altered), ("interactive", 2, 1));
}

#[tokio::test]
async fn a_group_gets_buttons_too() {
    const GROUP: &str = "120363000000000880@g.us";
    let (_backend, stage, _asked) = offering().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    stage.simulator.group(GROUP, &[&customer], json!({})).await;
    let streams = stage.streams().await;
    let mut asked = request(&customer);
    asked.to = GROUP.to_owned();
    streams.send_to("group-120363000000000880", "reminder", &asked).await;

    let received = customer.receives(1).await.remove(0);

    assert_eq!((received.kind.as_str(), received.more.get("group")), ("interactive", Some(&json!(GROUP))));
}
