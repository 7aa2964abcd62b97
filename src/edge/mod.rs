//! WhatsApp ↔ bus, for one account.
//!
//! `inbound` stores each customer's message on the bus, and only then lets WhatsApp mark it "received". `outbound`
//! sends what is on the bus. `session` keeps the link to WhatsApp. `addressing` holds what `inbound` and `outbound`
//! share. Imports go one way: `inbound` and `outbound` → `addressing`, `session`. This module has the edge and its
//! lease, and `term` puts the parts together for one term of it; `seat` is what others see of it, and what edges of one process share. No module
//! outside `edge` names the client library.

mod addressing;
mod inbound;
pub mod journal;
mod outbound;
mod place;
mod seat;
mod session;
mod term;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::telemetry::metrics;
use crate::wire::opt_out::Words;
use crate::wire::takeover::Lasts;
use crate::wire::{Account, Subjects};
pub use addressing::open_takeovers::{OpenTakeovers, Taken};
pub use inbound::decoded;
pub use outbound::{
    Interactive, Limits, LookUps, NewChatLimits, NewChats, Shown, Unchecked, job, parts, rate, request,
};
use place::home;
pub use seat::{Ground, Seat};
use session::link::Input;
pub use session::{
    Challenge, Connection, Extra, Flaw, Inspection, LEASE_TERM, LockError, NotDone, PairCode, Passkey,
    Presence, SessionStore, guarded, inspect, link, moving, row_again,
};
use session::{ConnectionWriter, Held, Home, Http, Lease, LeaseTerm, News};

/// The pause before a session is taken over again that was lost, or could not be read.
const NO_SESSION: Duration = Duration::from_secs(5);
/// How long a term may take to end after one of its tasks has panicked.
const BROKEN: Duration = Duration::from_secs(5);

/// How a term of the lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It never began: the lease has changed, or cannot be had now.
    NotTaken,
    /// As it was told.
    Stopped,
    /// The lease is another edge's, or nobody knows whose.
    Lost,
    /// Another edge writes the session, or the bus does not let this one.
    NoSession,
    /// What is on the bus cannot be read here.
    Unreadable,
    /// A task has panicked.
    Broken,
}

/// What an operator can set for the edge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the linked number.
    pub account: Account,
    /// Where the session is stored, if it is in a file.
    pub auth_dir: PathBuf,
    /// Where it is.
    pub store: SessionStore,
    /// How to link, and what to connect to.
    pub session: session::Settings,
    /// How fast messages may leave.
    pub limits: outbound::Limits,
    /// What people see beside messages.
    pub shown: outbound::Shown,
    /// The longest file that is fetched or sent, in bytes.
    pub media_max_bytes: u64,
    /// How options are shown.
    pub interactive: Interactive,
    /// How long a person who writes keeps the assistant silent. `None`: not at all.
    pub takeover: Option<Lasts>,
    /// The words with which people say that they want nothing unasked. `None`: nobody does.
    pub opt_out: Option<Words>,
}

pub use session::{HOST, Settings as SessionSettings};

/// Why the edge cannot run.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Another edge uses the session's directory, or the directory is unusable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The streams are not set up as they must be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The bus did not answer at the start.
    #[error(transparent)]
    Bus(#[from] ReadError),
    /// The stream of sessions has one replica, and nobody has said that it may.
    #[error(
        "SESSION_STORE=nats: the stream {stream} has one replica. A power cut of its server would take back the last \
         minutes of the session, and what customers wrote would be unreadable for good. Set NATS_REPLICAS=3 before the \
         stream is made; or set `sync_interval: always` on nats-server, and SESSION_UNSAFE_SYNC=on here to say so"
    )]
    Unsafe {
        /// The stream.
        stream: String,
    },
    /// There can be no HTTP client.
    #[error("the HTTP client cannot be made: {0}")]
    Http(String),
}

impl EdgeError {
    /// Is it over by itself, when the bus answers again?
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Bus(_) | Self::Topology(TopologyError::Failed { .. }))
    }
}

/// The edge of one process.
#[derive(Debug)]
pub struct Edge {
    parts: Parts,
    news: News,
}

/// What every term of the lease uses.
#[derive(Debug)]
struct Parts {
    bus: Bus,
    subjects: Subjects,
    topology: topology::Settings,
    settings: Settings,
    auth: Arc<Home>,
    http: Http,
    lease: Lease,
    writer: ConnectionWriter,
    connection: Connection,
    new_chats: NewChats,
    look_ups: LookUps,
    on_duty: watch::Sender<bool>,
    takeovers: Option<OpenTakeovers>,
    stop: CancellationToken,
}

impl Edge {
    /// Locks the auth directory, makes sure that the account's consumer exists, and gets ready. `name` is what the edge is
    /// called in leases, if its process has several.
    pub async fn start(
        ground: Ground,
        settings: Settings,
        name: Option<String>,
        stop: CancellationToken,
    ) -> Result<Self, EdgeError> {
        let Ground { bus, subjects, topology, http } = ground;
        let (home, own_name) = home(&bus, &subjects, &settings)?;
        let (auth, name) = (Arc::new(home), name.unwrap_or(own_name));
        bus.ensure_edge(&subjects, &topology, &settings.account).await?;
        let lease = Lease::new(bus.clone(), &subjects, &settings.account, name);
        let (writer, connection, news) = Connection::channel();
        let new_chats = NewChats::remembered(settings.limits.new_chats, Arc::clone(&auth)).await;
        let look_ups = LookUps::new(connection.clone(), settings.limits.checks);
        let takeovers = settings
            .takeover
            .map(|lasts| OpenTakeovers::new(bus.clone(), subjects.clone(), settings.account.clone(), lasts));
        let parts = Parts {
            bus,
            subjects,
            topology,
            settings,
            auth,
            http,
            lease,
            writer,
            connection,
            new_chats,
            look_ups,
            on_duty: watch::channel(false).0,
            takeovers,
            stop,
        };
        Ok(Self { parts, news })
    }

