//! A pool: several edges that share many accounts. Each account is an entry of a bucket, and its session is on the bus, so
//! any edge can work for it.
//!
//! `table` is what this edge has seen on the bus, `placement` decides which accounts it takes and gives back, `member` is
//! an account that it works for, `trouble` knows those that do not start here. Who has an account is decided by its
//! lease, as always. What edges tell each other decides only who asks for the lease first.

mod member;
mod peers;
mod placement;
mod table;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::pool::Change;
use crate::bus::topology::{self, Role};
use crate::bus::{Bus, ChangeError, Hearsay, ReadError};
use crate::edge::{self, EdgeError, Ground, Seat, link};
use crate::telemetry::metrics;
use crate::wire::pool::Entry;
use crate::wire::{Account, Subjects};
use member::{Common, Ended, Member};
use peers::Peers;
use placement::Peer;
pub use table::Which;
use table::{Row, Table};
use trouble::Troubles;

/// How often the bus is asked which accounts there are, and who has them.
const LOOK: Duration = Duration::from_secs(1);
/// How often, for a moment after a lease was given back.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// For how long it is asked so often.
const SOON: Duration = Duration::from_millis(600);
/// Before the first look the others have so long to say that they are here.
const OTHERS: Duration = Duration::from_millis(500);
/// So many accounts are started at a time: each reads its session from the bus.
const STARTING_MOST: usize = 16;
/// So many are handed over at a time when this edge ends.
const LEAVING_MOST: usize = 4;
/// How long an account may be nobody's after it was given back, before the next one is.
const HAND_OVER: Duration = Duration::from_secs(3);
/// The pause between two accounts that are given back while this edge goes on.
const REST: Duration = Duration::from_secs(2);
/// The pause after an account that nobody else has taken has come back.
const IN_VAIN: Duration = Duration::from_secs(300);

/// What an operator can set for a pool's edge.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which accounts it works for.
    pub which: Which,
    /// For how many at most.
    pub capacity: usize,
}

/// The accounts that an edge works for now.
pub type Roster = BTreeMap<Account, Seat>;

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The edges cannot run.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// The accounts of `WHATSAPP_ACCOUNTS` cannot be put into the bucket.
    #[error("the accounts of WHATSAPP_ACCOUNTS cannot be put into the bucket {bucket}: {error}")]
    Accounts {
        /// The bucket.
        bucket: String,
        /// Why not.
        error: ChangeError,
    },
    /// What the others say cannot be heard.
    #[error(transparent)]
    Bus(#[from] ReadError),
}

/// What others see of this edge of a pool.
#[derive(Debug, Clone)]
pub struct View {
    /// The accounts that it works for.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// What else there is to know.
    pub facts: watch::Receiver<Arc<Facts>>,
}

/// What an edge of a pool knows beside its own accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// For how many accounts it works at most.
    pub capacity: usize,
    /// The accounts that it leaves alone, because they do not start here.
    pub parked: Vec<Account>,
    /// How many accounts no edge has.
    pub free: usize,
    /// How many edges there are, with this one.
    pub edges: usize,
}

/// One edge of a pool.
#[derive(Debug)]
pub struct Pool {
    common: Common,
    settings: Settings,
    facts: watch::Sender<Arc<Facts>>,
    stop: CancellationToken,
}

impl Pool {
    /// Makes sure that the streams exist, and that the accounts of a list are in the bucket.
    pub async fn start(
        bus: Bus,
        (subjects, topology): (Subjects, topology::Settings),
        settings: Settings,
        edge: edge::Settings,
        grace: Duration,
        stop: CancellationToken,
    ) -> Result<Self, PoolError> {
        let name = bus.unique();
        let ground = Ground::prepare(bus, subjects, topology, &edge, Role::Pool).await?;
        if let Which::These(accounts) = &settings.which {
            for account in accounts {
                listed(&ground, account, &stop).await?;
            }
        }
        let roster = watch::channel(Arc::default()).0;
        let common = Common { ground, settings: edge, name, roster, grace };
        let facts = Facts { capacity: settings.capacity, edges: 1, ..Facts::default() };
        Ok(Self { common, settings, facts: watch::channel(Arc::new(facts)).0, stop })
    }

    /// What others see of it.
    pub fn view(&self) -> View {
        View { roster: self.common.roster.subscribe(), facts: self.facts.subscribe() }
    }

    /// Works for accounts until `stop`, and then gives them back.
    pub async fn run(self) {
        let Ground { bus, subjects, .. } = &self.common.ground;
        let peers = Peers::new(bus.clone(), subjects.live_pool(), &self.common.name);
        let mut work = Work {
            pool: &self,
            peers,
            table: Table::default(),
            troubles: Troubles::default(),
            members: BTreeMap::new(),
            ends: FuturesUnordered::new(),
            handing: None,
            rest_until: Instant::now(),
            soon_until: Instant::now(),
        };
        Box::pin(work.run()).await;
        Box::pin(work.leave()).await;
    }
}

