//! A session goes elsewhere: from a directory to the bus or back, into a file and out of it. No edge is at work meanwhile.
//!
//! A session that is used in two places uses its keys twice, and phones cannot read what is written with them. So a move
//! has one moment in which the session leaves: until then the old place has it, and afterwards the new one. Before it, the
//! session is whole in the new place, where a `marker` keeps every edge from it. After it, a marker in the old place does.
//! Killed at any moment, a move leaves one place where an edge begins, or none and a marker that names the command which
//! goes on. docs/session.md has the order.
//!
//! `rows` is a session as keys and values, `directory` and `ring` are the two places, `exported` is the file. `replace` says
//! when something may be written over. `moves`, `files` and `Mover::rekey` are what commands do.
#![expect(
    clippy::disallowed_methods,
    reason = "for commands that do one thing after the other, and a marker that is read before an edge begins"
)]

mod directory;
mod exported;
mod files;
mod marker;
mod moves;
mod replace;
mod ring;
mod rows;

use std::path::PathBuf;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::wacore::store::error::StoreError;

use super::lease::{Held, Lease, NotFree};
use super::lock::{AuthDir, LockError};
use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::crash;
use crate::edge::journal::{CommitError, Journal, LoadError, Loaded, SessionKeys, Size, TakeError};
use crate::wire::{Account, Subjects, now_ms};
pub use exported::NotAnExport;
use marker::{Marker, Way};
use ring::Ring;
use rows::Rows;

pub(super) use directory::says as directory_says;
pub(super) use ring::says as bus_says;

/// What a marker in a directory says, if the session has moved from there, or is on its way.
pub fn says_of_directory(dir: &std::path::Path, account: &Account) -> Option<String> {
    directory_says(dir, account)
}

/// The same on the bus.
pub fn says_of_bus(loaded: &Loaded, account: &Account) -> Option<String> {
    bus_says(account, |key| loaded.image().find(|(name, _)| name == &key).map(|(_, value)| value))
}

/// A place for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A file below `WHATSAPP_AUTH_DIR`.
    File,
    /// The bus.
    Nats,
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::File => "WHATSAPP_AUTH_DIR",
            Self::Nats => marker::BUS,
        }
    }
}

/// What an operator allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// A session that is there may be replaced.
    pub replace: bool,
    /// Even by an older one.
    pub go_back: bool,
}

/// Why nothing was moved, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An edge has the lease.
    #[error(
        "an edge of the account `{0}` is at work: it holds the lease, and renews it. Stop all edges of this account first"
    )]
    Running(Account),
    /// Who has the lease is not known.
    #[error("the lease of the account cannot be had: {0}")]
    Lease(String),
    /// The streams are not as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The bus does not answer.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// What is on the bus cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot be taken over.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// It cannot be written.
    #[error("{0}. Run the same command again")]
    Commit(#[from] CommitError),
    /// The bus has something else than what was written.
    #[error("the bus has not all of what was written, or not yet. Run the same command again")]
    NotWhole,
    /// One replica may lose what it has acknowledged.
    #[error(
        "the stream {0} has one replica: a power cut takes back minutes of the session, and what customers wrote stays \
         unreadable. Give it three; or set `sync_interval: always` on nats-server, and SESSION_UNSAFE_SYNC=on"
    )]
    Unsafe(String),
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A store cannot be used.
    #[error("{path}: {why}")]
    Store {
        /// The store.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nothing to take.
    #[error("there is no session of account `{account}` in {place}, or no number is linked")]
    None {
        /// Whose.
        account: Account,
        /// Where.
        place: String,
    },
    /// Another move has to be ended first, or has taken the session away.
    #[error("{0}")]
    Elsewhere(String),
    /// The session that was moved is not where it was moved to.
    #[error(
        "{says} But the bus does not have it. If no edge has been at work since, the session as it was is in {aside}: give \
         it its name without what is behind `.db`, and remove the marker `<account>.moved`. Else link the number again"
    )]
    Lost {
        /// The marker.
        says: String,
        /// The store that was set aside.
        aside: PathBuf,
    },
    /// There is a session already.
    #[error("{place} has {what} already. With --replace it is replaced")]
    There {
        /// Where.
        place: &'static str,
        /// What.
        what: String,
    },
    /// There is a newer one.
    #[error(
        "{place} has {what}, and the export is older: it is of {exported}. To go back to it means that the keys of all \
         messages since then are used twice: phones cannot read what is written with them, and nobody here can read what \
         they write, until each has made a new session. With --replace --go-back it is done nevertheless"
    )]
    Newer {
        /// Where.
        place: &'static str,
        /// What.
        what: String,
        /// When the export was made.
        exported: String,
    },
    /// It is no export.
    #[error("{path}: {why}")]
    NotAnExport {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: NotAnExport,
    },
    /// There is such a file.
    #[error("{0} exists already, and is not written over")]
    Exists(PathBuf),
    /// There is no randomness.
    #[error("the session cannot be encrypted")]
    NotSealed,
}

impl MoveError {
    fn store(path: &std::path::Path, error: &StoreError) -> Self {
        Self::Store { path: path.to_owned(), why: error.to_string() }
    }
}

