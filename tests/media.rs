//! Files by claim check: a message never waits for its file; the file comes whole, or an update says why not; and nobody
//! but WhatsApp is called for it.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::{Media, MediaResult, MediaState};

use crate::support::heart::Watch;
use crate::support::{
    Addressing, Customer, Layout, PATIENCE, Product, Role, Stage, eventually, killed_at, warning,
};

async fn stage() -> Stage {
    Stage::plan().setting("MEDIA", "inbound").setting("MEDIA_MAX_BYTES", "1MiB").set().await
}

/// Bytes that compress to nothing else.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place * 31 % 251).unwrap_or_default()).collect()
}

/// A message with a file, for the simulator; `media` is said beside the file's bytes.
async fn send(customer: &Customer, kind: &str, content: &[u8], media: Value) -> String {
    let mut fields = json!({"kind": kind, "text": "mira", "media": media});
    fields["media"]["bytes"] = BASE64_STANDARD.encode(content).into();
    customer.write_with(fields).await
}

/// What became of the file of this message, as soon as the bus says so.
async fn result(stage: &Stage, id: &str) -> MediaResult {
    let streams = stage.streams().await;
    let mut found = Vec::new();
    eventually(format!("the file of {id}"), PATIENCE, async || {
        found = streams.updates().await;
        found.retain(|entry| entry.inbound().message_id == id);
        if found.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
    })
    .await;
    let [entry] = found.as_slice() else { panic!("{} updates for {id}", found.len()) };
    assert_eq!(entry.header(header::KIND), Some("media"));
    match entry.inbound().content {
        Some(Content::Media(result)) if result.target_message_id == id => result,
        other => panic!("{other:?}"),
    }
}

/// The file in a message, as it is on the bus.
async fn named(stage: &Stage, id: &str) -> Media {
    let messages = stage.streams().await.messages().await;
    let found = messages.iter().map(|entry| entry.inbound()).find(|message| message.message_id == id);
    match found.and_then(|message| message.content) {
        Some(
            Content::Image(media)
            | Content::Video(media)
            | Content::Audio(media)
            | Content::Document(media)
            | Content::Sticker(media),
        ) => media,
        other => panic!("{other:?}"),
    }
}

/// The object, as any client of NATS reads it. `None`: there is none.
async fn object(stage: &Stage, key: &str) -> Option<Vec<u8>> {
    let streams = stage.streams().await;
    let bucket = streams.jetstream().get_object_store("WA_MEDIA").await.expect("the bucket");
    let mut object = bucket.get(key).await.ok()?;
    let mut content = Vec::new();
    object.read_to_end(&mut content).await.expect("the object is whole");
    Some(content)
}

