//! `BACKEND_FIELDS`: what a call says. By default what it always said, to the byte; with `full` all that the message says,
//! and the file once it is there.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use whatsapp_connector::wire::header::rfc3339_ms;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::waproto::codec::message_to_vec;

use crate::support::heart::Watch;
use crate::support::{
    Addressing, Answer, BUSINESS, Customer, Layout, PATIENCE, Role, Stage, Unwell, eventually,
};

/// A backend that answers everything, and remembers what it was told.
async fn backend() -> Unwell {
    Unwell::start(|question| Answer::text(&format!("eco: {}", question.text))).await
}

async fn stage(backend: &Unwell, settings: &[(&str, &str)]) -> Stage {
    let plan = Stage::plan().setting("BACKEND_URL", backend.url()).setting("BACKEND_FIELDS", "full");
    settings.iter().fold(plan, |plan, (name, value)| plan.setting(name, value)).set().await
}

const MEDIA: [(&str, &str); 2] = [("MEDIA", "inbound"), ("MEDIA_MAX_BYTES", "1MiB")];

async fn send(customer: &Customer, kind: &str, text: &str, content: &[u8], how: &str) -> String {
    let media = json!({"bytes": BASE64_STANDARD.encode(content), "how": how});
    customer.write_with(json!({"kind": kind, "text": text, "media": media})).await
}

/// A message as the library writes it.
async fn raw(customer: &Customer, message: &wa::Message) -> String {
    customer.write_with(json!({"raw": BASE64_STANDARD.encode(message_to_vec(message))})).await
}

/// What the backend was told of this message, each time that it was asked.
fn told(backend: &Unwell, id: &str) -> Vec<Value> {
    let bodies = backend.asked().into_iter().map(|asked| serde_json::from_str::<Value>(&asked.body));
    bodies.map(|body| body.expect("JSON")).filter(|body| body["message_id"] == id).collect()
}

/// What the backend was told of this message, as soon as it was asked once.
async fn call(backend: &Unwell, id: &str) -> Value {
    eventually(format!("a call for {id}"), PATIENCE, async || match told(backend, id).as_slice() {
        [call] => Ok(call.clone()),
        calls => Err(format!("{calls:?}")),
    })
    .await
}

