//! Many changes of the session's store in one transaction of SQLite ([`Together`]).

use whatsapp_rust::wacore::store::error::StoreError;

use super::changes::{Change, apply};
use super::home::Database;
use crate::edge::journal::{Ended, Together};

/// Writes changes of the store.
pub(super) type Commits = Together<Change, StoreError>;

/// Writes to `store`, through its own connection.
pub(super) fn commits(store: impl Into<Database>) -> Commits {
    let store = store.into();
    let device = store.store().device_id();
    Together::with(move |changes| {
        let store = store.clone();
        async move { store.run(move |connection| apply(connection, device, &changes)).await }
    })
}

/// The writer is gone, because the client is ending.
impl From<Ended> for StoreError {
    fn from(Ended: Ended) -> Self {
        Self::Validation("the session's store is closed".to_owned())
    }
}
