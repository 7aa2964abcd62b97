//! `JOIN_WITHIN`: what a person writes in a row is one call and has one answer. The chain's promises hold, whoever dies.

use std::time::Duration;

use serde_json::{Value, json};
use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{NoReplyReason, Outcome};

use crate::support::heart::Watch;
use crate::support::oracle::{Evidence, Written};
use crate::support::{
    Addressing, Answer, Connector, Customer, GATE, Layout, PATIENCE, Plan, Product, Role, Stage, Unwell,
    eventually, warning,
};

fn joining(within: &str) -> Plan {
    Stage::plan().setting("JOIN_WITHIN", within).setting("JOIN_MAX", "5m")
}

/// The edge alone: what is written then is all there when the first forwarder comes.
async fn edge_only(stage: &Stage) -> Connector {
    let Product { edge, .. } = stage.product(Layout::Split { forwarders: 0 }).await;
    edge
}

/// Writes these, and waits until they are stored.
async fn writes(stage: &Stage, customer: &Customer, texts: &[&str]) -> Vec<String> {
    let before = stage.streams().await.messages().await.len();
    let mut ids = Vec::new();
    for text in texts {
        ids.push(customer.write(text).await);
    }
    stage.streams().await.received(before + texts.len()).await;
    ids
}

/// A burst, and its one answer.
fn burst(customer: &Customer, ids: &[String], texts: &[&str]) -> Vec<Written> {
    let (last, before) = ids.split_last().expect("a message");
    let before = before.iter().map(|id| Written::unanswered(customer.phone(), id.clone()));
    let last = Written::echoed(customer.phone(), last.clone(), &texts.join("\n"));
    before.chain([last]).collect()
}

/// What each message was joined into, by the place of that in the list of outcomes. `None`: it was not joined.
fn joined(outcomes: &[Outcome]) -> Vec<Option<usize>> {
    let into = |outcome: &Outcome| match &outcome.result {
        Some(Ending::None(none)) if none.reason() == NoReplyReason::Joined => Some(none.joined_into.clone()),
        _ => None,
    };
    let place =
        |id: String| outcomes.iter().position(|outcome| outcome.inbound_id == id).expect("an outcome");
    outcomes.iter().map(|outcome| into(outcome).map(place)).collect()
}

fn outcomes(evidence: &Evidence, customer: &Customer) -> Vec<Outcome> {
    let of = evidence.outcomes.iter().filter(|entry| entry.chat() == customer.phone());
    of.map(super::support::Entry::outcome).collect()
}

