//! How long anything may wait: what is promised of time, where the fault that made it wait is known.
//!
//! In a round of everything it is not: several faults are at work at once. So each goal is looked at in
//! rounds of its own. What the machine itself stalled meanwhile is added to what is allowed.

use std::fmt;

use serde::Serialize;

use crate::conduct::Traces;
use crate::legs::{Leg, Way, legs, ready};
use crate::plan::{ACK_WAIT, Deed, LEADER_LOSS, Menu, Who};
use crate::support::heart;

/// After a forwarder's kill -9, beyond the ack wait.
const AFTER_ACK_WAIT_S: f64 = 2.0;
/// Nobody waits longer than this for a process that comes or goes by SIGTERM, or that had nothing to do
/// with the message.
const AT_ONCE_S: f64 = 0.25;
/// A leg that takes longer than this does not flow.
const FLOWS_S: f64 = 1.0;
/// A redelivery may be this early, as clocks are read.
const EARLY_S: f64 = 0.5;

/// A goal, and how near to it a round came.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What it says.
    pub name: &'static str,
    /// How long it may take, in seconds, without the machine's own stalls.
    pub limit_s: f64,
    /// How often it was looked at.
    pub checked: usize,
    /// The longest time, less the machine's stalls meanwhile.
    pub worst: Option<Wait>,
    /// What took longer.
    #[serde(skip)]
    pub missed: Vec<String>,
}

/// How long something took.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Wait {
    /// In all, in seconds.
    pub took_s: f64,
    /// For how many of these the machine stood still.
    pub stalled_s: f64,
}

impl Wait {
    fn own(self) -> f64 {
        self.took_s - self.stalled_s
    }
}

impl Goal {
    fn new(name: &'static str, limit_s: f64) -> Self {
        Self { name, limit_s, checked: 0, worst: None, missed: Vec::new() }
    }

    fn check(&mut self, traces: &Traces, id: &str, (from, to): (f64, f64), took_s: f64) {
        let wait = Wait { took_s, stalled_s: heart::stalled(&traces.stalls, from, to).min(took_s) };
        self.checked += 1;
        if wait.own() > self.limit_s {
            let Wait { took_s, stalled_s } = wait;
            self.missed.push(format!(
                "goal missed: {}: {id} took {took_s:.3} s from {from:.3}, of these the machine stood still \
                 for {stalled_s:.3} s; allowed {:.2} s",
                self.name, self.limit_s
            ));
        }
        self.add(wait);
    }

    fn add(&mut self, wait: Wait) {
        if self.worst.is_none_or(|worst| worst.own() < wait.own()) {
            self.worst = Some(wait);
        }
    }

    /// The same goal, in another round.
    pub fn merge(&mut self, other: &Self) {
        self.checked += other.checked;
        if let Some(worst) = other.worst {
            self.add(worst);
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} looked at", self.name, self.checked)?;
        if let Some(Wait { took_s, stalled_s }) = self.worst {
            write!(f, ", worst {took_s:.2} s (machine stalled {stalled_s:.2} s) of {:.2} s", self.limit_s)?;
        }
        Ok(())
    }
}

/// The goals that a round of this kind can tell something of.
pub fn goals(traces: &Traces) -> Vec<Goal> {
    match traces.menu {
        Menu::Kills => after_a_kill(traces),
        Menu::Scale => vec![coming_and_going(traces)],
        Menu::Bus if traces.cluster => vec![after_a_leader(traces)],
        _ => Vec::new(),
    }
}

