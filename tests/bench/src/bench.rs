//! What the suites share: how much, on which build, and a measurement that is repeated where other work disturbed it.

use anyhow::Result;

use crate::contender::{Contender, Starter};
use crate::disturb::Disturbance;
use crate::report::Report;
use crate::run::{self, Measured, Orders};

/// How often a disturbed measurement is taken again.
const AGAIN: usize = 2;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// For the table.
    Full,
    /// A look.
    Quick,
    /// For correctness only.
    Smoke,
}

impl Size {
    /// A number for each.
    pub fn of(self, full: u32, quick: u32, smoke: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

/// One build of the connector, and how it is measured.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The build, and where things are.
    pub starter: Starter,
    /// How much.
    pub size: Size,
    /// Are there peers beside it?
    pub peers: bool,
    /// Other work on the machine is let pass.
    pub undisturbed: bool,
}

impl Bench {
    /// Has this to be done again, after it was done so often?
    pub fn again(&self, what: &str, times: usize, disturbed: Disturbance, report: &mut Report) -> bool {
        if !self.undisturbed || !disturbed.is_too_much() {
            return false;
        }
        let words = format!(
            "other work had {:.0} % of the machine, its host {:.0} %",
            disturbed.foreign * 100.0,
            disturbed.steal * 100.0
        );
        if times < AGAIN {
            say(&format!("{what}: {words}; once more"));
            return true;
        }
        report.notes.push(format!("{what} was disturbed: {words}"));
        false
    }

    /// A drain that nothing disturbed, if it can be had. Its figures are `NAME.cpu_ms` and so on.
    pub async fn drain(
        &self,
        name: &str,
        contender: &Contender,
        orders: &Orders,
        report: &mut Report,
    ) -> Result<Measured> {
        let mut times = 0;
        loop {
            let measured = run::drained(&self.starter, contender, orders).await?;
            times += 1;
            report.judged(name, measured.verdict, contender.keeps_order());
            if self.again(name, times, measured.disturbed, report) {
                continue;
            }
            measured.tell(name, report);
            return Ok(measured);
        }
    }

    /// Two contenders in balanced order, so often: `NAME.cpu` and `NAME.speed` are the first one's by the second one's.
    pub async fn pair(
        &self,
        name: &str,
        pair: [(&str, &Contender); 2],
        orders: &Orders,
        blocks: u32,
        report: &mut Report,
    ) -> Result<()> {
        for _ in 0..blocks {
            let (mut cpu, mut speed) = ([0.0; 2], [0.0; 2]);
            for index in [0, 1, 1, 0] {
                let (suffix, contender) = pair[index];
                let one = format!("{name}.{suffix}");
                let measured = self.drain(&one, contender, orders, report).await?;
                cpu[index] += measured.cpu_ms;
                speed[index] += measured.per_second;
            }
            report.add(&format!("{name}.cpu"), cpu[0] / cpu[1]);
            report.add(&format!("{name}.speed"), speed[0] / speed[1]);
        }
        Ok(())
    }
}

impl Measured {
    /// Into the report, and a line for who watches.
    pub fn tell(&self, name: &str, report: &mut Report) {
        report.add(&format!("{name}.cpu_ms"), self.cpu_ms);
        report.add(&format!("{name}.per_second"), self.per_second);
        report.add(&format!("{name}.peak_mb"), self.peak_mb);
        report.add(&format!("{name}.start_s"), self.to_first_call);
        report.add(&format!("{name}.redelivered"), self.redelivered as f64);
        say(&format!(
            "{name}: {:.0} messages/s, {:.1} ms CPU per 1,000, {:.0} MB, {:.1} s",
            self.per_second, self.cpu_ms, self.peak_mb, self.seconds
        ));
    }
}

/// A line about how far it is.
pub fn say(line: &str) {
    eprintln!("bench: {line}");
}
