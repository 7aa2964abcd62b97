//! Forwarders beside each other: 1, 2, 4 and 8, each with at most 64 calls to a backend of 200 ms. They share one
//! processor, so this is about waiting for each other and not about speed.

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::contender::Contender;
use crate::load::Pattern;
use crate::report::Report;
use crate::run::Orders;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let ours = Contender::ours_with(&[("BACKEND_CONCURRENCY", "64")]);
    let each = bench.size.of(3_000, 1_500, 60);
    let counts: &[u32] = if bench.size.of(1, 1, 0) == 1 { &[1, 4, 4, 1, 2, 8] } else { &[1, 2] };
    for &forwarders in counts {
        let orders = Orders {
            chats: each * forwarders / 2,
            each: 2,
            pattern: Pattern::InTurn,
            backend: Duration::from_millis(200),
            forwarders: usize::try_from(forwarders)?,
            memory: None,
        };
        bench.drain(&format!("scale.{forwarders}"), &ours, &orders, report).await?;
    }
    let speed = |count: u32| report.median(&format!("scale.{count}.per_second"));
    let ratios = [2, 4, 8].map(|count| Some((count, speed(count)? / speed(1)?)));
    for (count, ratio) in ratios.into_iter().flatten() {
        report.add(&format!("scale.{count}_by_1"), ratio);
    }
    Ok(())
}
