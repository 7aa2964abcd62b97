//! Messages that come at their own pace, 200 a second, to a backend that answers at once. What the way over the bus adds
//! to a direct call: from the stored message to the stored outcome, less what a call takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::bench::{Bench, say};
use crate::contender::Contender;
use crate::disturb::Watch;
use crate::load::Writer;
use crate::names;
use crate::report::{Report, percentile};
use crate::run::Site;
use crate::stub::Stub;
use crate::wire::{ALL_MESSAGES, STREAM_IN};

const PER_SECOND: u32 = 200;
const CHATS: u32 = 500;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let messages = PER_SECOND * bench.size.of(15, 6, 1);
    let (mut direct_times, mut times) = (Vec::new(), Vec::new());
    for through_us in [false, true, true, false] {
        let mut tries = 0;
        loop {
            let watch = Watch::begin();
            let found = match through_us {
                true => through(bench, messages, report).await?,
                false => direct(messages).await?,
            };
            tries += 1;
            if !bench.again("open", tries, watch.end(), report) {
                if through_us {
                    times.extend(found)
                } else {
                    direct_times.extend(found)
                }
                break;
            }
        }
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (all, call) = (percentile(&mut times, share), percentile(&mut direct_times, share));
        report.add(&format!("open.{name}_ms"), all);
        report.add(&format!("open.direct_{name}_ms"), call);
        report.add(&format!("open.added_{name}_ms"), all - call);
        say(&format!("open: {name} {all:.2} ms, a direct call {call:.2} ms"));
    }
    Ok(())
}

/// Milliseconds of each direct call.
async fn direct(messages: u32) -> Result<Vec<f64>> {
    let stub = Stub::start(Duration::ZERO).await?;
    let url = format!("{}/v1/channels/whatsapp/gateway/inbound", stub.url());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut calls = JoinSet::new();
    let mut clock = interval(Duration::from_secs(1) / PER_SECOND);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for index in 0..messages {
        clock.tick().await;
        let body = json!({
            "message_id": names::message(index % CHATS, index / CHATS), "from_number": names::phone(index % CHATS),
            "text": "Hola", "timestamp_iso": "2026-01-02T03:04:05.678Z",
        });
        let request = http.post(&url).json(&body);
        calls.spawn(async move {
            let began = Instant::now();
            let answer = request.send().await?.bytes().await?;
            anyhow::Ok((began.elapsed().as_secs_f64() * 1e3, answer.len()))
        });
    }
    let mut times = Vec::new();
    while let Some(done) = calls.join_next().await {
        times.push(done??.0);
    }
    Ok(times)
}

/// Milliseconds of each message, by the server's clock.
async fn through(bench: &Bench, messages: u32, report: &mut Report) -> Result<Vec<f64>> {
    let site = Site::set(&bench.starter, Duration::ZERO).await?;
    let mut forwarder = [site.start(&bench.starter, &Contender::ours())?];
    let mut writer = Writer::new(&site.bus).await?;
    writer.one(CHATS).await?;
    writer.all_stored().await?;
    site.settled(&mut forwarder).await?;
    let first = writer.written[0].sequence + 1;
    let mut clock = interval(Duration::from_secs(1) / PER_SECOND);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for index in 0..messages {
        clock.tick().await;
        writer.one(index % CHATS).await?;
        writer.flush().await?;
    }
    writer.all_stored().await?;
    site.settled(&mut forwarder).await?;
    let (verdict, outcomes) = site.judge(&writer.written, 1).await?;
    report.judged("open", verdict, true);
    let stored = site.bus.read(STREAM_IN, ALL_MESSAGES, first).await?;
    let ends: BTreeMap<u64, i64> = outcomes.iter().map(|outcome| (outcome.of, outcome.at)).collect();
    stored
        .iter()
        .map(|one| {
            let end = ends.get(&one.sequence).context("a message without an outcome")?;
            Ok((end - one.at) as f64 / 1e6)
        })
        .collect()
}