    /// What others see of it.
    pub fn seat(&self) -> Seat {
        let parts = &self.parts;
        Seat {
            account: parts.settings.account.clone(),
            connection: parts.connection.clone(),
            new_chats: parts.new_chats.clone(),
            look_ups: parts.look_ups.clone(),
            on_duty: parts.on_duty.subscribe(),
            takeovers: parts.takeovers.clone(),
        }
    }

    /// Works whenever this edge holds the lease, until `stop`. After that, sends in flight get up to `grace`.
    pub async fn run(self, grace: Duration) {
        let Self { parts, news } = self;
        let over = CancellationToken::new();
        let work = async {
            parts.work(grace).await;
            over.cancel();
        };
        let announce =
            news.announce(&parts.bus, &parts.subjects, &parts.settings.account, &over, &parts.stop);
        tokio::join!(work, announce);
    }

    /// Works for one term: if the lease is still as it was at this revision of it. The term ends with `broken`, too.
    pub async fn run_once(self, revision: u64, grace: Duration, broken: CancellationToken) -> End {
        let Self { parts, news } = self;
        let Some(held) = parts.take(revision).await else { return End::NotTaken };
        let over = CancellationToken::new();
        let work = async {
            let end = parts.hold(held, grace, &broken).await;
            parts.writer.apply(Input::Stopping);
            over.cancel();
            end
        };
        let announce =
            news.announce(&parts.bus, &parts.subjects, &parts.settings.account, &over, &parts.stop);
        tokio::join!(work, announce).0
    }
}

impl Parts {
    async fn work(&self, grace: Duration) {
        let stand_by = || {
            self.writer.apply(Input::StandBy);
        };
        metrics::LEASE.set(0, [self.settings.account.as_str()]);
        while let Some(held) = self.stop.run_until_cancelled(self.lease.acquire(stand_by)).await {
            let end = self.hold(held, grace, &CancellationToken::new()).await;
            if !self.stop.is_cancelled() {
                stand_by();
            }
            if matches!(end, End::NoSession | End::Unreadable) {
                let _ = tokio::time::timeout(NO_SESSION, self.stop.cancelled()).await;
            }
        }
        self.writer.apply(Input::Stopping);
    }

    /// Takes the lease, if it has not changed since this revision.
    async fn take(&self, revision: u64) -> Option<Held> {
        let taken =
            async { if self.lease.has_room().await { self.lease.take(revision).await } else { None } };
        self.stop.run_until_cancelled(taken).await.flatten()
    }

    /// Works for as long as the lease is held.
    async fn hold(&self, held: Held, grace: Duration, broken: &CancellationToken) -> End {
        let account = self.settings.account.as_str();
        metrics::LEASE.set(1, [account]);
        self.on_duty.send_replace(true);
        self.connection.gate().term(held.term());
        let over = held.lost.child_token();
        let work = async {
            let taken = self.has_taken(&over, &held.term()).await;
            if taken == Some(true) {
                Box::pin(self.term(&over, grace)).await;
            }
            taken
        };
        let breaks = async {
            broken.cancelled().await;
            over.cancel();
            // What has panicked may be what the rest waits for.
            tokio::time::sleep(BROKEN).await;
        };
        let taken = tokio::select! {
            taken = work => taken,
            () = breaks => None,
        };
        if let Home::Bus(session) = &*self.auth {
            session.leave().await;
        }
        self.on_duty.send_replace(false);
        metrics::LEASE.set(0, [account]);
        // The session is lost and the lease is not: another edge goes on without a lease, or the session cannot be read
        // here. Neither is over in a moment, and an edge that can read it may have the lease.
        let has_no_session = over.is_cancelled() && !held.lost.is_cancelled();
        if self.stop.is_cancelled() || has_no_session {
            held.release().await;
        }
        match taken {
            _ if broken.is_cancelled() => End::Broken,
            Some(false) => End::Unreadable,
            _ if self.stop.is_cancelled() => End::Stopped,
            _ if has_no_session => End::NoSession,
            _ => End::Lost,
        }
    }

    /// Takes over what is on the bus for one term of the lease. Returns whether it is this edge's; `Some(false)`: it cannot
    /// be read here.
    async fn has_taken(&self, over: &CancellationToken, lease: &LeaseTerm) -> Option<bool> {
        let Home::Bus(session) = &*self.auth else {
            self.lease.mark().linked(false);
            return Some(true);
        };
        let taken = session.take(over, &self.lease.mark(), lease).await;
        if let Err(error) = &taken
            && !over.is_cancelled()
        {
            // And nobody is shown a QR code: a session that cannot be read is no number that is not linked.
            if error.may_pass() {
                tracing::warn!(%error, "the session cannot be taken over from the bus yet; trying again");
            } else {
                tracing::error!(%error, "the session cannot be taken over from the bus; trying again");
            }
            over.cancel();
        }
        self.new_chats.recall().await;
        match taken {
            Ok(()) => Some(true),
            Err(error) if error.is_unreadable() => Some(false),
            Err(_) => None,
        }
    }
}
