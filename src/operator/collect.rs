//! Asks the streams, the consumers, the buckets and the running processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use prost::Message as _;

use crate::bus::{Bus, ReadError, Start, Stored};
use crate::wire::pool::Entry;
use crate::wire::process_status::{EdgeSide, PoolSide, Process};
use crate::wire::v1::SessionEvent;
use crate::wire::{Account, Subjects, header, now_ms};

/// After this much silence no more answers are expected.
const QUIET: Duration = Duration::from_millis(300);
/// The longest wait for answers. A process that cannot reach JetStream needs a second to say so.
const BOUND: Duration = Duration::from_millis(1500);
/// Of so many accounts it is asked at once what waits for them.
const AT_ONCE: usize = 16;

/// The messages that wait for a consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Messages that no process has taken yet.
    pub lag: u64,
    /// Messages that a process has taken and not acknowledged.
    pub in_flight: u64,
    /// When the oldest of both was stored, milliseconds since the epoch.
    pub oldest_ms: Option<i64>,
}

/// Whether every dead letter is read, to count them by their reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// They are.
    On,
    /// They are not: whoever looks again and again has another way.
    Off,
}

/// All that was collected.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// When, by this machine's clock.
    pub now_ms: i64,
    /// Each account's last event about its link.
    pub sessions: BTreeMap<String, SessionEvent>,
    /// The accounts of the pool: what their entries say, if that can be read. `None`: there is no pool.
    pub pool: Option<BTreeMap<String, Option<Entry>>>,
    /// Only of this account.
    pub only: Option<String>,
    /// The edge that has each account's lease (none if empty), and when the lease was taken, renewed or given up.
    pub leases: BTreeMap<String, (String, i64)>,
    /// The forwarders' consumer.
    pub forwarders: Option<Consumer>,
    /// Each account's consumer.
    pub edges: BTreeMap<String, Consumer>,
    /// Dead letters by account and reason.
    pub dead: BTreeMap<(String, String), u64>,
    /// The processes that answer.
    pub processes: Vec<Process>,
    /// Questions without an answer, and why.
    pub unanswered: Vec<String>,
}

/// Collects everything about one account, or about all.
pub async fn collect(bus: &Bus, subjects: &Subjects, only: Option<&Account>, dead: Counting) -> Seen {
    all(bus, subjects, (only, None), dead).await
}

/// The same about all accounts of the pool, whether an edge runs or not, and without the dead letters.
pub async fn collect_pool(bus: &Bus, subjects: &Subjects) -> Result<Seen, ReadError> {
    let pool = entries(bus, subjects).await?;
    Ok(all(bus, subjects, (None, Some(pool)), Counting::Off).await)
}

type Pool = BTreeMap<String, Option<Entry>>;

async fn entries(bus: &Bus, subjects: &Subjects) -> Result<Pool, ReadError> {
    let all = bus.accounts(subjects).await?;
    Ok(all.into_iter().map(|(account, stored)| (account.to_string(), stored.entry)).collect())
}

async fn all(
    bus: &Bus,
    subjects: &Subjects,
    (only, pool): (Option<&Account>, Option<Pool>),
    dead: Counting,
) -> Seen {
    let seen = Seen { now_ms: now_ms(), pool, only: only.map(ToString::to_string), ..Seen::default() };
    let mut collector = Collector { bus, subjects, only, seen };
    // Their answers come in while the bus is read.
    let asked = bus.ask_all(&subjects.live_status()).await;
    collector.sessions().await;
    collector.leases().await;
    if dead == Counting::On {
        collector.dead_letters().await;
    }
    collector.forwarders().await;
    let answers = match asked {
        Ok(answers) => answers.all(QUIET, BOUND).await,
        Err(error) => Err(error),
    };
    collector.processes(answers);
    collector.pool().await;
    collector.links().await;
    collector.edges().await;
    collector.seen
}

struct Collector<'a> {
    bus: &'a Bus,
    subjects: &'a Subjects,
    only: Option<&'a Account>,
    seen: Seen,
}

