//! The lock on the auth directory: two edges on one session would share Signal ratchets and replace each
//! other's connection for ever.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::wire::Account;

/// Held while the edge runs; the kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct AuthDir {
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
    /// Others than its owner may get at the session.
    #[error("{path} has the mode {mode:04o}, and whoever reads the session is the linked number: {mend}")]
    Open {
        /// The directory or the file.
        path: PathBuf,
        /// As it is.
        mode: u32,
        /// The command that makes it what it has to be.
        mend: String,
    },
}

/// Is the session nobody's but its owner's? What does not exist yet is.
pub fn guarded(dir: &Path, account: &Account) -> Result<(), LockError> {
    let store = store(dir, account);
    // SQLite gives the files beside the store its mode, so that they are mended together.
    let mend_store = format!("chmod 600 {}*", store.display());
    let files = ["", "-wal", "-shm"].map(|tail| (with_tail(&store, tail), mend_store.clone()));
    let mend_dir = format!("chmod 700 {}", dir.display());
    for (path, mend) in [(dir.to_owned(), mend_dir)].into_iter().chain(files) {
        let Ok(found) = std::fs::metadata(&path) else { continue };
        let mode = found.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(LockError::Open { path, mode, mend });
        }
    }
    Ok(())
}

fn store(dir: &Path, account: &Account) -> PathBuf {
    dir.join(format!("{account}.db"))
}

/// How often the lock is asked for: `whatsapp-connector check` may be looking at it.
const TRIES: usize = 5;
/// In between.
const PAUSE: Duration = Duration::from_millis(20);

impl AuthDir {
    /// Makes the directory if it is missing (mode 0700), sees that nobody else gets in, and takes the account's
    /// lock.
    pub fn lock(dir: &Path, account: &Account) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        guarded(dir, account)?;
        let path = dir.join(format!("{account}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(unusable)?;
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
    pub fn name(&self) -> std::io::Result<String> {
        let path = self.dir.join(format!("{}.edge-id", self.account));
        let id = match std::fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => id,
            _ => {
                let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
                let mut file =
                    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
                file.write_all(id.as_bytes())?;
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
    pub fn store(&self) -> PathBuf {
        store(&self.dir, &self.account)
    }

    /// The session store's file, there for this user alone. The library's SQLite would make it with whatever the
    /// umask leaves; the files that it makes beside it have its mode.
    pub fn make_store(&self) -> std::io::Result<PathBuf> {
        let path = self.store();
        match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(path),
        }
    }

    /// Moves a dead session aside, so that the next start is a fresh one. Its keys are of no use to
    /// WhatsApp any more; they are kept because deleting is for people.
    pub fn set_aside(&self, suffix: &str) -> std::io::Result<()> {
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

/// SQLite's files beside the store have its name and a tail.
pub(super) fn with_tail(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_read_is_refused_with_what_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let account = Account::parse("a").unwrap();
        chmod(dir.path(), 0o750);
        let refused = AuthDir::lock(dir.path(), &account).unwrap_err().to_string();
        assert!(refused.contains("has the mode 0750") && refused.contains("chmod 700"), "{refused}");
        chmod(dir.path(), 0o700);
        let store = AuthDir::lock(dir.path(), &account).unwrap().make_store().unwrap();
        let mode = std::fs::metadata(&store).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        chmod(&store, 0o644);
        let refused = AuthDir::lock(dir.path(), &account).unwrap_err().to_string();
        assert!(refused.contains("a.db has the mode 0644") && refused.contains("chmod 600"), "{refused}");
        // Another account's store is another edge's matter.
        assert!(AuthDir::lock(dir.path(), &Account::parse("b").unwrap()).is_ok());
    }

    #[test]
    fn a_second_edge_is_refused_and_another_account_is_not() {
        let dir =
            tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| Account::parse(name).unwrap());
        let first = AuthDir::lock(dir.path(), &a).unwrap();
        let refused = AuthDir::lock(dir.path(), &a).unwrap_err();
        assert!(matches!(refused, LockError::Taken { .. }), "{refused}");
        assert!(AuthDir::lock(dir.path(), &b).is_ok());
        let name = first.name().unwrap();
        drop(first);
        let again = AuthDir::lock(dir.path(), &a).unwrap();
        assert_eq!(again.name().unwrap(), name, "the lease is its own after a restart");
    }
}
