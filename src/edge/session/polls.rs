//! Polls and events, kept for their votes and answers.
//!
//! A vote names the picked options by their hashes, and is encrypted with a secret that came with the poll. So a poll
//! is kept in the session's store before it is on the bus: whoever sees a poll there, sees its votes decrypted, also
//! after a kill. A table of its own, beside the library's.

use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection,
    sql_query,
};
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::home::Database;
use crate::wire::v1::Identity;
use crate::wire::{ChatToken, now_ms};

/// How long a poll is kept. WhatsApp's own clients forget a poll's secret after that, too.
const AGE_MS: i64 = 90 * 24 * 3_600 * 1_000;
/// How many are kept. Of more, the oldest go.
const MOST: i64 = 5_000;
/// How many of one chat. Nobody can push out the polls of others by making many.
const MOST_OF_A_CHAT: i64 = 100;
/// The longest list of options that is kept, in bytes. Phones write a tenth of it. A poll with more stays unknown.
const OPTIONS: usize = 16_384;

/// What has to be known of a poll or an event to read a vote or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Poll {
    /// Its secret.
    pub secret: Vec<u8>,
    /// Its options; none if it is an event.
    pub options: Vec<String>,
    /// Who has made it.
    pub creator: Identity,
}

/// The polls of the session. Cheap to clone; clones share the store.
#[derive(Clone, Default)]
pub(crate) struct Polls(Arc<Mutex<Option<Database>>>);

impl std::fmt::Debug for Polls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Polls").finish_non_exhaustive()
    }
}

diesel::table! {
    connector_polls (device_id, chat, id) {
        device_id -> Integer,
        chat -> Text,
        id -> Text,
        secret -> Binary,
        options -> Text,
        creator_phone -> Text,
        creator_lid -> Text,
        kept_at_ms -> BigInt,
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS connector_polls (
    device_id INTEGER NOT NULL,
    chat TEXT NOT NULL,
    id TEXT NOT NULL,
    secret BLOB NOT NULL,
    options TEXT NOT NULL,
    creator_phone TEXT NOT NULL,
    creator_lid TEXT NOT NULL,
    kept_at_ms BIGINT NOT NULL,
    PRIMARY KEY (device_id, chat, id)
)";

const INDEX: &str =
    "CREATE INDEX IF NOT EXISTS connector_polls_by_time ON connector_polls (device_id, kept_at_ms)";

/// Those that are too old, and the oldest of too many.
const FORGET: &str = "DELETE FROM connector_polls WHERE device_id = ?1 AND kept_at_ms < MAX(?2, COALESCE((
    SELECT kept_at_ms FROM connector_polls WHERE device_id = ?1 ORDER BY kept_at_ms DESC LIMIT 1 OFFSET ?3
) + 1, 0))";

/// The oldest of too many of one chat.
const FORGET_OF_CHAT: &str = "DELETE FROM connector_polls WHERE device_id = ?1 AND chat = ?2 AND id IN (
    SELECT id FROM connector_polls WHERE device_id = ?1 AND chat = ?2
    ORDER BY kept_at_ms DESC, rowid DESC LIMIT -1 OFFSET ?3
)";

impl Polls {
    /// Uses this store from now on.
    pub(super) async fn open(&self, store: impl Into<Database>) -> Result<()> {
        let store = store.into();
        store.store().shared().run(make).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
        Ok(())
    }

    /// Lets go of the store.
    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps a poll. When this returns, it is on the disk.
    pub(crate) async fn keep(&self, chat: &ChatToken, id: &str, poll: Poll) -> Result<()> {
        self.keep_at(chat, id, poll, now_ms()).await
    }

    async fn keep_at(&self, chat: &ChatToken, id: &str, poll: Poll, at_ms: i64) -> Result<()> {
        let (store, device) = self.store()?;
        let options = serde_json::to_string(&poll.options).unwrap_or_default();
        if options.len() > OPTIONS {
            return Ok(());
        }
        let (chat, id) = (chat.as_str().to_owned(), id.to_owned());
        let work = move |connection: &mut SqliteConnection| {
            connection.immediate_transaction(|connection| {
                use connector_polls as rows;
                // The first one stays: nobody can put another poll in its place.
                diesel::insert_or_ignore_into(rows::table)
                    .values((
                        rows::device_id.eq(device),
                        rows::chat.eq(&chat),
                        rows::id.eq(id),
                        rows::secret.eq(poll.secret),
                        rows::options.eq(options),
                        rows::creator_phone.eq(poll.creator.phone),
                        rows::creator_lid.eq(poll.creator.lid),
                        rows::kept_at_ms.eq(at_ms),
                    ))
                    .execute(connection)?;
                sql_query(FORGET_OF_CHAT)
                    .bind::<Integer, _>(device)
                    .bind::<Text, _>(chat)
                    .bind::<BigInt, _>(MOST_OF_A_CHAT)
                    .execute(connection)?;
                sql_query(FORGET)
                    .bind::<Integer, _>(device)
                    .bind::<BigInt, _>(at_ms.saturating_sub(AGE_MS))
                    .bind::<BigInt, _>(MOST)
                    .execute(connection)
            })
        };
        store.run(move |connection| work(connection).map(|_| ()).map_err(broken)).await
    }

