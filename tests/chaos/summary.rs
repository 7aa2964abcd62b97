//! All rounds in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::goals::Goal;
use crate::report::{Percentiles, Recovery, Report};

/// What the rounds came to.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// How many were played.
    pub rounds: usize,
    /// How many of them side by side.
    pub jobs: usize,
    /// The seeds of those with a broken promise, or that failed themselves.
    pub broken: Vec<u64>,
    /// The control was seen to fail, as it must.
    pub control: bool,
    /// In all, in seconds, without the control.
    pub wall_s: f64,
    /// How many messages were written.
    pub messages: usize,
    /// How many of them were there before their predecessor's outcome.
    pub chances_to_overtake: usize,
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
    /// From a message's turn to its first call, in milliseconds, over all messages.
    pub ready_to_call_ms: Percentiles,
    /// The slowest of all, and its seed.
    pub slowest_recovery: Option<(u64, Recovery)>,
    /// The goals, over all rounds.
    pub goals: Vec<Goal>,
}

impl Summary {
    /// Of these seeds; a round that itself failed has no report.
    pub fn new(jobs: usize, played: &[(u64, Option<Report>)], control: bool, wall: Duration) -> Self {
        let kept = |report: &Option<Report>| report.as_ref().is_some_and(|one| one.violations.is_empty());
        let mut broken: Vec<u64> =
            played.iter().filter(|(_, report)| !kept(report)).map(|(seed, _)| *seed).collect();
        broken.sort_unstable();
        let reports: Vec<&Report> = played.iter().filter_map(|(_, report)| report.as_ref()).collect();
        let sum = |of: fn(&Report) -> usize| reports.iter().map(|report| of(report)).sum();
        let mut faults = BTreeMap::new();
        for (name, count) in reports.iter().flat_map(|report| &report.faults) {
            *faults.entry(name.clone()).or_default() += count;
        }
        let mut goals: Vec<Goal> = Vec::new();
        for goal in reports.iter().flat_map(|report| &report.goals) {
            match goals.iter_mut().find(|known| known.name == goal.name) {
                Some(known) => known.merge(goal),
                None => goals.push(goal.clone()),
            }
        }
        let recoveries = reports.iter().filter_map(|one| Some((one.seed, one.slowest_recovery.clone()?)));
        Self {
            rounds: played.len(),
            jobs,
            broken,
            control,
            wall_s: wall.as_secs_f64(),
            messages: sum(|report| report.messages),
            chances_to_overtake: sum(|report| report.chances_to_overtake),
            faults,
            calls: sum(|report| report.calls),
            repeated_calls: sum(|report| report.repeated_calls),
            repeated_answers: sum(|report| report.repeated_answers),
            repeated_replies: sum(|report| report.repeated_replies),
            ready_to_call_ms: Percentiles::of(
                reports.iter().flat_map(|report| report.ready_to_call.iter().copied()).collect(),
            ),
            slowest_recovery: recoveries.max_by(|(_, one), (_, other)| one.seconds.total_cmp(&other.seconds)),
            goals,
        }
    }

    /// Every promise in every round, and the judge is not blind.
    pub fn kept(&self) -> bool {
        self.broken.is_empty() && self.control
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = self.broken.len();
        writeln!(
            f,
            "{} rounds, {} at a time, in {:.1} min: {} kept, {broken} broken; the control {}",
            self.rounds,
            self.jobs,
            self.wall_s / 60.0,
            self.rounds - broken,
            if self.control { "failed, as it must" } else { "DID NOT FAIL" }
        )?;
        writeln!(
            f,
            "  {} messages ({} had to wait their turn), {} calls ({} repeated, {} of them answered before), {} \
             replies repeated",
            self.messages,
            self.chances_to_overtake,
            self.calls,
            self.repeated_calls,
            self.repeated_answers,
            self.repeated_replies
        )?;
        let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "  {}", faults.join(", "))?;
        let Percentiles { p50, p99, max } = self.ready_to_call_ms;
        write!(f, "  ready to call: p50 {p50:.1} ms, p99 {p99:.0} ms, max {max:.0} ms")?;
        if let Some((seed, Recovery { fault, seconds })) = &self.slowest_recovery {
            write!(f, "; slowest recovery {seconds:.1} s ({fault}, seed {seed})")?;
        }
        for goal in &self.goals {
            write!(f, "\n  {goal}")?;
        }
        if broken > 0 {
            write!(f, "\n  broken: {:?}", self.broken)?;
        }
        Ok(())
    }
}
