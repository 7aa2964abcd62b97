//! Files that WhatsApp has: what was uploaded for one chat is named in the next one as well.
//!
//! A table of its own in the session's store. WhatsApp keeps a file for some weeks, and a person may open the message days
//! after it came. So a file is named for a day, and then uploaded again.

use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Integer};
use diesel::{
    ExpressionMethods as _, OptionalExtension as _, QueryDsl as _, RunQueryDsl as _, SqliteConnection,
    sql_query,
};
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::FileKind;
use crate::edge::session::home::Database;
use crate::wire::now_ms;

/// For how long a file is named without being uploaded again.
const AGE_MS: i64 = 24 * 3_600 * 1_000;
/// How many are remembered. Of more, the oldest go.
const MOST: i64 = 2_000;

/// A file that WhatsApp has.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// What it is.
    pub kind: FileKind,
    /// Where it is on WhatsApp's media hosts.
    pub path: String,
    /// The same, with a host.
    pub url: String,
    /// Its key.
    pub key: [u8; 32],
    /// The hash of its content.
    pub sha256: [u8; 32],
    /// The hash of what is on the media host.
    pub sealed_sha256: [u8; 32],
    /// How long it is, in bytes.
    pub size: u64,
    /// With which phones play it before all of it is there.
    pub sidecar: Vec<u8>,
    /// A picture that moves.
    pub is_animated: bool,
}

impl std::fmt::Debug for Uploaded {
    /// Nothing of it is for a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Uploaded").field(&self.kind).finish()
    }
}

/// The uploads of the session. Cheap to clone; clones share the store.
#[derive(Clone, Default)]
pub(crate) struct Uploads(Arc<Mutex<Option<Database>>>);

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Uploads").finish_non_exhaustive()
    }
}

diesel::table! {
    connector_uploads (device_id, sha256, kind) {
        device_id -> Integer,
        sha256 -> Binary,
        kind -> Text,
        path -> Text,
        url -> Text,
        file_key -> Binary,
        sealed_sha256 -> Binary,
        size -> BigInt,
        sidecar -> Binary,
        is_animated -> Bool,
        uploaded_at_ms -> BigInt,
    }
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS connector_uploads (
    device_id INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    url TEXT NOT NULL,
    file_key BLOB NOT NULL,
    sealed_sha256 BLOB NOT NULL,
    size BIGINT NOT NULL,
    sidecar BLOB NOT NULL,
    is_animated BOOLEAN NOT NULL,
    uploaded_at_ms BIGINT NOT NULL,
    PRIMARY KEY (device_id, sha256, kind)
)";

const INDEX: &str =
    "CREATE INDEX IF NOT EXISTS connector_uploads_by_time ON connector_uploads (device_id, uploaded_at_ms)";

/// Those that are too old, and the oldest of too many.
const FORGET: &str = "DELETE FROM connector_uploads WHERE device_id = ?1 AND uploaded_at_ms < MAX(?2, COALESCE((
    SELECT uploaded_at_ms FROM connector_uploads WHERE device_id = ?1 ORDER BY uploaded_at_ms DESC LIMIT 1 OFFSET ?3
) + 1, 0))";

/// A row, without what it is found by.
type Row = (String, String, Vec<u8>, Vec<u8>, i64, Vec<u8>, bool, i64);

impl Uploads {
    /// Uses this store from now on.
    pub(in crate::edge::session) async fn open(&self, store: impl Into<Database>) -> Result<()> {
        let store = store.into();
        store.store().shared().run(make).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
        Ok(())
    }

    /// Lets go of the store.
    pub(in crate::edge::session) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Remembers one. When this returns, it is on the disk.
    pub(crate) async fn keep(&self, file: Uploaded) -> Result<()> {
        self.keep_at(file, now_ms()).await
    }

