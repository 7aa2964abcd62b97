//! A stream that is full refuses what is new: everything waits where it is, as without NATS, and goes on by itself
//! once there is room.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};

use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{Customer, Layout, PATIENCE, Role, Stage, eventually, spawn, warning};

/// What one message of these tests takes, at the least.
const LONG: usize = 2_000;

/// As an operator does it: `stream` may hold so much more than it does now. `None`: as much as it likes.
async fn give_room(stage: &Stage, stream: &str, more: Option<u64>) {
    let jetstream = stage.streams().await.jetstream().clone();
    let found = jetstream.get_stream(stream).await.expect("the stream").cached_info().clone();
    let limit = more.map_or(-1, |more| i64::try_from(found.state.bytes + more).expect("a size"));
    let config = Config { max_bytes: limit, ..found.config };
    jetstream.update_stream(config).await.expect("an update");
}

/// The customer writes so many messages, each of them long.
async fn writes(customer: &Customer, count: usize) -> Vec<Written> {
    let mut written = Vec::new();
    for number in 0..count {
        let text = format!("{number} {}", "x".repeat(LONG));
        let id = customer.write(&text).await;
        written.push(Written::echoed(customer.phone(), id, &text));
    }
    written
}

#[tokio::test]
async fn the_settings_make_streams_that_refuse_what_is_new_when_they_are_full() {
    let stage = Stage::plan()
        .setting("NATS_IN_MAX_BYTES", "64MiB")
        .setting("NATS_OUT_MAX_BYTES", "10GiB")
        .set()
        .await;
    let mut forwarder = stage.start(Role::Forwarder).await;
    forwarder.ready().await;

    let jetstream = stage.streams().await.jetstream().clone();
    for (name, limit) in [("WA_IN", 64 << 20), ("WA_OUT", 10 << 30), ("WA_DLQ", -1)] {
        let config = jetstream.get_stream(name).await.expect("the stream").cached_info().config.clone();
        assert_eq!((config.max_bytes, config.discard), (limit, DiscardPolicy::New), "{name}");
    }
}

/// For longer than an edge keeps what it cannot store in memory.
#[tokio::test]
async fn a_full_inbound_stream_loses_nothing_and_the_edge_leaves_the_rest_with_whatsapp() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::FULL);
    stage.logs.expects("the inbound stream is full; disconnecting from WhatsApp");
    stage.logs.may_have(warning::SENDS_UNKNOWN);
    stage.logs.may_have(warning::SENT_AGAIN);
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut written = writes(&customer, 1).await;
    customer.receives(1).await;

    give_room(&stage, "WA_IN", Some(3 * LONG as u64)).await;
    written.extend(writes(&customer, 8).await);
    product.edge.not_ready("WA_IN is full").await;
    let log = product.edge.process.stderr();
    let told = log.lines().filter(|line| line.contains("the stream is full and takes nothing more")).count();
    assert_eq!(told, 1, "once, and not for each message: {log}");
    assert!(log.contains("nats stream edit WA_IN --max-bytes"), "{log}");
    eventually("the edge to leave WhatsApp", PATIENCE, async || {
        let log = product.edge.process.stderr();
        log.contains("the inbound stream is full; disconnecting")
            .then_some(())
            .ok_or_else(|| "not yet".into())
    })
    .await;
    written.extend(writes(&customer, 2).await);
    eventually("the edge to stay away", PATIENCE, async || {
        let looks = product.edge.process.stderr().matches("not connecting to WhatsApp").count();
        if looks >= 3 { Ok(()) } else { Err(format!("{looks} looks at the stream")) }
    })
    .await;
    product.edge.not_ready("standby").await;
    let stored = stage.streams().await.messages().await.len();
    assert!((1..written.len()).contains(&stored), "{stored} of {} are stored", written.len());
    let with_whatsapp = stage.simulator.unreceived().await;
    assert!(with_whatsapp >= written.len() - stored, "{with_whatsapp} with WhatsApp, {stored} stored");

    give_room(&stage, "WA_IN", None).await;
    customer.receives(written.len()).await;
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    product.edge.ready().await;
}

/// Full for a moment only, with the edge's messages in hand.
#[tokio::test]
async fn a_full_inbound_stream_with_room_again_goes_on_at_once_and_in_order() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::FULL);
    let mut product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    give_room(&stage, "WA_IN", Some(2 * LONG as u64)).await;

    let written = writes(&customer, 6).await;
    product.edge.not_ready("WA_IN is full").await;
    give_room(&stage, "WA_IN", None).await;

    let room = Watch::start();
    customer.receives(written.len()).await;
    room.within(Duration::from_secs(10), "to go on").await;
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    product.edge.ready().await;
    let log = product.edge.process.stderr();
    assert!(log.contains("the stream takes messages again"), "{log}");
    assert!(!log.contains("disconnecting from WhatsApp"), "{log}");
}

#[tokio::test]
async fn a_full_outbound_stream_holds_the_outcomes_whichever_forwarder_dies_meanwhile() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::FULL);
    stage.logs.expects("NATS is set up differently from the settings");
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    give_room(&stage, "WA_OUT", Some(2 * LONG as u64)).await;

    let written = writes(&customer, 6).await;
    product.forwarders[0].not_ready("WA_OUT is full").await;
    product.forwarders[0].process.kill();
    let mut other = stage.start(Role::Forwarder).await;
    other.not_ready("WA_OUT is full").await;
    product.edge.ready().await;
    give_room(&stage, "WA_OUT", None).await;

    customer.receives(written.len()).await;
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    other.ready().await;
}

#[tokio::test]
async fn a_full_dead_letter_stream_holds_its_chat_and_no_other() {
    let mut stage = Stage::plan().backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    stage.logs.expects(warning::FULL);
    let mut product = stage.product(Layout::OneProcess).await;
    let customers = stage.customers("54911333", 2).await;
    give_room(&stage, "WA_DLQ", Some(1)).await;

    let id = customers[0].write("esto no").await;
    product.edge.not_ready("WA_DLQ is full").await;
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "");
    stage.backend.restart().await;
    let other = Written::echoed(customers[1].phone(), customers[1].write("hola").await, "hola");
    customers[1].receives(1).await;
    assert_eq!(stage.streams().await.outcomes().await.len(), 1, "the copy comes before the outcome");
    give_room(&stage, "WA_DLQ", None).await;

    let written = [Written::unanswered(customers[0].phone(), id), other];
    stage.evidence(2, &customers).await.assert_kept(&written);
    assert_eq!(stage.streams().await.dead_letters().await.len(), 1);
    product.edge.ready().await;
}

/// It would make room by dropping messages that nobody has answered.
#[tokio::test]
async fn a_stream_with_a_limit_that_drops_old_messages_is_refused() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(warning::CANNOT_GO_ON);
    let config = Config {
        name: "WA_IN".into(),
        subjects: vec!["wa.in.>".into()],
        max_age: Duration::from_secs(7 * 86_400),
        duplicate_window: Duration::from_secs(86_400),
        max_bytes: 1 << 30,
        discard: DiscardPolicy::Old,
        allow_direct: true,
        ..Config::default()
    };
    stage.streams().await.jetstream().create_stream(config).await.expect("a stream");

    let mut process = spawn(Role::Edge, stage.settings(), stage.dir());
    let status = process.end(PATIENCE).await;

    let said = process.stderr();
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("WA_IN.discard: is Old, must be New"), "{said}");
}
