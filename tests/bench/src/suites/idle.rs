//! What a forwarder and a linked edge take that have seen 1,000 chats and have nothing to do; and how large the binary is.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, say};
use crate::report::Report;
use crate::usage;
use crate::world::World;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut world = World::set(&bench.starter, 1).await?;
    world.customers(bench.size.of(1_000, 300, 10), false).await?;
    let quiet = Duration::from_secs(u64::from(bench.size.of(5, 3, 1)));
    let time = Duration::from_secs(u64::from(bench.size.of(40, 15, 1)));
    tokio::time::sleep(quiet).await;
    let forwarder = world.forwarders.first().context("a forwarder")?.pid();
    let pids = [("forwarder", forwarder), ("edge", world.edge()?.pid())];
    let before = pids.map(|(_, pid)| usage::cpu_fine(pid));
    tokio::time::sleep(time).await;
    for ((name, pid), before) in pids.into_iter().zip(before) {
        let used = usage::cpu_fine(pid).saturating_sub(before);
        let percent = used.as_secs_f64() * 100.0 / time.as_secs_f64();
        report.add(&format!("idle.{name}_mb"), usage::memory_mb(pid));
        report.add(&format!("idle.{name}_cpu_percent"), percent);
        say(&format!("idle: {name} {:.1} MB, {percent:.3} % of a core", usage::memory_mb(pid)));
    }
    let size = std::fs::metadata(&bench.starter.connector)?.len();
    report.add("binary_mb", size as f64 / 1e6);
    Ok(())
}
