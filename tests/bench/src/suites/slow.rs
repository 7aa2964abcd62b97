//! 10,000 people at once, and a backend that thinks for 20 s, longer than the ack wait: nothing may be delivered again,
//! and who only waits needs nothing.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, say};
use crate::contender::Contender;
use crate::load::{Pattern, Writer};
use crate::report::Report;
use crate::run::Site;
use crate::usage;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let chats = bench.size.of(10_000, 2_000, 30);
    let backend = Duration::from_millis(u64::from(bench.size.of(20_000, 20_000, 1_500)));
    let concurrency = chats.to_string();
    let ours = Contender::ours_with(&[("BACKEND_CONCURRENCY", &concurrency)]);
    let site = Site::set(&bench.starter, backend).await?;
    let mut writer = Writer::new(&site.bus).await?;
    writer.write(chats, 1, Pattern::InTurn).await?;
    let mut forwarder = [site.start(&bench.starter, &ours)?];
    let pid = forwarder[0].pid();
    site.stub.first_call().await;
    let mut shares = Vec::new();
    tokio::select! {
        settled = site.settled(&mut forwarder) => settled?,
        () = watch(pid, &mut shares) => {}
    }
    let (verdict, _) = site.judge(&writer.written, 1).await?;
    report.judged("slow", verdict, true);
    let delivered = site.bus.consumer().await?.delivered.consumer_sequence;
    let peak = usage::peak_mb(pid);
    let redelivered = delivered.saturating_sub(u64::from(chats));
    report.add("slow.redelivered", redelivered as f64);
    report.add("slow.peak_mb", peak);
    for share in &shares {
        report.add("slow.cpu_percent", share * 100.0);
    }
    let percent = report.median("slow.cpu_percent").unwrap_or(f64::NAN);
    say(&format!("slow: {redelivered} redelivered, {peak:.0} MB, {percent:.1} % of a core in most seconds"));
    Ok(())
}

/// A second after the other: the share of a core that it had.
async fn watch(pid: u32, shares: &mut Vec<f64>) {
    let mut before = usage::cpu_fine(pid);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = usage::cpu_fine(pid);
        shares.push(now.saturating_sub(before).as_secs_f64());
        before = now;
    }
}
