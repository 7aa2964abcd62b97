//! Another edge goes on with a session on the bus: how soon, and that the one that had it sends nothing any more.

use std::time::Duration;

use async_nats::jetstream::stream;
use futures::StreamExt as _;
use whatsapp_connector::wire::id;
use whatsapp_connector::wire::v1::{SendMessage, SendText, send_message};

use crate::session_on_bus::{linked, plan, said};
use crate::support::heart::Watch;
use crate::support::oracle::Written;
use crate::support::{Connector, Customer, PATIENCE, Role, Stage, eventually, warning};

/// From SIGTERM until another edge is online.
const HANDED_OVER: Duration = Duration::from_secs(2);
/// From a kill until another edge is online: the term of the lease, and a little.
const TAKEN_OVER: Duration = Duration::from_secs(32);
/// An edge that takes the lease at once. What keeps the other one off is the session then, or what it knows itself.
const AT_ONCE: (&str, &str) = ("WITHOUT_GUARD", "lease-term");
/// It is fenced, and says so.
const FENCED: &str = "another edge has taken the session over; disconnecting";
/// It knows that it may have lost the lease.
const LATE: &str = "the session cannot be taken over from the bus yet";
/// It has lost the lease, and says so.
const LEASE_LOST: &str = "another edge has taken this account over; disconnecting";

/// With nothing beside them: what they promise is a matter of two seconds.
mod alone {
    use super::*;

    /// SIGTERM gives the lease back, and with it the session.
    #[tokio::test]
    #[ignore = "its time counts: `make test-rust` runs it with nothing beside it"]
    async fn an_edge_that_stops_hands_its_session_over_within_two_seconds() {
        let stage = plan().set().await;
        let (mut first, _forwarder) = linked(&stage).await;
        let customer = stage.customer().await;
        let mut written = vec![said(&customer, "uno", 1).await];
        let mut second = stage.start(Role::Edge).await;
        second.not_ready("standby").await;
        first.process.terminate();
        let told = Watch::start();
        second.ready().await;
        told.within(HANDED_OVER, "the hand-over").await;
        first.process.end(PATIENCE).await;
        written.push(said(&customer, "dos", 2).await);
        stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    }
}

#[tokio::test]
async fn an_edge_that_is_killed_is_followed_by_one_without_a_disk_and_the_conversation_goes_on() {
    let stage = plan().set().await;
    let (mut first, _forwarder) = linked(&stage).await;
    let customer = stage.customer().await;
    let mut written = vec![said(&customer, "uno", 1).await, said(&customer, "dos", 2).await];
    let mut second = stage.start(Role::Edge).await;
    second.not_ready("standby").await;
    stage.logs.may_have(warning::SENT_AGAIN);

    first.process.kill();
    let killed = Watch::start();
    let id = customer.write("tres").await;
    written.push(Written::echoed(customer.phone(), id, "tres"));
    second.ready().await;
    killed.within(TAKEN_OVER, "the take-over").await;
    customer.receives(3).await;
    written.push(said(&customer, "cuatro", 4).await);
    assert!(second.link_state().await["qr"].is_null(), "nobody is asked to link again");
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
}

/// The old one wakes up in the middle of its work, with a session that another one has written since.
#[tokio::test]
async fn a_frozen_edge_that_wakes_up_is_refused_and_stands_by() {
    let stage = plan().set().await;
    let (mut first, _forwarder) = linked(&stage).await;
    let customer = stage.customer().await;
    let mut written = vec![said(&customer, "uno", 1).await];
    let mut second = stage.start(Role::Edge).await;
    second.not_ready("standby").await;
    may_wake_up(&stage);

    first.process.freeze();
    let id = customer.write("dos").await;
    written.push(Written::echoed(customer.phone(), id, "dos"));
    second.ready().await;
    customer.receives(2).await;
    written.push(said(&customer, "tres", 3).await);
    first.process.thaw();
    first.not_ready("standby").await;
    written.push(said(&customer, "cuatro", 4).await);
    second.ready().await;
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    assert!(is_one_after_the_other(&stage).await);
}

