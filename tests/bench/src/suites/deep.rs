//! Backlogs that are deep in few chats: 20 chats with 500 messages each, and 100 chats with 1,000 each, which wait in
//! front of one forwarder. The second one also with no more than 128 MiB for the whole process.

use std::time::Duration;

use anyhow::Result;

use super::ordered::of_allowed;
use crate::bench::Bench;
use crate::contender::Contender;
use crate::load::Pattern;
use crate::report::Report;
use crate::run::Orders;

const LIMIT: u64 = 128 << 20;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let ours = Contender::ours();
    let few = orders(bench.size.of(20, 20, 5), bench.size.of(500, 200, 30), 5);
    for _ in 0..bench.size.of(3, 1, 1) {
        let measured = bench.drain("deep.few", &ours, &few, report).await?;
        report.add("deep.few.of_allowed", of_allowed(&measured, &few));
    }
    let many = orders(bench.size.of(100, 100, 10), bench.size.of(1_000, 200, 30), 20);
    let measured = bench.drain("deep.many", &ours, &many, report).await?;
    report.add("deep.many.of_allowed", of_allowed(&measured, &many));
    let limited = Orders { memory: Some(LIMIT), ..many };
    match bench.drain("deep.limited", &ours, &limited, report).await {
        Ok(_) => report.add("deep.limited.survived", 1.0),
        Err(error) => {
            report.add("deep.limited.survived", 0.0);
            report.problems.push(format!("deep within {} MiB: {error:#}", LIMIT >> 20));
        }
    }
    Ok(())
}

fn orders(chats: u32, each: u32, backend_ms: u64) -> Orders {
    let backend = Duration::from_millis(backend_ms);
    Orders { chats, each, pattern: Pattern::InTurn, backend, forwarders: 1, memory: None }
}
