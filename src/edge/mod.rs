//! WhatsApp ↔ bus, for one account.
//!
//! `inbound` stores each customer's message on the bus, and only then lets WhatsApp mark it "received". `outbound`
//! sends what is on the bus. `session` keeps the link to WhatsApp. `addressing` holds what `inbound` and `outbound`
//! share. Imports go one way: `inbound` and `outbound` → `addressing`, `session`. This module puts the parts
//! together, for one term of the lease. No module outside `edge` names the client library.

mod addressing;
mod inbound;
pub mod journal;
mod outbound;
mod place;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Role, TopologyError};
use crate::bus::{Bus, ReadError};
use crate::telemetry::metrics;
use crate::wire::opt_out::Words;
use crate::wire::takeover::Lasts;
use crate::wire::{Account, Subjects};
use addressing::offers::Offers;
pub use addressing::open_takeovers::{OpenTakeovers, Taken};
use addressing::opt_outs::OptOuts;
use addressing::takeovers::Takeovers;
use addressing::timers::Timers;
pub use inbound::decoded;
use inbound::{Files, Inbound, Latecomers, Memory, Pool};
use outbound::{
    Acks, Announcer, Courteous, Courtesies, Feedback, FileMeans, Means, Outbound, Receipts, Sender, SentAs,
};
pub use outbound::{
    Interactive, Limits, LookUps, NewChatLimits, NewChats, Shown, Unchecked, job, parts, rate, request,
};
use place::{home, is_safe};
use session::link::Input;
use session::{
    Aside, Asides, ConnectionWriter, Fetcher, Groups, Home, Hosts, Http, Jobs, Lease, News, Polls, Resends,
    Session, Uploader, Uploads,
};
pub use session::{
    Challenge, Connection, Extra, Flaw, Inspection, LockError, NotDone, PairCode, Passkey, Presence,
    SessionStore, guarded, inspect, link,
};