/// An account of a list is in the bucket. A server that is stuck for a moment is asked again, as for streams.
async fn listed(ground: &Ground, account: &Account, stop: &CancellationToken) -> Result<(), PoolError> {
    let Ground { bus, subjects, .. } = ground;
    let new = |before: Option<&_>| before.is_none().then(|| Change::Set(Entry::default()));
    let add = || bus.change_account(subjects, account, new, stop);
    let may_pass = |error: &ChangeError| matches!(error, ChangeError::Read(ReadError::Unanswered(_)));
    let added = add.retry(topology::patience()).when(may_pass).await;
    let (_, added) =
        added.map_err(|error| PoolError::Accounts { bucket: subjects.bucket_accounts(), error })?;
    if added.is_some() {
        tracing::info!(%account, "the account is new to the pool: it is in WHATSAPP_ACCOUNTS");
    }
    Ok(())
}

/// What an edge of a pool has in hand.
struct Work<'a> {
    pool: &'a Pool,
    peers: Peers,
    table: Table,
    troubles: Troubles,
    members: BTreeMap<Account, Member>,
    ends: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// The account that was given back last.
    handing: Option<Account>,
    /// None is given back before.
    rest_until: Instant,
    /// Until then the bus is asked often.
    soon_until: Instant,
}

/// The next word about a lease, if it can be heard.
async fn next(hints: &mut Option<Hearsay>) -> Option<bytes::Bytes> {
    match hints {
        Some(hints) => hints.next().await.map(|(_, payload)| payload),
        None => std::future::pending().await,
    }
}

