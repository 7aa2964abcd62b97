//! The journal: keys and JSON values in one append-only file, a batch at a time.
//!
//! The file `journal` in the state directory holds lines: `+key value` sets, `-key` removes, `.`
//! ends a batch. A batch whose end is missing (the process died while writing) counts as never
//! written. Opening rewrites the file to what is alive, into a temporary file that is renamed over
//! the old one; so does a write that finds the journal much larger than what is alive.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

const FILE: &str = "journal";
const TEMPORARY: &str = "journal.new";
const LOCK: &str = "lock";
const HEADER: &str = "whatsapp-simulator 1\n";
/// Compaction waits until this many bytes are dead, and more are dead than alive.
const SLACK: u64 = 8 * 1024 * 1024;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or the directory could not be read or written.
    #[error("the state in {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another simulator works with this directory.
    #[error("the state directory {0} is in use by another simulator; stop it or choose another --state")]
    Locked(PathBuf),
    /// The journal is not one of ours, or of a later version.
    #[error("{0} is not a journal of this simulator; move it away to start afresh")]
    Foreign(PathBuf),
    /// A value in the journal cannot be read.
    #[error("the entry `{key}` of the state cannot be read: {source}")]
    Entry {
        /// The entry's key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Where state is kept: in a directory, or nowhere.
pub(crate) struct Store {
    disk: Option<Disk>,
    batch: String,
    changes: Vec<(String, Option<String>)>,
    failed: Option<String>,
}

struct Disk {
    directory: PathBuf,
    file: File,
    live: BTreeMap<String, String>,
    live_bytes: u64,
    file_bytes: u64,
    _lock: File,
}

impl Store {
    /// Keeps nothing.
    pub(crate) fn in_memory() -> Self {
        Self { disk: None, batch: String::new(), changes: Vec::new(), failed: None }
    }

    /// Opens or creates the state in `directory`, and takes it for this process alone.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { path, source }
        };
        fs::create_dir_all(directory).map_err(wrap(directory))?;
        let lock_path = directory.join(LOCK);
        let lock = File::create(&lock_path).map_err(wrap(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(directory.to_owned())),
            Err(TryLockError::Error(source)) => return Err(wrap(&lock_path)(source)),
        }
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(wrap(&path)(error)),
        };
        let live = replay(&text).ok_or_else(|| StoreError::Foreign(path.clone()))?;
        let (file, file_bytes) = rewrite(directory, &live).map_err(wrap(&path))?;
        let mut store = Self::in_memory();
        store.disk = Some(Disk {
            directory: directory.to_owned(),
            file,
            live,
            live_bytes: file_bytes,
            file_bytes,
            _lock: lock,
        });
        Ok(store)
    }

    /// Sets a key in the present batch. Keys have no spaces.
    pub(crate) fn put(&mut self, key: impl Into<String>, value: &impl Serialize) {
        if self.disk.is_none() {
            return;
        }
        match serde_json::to_string(value) {
            Ok(json) => self.changes.push((key.into(), Some(json))),
            Err(error) => self.fail(format!("cannot serialise `{}`: {error}", key.into())),
        }
    }

    /// Removes a key in the present batch.
    pub(crate) fn remove(&mut self, key: impl Into<String>) {
        if self.disk.is_some() {
            self.changes.push((key.into(), None));
        }
    }

    /// Removes every key that begins so, in the present batch.
    pub(crate) fn remove_all(&mut self, prefix: &str) {
        let Some(disk) = &self.disk else { return };
        let doomed: Vec<String> = keys_under(&disk.live, prefix).map(|(key, _)| key.clone()).collect();
        let pending: Vec<String> = self
            .changes
            .iter()
            .filter(|(key, value)| value.is_some() && key.starts_with(prefix))
            .map(|(key, _)| key.clone())
            .collect();
        for key in doomed.into_iter().chain(pending) {
            self.changes.push((key, None));
        }
    }

    /// Writes the batch. Once this returns, the end of this process cannot undo it.
    pub(crate) fn commit(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let Some(disk) = &mut self.disk else { return };
        self.batch.clear();
        for (key, value) in self.changes.drain(..) {
            match value {
                Some(json) => {
                    push_line(&mut self.batch, &key, &json);
                    let added = line_bytes(&key, &json);
                    if let Some(old) = disk.live.insert(key.clone(), json) {
                        disk.live_bytes = disk.live_bytes.saturating_sub(line_bytes(&key, &old));
                    }
                    disk.live_bytes += added;
                }
                None => {
                    self.batch.push('-');
                    self.batch.push_str(&key);
                    self.batch.push('\n');
                    if let Some(old) = disk.live.remove(&key) {
                        disk.live_bytes = disk.live_bytes.saturating_sub(line_bytes(&key, &old));
                    }
                }
            }
        }
        self.batch.push_str(".\n");
        if let Err(error) = disk.append(self.batch.as_bytes()) {
            self.fail(format!("the state could not be written: {error}"));
        }
    }

    /// Forces all that was committed onto the disk itself, for the end of the machine.
    pub(crate) fn sync(&mut self) {
        self.commit();
        if let Some(disk) = &self.disk
            && let Err(error) = disk.file.sync_all()
        {
            self.fail(format!("the state could not be flushed: {error}"));
        }
    }

    fn fail(&mut self, what: String) {
        tracing::error!(error = %what, "state is not being kept; it will be lost at the next stop");
        self.failed.get_or_insert(what);
    }

    /// The first failure, if state could not be kept.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The saved value of one key.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let Some(json) = self.disk.as_ref().and_then(|disk| disk.live.get(key)) else {
            return Ok(None);
        };
        parse(key, json).map(Some)
    }

    /// The saved values under a prefix, with the rest of their keys, in the order of keys.
    pub(crate) fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, StoreError> {
        let Some(disk) = &self.disk else {
            return Ok(Vec::new());
        };
        keys_under(&disk.live, prefix)
            .map(|(key, json)| Ok((key[prefix.len()..].to_owned(), parse(key, json)?)))
            .collect()
    }
}

