//! 5,000 people at once, and a backend of 2 s that takes them all. Cold: the messages wait when the forwarder starts.
//! Warm: they come all at once to a forwarder that has seen a burst.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, say};
use crate::contender::Contender;
use crate::disturb::Watch;
use crate::load::{Pattern, Writer};
use crate::report::Report;
use crate::run::Site;
use crate::usage;
use crate::wire::{ALL_MESSAGES, STREAM_IN};

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    for _ in 0..bench.size.of(3, 1, 1) {
        let mut times = 0;
        loop {
            let watch = Watch::begin();
            let found = once(bench, report).await?;
            times += 1;
            if bench.again("burst", times, watch.end(), report) {
                continue;
            }
            say(&format!("burst: cold {:.2} s, warm {:.2} s, {:.0} MB", found[0], found[1], found[2]));
            for (name, value) in ["burst.cold_s", "burst.warm_s", "burst.peak_mb"].into_iter().zip(found) {
                report.add(name, value);
            }
            break;
        }
    }
    Ok(())
}

async fn once(bench: &Bench, report: &mut Report) -> Result<[f64; 3]> {
    let chats = bench.size.of(5_000, 2_000, 50);
    let backend = Duration::from_millis(u64::from(bench.size.of(2_000, 2_000, 200)));
    let ours = Contender::ours_with(&[("BACKEND_CONCURRENCY", &chats.to_string())]);
    let site = Site::set(&bench.starter, backend).await?;
    let mut writer = Writer::new(&site.bus).await?;
    writer.write(chats, 1, Pattern::InTurn).await?;
    let mut forwarder = [site.start(&bench.starter, &ours)?];
    site.settled(&mut forwarder).await?;
    let (verdict, outcomes) = site.judge(&writer.written, 1).await?;
    report.judged("burst", verdict, true);
    let first = site.stub.calls().first().context("no call")?.began;
    let cold = outcomes.last().context("no outcome")?.at - first;

    site.stub.forget();
    writer.forget();
    writer.write(chats, 1, Pattern::InTurn).await?;
    site.settled(&mut forwarder).await?;
    let (verdict, outcomes) = site.judge(&writer.written, u64::from(chats) + 1).await?;
    report.judged("burst", verdict, true);
    let place = writer.written.first().context("no message")?.sequence;
    let stored = site.bus.read(STREAM_IN, ALL_MESSAGES, place).await?;
    let warm = outcomes.last().context("no outcome")?.at - stored.first().context("no message")?.at;
    Ok([cold as f64 / 1e9, warm as f64 / 1e9, usage::peak_mb(forwarder[0].pid())])
}
