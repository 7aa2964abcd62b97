//! Readers are told of calls that nobody took. They come once at most.

use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::inbound_message::Content;

use crate::support::{Addressing, Layout, Stage};

#[tokio::test]
async fn a_call_that_nobody_took_is_an_update_and_one_that_was_taken_is_nothing() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let by_phone = stage.customer().await;
    let hidden = stage.simulator.customer("5491155550031", Addressing::Lid).await;
    let mut missed = Vec::new();
    for customer in [&by_phone, &hidden] {
        // It is taken, or declined, on the owner's phone.
        for reason in ["accepted_elsewhere", "rejected_elsewhere"] {
            customer.calls(Some(reason)).await;
        }
        for reason in [None, Some("timeout")] {
            missed.push((customer.calls(reason).await, customer.phone().to_owned()));
            stage.streams().await.updated(missed.len()).await;
        }
    }
    let updates = stage.streams().await.updates().await;
    let told: Vec<_> = updates
        .iter()
        .map(|entry| {
            let call = entry.inbound();
            assert_eq!(entry.header(header::KIND), Some("missed_call"));
            assert!(matches!(call.content, Some(Content::MissedCall(missed)) if missed.video), "{call:?}");
            let sender = call.sender.expect("who called").phone;
            assert_eq!((entry.chat(), call.chat.as_str()), (sender.as_str(), sender.as_str()));
            (call.message_id, sender)
        })
        .collect();
    assert_eq!(told, missed);
    // Nobody is asked about a call, and the chat goes on.
    by_phone.write("hola").await;
    by_phone.receives(1).await;
}