/// Waits until the edge has tried in vain to fetch the file of this message.
async fn tried(product: &Product, id: &str) {
    eventually(format!("a try for {id}"), PATIENCE, async || {
        let log = product.edge.process.stderr();
        let tried = log.lines().any(|line| line.contains("a file did not come") && line.contains(id));
        if tried { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
}

async fn assert_stored(stage: &Stage, id: &str, content: &[u8]) -> MediaResult {
    let result = result(stage, id).await;
    assert_eq!((result.state(), result.reason.as_str()), (MediaState::Stored, ""));
    assert_eq!(result.bucket, "WA_MEDIA");
    assert_eq!(result.size_bytes, u64::try_from(content.len()).expect("a size"));
    assert_eq!(result.sha256, Sha256::digest(content).to_vec());
    let found = object(stage, &result.key).await.expect("the object");
    assert!(found == content, "{} bytes instead of {}", found.len(), content.len());
    result
}

async fn assert_failed(stage: &Stage, id: &str, reason: &str) {
    let result = result(stage, id).await;
    assert_eq!((result.state(), result.reason.as_str()), (MediaState::Failed, reason));
    let key = result.key;
    assert!(key.is_empty() && names(stage).await.iter().all(|name| !name.contains(id)), "{key}");
}

/// The names of all objects.
async fn names(stage: &Stage) -> Vec<String> {
    use futures::TryStreamExt as _;
    let streams = stage.streams().await;
    let bucket = streams.jetstream().get_object_store("WA_MEDIA").await.expect("the bucket");
    let list = bucket.list().await.expect("a list");
    list.map_ok(|info| info.name).try_collect().await.expect("the objects")
}

#[tokio::test]
async fn files_of_every_kind_follow_their_messages() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let mut sent = Vec::new();
    for (kind, length) in
        [("image", 300_000), ("voice", 4_001), ("document", 1 << 20), ("video", 131_072), ("sticker", 1)]
    {
        let media = json!({"seconds": 7, "thumbnail": "/9j/4A==", "file_name": "carta.pdf"});
        let content = bytes(length);
        sent.push((kind, send(&customer, kind, &content, media).await, content));
    }
    for (kind, id, content) in &sent {
        let result = assert_stored(&stage, id, content).await;
        let media = named(&stage, id).await;
        assert_eq!(
            (media.state(), media.mime_type.as_str()),
            (MediaState::Pending, result.mime_type.as_str())
        );
        assert_eq!(result.waveform.len(), if *kind == "voice" { 64 } else { 0 });
        let has_seconds = ["voice", "video"].contains(kind);
        assert_eq!(result.seconds, if has_seconds { 7 } else { 0 }, "{kind}");
        let has_thumbnail = ["image", "video", "document"].contains(kind);
        assert_eq!(!result.thumbnail.is_empty(), has_thumbnail, "{kind}");
        let message = stage.streams().await.messages().await;
        let ids = message.iter().filter_map(|entry| entry.header(header::CE_ID));
        assert_eq!(ids.filter(|id| *id == result.key).count(), 1, "it has the name of its message");
    }
}

#[tokio::test]
async fn by_default_no_file_is_fetched() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let id = send(&customer, "image", b"foto", json!({})).await;
    stage.streams().await.settled(1).await;
    assert_eq!(named(&stage, &id).await.state(), MediaState::Unspecified);
    let bucket = stage.streams().await.jetstream().get_object_store("WA_MEDIA").await;
    assert!(bucket.is_err(), "there is no bucket");
    assert_eq!(stage.streams().await.updates().await.len(), 0);
}

#[tokio::test]
async fn a_file_that_is_not_what_was_sent_is_refused_and_nothing_of_it_stays() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let mut sent = Vec::new();
    for (how, length, reason) in [
        ("truncated", 300_000, "damaged"),
        ("flipped_mac", 300_001, "damaged"),
        ("wrong_hash", 300_002, "wrong-hash"),
        ("whole", (1 << 20) + 1, "too-large"),
        ("whole", 3 << 20, "too-large"),
    ] {
        sent.push((send(&customer, "image", &bytes(length), json!({"how": how})).await, reason));
    }
    let last = send(&customer, "image", &bytes(300_003), json!({})).await;
    for (id, reason) in &sent {
        assert_failed(&stage, id, reason).await;
    }
    assert_stored(&stage, &last, &bytes(300_003)).await;
}

/// What a sender, or WhatsApp's own word, names beside WhatsApp is never called.
#[tokio::test]
async fn a_crafted_path_reaches_nobody() {
    let stage = stage().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let foreign = elsewhere.local_addr().expect("an address").to_string();
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    for path in [
        format!("@{foreign}/x"),
        format!(":pass@{foreign}/x"),
        format!("//{foreign}/x"),
        format!("http://{foreign}/x"),
        format!("https://{foreign}/x"),
    ] {
        let id = send(&customer, "image", path.as_bytes(), json!({"direct_path": path})).await;
        eventually("the message", PATIENCE, async || {
            let messages = stage.streams().await.messages().await;
            let is_there = messages.iter().any(|entry| entry.inbound().message_id == id);
            if is_there { Ok(()) } else { Err(String::new()) }
        })
        .await;
        let media = named(&stage, &id).await;
        assert_eq!((media.state(), media.reason.as_str()), (MediaState::Failed, "unusable"), "{path}");
    }
    // A path that is one, and an address beside it.
    let beside = json!({"static_url": format!("http://{foreign}/x")});
    let id = send(&customer, "image", b"foto", beside).await;
    assert_stored(&stage, &id, b"foto").await;
    let odd = json!({"direct_path": format!("/@{foreign}/x")});
    let id = send(&customer, "image", b"otra", odd).await;
    // WhatsApp has no such file, and so its phone uploads it where it belongs.
    assert_stored(&stage, &id, b"otra").await;
    let mut knock = std::pin::pin!(elsewhere.accept());
    assert!(futures::poll!(&mut knock).is_pending(), "somebody else was called");
}

