//! Whose assistant is asked: a route for each account that `ROUTES_FILE` names, and one for all others (`BACKEND_URL`).
//! What a route has is its own: circuit breaker, slots, room. So whatever becomes of one is nothing to another.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::backend::{self, Backend, ClientError, Clients};
use super::circuit_breaker::{CircuitBreaker, Wanted};
use super::hand::{Lane, Lanes};
use super::slots::{Slot, Slots};
use super::{MAX_BATCH, MAX_BETWEEN};
use crate::crash;
use crate::wire::Account;

/// What the route of all others is called. No account can have this name.
pub const OTHERS: &str = "BACKEND_URL";
/// So many messages of a route with a name may be at work beside those that have a slot: between two attempts, or held.
const BETWEEN: usize = MAX_BETWEEN / 4;

/// How one account's assistant is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose.
    pub account: Account,
    /// Where, and with which login.
    pub backend: backend::Settings,
    /// How many calls may be in flight in this process, if it can take so many.
    pub concurrency: usize,
}

/// A route that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRoute {
    /// Its account. `None`: all that have no route of their own.
    pub account: Option<Account>,
    /// Why: a code.
    pub reason: String,
    /// How many messages wait for it in this process, beside those at work.
    pub waiting: usize,
    /// How many have begun, and wait or ask whether it is back.
    pub at_work: usize,
}

impl HeldRoute {
    /// Its name for operators.
    pub fn name(&self) -> &str {
        self.account.as_ref().map_or(OTHERS, Account::as_str)
    }
}

/// How a route is, for gauges.
#[derive(Debug)]
pub struct RouteState {
    /// Its account's name, or [`OTHERS`].
    pub name: String,
    /// Is it held?
    pub held: bool,
    /// How many calls may be under way.
    pub limit: usize,
    /// How many of its messages wait in this process.
    pub waiting: usize,
}

/// What has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Accounts with a route of their own.
    pub routes: usize,
    /// Routes that are new, or other than before.
    pub changed: usize,
    /// Accounts that have none any more.
    pub removed: usize,
}

/// The way to one assistant.
#[derive(Debug)]
pub(super) struct Route {
    account: Option<Account>,
    settings: (backend::Settings, usize),
    /// Its queue in the hand.
    pub(super) lane: Lane,
    pub(super) backend: Backend,
    pub(super) breaker: CircuitBreaker,
    pub(super) slots: Slots,
    /// One for each message at work.
    room: Arc<Semaphore>,
    /// Something has come for it.
    used: AtomicBool,
    /// Another one has taken its place.
    retired: CancellationToken,
}

impl Route {
    fn new(
        account: Option<Account>,
        backend: &backend::Settings,
        concurrency: usize,
        (lane, clients): (Lane, &mut Clients),
    ) -> Result<Arc<Self>, ClientError> {
        let between = if account.is_some() { BETWEEN } else { MAX_BETWEEN };
        let room = concurrency.saturating_add(between).min(Semaphore::MAX_PERMITS);
        Ok(Arc::new(Self {
            settings: (backend.clone(), concurrency),
            lane,
            backend: Backend::with(backend.clone(), clients)?,
            breaker: CircuitBreaker::new(account.as_ref().map(|account| Arc::from(account.as_str()))),
            slots: Slots::new(concurrency, backend.timeout),
            room: Arc::new(Semaphore::new(room)),
            used: AtomicBool::new(false),
            retired: CancellationToken::new(),
            account,
        }))
    }

    /// The account's name. `None`: it is the route of all others.
    pub(super) fn name(&self) -> Option<&str> {
        self.account.as_ref().map(Account::as_str)
    }

    /// Has another route taken its place?
    pub(super) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Returns when another route has taken its place.
    pub(super) async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// A message has come. What it needs to begin at once.
    pub(super) fn begin_now(self: &Arc<Self>) -> Option<(Seat, OwnedSemaphorePermit)> {
        self.used.store(true, Ordering::Relaxed);
        if self.breaker.wants() == Wanted::Probes(0) {
            return None;
        }
        let slot = self.slots.one_now()?;
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some((Seat { route: Arc::clone(self), slot }, room))
    }

