//! `CALLS_PER_CHAT`: how often the backend is called for one chat, whoever calls it and whoever dies.

use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::NoReplyReason;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::oracle::Written;
use crate::support::{Layout, Role, Stage};

const TEXT: &str = "Por ahora es suficiente; escribime más tarde.";

async fn stage(text: &str) -> Stage {
    Stage::plan().setting("CALLS_PER_CHAT", "3/24h").setting("RATE_TEXT", text).set().await
}

#[tokio::test]
async fn over_the_limit_a_chat_is_told_once_and_others_are_answered() {
    let stage = stage(TEXT).await;
    let _product = stage.product(Layout::Split { forwarders: 2 }).await;
    let customers = stage.customers("54911777", 2).await;
    let (eager, other) = (&customers[0], &customers[1]);
    let mut written = Vec::new();
    for number in 0..6 {
        let text = number.to_string();
        let id = eager.write(&text).await;
        written.push(match number {
            0..3 => Written::echoed(eager.phone(), id, &text),
            3 => Written { phone: eager.phone().to_owned(), id, answer: Some(TEXT.to_owned()) },
            _ => Written::unanswered(eager.phone(), id),
        });
    }
    eager.receives(4).await;
    written.push(Written::echoed(other.phone(), other.write("hola").await, "hola"));
    // What needs no call is no call.
    written.push(Written::unanswered(other.phone(), other.write_kind("sticker", "").await));
    other.receives(1).await;
    let evidence = stage.evidence(8, &customers).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls.len(), 4, "three of the one, one of the other");
    let rated = evidence.outcomes.iter().filter(|entry| match entry.outcome().result {
        Some(Ending::None(none)) => none.reason() == NoReplyReason::Rate,
        _ => false,
    });
    assert_eq!(rated.count(), 2);
    assert!(evidence.outcomes.iter().all(|entry| entry.header(header::CALLS_FULL_AT).is_some()));
}

#[tokio::test]
async fn the_count_is_on_the_bus_and_not_in_a_process() {
    let stage = stage("").await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let mut written = Vec::new();
    for number in 0..5 {
        let text = number.to_string();
        let id = customer.write(&text).await;
        stage.streams().await.settled(number + 1).await;
        written.push(match number {
            0..3 => Written::echoed(customer.phone(), id, &text),
            _ => Written::unanswered(customer.phone(), id),
        });
        product.forwarders[0].process.kill();
        product.forwarders[0] = stage.start(Role::Forwarder).await;
        product.forwarders[0].ready().await;
    }
    let evidence = stage.evidence(5, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls.len(), 3);
}
