//! Decides what needs a person. Pure.

use std::time::Duration;

use serde::Serialize;

use super::collect::{Consumer, Seen};
use crate::wire::header::rfc3339_ms;
use crate::wire::kind::code;
use crate::wire::pool::Entry;
use crate::wire::process_status::{EdgeSide, Process};

/// A link may take this long to come back by itself.
const COMES_BACK: Duration = Duration::from_secs(5 * 60);
/// A message may wait this long.
const WAITS: Duration = Duration::from_secs(15 * 60);
/// An account of a pool may be nobody's this long: the term of a dead edge's lease, and the time to take it.
const NOBODYS: Duration = Duration::from_secs(60);

/// The state of the system.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Nothing needs a person.
    pub well: bool,
    /// What needs a person.
    pub wants: Vec<Want>,
    /// The linked numbers.
    pub accounts: Vec<AccountReport>,
    /// The pool, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolReport>,
    /// The consumer that all forwarders share.
    pub forwarders: Option<ConsumerReport>,
    /// Messages that were given up on.
    pub dead_letters: Vec<DeadLetters>,
    /// The processes that answer.
    pub processes: Vec<Process>,
}

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Want {
    /// An account, a process (`host/pid`), a consumer, or `bus`.
    pub about: String,
    /// A stable code for machines.
    pub code: String,
    /// What is so, and what mends it.
    pub say: String,
}

/// One linked number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountReport {
    /// Its name.
    pub account: String,
    /// The state of the link: a code, as in session events.
    pub link: String,
    /// Since when, if the bus still knows.
    pub since: Option<String>,
    /// What the operator has to do, as a code.
    pub action: String,
    /// True if an edge says so itself; otherwise this is the last event on the bus.
    pub live: bool,
    /// The edge that has the lease; `None` if no edge has it.
    pub lease: Option<String>,
    /// When the lease was renewed last.
    pub lease_renewed_at: Option<String>,
    /// The consumer of messages to send.
    pub consumer: Option<ConsumerReport>,
    /// What it is in the pool, if it is one of its accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<InPool>,
}

/// An account of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InPool {
    /// No edge works for it, because somebody wants that.
    pub paused: bool,
    /// The process (`host/pid`) that works for it, if one says so.
    pub edge: Option<String>,
    /// The processes that leave it alone, because it does not start there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parked_on: Vec<String>,
}

/// A pool: edges that share accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// How many edges answer.
    pub edges: usize,
    /// For how many accounts they work at most, together.
    pub capacity: usize,
    /// How many accounts there are.
    pub accounts: usize,
    /// How many of them an edge works for.
    pub held: usize,
    /// How many are paused.
    pub paused: usize,
}

/// The messages that wait for a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerReport {
    /// Its name.
    pub name: String,
    /// Messages that no process has taken yet.
    pub lag: u64,
    /// Messages that a process has taken and not acknowledged.
    pub in_flight: u64,
    /// When the oldest of both was stored.
    pub oldest_at: Option<String>,
}

/// The dead letters of one account and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetters {
    /// The linked number's name.
    pub account: String,
    /// Why they were given up on.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The process's name in lines: `host/pid`.
pub fn name(process: &Process) -> String {
    format!("{}/{}", process.host, process.pid)
}

impl Report {
    /// The report on what was collected.
    pub fn of(seen: Seen) -> Self {
        let wants = wants(&seen);
        let accounts = seen.accounts().iter().map(|account| AccountReport::of(&seen, account)).collect();
        let dead = seen.dead.iter().map(|((account, reason), count)| DeadLetters {
            account: account.clone(),
            reason: reason.clone(),
            count: *count,
        });
        Self {
            well: wants.is_empty(),
            wants,
            accounts,
            pool: PoolReport::of(&seen),
            forwarders: seen.forwarders.as_ref().map(ConsumerReport::of),
            dead_letters: dead.collect(),
            processes: seen.processes,
        }
    }
}

