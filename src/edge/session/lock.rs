//! The auth directory: its lock and its modes.
//!
//! The lock: two edges on one session would share Signal ratchets, and would replace each other's connection for
//! ever. The modes: anybody who can read the session can act as the linked number. So the directory has mode 0700,
//! and the files in it have 0600. The edge refuses wider modes and does not repair them, because it cannot know who
//! has read the session already.
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

use super::moving;
use crate::wire::Account;

/// The edge holds it while it runs. The kernel releases it when the process dies, in whatever way.
#[derive(Debug)]
pub(crate) struct AuthDir {
    dir: PathBuf,
    account: Account,
    _lock: File,
}

/// Why the session's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another edge uses it.
    #[error(
        "another edge is running on account `{account}` in {dir}: stop it first, or give this one a WHATSAPP_ACCOUNT or WHATSAPP_AUTH_DIR of its own"
    )]
    Taken {
        /// The account.
        account: Account,
        /// `WHATSAPP_AUTH_DIR`.
        dir: PathBuf,
    },
    /// Users other than its owner may have access to the session.
    #[error(
        "{path} has mode {mode:04o}: other users than its owner may access the session in it, and anybody who has the session can act as the linked number: {remedy}"
    )]
    Wide {
        /// `WHATSAPP_AUTH_DIR`, or a file in it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The command that repairs it, also for other files with the same fault.
        remedy: String,
    },
    /// It belongs to another user, who may do anything with it. Root could use it, but is refused too: it would
    /// leave files behind that the owner could not read.
    #[error(
        "{path} belongs to the user {owner}, and this process runs as {user}: run it as that user, or chown -R {user} it"
    )]
    Foreign {
        /// `WHATSAPP_AUTH_DIR`, or a file in it.
        path: PathBuf,
        /// The user that owns it.
        owner: u32,
        /// The user that this process runs as.
        user: u32,
    },
    /// The session has moved from here, or is on its way here.
    #[error("{0}")]
    Elsewhere(String),
    /// The directory cannot be made, or cannot be written.
    #[error(
        "WHATSAPP_AUTH_DIR={dir} cannot be used: {source}. Set it to a directory that this user may write"
    )]
    Unusable {
        /// `WHATSAPP_AUTH_DIR`.
        dir: PathBuf,
        /// The error from the operating system.
        source: std::io::Error,
    },
}