    async fn keep_at(&self, file: Uploaded, at_ms: i64) -> Result<()> {
        let (store, device) = self.store()?;
        let work = move |connection: &mut SqliteConnection| {
            connection.immediate_transaction(|connection| {
                use connector_uploads as rows;
                diesel::replace_into(rows::table)
                    .values((
                        rows::device_id.eq(device),
                        rows::sha256.eq(&file.sha256[..]),
                        rows::kind.eq(file.kind.name()),
                        rows::path.eq(&file.path),
                        rows::url.eq(&file.url),
                        rows::file_key.eq(&file.key[..]),
                        rows::sealed_sha256.eq(&file.sealed_sha256[..]),
                        rows::size.eq(i64::try_from(file.size).unwrap_or(i64::MAX)),
                        rows::sidecar.eq(&file.sidecar),
                        rows::is_animated.eq(file.is_animated),
                        rows::uploaded_at_ms.eq(at_ms),
                    ))
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

    /// The file with this content, if WhatsApp has it, and it was uploaded lately.
    pub(crate) async fn find(&self, sha256: &[u8; 32], kind: FileKind) -> Result<Option<Uploaded>> {
        self.find_at(sha256, kind, now_ms()).await
    }

    async fn find_at(&self, sha256: &[u8; 32], kind: FileKind, now_ms: i64) -> Result<Option<Uploaded>> {
        let (store, device) = self.store()?;
        let key = *sha256;
        let work = move |connection: &mut SqliteConnection| {
            use connector_uploads as rows;
            rows::table
                .find((device, &key[..], kind.name()))
                .select((
                    rows::path,
                    rows::url,
                    rows::file_key,
                    rows::sealed_sha256,
                    rows::size,
                    rows::sidecar,
                    rows::is_animated,
                    rows::uploaded_at_ms,
                ))
                .first::<Row>(connection)
                .optional()
                .map_err(broken)
        };
        let row = store.store().shared().read(work).await?;
        Ok(row.filter(|row| row.7 >= now_ms.saturating_sub(AGE_MS)).and_then(|row| file(key, kind, row)))
    }

    fn store(&self) -> Result<(Database, i32)> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let store =
            store.ok_or_else(|| StoreError::Validation("the session's store is closed".to_owned()))?;
        let device = store.store().device_id();
        Ok((store, device))
    }
}

fn file(sha256: [u8; 32], kind: FileKind, row: Row) -> Option<Uploaded> {
    let (path, url, key, sealed_sha256, size, sidecar, is_animated, _) = row;
    Some(Uploaded {
        kind,
        path,
        url,
        key: key.try_into().ok()?,
        sha256,
        sealed_sha256: sealed_sha256.try_into().ok()?,
        size: u64::try_from(size).ok()?,
        sidecar,
        is_animated,
    })
}

/// Makes the table, if it is missing.
pub(in crate::edge::session) fn make(connection: &mut SqliteConnection) -> Result<()> {
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

    fn uploaded(number: u8, kind: FileKind) -> Uploaded {
        Uploaded {
            kind,
            path: format!("/v/{number}"),
            url: format!("https://mmg.whatsapp.net/v/{number}"),
            key: [1; 32],
            sha256: [number; 32],
            sealed_sha256: [3; 32],
            size: 70_000,
            sidecar: vec![4; 20],
            is_animated: true,
        }
    }

    async fn store(dir: &tempfile::TempDir) -> SqliteStore {
        let path = dir.path().join("store.db");
        SqliteStore::new(path.to_str().expect("a path")).await.expect("a store")
    }

    #[tokio::test]
    async fn an_upload_is_known_for_a_day_by_its_content_and_its_kind_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::default();
        let image = uploaded(1, FileKind::Image);
        assert!(uploads.keep(image.clone()).await.is_err(), "there is no store");
        uploads.open(&store(&dir).await).await.expect("a table");
        uploads.keep_at(image.clone(), 1_000).await.expect("it is kept");
        uploads.close();
        uploads.open(&store(&dir).await).await.expect("a table");
        let found = async |kind, at_ms| uploads.find_at(&[1; 32], kind, at_ms).await.expect("it is read");
        assert_eq!(found(FileKind::Image, 1_000 + AGE_MS).await, Some(image.clone()));
        assert_eq!(found(FileKind::Image, 1_001 + AGE_MS).await, None);
        assert_eq!(found(FileKind::Document, 1_000).await, None);
        // Once more: the newer one counts.
        let moved = Uploaded { path: "/v/new".to_owned(), ..image };
        uploads.keep_at(moved.clone(), 5_000).await.expect("it is kept");
        assert_eq!(found(FileKind::Image, 5_000 + AGE_MS).await, Some(moved));
        // An old one goes from the disk as well.
        uploads.keep_at(uploaded(2, FileKind::Image), 5_001 + AGE_MS).await.expect("it is kept");
        assert_eq!(found(FileKind::Image, 5_000).await, None);
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::default();
        let store = store(&dir).await;
        uploads.open(&store).await.expect("a table");
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MOST})
             INSERT INTO connector_uploads SELECT {}, randomblob(32), 'image', '/', '', x'', x'', 1, x'', 0, i FROM n",
            store.device_id()
        );
        let fill =
            move |connection: &mut SqliteConnection| sql_query(fill).execute(connection).map_err(broken);
        store.shared().run(fill).await.expect("they are written");
        uploads.keep_at(uploaded(1, FileKind::Image), MOST + 1).await.expect("it is kept");
        let count = |connection: &mut SqliteConnection| {
            use connector_uploads as rows;
            let all = rows::table.select((diesel::dsl::count_star(), diesel::dsl::min(rows::uploaded_at_ms)));
            all.first::<(i64, Option<i64>)>(connection).map_err(broken)
        };
        assert_eq!(store.shared().read(count).await.expect("a count"), (MOST, Some(2)));
    }
}