impl Disk {
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        self.file.write_all(batch)?;
        self.file_bytes += batch.len() as u64;
        let dead = self.file_bytes.saturating_sub(self.live_bytes);
        if dead > SLACK && dead > self.live_bytes {
            (self.file, self.file_bytes) = rewrite(&self.directory, &self.live)?;
        }
        Ok(())
    }
}

fn keys_under<'a>(
    live: &'a BTreeMap<String, String>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a String)> {
    live.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
}

fn parse<T: DeserializeOwned>(key: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|source| StoreError::Entry { key: key.to_owned(), source })
}

fn line_bytes(key: &str, json: &str) -> u64 {
    (key.len() + json.len() + 3) as u64
}

fn push_line(out: &mut String, key: &str, json: &str) {
    out.push('+');
    out.push_str(key);
    out.push(' ');
    out.push_str(json);
    out.push('\n');
}

/// What a journal amounts to; `None` if it is not one.
fn replay(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut live = BTreeMap::new();
    if bytes.is_empty() {
        return Some(live);
    }
    let body = bytes.strip_prefix(HEADER.as_bytes())?;
    let mut batch: Vec<(&str, Option<&str>)> = Vec::new();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            break; // cut off while writing
        };
        let line = std::str::from_utf8(line).ok()?;
        if line == "." {
            for (key, value) in batch.drain(..) {
                match value {
                    Some(json) => live.insert(key.to_owned(), json.to_owned()),
                    None => live.remove(key),
                };
            }
        } else if let Some(entry) = line.strip_prefix('+') {
            let (key, json) = entry.split_once(' ')?;
            batch.push((key, Some(json)));
        } else {
            batch.push((line.strip_prefix('-')?, None));
        }
    }
    Some(live)
}

/// Writes what is alive beside the journal and renames it over.
fn rewrite(directory: &Path, live: &BTreeMap<String, String>) -> io::Result<(File, u64)> {
    let temporary = directory.join(TEMPORARY);
    let mut text = String::from(HEADER);
    for (key, json) in live {
        push_line(&mut text, key, json);
    }
    text.push_str(".\n");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let path = directory.join(FILE);
    fs::rename(&temporary, &path)?;
    File::open(directory)?.sync_all()?;
    let file = OpenOptions::new().append(true).open(&path)?;
    Ok((file, text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn what_was_committed_is_there_after_reopening() -> Outcome {
        let directory = tempfile::tempdir()?;
        let mut store = Store::open(directory.path())?;
        store.put("a/1", &"one");
        store.put("a/2", &"two");
        store.put("b/1", &3);
        store.commit();
        store.remove("a/1");
        store.commit();
        store.put("never", &"committed");
        drop(store);

        let mut store = Store::open(directory.path())?;
        let found: Vec<(String, String)> = store.list("a/")?;
        assert_eq!(found, [("2".to_owned(), "two".to_owned())]);
        assert_eq!(store.get::<u8>("b/1")?, Some(3));
        assert_eq!(store.get::<String>("never")?, None);
        store.put("a/3", &"pending");
        store.remove_all("a/");
        store.commit();
        drop(store);
        let store = Store::open(directory.path())?;
        assert!(store.list::<String>("a/")?.is_empty());
        Ok(())
    }

    #[test]
    fn a_batch_cut_off_while_writing_never_happened() {
        let whole = format!("{HEADER}+a 1\n+b 2\n.\n+a 5\n-b\n.\n");
        let full = replay(whole.as_bytes()).unwrap_or_default();
        assert_eq!(full.get("a").map(String::as_str), Some("5"));
        assert_eq!(full.get("b"), None);
        let first = HEADER.len() + "+a 1\n+b 2\n.\n".len();
        for cut in first..whole.len() {
            let found = replay(&whole.as_bytes()[..cut]).unwrap_or_default();
            assert_eq!(found.get("a").map(String::as_str), Some("1"), "cut {cut}");
            assert_eq!(found.get("b").map(String::as_str), Some("2"), "cut {cut}");
        }
    }

    #[test]
    fn a_second_simulator_on_the_same_state_is_refused() -> Outcome {
        let directory = tempfile::tempdir()?;
        let _first = Store::open(directory.path())?;
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Locked(_))));
        Ok(())
    }

    #[test]
    fn a_foreign_file_is_left_alone() -> Outcome {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join(FILE), "something else")?;
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Foreign(_))));
        let kept = fs::read_to_string(directory.path().join(FILE))?;
        assert_eq!(kept, "something else");
        Ok(())
    }
}
