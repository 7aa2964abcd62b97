//! Measures the connector beside its peers, on real parts. `make bench` runs it; docs/performance.md shows its table.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::too_many_arguments,
    reason = "walls of the product, not of what it is measured with"
)]

mod bench;
mod bus;
mod chart;
mod child;
mod compare;
mod contender;
mod disturb;
mod floor;
mod judge;
mod load;
mod memory_limit;
mod names;
mod page;
mod report;
mod run;
mod stub;
mod suites;
mod support;
mod table;
mod usage;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use bench::{Bench, Size, say};
use child::Core;
use contender::{Contender, Starter};
use report::Report;
use suites::Suite;

/// Measures the connector beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The suites; prints the table.
    Run(Run),
    /// One drain of stored messages; prints its figures.
    One(One),
    /// The unordered loop that everything is compared with; the harness starts it.
    #[command(hide = true)]
    Floor,
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Which; all of them if none is named.
    #[arg(value_delimiter = ',')]
    suites: Vec<Suite>,
    /// Smaller: a look, no table for the docs.
    #[arg(long)]
    quick: bool,
    /// Tiny, on any build: judged for correctness only. Fails if anything is lost, doubled or out of order.
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Beside the build that has this binary, in balanced order; without peers.
    #[arg(long)]
    base: Option<PathBuf>,
    /// Measurements that other work disturbed count as well.
    #[arg(long)]
    disturbed: bool,
    /// Writes all figures into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Rewrites the table and the chart in this directory.
    #[arg(long)]
    docs: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct One {
    /// How many chats.
    #[arg(long, default_value_t = 1_000)]
    chats: u32,
    /// How many messages each.
    #[arg(long, default_value_t = 20)]
    messages: u32,
    /// So many of a chat in a row.
    #[arg(long, default_value_t = 1)]
    rows: u32,
    /// How long the backend takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    backend_ms: u64,
    /// How many forwarders.
    #[arg(long, default_value_t = 1)]
    forwarders: usize,
    /// A memory limit for them, in MiB.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Whose: `ours`, `floor`, `aiohttp`, `faststream`, `node`.
    #[arg(long, default_value = "ours")]
    who: String,
    /// A setting of ours, NAME=VALUE; may be given several times.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// Not kept to a processor.
    #[arg(long)]
    unpinned: bool,
    /// A profiler and its arguments, in front of what is measured.
    #[arg(long, default_value = "")]
    wrap: String,
    /// How often.
    #[arg(long, default_value_t = 1)]
    times: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Floor => runtime(true, floor::run()),
        Command::One(one) => runtime(false, self::one(one)),
        Command::Run(run) => runtime(false, unless_ended(self::run(run))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The harness has one processor, and the floor what everybody's program has.
fn runtime(many: bool, work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut builder = match many {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()?.block_on(work)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `CONNECTOR_BIN`, else the binary beside this one.
fn connector() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("CONNECTOR_BIN") {
        return Ok(std::fs::canonicalize(named)?);
    }
    Ok(std::env::current_exe()?.with_file_name("whatsapp-connector"))
}

/// Ctrl-C and SIGTERM end all that was started.
async fn unless_ended(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("ended"),
        _ = term.recv() => bail!("ended"),
    }
}

fn starter(connector: PathBuf, core: Core) -> Starter {
    let (tools, peers) = (root().join(".tools"), root().join("tests/bench/peers"));
    Starter { connector, tools, peers, wrap: Vec::new(), core }
}

async fn run(run: Run) -> Result<()> {
    let size = match (run.quick, run.smoke) {
        (_, true) => Size::Smoke,
        (true, false) => Size::Quick,
        (false, false) => Size::Full,
    };
    let core = if run.smoke { Core::Any } else { Core::Measured };
    if !run.smoke {
        Core::Rest.keep_this_process()?;
    }
    let bench = |connector: PathBuf, peers: bool| {
        let undisturbed = !run.disturbed && !run.smoke;
        Bench { starter: starter(connector, core), size, peers, undisturbed }
    };
    let suites = if run.suites.is_empty() { suites::ALL.to_vec() } else { run.suites.clone() };
    if let Some(base) = &run.base {
        let base = bench(std::fs::canonicalize(base)?, false);
        let both = compare::run(&base, &bench(connector()?, false), &suites).await?;
        println!("{}", compare::render(&both));
        let [base, this] = both;
        if let Some(path) = &run.json {
            let json = serde_json::json!({"base": base.json(), "this": this.json()});
            std::fs::write(path, json.to_string())?;
        }
        return finish(&this);
    }
    let bench = bench(connector()?, true);
    let mut report = Report::default();
    for suite in suites {
        say(&format!("{suite:?}"));
        if let Err(error) = suite.run(&bench, &mut report).await {
            say(&format!("failed: {error:#}"));
            report.problems.push(format!("{error:#}"));
        }
    }
    if run.smoke {
        suites::control::run(&bench, &mut report).await.context("the control")?;
    }
    println!("{}", page::render(&report, &page::machine()));
    if let Some(path) = &run.json {
        std::fs::write(path, report.json().to_string()).with_context(|| path.display().to_string())?;
    }
    if let Some(docs) = &run.docs {
        page::write(docs, &report)?;
    }
    finish(&report)
}

fn finish(report: &Report) -> Result<()> {
    if report.problems.is_empty() {
        say("nothing lost, nothing doubled, every chat in order");
        return Ok(());
    }
    bail!("{}", report.problems.join("\n"))
}

async fn one(one: One) -> Result<()> {
    let core = if one.unpinned { Core::Any } else { Core::Measured };
    if !one.unpinned {
        Core::Rest.keep_this_process()?;
    }
    let wrap = one.wrap.split_whitespace().map(str::to_owned).collect();
    let starter = Starter { wrap, ..starter(connector()?, core) };
    let settings: Vec<(&str, &str)> = one.settings.iter().filter_map(|pair| pair.split_once('=')).collect();
    let contender = match one.who.as_str() {
        "floor" => Contender::Floor,
        "aiohttp" => Contender::Aiohttp,
        "faststream" => Contender::FastStream,
        "node" => Contender::Node,
        _ => Contender::ours_with(&settings),
    };
    let orders = run::Orders {
        chats: one.chats,
        each: one.messages,
        pattern: load::Pattern::InRows(one.rows),
        backend: Duration::from_millis(one.backend_ms),
        forwarders: one.forwarders,
        memory: one.memory_mib.map(|mib| mib << 20),
    };
    for _ in 0..one.times {
        let measured = run::drained(&starter, &contender, &orders).await?;
        println!(
            "{}: {:.0} messages/s, {:.1} ms CPU per 1,000, peak {:.1} MB, {:.2} s, start to first call {:.2} s, \
             {} redelivered, round trip {:.2} ms, {:?}, foreign {:.2}, steal {:.2}",
            contender.name(),
            measured.per_second,
            measured.cpu_ms,
            measured.peak_mb,
            measured.seconds,
            measured.to_first_call,
            measured.redelivered,
            measured.round_trip.as_secs_f64() * 1e3,
            measured.verdict,
            measured.disturbed.foreign,
            measured.disturbed.steal,
        );
    }
    Ok(())
}
