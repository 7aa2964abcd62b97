//! `READ_RECEIPTS`: a message is marked as read when its outcome is stored, and only if the assistant has dealt with it.

use serde_json::json;

use crate::support::{Addressing, BUSINESS, GATE, Layout, Stage};

const ON: (&str, &str) = ("READ_RECEIPTS", "on");

#[tokio::test]
async fn a_message_is_read_when_its_outcome_is_stored_and_not_before() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting(ON.0, ON.1).set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.simulator.customer("5491144440002", Addressing::Lid).await;
    let (first, second) = (customer.write("hola").await, customer.write("¿y?").await);
    stage.backend.under_way(1).await;
    let unread = customer.sent().await;
    assert!(unread.iter().all(|sent| sent.status != "read"), "{unread:?}");
    stage.backend.open().await;
    customer.is_read(&first).await;
    customer.is_read(&second).await;
}

/// The owner finds it unread, and may look at it.
#[tokio::test]
async fn what_the_assistant_was_not_asked_about_stays_unread() {
    let stage = Stage::plan().setting(ON.0, ON.1).setting("ALLOWED_NUMBERS", "5491112345678").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let stranger = stage.simulator.customer("5491112345680", Addressing::Phone).await;
    let sticker = customer.write_kind("sticker", "").await;
    stranger.write("hola").await;
    stage.streams().await.settled(2).await;
    // Marks go out in the order of the outcomes.
    let read = customer.write("hola").await;
    customer.is_read(&read).await;
    let unread = customer.sent().await.into_iter().find(|sent| sent.id == sticker).expect("it");
    assert_eq!(unread.status, "delivered");
    assert!(stranger.sent().await.iter().all(|sent| sent.status == "delivered"));
}

#[tokio::test]
async fn nothing_is_marked_unless_it_is_asked_for_and_an_owner_who_hides_it_tells_nobody() {
    for (value, hides) in [("off", false), ("on", true)] {
        let stage = Stage::plan().setting(ON.0, value).set().await;
        if hides {
            stage.simulator.fault("hide_reads", None).await;
        }
        let product = stage.product(Layout::OneProcess).await;
        let customer = stage.customer().await;
        for count in 1..=3 {
            customer.write("hola").await;
            customer.receives(count).await;
        }
        stage.streams().await.settled(3).await;
        if hides {
            crate::support::eventually("the marks", crate::support::PATIENCE, async || {
                let counted = product.edge.metrics().await;
                let marks = counted.lines().any(|line| line == "wa_courtesies_total{kind=\"read\"} 3");
                if marks { Ok(()) } else { Err(counted) }
            })
            .await;
        }
        let sent = customer.sent().await;
        assert!(sent.iter().all(|sent| sent.status == "delivered"), "{sent:?}");
    }
}

#[tokio::test]
async fn in_a_group_its_author_sees_it() {
    const GROUP: &str = "120363000000000992@g.us";
    let stage = Stage::plan().setting(ON.0, ON.1).setting("GROUPS", "mention").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.simulator.customer("5491144440001", Addressing::Phone).await;
    let leo = stage.simulator.customer("5491144440002", Addressing::Lid).await;
    stage.simulator.group(GROUP, &[&ana, &leo], json!({})).await;
    let own = format!("{BUSINESS}@s.whatsapp.net");
    let raw = crate::groups::said("¿y tú?", crate::groups::mention(&own));
    let id = leo.write_with(json!({"raw": raw, "through": GROUP})).await;
    leo.is_read(&id).await;
}

/// More than one stanza takes.
#[tokio::test]
async fn a_backlog_is_marked_whole() {
    let stage = Stage::plan().backend(GATE.0, GATE.1).setting(ON.0, ON.1).set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(customer.write(&number.to_string()).await);
    }
    stage.backend.open().await;
    customer.receives(300).await;
    for id in ids {
        customer.is_read(&id).await;
    }
}

/// Texts in a row have one call, and are read when that has its outcome.
#[tokio::test]
async fn all_of_a_burst_is_read_when_its_one_outcome_is_stored() {
    let stage =
        Stage::plan().backend(GATE.0, GATE.1).setting(ON.0, ON.1).setting("JOIN_WITHIN", "1s").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut ids = Vec::new();
    for text in ["hola", "una pregunta", "¿abren hoy?"] {
        ids.push(customer.write(text).await);
    }
    stage.backend.under_way(1).await;
    stage.streams().await.decided(2).await;
    let unread = customer.sent().await;
    assert!(unread.iter().all(|sent| sent.status != "read"), "{unread:?}");
    stage.backend.open().await;
    customer.receives(1).await;
    for id in ids {
        customer.is_read(&id).await;
    }
}
