//! What a message costs where nothing else is the limit: 1,000 chats with 20 messages each, a backend that answers at
//! once, everything stored before the forwarder starts. Beside every peer.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, say};
use crate::contender::Contender;
use crate::load::Pattern;
use crate::report::Report;
use crate::run::Orders;

/// The messages of a drain.
pub fn orders(messages: u32, each: u32) -> Orders {
    Orders {
        chats: (messages / each).max(1),
        each,
        pattern: Pattern::InTurn,
        backend: Duration::ZERO,
        forwarders: 1,
        memory: None,
    }
}

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let ours = Contender::ours();
    if !bench.peers {
        let orders = orders(bench.size.of(20_000, 10_000, 200), 20);
        bench.drain("drain.ours", &ours, &orders, report).await?;
        return Ok(());
    }
    // Slow peers get fewer messages, and so does what is measured beside them.
    let peers = [
        ("floor", Contender::Floor, 20_000, bench.size.of(2, 1, 1)),
        ("aiohttp", Contender::Aiohttp, 10_000, 1),
        ("node", Contender::Node, 10_000, 1),
        ("faststream", Contender::FastStream, 5_000, 1),
    ];
    for (name, peer, messages, blocks) in peers {
        if let Some(why) = peer.missing(&bench.starter.tools) {
            say(&format!("passed over, {why}"));
            report.notes.push(format!("passed over, {why}"));
            continue;
        }
        let orders = orders(bench.size.of(messages, messages / 2, 200), 20);
        let pair = [("ours", &ours), (name, &peer)];
        bench.pair(&format!("drain.{name}"), pair, &orders, blocks, report).await?;
    }
    Ok(())
}
