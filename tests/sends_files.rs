//! Files that other services have sent: each comes to the phone whole, is uploaded once, and keeps no other chat waiting.

use async_nats::jetstream::object_store::{ObjectMetadata, ObjectStore};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{Receipt, SendMedia, SendMediaKind, SendMessage, SendQuoted, SendText};
use whatsapp_connector::wire::{id, now_ms};

use crate::support::{
    Addressing, Customer, Layout, PATIENCE, Received, Role, Stage, Streams, eventually, warning,
};

async fn stage() -> Stage {
    Stage::plan().setting("MEDIA", "all").setting("MEDIA_MAX_BYTES", "8MiB").set().await
}

/// Bytes that compress to nothing else; others for each seed.
pub fn bytes(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from((place * 31 + seed) % 251).unwrap_or_default()).collect()
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn bucket(streams: &Streams) -> ObjectStore {
    let jetstream = streams.jetstream();
    eventually("the bucket", PATIENCE, async || {
        jetstream.get_object_store("WA_MEDIA").await.map_err(|error| error.to_string())
    })
    .await
}

/// Another service puts an object there, as any client of NATS does.
pub async fn put(streams: &Streams, name: &str, content: &[u8]) {
    let mut content = content;
    bucket(streams).await.put(name, &mut content).await.expect("an object");
}

/// The same in pieces as long as messages can be.
async fn put_in_large_pieces(streams: &Streams, name: &str, mut content: &[u8]) {
    let one =
        ObjectMetadata { name: name.to_owned(), chunk_size: Some(1_000_000), ..ObjectMetadata::default() };
    bucket(streams).await.put(one, &mut content).await.expect("an object");
}

fn media(kind: SendMediaKind, key: &str) -> SendMedia {
    SendMedia { key: key.to_owned(), kind: kind.into(), ..SendMedia::default() }
}

fn to(customer: &Customer, file: SendMedia) -> SendMessage {
    SendMessage {
        to: customer.phone().to_owned(),
        content: Some(Content::Media(file)),
        ..SendMessage::default()
    }
}

fn text(customer: &Customer, body: &str) -> SendMessage {
    let content = Some(Content::Text(SendText { body: body.to_owned(), ..Default::default() }));
    SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() }
}

/// The message shows this file, whole.
#[track_caller]
fn assert_shows(received: &Received, kind: &str, content: &[u8]) {
    let file = &received.more["file"];
    assert_eq!(
        (received.kind.as_str(), &file["sha256"], &file["size"], &file["whole"]),
        (kind, &json!(hex(content)), &json!(content.len()), &json!(true)),
        "{received:?}"
    );
}

async fn failures(streams: &Streams, count: usize) -> Vec<Receipt> {
    eventually(format!("{count} failures"), PATIENCE, async || {
        let failed = streams.failed_sends().await;
        if failed.len() >= count { Ok(failed) } else { Err(format!("{failed:?}")) }
    })
    .await
}

async fn uploads(stage: &Stage) -> u64 {
    stage.simulator.counter("media_uploads").await
}