impl AccountReport {
    fn of(seen: &Seen, account: &str) -> Self {
        let (link, since_ms) = link(seen, account);
        let event = seen.sessions.get(account);
        let action = match seen.active_edge(account) {
            Some((_, edge)) => edge.action.clone(),
            None => {
                event.map_or_else(String::new, |event| code(event.action().as_str_name(), "SESSION_ACTION_"))
            }
        };
        let lease = seen.leases.get(account).filter(|(holder, _)| !holder.is_empty());
        Self {
            account: account.to_owned(),
            link,
            since: since_ms.map(rfc3339_ms),
            action,
            live: seen.active_edge(account).is_some(),
            lease: lease.map(|(holder, _)| holder.clone()),
            lease_renewed_at: lease.map(|(_, renewed_ms)| rfc3339_ms(*renewed_ms)),
            consumer: seen.edges.get(account).map(ConsumerReport::of),
            pool: InPool::of(seen, account),
        }
    }
}

impl InPool {
    fn of(seen: &Seen, account: &str) -> Option<Self> {
        let entry = seen.pool.as_ref()?.get(account)?;
        let parks = |process: &&Process| {
            process.pool.iter().flat_map(|pool| &pool.parked).any(|parked| parked == account)
        };
        Some(Self {
            paused: entry.as_ref().is_some_and(|entry| entry.paused),
            edge: seen.active_edge(account).map(|(process, _)| name(process)),
            parked_on: seen.processes.iter().filter(parks).map(name).collect(),
        })
    }
}

impl PoolReport {
    fn of(seen: &Seen) -> Option<Self> {
        let pool = seen.pool.as_ref()?;
        let edges = seen.processes.iter().filter_map(|process| process.pool.as_ref());
        let is_paused = |entry: &&Option<Entry>| entry.as_ref().is_some_and(|entry| entry.paused);
        Some(Self {
            edges: edges.clone().count(),
            capacity: edges.map(|edge| edge.capacity).sum(),
            accounts: pool.len(),
            held: pool.keys().filter(|account| seen.active_edge(account).is_some()).count(),
            paused: pool.values().filter(is_paused).count(),
        })
    }
}

impl ConsumerReport {
    fn of(consumer: &Consumer) -> Self {
        let Consumer { name, lag, in_flight, oldest_ms } = consumer.clone();
        Self { name, lag, in_flight, oldest_at: oldest_ms.map(rfc3339_ms) }
    }
}

/// The state of the link, and since when if that is known.
fn link(seen: &Seen, account: &str) -> (String, Option<i64>) {
    // An event about a chat repeats the state, but its time is its own.
    let event = seen.sessions.get(account);
    let of_link = event.filter(|event| event.chat.is_empty());
    match seen.active_edge(account) {
        Some((_, edge)) => {
            let since = of_link.filter(|event| event.code == edge.state).map(|event| event.at_ms);
            (edge.state.clone(), since)
        }
        None => match (of_link, event) {
            (Some(event), _) => (event.code.clone(), Some(event.at_ms)),
            (None, Some(event)) => (code(event.state().as_str_name(), "SESSION_STATE_"), None),
            (None, None) => ("unknown".to_owned(), None),
        },
    }
}

/// Is it longer ago than this?
fn is_older(seen: &Seen, ms: i64, than: Duration) -> bool {
    u128::try_from(seen.now_ms - ms).is_ok_and(|age| age > than.as_millis())
}

/// What an edge says of the link, in words.
fn detail(seen: &Seen, (process, edge): (&Process, &EdgeSide)) -> String {
    if seen.is_in_pool(&edge.account) {
        return edge.detail.clone();
    }
    let reason = process.reasons.iter().find(|reason| reason.part == "whatsapp");
    reason.map(|reason| reason.detail.clone()).unwrap_or_default()
}