/// The pause before a session is taken over again that was lost, or could not be read.
const NO_SESSION: Duration = Duration::from_secs(5);

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
    /// Locks the auth directory, makes sure that the streams exist, and gets ready.
    pub async fn start(
        bus: Bus,
        subjects: Subjects,
        topology: topology::Settings,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Self, EdgeError> {
        let (home, name) = home(&bus, &subjects, &settings)?;
        let auth = Arc::new(home);
        let hosts = Hosts::of(settings.session.simulator_url.as_deref());
        let http = session::http_client(hosts, settings.session.proxy.as_ref())
            .map_err(|error| EdgeError::Http(error.to_string()))?;
        bus.ensure(&subjects, &topology, Role::Edge(&settings.account)).await?;
        is_safe(&bus, &subjects, &settings).await?;
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

    /// The state of the link, for readiness and for the linking page.
    pub fn connection(&self) -> Connection {
        self.parts.connection.clone()
    }

    /// Whether new chats are written to.
    pub fn new_chats(&self) -> NewChats {
        self.parts.new_chats.clone()
    }

    /// Who asks WhatsApp about numbers.
    pub fn look_ups(&self) -> LookUps {
        self.parts.look_ups.clone()
    }

    /// Whether this edge holds the account's lease.
    pub fn on_duty(&self) -> watch::Receiver<bool> {
        self.parts.on_duty.subscribe()
    }

    /// Which chats a person has, if persons take over.
    pub fn takeovers(&self) -> Option<OpenTakeovers> {
        self.parts.takeovers.clone()
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
}

impl Parts {
    async fn work(&self, grace: Duration) {
        let stand_by = || {
            self.writer.apply(Input::StandBy);
        };
        let account = self.settings.account.as_str();
        metrics::LEASE.set(0, [account]);
        while let Some(held) = self.stop.run_until_cancelled(self.lease.acquire(stand_by)).await {
            metrics::LEASE.set(1, [account]);
            self.on_duty.send_replace(true);
            let over = held.lost.child_token();
            if self.has_taken(&over).await {
                Box::pin(self.term(&over, grace)).await;
            }
            if let Home::Bus(session) = &*self.auth {
                session.leave().await;
            }
            self.on_duty.send_replace(false);
            metrics::LEASE.set(0, [account]);
            // The session is lost and the lease is not: another edge goes on without a lease, or the session cannot be
            // read here. Neither is over in a moment, and an edge that can read it may have the lease.
            let has_no_session = over.is_cancelled() && !held.lost.is_cancelled();
            if self.stop.is_cancelled() || has_no_session {
                held.release().await;
            }
            if !self.stop.is_cancelled() {
                stand_by();
            }
            if has_no_session {
                let _ = tokio::time::timeout(NO_SESSION, self.stop.cancelled()).await;
            }
        }
        self.writer.apply(Input::Stopping);
    }

    fn hook(
        &self,
        (resends, polls, files): (&Resends, &Polls, Option<Files>),
        groups: Groups,
        (offers, timers, takeovers, opt_outs): (Offers, Timers, Takeovers, OptOuts),
        stop: &CancellationToken,
    ) -> Inbound {
        let (bus, subjects, account) =
            (self.bus.clone(), self.subjects.clone(), self.settings.account.clone());
        let memory = Memory {
            offers,
            timers,
            takeovers,
            opt_outs,
            resends: resends.clone(),
            polls: polls.clone(),
            extra: self.settings.session.extra,
            files,
            groups,
        };
        Inbound::new(bus, subjects, account, memory, stop.clone())
    }

    /// Which chats a person has taken over, for one term of the lease.
    fn takeovers(&self) -> Takeovers {
        let account = self.settings.account.clone();
        Takeovers::new(self.bus.clone(), self.subjects.clone(), account, self.takeovers.clone())
    }

    /// Who wants nothing unasked, for one term of the lease.
    fn opt_outs(&self) -> OptOuts {
        let Settings { account, opt_out, .. } = &self.settings;
        OptOuts::new(self.bus.clone(), self.subjects.clone(), account.clone(), opt_out.clone())
    }

    /// Takes receipts, for one term of the lease.
    fn receipts(&self, hook: &Inbound, sent_as: SentAs, stop: &CancellationToken) -> (Receipts, Announcer) {
        Receipts::channel(
            self.bus.clone(),
            self.subjects.clone(),
            self.settings.account.clone(),
            hook.chats(),
            self.connection.clone(),
            sent_as,
            stop.clone(),
        )
    }

    /// Fetches files, for one term of the lease.
    fn pool(&self, files: Files, inbound: Inbound, stop: &CancellationToken) -> Pool {
        Pool {
            files,
            fetcher: Fetcher::new(self.http.clone(), self.settings.media_max_bytes),
            inbound,
            connection: self.connection.clone(),
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            stop: stop.clone(),
        }
    }

    /// Sends files, for one term of the lease.
    fn file_means(&self, uploads: Uploads) -> FileMeans {
        let sends = self.topology.media.is_some_and(|media| media.sends);
        FileMeans {
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            connection: self.connection.clone(),
            uploader: Uploader::new(self.http.clone()),
            uploads,
            auth: Arc::clone(&self.auth),
            most: sends.then_some(self.settings.media_max_bytes),
        }
    }

    /// Says what people see beside messages, for one term of the lease.
    fn courtesies(&self, groups: Groups, stop: &CancellationToken) -> (Courtesies, Courteous) {
        let courtesies = Courtesies::new(self.settings.shown);
        let courteous = Courteous {
            courtesies: courtesies.clone(),
            bus: self.bus.clone(),
            subjects: self.subjects.clone(),
            account: self.settings.account.clone(),
            connection: self.connection.clone(),
            groups,
            stop: stop.clone(),
        };
        (courtesies, courteous)
    }

    /// Takes over what is on the bus for one term of the lease. Returns whether it is this edge's.
    async fn has_taken(&self, over: &CancellationToken) -> bool {
        let Home::Bus(session) = &*self.auth else { return true };
        let taken = session.take(over).await;
        if let Err(error) = &taken
            && !over.is_cancelled()
        {
            // And nobody is shown a QR code: a session that cannot be read is no number that is not linked.
            tracing::error!(%error, "the session cannot be taken over from the bus; trying again");
            over.cancel();
        }
        self.new_chats.recall().await;
        taken.is_ok()
    }

    /// One term of the lease. It ends with `stop`, or when the lease or the session is `lost`.
    async fn term(&self, lost: &CancellationToken, grace: Duration) {
        let stop = self.stop.child_token();
        let (account, acks, jobs) = (&self.settings.account, Acks::default(), Jobs::default());
        let (resends, polls, uploads) = (Resends::default(), Polls::default(), Uploads::default());
        let offers =
            Offers::new(self.bus.clone(), self.subjects.clone(), account.clone(), self.topology.out_max_age);
        let (timers, takeovers, opt_outs, sent_as) =
            (Timers::default(), self.takeovers(), self.opt_outs(), SentAs::default());
        let (groups, asker) = Groups::new(self.connection.clone(), stop.clone());
        let (courtesies, courteous) = self.courtesies(groups.clone(), &stop);
        let means = Means {
            sender: Sender::new(self.connection.clone(), acks.clone()),
            limits: self.settings.limits,
            look_ups: self.look_ups.clone(),
            offers: offers.clone(),
            timers: timers.clone(),
            takeovers: takeovers.clone(),
            opt_outs: opt_outs.clone(),
            sent_as: sent_as.clone(),
            polls: polls.clone(),
            new_chats: self.new_chats.clone(),
            files: self.file_means(uploads.clone()),
            groups: groups.clone(),
            interactive: self.settings.interactive,
            courtesies,
        };
        let Some(Some(outbound)) = lost.run_until_cancelled(self.outbound(means, &stop)).await else {
            return;
        };
        let files = self.topology.media.map(|_| Files::new(jobs.clone(), self.topology.in_max_age));
        let known = (offers, timers, takeovers.clone(), opt_outs);
        let hook = self.hook((&resends, &polls, files.clone()), groups.clone(), known, &stop);
        let pool = files.map(|files| self.pool(files, hook.clone(), &stop));
        let (receipts, announcer) = self.receipts(&hook, sent_as, &stop);
        // The session outlives the sends in flight, because it carries them. It must not outlive the lease.
        let carry = lost.child_token();
        let (asides, heard) = Asides::channel();
        let latecomers = self.latecomers(heard, &hook, &resends, &stop);
        let session = Session {
            settings: self.settings.session.clone(),
            auth: Arc::clone(&self.auth),
            hook,
            resends,
            polls,
            jobs,
            uploads,
            http: self.http.clone(),
            asides,
            groups,
            outgoing: Arc::new(Feedback { acks, receipts }),
            connection: self.writer.clone(),
            stop: carry.clone(),
        };
        let work = async {
            let sends = async {
                tokio::join!(outbound.run(grace, lost.clone()), courteous.run(lost.clone()));
                carry.cancel();
            };
            let ends = takeovers.tell_of_ends(&stop);
            let others = async { tokio::join!(latecomers.run(), asker.run(), ends, fetch(pool)) };
            tokio::join!(session.run(), sends, announcer.run(), others)
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

    /// Stores what passes the hook by.
    fn latecomers(
        &self,
        heard: mpsc::Receiver<Aside>,
        hook: &Inbound,
        resends: &Resends,
        stop: &CancellationToken,
    ) -> Latecomers {
        let (inbound, connection) = (hook.clone(), self.connection.clone());
        Latecomers { heard, inbound, resends: resends.clone(), connection, stop: stop.clone() }
    }

    /// The sending half, ready to run. `None`: the bus does not answer, and a pause is over.
    async fn outbound(&self, means: Means, stop: &CancellationToken) -> Option<Arc<Outbound>> {
        let outbound = Outbound::new(
            self.bus.clone(),
            self.subjects.clone(),
            self.settings.account.clone(),
            means,
            self.topology.clone(),
            stop.clone(),
        );
        match outbound.await {
            Ok(outbound) => Some(outbound),
            Err(error) => {
                tracing::warn!(%error, "the outbound consumer does not answer");
                let _ = tokio::time::timeout(Duration::from_secs(1), self.stop.cancelled()).await;
                None
            }
        }
    }
}

async fn fetch(pool: Option<Pool>) {
    if let Some(pool) = pool {
        pool.run().await;
    }
}
