//! The suites, each a file. A suite measures one thing and puts its figures into the report.

mod burst;
pub mod control;
mod deep;
mod drain;
mod edge;
mod history;
mod idle;
mod open;
mod ordered;
mod scale;
mod session;
mod slow;
mod start;
mod telemetry;
mod whole;

pub use edge::PARTS;

use anyhow::{Context as _, Result};

use crate::bench::Bench;
use crate::report::Report;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Stored messages of 1,000 chats, a backend that answers at once; beside the peers.
    Drain,
    /// 5,000 chats at once, a backend of 2 s.
    Burst,
    /// 10,000 chats at once, a backend of 20 s.
    Slow,
    /// 200 messages a second, beside direct calls.
    Open,
    /// 8 messages of a chat in a row.
    Ordered,
    /// Few chats with many messages each.
    Deep,
    /// Much that is old in the streams.
    History,
    /// 1, 2, 4 and 8 forwarders.
    Scale,
    /// With logs and telemetry as they are shipped, and without.
    Telemetry,
    /// The edge, through the simulator.
    Edge,
    /// From the customer's stanza to the answer's.
    Whole,
    /// Until the first message is answered.
    Start,
    /// The session on the bus: commits beside SQLite's, and take-overs.
    Session,
    /// What a process takes that has nothing to do, and the binary's size.
    Idle,
}

/// All, in the order of the table.
pub const ALL: [Suite; 14] = [
    Suite::Drain,
    Suite::Ordered,
    Suite::Deep,
    Suite::Burst,
    Suite::Slow,
    Suite::Open,
    Suite::History,
    Suite::Scale,
    Suite::Telemetry,
    Suite::Edge,
    Suite::Whole,
    Suite::Start,
    Suite::Session,
    Suite::Idle,
];

impl Suite {
    /// Runs it.
    pub async fn run(self, bench: &Bench, report: &mut Report) -> Result<()> {
        let done = match self {
            Self::Drain => drain::run(bench, report).await,
            Self::Burst => burst::run(bench, report).await,
            Self::Slow => slow::run(bench, report).await,
            Self::Open => open::run(bench, report).await,
            Self::Ordered => ordered::run(bench, report).await,
            Self::Deep => deep::run(bench, report).await,
            Self::History => history::run(bench, report).await,
            Self::Scale => scale::run(bench, report).await,
            Self::Telemetry => telemetry::run(bench, report).await,
            Self::Edge => edge::run(bench, report).await,
            Self::Whole => whole::run(bench, report).await,
            Self::Start => start::run(bench, report).await,
            Self::Session => session::run(bench, report).await,
            Self::Idle => idle::run(bench, report).await,
        };
        done.with_context(|| format!("{self:?}"))
    }
}
