//! Messages without text, and people known by a hidden id.

use whatsapp_connector::wire::v1::NoReplyReason;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::support::oracle::Written;
use crate::support::{Addressing, Layout, Stage};

#[tokio::test]
async fn a_message_without_text_gets_no_answer_and_the_chat_goes_on() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let written = [
        Written::echoed(customer.phone(), customer.write("antes").await, "antes"),
        Written::unanswered(customer.phone(), customer.write_kind("sticker", "").await),
        Written::unanswered(customer.phone(), customer.write_kind("location", "").await),
        Written::echoed(customer.phone(), customer.write("después").await, "después"),
    ];

    customer.receives(2).await;
    let evidence = stage.evidence(4, [&customer]).await;
    evidence.assert_kept(&written);
    let kinds: Vec<_> = evidence.messages.iter().filter_map(|entry| entry.inbound().content).collect();
    assert!(
        matches!(
            kinds.as_slice(),
            [Content::Text(_), Content::Sticker(_), Content::Location(_), Content::Text(_)]
        ),
        "{kinds:?}"
    );
    for entry in &evidence.outcomes[1..3] {
        let Some(Ending::None(none)) = entry.outcome().result else { panic!("{:?}", entry.outcome()) };
        assert_eq!(none.reason(), NoReplyReason::NotText);
    }
    assert_eq!(evidence.calls.len(), 2, "the backend is asked about texts only");
}

/// The backend knows people by their phone number, and by nothing else.
#[tokio::test]
async fn a_hidden_id_reaches_the_backend_as_the_phone_number() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.customer("5491155550001", Addressing::Lid).await;

    let written = [
        Written::echoed(customer.phone(), customer.write("uno").await, "uno"),
        Written::echoed(customer.phone(), customer.write("dos").await, "dos"),
    ];

    customer.receives(2).await;
    let evidence = stage.evidence(2, [&customer]).await;
    evidence.assert_kept(&written);
    for call in &evidence.calls {
        assert_eq!(call.from_number.as_deref(), Some(customer.phone()));
    }
    for entry in &evidence.messages {
        let message = entry.inbound();
        let sender = message.sender.expect("a sender");
        assert!(sender.jid.ends_with("@lid"), "the simulator did not use the hidden id: {}", sender.jid);
        assert_eq!(sender.phone, customer.phone());
        assert!(!sender.lid.is_empty() && sender.lid != sender.phone, "{}", sender.lid);
    }
}