#[tokio::test]
async fn hosts_that_are_not_whatsapps_are_not_called_whoever_names_them() {
    let stage = stage().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let foreign = elsewhere.local_addr().expect("an address").to_string();
    stage.simulator.fault_as(json!({"kind": "media_host", "attributes": {"host": foreign}})).await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let id = send(&customer, "image", b"foto", json!({})).await;
    tried(&product, &id).await;
    let mut knock = std::pin::pin!(elsewhere.accept());
    assert!(futures::poll!(&mut knock).is_pending(), "somebody else was called");
    // It is asked where files are as soon as it does not know.
    stage.simulator.no_faults().await;
    // It may have come online a moment ago.
    stage.logs.may_have("a change of the session's state did not get on the bus");
    product.edge.stop().await;
    let _successor = stage.start(Role::Run).await;
    assert_stored(&stage, &id, b"foto").await;
}

#[tokio::test]
async fn a_file_that_has_expired_is_uploaded_again_by_its_phone() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let by_number = stage.customer().await;
    let by_hidden_id = stage.simulator.customer("5491112345679", Addressing::Lid).await;
    let content = bytes(200_000);
    for customer in [&by_number, &by_hidden_id] {
        let id = send(customer, "document", &content, json!({"how": "expired"})).await;
        assert_stored(&stage, &id, &content).await;
    }
    stage.simulator.fault_as(json!({"kind": "media_retry", "attributes": {"answer": "not_found"}})).await;
    let id = send(&by_number, "image", b"foto", json!({"how": "expired"})).await;
    assert_failed(&stage, &id, "expired").await;
    for code in [403, 404, 410] {
        stage.simulator.fault_as(json!({"kind": "media_refused", "code": code})).await;
        let id = send(&by_number, "image", format!("{code}").as_bytes(), json!({})).await;
        assert_failed(&stage, &id, "expired").await;
    }
}