impl Work<'_> {
    async fn run(&mut self) {
        let Ground { bus, subjects, .. } = &self.pool.common.ground;
        // Without it, a lease that is given back is seen a second later.
        let mut hints =
            bus.hear("that accounts are taken at once which others give back", &subjects.leases()).await.ok();
        self.peers.hear().await;
        self.say(false);
        let mut due = Instant::now() + OTHERS;
        loop {
            tokio::select! {
                () = self.pool.stop.cancelled() => return,
                () = tokio::time::sleep_until(due) => {
                    self.look().await;
                    self.say(false);
                    let now = Instant::now();
                    due = now + if now < self.soon_until { LOOK_SOON } else { LOOK };
                }
                is_new = self.peers.next() => {
                    if is_new {
                        // Who is new has to know who is here.
                        self.say(false);
                    }
                }
                payload = next(&mut hints) => match payload {
                    Some(payload) if payload.is_empty() => {
                        let now = Instant::now();
                        (due, self.soon_until) = (due.min(now), now + SOON);
                    }
                    Some(_) => {}
                    None => hints = None,
                },
                Some(ended) = self.ends.next() => {
                    self.ended(&ended);
                    self.soon_until = Instant::now() + SOON;
                    due = due.min(Instant::now() + LOOK_SOON);
                }
            }
        }
    }

    fn say(&self, leaving: bool) {
        let parked = self.troubles.parked(Instant::now()).count();
        self.peers.say((self.members.len(), parked), self.pool.settings.capacity, leaving);
    }

    /// All edges that take accounts; the first is this one.
    fn edges(&self, now: Instant) -> Vec<Peer> {
        let Pool { common, settings, .. } = self.pool;
        let (edge, capacity) = (common.name.clone(), settings.capacity);
        let mut edges = vec![Peer { edge, capacity, accounts: self.members.len(), is_well: true }];
        edges.extend(self.peers.now(now));
        edges
    }

    /// Looks at what the bus says, and does what follows.
    async fn look(&mut self) {
        let Ground { bus, subjects, .. } = &self.pool.common.ground;
        let seen = tokio::join!(bus.accounts(subjects), bus.leases(subjects));
        let (accounts, leases) = match seen {
            (Ok(accounts), Ok(leases)) => (accounts, leases),
            (Err(error), _) | (_, Err(error)) => {
                // Each account's own lease says whether its edge may go on.
                return tracing::debug!(%error, "it cannot be read which accounts there are; asking again");
            }
        };
        let now = Instant::now();
        let (which, me) = (&self.pool.settings.which, &self.pool.common.name);
        self.table.see(accounts, leases, (which, me, now), |account| self.members.contains_key(account));
        let table = &self.table;
        self.troubles.keep(|account| table.row(account).is_some());
        for (account, member) in &self.members {
            let is_as_it_was =
                table.row(account).is_some_and(|row| row.sequence == member.sequence && !row.entry.paused);
            if !is_as_it_was && !member.is_ending() {
                tracing::info!(%account, "the account's entry was changed, paused or removed");
                member.stop();
            }
        }
        let edges = self.edges(now);
        let free = self.take(&edges, now);
        if free == 0 {
            self.balance(&edges, now);
        }
        self.tell(free, edges.len(), now);
    }

    fn is_starting(&self) -> usize {
        let begins = |account: &&Account| matches!(self.link(account), link::State::Starting);
        self.members.keys().filter(begins).count()
    }

    fn link(&self, account: &Account) -> link::State {
        let roster = self.pool.common.roster.borrow();
        roster.get(account).map(|seat| seat.connection.state()).unwrap_or_default()
    }

    /// Takes the accounts that are this edge's to take. Returns how many nobody has.
    fn take(&mut self, edges: &[Peer], now: Instant) -> usize {
        let is_free =
            |(account, row): &(&Account, &Row)| !row.entry.paused && !self.members.contains_key(*account);
        let free: Vec<_> = self
            .table
            .rows()
            .filter(is_free)
            .filter_map(|(account, row)| Some((account, row, row.free_for(now)?)))
            .collect();
        let mine = free
            .iter()
            .filter(|(account, row, _)| self.troubles.allow((account, row.sequence), now))
            .map(|(account, _, since)| (*account, *since));
        let room = STARTING_MOST.saturating_sub(self.is_starting());
        let takes: Vec<_> = placement::takes(mine, edges).into_iter().take(room).cloned().collect();
        let count = free.len();
        for account in takes {
            let Some(row) = self.table.row(&account) else { continue };
            if self.handing.as_ref() == Some(&account) {
                // It was offline for nothing, and would be again.
                (self.handing, self.rest_until) = (None, now + IN_VAIN);
            }
            let (member, ended) = Member::start(&account, row, &self.pool.common);
            self.members.insert(account, member);
            self.ends.push(ended.boxed());
        }
        count
    }

    /// Gives one account back, if another edge has far fewer, and nothing else is under way.
    fn balance(&mut self, edges: &[Peer], now: Instant) {
        let is_ending = self.members.values().any(Member::is_ending);
        if now < self.rest_until || is_ending || self.is_starting() > 0 || !placement::gives_back(edges) {
            return;
        }
        // Somebody may be scanning a code, and would have to do it once more at the other edge.
        let is_linking =
            |account| matches!(self.link(account), link::State::Unlinked { .. } | link::State::Passkey(_));
        let may_go = self.members.iter().filter(|(account, _)| !is_linking(account));
        // The one that came last has the least of this edge's memory.
        let last = may_go.min_by_key(|(_, member)| member.lived(now));
        if let Some((account, member)) = last {
            tracing::info!(%account, "an emptier edge gets the account");
            member.stop();
            (self.handing, self.rest_until) = (Some(account.clone()), now + REST);
        }
    }

    fn tell(&self, free: usize, edges: usize, now: Instant) {
        let parked: Vec<Account> = self.troubles.parked(now).cloned().collect();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        metrics::POOL_ACCOUNTS.set(count(self.members.len()), ["held"]);
        metrics::POOL_ACCOUNTS.set(count(parked.len()), ["parked"]);
        metrics::POOL_ACCOUNTS.set(count(free), ["free"]);
        let capacity = self.pool.settings.capacity;
        metrics::POOL_CAPACITY.set(count(capacity), []);
        let facts = Facts { capacity, parked, free, edges };
        self.pool.facts.send_if_modified(|now| {
            let is_new = **now != facts;
            *now = Arc::new(facts);
            is_new
        });
    }

    fn ended(&mut self, Ended { account, end }: &Ended) {
        let now = Instant::now();
        let Some(member) = self.members.remove(account) else { return };
        let (lived, sequence) = (member.lived(now), member.sequence);
        if self.troubles.ended((account, sequence), *end, lived, now) {
            tracing::error!(
                %account,
                minutes = trouble::PARKED.as_secs() / 60,
                "the account does not start here and is parked: the lines before say why; other edges may have it, and \
                 whoever changes its entry has it tried again"
            );
        }
    }

    /// Gives all accounts back, a few at a time, so that the others have them before this edge ends.
    async fn leave(&mut self) {
        self.say(true);
        let others = self.peers.now(Instant::now()).iter().any(|peer| peer.accounts < peer.capacity);
        let at_a_time = if others { LEAVING_MOST } else { usize::MAX };
        let until = Instant::now() + self.pool.common.grace / 2;
        // Given back, and perhaps not taken yet.
        let mut given: BTreeMap<Account, Instant> = BTreeMap::new();
        let mut due = Instant::now();
        while !self.members.is_empty() {
            let now = Instant::now();
            given.retain(|_, since| now < *since + HAND_OVER);
            let ending = self.members.values().filter(|member| member.is_ending()).count();
            let room = if now < until { at_a_time.saturating_sub(ending + given.len()) } else { usize::MAX };
            self.members.values().filter(|member| !member.is_ending()).take(room).for_each(Member::stop);
            tokio::select! {
                Some(Ended { account, .. }) = self.ends.next() => {
                    self.members.remove(&account);
                    given.insert(account, Instant::now());
                    self.say(true);
                }
                () = tokio::time::sleep_until(due) => {
                    if let Ok(leases) = self.pool.common.ground.bus.leases(&self.pool.common.ground.subjects).await {
                        given.retain(|account, _| leases.get(account).is_some_and(|lease| lease.holder.is_empty()));
                    }
                    due = Instant::now() + LOOK_SOON * 2;
                }
            }
        }
    }
}
