//! The auth directory: its lock and its modes.
//!
//! Two edges on one session would share Signal ratchets and replace each other's connection for ever: hence
//! the lock. Whoever reads the session is the linked number: hence 0700 for the directory and 0600 for what
//! is in it. What is wider is refused and not mended, because the edge cannot know who has read it already.
#![expect(
    clippy::disallowed_methods,
    reason = "a few small files of this directory, before the session is opened and after it is closed"
)]

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::wire::Account;

/// Held while the edge runs; the kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct AuthDir {
    dir: PathBuf,
    account: Account,
    _lock: File,
}

/// Why the session's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another edge is on it.
    #[error(
        "another edge is running on account `{account}` in {dir}: stop it first, or give this one a WHATSAPP_ACCOUNT or WHATSAPP_AUTH_DIR of its own"
    )]
    Taken {
        /// The account.
        account: Account,
        /// `WHATSAPP_AUTH_DIR`.
        dir: PathBuf,
    },
    /// Others than its owner may get at the session.
    #[error(
        "{path} has mode {mode:04o}, so that others than its owner may get at the session in it, and whoever has the session is the linked number: {remedy}"
    )]
    Wide {
        /// `WHATSAPP_AUTH_DIR`, or a file in it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What mends that, and what else is like it.
        remedy: String,
    },
    /// It is somebody else's, who may do with it what he likes. Also for root, which could use it, but
    /// would leave files behind that its owner could not read.
    #[error(
        "{path} belongs to the user {owner}, and this process runs as {user}: run it as that user, or chown -R {user} it"
    )]
    Foreign {
        /// `WHATSAPP_AUTH_DIR`, or a file in it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose this process is.
        user: u32,
    },
    /// The directory cannot be made or written.
    #[error(
        "WHATSAPP_AUTH_DIR={dir} cannot be used: {source}. It takes a directory that this user may write"
    )]
    Unusable {
        /// `WHATSAPP_AUTH_DIR`.
        dir: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Is the session in `dir` its owner's alone? Takes no lock and changes nothing, so that it may be asked while
/// an edge is running; a directory that is not there yet is fine, because the edge makes it as it must be.
///
/// All files of the account are looked at, those of sessions that were set aside too: `<account>.*`. The
/// set-group-id bit does not matter; a volume of Kubernetes hands it down.
pub fn guarded(dir: &Path, account: &Account) -> Result<(), LockError> {
    let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // Whose it is says more than that it cannot be read.
        entries => private(dir, &format!("chmod 700 {}", dir.display())).and(entries.map_err(unusable))?,
    };
    let own = format!("{account}.");
    let remedy = format!("chmod 600 {}/{own}*", dir.display());
    for entry in entries {
        let entry = entry.map_err(unusable)?;
        if entry.file_name().as_encoded_bytes().starts_with(own.as_bytes()) {
            private(&entry.path(), &remedy)?;
        }
    }
    Ok(())
}

/// Belongs to this process's user, and nobody else may do anything with it.
fn private(path: &Path, remedy: &str) -> Result<(), LockError> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        // SQLite removes files of its own while somebody looks.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(LockError::Unusable { dir: path.to_owned(), source }),
    };
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    let path = path.to_owned();
    if owner != user {
        return Err(LockError::Foreign { path, owner, user });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(LockError::Wide { path, mode, remedy: remedy.to_owned() });
    }
    Ok(())
}

/// How often the lock is asked for: `whatsapp-connector check` may be looking at it.
const TRIES: usize = 5;
/// In between.
const PAUSE: Duration = Duration::from_millis(20);

impl AuthDir {
    /// Makes the directory if it is missing (mode 0700) and takes the account's lock.
    pub(crate) fn lock(dir: &Path, account: &Account) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        guarded(dir, account)?;
        let lock = private_file(&dir.join(format!("{account}.lock")), false).map_err(unusable)?;
        for _ in 0..TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { dir: dir.to_owned(), account: account.clone(), _lock: lock }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
            }
        }
        Err(LockError::Taken { account: account.clone(), dir: dir.to_owned() })
    }

    /// A name for the edge on this directory and machine, the same after a restart.
    pub(crate) fn name(&self) -> std::io::Result<String> {
        let path = self.dir.join(format!("{}.edge-id", self.account));
        let id = match std::fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => id,
            _ => {
                let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
                private_file(&path, true)?.write_all(id.as_bytes())?;
                id
            }
        };
        // A copy of the directory, here or on another machine, is another edge.
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let place = std::fs::canonicalize(&self.dir)?;
        let place = Sha256::digest(place.as_os_str().as_encoded_bytes());
        let place: String = place.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{host}/{}/{place}", id.trim()))
    }

    /// The session store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join(format!("{}.db", self.account))
    }

    /// Makes the session store's file if it is missing. SQLite would make it with what the umask leaves; it
    /// takes an empty file for a new store, and gives its other files the mode of this one.
    pub(crate) fn make_store(&self) -> std::io::Result<()> {
        private_file(&self.store(), false).map(drop)
    }

    /// Moves a dead session aside, so that the next start is a fresh one. Its keys are of no use to
    /// WhatsApp any more; they are kept because deleting is for people.
    pub(crate) fn set_aside(&self, suffix: &str) -> std::io::Result<()> {
        let store = self.store();
        for tail in ["", "-wal", "-shm"] {
            let from = with_tail(&store, tail);
            if from.exists() {
                std::fs::rename(&from, with_tail(&store, &format!(".{suffix}{tail}")))?;
            }
        }
        Ok(())
    }
}