#[tokio::test]
async fn by_default_a_call_is_what_it_always_was() {
    let backend = backend().await;
    let stage = Stage::plan().setting("BACKEND_URL", backend.url()).setting("MEDIA", "inbound").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.write("Hola \"vos\"\n¿qué tal?").await;
    send(&customer, "image", "mira", b"foto", "stuck").await;
    send(&customer, "sticker", "", b"foto", "whole").await;
    customer.write_kind("location", "Casa").await;
    customer.receives(2).await;
    stage.streams().await.settled(4).await;
    let messages = stage.streams().await.messages().await;
    let want: Vec<String> = [(0, r#"Hola \"vos\"\n¿qué tal?"#), (1, "mira")]
        .map(|(at, text)| {
            let message = messages[at].inbound();
            format!(
                r#"{{"message_id":"{}","from_number":"5491112345678","text":"{text}","timestamp_iso":"{}","customer_name":"Ana"}}"#,
                message.message_id,
                rfc3339_ms(message.sent_at_ms)
            )
        })
        .into();
    let asked: Vec<_> = backend.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(asked, want);
}

#[tokio::test]
async fn with_all_fields_a_call_says_what_is_quoted_and_who_wrote_it() {
    let backend = backend().await;
    let stage = stage(&backend, &[]).await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let first = customer.write("¿a qué hora?").await;
    let answer = customer.receives(1).await.remove(0);
    let quoting = |id: &str, author: &str, words: &str| wa::Message {
        extended_text_message: MessageField::some(wa::message::ExtendedTextMessage {
            text: Some("a esta".to_owned()),
            context_info: MessageField::some(wa::ContextInfo {
                stanza_id: Some(id.to_owned()),
                participant: Some(format!("{author}@s.whatsapp.net")),
                quoted_message: MessageField::some(wa::Message {
                    conversation: Some(words.to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (id, author, words, from_us) in [
        (first.as_str(), customer.phone(), "¿a qué hora?", false),
        (answer.id.as_str(), BUSINESS, "eco: ¿a qué hora?", true),
    ] {
        let call = call(&backend, &raw(&customer, &quoting(id, author, words)).await).await;
        assert_eq!(call["quoted"], json!({"id": id, "text": words, "from_us": from_us}));
        assert_eq!(
            (&call["kind"], &call["account"], &call["text"]),
            (&json!("text"), &json!("default"), &json!("a esta"))
        );
        assert_eq!(call.get("media"), None);
    }
}

#[tokio::test]
async fn with_all_fields_the_backend_is_asked_about_messages_without_words() {
    let backend = backend().await;
    let stage = stage(&backend, &[]).await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let place = customer.write_kind("location", "Casa").await;
    let sticker = customer.write_kind("sticker", "").await;
    let people = wa::Message {
        contact_message: MessageField::some(wa::message::ContactMessage {
            display_name: Some("Beto".to_owned()),
            vcard: Some(
                "BEGIN:VCARD\nFN:Beto\nitem1.TEL;waid=5491187654321:+54 9 11 8765-4321\nEND:VCARD".to_owned(),
            ),
            ..Default::default()
        }),
        ..Default::default()
    };
    let people = raw(&customer, &people).await;
    // About a message, and no message.
    customer.write_with(json!({"kind": "reaction", "about": place})).await;
    customer.receives(3).await;
    stage.streams().await.settled(3).await;

    let call_of_place = call(&backend, &place).await;
    assert_eq!((&call_of_place["kind"], &call_of_place["text"]), (&json!("location"), &json!("")));
    let at = json!({"latitude": -34.6037, "longitude": -58.3816, "name": "Casa"});
    assert_eq!(call_of_place["location"], at);
    let call_of_sticker = call(&backend, &sticker).await;
    assert_eq!((&call_of_sticker["kind"], &call_of_sticker["text"]), (&json!("sticker"), &json!("")));
    assert_eq!(call_of_sticker["media"], json!({"state": "off", "type": "image/webp", "size": 1024}));
    let call_of_people = call(&backend, &people).await;
    assert_eq!(call_of_people["contacts"], json!([{"name": "Beto", "phones": ["+54 9 11 8765-4321"]}]));
    assert_eq!(backend.asked().len(), 3);
    assert_eq!(customer.inbox().await.len(), 3);
}

/// The message is on the bus before its file is in the bucket, and its call is made after that.
#[tokio::test]
async fn the_backend_is_asked_when_the_file_is_there() {
    let backend = backend().await;
    let stage = stage(&backend, &[MEDIA[0], MEDIA[1], ("MEDIA_WAIT", "1m")]).await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let content: Vec<u8> =
        (0..60_000_u32).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect();
    let id = send(&customer, "image", "", &content, "slow").await;
    let call_of_image = call(&backend, &id).await;
    let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("default/{0}/{0}/{id}", customer.phone());
    let want = json!({
        "state": "stored", "type": "image/jpeg", "size": 60_000, "bucket": "WA_MEDIA", "key": key, "sha256": sha256,
    });
    assert_eq!((&call_of_image["media"], &call_of_image["text"]), (&want, &json!("")));

    let id = send(&customer, "document", "", &vec![7; (1 << 20) + 1], "whole").await;
    let call_of_document = call(&backend, &id).await;
    let media = &call_of_document["media"];
    assert_eq!((&media["state"], &media["reason"]), (&json!("failed"), &json!("too-large")));
    assert_eq!((media.get("key"), media.get("url")), (None, None), "{media}");
}

/// One call at a time, and a file that never comes: others go first, and in the end its message is asked about as well.
#[tokio::test]
async fn the_wait_for_a_file_has_an_end_and_keeps_nobody_else_waiting() {
    let backend = backend().await;
    let settings = [MEDIA[0], MEDIA[1], ("MEDIA_WAIT", "8s"), ("BACKEND_CONCURRENCY", "1")];
    let stage = stage(&backend, &settings).await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let sender = stage.customer().await;
    let began = Watch::start();
    let image = send(&sender, "image", "", b"foto", "stuck").await;
    let behind = sender.write("¿la viste?").await;
    stage.streams().await.received(2).await;
    let other = stage.simulator.customer("5491112345679", Addressing::Phone).await;
    for text in ["uno", "dos", "tres"] {
        other.write(text).await;
    }
    other.receives(3).await;
    assert_eq!(told(&backend, &image).len(), 0, "others were asked about only when the wait was over");
    let media = call(&backend, &image).await["media"].clone();
    let waited = began.took().await;
    assert!(waited.in_all >= Duration::from_secs(7), "asked after {waited}");
    let key = format!("default/{0}/{0}/{image}", sender.phone());
    assert_eq!((&media["state"], &media["key"]), (&json!("pending"), &json!(key)));
    call(&backend, &behind).await;
    sender.receives(2).await;
    // In the order in which they were written.
    let asked: Vec<_> =
        backend.asked().into_iter().filter(|asked| asked.from_number == sender.phone()).collect();
    assert!(asked.len() == 2 && asked[0].body.contains(&image), "{asked:?}");
}

/// Nothing of the wait is remembered by anybody, and nothing needs to be.
#[tokio::test]
async fn a_forwarder_killed_while_it_waits_for_a_file_costs_nothing() {
    let backend = backend().await;
    let stage = stage(&backend, &[MEDIA[0], MEDIA[1], ("MEDIA_WAIT", "1m")]).await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    stage.simulator.fault_as(json!({"kind": "media_refused", "code": 500})).await;
    let id = send(&customer, "image", "", b"foto", "whole").await;
    let mut forwarder = product.forwarders.remove(0);
    eventually("a turn that waits for a file", PATIENCE, async || {
        let metrics = forwarder.metrics().await;
        if metrics.contains("\nwa_turns{state=\"file\"} 1\n") { Ok(()) } else { Err(metrics) }
    })
    .await;
    forwarder.process.kill();
    let _successor = stage.start(Role::Forwarder).await;
    stage.simulator.no_faults().await;
    assert_eq!(call(&backend, &id).await["media"]["state"], "stored");
    customer.receives(1).await;
    stage.streams().await.settled(1).await;
    let outcomes = stage.streams().await.outcomes().await;
    assert!(matches!(outcomes[0].outcome().result, Some(Ending::Reply(_))) && outcomes.len() == 1);
}

/// A replay's file has the name of the message that it repeats, and word of it came long before.
#[tokio::test]
async fn a_replayed_message_has_its_file() {
    let backend = Unwell::start(|_| Answer::new(422, "")).await;
    let stage = stage(&backend, &[MEDIA[0], MEDIA[1], ("MEDIA_WAIT", "1m")]).await;
    stage.logs.expects(&crate::support::warning::given_up("http-422"));
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let id = send(&customer, "image", "", b"foto", "whole").await;
    stage.streams().await.settled(1).await;
    let first = call(&backend, &id).await;
    backend.set(|_| Answer::text("¡qué linda!"));
    stage.output(&["dlq", "replay", "1"]).await;
    customer.receives(1).await;
    let all = told(&backend, &id);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1]["media"], first["media"]);
    assert_eq!(all[1]["media"]["state"], "stored");
}
