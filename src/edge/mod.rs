//! WhatsApp ↔ bus, for one account.
//!
//! `inbound` is the hook that stores before WhatsApp is told "received"; `outbound` sends what the
//! bus holds, with `job`, `order`, `looping`, `pace` and `sending`; `session` keeps the link, by the rules of `link`;
//! `store` and `missing` see to it that what the library loses comes again, and in its place. The
//! only room that names the client library.

mod chats;
mod content;
mod events;
mod identity;
mod inbound;
mod inspect;
pub mod job;
mod lease;
pub mod link;
mod lock;
mod looping;
mod missing;
mod online;
mod order;
mod outbound;
mod pace;
pub mod rate;
mod receipts;
mod report;
mod sending;
mod session;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::telemetry::metrics;
use crate::wire::{Account, Subjects};
use inbound::Inbound;
pub use inspect::{Flaw, Inspection, inspect};
use lease::Lease;
use link::Input;
use lock::AuthDir;
pub use lock::{LockError, guarded};
use missing::Missing;
use online::Board;
pub use online::Online;
use outbound::Outbound;
use receipts::Receipts;
use sending::{Acks, Sender};
use session::Session;

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the linked number.
    pub account: Account,
    /// Where the session is kept.
    pub auth_dir: PathBuf,
    /// How to link and whom to talk to.
    pub session: session::Settings,
    /// How fast messages may leave.
    pub limits: outbound::Limits,
}

pub use outbound::Limits;
pub use session::Settings as SessionSettings;

/// Why the edge cannot run.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The session's directory is taken or unusable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The streams are not as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The bus did not answer at the start.
    #[error(transparent)]
    Bus(#[from] ReadError),
}

/// The edge of one process.
#[derive(Debug)]
pub struct Edge {
    parts: Parts,
    states: mpsc::UnboundedReceiver<link::State>,
}

/// What every term of the lease is made of.
#[derive(Debug)]
struct Parts {
    bus: Bus,
    subjects: Subjects,
    topology: topology::Settings,
    settings: Settings,
    auth: Arc<AuthDir>,
    lease: Lease,
    board: Board,
    online: Online,
    stop: CancellationToken,
}

impl Edge {
    /// Takes the lock on the auth directory, makes sure of the streams, and gets ready.
    pub async fn start(
        bus: Bus,
        subjects: Subjects,
        topology: topology::Settings,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Self, EdgeError> {
        let auth = Arc::new(AuthDir::lock(&settings.auth_dir, &settings.account)?);
        let name =
            auth.name().map_err(|source| LockError::Unusable { dir: settings.auth_dir.clone(), source })?;
        bus.ensure(&subjects, &topology, Role::Edge(&settings.account)).await?;
        let lease = Lease::new(bus.clone(), &subjects, &settings.account, name);
        let (board, online, states) = Online::channel();
        let parts = Parts { bus, subjects, topology, settings, auth, lease, board, online, stop };
        Ok(Self { parts, states })
    }

    /// The link's state, for readiness and the linking page.
    pub fn online(&self) -> Online {
        self.parts.online.clone()
    }

    /// Works whenever this edge has the lease, until `stop`; sends under way get up to `grace` then.
    pub async fn run(self, grace: Duration) {
        let Self { parts, states } = self;
        let account = parts.settings.account.clone();
        let announcing =
            session::announce(parts.bus.clone(), parts.subjects.clone(), account, states, parts.stop.clone());
        // The board goes with the parts, and with it the last of the states to announce.
        tokio::join!(parts.work(grace), announcing);
    }
}

impl Parts {
    async fn work(self, grace: Duration) {
        let stand_by = || {
            self.board.apply(Input::StandBy);
        };
        let account = self.settings.account.as_str();
        metrics::LEASE.set(0, [account]);
        while let Some(held) = self.stop.run_until_cancelled(self.lease.acquire(stand_by)).await {
            metrics::LEASE.set(1, [account]);
            self.term(&held.lost, grace).await;
            metrics::LEASE.set(0, [account]);
            if self.stop.is_cancelled() {
                held.release().await;
            } else {
                stand_by();
            }
        }
        self.board.apply(Input::Stopping);
    }

    /// One term of the lease: until `stop`, or until it is `lost`.
    async fn term(&self, lost: &CancellationToken, grace: Duration) {
        let stop = self.stop.child_token();
        let (account, acks) = (&self.settings.account, Acks::default());
        let missing = Missing::default();
        let outbound = Outbound::new(
            self.bus.clone(),
            self.subjects.clone(),
            account.clone(),
            Sender::new(self.online.clone(), acks.clone()),
            self.topology.clone(),
            self.settings.limits,
            stop.clone(),
        );
        let outbound = match lost.run_until_cancelled(outbound).await {
            Some(Ok(outbound)) => outbound,
            Some(Err(error)) => {
                tracing::warn!(%error, "the outbound consumer does not answer");
                let _ = tokio::time::timeout(Duration::from_secs(1), self.stop.cancelled()).await;
                return;
            }
            None => return,
        };
        let (receipts, announcer) = Receipts::channel(
            self.bus.clone(),
            self.subjects.clone(),
            account.clone(),
            self.online.clone(),
            stop.clone(),
        );
        // The session outlives the sends under way, which it carries; but not the lease.
        let carry = lost.child_token();
        let session = Session {
            settings: self.settings.session.clone(),
            auth: Arc::clone(&self.auth),
            inbound: Inbound::new(
                self.bus.clone(),
                self.subjects.clone(),
                account.clone(),
                missing.clone(),
                stop.clone(),
            ),
            missing,
            acks,
            receipts,
            board: self.board.clone(),
            stop: carry.clone(),
        };
        let work = async {
            let sends = async {
                outbound.run(grace, lost.clone()).await;
                carry.cancel();
            };
            tokio::join!(session.run(), sends, announcer.run())
        };
        tokio::pin!(work);
        tokio::select! {
            _ = &mut work => {}
            () = lost.cancelled() => {
                // Hooks and sends must not outlive the lease either.
                stop.cancel();
                work.await;
            }
        }
    }
}
