//! What the assistant offers is shown, what a person picks is published, and nothing invisible is sent.

use std::sync::{Arc, Mutex};

use async_nats::HeaderMap;
use prost::Message as _;
use serde_json::{Value, json};
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{
    ButtonReply, Interactive, ListReply, NoReplyReason, SendMessage, SendText, send_message,
};

use crate::support::{
    Answer, Customer, Entry, Layout, PATIENCE, Question, Role, Stage, Streams, Unwell, eventually, warning,
};

/// A backend that gives this answer to the text `menú`, and echoes all others.
async fn offering(menu: Value) -> (Unwell, Stage, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    let backend = Unwell::start(move |question: &Question| {
        asking.lock().unwrap().push(question.text.clone());
        match question.text.as_str() {
            "menú" => Answer::new(200, menu.to_string()),
            other => Answer::text(&format!("eco: {other}")),
        }
    })
    .await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).set().await;
    (backend, stage, asked)
}

fn interactive(outcome: &Entry) -> Interactive {
    match outcome.outcome().result {
        Some(Ending::Reply(reply)) => reply.interactive.expect("options"),
        other => panic!("no reply: {other:?}"),
    }
}

#[tokio::test]
async fn options_are_read_as_they_were_meant_and_keep_their_ids() {
    let (_backend, stage, _asked) = offering(json!({
        "response_text": "¿Cuál?",
        "buttons": [{"id": "y", "title": "Sí"}, {"text": "No"}, 7, null, {"x": 1}, "Otro"],
        "list_title": "Mesas",
        "list_items": [{"row_id": 4, "title": "Dos", "description": "al sol"}, {"text": "Seis", "description": null}, []],
    }))
    .await;
    stage.logs.expects("the backend offers options without a title or a text; they are not shown");
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("menú").await;

    let want = "¿Cuál?\n\n1. Sí\n2. No\n3. 7\n4. Otro\n\nMesas\n5. Dos: al sol\n6. Seis";
    assert_eq!(customer.receives(1).await[0].text, want);
    let offered = interactive(&stage.streams().await.outcomes().await[0]);
    assert_eq!(offered.buttons, ["Sí", "No", "7", "Otro"]);
    assert_eq!(offered.button_ids, ["y", "", "", ""]);
    let rows: Vec<_> = offered.list_items.iter().map(|row| (row.id.as_str(), row.title.as_str())).collect();
    assert_eq!(rows, [("4", "Dos"), ("", "Seis")]);
}

