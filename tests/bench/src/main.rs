//! Measures the connector beside its peers, on real parts. `make bench` runs it; docs/performance.md shows its table.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::too_many_arguments,
    reason = "walls of the product, not of what it is measured with"
)]

mod bus;
mod child;
mod contender;
mod disturb;
mod floor;
mod judge;
mod load;
mod memory_limit;
mod names;
mod run;
mod stub;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures the connector beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One drain of stored messages; prints its figures.
    One(One),
    /// The unordered loop that everything is compared with; the harness starts it.
    #[command(hide = true)]
    Floor,
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

async fn one(one: One) -> Result<()> {
    let core = if one.unpinned { child::Core::Any } else { child::Core::Measured };
    if !one.unpinned {
        child::Core::Rest.keep_this_process()?;
    }
    let starter = contender::Starter {
        connector: connector()?,
        tools: root().join(".tools"),
        peers: root().join("tests/bench/peers"),
        wrap: one.wrap.split_whitespace().map(str::to_owned).collect(),
        core,
    };
    let settings: Vec<(&str, &str)> = one.settings.iter().filter_map(|pair| pair.split_once('=')).collect();
    let contender = match one.who.as_str() {
        "floor" => contender::Contender::Floor,
        "aiohttp" => contender::Contender::Aiohttp,
        "faststream" => contender::Contender::FastStream,
        "node" => contender::Contender::Node,
        _ => contender::Contender::ours_with(&settings),
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
