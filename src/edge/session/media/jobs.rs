//! The files that are still to be fetched, on the disk before their messages count as received.
//!
//! A table of its own in the session's store, beside the library's. It is written by `commits`, in one transaction with
//! the message's copy. A job is there from then on until the update is on the bus that says what became of the file. So
//! whenever the process is killed, the file is fetched, or fetched again.

use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Binary, Integer, Text};
use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection,
    sql_query,
};
use prost::Message as _;
use tokio::sync::watch;
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::{File, FileKind};
use crate::edge::session::changes::Change;
use crate::edge::session::commits::Commits;
use crate::wire::v1::InboundMessage;

/// How many are read from the disk at most. The edge takes no more on.
const MOST: i64 = 20_000;

/// A file to be fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// The id of its message on the bus, and the object's name.
    pub id: String,
    /// The update to publish, but for what became of the file.
    pub update: InboundMessage,
    /// The file.
    pub file: File,
    /// How often it was tried in vain.
    pub tries: u32,
    /// How often a phone has uploaded it again.
    pub renewals: u32,
    /// Not before.
    pub next_at_ms: i64,
    /// Not after.
    pub until_ms: i64,
}

/// What has to be known of a job while it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Its id.
    pub id: String,
    /// Its chat's token.
    pub chat: String,
    /// Not before.
    pub next_at_ms: i64,
}

/// A change of the table.
#[derive(Debug)]
pub(in crate::edge::session) enum JobChange {
    /// A new one, or a known one as it is now.
    Keep(Box<Job>),
    /// It is over.
    Over(String),
}

#[derive(Clone)]
struct Open {
    store: SqliteStore,
    commits: Arc<Commits>,
}

/// The jobs of the session. Cheap to clone; clones share the store.
#[derive(Clone)]
pub(crate) struct Jobs {
    open: Arc<Mutex<Option<Open>>>,
    /// Counts how often a store was opened.
    opened: watch::Sender<u64>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { open: Arc::default(), opened: watch::Sender::new(0) }
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Jobs").finish_non_exhaustive()
    }
}

