//! What customers write while the edge is away is answered when it is back, in order.

use crate::support::oracle::Written;
use crate::support::{Layout, Role, Stage};

#[tokio::test]
async fn three_messages_while_the_edge_is_down() {
    let stage = Stage::plan().backend("BACKEND_DELAY_MS", "0-200").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let before = customer.write("antes").await;
    customer.receives(1).await;
    product.edge.stop().await;

    let mut written = vec![Written::echoed(customer.phone(), before, "antes")];
    for text in ["uno", "dos", "tres"] {
        written.push(Written::echoed(customer.phone(), customer.write(text).await, text));
    }
    assert_eq!(stage.simulator.unreceived().await, 3, "nobody was there to receive them");
    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;

    customer.receives(4).await;
    let evidence = stage.evidence(4, [&customer]).await;
    evidence.assert_kept(&written);
    let offline: Vec<bool> = evidence.messages.iter().map(|entry| entry.inbound().offline).collect();
    assert_eq!(offline, [false, true, true, true], "the last three came from WhatsApp's queue");
}
