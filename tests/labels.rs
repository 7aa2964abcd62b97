//! Whose message it is, and in which chat: groups, status posts, broadcast lists, the owner's own phone, and people
//! whose number nobody is shown.

use serde_json::json;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{ChatKind, NoReplyReason, ReceiptStatus};

use crate::support::oracle::Written;
use crate::support::{Addressing, Layout, PATIENCE, Stage, eventually};

#[tokio::test]
async fn each_sort_of_chat_has_its_own_label() {
    let stage = Stage::plan().setting("INBOUND_EXTRA", "status,newsletter").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let ana = stage.simulator.customer("5491133330001", Addressing::Phone).await;
    let leo = stage.simulator.customer("5491133330002", Addressing::Lid).await;
    let group = "120363000000000042@g.us";
    let through = |address: &str| json!({"text": "a todos", "through": address});
    // Word by word, so that the bus has them in this order.
    let mut stored = 0;
    let mut wanted = Vec::new();
    for (customer, address, chat, kind) in [
        (&ana, group, "group-120363000000000042", ChatKind::Group),
        (&leo, group, "group-120363000000000042", ChatKind::Group),
        (&ana, "status@broadcast", "status-status", ChatKind::Status),
        (&leo, "status@broadcast", "status-status", ChatKind::Status),
        (&ana, "1736330400@broadcast", ana.phone(), ChatKind::Direct),
        (&leo, "1736330401@broadcast", leo.phone(), ChatKind::Direct),
    ] {
        let id = customer.write_with(through(address)).await;
        stored += 1;
        stage.streams().await.received(stored).await;
        wanted.push((id, chat.to_owned(), kind, customer.phone().to_owned()));
    }

    let streams = stage.streams().await;
    streams.settled(stored).await;
    let told: Vec<_> = streams
        .messages()
        .await
        .iter()
        .map(|entry| {
            let message = entry.inbound();
            let (kind, phone) = (message.chat_kind(), message.sender.unwrap_or_default().phone);
            assert_eq!(entry.chat(), message.chat);
            (message.message_id, message.chat, kind, phone)
        })
        .collect();
    assert_eq!(told, wanted);
    // A message to a list is one to us, and is answered to its writer.
    for customer in [&ana, &leo] {
        let inbox = customer.receives(1).await;
        assert_eq!(inbox.iter().map(|received| received.text.as_str()).collect::<Vec<_>>(), ["eco: a todos"]);
    }
    let reasons: Vec<_> = streams
        .outcomes()
        .await
        .iter()
        .filter_map(|entry| match entry.outcome().result {
            Some(Ending::None(none)) => Some(none.reason()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [NoReplyReason::NotDirect; 4]);
}

/// What is passed over is not held either: the customer's chat goes on.
#[tokio::test]
async fn status_posts_and_newsletters_go_on_the_bus_only_if_they_are_asked_for() {
    for (extra, wanted) in [("", 1), ("newsletter", 2), ("status", 2), ("status,newsletter", 3)] {
        let stage = Stage::plan().setting("INBOUND_EXTRA", extra).set().await;
        let _product = stage.product(Layout::OneProcess).await;
        let customer = stage.customer().await;
        for address in ["status@broadcast", "120363000000000043@newsletter"] {
            customer.write_with(json!({"text": "a todos", "through": address})).await;
        }
        customer.write("hola").await;
        customer.receives(1).await;
        let streams = stage.streams().await;
        streams.settled(wanted).await;
        let mut kinds: Vec<_> =
            streams.messages().await.iter().map(|entry| entry.inbound().chat_kind()).collect();
        kinds.sort_unstable();
        let named = |name: &str, kind| extra.contains(name).then_some(kind);
        let named = [named("status", ChatKind::Status), named("newsletter", ChatKind::Newsletter)];
        let all: Vec<_> = [Some(ChatKind::Direct)].into_iter().chain(named).flatten().collect();
        assert_eq!(kinds, all, "{extra}");
    }
}

/// Such a receipt says nothing of the chat with the person.
#[tokio::test]
async fn a_receipt_from_a_group_or_a_list_is_of_no_persons_chat() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.customer("5491133350001", Addressing::Phone).await;
    customer.write("uno").await;
    let answer = customer.receives(1).await.remove(0).id;
    for through in ["120363000000000042@g.us", "1736330400@broadcast"] {
        customer.has_read_through(&answer, through).await;
    }
    // WhatsApp hands receipts over in order, so the last one comes after those.
    customer.write("dos").await;
    let last = customer.receives(2).await.remove(1).id;

    let streams = stage.streams().await;
    let receipts = eventually("the last receipt", PATIENCE, async || {
        let receipts = streams.phones_receipts().await;
        let has_come = receipts.iter().any(|receipt| receipt.message_ids == [last.as_str()]);
        if has_come { Ok(receipts) } else { Err(format!("{}", receipts.len())) }
    })
    .await;
    let told: Vec<_> =
        receipts.into_iter().map(|receipt| (receipt.status(), receipt.message_ids, receipt.chat)).collect();
    let delivered = |id: String| (ReceiptStatus::Delivered, vec![id], customer.phone().to_owned());
    assert_eq!(told, [delivered(answer), delivered(last)]);
}

/// The first that is heard of the customer is what the owner writes on the business's own phone.
#[tokio::test]
async fn what_the_owner_writes_is_in_the_customers_chat() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.customer("5491133340001", Addressing::Lid).await;
    let own = stage.simulator.owner_writes(&customer, "¿Sigue en pie?").await;
    stage.streams().await.received(1).await;
    let answer = customer.write("sí").await;
    customer.receives(2).await;

    let streams = stage.streams().await;
    streams.settled(2).await;
    let messages: Vec<_> = streams
        .messages()
        .await
        .iter()
        .map(|entry| (entry.inbound().message_id, entry.inbound().chat, entry.inbound().from_me))
        .collect();
    let chat = customer.phone().to_owned();
    assert_eq!(messages, [(own, chat.clone(), true), (answer, chat, false)]);
    let receipts = eventually("a receipt", PATIENCE, async || {
        let receipts = streams.phones_receipts().await;
        if receipts.is_empty() { Err("none".to_owned()) } else { Ok(receipts) }
    })
    .await;
    assert!(receipts.iter().all(|receipt| receipt.status() == ReceiptStatus::Delivered), "{receipts:?}");
}

