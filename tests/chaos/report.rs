//! A round in figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bursts;
use crate::conduct::Traces;
use crate::goals::{Goal, goals};
use crate::legs::{Way, legs, ready};
use crate::plan::{Deed, Who};

/// What a round came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The plan's.
    pub seed: u64,
    /// How many messages were written.
    pub messages: usize,
    /// How many of them were asked about with a later one.
    pub joined: usize,
    /// What was done to the system, by kind.
    pub faults: BTreeMap<String, usize>,
    /// Calls that the forwarders made.
    pub calls: usize,
    /// Calls for a message that had been asked about before.
    pub repeated_calls: usize,
    /// Those of them that the backend had answered already.
    pub repeated_answers: usize,
    /// Replies that arrived more than once, under the same id.
    pub repeated_replies: usize,
    /// How many messages were there before their predecessor's outcome: without these there is no order.
    pub chances_to_overtake: usize,
    /// From a message's turn to its first call, in milliseconds.
    pub ready_to_call_ms: Percentiles,
    /// The same, of each message.
    #[serde(skip)]
    pub ready_to_call: Vec<f64>,
    /// The slowest of what was on its way through a part when that was hit, from the hit to the end of the leg.
    pub slowest_recovery: Option<Recovery>,
    /// The goals that this kind of round can tell something of.
    pub goals: Vec<Goal>,
    /// For how long the machine itself stood still, in seconds.
    pub stalled_s: f64,
    /// From peace to the end of all work, in seconds.
    pub drain_s: f64,
    /// In all, in seconds.
    pub wall_s: f64,
    /// Every broken promise.
    pub violations: Vec<String>,
}

/// Of some times.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// The middle one.
    pub p50: f64,
    /// One in a hundred is slower.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Percentiles {
    /// In whatever order they are.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        let of = |share| at(share).copied().unwrap_or_default();
        Self { p50: of(50), p99: of(99), max: of(100) }
    }
}

/// After a hit.
#[derive(Debug, Clone, Serialize)]
pub struct Recovery {
    /// Of what.
    pub fault: String,
    /// How long.
    pub seconds: f64,
}

impl Report {
    /// Reads the figures off the traces.
    pub fn new(seed: u64, traces: &Traces, violations: Vec<String>, repeated: usize, wall: Duration) -> Self {
        let asked: BTreeSet<&str> = traces.asked.iter().map(|asked| asked.message_id.as_str()).collect();
        let calls = &traces.evidence.calls;
        let answered = calls.iter().filter(|call| call.message_id.is_some());
        let distinct: BTreeSet<_> = answered.clone().filter_map(|call| call.message_id.as_deref()).collect();
        let ready_to_call = ready_to_call(traces);
        Self {
            seed,
            messages: traces.written.len(),
            joined: bursts::joined(traces),
            faults: traces.done.clone(),
            calls: traces.asked.len(),
            repeated_calls: traces.asked.len() - asked.len(),
            repeated_answers: answered.count() - distinct.len(),
            repeated_replies: repeated,
            chances_to_overtake: traces.evidence.chances_to_overtake(),
            ready_to_call_ms: Percentiles::of(ready_to_call.clone()),
            ready_to_call,
            slowest_recovery: slowest_recovery(traces),
            goals: goals(traces),
            stalled_s: traces.stalls.iter().map(|stall| stall.to - stall.from).sum(),
            drain_s: traces.drained.as_secs_f64(),
            wall_s: wall.as_secs_f64(),
            violations,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.violations.is_empty() { "kept" } else { "BROKEN" };
        let Percentiles { p50, p99, max } = self.ready_to_call_ms;
        writeln!(
            f,
            "seed {}: {verdict}; {} messages ({} had to wait their turn, {} joined), {} calls ({} repeated, {} of them \
             answered before), {} replies repeated",
            self.seed,
            self.messages,
            self.chances_to_overtake,
            self.joined,
            self.calls,
            self.repeated_calls,
            self.repeated_answers,
            self.repeated_replies
        )?;
        let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "  {}", faults.join(", "))?;
        write!(f, "  ready to call: p50 {p50:.1} ms, p99 {p99:.0} ms, max {max:.0} ms; ")?;
        if let Some(Recovery { fault, seconds }) = &self.slowest_recovery {
            write!(f, "slowest recovery {seconds:.1} s ({fault}); ")?;
        }
        write!(
            f,
            "drain {:.1} s, {:.1} s in all, the machine stood still for {:.1} s",
            self.drain_s, self.wall_s, self.stalled_s
        )?;
        self.goals.iter().try_for_each(|goal| write!(f, "\n  {goal}"))
    }
}

/// Since when it was each message's turn.
fn ready_to_call(traces: &Traces) -> Vec<f64> {
    let mut first: BTreeMap<&str, f64> = BTreeMap::new();
    for asked in &traces.asked {
        first.entry(&asked.message_id).or_insert(asked.at);
    }
    let ready = ready(traces);
    let messages = traces.evidence.messages.iter();
    messages
        .filter_map(|message| {
            let called = first.get(message.inbound().message_id.as_str())?;
            Some((called - ready.get(&message.sequence)?).max(0.0) * 1e3)
        })
        .collect()
}

/// Of what was on its way through a part when that was hit: how long it took from then.
fn slowest_recovery(traces: &Traces) -> Option<Recovery> {
    let legs = legs(traces);
    let recovery = |deed: Deed, at: f64| {
        let through = ways(deed);
        let on_the_way =
            legs.iter().filter(|leg| through.contains(&leg.way) && leg.from <= at && at < leg.to);
        let seconds = on_the_way.map(|leg| leg.to - at).fold(0.0, f64::max);
        Some(Recovery { fault: deed.name()?, seconds })
    };
    let recoveries = traces.blows.iter().filter_map(|blow| recovery(blow.deed, blow.at));
    recoveries.max_by(|one, other| one.seconds.total_cmp(&other.seconds))
}

/// Which legs lead through what was hit.
fn ways(deed: Deed) -> &'static [Way] {
    match deed {
        Deed::KillBus | Deed::FreezeBus => &[Way::In, Way::Turn, Way::Out],
        Deed::Kill(Who::Edge) | Deed::Stop(Who::Edge) | Deed::Freeze(Who::Edge) | Deed::WhatsApp(..) => {
            &[Way::In, Way::Out]
        }
        Deed::Kill(_) | Deed::Stop(_) | Deed::Freeze(_) => &[Way::Turn],
        Deed::KillBackend | Deed::FreezeBackend | Deed::Break(_) => &[Way::Turn],
        Deed::Thaw(_) | Deed::Start(_) | Deed::StartBus | Deed::StartBackend | Deed::Mend => &[],
    }
}