    /// The poll with this id, if it is known.
    pub(crate) async fn find(&self, chat: &ChatToken, id: &str) -> Result<Option<Poll>> {
        let (store, device) = self.store()?;
        let (chat, id) = (chat.as_str().to_owned(), id.to_owned());
        let work = move |connection: &mut SqliteConnection| {
            use connector_polls as rows;
            let row: Option<(Vec<u8>, String, String, String)> = rows::table
                .find((device, chat, id))
                .select((rows::secret, rows::options, rows::creator_phone, rows::creator_lid))
                .first(connection)
                .optional()
                .map_err(broken)?;
            Ok(row)
        };
        let row = store.store().shared().read(work).await?;
        Ok(row.map(|(secret, options, phone, lid)| Poll {
            secret,
            options: serde_json::from_str(&options).unwrap_or_default(),
            creator: Identity { phone, lid, ..Identity::default() },
        }))
    }

    fn store(&self) -> Result<(Database, i32)> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let store =
            store.ok_or_else(|| StoreError::Validation("the session's store is closed".to_owned()))?;
        let device = store.store().device_id();
        Ok((store, device))
    }
}

/// Makes the table, if it is missing.
pub(super) fn make(connection: &mut SqliteConnection) -> Result<()> {
    sql_query(TABLE)
        .execute(connection)
        .and_then(|_| sql_query(INDEX).execute(connection))
        .map(|_| ())
        .map_err(broken)
}

fn broken(error: diesel::result::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::store::SqliteStore;

    use super::*;

    fn poll(option: &str) -> Poll {
        let creator = Identity { phone: "54911".to_owned(), lid: "987".to_owned(), ..Identity::default() };
        Poll { secret: vec![7; 32], options: vec![option.to_owned(), "no".to_owned()], creator }
    }

    async fn store(dir: &tempfile::TempDir) -> SqliteStore {
        let path = dir.path().join("store.db");
        SqliteStore::new(path.to_str().expect("a path")).await.expect("a store")
    }

    #[tokio::test]
    async fn a_poll_is_there_until_it_is_too_old() {
        let dir = tempfile::tempdir().expect("a directory");
        let (polls, chat, other) = (Polls::default(), ChatToken::phone("54911"), ChatToken::phone("54912"));
        assert!(polls.keep(&chat, "A", poll("sí")).await.is_err(), "there is no store");
        polls.open(&store(&dir).await).await.expect("a table");
        let found = async |id: &str| polls.find(&chat, id).await.expect("it is read");
        polls.keep_at(&chat, "A", poll("sí"), 1_000).await.expect("it is kept");
        polls.keep_at(&chat, "A", poll("quizás"), 1_000).await.expect("it is known");
        assert_eq!(found("A").await, Some(poll("sí")));
        assert_eq!(polls.find(&other, "A").await.expect("it is read"), None);
        assert_eq!(found("B").await, None);

        polls.keep_at(&chat, "B", poll("b"), 1_000 + AGE_MS).await.expect("it is kept");
        assert!(found("A").await.is_some());
        polls.keep_at(&chat, "C", poll("c"), 1_001 + AGE_MS).await.expect("it is kept");
        assert_eq!((found("A").await, found("B").await), (None, Some(poll("b"))));
        // After a restart.
        polls.close();
        assert!(polls.find(&chat, "B").await.is_err());
        polls.open(&store(&dir).await).await.expect("a table");
        assert_eq!(polls.find(&chat, "B").await.expect("it is read"), Some(poll("b")));
        let huge = Poll { options: vec!["x".repeat(OPTIONS)], ..poll("") };
        polls.keep(&chat, "D", huge).await.expect("it is passed over");
        assert_eq!(polls.find(&chat, "D").await.expect("it is read"), None);
    }

    #[tokio::test]
    async fn who_makes_many_pushes_out_none_of_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let (polls, mine, other) = (Polls::default(), ChatToken::phone("54911"), ChatToken::phone("54912"));
        polls.open(&store(&dir).await).await.expect("a table");
        polls.keep_at(&other, "P0", poll("sí"), 1).await.expect("it is kept");
        for number in 0..=MOST_OF_A_CHAT {
            // Of the same millisecond: the order in which they came decides.
            polls.keep_at(&mine, &format!("P{number}"), poll("sí"), 2).await.expect("it is kept");
        }
        let known = async |chat, id: &str| polls.find(chat, id).await.expect("it is read").is_some();
        let newest = format!("P{MOST_OF_A_CHAT}");
        assert_eq!(
            [known(&mine, "P0").await, known(&mine, "P1").await, known(&mine, &newest).await],
            [false, true, true]
        );
        assert!(known(&other, "P0").await);
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let (polls, chat) = (Polls::default(), ChatToken::phone("54911"));
        let store = store(&dir).await;
        polls.open(&store).await.expect("a table");
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MOST})
             INSERT INTO connector_polls SELECT {}, '54' || (i / 50), 'P' || i, x'07', '[]', '', '', i FROM n",
            store.device_id()
        );
        let fill =
            move |connection: &mut SqliteConnection| sql_query(fill).execute(connection).map_err(broken);
        store.shared().run(fill).await.expect("they are written");
        polls.keep_at(&chat, "new", poll("sí"), MOST + 1).await.expect("it is kept");
        let known =
            async |chat: &ChatToken, id: &str| polls.find(chat, id).await.expect("it is read").is_some();
        let first = ChatToken::phone("540");
        assert_eq!(
            [known(&first, "P1").await, known(&first, "P2").await, known(&chat, "new").await],
            [false, true, true]
        );
    }
}
