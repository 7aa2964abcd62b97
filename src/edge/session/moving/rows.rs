//! All of a session, as the journal has it: the rows of its store, and the small files beside it.

use std::collections::BTreeMap;
use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use crate::edge::journal::{KEY_MOST, VALUE_MOST};
use crate::edge::session::on_bus::FILE;
use crate::edge::session::{image, media, polls};
use crate::wire::masked;

/// Keys and values. They hold phone numbers and secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Rows(BTreeMap<Bytes, Bytes>);

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({})", self.0.len())
    }
}

impl Rows {
    /// What belongs to a session of these keys and values.
    pub(super) fn of(all: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let belongs = |key: &Bytes| image::is_of_the_store(key) || key.first() == Some(&FILE);
        Self(all.into_iter().filter(|(key, _)| belongs(key)).collect())
    }

    /// Adds a small file.
    pub(super) fn set(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert(key.into(), value.into());
    }

    /// A small file.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.0.get(key)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// The linked number, masked. `None`: no number is linked.
    pub(super) fn linked(&self) -> Option<String> {
        let layout = |key: &[u8]| self.0.get(key);
        let jid = image::first_text(self.0.iter(), layout, "device", "pn").filter(|jid| !jid.is_empty())?;
        Some(masked(jid.split([':', '@']).next().unwrap_or_default()))
    }

    /// Takes out what the bus does not keep, and says how many that were. An edge does the same with them.
    pub(super) fn leave_out_what_is_too_long(&mut self) -> usize {
        let before = self.0.len();
        self.0.retain(|key, value| key.len() <= KEY_MOST && value.len() <= VALUE_MOST);
        before - self.0.len()
    }

    /// Are these the same rows? Of rows that an older version has written, others may have more columns; then only their
    /// names are compared. Lists of columns are no rows.
    pub(super) fn are_in(&self, written: &Self) -> bool {
        self.0.iter().filter(|(key, _)| !image::is_layout(key)).all(|(key, value)| {
            let found = written.0.get(key);
            found.is_some_and(|found| found == value || !image::have_one_layout(found, value))
        }) && self.count() == written.count()
    }

    fn count(&self) -> usize {
        self.0.keys().filter(|key| !image::is_layout(key)).count()
    }

    fn of_the_store(&self) -> Vec<(Bytes, Bytes)> {
        let rows = self.0.iter().filter(|(key, _)| image::is_of_the_store(key));
        rows.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

async fn open(path: &Path) -> Result<SqliteStore> {
    let config = SqliteStoreConfig { synchronous: Synchronous::Full, ..Default::default() };
    SqliteStore::with_config(&path.to_string_lossy(), config).await
}

fn broken(error: diesel::result::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}

/// Reads a store that no edge has open. It is opened as an edge would: an update of the library may change its tables. What
/// is in the files beside it is in it afterwards.
pub(super) async fn read(path: &Path) -> Result<Rows> {
    let store = open(path).await?;
    let work = |connection: &mut SqliteConnection| {
        let rows = image::tell_all(connection)?;
        connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").map_err(broken)?;
        Ok(rows)
    };
    Ok(Rows::of(store.shared().run(work).await?))
}

/// Makes a store of these rows, where nothing is yet, and reads it back. It is one file, and on the disk.
pub(super) async fn write(path: &Path, rows: &Rows) -> Result<()> {
    let store = open(path).await?;
    let of_the_store = rows.of_the_store();
    let work = |connection: &mut SqliteConnection| {
        polls::make(connection)?;
        media::make(connection)?;
        image::put_all(connection, of_the_store)?;
        image::tell_all(connection)
    };
    let written = Rows::of(store.shared().run(work).await?);
    drop(store);
    if !Rows::of(rows.of_the_store()).are_in(&written) {
        return Err(StoreError::Validation("what was written is not what was read".to_owned()));
    }
    let path = path.to_owned();
    let settle = move || -> Result<()> {
        let text = path.to_string_lossy();
        let mut alone =
            SqliteConnection::establish(&text).map_err(|error| StoreError::Connection(Box::new(error)))?;
        // Nothing is in a file beside it any more, so it can be renamed.
        alone.batch_execute("PRAGMA busy_timeout = 10000; PRAGMA journal_mode = DELETE").map_err(broken)?;
        drop(alone);
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::Connection(Box::new(error)))
    };
    tokio::task::spawn_blocking(settle).await.map_err(|error| StoreError::Connection(Box::new(error)))?
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::traits::{DeviceStore as _, SignalStore as _};

    use super::*;

    /// A store with rows.
    async fn made(path: &Path) -> SqliteStore {
        let store = open(path).await.unwrap();
        store.create().await.unwrap();
        for n in 0..50_u32 {
            store.put_session(&format!("54911{n}.0"), &n.to_be_bytes().repeat(100)).await.unwrap();
            store.store_prekey(n, &[0, 255, 39], n % 2 == 0).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_store_is_made_anew_of_its_rows_and_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old.db"), dir.path().join("new.db"));
        drop(made(&old).await);
        let rows = read(&old).await.unwrap();
        assert!(rows.count() > 100 && rows.bytes() > 20_000, "{rows:?}");
        assert_eq!(rows.linked(), None, "no number is linked");
        write(&new, &rows).await.unwrap();
        let files: Vec<_> = ["-wal", "-shm", "-journal"]
            .iter()
            .filter(|tail| new.with_extension(format!("db{tail}")).exists())
            .collect();
        assert!(files.is_empty(), "{files:?}");
        let again = read(&new).await.unwrap();
        assert!(rows.are_in(&again) && again.count() == rows.count());
        let store = open(&new).await.unwrap();
        assert_eq!(store.get_session("5491149.0").await.unwrap().unwrap(), 49_u32.to_be_bytes().repeat(100));
    }

    #[tokio::test]
    async fn a_row_that_is_missing_or_another_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = made(&dir.path().join("old.db")).await;
        let told = async || Rows::of(store.shared().run(image::tell_all).await.unwrap());
        let rows = told().await;
        assert!(rows.are_in(&told().await));
        store.put_session("5491149.0", b"another").await.unwrap();
        assert!(!rows.are_in(&told().await));
        store.delete_session("5491149.0").await.unwrap();
        assert!(!rows.are_in(&told().await));
    }
}
