//! A group's key goes to its members with the first message. What is lost with that message comes with the next one.

use serde_json::json;
use whatsapp_connector::wire::id;
use whatsapp_connector::wire::v1::{SendMessage, SendText, send_message};

use crate::support::{Addressing, Layout, PATIENCE, Role, Stage, eventually};

const GROUP: &str = "120363000000000887@g.us";

/// An edge dies over the first message of a group, which its socket has and WhatsApp has not. Returns how often a member could not
/// read what the next edge sends.
async fn the_first_message_is_lost(without: &str) -> u64 {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    product.edge.stop().await;
    let lost = ("CRASH_AT", &*format!("edge.after-send@{}", id::whatsapp("first")));
    let mut edge = stage.start_with(Role::Edge, &[lost]).await;
    edge.ready().await;
    let ana = stage.simulator.customer("5491144440871", Addressing::Lid).await;
    let leo = stage.simulator.customer("5491144440872", Addressing::Lid).await;
    stage.simulator.group(GROUP, &[&ana, &leo], json!({})).await;
    // So that the edge knows them all, and asks WhatsApp nothing more.
    for customer in [&ana, &leo] {
        customer.write("hola").await;
        customer.receives(1).await;
        customer.write_with(json!({"text": "hola a todos", "through": GROUP})).await;
    }
    let streams = stage.streams().await;
    streams.settled(4).await;
    stage.simulator.fault("lose_messages", None).await;
    let text = SendText { body: "mañana a las nueve".to_owned(), options: None };
    let content = Some(send_message::Content::Text(text));
    let request = SendMessage { to: GROUP.to_owned(), content, ..SendMessage::default() };
    streams.send_to("group-120363000000000887", "first", &request).await;
    edge.process.end_by_kill(PATIENCE).await;
    stage.simulator.no_faults().await;

    let mut edge = stage.start_with(Role::Edge, &[("WITHOUT_GUARD", without)]).await;
    edge.ready().await;
    for customer in [&ana, &leo] {
        eventually("the message", PATIENCE, async || {
            let inbox = customer.inbox().await;
            let texts: Vec<_> = inbox.iter().map(|one| one.text.clone()).collect();
            if texts.last().is_some_and(|last| last == "mañana a las nueve") {
                Ok(())
            } else {
                Err(format!("{texts:?}"))
            }
        })
        .await;
    }
    stage.simulator.counter("group_retries").await
}

#[tokio::test]
async fn the_key_that_was_lost_with_a_groups_first_message_goes_with_the_same_message_again() {
    assert_eq!(the_first_message_is_lost("").await, 0, "each member can read it at once");
}

/// The control: the library has noted that they all have it. They ask at the same time, and each of them gets it.
#[tokio::test]
async fn without_the_key_each_member_asks_for_the_message_and_gets_it() {
    assert_eq!(the_first_message_is_lost("group-keys").await, 2);
}
