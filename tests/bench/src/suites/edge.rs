//! The edge, through the simulator: what a message in and its answer out cost at 200 a second and in a burst, how many it
//! takes then, and how fast it stores 10,000 messages that waited while it was away.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, say};
use crate::names;
use crate::report::Report;
use crate::usage;
use crate::wire::{ALL_MESSAGES, STREAM_IN};
use crate::world::World;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let people = bench.size.of(200, 100, 10);
    let mut world = World::set(&bench.starter, 1).await?;
    world.customers(people, false).await?;
    steady(bench, &mut world, report).await?;
    burst(bench, &mut world, people, report).await?;
    offline(bench, &mut world, people, report).await?;
    world.calls_in_order()
}

async fn steady(bench: &Bench, world: &mut World, report: &mut Report) -> Result<()> {
    let messages = 200 * bench.size.of(15, 8, 1);
    let (from, before) = (world.written(), world.edge()?.cpu());
    world.write_at(200, messages).await?;
    let answers = world.answers(from).await?;
    report.problems.extend(answers.problems);
    let used = world.edge()?.cpu().saturating_sub(before);
    let per_message = used.as_secs_f64() * 1e3 / f64::from(messages);
    report.add("edge.cpu_ms", per_message);
    say(&format!("edge: {per_message:.2} ms of CPU a message at 200 a second"));
    Ok(())
}

async fn burst(bench: &Bench, world: &mut World, people: u32, report: &mut Report) -> Result<()> {
    let each = bench.size.of(25, 10, 3);
    let messages = f64::from(people * each);
    let idle = memory(world)?;
    let (from, before, began) = (world.written(), cpu(world)?, names::now_ns());
    world.everybody_writes(each).await;
    let answers = world.answers(from).await?;
    report.problems.extend(answers.problems);
    let per_second = messages * 1e9 / (answers.last - began) as f64;
    report.add("edge.steady_per_second", per_second);
    let pids = pids(world)?;
    let used = cpu(world)?;
    for (index, part) in PARTS.into_iter().enumerate() {
        let used = used[index].saturating_sub(before[index]).as_secs_f64() * 1e3 / messages;
        report.add(&format!("burst_of.{part}.cpu_ms"), used);
        report.add(&format!("burst_of.{part}.idle_mb"), idle[index]);
        report.add(&format!("burst_of.{part}.peak_mb"), usage::peak_mb(pids[index]));
        say(&format!(
            "edge: {used:.2} ms of CPU a message in a burst in the {part}, {per_second:.0} a second"
        ));
    }
    Ok(())
}

/// Who takes part in a burst.
pub const PARTS: [&str; 3] = ["edge", "forwarder", "nats-server"];

fn pids(world: &World) -> Result<[u32; 3]> {
    let forwarder = world.forwarders.first().context("a forwarder")?.pid();
    Ok([world.edge()?.pid(), forwarder, world.site.bus.server.pid()])
}

fn cpu(world: &World) -> Result<[Duration; 3]> {
    Ok(pids(world)?.map(usage::cpu))
}

fn memory(world: &World) -> Result<[f64; 3]> {
    Ok(pids(world)?.map(usage::memory_mb))
}

async fn offline(bench: &Bench, world: &mut World, people: u32, report: &mut Report) -> Result<()> {
    let each = bench.size.of(50, 20, 5);
    let from = world.written();
    world.stop_edge().await?;
    // What the edge alone can do: nobody answers meanwhile.
    for forwarder in &mut world.forwarders {
        forwarder.stop().await?;
    }
    world.forwarders.clear();
    world.everybody_writes(each).await;
    let bus = &world.site.bus;
    let (last, _) = bus.state(STREAM_IN).await?;
    world.start_edge(&bench.starter).await?;
    let messages = usize::try_from(people * each)?;
    let bus = &world.site.bus;
    let began = std::time::Instant::now();
    let stored = loop {
        let (end, _) = bus.state(STREAM_IN).await?;
        if end.saturating_sub(last) >= u64::from(people * each) {
            let stored = bus.read(STREAM_IN, ALL_MESSAGES, last + 1).await?;
            if stored.len() >= messages {
                break stored;
            }
        }
        ensure!(began.elapsed() < Duration::from_secs(120), "{} of {messages} are stored", end - last);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (first, last) = (stored.first().context("nothing")?.at, stored.last().context("nothing")?.at);
    let per_second = messages as f64 * 1e9 / (last - first).max(1) as f64;
    report.add("edge.offline_per_second", per_second);
    say(&format!("edge: {per_second:.0} a second of what waited on WhatsApp"));
    world.forwarders.push(world.site.start(&bench.starter, &crate::contender::Contender::ours())?);
    let answers = world.answers(from).await?;
    report.problems.extend(answers.problems);
    Ok(())
}