    /// What a message needs to begin. Returns when that makes sense. Cancel-safe.
    pub(super) async fn begin(self: &Arc<Self>) -> Option<(Seat, OwnedSemaphorePermit)> {
        // During a hold, few turns are of any use.
        self.breaker.wants_turns().await;
        let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
        let slot = self.slots.one().await?;
        Some((Seat { route: Arc::clone(self), slot }, room))
    }

    /// Returns when a message could begin, and how many at most are of use. Cancel-safe.
    async fn can_begin(&self) -> usize {
        let most = match self.breaker.wants_turns().await {
            Wanted::Any => MAX_BATCH,
            Wanted::Probes(count) => count,
        };
        drop(self.room.acquire().await);
        drop(self.slots.one().await);
        most
    }

    /// How many could begin at once, and how many at most are of use.
    fn free(&self) -> (usize, usize) {
        let free = if self.room.available_permits() == 0 { 0 } else { self.slots.free() };
        match self.breaker.wants() {
            Wanted::Any if free > 0 => (free, MAX_BATCH),
            Wanted::Probes(count) if free > 0 && count > 0 => (free.min(count), count),
            _ => (0, 0),
        }
    }

    fn is(&self, backend: &backend::Settings, concurrency: usize) -> bool {
        let secret =
            |secret: &Option<SecretString>| secret.as_ref().map(|text| text.expose_secret().to_owned());
        let (own, calls) = &self.settings;
        let proxy =
            |settings: &backend::Settings| settings.proxy.as_ref().map(|proxy| proxy.url().to_owned());
        *calls == concurrency
            && own.url == backend.url
            && own.timeout == backend.timeout
            && proxy(own) == proxy(backend)
            && secret(&own.api_key) == secret(&backend.api_key)
            && secret(&own.webhook_secret) == secret(&backend.webhook_secret)
    }
}

/// The right to work on a message of a route.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) route: Arc<Route>,
    pub(super) slot: Slot,
}

/// All routes, as they are for a while.
#[derive(Debug)]
pub(super) struct Table {
    own: HashMap<Account, Arc<Route>>,
    others: Arc<Route>,
    by_lane: HashMap<Lane, Arc<Route>>,
}

impl Table {
    fn new(own: HashMap<Account, Arc<Route>>, others: Arc<Route>) -> Arc<Self> {
        let all = own.values().chain([&others]);
        let by_lane = all.map(|route| (route.lane, Arc::clone(route))).collect();
        Arc::new(Self { own, others, by_lane })
    }

    fn of(&self, account: &Account) -> &Arc<Route> {
        self.own.get(account).unwrap_or(&self.others)
    }

    /// Is there such a lane?
    pub(super) fn has(&self, lane: Lane) -> bool {
        self.by_lane.contains_key(&lane)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_lane.values()
    }

    /// Returns as soon as a message of any route could begin: how many could, and how many at most are of use.
    pub(super) async fn can_begin(&self) -> (usize, usize) {
        if self.own.is_empty() {
            let most = self.others.can_begin().await;
            return (self.others.slots.free(), most);
        }
        if crash::switched_off("routes") {
            // As with one backend for all: while it is away, nothing is pulled.
            let each = futures::future::join_all(self.all().map(|route| route.can_begin()));
            return (1, each.await.into_iter().min().unwrap_or(1));
        }
        let mut sum = (0_usize, 0_usize);
        for (free, most) in self.all().map(|route| route.free()) {
            sum = (sum.0 + free, sum.1.saturating_add(most).min(MAX_BATCH));
            if sum.0 >= MAX_BATCH {
                break;
            }
        }
        if sum.0 > 0 {
            return sum;
        }
        let any = self.all().map(|route| Box::pin(route.can_begin()));
        let (most, ..) = futures::future::select_all(any).await;
        (1, most)
    }

    fn lanes(&self) -> Lanes {
        let own = self.own.iter().map(|(account, route)| (account.to_string(), route.lane));
        Lanes { own: own.collect(), others: self.others.lane }
    }
}

/// All routes. They may change.
pub(super) struct Routes {
    table: watch::Sender<Arc<Table>>,
    lanes: AtomicU64,
    clients: Mutex<Clients>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("own", &self.table().own.len()).finish_non_exhaustive()
    }
}

