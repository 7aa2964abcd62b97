//! Chats whose past is gone from the bus: it has expired, was purged or deleted, or its stream was made anew. They are
//! answered at once. What was deleted under running processes does not stop them.

use std::time::Duration;

use crate::support::heart::Watch;
use crate::support::{
    Addressing, Connector, Customer, Layout, PATIENCE, Role, Setup, Stage, Streams, eventually,
};

/// What "at once" means here. Without the past of its chat a message took 15 s, or for ever.
const AT_ONCE: Duration = Duration::from_secs(3);
/// What the product says of it once.
const IN_ANEW: &str = "the inbound stream was made anew; what it held is lost";
const OUT_ANEW: &str = "the outbound stream was made anew; what it held is lost";

/// The customer writes, and gets the answer at once, as the last of `count`.
async fn is_answered(customer: &Customer, text: &str, count: usize) {
    let watch = Watch::start();
    customer.write(text).await;
    let inbox = customer.receives(count).await;
    let what = format!("the answer to `{text}`");
    watch.within(AT_ONCE, &what).await;
    shows(&inbox.iter().map(|received| received.text.as_str()).collect::<Vec<_>>(), text);
    assert!(inbox.iter().all(|received| received.copies == 1), "nothing is sent twice: {inbox:?}");
}

#[track_caller]
fn shows(inbox: &[&str], text: &str) {
    let answer = format!("eco: {text}");
    assert_eq!(inbox.iter().filter(|shown| **shown == answer).count(), 1, "{inbox:?}");
    assert_eq!(inbox.last(), Some(&answer.as_str()), "the answers are in order: {inbox:?}");
}

async fn settled(streams: &Streams) {
    eventually("everybody to have nothing left", PATIENCE, async || streams.left().await).await;
}

fn said(process: &Connector, words: &str) -> usize {
    process.process.stderr().matches(words).count()
}

#[tokio::test]
async fn a_chat_that_was_purged_is_answered_at_once() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911555", 3).await;
    let streams = stage.streams().await;
    for customer in &customers {
        is_answered(customer, "uno", 1).await;
        is_answered(customer, "dos", 2).await;
    }
    settled(&streams).await;

    // The first as docs/security.md says, the second on one side only, and the third on the other.
    let [both, inbound, outbound] = customers.as_slice() else { panic!("three customers") };
    streams.purge_in(&format!("*.{}", both.phone())).await;
    streams.purge_out(&format!("*.{}", both.phone())).await;
    streams.purge_in(&format!("*.{}", inbound.phone())).await;
    streams.purge_out(&format!("*.{}", outbound.phone())).await;
    for customer in [both, outbound, inbound] {
        is_answered(customer, "tres", 3).await;
        is_answered(customer, "cuatro", 4).await;
    }

    settled(&streams).await;
    streams.purge_in(&format!("*.{}", both.phone())).await;
    is_answered(both, "cinco", 5).await;
}

#[tokio::test]
async fn a_chat_whose_last_message_has_expired_is_answered_at_once() {
    const AGE: &str = "10s";
    let stage = Stage::plan()
        .setting("NATS_IN_MAX_AGE", AGE)
        .setting("NATS_DUPLICATE_WINDOW", AGE)
        .setting("REPLY_MAX_AGE", AGE)
        .set()
        .await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (first, second) = (stage.customer().await, stage.customers("54911556", 1).await.remove(0));
    let streams = stage.streams().await;
    is_answered(&first, "uno", 1).await;
    is_answered(&second, "uno", 1).await;
    for round in 2..=3 {
        for customer in [&first, &second] {
            eventually("the message to expire", PATIENCE, async || {
                match streams.last_of(customer.phone()).await {
                    None => Ok(()),
                    Some(last) => Err(format!("{last}")),
                }
            })
            .await;
        }
        // With the past of both gone, and then of one of them in the middle of traffic.
        is_answered(&first, &format!("{round}"), round).await;
        is_answered(&second, &format!("{round}"), round).await;
    }
}

