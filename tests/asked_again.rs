//! A phone that cannot read an answer asks for it again, and may do so days later.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::support::{Layout, Role, Stage};

/// As if everything that was sent had been sent so long ago.
const MADE_OLDER: &str = "UPDATE sent_messages SET created_at = created_at - 5 * 86400";

/// The client library throws away what was sent more than two hours ago, unless it is told otherwise. The edge has
/// its store do so at each start.
#[tokio::test]
async fn an_answer_can_be_asked_for_again_after_days() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    let answer = customer.receives(1).await.remove(0);
    product.edge.stop().await;
    let store = stage.dir().join("auth/default.db");
    let mut store = SqliteConnection::establish(&store.display().to_string()).expect("the session's store");
    store.batch_execute(MADE_OLDER).expect("older rows");
    drop(store);

    let mut edge = stage.start(Role::Edge).await;
    edge.ready().await;
    customer.asks_again(&answer.id).await;
    let inbox = customer.receives_copies(2).await;
    assert_eq!((inbox.len(), inbox[0].copies, inbox[0].altered), (1, 2, 0), "{inbox:?}");
}