/// The answer of a phone comes on the connection on which it was asked, or never: it is asked again on the next one, and not
/// after a minute, as a phone that is off.
#[tokio::test]
async fn a_phone_whose_answer_was_lost_with_the_connection_is_asked_again_at_once() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    stage.logs.may_have_broken_traffic();
    let customer = stage.customer().await;
    stage.simulator.fault_as(json!({"kind": "media_retry", "attributes": {"answer": "silence"}})).await;
    let id = send(&customer, "image", b"foto", json!({"how": "expired"})).await;
    eventually("the phone to be asked", PATIENCE, async || {
        match stage.simulator.counter("media_retries").await {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    stage.simulator.no_faults().await;
    let watch = Watch::start();
    stage.simulator.fault("drop_connection", None).await;
    assert_stored(&stage, &id, b"foto").await;
    watch.within(Duration::from_secs(20), "the file is fetched").await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_tried_again() {
    let stage = stage().await;
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    for code in [401, 500, 302] {
        stage.simulator.fault_as(json!({"kind": "media_refused", "code": code})).await;
        let content = format!("{code}");
        let id = send(&customer, "image", content.as_bytes(), json!({})).await;
        tried(&product, &id).await;
        stage.simulator.no_faults().await;
        assert_stored(&stage, &id, content.as_bytes()).await;
    }
}

/// Others neither wait for somebody's many files nor for files that never come.
#[tokio::test]
async fn a_flood_of_one_person_keeps_nobody_waiting() {
    let stage = stage().await;
    let _product = stage.product(Layout::OneProcess).await;
    let flooder = stage.customer().await;
    let other = stage.simulator.customer("5491112345679", Addressing::Phone).await;
    for number in 0..40 {
        send(&flooder, "image", format!("{number}").repeat(100).as_bytes(), json!({"how": "stuck"})).await;
    }
    let content = bytes(100_000);
    let id = send(&other, "image", &content, json!({})).await;
    assert_stored(&stage, &id, &content).await;
    assert_eq!(names(&stage).await.len(), 1, "none of the others is there");
}

/// What is not stored waits, and nothing else does.
#[tokio::test]
async fn a_full_bucket_holds_up_no_message_and_is_tried_again() {
    let stage = Stage::plan().setting("MEDIA", "inbound").setting("NATS_MEDIA_MAX_BYTES", "1MiB").set().await;
    stage.logs.expects(warning::FULL);
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let content = bytes(2 << 20);
    let id = send(&customer, "document", &content, json!({})).await;
    tried(&product, &id).await;
    customer.write("hola").await;
    customer.receives(2).await;
    product.edge.ready().await;
    let jetstream = stage.streams().await.jetstream().clone();
    let found = jetstream.get_stream("OBJ_WA_MEDIA").await.expect("the stream").cached_info().config.clone();
    assert_eq!((found.max_bytes, found.discard), (1 << 20, DiscardPolicy::New));
    jetstream.update_stream(Config { max_bytes: -1, ..found }).await.expect("more room");
    assert_stored(&stage, &id, &content).await;
}

/// The pieces that it had stored, and those that it had not, make no difference.
#[tokio::test]
async fn a_bus_that_goes_away_during_a_download_costs_no_file() {
    let mut stage = stage().await;
    stage.logs.expects_an_outage_of_the_bus();
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let content = bytes(300_000);
    let id = send(&customer, "image", &content, json!({"how": "slow"})).await;
    eventually("the download to begin", PATIENCE, async || {
        match stage.simulator.counter("media_downloads").await {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    stage.nats.stop().await;
    tried(&product, &id).await;
    stage.nats.restart().await;
    assert_stored(&stage, &id, &content).await;
    assert_eq!(names(&stage).await.len(), 1);
}

/// However long a file is, the edge has a few pieces of it.
#[tokio::test]
async fn long_files_take_little_memory() {
    let stage = Stage::plan().setting("MEDIA", "inbound").set().await;
    // A process that has no room to run for half a minute hears nothing, either.
    stage.logs.may_have("WhatsApp is connected and says nothing");
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let first = send(&customer, "image", &bytes(300_000), json!({})).await;
    assert_stored(&stage, &first, &bytes(300_000)).await;
    let before = product.edge.process.peak_memory();
    let content = bytes(50 << 20);
    let two =
        [send(&customer, "document", &content, json!({})), send(&customer, "video", &content, json!({}))];
    for id in futures::future::join_all(two).await {
        assert_stored(&stage, &id, &content).await;
    }
    let more = product.edge.process.peak_memory().saturating_sub(before);
    assert!(more < 32 << 20, "{} MiB more for two files of 50 MiB", more >> 20);
}

// A test for each point: a file is fetched, or fetched again, and said to be there once.
killed_at! {
    killed_at;
    a_kill_before_the_job_is_noted_costs_no_file: "edge.before-job";
    a_kill_after_the_job_is_noted_costs_no_file: "edge.after-puback";
    a_kill_before_the_object_is_complete_costs_no_file: "edge.before-object";
    a_kill_after_the_object_is_complete_costs_no_file: "edge.after-object";
    a_kill_after_the_update_costs_no_file: "edge.after-media-update";
}

/// From then on nobody brings the message again: what is to be fetched has to be on the disk.
#[tokio::test]
async fn a_kill_after_whatsapp_was_told_costs_no_file() {
    let stage = stage().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    stage.simulator.fault_as(json!({"kind": "media_refused", "code": 500})).await;
    let content = bytes(1_000);
    let id = send(&customer, "image", &content, json!({})).await;
    eventually("WhatsApp to be told", PATIENCE, async || match stage.simulator.unreceived().await {
        0 => Ok(()),
        count => Err(format!("{count} are not received")),
    })
    .await;
    product.edge.process.kill();
    stage.simulator.no_faults().await;
    let _successor = stage.start(Role::Edge).await;
    assert_stored(&stage, &id, &content).await;
}

async fn killed_at(point: &str) {
    let stage = stage().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    // It may have come online a moment ago.
    stage.logs.may_have("a change of the session's state did not get on the bus");
    product.edge.stop().await;
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", point)]).await;
    dying.ready().await;
    let content = bytes(300_000);
    let id = send(&customer, "image", &content, json!({})).await;
    dying.process.end_by_kill(PATIENCE).await;
    let is_half = point == "edge.before-object";
    if is_half {
        assert_eq!(names(&stage).await, Vec::<String>::new(), "half of a file is seen");
    }
    let _successor = stage.start(Role::Edge).await;
    assert_stored(&stage, &id, &content).await;
    stage.streams().await.settled(1).await;
    assert_eq!(stage.streams().await.updates().await.len(), 1);
    assert_eq!(names(&stage).await.len(), 1);
}
