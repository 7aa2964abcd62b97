//! A person takes over where texts are joined, in a group, and across a restart.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use whatsapp_connector::wire::v1::{Takeover, TakeoverCause, TakeoverState, outcome};
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::waproto::codec::message_to_vec;

use crate::support::{Customer, GATE, Layout, PATIENCE, Plan, Product, Role, Stage, Streams, eventually};

/// Texts in a row are joined, and a person's word counts for long.
fn plan(within: &str) -> Plan {
    Stage::plan()
        .setting("TAKEOVER", "30m")
        .setting("JOIN_WITHIN", within)
        .setting("JOIN_MAX", "5m")
        .setting("FORWARDER_ACK_WAIT", "1s")
}

/// How the messages have ended, in their order.
async fn endings(streams: &Streams, count: usize) -> Vec<String> {
    streams.settled(count).await;
    let ending = |result: outcome::Result| match result {
        outcome::Result::None(none) => none.reason().as_str_name().replace("NO_REPLY_REASON_", ""),
        outcome::Result::Reply(_) => "reply".to_owned(),
        outcome::Result::Dead(_) => "dead".to_owned(),
    };
    streams.outcomes().await.iter().filter_map(|entry| entry.outcome().result.map(ending)).collect()
}

/// Nothing but what the person wrote has come to the customer's phone.
async fn only_the_person_wrote(customer: &Customer, texts: &[&str]) {
    let inbox = customer.inbox().await;
    assert_eq!(inbox.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), texts);
}

/// The person writes while the burst is on the bus and nobody has looked at it: each text is silenced for itself.
#[tokio::test]
async fn a_burst_with_a_person_in_its_middle_is_silenced_text_by_text() {
    let stage = plan("1m").set().await;
    let Product { edge: _edge, .. } = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    for text in ["uno", "dos"] {
        customer.write(text).await;
    }
    streams.received(2).await;
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    streams.received(3).await;
    customer.write("tres").await;
    streams.received(4).await;
    let _forwarder = stage.start(Role::Forwarder).await;
    assert_eq!(endings(&streams, 4).await, ["HUMAN", "HUMAN", "FROM_ME", "HUMAN"]);
    only_the_person_wrote(&customer, &["Sigo yo."]).await;
    assert_eq!(stage.backend.calls().await.len(), 0);
}

/// The person writes while a forwarder waits for more of the burst.
#[tokio::test]
async fn a_burst_that_waits_for_more_when_the_person_writes_is_silenced() {
    let stage = plan("3s").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    customer.write("uno").await;
    customer.write("dos").await;
    eventually("a turn that waits for more", PATIENCE, async || {
        let metrics = product.forwarders[0].metrics().await;
        if metrics.contains("\nwa_turns{state=\"joining\"} 1\n") { Ok(()) } else { Err(metrics) }
    })
    .await;
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    assert_eq!(endings(&streams, 3).await, ["HUMAN", "HUMAN", "FROM_ME"]);
    only_the_person_wrote(&customer, &["Sigo yo."]).await;
    assert_eq!(stage.backend.calls().await.len(), 0);
}

/// The burst is decided, and the forwarder dies over its call. Before the next one comes, the person writes.
async fn killed_over_its_call(point: &str, calls: usize) {
    let stage = plan("1m").set().await;
    let Product { edge: _edge, .. } = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    for text in ["uno", "dos", "tres"] {
        customer.write(text).await;
    }
    customer.write_kind("sticker", "").await;
    streams.received(4).await;
    let mut doomed = stage.start_with(Role::Forwarder, &[("CRASH_AT", point)]).await;
    doomed.process.end_by_kill(PATIENCE).await;
    assert_eq!(streams.outcomes().await.len(), 2, "it died somewhere else");
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    streams.received(5).await;
    let _successor = stage.start(Role::Forwarder).await;
    assert_eq!(endings(&streams, 5).await, ["JOINED", "JOINED", "HUMAN", "NOT_TEXT", "FROM_ME"]);
    only_the_person_wrote(&customer, &["Sigo yo."]).await;
    assert_eq!(stage.backend.calls().await.len(), calls);
}

#[tokio::test]
async fn forwarder_killed_before_the_call_of_a_burst_that_a_person_then_takes_over() {
    killed_over_its_call("forwarder.before-call", 0).await;
}

