//! The promises under fire: real parts, broken in every way that a seed draws, and every message accounted
//! for at the end.
//!
//! `make chaos` plays whole rounds; `cargo test` a short one, and the control that shows that the judge is
//! not blind. What is promised is in `docs/delivery.md`.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "walls of the product, not of its tests"
)]

mod beside;
mod bursts;
mod cast;
mod cluster;
mod conduct;
mod goals;
mod hands;
mod judge;
mod legs;
mod letters;
mod logs;
mod plan;
mod planted;
mod pool;
mod proxy;
mod random;
mod report;
mod services;
mod summary;
#[path = "../support/mod.rs"]
mod support;
mod taken;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use plan::{Menu, Plan};
use report::Report;
use summary::Summary;
use support::heart;
use tokio::runtime::Handle;

/// What is to be done; from the environment.
#[derive(Debug, Clone, Copy)]
struct Orders {
    /// `SEED`: the first; 1 without.
    seed: u64,
    /// `SEEDS`: how many; 1 if a seed is named, 5 otherwise.
    seeds: u64,
    /// `JOBS`: how many of them side by side; 1 without.
    jobs: usize,
    /// `ROUND`: seconds.
    round: Duration,
    /// `FAULTS`: which.
    menu: Menu,
    /// `POOL=1`: rounds of a pool, which have faults of their own.
    pool: bool,
    /// `CLUSTER=1`: on three nodes.
    cluster: bool,
    /// `KEEP=1`: the logs of good rounds stay as well.
    keep: bool,
    /// `JSON=1`: a line of JSON per round, and one for all of them.
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|one| !one.starts_with('-')).collect();
    tokio::spawn(heart::beat());
    let kept = match named.as_slice() {
        ["rounds"] => match orders() {
            orders if orders.pool => pool_rounds(&orders).await,
            orders => rounds(&orders).await,
        },
        // `cargo test NAME` asks every test program for tests of that name.
        [] | ["chaos"] => a_short_round().await,
        _ => return ExitCode::SUCCESS,
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn orders() -> Orders {
    let number = |name: &str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{name}={value}: it takes a whole number")))
    };
    let menu = match std::env::var("FAULTS").as_deref() {
        Ok("scale") => Menu::Scale,
        Ok("kills") => Menu::Kills,
        Ok("bus") => Menu::Bus,
        Ok("edge") => Menu::Edge,
        Ok("whatsapp") => Menu::WhatsApp,
        Ok("backend") => Menu::Backend,
        Ok("" | "all") | Err(_) => Menu::All,
        Ok(other) => {
            panic!("FAULTS={other}: it takes all, backend, bus, edge, kills, scale or whatsapp")
        }
    };
    Orders {
        seed: number("SEED").unwrap_or(1),
        seeds: number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { 5 }),
        jobs: number("JOBS").and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(1).max(1),
        round: Duration::from_secs(number("ROUND").unwrap_or(30)),
        menu,
        pool: number("POOL").is_some_and(|on| on > 0),
        cluster: number("CLUSTER").is_some_and(|on| on > 0),
        keep: number("KEEP").is_some_and(|on| on > 0),
        json: number("JSON").is_some_and(|on| on > 0),
    }
}

/// The control, all seeds, and what they came to.
async fn rounds(orders: &Orders) -> bool {
    let control = control(orders.json).await;
    let began = Instant::now();
    let seeds = futures::stream::iter(orders.seed..orders.seed + orders.seeds);
    let played = seeds.map(|seed| round(seed, *orders)).buffer_unordered(orders.jobs);
    let played: Vec<(u64, Option<Report>)> = played.collect().await;
    let summary = Summary::new(orders.jobs, &played, control, began.elapsed());
    if orders.json {
        println!("{}", json(&summary));
    } else {
        println!("{summary}");
    }
    summary.kept()
}

/// All seeds of a pool's rounds.
async fn pool_rounds(orders: &Orders) -> bool {
    let began = Instant::now();
    let seeds = futures::stream::iter(orders.seed..orders.seed + orders.seeds);
    let played = seeds.map(|seed| pool_round(seed, *orders)).buffer_unordered(orders.jobs);
    let played: Vec<(u64, bool)> = played.collect().await;
    let mut broken: Vec<u64> = played.iter().filter(|(_, kept)| !kept).map(|(seed, _)| *seed).collect();
    broken.sort_unstable();
    if !orders.json {
        let (count, wall) = (played.len(), began.elapsed().as_secs());
        println!("pool: {count} rounds in {wall} s, {} of them broken: {broken:?}", broken.len());
    }
    broken.is_empty()
}

/// As with a round of one account: on a thread of its own. Returns whether all promises were kept.
async fn pool_round(seed: u64, orders: Orders) -> (u64, bool) {
    let handle = Handle::current();
    let played = tokio::task::spawn_blocking(move || {
        handle.block_on(async {
            let place = OnceLock::new();
            let round = AssertUnwindSafe(pool::played(seed, orders.cluster, &place)).catch_unwind().await;
            let (head, report, dir) = match round {
                Ok(played) => played,
                Err(panic) => {
                    eprintln!("seed {seed}: the round itself failed: {}", reason(&*panic, place.get()));
                    return false;
                }
            };
            println!("{}", if orders.json { json(&report) } else { format!("{head}\n{report}") });
            let is_kept = report.violations.is_empty();
            if is_kept && !orders.keep {
                let _ = std::fs::remove_dir_all(dir);
            } else {
                tell_broken(seed, &report.violations, &dir);
            }
            is_kept
        })
    });
    (seed, played.await.unwrap_or_default())
}

