//! What was sent, for a phone that asks for it again.
//!
//! The library takes it out of the store, and puts it back a moment later. Of several members of a group who ask at the same
//! time, only the first finds it then, and the others wait for ever. A kill in between takes it from everybody. So it is
//! read here, and stays.

use diesel::{OptionalExtension as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection};
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::changes::sent_messages;

/// The message, if it is still kept.
pub(super) async fn read(store: &SqliteStore, chat: &str, id: &str) -> Result<Option<Vec<u8>>> {
    let (chat, id, device) = (chat.to_owned(), id.to_owned(), store.device_id());
    let work = move |connection: &mut SqliteConnection| {
        sent_messages::table
            .find((chat, id, device))
            .select(sent_messages::payload)
            .first(connection)
            .optional()
            .map_err(|error| StoreError::Database(Box::new(error)))
    };
    store.shared().read(work).await
}