#[tokio::test]
async fn every_kind_comes_to_the_phone_whole() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.customer("5491155550021", Addressing::Lid).await;
    let streams = stage.streams().await;
    let asked = customer.write("¿el menú?").await;
    customer.receives(1).await;
    let jpeg = vec![0xff, 0xd8, 0xff, 0xe0];
    let image = SendMedia {
        caption: "Hoy, @5491155550001".to_owned(),
        width: 640,
        height: 480,
        thumbnail: jpeg.clone(),
        ..media(SendMediaKind::Image, "k0")
    };
    let voice = SendMedia { seconds: 3, waveform: vec![7; 64], ..media(SendMediaKind::Voice, "k1") };
    let video = SendMedia { seconds: 9, caption: "mira".to_owned(), ..media(SendMediaKind::Video, "k2") };
    let document = SendMedia {
        mime_type: "application/pdf".to_owned(),
        file_name: "menú.pdf".to_owned(),
        caption: "el menú".to_owned(),
        ..media(SendMediaKind::Document, "k3")
    };
    let rows = [
        ("image", "Hoy, @5491155550001", 300_000, image),
        ("voice", "", 4_001, voice),
        ("video", "mira", 131_072, video),
        ("document", "el menú", 6 << 20, document),
        ("gif", "", 16, media(SendMediaKind::Gif, "k4")),
        ("video_note", "", 15, media(SendMediaKind::VideoNote, "k5")),
        ("audio", "", 1, media(SendMediaKind::Audio, "k6")),
        ("sticker", "", 70_000, media(SendMediaKind::Sticker, "k7")),
    ];
    for (place, (kind, _, length, file)) in rows.iter().enumerate() {
        put(&streams, &format!("k{place}"), &bytes(*length, place)).await;
        let mut request = to(&customer, file.clone());
        if *kind == "image" {
            request.quoted_message_id.clone_from(&asked);
            request.quoted = Some(SendQuoted { text: "¿el menú?".to_owned(), ..SendQuoted::default() });
            request.mentions = vec!["5491155550001".to_owned()];
        }
        streams.send(&format!("r{place}"), &request).await;
    }
    let inbox = customer.receives(1 + rows.len()).await;
    for (place, (kind, words, length, _)) in rows.iter().enumerate() {
        let received = &inbox[place + 1];
        assert_eq!((&received.id, received.text.as_str()), (&id::whatsapp(&format!("r{place}")), *words));
        assert_shows(received, kind, &bytes(*length, place));
    }
    let file = |place: usize, field: &str| inbox[place].more["file"][field].clone();
    assert_eq!(file(1, "mime"), "image/jpeg");
    assert_eq!(file(1, "pixels"), json!([640, 480]));
    assert_eq!(file(1, "thumbnail"), BASE64_STANDARD.encode(&jpeg));
    assert_eq!(
        (&inbox[1].more["about"], &inbox[1].more["mentions"]),
        (&json!(asked), &json!(["5491155550001@s.whatsapp.net"]))
    );
    assert_eq!((file(2, "mime"), file(2, "seconds")), (json!("audio/ogg; codecs=opus"), json!(3)));
    assert_eq!(file(2, "waveform"), BASE64_STANDARD.encode([7; 64]));
    assert_eq!((file(4, "mime"), file(4, "file_name")), (json!("application/pdf"), json!("menú.pdf")));
    assert_eq!(file(8, "mime"), "image/webp");
}

#[tokio::test]
async fn the_type_of_a_file_may_stand_at_the_object() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let mut content: &[u8] = b"\x89PNG";
    let metadata = ObjectMetadata {
        name: "foto".to_owned(),
        metadata: [("Content-Type".to_owned(), "image/png".to_owned())].into(),
        ..ObjectMetadata::default()
    };
    bucket(&streams).await.put(metadata, &mut content).await.expect("an object");
    streams.send("r", &to(&customer, media(SendMediaKind::Image, "foto"))).await;
    assert_eq!(customer.receives(1).await[0].more["file"]["mime"], "image/png");
}

#[tokio::test]
async fn a_file_for_many_chats_is_uploaded_once_also_after_a_restart() {
    let stage = stage().await;
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let customers = stage.customers("54911888", 5).await;
    let streams = stage.streams().await;
    let content = bytes(300_000, 1);
    // The content counts, and not the object.
    for key in ["a", "b"] {
        put(&streams, key, &content).await;
    }
    let (last, first) = customers.split_last().expect("customers");
    for (place, customer) in first.iter().enumerate() {
        let key = ["a", "b"][place % 2];
        streams.send(key.repeat(place + 1).as_str(), &to(customer, media(SendMediaKind::Image, key))).await;
    }
    for customer in first {
        assert_shows(&customer.receives(1).await[0], "image", &content);
    }
    assert_eq!(uploads(&stage).await, 1);
    stage.logs.may_have("a change of the session's state did not get on the bus");
    product.edge.stop().await;
    let _edge = stage.start(Role::Edge).await;
    streams.send("last", &to(last, media(SendMediaKind::Image, "a"))).await;
    assert_shows(&last.receives(1).await[0], "image", &content);
    assert_eq!(uploads(&stage).await, 1);
    // As another kind it has another key.
    streams.send("as-document", &to(last, media(SendMediaKind::Document, "a"))).await;
    assert_shows(&last.receives(2).await[1], "document", &content);
    assert_eq!(uploads(&stage).await, 2);
}

