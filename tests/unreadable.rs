//! Messages that a linked device cannot read: the bus says that there is one, and the words reach the assistant as
//! soon as somebody hands them over.

use std::time::Duration;

use serde_json::json;
use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::inbound_message::Content;

use crate::support::oracle::{Evidence, Written};
use crate::support::{Addressing, Entry, Layout, PATIENCE, Product, Stage, eventually, warning};

const UNDECRYPTED: &str = "a message could not be decrypted";

/// Waits until the edge has seen that it cannot decrypt a message.
async fn undecrypted(product: &Product) {
    eventually("a message that cannot be decrypted", PATIENCE, async || {
        let log = product.edge.process.stderr() + &product.edge.process.stdout();
        if log.contains(UNDECRYPTED) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
}

/// The kinds of all that is unsupported, in the order of the bus.
fn placeholders(evidence: &Evidence) -> Vec<(String, String)> {
    let unsupported = |entry: &Entry| match entry.inbound().content {
        Some(Content::Unsupported(unsupported)) => Some((entry.inbound().message_id, unsupported.kind)),
        _ => None,
    };
    evidence.messages.iter().filter_map(unsupported).collect()
}

#[tokio::test]
async fn of_what_never_comes_the_bus_has_word_and_the_chat_goes_on() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    for addressing in [Addressing::Phone, Addressing::Lid] {
        let phone = if addressing == Addressing::Phone { "5491122220001" } else { "5491122220002" };
        let customer = stage.simulator.customer(phone, addressing).await;
        let mut written = Vec::new();
        let mut want = Vec::new();
        for (comes, kind) in [("view_once", "view-once"), ("hosted", "hosted"), ("bot", "bot")] {
            let id = customer.write_with(json!({"text": "un secreto", "comes": comes})).await;
            written.push(Written::unanswered(phone, id.clone()));
            want.push((id, kind.to_owned()));
            written.push(Written::echoed(phone, customer.write(kind).await, kind));
            customer.receives(want.len()).await;
        }

        let streams = stage.streams().await;
        streams.settled(6).await;
        let mut evidence = stage.evidence(6, [&customer]).await;
        evidence.messages.retain(|entry| entry.chat() == phone);
        evidence.outcomes.retain(|entry| entry.chat() == phone);
        // Word of a message and the message after it come by different ways.
        let written = evidence.as_it_came(written);
        evidence.assert_kept(&written);
        let mut told = placeholders(&evidence);
        told.sort_by_key(|(id, _)| want.iter().position(|(wanted, _)| wanted == id));
        assert_eq!(told, want);
        assert!(stage.simulator.unreceived().await == 0, "WhatsApp counts them as received");
    }
}

#[tokio::test]
async fn what_only_the_owners_phone_can_read_is_answered_as_soon_as_it_hands_it_over() {
    let mut stage = Stage::plan().set().await;
    // The bus is away for a moment only, unless the machine is slow.
    for part in [warning::BUS_AWAY, "nats-server does not answer; waiting for it", "pulling is interrupted"] {
        stage.logs.may_have(part);
    }
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = [
        stage.simulator.customer("5491122230001", Addressing::Phone).await,
        stage.simulator.customer("5491122230002", Addressing::Lid).await,
        stage.simulator.customer("5491122230003", Addressing::Phone).await,
    ];
    let mut written = Vec::new();
    for customer in &customers[..2] {
        let id = customer.write_with(json!({"text": "¿abren hoy?", "comes": "unavailable"})).await;
        customer.receives(1).await;
        written.push(Written::unanswered(customer.phone(), id.clone()));
        written.push(Written::echoed(customer.phone(), id.clone(), "¿abren hoy?"));
        // Handed over once more, it is no other message.
        stage.simulator.hands_over(customer, &id).await;
    }
    // It comes while the bus is away.
    let late = &customers[2];
    let id = late.write_with(json!({"text": "¿y mañana?", "comes": "unavailable", "again": "nobody"})).await;
    stage.streams().await.settled(5).await;
    stage.nats.freeze();
    stage.simulator.hands_over(late, &id).await;
    eventually("the phone's message to be taken", PATIENCE, async || {
        match stage.simulator.unreceived().await {
            0 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    stage.nats.thaw();
    late.receives(1).await;
    written.push(Written::unanswered(late.phone(), id.clone()));
    written.push(Written::echoed(late.phone(), id.clone(), "¿y mañana?"));

    let evidence = stage.evidence(6, &customers).await;
    evidence.assert_kept(&written);
    assert!(
        placeholders(&evidence).iter().all(|(_, kind)| kind == "waiting"),
        "{:?}",
        placeholders(&evidence)
    );
    let names: Vec<_> = evidence.messages.iter().filter_map(|entry| entry.header(header::MSG_ID)).collect();
    assert!(names.iter().any(|name| name.ends_with(&format!("/{id}"))), "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(&format!("/{id}/placeholder"))), "{names:?}");
}

/// Its sender's phone is off, so the chat waits for a while. The owner's phone is not.
#[tokio::test]
async fn what_the_owners_phone_hands_over_while_its_chat_waits_is_in_its_place() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(UNDECRYPTED);
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let mut written = vec![Written::echoed(customer.phone(), customer.write("cero").await, "cero")];
    customer.receives(1).await;

    let broken = json!({"text": "uno", "comes": "unreadable", "again": "nobody"});
    let one = customer.write_with(broken).await;
    undecrypted(&product).await;
    let two = customer.write("dos").await;
    stage.simulator.hands_over(&customer, &one).await;

    written.push(Written::echoed(customer.phone(), one, "uno"));
    written.push(Written::echoed(customer.phone(), two, "dos"));
    customer.receives(3).await;
    let evidence = stage.evidence(3, [&customer]).await;
    evidence.assert_kept(&written);
}

#[tokio::test]
async fn what_does_not_come_in_time_is_told_of_in_its_place_and_its_words_are_answered_late() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(UNDECRYPTED);
    stage.logs.expects("a message that must come again has not come");
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let phone = customer.phone();
    let mut written = vec![Written::echoed(phone, customer.write("cero").await, "cero")];
    customer.receives(1).await;

    // A reaction or an edit would be hidden: nothing waits for it, and nobody is told.
    let hidden = json!({"text": "x", "comes": "unreadable", "again": "nobody", "hide": true});
    customer.write_with(hidden).await;
    undecrypted(&product).await;
    written.push(Written::echoed(phone, customer.write("medio").await, "medio"));
    customer.receives_within(2, Duration::from_secs(15)).await;
    let broken = json!({"text": "uno", "comes": "unreadable", "again": "nobody"});
    let one = customer.write_with(broken).await;
    let two = customer.write("dos").await;
    customer.receives(3).await;
    stage.simulator.hands_over(&customer, &one).await;

    written.push(Written::unanswered(phone, one.clone()));
    written.push(Written::echoed(phone, two, "dos"));
    written.push(Written::echoed(phone, one.clone(), "uno"));
    customer.receives(4).await;
    let evidence = stage.evidence(5, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(placeholders(&evidence), [(one, "waiting".to_owned())]);
}

/// In a group only the member waits whose message is missing, and keeps the order in which he or she wrote.
#[tokio::test]
async fn in_a_group_one_members_words_keep_their_order_and_nobody_else_waits() {
    let stage = Stage::plan().set().await;
    stage.logs.expects(UNDECRYPTED);
    stage.logs.expects("a message that must come again has not come");
    let product = stage.product(Layout::OneProcess).await;
    let (ana, beto) =
        (stage.customer().await, stage.simulator.customer("5491122240002", Addressing::Phone).await);
    let group = "120363000000000777@g.us";
    let of = |text: &str| json!({"text": text, "through": group});
    // It comes again at once, and what follows comes after it.
    let zero = ana.write_with(json!({"text": "cero", "comes": "unreadable", "through": group})).await;
    undecrypted(&product).await;
    let half = ana.write_with(of("medio")).await;
    stage.streams().await.settled(2).await;
    // It does not come: the member's phone is off.
    let broken = json!({"text": "uno", "comes": "unreadable", "again": "nobody", "through": group});
    let one = ana.write_with(broken).await;
    let two = ana.write_with(of("dos")).await;
    let others = beto.write_with(of("hola")).await;

    let evidence = stage.evidence(5, [&ana, &beto]).await;
    let order: Vec<_> = evidence.messages.iter().map(|entry| entry.inbound().message_id).collect();
    assert_eq!(order, [zero, half, others, one.clone(), two]);
    assert_eq!(placeholders(&evidence), [(one, "waiting".to_owned())]);
    assert!(evidence.calls.is_empty(), "groups are not answered");
}