impl Collector<'_> {
    fn is_wanted(&self, account: &str) -> bool {
        self.only.is_none_or(|only| only.as_str() == account)
    }

    /// The answer; if there is none, that is noted.
    fn noted<T>(&mut self, what: &str, answer: Result<T, ReadError>) -> Option<T> {
        answer.map_err(|error| self.seen.unanswered.push(format!("{what}: {error}"))).ok()
    }

    async fn sessions(&mut self) {
        let stream = self.subjects.stream_in();
        let found = self.bus.last_of_each(&stream, &self.subjects.some_in(self.only, Some("session"))).await;
        for stored in self.noted(&stream, found).unwrap_or_default() {
            if let (Some(place), Some(event)) = (self.subjects.place(&stored.subject), event(&stored)) {
                self.seen.sessions.insert(place.account.to_string(), event);
            }
        }
    }

    async fn leases(&mut self) {
        let stream = self.subjects.stream_leases();
        let found = self.bus.last_of_each(&stream, &self.subjects.leases()).await;
        for stored in self.noted(&stream, found).unwrap_or_default() {
            let Some(account) = self.subjects.lease_account(&stored.subject) else { continue };
            if self.is_wanted(account.as_str()) {
                let holder = String::from_utf8_lossy(&stored.payload).into_owned();
                self.seen.leases.insert(account.to_string(), (holder, stored.stored_at_ms));
            }
        }
    }

    async fn dead_letters(&mut self) {
        let (stream, subject) = (self.subjects.stream_dlq(), self.subjects.dead_of(self.only));
        let mut next = Start::Sequence(1);
        loop {
            let batch = self.bus.batch(&stream, &subject, next).await;
            let Some(batch) = self.noted(&stream, batch) else { return };
            let Some(last) = batch.last() else { return };
            next = Start::Sequence(last.sequence + 1);
            for letter in &batch {
                let Some((account, _)) = self.subjects.dead_route(&letter.subject) else { continue };
                let reason = letter.headers.get(header::DEAD_REASON).unwrap_or("unknown").to_owned();
                *self.seen.dead.entry((account.to_string(), reason)).or_default() += 1;
            }
        }
    }

    async fn forwarders(&mut self) {
        let (stream, name) = (self.subjects.stream_in(), self.subjects.consumer_forwarder());
        let consumer = self.consumer(&stream, &name, &self.subjects.all_messages()).await;
        self.seen.forwarders = self.noted(&format!("consumer {name}"), consumer);
    }

    fn processes(&mut self, answers: Result<Vec<bytes::Bytes>, ReadError>) {
        let answers = self.noted(&self.subjects.live_status(), answers).unwrap_or_default();
        let read = |answer: &bytes::Bytes| serde_json::from_slice::<Process>(answer).ok();
        let mut processes: Vec<_> = answers.iter().filter_map(read).collect();
        processes.retain(|process| {
            let has = |edge: &EdgeSide| self.is_wanted(&edge.account);
            let knows = |pool: &PoolSide| {
                pool.accounts.iter().any(has) || pool.parked.iter().any(|account| self.is_wanted(account))
            };
            let is_edge = process.edge.is_some() || process.pool.is_some();
            process.forwarder.is_some()
                || !is_edge
                || process.edge.as_ref().is_some_and(has)
                || process.pool.as_ref().is_some_and(|pool| self.only.is_none() || knows(pool))
        });
        processes.sort_by(|a, b| (&a.role, &a.host, a.pid).cmp(&(&b.role, &b.host, b.pid)));
        self.seen.processes = processes;
    }

    /// Without an edge that is one of a pool, nobody asks for the accounts: not every user may.
    async fn pool(&mut self) {
        let has_one = self.seen.processes.iter().any(|process| process.pool.is_some());
        if self.seen.pool.is_some() || !has_one {
            return;
        }
        let found = entries(self.bus, self.subjects).await;
        let mut found = self.noted(&self.subjects.bucket_accounts(), found).unwrap_or_default();
        found.retain(|account, _| self.is_wanted(account));
        self.seen.pool = Some(found);
    }

    /// Finds the event that began the link's present state. The last event may be another one: of an edge that stands
    /// by, or about a chat.
    async fn links(&mut self) {
        for (account, last) in self.seen.sessions.clone() {
            let live = self.seen.active_edge(&account).map(|(_, edge)| edge.state.clone());
            let is_it = |event: &SessionEvent| {
                event.chat.is_empty() && live.as_ref().is_none_or(|state| *state == event.code)
            };
            let Ok(name) = Account::parse(&account) else { continue };
            if is_it(&last) {
                continue;
            }
            let (stream, subject) = (self.subjects.stream_in(), self.subjects.session(&name));
            let mut next = Start::Sequence(1);
            // A missing answer was noted at the first question.
            while let Ok(batch) = self.bus.batch(&stream, &subject, next).await
                && let Some(end) = batch.last()
            {
                next = Start::Sequence(end.sequence + 1);
                for event in batch.iter().filter_map(event).filter(is_it) {
                    self.seen.sessions.insert(account.clone(), event);
                }
            }
        }
    }

    async fn edges(&mut self) {
        let accounts = self.seen.accounts().into_iter().filter_map(|account| Account::parse(&account).ok());
        let stream = self.subjects.stream_out();
        let asked = stream::iter(accounts).map(|account| {
            let (name, filter) = (self.subjects.consumer_edge(&account), self.subjects.out_of(&account));
            let (stream, this) = (&stream, &*self);
            async move { (account, this.consumer_if_any(stream, &name, &filter).await, name) }
        });
        let all: Vec<_> = asked.buffered(AT_ONCE).collect().await;
        for (account, consumer, name) in all {
            // An account that no edge has ever had has none yet.
            let may_have_none = self.seen.is_in_pool(account.as_str());
            let consumer = match consumer {
                Ok(None) if may_have_none => continue,
                consumer => consumer.and_then(|consumer| consumer.ok_or_else(no_consumer)),
            };
            if let Some(consumer) = self.noted(&format!("consumer {name}"), consumer) {
                self.seen.edges.insert(account.to_string(), consumer);
            }
        }
    }

    async fn consumer(&self, stream: &str, name: &str, filter: &str) -> Result<Consumer, ReadError> {
        self.consumer_if_any(stream, name, filter).await?.ok_or_else(no_consumer)
    }

    async fn consumer_if_any(
        &self,
        stream: &str,
        name: &str,
        filter: &str,
    ) -> Result<Option<Consumer>, ReadError> {
        let Some(state) = self.bus.consumer_state_if_any(stream, name).await? else { return Ok(None) };
        let in_flight = u64::try_from(state.ack_pending).unwrap_or(u64::MAX);
        let mut consumer =
            Consumer { name: name.to_owned(), lag: state.not_delivered, in_flight, oldest_ms: None };
        if consumer.lag + consumer.in_flight > 0 {
            // All before the floor is done.
            let oldest = self.bus.next_from(stream, filter, state.ack_floor + 1).await?;
            consumer.oldest_ms = oldest.map(|oldest| oldest.stored_at_ms);
        }
        Ok(Some(consumer))
    }
}