/// What an account needs a person for: a code and words.
fn of_account(seen: &Seen, account: &str) -> Option<(String, String)> {
    let Some((process, edge)) = seen.active_edge(account) else { return without_an_edge(seen, account) };
    let detail = detail(seen, (process, edge));
    match (edge.state.as_str(), edge.action.as_str()) {
        ("online" | "stopped", _) => None,
        ("banned", _) => Some(("banned".to_owned(), detail)),
        (_, "none" | "wait") => {
            let (_, since) = link(seen, account);
            let is_long = since.is_none_or(|since| is_older(seen, since, COMES_BACK));
            let say = format!("{detail} That takes too long: read the edge's log.");
            is_long.then(|| ("not-online".to_owned(), say))
        }
        (_, action) => Some((action.to_owned(), detail)),
    }
}

fn without_an_edge(seen: &Seen, account: &str) -> Option<(String, String)> {
    let say = match InPool::of(seen, account) {
        None => "No edge answers for this number: start one.".to_owned(),
        Some(InPool { paused: true, .. }) => return None,
        Some(InPool { parked_on, .. }) if !parked_on.is_empty() => {
            let say = format!(
                "It does not start on {}: read the log there. It is tried again after ten minutes, or as soon as its entry \
                 is changed: `whatsapp-connector accounts pause {account}`, then `accounts resume {account}`.",
                parked_on.join(", ")
            );
            return Some(("parked".to_owned(), say));
        }
        // An edge that has just died had it.
        Some(_) => {
            let lease = seen.leases.get(account);
            if lease.is_some_and(|(_, at)| !is_older(seen, *at, NOBODYS)) {
                return None;
            }
            "No edge of the pool has it: start one more, or raise EDGE_CAPACITY.".to_owned()
        }
    };
    Some(("no-edge".to_owned(), say))
}

/// Everything that needs a person. docs/operations.md has the list.
fn wants(seen: &Seen) -> Vec<Want> {
    let mut wants = Vec::new();
    let mut want = |about: &str, code: &str, say: String| {
        wants.push(Want { about: about.to_owned(), code: code.to_owned(), say });
    };
    for what in &seen.unanswered {
        want(
            "bus",
            "unanswered",
            format!("{what}. Check the streams and this user's permissions: docs/nats.md."),
        );
    }
    for account in seen.accounts() {
        if let Some((code, say)) = of_account(seen, &account) {
            want(&account, &code, say);
        }
        if seen.pool.as_ref().and_then(|pool| pool.get(&account)).is_some_and(Option::is_none) {
            let say =
                format!("Its entry cannot be read: `whatsapp-connector accounts add {account}` mends it.");
            want(&account, "bad-entry", say);
        }
    }
    if !seen.processes.iter().any(|process| process.forwarder.is_some() || process.role == "forwarder") {
        want("forwarder", "no-forwarder", "No forwarder answers: start one.".to_owned());
    }
    for process in &seen.processes {
        for reason in &process.reasons {
            // Other reasons are the link's, which is judged above, or end in a moment.
            if ["bus", "backend"].contains(&reason.part.as_str()) {
                want(&name(process), &format!("{}/{}", reason.part, reason.code), reason.detail.clone());
            }
        }
    }
    let has_said = |process: &&Process| process.reasons.iter().any(|reason| reason.part == "backend");
    for process in seen.processes.iter().filter(|process| !has_said(process)) {
        for held in process.forwarder.iter().flat_map(|forwarder| &forwarder.routes) {
            let about = format!("{}, route {}", name(process), held.route);
            want(&about, &format!("backend/{}", held.hold), held.detail.clone());
        }
    }
    for consumer in seen.forwarders.iter().chain(seen.edges.values()) {
        if consumer.oldest_ms.is_some_and(|oldest| is_older(seen, oldest, WAITS)) {
            let say = "A message has waited for more than 15 minutes: read the logs.".to_owned();
            want(&consumer.name, "waiting", say);
        }
    }
    let dead: u64 = seen.dead.values().sum();
    if dead > 0 {
        let were = if dead == 1 { "message was" } else { "messages were" };
        let say = format!("{dead} {were} given up on: `whatsapp-connector dlq list` shows why.");
        want("dead letters", "dead-letters", say);
    }
    wants
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
