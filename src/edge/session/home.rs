//! Where an account's session is: in a directory of this machine, or on the bus.

use std::sync::Arc;

use diesel::SqliteConnection;
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};
use whatsapp_rust::wacore::store::error::Result;

use super::lock::AuthDir;
use super::on_bus::{Mirror, OnBus};
use crate::edge::journal::SessionKeys;

/// How long WhatsApp keeps the number out.
pub(super) const KEPT_OUT: &str = "kept-out";
/// Which chats were new lately.
pub(super) const NEW_CHATS: &str = "new-chats";
/// When the number was linked: a number of 13 digits.
pub(super) const LINKED: &str = "linked";

/// Where the session is.
#[derive(Debug)]
pub(crate) enum Home {
    /// In a directory, whose lock is held.
    Dir(AuthDir),
    /// On the bus.
    Bus(Arc<OnBus>),
}

impl std::fmt::Display for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dir(dir) => write!(f, "{}", dir.store().display()),
            Self::Bus(_) => f.write_str("the bus"),
        }
    }
}

impl Home {
    /// Is the store another edge's, or nobody's, by now?
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Dir(_) => false,
            Self::Bus(session) => session.is_over(),
        }
    }

    /// Opens the session's store.
    pub(super) async fn open(
        &self,
    ) -> std::result::Result<Database, Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Dir(dir) => {
                dir.make_store()?;
                let config = SqliteStoreConfig { synchronous: Synchronous::Full, ..Default::default() };
                let store = SqliteStore::with_config(&dir.store().to_string_lossy(), config).await?;
                Ok(Database { store, mirror: None })
            }
            Self::Bus(session) => {
                let (store, mirror) = session.open().await?;
                Ok(Database { store, mirror: Some(mirror) })
            }
        }
    }

    /// What is remembered of how long WhatsApp keeps the number out.
    pub(crate) async fn read_kept_out(&self) -> Option<Vec<u8>> {
        match self {
            Self::Dir(dir) => dir.read_kept_out().await,
            Self::Bus(session) => session.read(KEPT_OUT).await,
        }
    }

    /// Remembers it, whole or not at all.
    pub(crate) async fn write_kept_out(&self, text: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Dir(dir) => dir.write_kept_out(text).await,
            Self::Bus(session) => session.write(KEPT_OUT, text).await,
        }
    }

    /// WhatsApp has let the number in.
    pub(crate) async fn forget_kept_out(&self) {
        match self {
            Self::Dir(dir) => dir.forget_kept_out().await,
            Self::Bus(session) => {
                if let Err(error) = session.forget(KEPT_OUT).await {
                    tracing::debug!(%error, "it stays remembered that WhatsApp kept the number out");
                }
            }
        }
    }

    /// What is remembered of the chats that were new.
    pub(crate) async fn read_new_chats(&self) -> Option<Vec<u8>> {
        match self {
            Self::Dir(dir) => dir.read_new_chats().await,
            Self::Bus(session) => session.read(NEW_CHATS).await,
        }
    }

    /// Remembers it, whole or not at all.
    pub(crate) async fn write_new_chats(&self, text: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Dir(dir) => dir.write_new_chats(text).await,
            Self::Bus(session) => session.write(NEW_CHATS, text).await,
        }
    }

    /// When the number was linked, if that is remembered. Milliseconds since 1970.
    pub(crate) async fn read_linked(&self) -> Option<i64> {
        match self {
            Self::Dir(dir) => dir.read_linked().await,
            Self::Bus(session) => String::from_utf8(session.read(LINKED).await?).ok()?.trim().parse().ok(),
        }
    }

    /// Remembers it.
    pub(crate) async fn write_linked(&self, at_ms: i64) -> std::io::Result<()> {
        match self {
            Self::Dir(dir) => dir.write_linked(at_ms).await,
            Self::Bus(session) => {
                session.linked(true).await;
                session.write(LINKED, at_ms.to_string().as_bytes()).await
            }
        }
    }

    /// Sets a dead session aside, so that the next start is a fresh one. On the bus there is no aside: it is removed.
    pub(crate) async fn set_aside(&self, suffix: &str) -> std::io::Result<()> {
        match self {
            Self::Dir(dir) => dir.set_aside(suffix),
            Self::Bus(session) => {
                session.linked(false).await;
                session.forget(LINKED).await?;
                session.clear().await.map_err(std::io::Error::other)
            }
        }
    }
}

/// The session's store, open.
#[derive(Clone)]
pub(super) struct Database {
    store: SqliteStore,
    mirror: Option<Mirror>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("mirror", &self.mirror).finish_non_exhaustive()
    }
}

/// A store in a file.
impl From<&SqliteStore> for Database {
    fn from(store: &SqliteStore) -> Self {
        Self { store: store.clone(), mirror: None }
    }
}

impl Database {
    /// The library's part.
    pub(super) fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// Writes. When it returns, that is durable.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.write(work).await?;
        self.durable().await?;
        Ok(done)
    }

    /// Writes, and does not wait until that is durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.store.shared().run(work).await
    }

    /// Returns when it is shown that nobody has taken the session over. In a file the directory's lock shows that.
    pub(super) async fn is_still_ours(&self) -> Result<()> {
        match &self.mirror {
            None => Ok(()),
            Some(mirror) => mirror.prove().await,
        }
    }

    /// Returns when all that is in the store is durable. In a file it is as soon as it is in it.
    pub(super) async fn durable(&self) -> Result<()> {
        match &self.mirror {
            None => Ok(()),
            Some(mirror) => mirror.settle().await,
        }
    }
}

/// Where an operator wants the session.
#[derive(Debug, Clone)]
pub enum SessionStore {
    /// In a file below `WHATSAPP_AUTH_DIR`.
    File,
    /// On the bus.
    Bus {
        /// What it is encrypted with.
        keys: SessionKeys,
        /// The operator knows what a power cut costs, or that nats-server syncs each message to its disk.
        unsafe_sync: bool,
    },
}