#[tokio::test]
async fn forwarder_killed_after_the_call_of_a_burst_that_a_person_then_takes_over() {
    killed_over_its_call("forwarder.after-call", 1).await;
}

/// The answer to a whole burst is held back like any other.
#[tokio::test]
async fn the_answer_to_a_burst_is_held_back_by_a_person_who_was_faster() {
    let stage = plan("1s").backend(GATE.0, GATE.1).set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    for text in ["uno", "dos"] {
        customer.write(text).await;
    }
    stage.backend.under_way(1).await;
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    streams.received(3).await;
    stage.backend.open().await;
    assert_eq!(endings(&streams, 3).await, ["JOINED", "reply", "FROM_ME"]);
    eventually("the receipt of the answer", PATIENCE, async || {
        let receipts = streams.receipts().await;
        if receipts.iter().any(|one| one.reason == "human") { Ok(()) } else { Err(format!("{receipts:?}")) }
    })
    .await;
    only_the_person_wrote(&customer, &["Sigo yo."]).await;
}

/// In a group a person takes over the group.
#[tokio::test]
async fn a_person_who_writes_in_a_group_takes_it_over_and_no_other_chat() {
    const GROUP: &str = "120363000000000842@g.us";
    let stage = Stage::plan().setting("TAKEOVER", "30m").setting("GROUPS", "all").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (ana, streams) = (stage.customer().await, stage.streams().await);
    stage.simulator.group(GROUP, &[&ana], json!({})).await;
    stage.simulator.owner_says(GROUP, "Sigo yo.").await;
    streams.received(1).await;
    ana.write_with(json!({"text": "¿hay mesa?", "through": GROUP})).await;
    assert_eq!(endings(&streams, 2).await, ["FROM_ME", "HUMAN"]);
    ana.write("¿y para mí?").await;
    assert_eq!(endings(&streams, 3).await, ["FROM_ME", "HUMAN", "reply"]);
    let takeovers = streams.takeovers().await;
    assert!(matches!(takeovers.as_slice(), [one] if one.chat.starts_with("group-")), "{takeovers:?}");
}

/// Who only reacts has written nothing, and the assistant goes on.
#[tokio::test]
async fn a_reaction_of_the_owner_is_no_takeover() {
    let stage = Stage::plan().setting("TAKEOVER", "30m").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let asked = customer.write("hola").await;
    customer.receives(1).await;
    let key = wa::MessageKey {
        remote_jid: Some(format!("{}@s.whatsapp.net", customer.phone())),
        from_me: Some(false),
        id: Some(asked),
        ..Default::default()
    };
    let reaction = wa::message::ReactionMessage {
        key: MessageField::some(key),
        text: Some("👍".to_owned()),
        ..Default::default()
    };
    let message = wa::Message { reaction_message: MessageField::some(reaction), ..Default::default() };
    stage.simulator.owner_sends(&customer, &BASE64_STANDARD.encode(message_to_vec(&message))).await;
    streams.updated(1).await;
    customer.write("¿y?").await;
    eventually("the answer", PATIENCE, async || {
        let inbox = customer.inbox().await;
        if inbox.iter().any(|one| one.text == "eco: ¿y?") { Ok(()) } else { Err(format!("{inbox:?}")) }
    })
    .await;
    assert!(streams.takeovers().await.is_empty());
}

/// The edge that comes next tells the end, which nobody else would.
#[tokio::test]
async fn an_edge_that_starts_in_the_middle_of_a_takeover_tells_its_end() {
    let stage = Stage::plan().setting("TAKEOVER", "6s").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    streams.received(1).await;
    product.edge.stop().await;
    let mut next = stage.start(Role::Edge).await;
    next.ready().await;
    let takeovers = eventually("word of its end", PATIENCE, async || {
        let takeovers: Vec<Takeover> = streams.takeovers().await;
        if takeovers.len() == 2 { Ok(takeovers) } else { Err(format!("{takeovers:?}")) }
    })
    .await;
    assert_eq!((takeovers[1].state(), takeovers[1].cause()), (TakeoverState::Ended, TakeoverCause::Time));
    assert_eq!(takeovers[1].until_ms, takeovers[0].until_ms);
    customer.write("¿y ahora?").await;
    eventually("the answer", PATIENCE, async || {
        let inbox = customer.inbox().await;
        if inbox.iter().any(|one| one.text == "eco: ¿y ahora?") { Ok(()) } else { Err(format!("{inbox:?}")) }
    })
    .await;
}
