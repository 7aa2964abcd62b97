//! Many changes of the session's store in one transaction of SQLite ([`Together`]).

use whatsapp_rust::wacore::store::error::StoreError;

use super::changes::{Change, apply};
use super::home::Database;
use crate::crash;
use crate::edge::journal::{Changes, Ended, Together};
use crate::telemetry::metrics;

/// Writes changes of the store.
pub(super) type Commits = Together<Change, StoreError>;

/// Writes to `store`, through its own connection.
pub(super) fn commits(store: impl Into<Database>) -> Commits {
    let store = store.into();
    let device = store.store().device_id();
    Together::with(move |changes: Changes<Change>| {
        let store = store.clone();
        async move {
            let these = changes.clone();
            points("session.before-write", &these);
            store.write(move |connection| apply(connection, device, &changes)).await?;
            // On the bus it is not yet.
            points("session.written", &these);
            store.durable().await?;
            points("session.durable", &these);
            metrics::SESSION_COMMITS.add(1, []);
            Ok(())
        }
    })
}

/// Here a test may have the process killed: for a message's copy under its id, and for other changes under their kind.
fn points(point: &str, changes: &Changes<Change>) {
    if cfg!(feature = "simulator") {
        for change in changes.iter().flat_map(|call| call.iter()) {
            crash::point_of(point, change.named());
        }
    }
}

/// The writer is gone, because the client is ending.
impl From<Ended> for StoreError {
    fn from(Ended: Ended) -> Self {
        Self::Validation("the session's store is closed".to_owned())
    }
}
