//! The lock on the auth directory: two edges on one session would share Signal ratchets and replace each
//! other's connection for ever.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
}

impl AuthDir {
    /// Makes the directory if it is missing (mode 0700) and takes the account's lock.
    pub fn lock(dir: &Path, account: &Account) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let path = dir.join(format!("{account}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), account: account.clone(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::Taken { account: account.clone(), dir: dir.to_owned() })
            }
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
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
        self.dir.join(format!("{}.db", self.account))
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

fn with_tail(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_edge_is_refused_and_another_account_is_not() {
        let dir = tempfile::tempdir().unwrap();
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