/// Everything up to the first of two messages is gone, as when it expires.
#[tokio::test]
async fn a_message_does_not_wait_for_one_that_expired_before_anybody_had_it() {
    the_second_of_two_is_answered(async |streams, first| {
        let stream = streams.inbound().await;
        for sequence in 1..=first {
            stream.delete_message(sequence).await.expect("a deletion");
        }
    })
    .await;
}

/// The first of two messages is gone, and what is older is not.
#[tokio::test]
async fn a_message_does_not_wait_for_one_that_was_deleted_before_anybody_had_it() {
    the_second_of_two_is_answered(async |streams, first| {
        streams.inbound().await.delete_message(first).await.expect("a deletion");
    })
    .await;
}

/// Nobody had the first of two messages when it went, so it gets no outcome, and no ack floor passes it while the second
/// one, which waits for it, is the only one in flight.
async fn the_second_of_two_is_answered(lose: impl AsyncFnOnce(&Streams, u64)) {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    is_answered(&customer, "uno", 1).await;
    settled(&streams).await;
    product.forwarders.remove(0).stop().await;
    let mut places = vec![streams.last_of(customer.phone()).await];
    for text in ["dos", "tres"] {
        customer.write(text).await;
        let before = places.last().copied().flatten();
        let place = eventually("the message in WA_IN", PATIENCE, async || {
            let last = streams.last_of(customer.phone()).await;
            if last > before { Ok(last) } else { Err(format!("{last:?}")) }
        });
        places.push(place.await);
    }
    lose(&streams, places[1].expect("its place")).await;

    let _forwarder = stage.start(Role::Forwarder).await;
    let watch = Watch::start();
    let inbox = customer.receives(2).await;
    watch.within(AT_ONCE + Duration::from_secs(1), "the answer to what is left").await;
    assert_eq!(inbox.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), ["eco: uno", "eco: tres"]);
    is_answered(&customer, "cuatro", 3).await;
    settled(&streams).await;
}

/// The same on the way out: the first of two answers goes before an edge has it.
#[tokio::test]
async fn an_answer_does_not_wait_for_one_that_is_gone_without_being_sent() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    is_answered(&customer, "uno", 1).await;
    settled(&streams).await;
    product.forwarders.remove(0).stop().await;
    customer.write("dos").await;
    customer.write("tres").await;
    streams.received(3).await;
    product.edge.stop().await;
    let _forwarder = stage.start(Role::Forwarder).await;
    streams.decided(3).await;
    let second = streams.outcomes().await[1].sequence;
    streams.outbound().await.delete_message(second).await.expect("a deletion");

    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    let watch = Watch::start();
    let inbox = customer.receives(2).await;
    watch.within(AT_ONCE + Duration::from_secs(1), "the answer that is left").await;
    assert_eq!(inbox.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), ["eco: uno", "eco: tres"]);
}

#[tokio::test]
async fn a_stream_of_messages_that_is_made_anew_delays_nobody() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911558", 3).await;
    let streams = stage.streams().await;
    for customer in &customers {
        is_answered(customer, "uno", 1).await;
        is_answered(customer, "dos", 2).await;
    }
    settled(&streams).await;
    stage.logs.expects(IN_ANEW);
    stage.logs.expects("the inbound stream was made anew; its messages are counted from the start");
    stage.logs.may_have("the inbound consumer is not available yet");

    streams.jetstream().delete_stream("WA_IN").await.expect("a deletion");
    // The forwarders make it anew.
    eventually("the stream and its consumer", PATIENCE, async || streams.left().await).await;
    for round in 3..=4 {
        for customer in &customers {
            is_answered(customer, &format!("{round}"), round).await;
        }
    }
    assert_eq!(said(&product.edge, IN_ANEW), 1, "one ERROR");
}