#[tokio::test]
async fn an_upload_that_fails_is_tried_again_and_goes_on_where_it_broke_off() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    for (place, code) in [401, 403, 500, 429, 302].into_iter().enumerate() {
        let refused = json!({"kind": "upload_refused", "code": code, "attributes": {"times": "1"}});
        stage.simulator.fault_as(refused).await;
        let (key, content) = (code.to_string(), bytes(1_000, place));
        put(&streams, &key, &content).await;
        streams.send(&key, &to(&customer, media(SendMediaKind::Image, &key))).await;
        assert_shows(&customer.receives(place + 1).await[place], "image", &content);
        stage.simulator.no_faults().await;
    }
    let before = stage.simulator.counter("media_upload_bytes").await;
    let half = json!({"kind": "upload_half", "attributes": {"times": "1"}});
    stage.simulator.fault_as(half).await;
    let content = bytes(6 << 20, 9);
    put_in_large_pieces(&streams, "long", &content).await;
    streams.send("long", &to(&customer, media(SendMediaKind::Document, "long"))).await;
    assert_shows(&customer.receives(6).await[5], "document", &content);
    let came = stage.simulator.counter("media_upload_bytes").await - before;
    assert!(came < 4 << 20, "{came} bytes came after the half that was there");
}

#[tokio::test]
async fn a_file_that_never_gets_to_whatsapp_fails_with_a_code_and_the_chat_goes_on() {
    let stage = stage().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    put(&streams, "foto", b"foto").await;
    for (place, (code, reason)) in [(415, "upload-refused"), (500, "upload-failed")].into_iter().enumerate() {
        stage.simulator.fault_as(json!({"kind": "upload_refused", "code": code})).await;
        let tried = uploads(&stage).await;
        streams.send(reason, &to(&customer, media(SendMediaKind::Image, "foto"))).await;
        streams.send(&format!("after-{reason}"), &text(&customer, reason)).await;
        assert_eq!(customer.receives(place + 1).await[place].text, reason);
        let failed = failures(&streams, place + 1).await;
        let told = (failed[place].request_id.as_str(), failed[place].reason.as_str());
        assert_eq!(told, (reason, reason));
        let tries = uploads(&stage).await - tried;
        assert!((2..=5).contains(&tries), "{tries} tries");
        stage.simulator.no_faults().await;
    }
}

/// The others wait for the first one's try, and its failure is theirs.
#[tokio::test]
async fn a_file_for_many_chats_that_never_gets_to_whatsapp_is_not_tried_anew_for_each() {
    let stage = stage().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customers, streams) = (stage.customers("54911888", 12).await, stage.streams().await);
    put(&streams, "foto", b"foto").await;
    // The first try takes so long that all others begin to wait.
    stage.simulator.fault_as(json!({"kind": "upload_slow", "for_ms": 5_000})).await;
    stage.simulator.fault_as(json!({"kind": "upload_half", "code": 415})).await;
    for customer in &customers {
        streams.send(customer.phone(), &to(customer, media(SendMediaKind::Image, "foto"))).await;
    }
    let failed = failures(&streams, customers.len()).await;
    assert!(failed.iter().all(|one| one.reason == "upload-refused"), "{failed:?}");
    let tries = uploads(&stage).await;
    assert!((3..=25).contains(&tries), "{tries} tries: three of each chat are 36");
}

