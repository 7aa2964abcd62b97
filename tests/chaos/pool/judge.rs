//! What a pool's round says: every broken promise, one a line.

use std::collections::BTreeMap;

use super::cast::{Life, Span};
use super::plan::TERM;
use super::round::Traces;
use crate::logs;
use crate::support::heart;
use crate::support::shops::Visit;

/// An account is back so soon after the lease's term.
const BACK_S: f64 = 5.0;
/// Who was frozen or cut off does not know at once what has happened meanwhile.
const AWAKE_S: f64 = 2.0;

/// For how long an account was without an edge, after the last that could delay a take-over.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Wait {
    /// In all, in seconds.
    pub took_s: f64,
    /// For how many of these the machine stood still.
    pub stalled_s: f64,
}

/// Every broken promise.
pub fn violations(traces: &mut Traces) -> Vec<String> {
    let mut broken = traces.complaints.clone();
    for sent in traces.sent.iter().filter(|sent| sent.status == "sent") {
        broken.push(format!("{}: the phone was never told that it was delivered", sent.id));
    }
    for received in traces.evidence.inboxes.values_mut().flatten() {
        if received.altered > 0 {
            broken.push(format!("{}: copies of one id say different things", received.id));
        }
        // Copies of a reply are allowed, as long as they are copies.
        received.copies = 1;
    }
    broken.extend(traces.evidence.violations(&traces.written));
    let dead = traces.dead_letters.iter().map(|letter| letter.inbound().message_id);
    broken.extend(dead.map(|id| format!("{id}: given up on without need")));
    if traces.keys_used_twice > 0 {
        broken.push(format!("{} Signal keys were used twice", traces.keys_used_twice));
    }
    for (shop, visits) in &traces.visits {
        two_at_once(shop, visits, &traces.lives, &mut broken);
    }
    let limit = TERM.as_secs_f64() + BACK_S;
    for (shop, from, wait) in waits(traces) {
        if wait.took_s - wait.stalled_s > limit {
            broken.push(format!(
                "{shop}: no edge had it for {:.1} s from {from:.3}, of these the machine stood still for {:.1} s; \
                 allowed {limit:.0} s",
                wait.took_s, wait.stalled_s
            ));
        }
    }
    let woke_up: Vec<f64> =
        traces.lives.iter().flat_map(|life| &life.frozen).map(|(_, until)| *until).collect();
    broken.extend(logs::errors(&traces.dir).into_iter().filter(|line| !logs::found_out(line, &woke_up)));
    broken
}

/// Two edges for one account, and both at work: one of them has taken the other's connection away, or is heard after it.
fn two_at_once(shop: &str, visits: &[Visit], lives: &[Life], broken: &mut Vec<String>) {
    for (number, later) in visits.iter().enumerate() {
        for earlier in &visits[..number] {
            if earlier.last_heard > later.since {
                broken.push(format!("{shop}: two edges were heard at once: {earlier:?} {later:?}"));
            }
        }
        let Some(before) = number.checked_sub(1).map(|at| &visits[at]) else { continue };
        if before.replaced && before.name != later.name && was_at_work(before, seconds(later.since), lives) {
            broken.push(format!("{shop}: two edges had it at once: {before:?} {later:?}"));
        }
    }
}

/// A process that is frozen, or cut off from WhatsApp, cannot say goodbye.
fn was_at_work(visit: &Visit, at: f64, lives: &[Life]) -> bool {
    let life = lives.iter().find(|life| Some(&life.name) == visit.name.as_ref());
    let within = |(from, to): &Span| (*from..*to + AWAKE_S).contains(&at);
    life.is_none_or(|life| !life.frozen.iter().chain(&life.cut_off).any(within))
}