/// Opens a file, which is made with mode 0600 if it is missing.
fn private_file(path: &Path, empty: bool) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(empty).write(true).mode(0o600).open(path)
}

/// SQLite's files beside the store have its name and a tail.
pub(super) fn with_tail(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// In a directory of its own, as an edge makes one.
    fn auth_dir() -> (tempfile::TempDir, PathBuf) {
        let around = tempfile::tempdir().unwrap();
        let dir = around.path().join("auth");
        DirBuilder::new().mode(0o700).create(&dir).unwrap();
        (around, dir)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_second_edge_is_refused_and_another_account_is_not() {
        let (_around, dir) = auth_dir();
        let [a, b] = ["a", "b"].map(|name| Account::parse(name).unwrap());
        let first = AuthDir::lock(&dir, &a).unwrap();
        let refused = AuthDir::lock(&dir, &a).unwrap_err();
        assert!(matches!(refused, LockError::Taken { .. }), "{refused}");
        assert!(AuthDir::lock(&dir, &b).is_ok());
        let name = first.name().unwrap();
        drop(first);
        let again = AuthDir::lock(&dir, &a).unwrap();
        assert_eq!(again.name().unwrap(), name, "the lease is its own after a restart");
    }

    #[test]
    fn a_directory_is_taken_only_if_nobody_else_may_do_anything_with_it() {
        let (_around, dir) = auth_dir();
        let account = Account::parse("a").unwrap();
        for mode in [0o700, 0o2700, 0o1700, 0o500, 0o0] {
            set_mode(&dir, mode);
            assert!(private(&dir, "").is_ok(), "{mode:o}");
        }
        for mode in [0o710, 0o720, 0o740, 0o701, 0o702, 0o704, 0o755, 0o777, 0o2770] {
            set_mode(&dir, mode);
            let refused = AuthDir::lock(&dir, &account).unwrap_err().to_string();
            let path = dir.display();
            assert!(refused.starts_with(&format!("{path} has mode {mode:04o}")), "{refused}");
            assert!(refused.ends_with(&format!("chmod 700 {path}")), "{refused}");
            assert!(!dir.join("a.lock").exists(), "it is left as it was");
        }
        set_mode(&dir, 0o700);
    }

    #[test]
    fn every_file_of_the_account_is_looked_at_and_no_other() {
        let (_around, dir) = auth_dir();
        let [a, b] = ["a", "b"].map(|name| Account::parse(name).unwrap());
        let missing = dir.join("missing");
        assert!(guarded(&missing, &a).is_ok() && !missing.exists());
        for name in
            ["a.db", "a.db-wal", "a.db.logged-out-1", "a.db.logged-out-1-shm", "a.edge-id", "a.db.bak"]
        {
            let path = dir.join(name);
            std::fs::write(&path, "").unwrap();
            set_mode(&path, 0o600);
            assert!(guarded(&dir, &a).is_ok());
            set_mode(&path, 0o640);
            let refused = guarded(&dir, &a).unwrap_err().to_string();
            assert!(
                refused.contains("has mode 0640")
                    && refused.ends_with(&format!("chmod 600 {}/a.*", dir.display())),
                "{refused}"
            );
            assert!(refused.contains(name), "{refused}");
            assert!(guarded(&dir, &b).is_ok());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let (_around, dir) = auth_dir();
        // Root can give files away; others find some that are root's.
        let given = std::os::unix::fs::chown(&dir, Some(65_532), None);
        let foreign = if given.is_ok() { dir.as_path() } else { Path::new("/root") };
        let refused = guarded(foreign, &Account::parse("a").unwrap()).unwrap_err();
        assert!(matches!(refused, LockError::Foreign { .. }), "{refused}");
    }
}