#[tokio::test]
async fn a_slow_upload_keeps_nobody_waiting_but_its_own_chat() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let streams = stage.streams().await;
    // More than the edge sends to at once, and uploads for at once.
    let slow = stage.customers("54911888", 70).await;
    let (ana, luis) = (&slow[0], stage.customer().await);
    stage.simulator.fault_as(json!({"kind": "upload_slow"})).await;
    for (place, customer) in slow.iter().enumerate() {
        let key = format!("f{place}");
        put(&streams, &key, &bytes(1_000, place)).await;
        streams.send(&key, &to(customer, media(SendMediaKind::Image, &key))).await;
    }
    streams.send("behind", &text(ana, "después")).await;
    eventually("the requests to be in hand", PATIENCE, async || {
        let (begun, in_hand) = (uploads(&stage).await, streams.in_the_edges_hand().await);
        if begun > 0 && in_hand == slow.len() + 1 { Ok(()) } else { Err(format!("{begun}, {in_hand}")) }
    })
    .await;
    luis.write("hola").await;
    luis.receives(1).await;
    streams.send("beside", &text(&luis, "su mesa")).await;
    assert_eq!(luis.receives(2).await[1].text, "su mesa");
    // A chat keeps its order.
    assert_eq!(ana.inbox().await.len(), 0);
    stage.simulator.no_faults().await;
    let inbox = ana.receives(2).await;
    assert_shows(&inbox[0], "image", &bytes(1_000, 0));
    assert_eq!(inbox[1].text, "después");
    for customer in &slow[1..] {
        customer.receives(1).await;
    }
}

#[tokio::test]
async fn a_file_that_is_too_late_is_not_sent() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    put(&streams, "foto", b"foto").await;
    stage.simulator.fault_as(json!({"kind": "upload_slow"})).await;
    let late =
        SendMessage { not_after_ms: now_ms() + 1_500, ..to(&customer, media(SendMediaKind::Image, "foto")) };
    streams.send("late", &late).await;
    streams.send("next", &text(&customer, "hola")).await;
    assert_eq!(customer.receives(1).await[0].text, "hola");
    let failed = failures(&streams, 1).await;
    assert_eq!((failed[0].request_id.as_str(), failed[0].reason.as_str()), ("late", "expired"));
}

/// The description of an object with other words in it.
async fn redescribe(streams: &Streams, name: &str, change: impl Fn(&mut Value)) {
    let subject = format!("$O.WA_MEDIA.M.{}", BASE64_URL_SAFE.encode(name));
    let jetstream = streams.jetstream();
    let stream = jetstream.get_stream("OBJ_WA_MEDIA").await.expect("the stream");
    let stored = stream.direct_get_last_for_subject(subject.as_str()).await.expect("a description");
    let mut description: Value = serde_json::from_slice(&stored.payload).expect("JSON");
    change(&mut description);
    let payload = description.to_string();
    jetstream.publish(subject, payload.into()).await.expect("sent").await.expect("stored");
}

#[tokio::test]
async fn what_is_no_file_that_can_be_sent_fails_with_a_code() {
    let stage = stage().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    for (name, length) in [
        ("good", 10),
        ("empty", 0),
        ("large", (8 << 20) + 1),
        ("false-hash", 300_000),
        ("false-size", 300_000),
    ] {
        put(&streams, name, &bytes(length, length)).await;
    }
    put(&streams, "gone", b"foto").await;
    bucket(&streams).await.delete("gone").await.expect("it is deleted");
    let hash = format!("SHA-256={}", BASE64_URL_SAFE.encode([7; 32]));
    redescribe(&streams, "false-hash", |description| description["digest"] = hash.as_str().into()).await;
    redescribe(&streams, "false-size", |description| description["size"] = 299_999.into()).await;
    let image = |key: &str| media(SendMediaKind::Image, key);
    let elsewhere = SendMedia { bucket: "NOWHERE".to_owned(), ..image("good") };
    let crafted = SendMedia { bucket: "a.>".to_owned(), ..image("good") };
    let captioned = SendMedia { caption: "hola".to_owned(), ..media(SendMediaKind::Voice, "good") };
    let rows = [
        ("no-object", "", image("missing")),
        ("no-object", "", image("gone")),
        ("empty", "", image("empty")),
        ("too-large", "", image("large")),
        ("wrong-hash", "", image("false-hash")),
        ("wrong-hash", "", image("false-size")),
        ("bucket-away", "", elsewhere),
        ("invalid-request", "media", crafted),
        ("invalid-request", "media", media(SendMediaKind::Unspecified, "good")),
        ("invalid-request", "caption", captioned),
    ];
    for (place, (_, _, file)) in rows.iter().enumerate() {
        streams.send(&format!("r{place}"), &to(&customer, file.clone())).await;
    }
    streams.send("good", &to(&customer, image("good"))).await;
    assert_shows(&customer.receives(1).await[0], "image", &bytes(10, 10));
    let failed = failures(&streams, rows.len()).await;
    let told: Vec<_> =
        failed.iter().map(|one| (one.request_id.clone(), one.reason.as_str(), one.detail.as_str())).collect();
    let wanted: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(place, (reason, detail, _))| (format!("r{place}"), *reason, *detail))
        .collect();
    assert_eq!(told, wanted);
    assert_eq!((customer.inbox().await.len(), uploads(&stage).await), (1, 1));
}