diesel::table! {
    connector_files (device_id, id) {
        device_id -> Integer,
        id -> Text,
        chat -> Text,
        message -> Binary,
        kind -> Text,
        path -> Text,
        file_key -> Binary,
        sha256 -> Binary,
        sealed_sha256 -> Binary,
        tries -> BigInt,
        renewals -> BigInt,
        next_at_ms -> BigInt,
        until_ms -> BigInt,
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS connector_files (
    device_id INTEGER NOT NULL,
    id TEXT NOT NULL,
    chat TEXT NOT NULL,
    message BLOB NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    file_key BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    sealed_sha256 BLOB NOT NULL,
    tries BIGINT NOT NULL,
    renewals BIGINT NOT NULL,
    next_at_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (device_id, id)
)";

/// Makes the table, if it is missing.
pub(in crate::edge::session) fn make(connection: &mut SqliteConnection) -> Result<()> {
    sql_query(TABLE).execute(connection).map(|_| ()).map_err(broken)
}

/// A file's row, without its id.
type Row = (Vec<u8>, String, String, Vec<u8>, Vec<u8>, Vec<u8>, i64, i64, i64, i64);

impl Jobs {
    /// Uses this store from now on.
    pub(in crate::edge::session) async fn open(
        &self,
        store: &SqliteStore,
        commits: Arc<Commits>,
    ) -> Result<()> {
        store.shared().run(make).await?;
        let open = Open { store: store.clone(), commits };
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        self.opened.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Lets go of the store.
    pub(in crate::edge::session) fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says when a store has been opened: what waits has to be read from it.
    pub(crate) fn opened(&self) -> watch::Receiver<u64> {
        let mut opened = self.opened.subscribe();
        // One that is open already counts.
        opened.mark_changed();
        opened
    }

    /// Keeps a job as it is now. When this returns, it is on the disk.
    pub(crate) async fn keep(&self, job: Job) -> Result<()> {
        self.change(JobChange::Keep(Box::new(job))).await
    }

    /// Forgets a job.
    pub(crate) async fn over(&self, id: &str) -> Result<()> {
        self.change(JobChange::Over(id.to_owned())).await
    }

    async fn change(&self, change: JobChange) -> Result<()> {
        self.store()?.commits.written(vec![Change::Job(change)]).await
    }

    /// All that wait, the longest waiting first.
    pub(crate) async fn waiting(&self) -> Result<Vec<Ticket>> {
        let store = self.store()?.store;
        let device = store.device_id();
        let work = move |connection: &mut SqliteConnection| {
            use connector_files as rows;
            rows::table
                .filter(rows::device_id.eq(device))
                .order((rows::next_at_ms, rows::id))
                .limit(MOST)
                .select((rows::id, rows::chat, rows::next_at_ms))
                .load::<(String, String, i64)>(connection)
                .map_err(broken)
        };
        let rows = store.shared().read(work).await?;
        Ok(rows.into_iter().map(|(id, chat, next_at_ms)| Ticket { id, chat, next_at_ms }).collect())
    }

    /// The job with this id. `None`: there is none, or nobody can read it.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<Job>> {
        let store = self.store()?.store;
        let (device, key) = (store.device_id(), id.to_owned());
        let work = move |connection: &mut SqliteConnection| {
            use connector_files as rows;
            rows::table
                .find((device, key))
                .select((
                    rows::message,
                    rows::kind,
                    rows::path,
                    rows::file_key,
                    rows::sha256,
                    rows::sealed_sha256,
                    rows::tries,
                    rows::renewals,
                    rows::next_at_ms,
                    rows::until_ms,
                ))
                .first::<Row>(connection)
                .optional()
                .map_err(broken)
        };
        let row = store.shared().read(work).await?;
        Ok(row.and_then(|row| job(id, row)))
    }

    fn store(&self) -> Result<Open> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.ok_or_else(|| StoreError::Validation("the session's store is closed".to_owned()))
    }
}

fn job(id: &str, row: Row) -> Option<Job> {
    let (message, kind, path, key, sha256, sealed_sha256, tries, renewals, next_at_ms, until_ms) = row;
    Some(Job {
        id: id.to_owned(),
        update: InboundMessage::decode(message.as_slice()).ok()?,
        file: File {
            kind: FileKind::parse(&kind)?,
            path,
            key: key.try_into().ok()?,
            sha256: sha256.try_into().ok()?,
            sealed_sha256: sealed_sha256.try_into().ok()?,
        },
        tries: u32::try_from(tries).unwrap_or(u32::MAX),
        renewals: u32::try_from(renewals).unwrap_or(u32::MAX),
        next_at_ms,
        until_ms,
    })
}

/// Writes a change of the table, in a transaction of the caller's.
pub(in crate::edge::session) fn apply(
    connection: &mut SqliteConnection,
    device: i32,
    change: &JobChange,
) -> diesel::QueryResult<()> {
    use connector_files as rows;
    match change {
        JobChange::Keep(job) => {
            let Job { id, update, file, tries, renewals, next_at_ms, until_ms } = &**job;
            sql_query("REPLACE INTO connector_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
                .bind::<Integer, _>(device)
                .bind::<Text, _>(id)
                .bind::<Text, _>(&update.chat)
                .bind::<Binary, _>(update.encode_to_vec())
                .bind::<Text, _>(file.kind.name())
                .bind::<Text, _>(&file.path)
                .bind::<Binary, _>(file.key.as_slice())
                .bind::<Binary, _>(file.sha256.as_slice())
                .bind::<Binary, _>(file.sealed_sha256.as_slice())
                .bind::<BigInt, _>(i64::from(*tries))
                .bind::<BigInt, _>(i64::from(*renewals))
                .bind::<BigInt, _>(next_at_ms)
                .bind::<BigInt, _>(until_ms)
                .execute(connection)?;
        }
        JobChange::Over(id) => {
            diesel::delete(rows::table.find((device, id))).execute(connection)?;
        }
    }
    Ok(())
}

fn broken(error: diesel::result::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, chat: &str, next_at_ms: i64) -> Job {
        let file = File {
            kind: FileKind::Audio,
            path: "/v/t62?ccb=1".to_owned(),
            key: [1; 32],
            sha256: [2; 32],
            sealed_sha256: [3; 32],
        };
        let update = InboundMessage { chat: chat.to_owned(), ..InboundMessage::default() };
        Job { id: id.to_owned(), update, file, tries: 0, renewals: 0, next_at_ms, until_ms: 9_000 }
    }

    async fn store(dir: &tempfile::TempDir) -> (SqliteStore, Arc<Commits>) {
        let path = dir.path().join("store.db");
        let store = SqliteStore::new(path.to_str().expect("a path")).await.expect("a store");
        let commits = Arc::new(crate::edge::session::commits::commits(&store));
        (store, commits)
    }

    #[tokio::test]
    async fn a_job_is_there_until_it_is_over_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let jobs = Jobs::default();
        assert!(jobs.keep(job("a", "54911", 5)).await.is_err(), "there is no store");
        let (opened, commits) = store(&dir).await;
        jobs.open(&opened, commits).await.expect("a table");
        for one in [job("a", "54911", 5), job("b", "54912", 3)] {
            jobs.keep(one).await.expect("it is kept");
        }
        let later = Job { tries: 2, renewals: 1, next_at_ms: 7, ..job("b", "54912", 3) };
        jobs.keep(later.clone()).await.expect("it is put off");
        jobs.close();
        assert!(jobs.waiting().await.is_err());

        let (opened, commits) = store(&dir).await;
        jobs.open(&opened, commits).await.expect("a table");
        let waiting: Vec<_> = jobs.waiting().await.expect("they are read");
        let wanted = [("a", "54911", 5), ("b", "54912", 7)].map(|(id, chat, next_at_ms)| Ticket {
            id: id.to_owned(),
            chat: chat.to_owned(),
            next_at_ms,
        });
        assert_eq!(waiting, wanted);
        assert_eq!(jobs.find("b").await.expect("it is read"), Some(later));
        jobs.over("b").await.expect("it is forgotten");
        assert_eq!(jobs.find("b").await.expect("it is read"), None);
        assert!(jobs.find("a").await.expect("it is read").is_some());
    }
}