/// The lease says nothing to this one: it does not look at it, and the gate does not either. What it wants to write when it
/// wakes up is refused all the same.
#[tokio::test]
async fn the_fence_alone_keeps_an_edge_that_wakes_up_from_writing() {
    let stage = plan().set().await;
    stage.logs.expects(FENCED);
    let Woken { mut first, mut second, _forwarder, customer, mut written } =
        woken_without(&stage, "lease,lease-at-the-gate").await;
    first.not_ready("standby").await;
    first.process.terminate();
    written.push(said(&customer, "cuatro", 4).await);
    second.ready().await;
    assert!(is_one_after_the_other(&stage).await, "it has written over what the other one had written");
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
}

/// The control.
#[tokio::test]
async fn without_the_fence_an_edge_that_wakes_up_writes_over_what_another_one_has_written() {
    let mut stage = plan().set().await;
    // Whatever comes of it.
    stage.logs.leave();
    let woken = woken_without(&stage, "lease,lease-at-the-gate,fence").await;
    eventually("a record out of its place", PATIENCE, async || {
        if is_one_after_the_other(&stage).await { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
    drop(woken);
}

/// An edge that was frozen and has woken up, and the one that has its account.
struct Woken {
    first: Connector,
    second: Connector,
    _forwarder: Connector,
    customer: Customer,
    written: Vec<Written>,
}

/// An edge without these guards is frozen with a message at its socket, and wakes up when another one has the account.
async fn woken_without(stage: &Stage, guards: &str) -> Woken {
    may_wake_up(stage);
    let mut first = stage.start_with(Role::Edge, &[("WITHOUT_GUARD", guards)]).await;
    let forwarder = stage.start(Role::Forwarder).await;
    first.link(&stage.simulator).await;
    let customer = stage.customer().await;
    let mut written = vec![said(&customer, "uno", 1).await];

    first.process.freeze();
    // It comes to the frozen one, and to the other one again.
    let id = customer.write("dos").await;
    written.push(Written::echoed(customer.phone(), id, "dos"));
    let mut second = stage.start_with(Role::Edge, &[AT_ONCE]).await;
    second.ready().await;
    customer.receives(2).await;
    written.push(said(&customer, "tres", 3).await);
    first.process.thaw();
    Woken { first, second, _forwarder: forwarder, customer, written }
}

/// It was frozen between its last look and its send, for longer than the lease. Nobody tells it of its lease, it is not fenced, and
/// WhatsApp still takes what it sends: here it closes no connection when another one is made.
#[tokio::test]
async fn the_gate_alone_keeps_an_edge_that_wakes_up_from_sending() {
    let stage = plan().set().await;
    let Sleeper { mut first, _second, _forwarder, customer, before } = sleeper(&stage, "fence,lease").await;
    first.process.thaw();
    eventually("it to try", PATIENCE, async || {
        let log = first.process.stderr();
        if log.contains("a send failed") { Ok(()) } else { Err("no word of it".to_owned()) }
    })
    .await;
    said(&customer, "tres", 3).await;
    assert_eq!(stage.simulator.counter("duplicate_ids").await, before, "it has sent");
}

/// The control.
#[tokio::test]
async fn without_the_look_at_the_gate_an_edge_that_wakes_up_sends() {
    let mut stage = plan().set().await;
    // Whatever comes of it.
    stage.logs.leave();
    let Sleeper { mut first, _second, _forwarder, before, .. } =
        sleeper(&stage, "fence,lease,lease-at-the-gate").await;
    first.process.thaw();
    eventually("it to send", PATIENCE, async || match stage.simulator.counter("duplicate_ids").await {
        now if now > before => Ok(()),
        now => Err(format!("{now}")),
    })
    .await;
}

/// The answer that it has the lease was on its way when it was frozen. When it wakes up, the lease is another edge's.
#[tokio::test]
async fn an_edge_that_was_frozen_while_it_took_over_takes_nothing_from_who_has_the_account() {
    let stage = plan().set().await;
    for part in ["the lease cannot be renewed", LATE, warning::BUS_AWAY] {
        stage.logs.may_have(part);
    }
    let (first, _forwarder) = linked(&stage).await;
    let customer = stage.customer().await;
    let mut written = vec![said(&customer, "uno", 1).await];
    first.stop().await;
    let mut second = stage.start_with(Role::Edge, &[("FREEZE_AT", "lease.written")]).await;
    second.process.stops_itself(PATIENCE).await;
    let asleep = Watch::start();
    let mut third = stage.start_with(Role::Edge, &[AT_ONCE]).await;
    third.ready().await;
    sleeps_long_enough(&asleep).await;
    second.process.thaw();
    second.not_ready("standby").await;
    written.push(said(&customer, "dos", 2).await);
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    assert!(!third.process.stderr().contains(FENCED), "it goes on");
}

/// An edge that sleeps before a send, and the one that has its account.
struct Sleeper {
    first: Connector,
    _second: Connector,
    _forwarder: Connector,
    customer: Customer,
    /// How many messages WhatsApp had been given for a second time.
    before: u64,
}

/// An edge without these guards, which has slept for so long that it cannot know that it has its lease.
async fn sleeper(stage: &Stage, without: &str) -> Sleeper {
    may_wake_up(stage);
    let before_it_sends = format!("edge.before-send@{}", id::whatsapp("dos"));
    let settings = [("FREEZE_AT", &*before_it_sends), ("WITHOUT_GUARD", without)];
    let mut first = stage.start_with(Role::Edge, &settings).await;
    let forwarder = stage.start(Role::Forwarder).await;
    first.link(&stage.simulator).await;
    let customer = stage.customer().await;
    said(&customer, "uno", 1).await;

    stage.simulator.fault("two_at_once", None).await;
    let text = SendText { body: "dos".to_owned(), options: None };
    let content = Some(send_message::Content::Text(text));
    let request = SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() };
    stage.streams().await.send("dos", &request).await;
    first.process.stops_itself(PATIENCE).await;
    let asleep = Watch::start();
    let mut second = stage.start_with(Role::Edge, &[AT_ONCE]).await;
    second.ready().await;
    customer.receives(2).await;
    sleeps_long_enough(&asleep).await;
    let before = stage.simulator.counter("duplicate_ids").await;
    Sleeper { first, _second: second, _forwarder: forwarder, customer, before }
}

/// Half a term of the lease.
async fn sleeps_long_enough(asleep: &Watch) {
    eventually("the first one to sleep long enough", PATIENCE, async || {
        let slept = asleep.took().await.in_all;
        if slept > Duration::from_secs(16) { Ok(()) } else { Err(format!("{slept:?}")) }
    })
    .await;
}

/// What it may say depends on what it notices first: the lease, the session, or the connection.
fn may_wake_up(stage: &Stage) {
    for part in [
        FENCED,
        LEASE_LOST,
        "another program logged in with this session; this edge stays away for a while",
        "the lease cannot be renewed",
        "a change of the session's store that nobody waits for is lost",
        "WhatsApp cannot be reached",
        warning::SENDS_UNKNOWN,
        warning::SENT_AGAIN,
        warning::BUS_AWAY,
    ] {
        stage.logs.may_have(part);
    }
}

/// Are the account's records in the stream in the order of their numbers? In the first lap a slot is its number. What is
/// written over by one that has lost the account has a later place.
async fn is_one_after_the_other(stage: &Stage) -> bool {
    let slots = records(stage).await;
    assert!(slots.len() > 5, "{slots:?}");
    slots.is_sorted_by_key(|(slot, _)| *slot)
}

/// The slots of the account's records and their places in the stream, in the order of these.
async fn records(stage: &Stage) -> Vec<(u64, u64)> {
    let streams = stage.streams().await;
    let session: stream::Stream =
        streams.jetstream().get_stream("WA_SESSION").await.expect("the stream of sessions");
    let subjects = session.info_with_subjects("wa.session.>").await.expect("its subjects");
    let slots: Vec<_> = subjects.map(|subject| subject.expect("a subject").0).collect().await;
    let mut found = Vec::new();
    for subject in slots {
        let slot = subject.rsplit('.').next().and_then(|slot| slot.parse().ok()).expect("a slot");
        let message = session.get_last_raw_message_by_subject(&subject).await.expect("a record");
        found.push((slot, message.sequence));
    }
    found.sort_by_key(|(_, sequence)| *sequence);
    found
}