#[tokio::test]
async fn files_are_sent_only_if_the_operator_wants_it() {
    for setting in ["off", "inbound"] {
        let stage = Stage::plan().setting("MEDIA", setting).set().await;
        stage.logs.expects(warning::NOT_TAKEN);
        let _product = stage.product(Layout::OneProcess).await;
        let (customer, streams) = (stage.customer().await, stage.streams().await);
        streams.send("foto", &to(&customer, media(SendMediaKind::Image, "foto"))).await;
        let failed = failures(&streams, 1).await;
        assert_eq!(failed[0].reason, "media-off", "MEDIA={setting}");
    }
}

/// An object store of another service.
#[tokio::test]
async fn a_file_may_be_in_any_bucket_that_the_edge_may_read() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let config =
        async_nats::jetstream::object_store::Config { bucket: "menus".to_owned(), ..Default::default() };
    let menus = streams.jetstream().create_object_store(config).await.expect("a bucket");
    let mut content: &[u8] = b"%PDF";
    menus.put("2026/hoy.pdf", &mut content).await.expect("an object");
    let file = SendMedia { bucket: "menus".to_owned(), ..media(SendMediaKind::Document, "2026/hoy.pdf") };
    streams.send("menu", &to(&customer, file)).await;
    let inbox = customer.receives(1).await;
    assert_shows(&inbox[0], "document", b"%PDF");
    assert_eq!(inbox[0].more["file"]["file_name"], "hoy.pdf");
}

#[tokio::test]
async fn a_host_that_is_not_whatsapps_gets_nothing_whoever_names_it() {
    let stage = stage().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let foreign = elsewhere.local_addr().expect("an address").to_string();
    stage.simulator.fault_as(json!({"kind": "media_host", "attributes": {"host": foreign}})).await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    put(&streams, "foto", b"foto").await;
    streams.send("foto", &to(&customer, media(SendMediaKind::Image, "foto"))).await;
    tokio::select! {
        failed = failures(&streams, 1) => assert_eq!(failed[0].reason, "upload-failed"),
        _ = elsewhere.accept() => panic!("somebody else was called"),
    }
    let mut knock = std::pin::pin!(elsewhere.accept());
    assert!(futures::poll!(&mut knock).is_pending(), "somebody else was called");
}

/// However long a file is, the edge has a few pieces of it.
#[tokio::test]
async fn a_long_file_takes_little_memory() {
    let stage = Stage::plan().setting("MEDIA", "all").set().await;
    // A process that has no room to run for half a minute hears nothing, either.
    stage.logs.may_have("WhatsApp is connected and says nothing");
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    put(&streams, "short", &bytes(2 << 20, 1)).await;
    streams.send("short", &to(&customer, media(SendMediaKind::Video, "short"))).await;
    customer.receives(1).await;
    let before = product.edge.process.peak_memory();
    let content = bytes(24 << 20, 2);
    put_in_large_pieces(&streams, "long", &content).await;
    streams.send("long", &to(&customer, media(SendMediaKind::Video, "long"))).await;
    assert_shows(&customer.receives(2).await[1], "video", &content);
    let more = product.edge.process.peak_memory().saturating_sub(before);
    assert!(more < 16 << 20, "{} MiB more for a file of 24 MiB", more >> 20);
}

/// A test for each point: the phone shows one message, and each copy of it is the same.
macro_rules! killed_at {
    ($($name:ident: $point:literal, uploads $uploads:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                killed_at($point, $uploads).await;
            }
        )*
    };
}

