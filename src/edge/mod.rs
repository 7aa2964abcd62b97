//! WhatsApp ↔ bus, for one account.
//!
//! [`inbound`] is the hook that stores before WhatsApp is told "received"; [`outbound`] sends what the
//! bus holds, with [`order`] and [`sending`]; [`session`] keeps the link, by the rules of [`link`]. The
//! only room that names the client library.

mod chats;
mod content;
mod identity;
mod inbound;
pub mod link;
mod lock;
mod online;
mod order;
mod outbound;
mod sending;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::wire::{Account, Subjects};
use inbound::Inbound;
use lock::AuthDir;
pub use lock::LockError;
pub use online::Online;
use outbound::Outbound;
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
}

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
    bus: Bus,
    subjects: Subjects,
    account: Account,
    online: Online,
    session: Session,
    outbound: Arc<Outbound>,
    states: mpsc::UnboundedReceiver<link::State>,
    stop: CancellationToken,
}

impl Edge {
    /// Takes the lock, makes sure of the streams, and gets ready.
    pub async fn start(
        bus: Bus,
        subjects: Subjects,
        topology: topology::Settings,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Self, EdgeError> {
        let auth = AuthDir::lock(&settings.auth_dir, &settings.account)?;
        bus.ensure(&subjects, &topology, Role::Edge(&settings.account)).await?;
        let account = settings.account;
        let (now, online) = Online::channel();
        let acks = Acks::default();
        let inbound = Inbound::new(bus.clone(), subjects.clone(), account.clone(), stop.clone());
        let sender = Sender::new(online.clone(), acks.clone());
        let outbound = Outbound::new(
            bus.clone(),
            subjects.clone(),
            account.clone(),
            online.clone(),
            sender,
            topology,
            stop.clone(),
        )
        .await?;
        let (announce, states) = mpsc::unbounded_channel();
        let session = Session::new(settings.session, auth, inbound, acks, now, announce);
        Ok(Self { bus, subjects, account, online, session, outbound, states, stop })
    }

    /// The link's state, for readiness and the linking page.
    pub fn online(&self) -> Online {
        self.online.clone()
    }

    /// Works until `stop`; sends under way get up to `grace`.
    pub async fn run(self, grace: Duration) {
        // The session has to outlive the sends under way: it carries them.
        let carry = CancellationToken::new();
        let session = self.session.keep_until(carry.clone());
        let sends = async {
            self.outbound.run(grace).await;
            carry.cancel();
        };
        let announcing = session::announce(self.bus, self.subjects, self.account, self.states, self.stop);
        tokio::join!(session, sends, announcing);
    }
}
