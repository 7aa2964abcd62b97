//! Notices other work on the machine: a measurement beside it says nothing.

use std::time::{Duration, Instant};

use crate::usage;

/// Of all processors together, how much others may have had.
const FOREIGN: f64 = 0.04;
/// How much the host may have kept for itself.
const STEAL: f64 = 0.02;
const TICK: Duration = Duration::from_millis(10);

/// What others had meanwhile, as shares of all processors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disturbance {
    /// Processes that are not ours.
    pub foreign: f64,
    /// Other machines on the same host.
    pub steal: f64,
}

impl Disturbance {
    /// Too much to believe the measurement?
    pub fn is_too_much(self) -> bool {
        self.foreign > FOREIGN || self.steal > STEAL
    }
}

/// Looks at the machine from now on.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    machine: Machine,
    own: Duration,
}

impl Watch {
    /// Begins.
    pub fn begin() -> Self {
        Self { began: Instant::now(), machine: Machine::now(), own: usage::cpu(std::process::id()) }
    }

    /// What happened since.
    pub fn end(&self) -> Disturbance {
        let now = Machine::now();
        let own = usage::cpu(std::process::id()).saturating_sub(self.own);
        let processors = std::thread::available_parallelism().map_or(1, usize::from).max(now.processors);
        let all = self.began.elapsed().as_secs_f64().max(0.01) * processors as f64;
        let busy = now.busy.saturating_sub(self.machine.busy);
        Disturbance {
            foreign: busy.saturating_sub(own).as_secs_f64() / all,
            steal: now.steal.saturating_sub(self.machine.steal).as_secs_f64() / all,
        }
    }
}

#[derive(Debug)]
struct Machine {
    busy: Duration,
    steal: Duration,
    processors: usize,
}

impl Machine {
    fn now() -> Self {
        Self::read(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// `cpu user nice system idle iowait irq softirq steal`, and a line for each processor.
    fn read(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u32> = first.split_whitespace().skip(1).filter_map(|tick| tick.parse().ok()).collect();
        let of = |index: usize| TICK * ticks.get(index).copied().unwrap_or(0);
        let processors = stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
        Self { busy: of(0) + of(1) + of(2) + of(5) + of(6), steal: of(7), processors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_time_is_read_without_what_it_idled() {
        let machine = Machine::read("cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1\ncpu1 1\nintr 5\n");
        assert_eq!(machine.busy, TICK * 163);
        assert_eq!((machine.steal, machine.processors), (TICK * 8, 2));
    }

    #[test]
    fn other_work_is_too_much_from_a_share_on() {
        assert!(!Disturbance { foreign: 0.03, steal: 0.01 }.is_too_much());
        assert!(Disturbance { foreign: 0.05, steal: 0.0 }.is_too_much());
        assert!(Disturbance { foreign: 0.0, steal: 0.03 }.is_too_much());
    }
}