fn no_consumer() -> ReadError {
    ReadError::new(&"the consumer does not exist")
}

fn event(stored: &Stored) -> Option<SessionEvent> {
    SessionEvent::decode(stored.payload.clone()).ok()
}

impl Seen {
    /// The accounts that an edge answers for or has the lease of, those of the pool, and those with an event in `WA_IN`.
    pub fn accounts(&self) -> BTreeSet<String> {
        let held =
            self.leases.iter().filter(|(_, (holder, _))| !holder.is_empty()).map(|(account, _)| account);
        // What was removed from a pool has neither entry nor lease, and its events are kept for a while.
        let is_gone = |account: &&String| {
            self.pool.is_some() && !self.is_in_pool(account) && !self.leases.contains_key(*account)
        };
        let sessions = self.sessions.keys().filter(|account| !is_gone(account));
        let pool = self.pool.iter().flat_map(BTreeMap::keys);
        let edges = self.edge_sides().map(|(_, edge)| &edge.account);
        let edges = edges.filter(|account| self.only.as_ref().is_none_or(|only| only == *account));
        sessions.chain(held).chain(pool).chain(edges).cloned().collect()
    }

    /// Is it one of the pool's?
    pub fn is_in_pool(&self, account: &str) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.contains_key(account))
    }

    /// What each process says of each account that it works for.
    pub fn edge_sides(&self) -> impl Iterator<Item = (&Process, &EdgeSide)> {
        self.processes.iter().flat_map(|process| {
            let of_pool = process.pool.iter().flat_map(|pool| &pool.accounts);
            process.edge.iter().chain(of_pool).map(move |edge| (process, edge))
        })
    }

    /// Of the edges that answer for an account, the one that has the link; if there is none, one that stands by.
    pub fn active_edge(&self, account: &str) -> Option<(&Process, &EdgeSide)> {
        let edges = self.edge_sides().filter(|(_, edge)| edge.account == account);
        edges.min_by_key(|(_, edge)| edge.state == "standby")
    }
}
