//! Rounds of a pool: several edges without a disk, many accounts. `POOL=1`.

mod cast;
mod judge;
mod line;
mod plan;
mod round;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use serde::Serialize;

use judge::Wait;
use plan::Plan;
use round::Traces;

/// A round in figures.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    seed: u64,
    messages: usize,
    faults: BTreeMap<&'static str, usize>,
    /// How often an account went from one edge to another.
    moves: usize,
    /// The longest that an account was without an edge, after the last that could delay a take-over.
    longest: Wait,
    /// Messages that a phone could not read at first, and asked for again.
    undecryptable: u64,
    stalled_s: f64,
    drain_s: f64,
    wall_s: f64,
    /// Every broken promise.
    pub violations: Vec<String>,
}

impl Report {
    fn new(seed: u64, traces: &Traces, violations: Vec<String>, began: Instant) -> Self {
        let moves = traces
            .visits
            .values()
            .map(|visits| visits.windows(2).filter(|pair| pair[0].name != pair[1].name).count());
        let own = |wait: &Wait| wait.took_s - wait.stalled_s;
        let waits = judge::waits(traces).into_iter().map(|(_, _, wait)| wait);
        Self {
            seed,
            messages: traces.written.len(),
            faults: traces.done.clone(),
            moves: moves.sum(),
            longest: waits.max_by(|one, other| own(one).total_cmp(&own(other))).unwrap_or_default(),
            undecryptable: traces.undecryptable,
            stalled_s: traces.stalls.iter().map(|stall| stall.to - stall.from).sum(),
            drain_s: traces.drained.as_secs_f64(),
            wall_s: began.elapsed().as_secs_f64(),
            violations,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> =
            self.faults.iter().map(|(name, count)| format!("{count} x {name}")).collect();
        writeln!(f, "  {}", faults.join(", "))?;
        writeln!(
            f,
            "  {} messages; accounts went {} times to another edge; without one for {:.1} s at most (machine stalled \
             {:.1} s); {} messages that a phone had to ask for again",
            self.messages, self.moves, self.longest.took_s, self.longest.stalled_s, self.undecryptable
        )?;
        write!(
            f,
            "  drained in {:.1} s, {:.0} s in all; machine stalled {:.1} s; {} broken promises",
            self.drain_s,
            self.wall_s,
            self.stalled_s,
            self.violations.len()
        )
    }
}

/// Plays a round; what it came to, and where its logs are. `place` is set as soon as these are known.
pub async fn played(seed: u64, cluster: bool, place: &OnceLock<PathBuf>) -> (String, Report, PathBuf) {
    let began = Instant::now();
    let plan = Plan::draw(seed, cluster);
    let head = plan.to_string().lines().next().unwrap_or_default().to_owned();
    let ground = round::set(&plan).await;
    let dir = place.get_or_init(|| ground.stage.dir().to_owned()).clone();
    std::fs::write(dir.join("plan.txt"), plan.to_string()).expect("the plan beside the logs");
    let mut traces = round::play(&plan, ground).await;
    let mut violations = judge::violations(&mut traces);
    if violations.is_empty() {
        let unseen = judge::unseen(&traces);
        violations.extend(unseen.iter().map(|what| format!("the judge does not see {what}")));
    }
    let visits: String = traces.visits.iter().map(|(shop, visits)| format!("{shop} {visits:#?}\n")).collect();
    std::fs::write(dir.join("visits.txt"), format!("{visits}{:#?}\n", traces.lives))
        .expect("visits beside the logs");
    let report = Report::new(seed, &traces, violations, began);
    let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
    std::fs::write(dir.join("report.json"), text).expect("the report beside the logs");
    (head, report, dir)
}
