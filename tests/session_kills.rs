//! `kill -9` at every step of what is written of the session, in a file and on the bus: nothing is lost, no key is used twice, and
//! with the session on the bus nobody waits for a message who would not with a file.

use crate::session_on_bus;
use crate::support::oracle::Written;
use crate::support::{PATIENCE, Plan, Role, Stage, killed_at, warning};

/// The message whose steps are named.
const FIRST: &str = "3EB0AA01";
/// Longer than what is kept on the bus (512 KiB).
const TOO_LONG: usize = 600_000;

/// Where the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    File,
    Bus,
}

impl In {
    fn plan(self) -> Plan {
        match self {
            Self::File => Stage::plan(),
            Self::Bus => session_on_bus::plan(),
        }
    }
}

killed_at! {
    at_each_step_of_both_stores;
    a_session_killed_before_the_copy_of_a_message: "session.before-write@3EB0AA01";
    a_session_killed_with_the_copy_in_the_store: "session.written@3EB0AA01";
    a_session_killed_after_the_copy_of_a_message: "session.durable@3EB0AA01";
    a_session_killed_before_a_ratchet: "session.before-write@ratchet";
    a_session_killed_with_a_ratchet_in_the_store: "session.written@ratchet";
    a_session_killed_after_a_ratchet: "session.durable@ratchet";
    a_session_killed_before_an_identity: "session.before-write@identity";
    a_session_killed_after_an_identity: "session.durable@identity";
    a_session_killed_before_a_used_prekey_is_gone: "session.before-write@pre-key";
    a_session_killed_after_a_used_prekey_is_gone: "session.durable@pre-key";
    a_session_killed_before_a_message_is_stored: "edge.before-publish";
    a_session_killed_after_a_message_is_stored: "edge.after-puback";
    a_session_killed_before_the_copy_is_emptied: "session.before-write@emptied";
    a_session_killed_with_the_copy_emptied_in_the_store: "session.written@emptied";
    a_session_killed_after_the_copy_is_emptied: "session.durable@emptied";
    a_session_killed_before_a_send: "edge.before-send";
    a_session_killed_before_what_is_sent_is_kept: "session.before-write@sent";
    a_session_killed_with_what_is_sent_in_the_store: "session.written@sent";
    a_session_killed_after_what_is_sent_is_kept: "session.durable@sent";
    a_session_killed_after_a_send: "edge.after-send";
    a_session_killed_before_the_bus_hears_of_a_send: "edge.before-ack";
}

async fn at_each_step_of_both_stores(point: &str) {
    let (file, bus) = tokio::join!(Box::pin(killed_in(In::File, point)), Box::pin(killed_in(In::Bus, point)));
    assert!(bus <= file, "in a file {file} messages could not be read at once, and on the bus {bus}");
}

/// The control: nothing is on the bus when a call returns. The edge dies when WhatsApp has its answer.
#[tokio::test]
async fn without_the_commit_before_a_call_returns_the_next_edge_cannot_read_what_is_written() {
    let stage = In::Bus.plan().set().await;
    // Which side sees it first depends on who speaks first.
    stage.logs.may_have("a message could not be decrypted; its sender is asked to send it again");
    let unread = killed_at_point(&stage, In::Bus, "edge.before-ack", "durable").await;
    assert!(unread > 0, "the guard does nothing");
}

/// The edge dies at this point of the first message. Returns how often one side could not read the other after that.
async fn killed_in(home: In, point: &str) -> u64 {
    let stage = home.plan().set().await;
    killed_at_point(&stage, home, point, "none-of-them").await
}