/// Only what the killed forwarder held waits, and not for long.
fn after_a_kill(traces: &Traces) -> Vec<Goal> {
    let limit = ACK_WAIT.as_secs_f64() + AFTER_ACK_WAIT_S;
    let mut held = Goal::new("held by a killed forwarder", limit);
    let mut others = Goal::new("not held by a killed forwarder", AT_ONCE_S);
    let ready = ready(traces);
    for message in &traces.evidence.messages {
        let id = message.inbound().message_id;
        let (Some(&ready), Some(outcome)) = (ready.get(&message.sequence), traces.outcome_of(message)) else {
            continue;
        };
        let calls: Vec<f64> =
            traces.asked.iter().filter(|asked| asked.message_id == id).map(|asked| asked.at).collect();
        let losses = losses(traces, message.sequence);
        for (number, &lost) in losses.iter().enumerate() {
            let resumed = calls.iter().copied().find(|at| *at > lost).unwrap_or(f64::INFINITY);
            let resumed = if outcome.stored_at > lost { resumed.min(outcome.stored_at) } else { continue };
            if losses.get(number + 1).is_none_or(|next| resumed < *next) {
                let from = lost.max(ready);
                held.check(traces, &id, (from, resumed), resumed - from);
            }
        }
        let first = calls.first().copied().filter(|_| losses.is_empty());
        if let Some(first) = first.filter(|first| somebody_was_there(traces, ready, *first)) {
            others.check(traces, &id, (ready, first), first - ready);
        }
    }
    vec![held, others]
}

/// When this message was in the hand of a forwarder that died.
fn losses(traces: &Traces, sequence: u64) -> Vec<f64> {
    let kills: Vec<f64> = traces
        .blows
        .iter()
        .filter(|blow| matches!(blow.deed, Deed::Kill(Who::Forwarder(_))))
        .map(|blow| blow.at)
        .collect();
    let last_kill = |from: f64, to: f64| kills.iter().copied().rfind(|at| (from..=to).contains(at));
    let ack_wait = ACK_WAIT.as_secs_f64();
    let mut losses = Vec::new();
    let mut before: Option<&crate::hands::Hand> = None;
    for hand in traces.hands.iter().filter(|hand| hand.sequence == sequence) {
        match before {
            Some(before) if before.delivered + 1 == hand.delivered => {
                // Its holder was last heard of then, and is heard of three times in an ack wait.
                let to = before.last + ack_wait / 3.0;
                let to = to + heart::stalled(&traces.stalls, before.last, to + 1.0);
                losses.push(last_kill(before.last, to).unwrap_or(before.last));
            }
            // Lost on its way into a process that had just died, or before that said anything.
            _ if hand.delivered > 1 => losses.extend(last_kill(0.0, hand.first - ack_wait + EARLY_S)),
            _ => {}
        }
        before = Some(hand);
    }
    losses
}

/// One forwarder was at work all this time.
fn somebody_was_there(traces: &Traces, from: f64, to: f64) -> bool {
    traces.lives.iter().any(|life| life.from <= from && to < life.to)
}

/// Processes that come and go by SIGTERM delay nothing.
fn coming_and_going(traces: &Traces) -> Goal {
    let mut goal = Goal::new("while forwarders come and go", AT_ONCE_S);
    for leg in legs(traces).iter().filter(|leg| leg.way == Way::Turn) {
        goal.check(traces, &leg.id, (leg.from, leg.to), leg.took());
    }
    goal
}

/// Of the losses that no other follows too soon: when the last leg that did not flow was at its end.
fn after_a_leader(traces: &Traces) -> Goal {
    let limit = LEADER_LOSS.as_secs_f64();
    let mut goal = Goal::new("after the loss of a stream's leader", limit);
    let losses = traces.blows.iter().filter(|blow| matches!(blow.deed, Deed::KillBus | Deed::FreezeBus));
    let losses: Vec<f64> = losses.map(|blow| blow.at).collect();
    let legs = legs(traces);
    for (number, &lost) in losses.iter().enumerate() {
        if losses.get(number + 1).is_some_and(|next| next - lost < limit) {
            continue;
        }
        let halted = |leg: &&Leg| {
            let in_the_air = leg.from <= lost && lost < leg.to;
            in_the_air || ((lost..lost + limit).contains(&leg.from) && leg.took() > FLOWS_S)
        };
        if let Some(last) = legs.iter().filter(halted).max_by(|one, other| one.to.total_cmp(&other.to)) {
            let what = format!("{:?} of {}", last.way, last.id);
            goal.check(traces, &what, (lost, last.to), last.to - lost);
        }
    }
    goal
}