#[tokio::test]
async fn what_is_written_in_a_row_is_one_call_with_one_answer() {
    let stage = joining("2s").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let texts = ["hola", "una pregunta", "¿abren hoy?"];

    let ids = writes(&stage, &customer, &texts).await;
    let written_last = Watch::start();
    customer.receives(1).await;
    written_last.within(Duration::from_secs(4), "an answer two seconds after the last text").await;
    let alone = writes(&stage, &customer, &["gracias"]).await;

    let mut written = burst(&customer, &ids, &texts);
    written.extend(burst(&customer, &alone, &["gracias"]));
    customer.receives(2).await;
    let evidence = stage.evidence(4, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(joined(&outcomes(&evidence, &customer)), [Some(2), Some(2), None, None]);
    assert_eq!(evidence.calls.len(), 2, "{:?}", evidence.calls);
    let counted = product.forwarders[0].metrics().await;
    assert!(counted.contains("wa_outcomes_total{class=\"none\",reason=\"joined\"} 2"), "{counted}");
    // What surrounds the message says that it was not the first: nobody needs to ask.
    let first = &evidence.outcomes[0];
    assert!(first.header(header::JOINED).is_some() && evidence.outcomes[2].header(header::JOINED).is_none());
}

/// Off, as it is by default.
#[tokio::test]
async fn without_a_time_each_text_has_its_answer() {
    let stage = joining("0s").set().await;
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let texts = ["uno", "dos"];
    let ids = writes(&stage, &customer, &texts).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    customer.receives(2).await;
    let each = ids.into_iter().zip(texts).map(|(id, text)| Written::echoed(customer.phone(), id, text));
    stage.evidence(2, [&customer]).await.assert_kept(&each.collect::<Vec<_>>());
}

/// A picture, a sticker, a choice: each ends what was before it. A reaction is no message and ends nothing.
#[tokio::test]
async fn what_is_no_bare_text_ends_a_burst_and_is_not_joined() {
    let stage = joining("1m").set().await;
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let first = customer.write("uno").await;
    customer.write_with(json!({"kind": "reaction", "about": first})).await;
    let second = customer.write("dos").await;
    let photo = customer.write_kind("image", "¿cuánto sale esto?").await;
    let third = customer.write("tres").await;
    let sticker = customer.write_kind("sticker", "").await;
    stage.streams().await.received(5).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    customer.receives(3).await;

    let phone = customer.phone();
    let written = [
        Written::unanswered(phone, first),
        Written::echoed(phone, second, "uno\ndos"),
        Written::echoed(phone, photo, "¿cuánto sale esto?"),
        Written::echoed(phone, third, "tres"),
        Written::unanswered(phone, sticker),
    ];
    let evidence = stage.evidence(5, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(joined(&outcomes(&evidence, &customer)), [Some(1), None, None, None, None]);
}

#[tokio::test]
async fn in_a_group_only_one_persons_words_are_joined() {
    const GROUP: &str = "120363000000000991@g.us";
    let stage = joining("2s").setting("GROUPS", "all").setting("GROUPS_NAME", "on").set().await;
    let _edge = edge_only(&stage).await;
    let ana = stage.simulator.customer("5491144450001", Addressing::Phone).await;
    let leo = stage.simulator.customer("5491144450002", Addressing::Phone).await;
    stage.simulator.group(GROUP, &[&ana, &leo], json!({})).await;
    for (number, (who, text)) in
        [(&ana, "uno"), (&ana, "dos"), (&leo, "yo"), (&ana, "tres"), (&ana, "cuatro")].into_iter().enumerate()
    {
        who.write_with(json!({"text": text, "through": GROUP})).await;
        stage.streams().await.received(number + 1).await;
    }
    let _forwarder = stage.start(Role::Forwarder).await;
    stage.streams().await.settled(5).await;
    let answers =
        stage.streams().await.outcomes().await.into_iter().filter_map(|entry| match entry.outcome().result {
            Some(Ending::Reply(reply)) => Some(reply.text),
            _ => None,
        });
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers, ["eco: Ana: uno\ndos", "eco: Ana: yo", "eco: Ana: tres\ncuatro"]);
}

#[tokio::test]
async fn the_backend_is_told_whose_words_are_in_a_call() {
    let backend = Unwell::start(|question| Answer::text(&format!("eco: {}", question.text))).await;
    let stage =
        joining("2s").setting("BACKEND_URL", backend.url()).setting("BACKEND_FIELDS", "full").set().await;
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let ids = writes(&stage, &customer, &["uno", "dos", "tres"]).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    customer.receives(1).await;
    let asked = backend.asked();
    let body: Value = serde_json::from_str(&asked[0].body).expect("JSON");
    assert_eq!((asked.len(), &body["message_id"]), (1, &json!(ids[2])));
    assert_eq!((&body["text"], &body["joined"]), (&json!("uno\ndos\ntres"), &json!([ids[0], ids[1]])));
}

/// Nobody knows which of two has a chat's messages in hand, and what waited was written long ago.
#[tokio::test]
async fn two_forwarders_join_the_same() {
    let stage = joining("1m").set().await;
    let _edge = edge_only(&stage).await;
    let customers = stage.customers("54911777", 6).await;
    let texts = ["a", "b", "c", "d"];
    let (mut written, mut count) = (Vec::new(), 0);
    for customer in &customers {
        let ids = writes(&stage, customer, &texts).await;
        written.extend(burst(customer, &ids, &texts));
        // Its end is known at once.
        written.push(Written::unanswered(customer.phone(), customer.write_kind("sticker", "").await));
        count += 5;
        stage.streams().await.received(count).await;
    }
    let _forwarders = [stage.start(Role::Forwarder).await, stage.start(Role::Forwarder).await];
    let evidence = stage.evidence(count, &customers).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls.len(), customers.len(), "{:?}", evidence.calls);
}

/// Somebody who writes 200 letters in a row has a call for each 64 of them, and nobody waits for that.
#[tokio::test]
async fn a_flood_of_letters_is_a_few_calls_and_keeps_nobody_waiting() {
    let stage = joining("30s").set().await;
    let _edge = edge_only(&stage).await;
    let (flood, other) =
        (stage.customer().await, stage.simulator.customer("5491112345679", Addressing::Phone).await);
    for _ in 0..200 {
        flood.write("x").await;
    }
    flood.write_kind("sticker", "").await;
    other.write("hola").await;
    other.write_kind("sticker", "").await;
    stage.streams().await.received(203).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    let evidence = stage.evidence(203, [&flood, &other]).await;
    let shown: Vec<usize> =
        evidence.inboxes[flood.phone()].iter().map(|one| one.text.matches('x').count()).collect();
    assert_eq!(shown, [64, 64, 64, 8]);
    assert_eq!(evidence.inboxes[other.phone()][0].text, "eco: hola");
    assert_eq!(evidence.calls.len(), 5);
}

