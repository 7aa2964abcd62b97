//! A phone may name its messages as it likes. A name without end costs nobody else anything, and its message is answered.

use whatsapp_connector::wire::header;

use crate::support::oracle::Written;
use crate::support::{Layout, Stage};

/// Its copies in headers and payload would be more than a message of nats-server may have.
const LONG: usize = 400_000;

#[tokio::test]
async fn a_message_with_an_endless_id_is_stored_once_and_answered() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let (one, other) = ("A".repeat(LONG), "A".repeat(LONG - 1));
    customer.write_as(&one, "hola").await;
    customer.write_as(&other, "¿y?").await;
    customer.receives(2).await;
    // The same message, as a phone sends it again.
    customer.write_as(&one, "hola").await;
    let last = customer.write("chau").await;
    customer.receives(3).await;

    let messages = stage.streams().await.messages().await;
    let ids: Vec<_> = messages.iter().map(|entry| entry.inbound().message_id).collect();
    assert!(ids[..2].iter().all(|id| id.len() == 256 && id.starts_with("AAAA")), "{ids:?}");
    assert_ne!(ids[0], ids[1], "they are two");
    assert!(messages.iter().all(|entry| entry.header(header::CE_ID).is_some_and(|id| id.len() < 1_000)));
    let written = [
        Written::echoed(customer.phone(), ids[0].clone(), "hola"),
        Written::echoed(customer.phone(), ids[1].clone(), "¿y?"),
        Written::echoed(customer.phone(), last, "chau"),
    ];
    stage.evidence(3, [&customer]).await.assert_kept(&written);
}