#[tokio::test]
async fn all_that_is_offered_is_shown_and_once() {
    let buttons: Vec<String> = (1..=5).map(|number| format!("botón {number}")).collect();
    let rows: Vec<String> = (6..=17).map(|number| format!("fila {number}")).collect();
    let (backend, stage, _asked) =
        offering(json!({"response_text": "¿Cuál?", "buttons": buttons, "list_items": rows})).await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    customer.write("menú").await;
    let text = customer.receives(1).await[0].text.clone();
    for (number, name) in (1..).zip(buttons.iter().chain(&rows)) {
        assert!(text.lines().any(|line| line == format!("{number}. {name}")), "{number} is not in {text}");
    }

    backend.set(|_| Answer::new(200, r#"{"response_text":"","buttons":["Sí","No"]}"#));
    customer.write("¿y sin texto?").await;
    assert_eq!(customer.receives(2).await[1].text, "1. Sí\n2. No");

    let own = "¿Seguimos?\n1) Sí\n2) No\n\nEscribe el número.";
    let menu = json!({"response_text": own, "buttons": ["Sí", "No"]}).to_string();
    backend.set(move |_| Answer::new(200, menu.as_str()));
    customer.write("¿y con tu propio menú?").await;
    assert_eq!(customer.receives(3).await[2].text, own);
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

fn button(id: &str, text: &str, written: &str) -> Content {
    let (button_id, text, written) = (id.into(), text.into(), written.into());
    Content::ButtonReply(ButtonReply { button_id, text, written, ..Default::default() })
}

fn is_text(content: &Content, body: &str) -> bool {
    matches!(content, Content::Text(text) if text.body == body)
}

const MENU: &str = r#"{
    "response_text": "¿Qué mesa?",
    "buttons": [{"id": "none", "title": "Ninguna, gracias"}],
    "list_items": [{"id": "two", "title": "Mesa de dos", "description": "al sol"}]
}"#;

async fn menu() -> (Unwell, Stage, Arc<Mutex<Vec<String>>>) {
    offering(serde_json::from_str(MENU).expect("JSON")).await
}

/// Writes and waits for the answer, the `count`th message on the phone.
async fn say(customer: &Customer, text: &str, count: usize) -> String {
    let id = customer.write(text).await;
    customer.receives(count).await;
    id
}

#[tokio::test]
async fn what_a_person_picks_is_published_and_the_backend_gets_the_words_as_written() {
    let (_backend, stage, asked) = menu().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;

    let before = say(&customer, "1", 1).await;
    say(&customer, "menú", 2).await;
    let number = say(&customer, " 2.", 3).await;
    let after = say(&customer, "2", 4).await;
    say(&customer, "menú", 5).await;
    let label = say(&customer, "NINGUNA, GRACIAS", 6).await;

    assert!(is_text(&content(&streams, &before).await, "1"), "nothing was offered yet");
    let row = ListReply {
        row_id: "two".into(),
        title: "Mesa de dos".into(),
        description: "al sol".into(),
        written: " 2.".into(),
    };
    assert_eq!(content(&streams, &number).await, Content::ListReply(row));
    assert!(is_text(&content(&streams, &after).await, "2"), "the last answer offered nothing");
    assert_eq!(content(&streams, &label).await, button("none", "Ninguna, gracias", "NINGUNA, GRACIAS"));
    assert_eq!(*asked.lock().unwrap(), ["1", "menú", " 2.", "2", "menú", "NINGUNA, GRACIAS"]);
    assert_eq!(customer.inbox().await[2].text, "eco:  2.");
    let shown = stage.output(&["tap", "--kind", "message", "--since", "1h"]).await;
    assert!(shown.contains("by_writing") && !shown.contains("Mesa de dos"), "{shown}");
}

#[tokio::test]
async fn a_pick_is_known_after_a_restart_and_in_its_own_chat_only() {
    let (_backend, stage, _asked) = menu().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, other) = (stage.customer().await, stage.customers("54911777", 1).await.remove(0));
    let streams = stage.streams().await;
    say(&customer, "menú", 1).await;
    say(&other, "hola", 1).await;
    // The answers are acknowledged, so that the next edge knows that they were sent.
    streams.settled(2).await;
    product.edge.stop().await;

    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let picked = say(&customer, "ninguna gracias", 2).await;
    let foreign = say(&other, "1", 2).await;

    assert_eq!(content(&streams, &picked).await, button("none", "Ninguna, gracias", "ninguna gracias"));
    assert!(is_text(&content(&streams, &foreign).await, "1"), "that was offered to somebody else");
    say(&customer, "menú", 3).await;
    streams.settled(5).await;
    // So soon after an answer the kill may cost the ratchet, which the library writes a moment later.
    stage.logs.may_have("a message could not be decrypted; its sender is asked to send it again");
    edge.process.kill();
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let picked = say(&customer, "1", 4).await;
    assert_eq!(content(&streams, &picked).await, button("none", "Ninguna, gracias", "1"));
}

/// What waits for the edge was seen by nobody.
#[tokio::test]
async fn what_was_not_sent_yet_is_not_picked() {
    let (_backend, stage, _asked) = menu().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut doomed = product.edge;
    doomed.process.kill();
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.before-send")]).await;
    dying.ready().await;
    customer.write("menú").await;
    dying.process.end_by_kill(PATIENCE).await;
    streams.decided(1).await;

    let early = customer.write("1").await;
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;

    assert!(is_text(&content(&streams, &early).await, "1"));
    customer.receives(2).await;
}

#[tokio::test]
async fn what_could_not_be_sent_is_not_picked() {
    let (_backend, stage, _asked) = menu().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    stage.simulator.fault("nack", None).await;
    customer.write("menú").await;
    eventually("a report that WhatsApp refused it", PATIENCE, async || {
        match streams.failed_sends().await.len() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    stage.simulator.no_faults().await;

    let id = say(&customer, "1", 1).await;

    assert!(is_text(&content(&streams, &id).await, "1"));
}

#[tokio::test]
async fn what_would_have_been_offered_in_shadow_is_not_picked() {
    let (_backend, mut stage, _asked) = menu().await;
    stage.set("BACKEND_MODE", "shadow");
    stage.logs.expects(warning::SHADOW);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    customer.write("menú").await;
    streams.settled(1).await;

    let id = customer.write("1").await;

    assert!(is_text(&content(&streams, &id).await, "1"));
}

#[tokio::test]
async fn what_nobody_sees_is_not_sent() {
    let backend = Unwell::start(|question: &Question| {
        let text = match question.text.as_str() {
            "cero" => "\u{200b}",
            "juntas" => "\u{2060}\u{feff}",
            "braille" => "\u{2800}\n\u{2800}",
            "blancas" => "\n\n  Hola\n\nAna \u{200b}\n\n",
            _ => "❤\u{fe0f}",
        };
        Answer::text(text)
    })
    .await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    for text in ["cero", "juntas", "braille", "blancas", "amor"] {
        customer.write(text).await;
    }

    let inbox = customer.receives(2).await;
    let texts: Vec<&str> = inbox.iter().map(|received| received.text.as_str()).collect();
    assert_eq!(texts, ["  Hola\n\nAna", "❤\u{fe0f}"]);
    for entry in &stage.streams().await.outcomes().await[..3] {
        match entry.outcome().result {
            Some(Ending::None(none)) => assert_eq!(none.reason(), NoReplyReason::BackendSilent),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_dead_letters_blank_text_is_not_sent() {
    let stage = Stage::plan()
        .backend("BACKEND_FAIL", "1:422")
        .setting("FALLBACK_TEXT", "\u{2060}\u{200b}")
        .set()
        .await;
    stage.logs.expects(&warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("esto no").await;
    stage.streams().await.settled(1).await;
    stage.send(&customer, "after", "y esto sí").await;
    assert_eq!(customer.receives(1).await[0].text, "y esto sí");
}

#[tokio::test]
async fn an_empty_send_request_is_reported_and_not_sent() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;

    for (id, text) in [("empty", ""), ("blank", " \n\t"), ("unseen", "\u{2060}"), ("seen", "\nSu mesa.\n")] {
        stage.send(&customer, id, text).await;
    }

    let inbox = customer.receives(1).await;
    assert_eq!(inbox[0].text, "Su mesa.", "its chat is in order, so those before it were not sent");
    let mut failed: Vec<_> = streams
        .failed_sends()
        .await
        .into_iter()
        .map(|receipt| (receipt.request_id, receipt.reason))
        .collect();
    failed.sort();
    let invalid = ["blank", "empty", "unseen"].map(|id| (id.to_owned(), "invalid-request".to_owned()));
    assert_eq!(failed, invalid);
}

impl Stage {
    /// Another service of the platform has this text sent.
    async fn send(&self, customer: &Customer, id: &str, text: &str) {
        let content =
            Some(send_message::Content::Text(SendText { body: text.to_owned(), ..Default::default() }));
        let request = SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() };
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let subject = format!("wa.out.default.send.{}", customer.phone());
        let streams = self.streams().await;
        let sent =
            streams.jetstream().publish_with_headers(subject, headers, request.encode_to_vec().into()).await;
        sent.expect("a publish").await.expect("a PubAck");
    }
}
