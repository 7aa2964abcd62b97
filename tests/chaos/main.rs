//! The promises under fire: real parts, broken in every way that a seed draws, and every message accounted
//! for at the end.
//!
//! `make chaos` plays whole rounds; `cargo test` a short one, and the control that shows that the judge is
//! not blind. What is promised is in `docs/delivery.md`.
#![forbid(unsafe_code)]

mod cast;
mod cluster;
mod conduct;
mod judge;
mod logs;
mod plan;
mod planted;
mod proxy;
mod random;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use plan::{Menu, Plan};
use report::Report;

/// What is to be done; from the environment.
struct Orders {
    /// `SEED`: the first; 1 without.
    seed: u64,
    /// `SEEDS`: how many, one after the other; 1 if a seed is named, 5 otherwise.
    seeds: u64,
    /// `ROUND`: seconds.
    round: Duration,
    /// `FAULTS`: which.
    menu: Menu,
    /// `CLUSTER=1`: on three nodes.
    cluster: bool,
    /// `JSON=1`: a line of JSON per round.
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|one| !one.starts_with('-')).collect();
    let kept = match named.as_slice() {
        ["rounds"] => rounds(&orders()).await,
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
        Ok("short") => Menu::Short,
        Ok("" | "all") | Err(_) => Menu::All,
        Ok(other) => panic!("FAULTS={other}: it takes all, short, bus, edge, kills, scale or whatsapp"),
    };
    Orders {
        seed: number("SEED").unwrap_or(1),
        seeds: number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { 5 }),
        round: Duration::from_secs(number("ROUND").unwrap_or(30)),
        menu,
        cluster: number("CLUSTER").is_some_and(|on| on > 0),
        json: number("JSON").is_some_and(|on| on > 0),
    }
}

/// The seeds one after the other, and the control.
async fn rounds(orders: &Orders) -> bool {
    let began = Instant::now();
    let mut broken = Vec::new();
    for seed in orders.seed..orders.seed + orders.seeds {
        if !round(seed, orders).await {
            broken.push(seed);
        }
    }
    let control = control(orders.json).await;
    if !orders.json {
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        println!("{} rounds in {minutes:.1} min, broken: {broken:?}", orders.seeds);
    }
    broken.is_empty() && control
}

async fn a_short_round() -> bool {
    println!("chaos: a short round and the control; `make chaos` plays long ones");
    let orders = Orders {
        seed: 1,
        seeds: 1,
        round: Duration::from_secs(8),
        menu: Menu::Short,
        cluster: false,
        json: false,
    };
    let (round, control) = tokio::join!(round(orders.seed, &orders), control(false));
    round && control
}

/// Plays a round; tells, and returns whether all was kept.
async fn round(seed: u64, orders: &Orders) -> bool {
    let plan = Plan::draw(seed, orders.round, orders.menu);
    if !orders.json {
        println!("{}", plan.to_string().lines().next().unwrap_or_default());
    }
    match played(plan, &[], orders.cluster).await {
        Ok((report, dir)) => {
            tell(&report, orders.json);
            if report.violations.is_empty() {
                // Nobody needs the logs of a good round.
                let _ = std::fs::remove_dir_all(dir);
                return true;
            }
            for line in &report.violations {
                eprintln!("  {}", line.chars().take(700).collect::<String>());
            }
            eprintln!(
                "seed {seed}: {} broken promises; plan and logs are in {}",
                report.violations.len(),
                dir.display()
            );
            false
        }
        Err(failure) => {
            eprintln!("seed {seed}: the round itself failed: {failure}");
            false
        }
    }
}

/// The same judge on forwarders that do not check whose turn it is: it must see that.
async fn control(json: bool) -> bool {
    let plan = Plan::draw(1, Duration::from_secs(6), Menu::Scale);
    match played(plan, &[("WITHOUT_GUARD", "chain")], false).await {
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

fn tell(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::to_string(report).unwrap_or_else(|error| error.to_string()));
    } else {
        println!("{report}");
    }
}

/// What panics is a failed round and not the end of all.
async fn played(plan: Plan, settings: &[(&str, &str)], cluster: bool) -> Result<(Report, PathBuf), String> {
    let place = OnceLock::new();
    let round = async {
        let began = Instant::now();
        let ground = conduct::set(&plan, settings, cluster).await;
        let dir = place.get_or_init(|| ground.stage.dir().to_owned()).clone();
        std::fs::write(dir.join("plan.txt"), plan.to_string()).expect("the plan beside the logs");
        let mut traces = conduct::play(&plan, ground).await;
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
    AssertUnwindSafe(round).catch_unwind().await.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let said = said.unwrap_or_default();
        match place.get() {
            Some(dir) => format!("{said}; plan and logs are in {}", dir.display()),
            None => said,
        }
    })
}
