//! What is longer than one message of WhatsApp comes as several, in order and each once, whatever dies in between.

use whatsapp_connector::wire::id;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{Receipt, ReceiptStatus, SendMessage, SendText};

use crate::support::{Customer, Layout, PATIENCE, Received, Role, Stage, Streams, eventually, warning};

const LONGEST: usize = 4_096;

/// Numbered paragraphs with blank lines between them: with `eco: ` before them three messages.
fn ten_thousand(name: &str) -> String {
    let paragraph = |number| format!("{name} {number}: {}", "palabra ".repeat(60).trim_end());
    let text = (0..20).map(paragraph).collect::<Vec<_>>().join("\n\n");
    assert!((9_500..10_500).contains(&text.len()), "{}", text.len());
    text
}

/// These messages are this text.
fn assert_is(parts: &[Received], text: &str) {
    assert!(parts.iter().all(|part| part.text.chars().count() <= LONGEST), "one is too long");
    let texts: Vec<_> = parts.iter().map(|part| part.text.as_str()).collect();
    assert_eq!(texts.join("\n\n"), text, "{} messages", parts.len());
    assert!(parts.iter().all(|part| part.altered == 0), "a copy says something else");
}

/// The receipts of a request or an outcome with this status.
async fn told(streams: &Streams, cause: &str, status: ReceiptStatus) -> Receipt {
    eventually(format!("{cause} to be {status:?}"), PATIENCE, async || {
        let receipts = streams.receipts().await;
        let found = receipts.iter().find(|one| one.request_id == cause && one.status() == status);
        found.cloned().ok_or_else(|| format!("{receipts:?}"))
    })
    .await
}

/// The id of the outcome of a message of the customer's own number.
async fn outcome(streams: &Streams, number: usize) -> String {
    streams.decided(number + 1).await;
    streams.outcomes().await[number].header("ce-id").expect("an id").to_owned()
}

#[tokio::test]
async fn ten_thousand_characters_come_as_three_messages_in_order_and_are_one_outcome() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let text = ten_thousand("uno");
    customer.write(&text).await;
    customer.write("corto").await;
    let inbox = customer.receives(4).await;
    assert_is(&inbox[..3], &format!("eco: {text}"));
    assert_eq!(inbox[3].text, "eco: corto", "the next answer waits for all parts");
    assert!(inbox.iter().all(|received| received.copies == 1));

    let cause = outcome(&streams, 0).await;
    let ids: Vec<_> = (0..3).map(|part| id::whatsapp_part(&cause, part)).collect();
    assert_eq!(inbox[..3].iter().map(|part| part.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(told(&streams, &cause, ReceiptStatus::Accepted).await.message_ids, ids);
    // Its last part says how far it has come.
    assert_eq!(told(&streams, &cause, ReceiptStatus::Delivered).await.message_ids, ids[2..]);
    let named = streams.receipts().await.into_iter().filter(|one| one.request_id == cause).count();
    assert_eq!(named, 2);
}

#[tokio::test]
async fn a_kill_between_two_parts_loses_none_and_shows_none_twice() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    product.edge.stop().await;
    let points = ["edge.before-send", "edge.after-send"];
    let deaths = points.iter().flat_map(|point| (1..3).map(move |part| (*point, part)));
    for (round, (point, part)) in deaths.enumerate() {
        let written = format!("3EB0AAAA{round}");
        let account = "default";
        let cause = format!("{account}/{0}/{0}/{written}/outcome", customer.phone());
        let dies_at = format!("{point}@{}", id::whatsapp_part(&cause, part));
        let mut edge = stage.start_with(Role::Edge, &[("CRASH_AT", &dies_at)]).await;
        edge.ready().await;
        let text = ten_thousand(&format!("ronda {round}"));
        customer.write_as(&written, &text).await;
        assert_eq!(outcome(&streams, round).await, cause);
        edge.process.end_by_kill(PATIENCE).await;
        let shown = customer.inbox().await.len() - 3 * round;
        assert!((part..=part + 1).contains(&shown), "{dies_at}: {shown} are shown");

        let mut edge = stage.start(Role::Edge).await;
        edge.ready().await;
        let inbox = customer.receives(3 * round + 3).await;
        assert_is(&inbox[3 * round..], &format!("eco: {text}"));
        told(&streams, &cause, ReceiptStatus::Accepted).await;
        edge.stop().await;
    }
    assert_eq!(customer.inbox().await.len(), 12);
}

/// The second part waits for its token as an answer would.
#[tokio::test]
async fn each_part_counts_for_the_rate_limit_and_no_other_chat_waits() {
    let stage = Stage::plan().setting("SEND_PER_CHAT", "2/1h").set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customers = stage.customers("54911884", 2).await;
    customers[0].write(&ten_thousand("uno")).await;
    customers[0].receives(2).await;
    customers[1].write("hola").await;
    customers[1].receives(1).await;
    let streams = stage.streams().await;
    eventually("the short answer to be settled, and the long one not", PATIENCE, async || {
        let found = streams.in_the_edges_hand().await;
        if found == 1 { Ok(()) } else { Err(format!("{found}")) }
    })
    .await;
    assert_eq!(customers[0].inbox().await.len(), 2);
}

fn request(customer: &Customer, body: &str) -> SendMessage {
    let content = Some(Content::Text(SendText { body: body.to_owned(), ..Default::default() }));
    SendMessage { to: customer.phone().to_owned(), content, ..SendMessage::default() }
}

#[tokio::test]
async fn a_request_is_cut_like_an_answer_and_what_is_missing_of_it_is_told() {
    let stage = Stage::plan().setting("SEND_PER_CHAT", "1/2s").set().await;
    stage.logs.expects(warning::REFUSED);
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let text = ten_thousand("uno");
    streams.send("long", &request(&customer, &text)).await;
    assert_is(&customer.receives(3).await, &text);
    let ids = |request: &str| (0..3).map(|part| id::whatsapp_part(request, part)).collect::<Vec<_>>();
    assert_eq!(told(&streams, "long", ReceiptStatus::Accepted).await.message_ids, ids("long"));

    streams.send("torn", &request(&customer, &text)).await;
    customer.receives(4).await;
    stage.simulator.fault("nack", None).await;
    let failed = told(&streams, "torn", ReceiptStatus::Failed).await;
    assert_eq!(failed.message_ids, ids("torn")[1..], "{failed:?}");
    stage.simulator.no_faults().await;
    streams.send("next", &request(&customer, "Hola")).await;
    assert_eq!(customer.receives(5).await[4].text, "Hola");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_and_that_is_told() {
    let stage = Stage::plan().set().await;
    stage.logs.expects("an answer is longer than so many messages");
    let _product = stage.product(Layout::OneProcess).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    customer.write(&"x".repeat(16 * LONGEST)).await;
    let inbox = customer.receives(16).await;
    assert!(inbox[15].text.ends_with('…') && !inbox[14].text.ends_with('…'));
    let accepted = told(&streams, &outcome(&streams, 0).await, ReceiptStatus::Accepted).await;
    assert_eq!((accepted.message_ids.len(), accepted.detail.as_str()), (16, "cut-off"));
    assert_eq!(customer.inbox().await.len(), 16);
}