/// Is the session in `dir` private to its owner? Takes no lock and changes nothing, so it may be asked while an
/// edge is running. A directory that does not exist is fine, because the edge makes it with the right mode.
///
/// Checks all files of the account, `<account>.*`, also those of sessions that were set aside. Ignores the
/// set-group-id bit, because a Kubernetes volume passes it on.
pub fn guarded(dir: &Path, account: &Account) -> Result<(), LockError> {
    let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // The wrong owner tells the operator more than the fact that the file cannot be read.
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

/// It belongs to this process's user, and no other user has any rights on it.
fn private(path: &Path, remedy: &str) -> Result<(), LockError> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        // SQLite may remove its own files during the check.
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

/// How often the edge tries to take the lock: `whatsapp-connector check` may hold it for a moment.
const TRIES: usize = 5;
/// The file that says for how long WhatsApp keeps the number out.
const KEPT_OUT: &str = "kept-out";
/// The file is far smaller.
const MAX_KEPT_OUT: u64 = 4_096;
/// The file that says which chats were new lately.
const NEW_CHATS: &str = "new-chats";
/// 100,000 chats take half of it.
const MAX_NEW_CHATS: u64 = 8 << 20;
/// The file that says when the number was linked: a number of 13 digits.
const LINKED: &str = "linked";
const MAX_LINKED: u64 = 32;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

impl AuthDir {
    /// Makes the directory if it is missing (mode 0700), and takes the account's lock. Refused if the session has moved.
    pub(crate) fn lock(dir: &Path, account: &Account) -> Result<Self, LockError> {
        let locked = Self::lock_as_it_is(dir, account)?;
        match moving::directory_says(dir, account) {
            Some(says) => Err(LockError::Elsewhere(says)),
            None => Ok(locked),
        }
    }

    /// The same for who moves sessions.
    pub(super) fn lock_as_it_is(dir: &Path, account: &Account) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        guarded(dir, account)?;
        let lock = private_file(&dir.join(format!("{account}.lock")), false).map_err(unusable)?;
        for _ in 0..TRIES {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Self { dir: dir.to_owned(), account: account.clone(), _lock: lock });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
            }
        }
        Err(LockError::Taken { account: account.clone(), dir: dir.to_owned() })
    }

    /// A name for the edge on this directory and machine. It stays the same after a restart.
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
        // A copy of the directory, on this machine or on another one, counts as another edge.
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

    /// Makes the session store's file if it is missing. If SQLite made it, its mode would depend on the umask.
    /// SQLite accepts an empty file as a new store, and gives its other files the same mode.
    pub(crate) fn make_store(&self) -> std::io::Result<()> {
        private_file(&self.store(), false).map(drop)
    }

    /// What the file says for how long WhatsApp keeps the number out, if it is there.
    pub(crate) async fn read_kept_out(&self) -> Option<Vec<u8>> {
        self.read(KEPT_OUT, MAX_KEPT_OUT).await
    }

    /// Writes the file, whole or not at all.
    pub(crate) async fn write_kept_out(&self, text: &[u8]) -> std::io::Result<()> {
        self.write(KEPT_OUT, text).await
    }

    /// Removes the file: WhatsApp has let the number in.
    pub(crate) async fn forget_kept_out(&self) {
        match tokio::fs::remove_file(self.beside(KEPT_OUT)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "an old file stays in WHATSAPP_AUTH_DIR: remove <account>.kept-out by hand");
            }
            _ => {}
        }
    }

    /// What the file says of the chats that were new, if it is there.
    pub(crate) async fn read_new_chats(&self) -> Option<Vec<u8>> {
        self.read(NEW_CHATS, MAX_NEW_CHATS).await
    }

    /// Writes the file, whole or not at all.
    pub(crate) async fn write_new_chats(&self, text: &[u8]) -> std::io::Result<()> {
        self.write(NEW_CHATS, text).await
    }

    /// When the number was linked, if the file says so. Milliseconds since 1970.
    pub(crate) async fn read_linked(&self) -> Option<i64> {
        String::from_utf8(self.read(LINKED, MAX_LINKED).await?).ok()?.trim().parse().ok()
    }

    /// Writes the file, whole or not at all.
    pub(crate) async fn write_linked(&self, at_ms: i64) -> std::io::Result<()> {
        self.write(LINKED, at_ms.to_string().as_bytes()).await
    }

    /// A file of the account.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}.{name}", self.account))
    }

    async fn read(&self, name: &str, most: u64) -> Option<Vec<u8>> {
        use tokio::io::AsyncReadExt as _;
        let file = tokio::fs::File::open(self.beside(name)).await.ok()?;
        let mut text = Vec::new();
        file.take(most).read_to_end(&mut text).await.ok()?;
        Some(text)
    }

    async fn write(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let path = self.beside(name);
        let new = with_tail(&path, ".new");
        let mut file = tokio::fs::File::from_std(private_file(&new, true)?);
        file.write_all(text).await?;
        file.sync_all().await?;
        tokio::fs::rename(new, path).await
    }

    /// Moves a dead session aside, so that the next start is a fresh one. WhatsApp no longer accepts its keys. The
    /// files are kept, because deleting them is the operator's decision.
    pub(crate) fn set_aside(&self, suffix: &str) -> std::io::Result<()> {
        // Of the next session nothing is known yet.
        let _ = std::fs::remove_file(self.beside(LINKED));
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

/// Opens a file. Makes it with mode 0600 if it is missing.
pub(super) fn private_file(path: &Path, empty: bool) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(empty).write(true).mode(0o600).open(path)
}

/// SQLite's other files have the name of the store, plus a suffix.
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

    /// A directory with the mode that an edge gives it.
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
        // Root can give files away. Other users use a directory that belongs to root.
        let given = std::os::unix::fs::chown(&dir, Some(65_532), None);
        let foreign = if given.is_ok() { dir.as_path() } else { Path::new("/root") };
        let refused = guarded(foreign, &Account::parse("a").unwrap()).unwrap_err();
        assert!(matches!(refused, LockError::Foreign { .. }), "{refused}");
    }
}
