//! One message, one answer.

use whatsapp_connector::wire::v1::{ChatKind, inbound_message::Content};

use crate::support::oracle::Written;
use crate::support::{Layout, Stage};

#[tokio::test]
async fn one_message_gets_one_answer() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;

    let id = customer.write("Hola, ¿están abiertos? 🙂").await;

    let inbox = customer.receives(1).await;
    assert_eq!(inbox[0].text, "eco: Hola, ¿están abiertos? 🙂");
    assert_eq!(inbox[0].kind, "text");

    let written = [Written::echoed(customer.phone(), id.clone(), "Hola, ¿están abiertos? 🙂")];
    let evidence = stage.evidence(1, [&customer]).await;
    evidence.assert_kept(&written);
    assert_eq!(evidence.calls_of(&id), 1);
    let message = evidence.messages[0].inbound();
    let sender = message.sender.clone().expect("a sender");
    assert_eq!((sender.phone.as_str(), message.push_name.as_str()), (customer.phone(), "Ana"));
    assert_eq!(message.chat_kind(), ChatKind::Direct);
    assert!(matches!(message.content, Some(Content::Text(_))), "{:?}", message.content);
}