#[tokio::test]
async fn a_stream_of_answers_that_is_made_anew_delays_nobody_and_loses_no_new_answer() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911559", 3).await;
    let streams = stage.streams().await;
    for customer in &customers {
        is_answered(customer, "uno", 1).await;
        is_answered(customer, "dos", 2).await;
    }
    settled(&streams).await;
    stage.logs.expects(OUT_ANEW);
    stage.logs.may_have("the outbound consumer is not available yet");

    streams.jetstream().delete_stream("WA_OUT").await.expect("a deletion");
    // The edge makes it anew.
    eventually("the stream and its consumer", PATIENCE, async || streams.left().await).await;
    for round in 3..=4 {
        for customer in &customers {
            is_answered(customer, &format!("{round}"), round).await;
        }
    }
    assert_eq!(said(&product.edge, OUT_ANEW), 1, "one ERROR");
}

#[tokio::test]
async fn a_consumer_that_is_deleted_delays_nobody_and_nothing_is_sent_twice() {
    let stage = Stage::plan().set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    is_answered(&customer, "uno", 1).await;
    is_answered(&customer, "dos", 2).await;
    settled(&streams).await;
    // What an edge before this one has sent is not sent again either.
    product.edge.stop().await;
    product.edge = stage.start(Role::Edge).await;
    product.edge.ready().await;

    streams.inbound().await.delete_consumer("forwarder").await.expect("a deletion");
    is_answered(&customer, "tres", 3).await;
    settled(&streams).await;
    streams.outbound().await.delete_consumer("edge-default").await.expect("a deletion");
    is_answered(&customer, "cuatro", 4).await;
    settled(&streams).await;
    let copies: Vec<u32> = customer.inbox().await.iter().map(|received| received.copies).collect();
    assert_eq!(copies, [1; 4]);
}

/// With room for one address the edge forgets each chat as soon as another one writes, unless it is in use.
#[tokio::test]
async fn a_chat_that_the_edge_has_forgotten_goes_on_where_it_was() {
    let stage = Stage::plan().setting("WITHOUT_GUARD", "chats").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let mut customers = stage.customers("54911560", 4).await;
    customers.push(stage.simulator.customer("5491156100001", Addressing::Lid).await);
    let streams = stage.streams().await;
    for number in 1..=4 {
        let writes = customers.iter().map(async |customer| {
            customer.write(&format!("{number}")).await;
        });
        futures::future::join_all(writes).await;
    }
    for customer in &customers {
        let inbox = customer.receives(4).await;
        let texts: Vec<&str> = inbox.iter().map(|received| received.text.as_str()).collect();
        assert_eq!(texts, ["eco: 1", "eco: 2", "eco: 3", "eco: 4"], "{}", customer.phone());
    }
    settled(&streams).await;
    let messages = streams.messages().await;
    let chats: std::collections::BTreeSet<&str> = messages.iter().map(|entry| entry.chat()).collect();
    assert_eq!((messages.len(), chats.len()), (20, 5), "each chat keeps its token: {chats:?}");
    for chat in chats {
        let of_chat = messages.iter().filter(|entry| entry.chat() == chat);
        let mut before = 0;
        for entry in of_chat {
            assert_eq!(entry.sequence_in("Wa-Prev-Seq"), before, "one list");
            before = entry.sequence;
        }
    }
}

/// A server that is to be replaced hands its clients over, and a new one has its store.
#[tokio::test]
async fn a_server_in_lame_duck_mode_is_left_for_its_successor() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("nats.conf");
    std::fs::write(&config, "lame_duck_duration: 30s\nlame_duck_grace_period: 100ms\n").expect("a file");
    let mut stage = Stage::plan().nats(Setup { config: Some(config), ..Setup::default() }).set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    is_answered(&customer, "uno", 1).await;
    settled(&stage.streams().await).await;
    stage.logs.expects_an_outage_of_the_bus();

    let _old = stage.nats.succeed().await;
    let watch = Watch::start();
    customer.write("dos").await;
    customer.receives(2).await;
    watch.within(Duration::from_secs(5), "the answer after a change of servers").await;
}