#[tokio::test]
async fn who_shows_no_number_is_known_to_the_assistant_by_the_chat() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.customer("5491133350001", Addressing::Hidden).await;
    let chat = format!("lid-{}", customer.lid().await);
    for (number, text) in ["hola", "¿hay mesa?"].into_iter().enumerate() {
        customer.write(text).await;
        let inbox = customer.receives(number + 1).await;
        assert_eq!(inbox.last().map(|received| received.text.clone()), Some(format!("eco: {text}")));
    }
    let evidence = stage.evidence(2, [&customer]).await;
    for entry in &evidence.messages {
        assert_eq!(entry.chat(), chat);
        assert_eq!(entry.inbound().sender.unwrap_or_default().phone, "", "nobody is told the number");
    }
    let asked: Vec<_> = evidence.calls.iter().map(|call| call.from_number.as_deref()).collect();
    assert_eq!(asked, [Some(chat.as_str()); 2]);
}

#[tokio::test]
async fn who_shows_no_number_gets_nothing_if_the_operator_says_so_or_lists_numbers() {
    for (name, value, reason) in [
        ("UNKNOWN_NUMBERS", "silent", NoReplyReason::NoPhone),
        ("ALLOWED_NUMBERS", "5491112345678", NoReplyReason::NotAllowed),
    ] {
        let stage = Stage::plan().setting(name, value).set().await;
        let _product = stage.product(Layout::OneProcess).await;
        let customer = stage.simulator.customer("5491133360001", Addressing::Hidden).await;
        let known = stage.customer().await;
        customer.write("hola").await;
        let written = [Written::echoed(known.phone(), known.write("soy yo").await, "soy yo")];
        known.receives(1).await;
        let mut evidence = stage.evidence(2, [&customer, &known]).await;
        let none: Vec<_> = evidence
            .outcomes
            .iter()
            .filter_map(|entry| match entry.outcome().result {
                Some(Ending::None(none)) => Some(none.reason()),
                _ => None,
            })
            .collect();
        assert_eq!(none, [reason]);
        assert_eq!(customer.inbox().await.len(), 0);
        let shown = |entry: &crate::support::Entry| entry.chat() == known.phone();
        evidence.messages.retain(&shown);
        evidence.outcomes.retain(&shown);
        evidence.assert_kept(&written);
    }
}