impl Routes {
    /// One route for all, and those of `own`.
    pub(super) fn new(
        others: &backend::Settings,
        concurrency: usize,
        own: &[Settings],
    ) -> Result<Self, ClientError> {
        let mut clients = Clients::default();
        let others = Route::new(None, others, concurrency, (0, &mut clients))?;
        let routes = Self {
            table: watch::Sender::new(Table::new(HashMap::new(), others)),
            lanes: AtomicU64::new(1),
            clients: Mutex::new(clients),
        };
        let (table, _) = routes.with(own)?;
        routes.table.send_replace(table);
        Ok(routes)
    }

    /// The table with these accounts: routes that are as before are the same.
    fn with(&self, own: &[Settings]) -> Result<(Arc<Table>, Changes), ClientError> {
        let before = self.table();
        let (mut routes, mut changed) = (HashMap::new(), 0);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for Settings { account, backend, concurrency } in own {
            let same = before.own.get(account).filter(|route| route.is(backend, *concurrency));
            let route = match same {
                Some(route) => Arc::clone(route),
                None => {
                    changed += 1;
                    let lane = self.lanes.fetch_add(1, Ordering::Relaxed);
                    Route::new(Some(account.clone()), backend, *concurrency, (lane, &mut clients))?
                }
            };
            routes.insert(account.clone(), route);
        }
        let removed = before.own.keys().filter(|account| !routes.contains_key(*account)).count();
        let changes = Changes { routes: routes.len(), changed, removed };
        Ok((Table::new(routes, Arc::clone(&before.others)), changes))
    }

    /// From now on these accounts have routes of their own. `enter` puts what waits into the new lanes. Nothing has
    /// changed if a client cannot be made.
    pub(super) fn replace(
        &self,
        own: &[Settings],
        enter: impl FnOnce(Lanes),
    ) -> Result<Changes, ClientError> {
        let (table, changes) = self.with(own)?;
        let lanes = table.lanes();
        let before = self.table.send_replace(Arc::clone(&table));
        if !crash::switched_off("lanes") {
            enter(lanes);
        }
        // Whoever waits for an old one finds the new one.
        for route in before.all().filter(|route| !table.has(route.lane)) {
            route.retired.cancel();
        }
        Ok(changes)
    }

    /// The lanes as they are.
    pub(super) fn lanes(&self) -> Lanes {
        self.table().lanes()
    }

    /// All routes, now.
    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }

    /// Hears of changes.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// The route of an account's messages, now.
    pub(super) fn of(&self, account: &Account) -> Arc<Route> {
        Arc::clone(self.table.borrow().of(account))
    }

    /// Is the route of this lane held?
    pub(super) fn is_held(&self, lane: Lane) -> bool {
        self.table.borrow().by_lane.get(&lane).is_some_and(|route| route.breaker.is_held())
    }

    /// The routes that are held, and whether no other one is in use. `waiting` says how many messages wait in a lane.
    pub(super) fn held(&self, waiting: impl Fn(Lane) -> usize) -> (Vec<HeldRoute>, bool) {
        let table = self.table();
        let (mut held, mut is_every) = (Vec::new(), true);
        for route in table.all() {
            match route.breaker.reason() {
                Some(reason) => held.push(HeldRoute {
                    account: route.account.clone(),
                    reason,
                    waiting: waiting(route.lane),
                    at_work: route.breaker.turns(),
                }),
                None => is_every &= !route.used.load(Ordering::Relaxed),
            }
        }
        held.sort_by(|one, other| one.name().cmp(other.name()));
        let is_every = is_every && !held.is_empty();
        (held, is_every)
    }

    /// How the routes are. Empty if there is only one.
    pub(super) fn states(&self, waiting: impl Fn(Lane) -> usize) -> Vec<RouteState> {
        let table = self.table();
        let routes = table.all().filter(|_| !table.own.is_empty());
        routes
            .map(|route| RouteState {
                name: route.name().unwrap_or(OTHERS).to_owned(),
                held: route.breaker.is_held(),
                limit: route.slots.limit(),
                waiting: waiting(route.lane),
            })
            .collect()
    }

    /// How many calls may be under way at once, over all routes.
    pub(super) fn limit(&self) -> usize {
        self.table().all().map(|route| route.slots.limit()).sum()
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
