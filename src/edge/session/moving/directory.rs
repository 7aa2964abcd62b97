//! A directory with a session, or for one. No edge is at work there: its lock is held.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::MoveError;
use super::marker::{Here, Marker};
use super::rows::{self, Rows};
use crate::edge::session::home::{KEPT_OUT, LINKED, NEW_CHATS};
use crate::edge::session::lock::{AuthDir, private_file, with_tail};
use crate::edge::session::on_bus::file;
use crate::wire::Account;

/// The file with the marker.
const MARKER: &str = "moved";
/// The longest one that is read.
const MARKER_MOST: u64 = 4_096;
/// The small files beside a store, and how long they may be.
const BESIDE: [(&str, u64); 3] = [(KEPT_OUT, 4_096), (NEW_CHATS, 8 << 20), (LINKED, 32)];
/// SQLite's files of one store.
const TAILS: [&str; 3] = ["", "-wal", "-shm"];

/// An account's directory.
pub(super) struct Directory<'a> {
    auth: &'a AuthDir,
    dir: PathBuf,
    account: &'a Account,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> MoveError {
    let path = path.to_owned();
    move |source| MoveError::File { path, source }
}

/// The directory's entries are on the disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a marker in this directory says, if there is one.
pub(in crate::edge::session) fn says(dir: &Path, account: &Account) -> Option<String> {
    let bytes = match read(&dir.join(format!("{account}.{MARKER}")), MARKER_MOST) {
        Ok(bytes) => bytes?,
        // There is one, and it cannot be read.
        Err(_) => Vec::new(),
    };
    Some(Marker::decode(&bytes).says(account, Here::Dir(&dir.display().to_string())))
}

impl<'a> Directory<'a> {
    pub(super) fn new(auth: &'a AuthDir, dir: &Path, account: &'a Account) -> Self {
        Self { auth, dir: dir.to_owned(), account }
    }

    /// What markers elsewhere call it: the machine and the directory.
    pub(super) fn name(&self) -> String {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let dir = std::fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        format!("{host}:{}", dir.display())
    }

    /// Its marker.
    pub(super) fn marker(&self) -> Result<Option<Marker>, MoveError> {
        let path = self.auth.beside(MARKER);
        Ok(read(&path, MARKER_MOST).map_err(failed(&path))?.map(|bytes| Marker::decode(&bytes)))
    }

    /// What the marker says.
    pub(super) fn says(&self, marker: &Marker) -> String {
        marker.says(self.account, Here::Dir(&self.dir.display().to_string()))
    }

    /// The marker is there, and on the disk. No edge begins here any more.
    pub(super) fn mark(&self, marker: &Marker) -> Result<(), MoveError> {
        self.put(MARKER, &marker.encode())
    }

    /// An edge may begin.
    pub(super) fn open(&self) -> Result<(), MoveError> {
        let path = self.auth.beside(MARKER);
        remove(&path).and_then(|()| sync_dir(&self.dir)).map_err(failed(&path))
    }

    /// Is there a store? The library makes its tables in an empty file.
    pub(super) fn has_store(&self) -> bool {
        std::fs::metadata(self.auth.store()).is_ok_and(|file| file.len() > 0)
    }

    /// When something was last written to it, in milliseconds since 1970.
    pub(super) fn written_ms(&self) -> i64 {
        let store = self.auth.store();
        let written = |tail: &&str| {
            let written = std::fs::metadata(with_tail(&store, tail)).ok()?.modified().ok()?;
            i64::try_from(written.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
        };
        TAILS.iter().take(2).filter_map(written).max().unwrap_or(0)
    }

    /// The session. `None`: there is none, or no number is linked.
    pub(super) async fn rows(&self) -> Result<Option<Rows>, MoveError> {
        if !self.has_store() {
            return Ok(None);
        }
        let store = self.auth.store();
        let mut rows = rows::read(&store).await.map_err(|error| MoveError::store(&store, &error))?;
        for (name, most) in BESIDE {
            let path = self.auth.beside(name);
            if let Some(bytes) = read(&path, most).map_err(failed(&path))? {
                rows.set(file(name), bytes);
            }
        }
        Ok(rows.linked().is_some().then_some(rows))
    }

    /// Where a store is until it is whole.
    fn coming(&self) -> PathBuf {
        with_tail(&self.auth.store(), ".coming")
    }

    /// Is there such a store?
    pub(super) fn is_staged(&self) -> bool {
        self.coming().exists()
    }

    /// Makes a store of these rows, where no edge looks.
    pub(super) async fn stage(&self, rows: &Rows) -> Result<(), MoveError> {
        // Renamed when it is whole: what has its name is whole.
        let (coming, making) = (self.coming(), with_tail(&self.auth.store(), ".making"));
        for path in [&coming, &making] {
            for tail in TAILS {
                let path = with_tail(path, tail);
                remove(&path).map_err(failed(&path))?;
            }
        }
        // SQLite would take its mode from the umask.
        private_file(&making, false).map_err(failed(&making))?;
        rows::write(&making, rows).await.map_err(|error| MoveError::store(&making, &error))?;
        std::fs::rename(&making, &coming).and_then(|()| sync_dir(&self.dir)).map_err(failed(&coming))
    }

    /// The store that was staged is the session's store now, and the small files are as in these rows. A store that was there
    /// is set aside; returns where.
    pub(super) fn place(&self, rows: &Rows, id: &str) -> Result<Option<PathBuf>, MoveError> {
        let aside = if self.has_store() { Some(self.set_aside(&format!("replaced-{id}"))?) } else { None };
        let (coming, store) = (self.coming(), self.auth.store());
        for tail in &TAILS[1..] {
            // What a kill has left of the store that was set aside would be taken for a part of this one.
            let path = with_tail(&store, tail);
            remove(&path).map_err(failed(&path))?;
        }
        for (name, _) in BESIDE {
            match rows.get(&file(name)) {
                Some(bytes) => self.put(name, bytes)?,
                None => remove(&self.auth.beside(name)).map_err(failed(&self.auth.beside(name)))?,
            }
        }
        std::fs::rename(&coming, &store).and_then(|()| sync_dir(&self.dir)).map_err(failed(&coming))?;
        Ok(aside)
    }

    /// The session is not here any more. Its files are kept, under another name: deleting them is the operator's decision.
    pub(super) fn leave(&self, id: &str) -> Result<PathBuf, MoveError> {
        let aside = self.set_aside(&format!("moved-{id}"))?;
        self.forget_what_is_beside()?;
        Ok(aside)
    }

    /// Removes the small files, which are where the session is now.
    pub(super) fn forget_what_is_beside(&self) -> Result<(), MoveError> {
        for (name, _) in BESIDE {
            remove(&self.auth.beside(name)).map_err(failed(&self.auth.beside(name)))?;
        }
        Ok(())
    }

    fn set_aside(&self, suffix: &str) -> Result<PathBuf, MoveError> {
        let store = self.auth.store();
        self.auth.set_aside(suffix).and_then(|()| sync_dir(&self.dir)).map_err(failed(&store))?;
        Ok(self.aside(suffix))
    }

    /// Where what is set aside is.
    pub(super) fn aside(&self, suffix: &str) -> PathBuf {
        with_tail(&self.auth.store(), &format!(".{suffix}"))
    }

    /// Writes a small file, whole or not at all. It is on the disk when this returns.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), MoveError> {
        let path = self.auth.beside(name);
        let new = with_tail(&path, ".new");
        let put = || {
            let mut file = private_file(&new, true)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_dir(&self.dir)
        };
        put().map_err(failed(&path))
    }
}
