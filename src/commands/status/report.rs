//! What of it wants a person. Pure.

use std::time::Duration;

use serde::Serialize;

use super::collect::{Consumer, Seen};
use crate::wire::header::rfc3339_ms;
use crate::wire::kind::code;
use crate::wire::process_status::Process;

/// So long a link may be on its way back by itself.
const COMES_BACK: Duration = Duration::from_secs(5 * 60);
/// So long a message may wait.
const WAITS: Duration = Duration::from_secs(15 * 60);

/// How the system is.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Nothing wants a person.
    pub well: bool,
    /// What does.
    pub wants: Vec<Want>,
    /// The linked numbers.
    pub accounts: Vec<AccountReport>,
    /// The consumer that all forwarders share.
    pub forwarders: Option<ConsumerReport>,
    /// What was given up on.
    pub dead_letters: Vec<DeadLetters>,
    /// Who answers.
    pub processes: Vec<Process>,
}

/// Something that wants a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Want {
    /// An account, a process (`host/pid`), a consumer, or `bus`.
    pub about: String,
    /// A stable code for machines.
    pub code: String,
    /// What it is and what mends it.
    pub say: String,
}

/// One linked number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountReport {
    /// Its name.
    pub account: String,
    /// Where the link stands: a code, as session events have it.
    pub link: String,
    /// Since when, if the bus still knows.
    pub since: Option<String>,
    /// What a person has to do, as a code.
    pub action: String,
    /// Does an edge say so itself? Else it is what the bus heard last.
    pub live: bool,
    /// Which edge has the lease; nobody if `None`.
    pub lease: Option<String>,
    /// When it was renewed last.
    pub lease_renewed_at: Option<String>,
    /// What is to be sent.
    pub consumer: Option<ConsumerReport>,
}

/// What a consumer has before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerReport {
    /// Its name.
    pub name: String,
    /// How many messages nobody has taken yet.
    pub lag: u64,
    /// How many are taken and not done.
    pub in_flight: u64,
    /// When the oldest of both was stored.
    pub oldest_at: Option<String>,
}

/// Dead letters of a kind.
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
pub(super) fn name(process: &Process) -> String {
    format!("{}/{}", process.host, process.pid)
}

impl Report {
    /// Of what was seen.
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
            Some(edge) => edge.action.clone(),
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
        }
    }
}

impl ConsumerReport {
    fn of(consumer: &Consumer) -> Self {
        let Consumer { name, lag, in_flight, oldest_ms } = consumer.clone();
        Self { name, lag, in_flight, oldest_at: oldest_ms.map(rfc3339_ms) }
    }
}

/// Where the link stands, and since when if that is known.
fn link(seen: &Seen, account: &str) -> (String, Option<i64>) {
    // An event about a chat has the state as it was, and its own time.
    let event = seen.sessions.get(account);
    let of_link = event.filter(|event| event.chat.is_empty());
    match seen.active_edge(account) {
        Some(edge) => {
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

/// All that wants a person; docs/operations.md has the list.
fn wants(seen: &Seen) -> Vec<Want> {
    let mut wants = Vec::new();
    let mut want = |about: &str, code: &str, say: String| {
        wants.push(Want { about: about.to_owned(), code: code.to_owned(), say });
    };
    let older =
        |ms: i64, than: Duration| u128::try_from(seen.now_ms - ms).is_ok_and(|age| age > than.as_millis());
    for what in &seen.unanswered {
        want(
            "bus",
            "unanswered",
            format!("{what}. Check the streams, and what this user may do: docs/nats.md."),
        );
    }
    for account in seen.accounts() {
        let Some(edge) = seen.active_edge(&account) else {
            want(&account, "no-edge", "No edge answers for this number: start one.".to_owned());
            continue;
        };
        let detail = seen.processes.iter().filter(|process| process.edge.as_ref() == Some(edge));
        let detail = detail.flat_map(|process| &process.reasons).find(|reason| reason.part == "whatsapp");
        let detail = detail.map(|reason| reason.detail.clone()).unwrap_or_default();
        let (_, since) = link(seen, &account);
        match (edge.state.as_str(), edge.action.as_str()) {
            ("online" | "stopped", _) => {}
            ("banned", _) => want(&account, "banned", detail),
            (_, "none" | "wait") => {
                if since.is_none_or(|since| older(since, COMES_BACK)) {
                    want(
                        &account,
                        "not-online",
                        format!("{detail} That takes too long: look at the edge's log."),
                    );
                }
            }
            (_, action) => want(&account, action, detail),
        }
    }
    if !seen.processes.iter().any(|process| process.forwarder.is_some() || process.role == "forwarder") {
        want("forwarder", "no-forwarder", "No forwarder answers: start one.".to_owned());
    }
    for process in &seen.processes {
        for reason in &process.reasons {
            // The others are the link's, dealt with above, or over in a moment.
            if ["bus", "backend"].contains(&reason.part.as_str()) {
                want(&name(process), &format!("{}/{}", reason.part, reason.code), reason.detail.clone());
            }
        }
    }
    for consumer in seen.forwarders.iter().chain(seen.edges.values()) {
        if consumer.oldest_ms.is_some_and(|oldest| older(oldest, WAITS)) {
            let say = "A message has waited for more than 15 minutes: look at the logs.".to_owned();
            want(&consumer.name, "waiting", say);
        }
    }
    let dead: u64 = seen.dead.values().sum();
    if dead > 0 {
        let say = format!("{dead} messages were given up on: `whatsapp-connector dlq list`.");
        want("dead letters", "dead-letters", say);
    }
    wants
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
