//! Checks the session on disk from outside, for `whatsapp-connector check`. An edge may be running on it. The check
//! leaves nothing behind.
#![expect(clippy::disallowed_methods, reason = "for `check`, a command that does one thing after the other")]

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};

use super::lock::{self, LockError};
use super::moving;
use crate::wire::{Account, masked};

/// What is wrong with the place of the session.
#[derive(Debug)]
pub enum Flaw {
    /// The directory cannot be made, or cannot be written.
    Unusable(std::io::Error),
    /// Other users may have access to it, so the edge would not start.
    Open(LockError),
    /// It is on a network file system, given here by name. Locks and SQLite's shared memory do not work there.
    Network(&'static str),
    /// An edge is running on it.
    Taken,
    /// The session has moved from here, or is on its way here: an edge would not start.
    Elsewhere(String),
    /// The store cannot be read, or reports damage.
    Damaged(String),
}

/// What the check found.
#[derive(Debug)]
pub struct Inspection {
    /// What is wrong.
    pub flaws: Vec<Flaw>,
    /// The store file.
    pub store: PathBuf,
    /// The linked number, masked for logs. `None`: no number is linked.
    pub linked: Option<String>,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    text: String,
}

/// Checks the directory and the account's store. Blocks for as long as the disk takes.
pub fn inspect(dir: &Path, account: &Account) -> Inspection {
    let store = dir.join(format!("{account}.db"));
    let mut found = Inspection { flaws: Vec::new(), store: store.clone(), linked: None };
    if let Err(error) = try_to_write(dir) {
        found.flaws.push(Flaw::Unusable(error));
        return found;
    }
    found.flaws.extend(network(existing(dir)).map(Flaw::Network));
    found.flaws.extend(lock::guarded(dir, account).err().map(Flaw::Open));
    if is_taken(&dir.join(format!("{account}.lock"))) {
        found.flaws.push(Flaw::Taken);
    }
    found.flaws.extend(moving::directory_says(dir, account).map(Flaw::Elsewhere));
    // An empty file counts as no store: the library makes its tables in it.
    if fs::metadata(&store).is_ok_and(|file| file.len() > 0) {
        match read(&store) {
            Ok(linked) => found.linked = linked,
            Err(why) => found.flaws.push(Flaw::Damaged(why)),
        }
    }
    found
}

/// The directory itself, or its nearest parent that exists.
fn existing(dir: &Path) -> &Path {
    let mut above = dir.ancestors().filter(|above| above.exists());
    above.next().unwrap_or(Path::new("."))
}

/// Writes a file as a test, because permissions do not reveal a read-only disk or a full one.
fn try_to_write(dir: &Path) -> std::io::Result<()> {
    if dir.exists() && !dir.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    let trial = existing(dir).join(format!(".check-{}", std::process::id()));
    fs::create_dir(&trial)?;
    let written = fs::write(trial.join("trial"), [0; 4096]);
    fs::remove_dir_all(&trial)?;
    written
}

/// The check holds the lock for a moment only. An edge that starts in this moment tries again.
fn is_taken(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn network(dir: &Path) -> Option<&'static str> {
    let kind = rustix::fs::statfs(dir).ok()?.f_type;
    network_name(u64::from_ne_bytes(kind.to_ne_bytes()) & 0xffff_ffff)
}

/// Linux's magic numbers of network file systems (statfs(2)).
fn network_name(kind: u64) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x5346_414f => "AFS",
        0x0bd0_0bd0 => "Lustre",
        _ => return None,
    })
}

/// Checks the store and finds the linked number. SQLite allows one process to read while another one writes.
fn read(store: &Path) -> Result<Option<String>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let path = store.to_str().ok_or("its path is no text")?;
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let mut store =
        SqliteConnection::establish(&format!("file:{escaped}?mode=ro")).map_err(|error| text(&error))?;
    store.batch_execute("PRAGMA busy_timeout = 2000").map_err(|error| text(&error))?;
    let mut lines = |query: &str| -> Result<Vec<String>, String> {
        let lines: Vec<Line> = sql_query(query).load(&mut store).map_err(|error| text(&error))?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    };
    let said = lines("SELECT quick_check AS text FROM pragma_quick_check LIMIT 3")?;
    if said != ["ok"] {
        return Err(said.join("; "));
    }
    let has_device =
        lines("SELECT name AS text FROM sqlite_master WHERE type = 'table' AND name = 'device'")?;
    if has_device.is_empty() {
        return Ok(None);
    }
    let jids = lines("SELECT pn AS text FROM device WHERE pn <> '' LIMIT 1")?;
    Ok(jids.first().map(|jid| masked(jid.split([':', '@']).next().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_another_machine_is_named() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xfe53_4d42), Some("SMB"));
        // ext4, tmpfs, overlayfs.
        for local in [0xef53, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_name(local), None);
        }
    }

    #[test]
    fn what_is_no_directory_or_cannot_be_written_is_told_and_nothing_stays() {
        let account = Account::parse("default").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        for place in [file.as_path(), Path::new("/proc/nowhere/session")] {
            let found = inspect(place, &account);
            assert!(matches!(found.flaws.as_slice(), [Flaw::Unusable(_)]), "{found:?}");
        }
        let found = inspect(&dir.path().join("new/session"), &account);
        assert!(found.flaws.is_empty() && found.linked.is_none(), "{found:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_store_that_is_none_is_damaged_and_an_empty_one_is_fine() {
        let account = Account::parse("default").unwrap();
        let dir = tempfile::Builder::new().permissions(private()).tempdir().unwrap();
        let store = dir.path().join("default.db");
        fs::write(&store, "").unwrap();
        fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(inspect(dir.path(), &account).flaws.is_empty());
        fs::write(&store, "no database at all, and long enough to be looked at".repeat(100)).unwrap();
        let found = inspect(dir.path(), &account);
        assert!(matches!(found.flaws.as_slice(), [Flaw::Damaged(_)]), "{found:?}");
    }

    fn private() -> fs::Permissions {
        std::os::unix::fs::PermissionsExt::from_mode(0o700)
    }
}