async fn killed_at_point(stage: &Stage, home: In, point: &str, without: &str) -> u64 {
    stage.logs.may_have(warning::SENT_AGAIN);
    stage.logs.may_have(warning::LOST);
    let (edge, _forwarder) = session_on_bus::linked(stage).await;
    edge.stop().await;
    let settings = [("CRASH_AT", point), ("WITHOUT_GUARD", without)];
    let mut dying = stage.start_with(Role::Edge, &settings).await;
    dying.ready().await;
    let customer = stage.customer().await;
    customer.write_as(FIRST, "primero").await;
    dying.process.end_by_kill(PATIENCE).await;

    let second = customer.write("segundo").await;
    let mut successor = stage.start_with(Role::Edge, &[at_once(home)]).await;
    successor.ready().await;
    let mut written = vec![
        Written::echoed(customer.phone(), FIRST.to_owned(), "primero"),
        Written::echoed(customer.phone(), second, "segundo"),
    ];
    customer.receives(2).await;
    written.push(session_on_bus::said(&customer, "tercero", 3).await);
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    stage.simulator.counter("undecryptable").await + stage.simulator.counter("retry_requests").await
}

/// The one before is dead, so its lease need not run out. With a file it is the same edge.
fn at_once(home: In) -> (&'static str, &'static str) {
    ("WITHOUT_GUARD", if home == In::Bus { "lease-term" } else { "none-of-them" })
}

/// What is too long for the bus is not there for the next one, and nothing else is missing.
#[tokio::test]
async fn a_message_that_is_too_long_for_the_session_on_the_bus_is_answered_also_after_a_kill() {
    let stage = In::Bus.plan().set().await;
    stage.logs.expects("a value of the session is too long to be kept on the bus");
    stage.logs.may_have(warning::SENT_AGAIN);
    stage.logs.may_have(warning::LOST);
    let (edge, _forwarder) = session_on_bus::linked(&stage).await;
    edge.stop().await;
    let mut dying = stage.start_with(Role::Edge, &[("CRASH_AT", "edge.before-publish")]).await;
    dying.ready().await;
    let customer = stage.customer().await;
    // Of a name no more than a line goes on the bus; the copy in the session has all of it.
    let place = serde_json::json!({"kind": "location", "id": FIRST, "text": "x".repeat(TOO_LONG)});
    customer.write_with(place).await;
    dying.process.end_by_kill(PATIENCE).await;
    let mut successor = stage.start_with(Role::Edge, &[at_once(In::Bus)]).await;
    successor.ready().await;
    let written = [
        Written::unanswered(customer.phone(), FIRST.to_owned()),
        session_on_bus::said(&customer, "segundo", 1).await,
    ];
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
}

killed_at! {
    at_a_step_of_a_take_over;
    an_edge_killed_before_it_has_fenced_the_one_before: "session.before-fence";
    an_edge_killed_after_it_has_fenced_the_one_before: "session.after-fence";
}

/// The one that takes over dies, and a third one takes over from it.
async fn at_a_step_of_a_take_over(point: &str) {
    let stage = In::Bus.plan().set().await;
    stage.logs.may_have(warning::SENT_AGAIN);
    let (mut first, _forwarder) = session_on_bus::linked(&stage).await;
    let customer = stage.customer().await;
    let mut written = vec![session_on_bus::said(&customer, "uno", 1).await];
    first.process.kill();
    let id = customer.write("dos").await;
    written.push(Written::echoed(customer.phone(), id, "dos"));
    let dies = [("CRASH_AT", point), at_once(In::Bus)];
    let mut dying = crate::support::spawn(Role::Edge, &with(&stage, &dies), stage.dir());
    dying.end_by_kill(PATIENCE).await;
    let mut third = stage.start_with(Role::Edge, &[at_once(In::Bus)]).await;
    third.ready().await;
    customer.receives(2).await;
    written.push(session_on_bus::said(&customer, "tres", 3).await);
    stage.evidence(written.len(), [&customer]).await.assert_kept(&written);
    let unread =
        stage.simulator.counter("undecryptable").await + stage.simulator.counter("retry_requests").await;
    assert_eq!(unread, 0, "each side can read the other at once");
}

fn with(stage: &Stage, own: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let mut settings = stage.settings().clone();
    settings.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings
}