/// A test per crash point, for the message of a burst that is at work then: which of the three, and how often the backend
/// is called in all.
macro_rules! killed_at {
    ($($name:ident: $point:literal, at $number:literal, called $calls:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                killed_at($point, $number, $calls).await;
            }
        )*
    };
}

killed_at! {
    a_forwarder_killed_while_it_looks_at_what_comes_behind: "forwarder.before-burst", at 0, called 1;
    a_forwarder_killed_before_the_outcome_of_a_joined_text: "forwarder.before-outcome", at 0, called 1;
    a_forwarder_killed_after_the_outcome_of_a_joined_text: "forwarder.after-outcome", at 1, called 1;
    a_forwarder_killed_before_the_ack_of_a_joined_text: "forwarder.before-ack", at 1, called 1;
    a_forwarder_killed_while_it_reads_the_words_of_a_burst: "forwarder.before-words", at 2, called 1;
    a_forwarder_killed_before_the_call_of_a_burst: "forwarder.before-call", at 2, called 1;
    a_forwarder_killed_after_the_call_of_a_burst: "forwarder.after-call", at 2, called 2;
}

/// Whatever was stored of a burst when it died: the next one asks with the same words under the same id.
async fn killed_at(point: &str, decided: usize, calls: usize) {
    let stage = joining("1m").setting("FORWARDER_ACK_WAIT", "1s").set().await;
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let texts = ["uno", "dos", "tres"];
    let ids = writes(&stage, &customer, &texts).await;
    let sticker = customer.write_kind("sticker", "").await;
    stage.streams().await.received(4).await;
    let mut doomed = stage.start_with(Role::Forwarder, &[("CRASH_AT", point)]).await;
    doomed.process.end_by_kill(PATIENCE).await;
    assert_eq!(stage.streams().await.outcomes().await.len(), decided, "it died somewhere else");
    let _successor = stage.start(Role::Forwarder).await;
    customer.receives(1).await;
    let mut written = burst(&customer, &ids, &texts);
    written.push(Written::unanswered(customer.phone(), sticker));
    let evidence = stage.evidence(4, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(joined(&outcomes(&evidence, &customer)), [Some(2), Some(2), None, None]);
    assert_eq!((evidence.calls.len(), evidence.calls_of(&ids[2])), (calls, calls), "{:?}", evidence.calls);
}

/// The control: if nobody reads on the last outcome what was decided, the words before the last text are lost.
#[tokio::test]
async fn without_the_memory_of_bursts_the_same_scenario_is_seen_to_lose_words() {
    let stage = joining("1m").setting("WITHOUT_GUARD", "bursts").set().await;
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    let texts = ["uno", "dos", "tres"];
    let ids = writes(&stage, &customer, &texts).await;
    customer.write_kind("sticker", "").await;
    stage.streams().await.received(4).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    let evidence = stage.evidence(4, [&customer]).await;
    let broken = evidence.violations(&burst(&customer, &ids, &texts));
    assert!(broken.iter().any(|line| line.contains("the phone must show")), "{broken:?}");
}

/// Nothing of the wait is remembered by anybody: the stream says what belongs together.
#[tokio::test]
async fn a_forwarder_killed_while_it_waits_for_more_joins_the_same() {
    let stage = joining("4s").setting("FORWARDER_ACK_WAIT", "1s").set().await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut forwarder = product.forwarders.remove(0);
    let mut ids = writes(&stage, &customer, &["uno", "dos"]).await;
    eventually("a turn that waits for more", PATIENCE, async || {
        let metrics = forwarder.metrics().await;
        if metrics.contains("\nwa_turns{state=\"joining\"} 1\n") { Ok(()) } else { Err(metrics) }
    })
    .await;
    forwarder.process.kill();
    ids.extend(writes(&stage, &customer, &["tres"]).await);
    let _successor = stage.start(Role::Forwarder).await;
    customer.receives(1).await;
    let evidence = stage.evidence(3, [&customer]).await;
    evidence.assert_kept(&burst(&customer, &ids, &["uno", "dos", "tres"]));
    assert_eq!(evidence.calls.len(), 1);
}

/// Whoever waits for more of one person holds no slot.
#[tokio::test]
async fn a_person_who_may_go_on_writing_keeps_nobody_else_waiting() {
    let stage = joining("20s").setting("BACKEND_CONCURRENCY", "1").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let slow = stage.customer().await;
    slow.write("esperá que busco").await;
    eventually("a turn that waits for more", PATIENCE, async || {
        let metrics = product.forwarders[0].metrics().await;
        if metrics.contains("\nwa_turns{state=\"joining\"} 1\n") { Ok(()) } else { Err(metrics) }
    })
    .await;
    let other = stage.simulator.customer("5491112345679", Addressing::Phone).await;
    // Its caption is asked about at once.
    other.write_kind("image", "hola").await;
    other.receives(1).await;
    assert_eq!(slow.inbox().await.len(), 0, "the first one was not waited for any more");
}

#[tokio::test]
async fn a_burst_that_is_given_up_on_leaves_all_its_words_and_a_replay_brings_them_back() {
    let backend = Unwell::start(|_| Answer::new(422, "")).await;
    let stage = joining("30s").setting("BACKEND_URL", backend.url()).set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    writes(&stage, &customer, &["uno", "dos", "tres"]).await;
    customer.write_kind("sticker", "").await;
    stage.streams().await.received(4).await;
    let forwarder = stage.start(Role::Forwarder).await;
    let streams = stage.streams().await;
    streams.settled(4).await;
    let letters = streams.dead_letters().await;
    let words: Vec<_> = letters.iter().map(|letter| letter.inbound().message_id).collect();
    let wrote: Vec<_> =
        streams.messages().await.iter().take(3).map(|message| message.inbound().message_id).collect();
    assert_eq!(words, wrote, "a copy of each, in order");
    assert_eq!(backend.asked().len(), 1);
    forwarder.stop().await;

    backend.set(|question| Answer::text(&format!("eco: {}", question.text)));
    for letter in ["1", "2", "3"] {
        stage.output(&["dlq", "replay", letter]).await;
    }
    customer.write_kind("sticker", "").await;
    let _forwarder = stage.start(Role::Forwarder).await;
    customer.receives(1).await;
    streams.settled(8).await;
    assert_eq!(customer.inbox().await[0].text, "eco: uno\ndos\ntres");
    assert_eq!(streams.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn in_shadow_a_burst_is_one_call_and_nobody_gets_an_answer() {
    let stage = joining("1s").setting("BACKEND_MODE", "shadow").setting("SHADOW_DELAY", "1s").set().await;
    stage.logs.expects(warning::SHADOW);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    writes(&stage, &customer, &["uno", "dos"]).await;
    let evidence = stage.evidence(2, [&customer]).await;
    let results: Vec<_> =
        outcomes(&evidence, &customer).into_iter().filter_map(|outcome| outcome.result).collect();
    let [Ending::None(first), Ending::None(second)] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!((first.reason(), second.reason()), (NoReplyReason::Joined, NoReplyReason::Shadow));
    assert_eq!(second.would_be.as_ref().map(|reply| reply.text.as_str()), Some("eco: uno\ndos"));
    assert_eq!((evidence.calls.len(), customer.inbox().await.len()), (1, 0));
}

/// An operator deletes the message that was to be asked about, when the first one's outcome already names it.
#[tokio::test]
async fn if_the_last_text_of_a_burst_is_deleted_the_others_words_are_asked_about_all_the_same() {
    let stage = joining("1m").setting("FORWARDER_ACK_WAIT", "1s").set().await;
    let _edge = edge_only(&stage).await;
    let customer = stage.customer().await;
    writes(&stage, &customer, &["uno", "dos", "tres"]).await;
    customer.write_kind("sticker", "").await;
    let streams = stage.streams().await;
    streams.received(4).await;
    let mut doomed = stage.start_with(Role::Forwarder, &[("CRASH_AT", "forwarder.after-outcome")]).await;
    doomed.process.end_by_kill(PATIENCE).await;
    let third = streams.messages().await[2].sequence;
    streams.inbound().await.delete_message(third).await.expect("a deletion");
    let _successor = stage.start(Role::Forwarder).await;
    let inbox = customer.receives(1).await;
    assert_eq!(inbox[0].text, "eco: uno\ndos");
}

/// Calls are made one at a time here, and the first one does not end.
#[tokio::test]
async fn what_is_written_while_a_burst_is_asked_about_is_the_next_burst() {
    let stage = joining("1s").backend(GATE.0, GATE.1).set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let first = writes(&stage, &customer, &["uno", "dos"]).await;
    stage.backend.under_way(1).await;
    let second = writes(&stage, &customer, &["tres", "cuatro"]).await;
    stage.backend.open().await;
    customer.receives(2).await;
    let mut written = burst(&customer, &first, &["uno", "dos"]);
    written.extend(burst(&customer, &second, &["tres", "cuatro"]));
    let evidence = stage.evidence(4, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(joined(&outcomes(&evidence, &customer)), [Some(1), None, Some(3), None]);
}