/// What was done, for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Whose session it is.
    pub account: String,
    /// `moved`, `already-moved`, `exported`, `imported`, `rekeyed`.
    pub state: &'static str,
    /// Where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Store>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Store>,
    /// The linked number, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linked: Option<String>,
    /// How many keys and values it has.
    pub values: usize,
    /// How many bytes these have.
    pub bytes: usize,
    /// How many were too long for the bus. An edge leaves out the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// How many records were written anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// When the export was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported_at: Option<String>,
    /// The file, or the store that is not used any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Done {
    fn with(account: &Account, state: &'static str, rows: &Rows) -> Self {
        Self {
            account: account.to_string(),
            state,
            from: None,
            to: None,
            linked: rows.linked(),
            values: rows.len(),
            bytes: rows.bytes(),
            left_out: 0,
            records: None,
            exported_at: None,
            file: None,
        }
    }
}

/// The bus, as far as sessions are concerned.
#[derive(Debug, Clone)]
pub struct OnTheBus {
    /// The bus.
    pub bus: Bus,
    /// Its subjects.
    pub subjects: Subjects,
    /// Its streams, that of sessions among them.
    pub topology: topology::Settings,
    /// The operator knows what one replica means.
    pub unsafe_sync: bool,
}

/// Moves the session of one account.
pub struct Mover<'a> {
    /// Whose.
    pub account: &'a Account,
    /// `WHATSAPP_AUTH_DIR`.
    pub dir: &'a std::path::Path,
    /// `SESSION_KEY`.
    pub keys: &'a SessionKeys,
    /// Hears how far it has come, for a person who waits.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

impl std::fmt::Debug for Mover<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover").field("account", self.account).finish_non_exhaustive()
    }
}

impl Mover<'_> {
    /// Makes sure of the streams, and takes the lease. No edge begins until it is given back.
    async fn lease(&self, on: &OnTheBus, me: String) -> Result<Held, MoveError> {
        on.bus.ensure(&on.subjects, &on.topology, Role::Edge(self.account)).await?;
        let lease = Lease::new(on.bus.clone(), &on.subjects, self.account, me);
        let waiting = |most: std::time::Duration| {
            (self.tell)(&format!(
                "somebody holds the lease of account `{}`. It runs out {} s after its last renewal; waiting for that",
                self.account,
                most.as_secs()
            ));
        };
        let held = lease.take_idle(waiting).await.map_err(|why| match why {
            NotFree::Alive => MoveError::Running(self.account.clone()),
            NotFree::Unread(why) => MoveError::Bus(why),
            NotFree::Unwritten(why) => MoveError::Lease(why.to_string()),
        })?;
        crash::point("move.locked");
        Ok(held)
    }

    /// A command that has no directory to name it.
    fn unique(on: &OnTheBus) -> String {
        format!("session/{}", on.bus.unique())
    }

    fn lock(&self) -> Result<AuthDir, MoveError> {
        Ok(AuthDir::lock_as_it_is(self.dir, self.account)?)
    }

    /// The name by which an edge on this directory would have the lease. The directory's lock says that there is none.
    fn name_of(&self, auth: &AuthDir) -> Result<String, MoveError> {
        let unusable = |source| LockError::Unusable { dir: self.dir.to_owned(), source };
        Ok(auth.name().map_err(unusable)?)
    }

    fn journal(&self, on: &OnTheBus) -> Journal {
        Journal::new(on.bus.clone(), &on.subjects, self.account, self.keys.clone(), Size::EDGE)
    }

    /// Refuses to bring a session where a power cut would take it back.
    async fn is_safe(on: &OnTheBus) -> Result<(), MoveError> {
        let stream = on.subjects.stream_session();
        if !on.unsafe_sync && on.bus.replicas(&stream).await? < 2 {
            return Err(MoveError::Unsafe(stream));
        }
        Ok(())
    }

    fn none(&self, place: String) -> MoveError {
        MoveError::None { account: self.account.clone(), place }
    }

    /// A marker of a move that begins now.
    fn marker(way: Way, other: String) -> Result<Marker, MoveError> {
        let mut id = [0; 4];
        getrandom::fill(&mut id).map_err(|_| MoveError::NotSealed)?;
        let id = u32::from_be_bytes(id);
        let at_ms = now_ms();
        // As the operator sees it in the name of what is set aside: which one is later is seen by its time.
        Ok(Marker { id: format!("{at_ms}-{id:08x}"), way, other, at_ms })
    }

    /// Writes all records of the session on the bus with the first of the keys, and makes sure that the others are not
    /// needed any more.
    pub async fn rekey(&self, on: &OnTheBus) -> Result<Done, MoveError> {
        let held = self.lease(on, Self::unique(on)).await?;
        let done = Box::pin(self.rekey_held(on, &held.lost)).await;
        held.release().await;
        done
    }

    async fn rekey_held(&self, on: &OnTheBus, stop: &CancellationToken) -> Result<Done, MoveError> {
        let journal = self.journal(on);
        if journal.load().await?.is_none() {
            return Err(self.none(marker::BUS.to_owned()));
        }
        let mut ring = Ring::take(journal, stop).await?;
        let told = |done: u64, of: u64| {
            if done == of / 2 {
                crash::point("rekey.half");
            }
            if done.is_multiple_of(512) {
                (self.tell)(&format!("{done} of {of} records are written with the first key"));
            }
        };
        let records = ring.rewrite(told).await?;
        crash::point("rekey.written");
        ring.can_be_read_with(ring.journal().with_keys(self.keys.only_first())).await?;
        let mut done = Done::with(self.account, "rekeyed", &ring.all());
        done.records = Some(records);
        Ok(done)
    }
}
