//! The disk with the session takes nothing more.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use whatsapp_connector::wire::now_ms;
use whatsapp_connector::wire::v1::send_message::Content;
use whatsapp_connector::wire::v1::{SendMessage, SendText};

use crate::support::{Layout, PATIENCE, Stage, eventually};

/// What SQLite says of a full disk, for what is written when a ratchet has turned.
const FULL: &str = "CREATE TRIGGER full BEFORE INSERT ON sessions BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END;
    CREATE TRIGGER full_too BEFORE UPDATE ON sessions BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END;";
const ROOM: &str = "DROP TRIGGER full; DROP TRIGGER full_too;";

/// Nothing is sent then, and the edge knows that: what is too late meanwhile stays unsent.
#[tokio::test]
async fn what_waited_for_the_disk_until_it_was_too_late_is_not_sent() {
    // The library would write the ratchet a moment after it has turned.
    let stage = Stage::plan().setting("WITHOUT_GUARD", "write-behind").set().await;
    stage.logs.expects("the session with WhatsApp cannot be written; nothing is sent until it can");
    let product = stage.product(Layout::Split { forwarders: 0 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let request = |words: &str, not_after_ms| {
        let content = Some(Content::Text(SendText { body: words.to_owned(), options: None }));
        SendMessage { to: customer.phone().to_owned(), content, not_after_ms, ..SendMessage::default() }
    };
    streams.send("first", &request("uno", 0)).await;
    customer.receives(1).await;
    customer.write("hola").await;
    streams.received(1).await;
    let store = stage.dir().join("auth/default.db").display().to_string();
    let mut store = SqliteConnection::establish(&store).expect("the session's store");
    // The edge may be writing.
    store.batch_execute("PRAGMA busy_timeout = 30000").expect("patience");
    store.batch_execute(FULL).expect("a full disk");

    streams.send("late", &request("dos", now_ms() + 2_000)).await;
    let failed = eventually("word that it is too late", PATIENCE, async || {
        streams.failed_sends().await.pop().ok_or_else(|| product.edge.process.stderr())
    })
    .await;
    store.batch_execute(ROOM).expect("room again");

    assert_eq!((failed.request_id.as_str(), failed.reason.as_str()), ("late", "expired"));
    streams.send("third", &request("tres", 0)).await;
    let shown: Vec<_> = customer.receives(2).await.into_iter().map(|one| one.text).collect();
    assert_eq!(shown, ["uno", "tres"]);
}