fn tell_broken(seed: u64, violations: &[String], dir: &Path) {
    let short = violations.iter().map(|line| line.chars().take(700).collect::<String>());
    let list = short.map(|line| format!("  {line}\n")).collect::<String>();
    let count = violations.len();
    eprintln!("{list}seed {seed}: {count} broken promises; plan and logs are in {}", dir.display());
}

/// What a panic said.
fn reason(panic: &(dyn Any + Send), place: Option<&PathBuf>) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    let said = said.unwrap_or_default();
    match place {
        Some(dir) => format!("{said}; plan and logs are in {}", dir.display()),
        None => said,
    }
}

async fn a_short_round() -> bool {
    println!("chaos: a short round and the control; `make chaos` plays long ones");
    let orders = Orders {
        seed: 1,
        seeds: 1,
        jobs: 1,
        round: Duration::from_secs(8),
        menu: Menu::All,
        pool: false,
        cluster: false,
        keep: false,
        json: false,
    };
    let (round, control) = tokio::join!(round(orders.seed, orders), control(false));
    control && round.1.is_some_and(|report| report.violations.is_empty())
}

/// Plays a round on a thread of its own, for what blocks there blocks no other round, and tells how it was.
/// There is no report of a round that itself failed.
async fn round(seed: u64, orders: Orders) -> (u64, Option<Report>) {
    let handle = Handle::current();
    let played = tokio::task::spawn_blocking(move || handle.block_on(whole_round(seed, orders)));
    (seed, played.await.unwrap_or_default())
}

async fn whole_round(seed: u64, orders: Orders) -> Option<Report> {
    let plan = Plan::draw(seed, orders.round, orders.menu, orders.cluster);
    let head = plan.to_string().lines().next().unwrap_or_default().to_owned();
    match played(plan, &[]).await {
        Ok((report, dir)) => {
            let shown = if orders.json { json(&report) } else { format!("{head}\n{report}") };
            // In one piece: another round may be about to tell something.
            println!("{shown}");
            if report.violations.is_empty() {
                if orders.keep {
                    eprintln!("seed {seed}: plan and logs are in {}", dir.display());
                } else {
                    let _ = std::fs::remove_dir_all(dir);
                }
                return Some(report);
            }
            tell_broken(seed, &report.violations, &dir);
            Some(report)
        }
        Err(failure) => {
            eprintln!("seed {seed}: the round itself failed: {failure}");
            None
        }
    }
}

/// The same judge on forwarders that do not check whose turn it is: it must see that.
async fn control(json: bool) -> bool {
    let plan = Plan::draw(1, Duration::from_secs(6), Menu::Scale, false);
    // With few calls at once there is little to see: the number in force begins at a part of this.
    match played(plan, &[("WITHOUT_GUARD", "chain"), ("BACKEND_CONCURRENCY", "100000")]).await {
        Ok((report, dir)) => {
            let seen = report.violations.iter().filter(|line| line.contains("out of turn")).count();
            let _ = std::fs::remove_dir_all(dir);
            if !json {
                println!(
                    "control: without the chain's check {} violations are seen, {seen} out of turn",
                    report.violations.len()
                );
            }
            if seen == 0 {
                eprintln!("control: nothing was out of turn without the check: the judge is blind");
            }
            seen > 0
        }
        Err(failure) => {
            eprintln!("control: the round itself failed: {failure}");
            false
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

/// What panics is a failed round and not the end of all.
async fn played(plan: Plan, settings: &[(&str, &str)]) -> Result<(Report, PathBuf), String> {
    let place = OnceLock::new();
    let round = async {
        let began = Instant::now();
        let ground = conduct::set(&plan, settings).await;
        let dir = place.get_or_init(|| ground.stage.dir().to_owned()).clone();
        std::fs::write(dir.join("plan.txt"), plan.to_string()).expect("the plan beside the logs");
        let mut traces = conduct::play(&plan, ground).await;
        std::fs::write(dir.join("late.txt"), legs::late(&traces)).expect("what was late beside the logs");
        let inboxes = traces.evidence.inboxes.values().flatten();
        let repeated = inboxes.filter(|received| received.copies > 1).count();
        let mut violations = judge::violations(&mut traces);
        if violations.is_empty() {
            let unseen = planted::unseen(&traces);
            violations.extend(unseen.iter().map(|what| format!("the judge does not see {what}")));
        }
        let report = Report::new(plan.seed, &traces, violations, repeated, began.elapsed());
        let text = serde_json::to_string_pretty(&report).expect("a report is JSON");
        std::fs::write(dir.join("report.json"), text).expect("the report beside the logs");
        (report, dir)
    };
    AssertUnwindSafe(round).catch_unwind().await.map_err(|panic| reason(&*panic, place.get()))
}