/// Each time that an account was without an edge: whose, from when it counts, and for how long.
pub fn waits(traces: &Traces) -> Vec<(String, f64, Wait)> {
    let mut waits = Vec::new();
    for (shop, visits) in &traces.visits {
        for (from, to) in gaps(visits, &traces.lives, traces.end) {
            let last = traces.blows.iter().copied().filter(|at| (from..to).contains(at)).fold(from, f64::max);
            let wait = Wait { took_s: to - last, stalled_s: heart::stalled(&traces.stalls, last, to) };
            waits.push((shop.clone(), last, wait));
        }
    }
    waits
}

/// When nobody served an account, from its first login on.
fn gaps(visits: &[Visit], lives: &[Life], end: f64) -> Vec<Span> {
    let lives: BTreeMap<&str, &Life> = lives.iter().map(|life| (life.name.as_str(), life)).collect();
    let mut served: Vec<Span> = visits.iter().flat_map(|visit| served(visit, &lives, end)).collect();
    served.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut gaps, mut until) = (Vec::new(), f64::INFINITY);
    for (from, to) in served {
        if from > until {
            gaps.push((until, from));
        }
        until = if until.is_finite() { until.max(to) } else { to };
    }
    if until < end {
        gaps.push((until, end));
    }
    gaps
}

/// When an edge was there for the account, and able to do something.
fn served(visit: &Visit, lives: &BTreeMap<&str, &Life>, end: f64) -> Vec<Span> {
    let mut last = visit.until.map_or(end, seconds);
    let mut at = seconds(visit.since);
    let mut spans = Vec::new();
    if let Some(life) = visit.name.as_deref().and_then(|name| lives.get(name)) {
        last = life.killed.map_or(last, |killed| last.min(killed));
        for (from, to) in &life.frozen {
            if *from >= at && *from < last {
                spans.push((at, *from));
                at = to.min(last);
            }
        }
    }
    if at < last {
        spans.push((at, last));
    }
    spans
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1e3
}

/// Breaks a good round's traces in one way.
type Plant = fn(&mut Traces);

const PLANTS: &[(&str, Plant)] = &[
    ("a lost message", |traces| drop(traces.evidence.messages.pop())),
    ("a doubled reply", |traces| {
        if let Some(inbox) = traces.evidence.inboxes.values_mut().find(|inbox| !inbox.is_empty()) {
            let again = inbox.last().cloned();
            inbox.extend(again);
        }
    }),
    ("a key that was used twice", |traces| traces.keys_used_twice = 1),
    ("an edge that takes another's connection away", |traces| {
        if let Some(visits) = traces.visits.values_mut().find(|visits| !visits.is_empty())
            && let Some(last) = visits.last_mut()
        {
            let since = last.last_heard + 1;
            (last.until, last.replaced) = (Some(since), true);
            let other = Visit {
                name: Some("other".to_owned()),
                since,
                last_heard: since,
                until: None,
                replaced: false,
            };
            traces.lives.retain(|life| Some(&life.name) != last.name.as_ref());
            visits.push(other);
        }
    }),
    ("two edges that are heard at once", |traces| {
        if let Some(visits) = traces.visits.values_mut().find(|visits| !visits.is_empty()) {
            let again = visits
                .last()
                .cloned()
                .map(|last| Visit { since: last.since.min(last.last_heard - 1), ..last });
            visits.extend(again);
        }
    }),
    ("an account that does not come back", |traces| {
        if let Some(visits) = traces.visits.values_mut().next() {
            visits.iter_mut().for_each(|visit| visit.until = visit.until.or(Some(visit.last_heard)));
            traces.end = traces.blows.iter().copied().fold(traces.end, f64::max) + 60.0;
        }
    }),
];

/// Is the judge blind? What is planted here and not seen.
pub fn unseen(traces: &Traces) -> Vec<&'static str> {
    let plants = PLANTS.iter().filter(|(_, plant)| {
        let mut spoilt = traces.clone();
        plant(&mut spoilt);
        violations(&mut spoilt).is_empty()
    });
    plants.map(|(what, _)| *what).collect()
}