killed_at! {
    a_kill_before_the_upload_costs_nothing: "edge.before-upload", uploads 1;
    a_kill_between_the_upload_and_the_send_doubles_nothing: "edge.after-upload", uploads 1;
    a_kill_after_the_send_of_a_file_doubles_nothing: "edge.after-send", uploads 1;
}

async fn killed_at(point: &str, wanted: u64) {
    let stage = stage().await;
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    stage.logs.may_have("a change of the session's state did not get on the bus");
    stage.logs.may_have(warning::SENT_AGAIN);
    product.edge.stop().await;
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", point)]).await;
    dying.ready().await;
    let content = bytes(300_000, 5);
    put(&streams, "foto", &content).await;
    streams.send("foto", &to(&customer, media(SendMediaKind::Image, "foto"))).await;
    streams.send("next", &text(&customer, "hola")).await;
    dying.process.end_by_kill(PATIENCE).await;
    let _successor = stage.start(Role::Edge).await;
    let inbox = customer.receives(2).await;
    assert_shows(&inbox[0], "image", &content);
    assert_eq!((inbox[0].altered, inbox[1].text.as_str()), (0, "hola"));
    assert_eq!(uploads(&stage).await, wanted);
}

/// What an upload left is lost with the session's store, and the phone has the first copy of the message.
#[tokio::test]
async fn a_copy_of_a_message_names_the_same_file_even_if_its_upload_is_forgotten() {
    let stage = stage().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    put(&streams, "foto", b"foto").await;
    stage.simulator.fault("mute_acks", None).await;
    streams.send("foto", &to(&customer, media(SendMediaKind::Image, "foto"))).await;
    customer.receives(1).await;
    product.edge.process.kill();
    stage.simulator.no_faults().await;
    let mut edge = stage.start_with(Role::Edge, &[("WITHOUT_GUARD", "uploads")]).await;
    edge.ready().await;
    let inbox = customer.receives_copies(2).await;
    assert_eq!((inbox.len(), inbox[0].altered, uploads(&stage).await), (1, 0, 2));
}

#[tokio::test]
async fn the_command_sends_a_file() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.customer().await;
    let luis = stage.simulator.customer("5491155550031", Addressing::Phone).await;
    let streams = stage.streams().await;
    let (path, content) = ("menu.pdf", bytes(300_000, 3));
    // Where the commands are run.
    std::fs::create_dir_all(stage.dir().join("work")).expect("a directory");
    std::fs::write(stage.dir().join("work").join(path), &content).expect("a file");
    let line = |customer: &Customer| {
        ["--to", customer.phone(), "--file", path, "--caption", "El menú", "--wait", "delivered"]
            .map(str::to_owned)
    };
    for customer in [&ana, &luis] {
        let line = line(customer);
        let (told, code) = stage.send_command(&line.each_ref().map(String::as_str)).await;
        assert_eq!((&told["state"], code), (&json!("delivered"), 0), "{told}");
        let inbox = customer.receives(1).await;
        assert_shows(&inbox[0], "document", &content);
        let file = &inbox[0].more["file"];
        assert_eq!((&file["mime"], &file["file_name"]), (&json!("application/pdf"), &json!("menu.pdf")));
        assert_eq!(inbox[0].text, "El menú");
    }
    use futures::TryStreamExt as _;
    let list = bucket(&streams).await.list().await.expect("a list");
    let names: Vec<String> = list.map_ok(|info| info.name).try_collect().await.expect("the objects");
    assert_eq!(names, [format!("sent/{}", hex(&content))]);
    let pieces = streams.jetstream().get_stream("OBJ_WA_MEDIA").await.expect("the stream");
    assert_eq!(pieces.cached_info().state.messages, 4, "three pieces and a description, once");
    let to = ["--to", ana.phone(), "--file"];
    assert_eq!(stage.send_command(&[&to[..], &[path, "--kind", "poll"]].concat()).await.1, 1);
    assert_ne!(stage.send_command(&[&to[..], &["nothing.pdf"]].concat()).await.1, 0);
    assert_eq!(ana.inbox().await.len(), 1);
}
