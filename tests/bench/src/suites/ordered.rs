//! People who write several messages in a row: 100 chats, 8 messages of a chat one after the other on the bus, five times
//! over; a backend of 20 ms. How near it comes to what the chain allows.

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::contender::Contender;
use crate::load::Pattern;
use crate::report::Report;
use crate::run::{Measured, Orders};

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let orders = Orders {
        chats: bench.size.of(100, 100, 10),
        each: bench.size.of(40, 24, 16),
        pattern: Pattern::InRows(8),
        backend: Duration::from_millis(20),
        forwarders: 1,
        memory: None,
    };
    for _ in 0..bench.size.of(3, 1, 1) {
        let measured = bench.drain("ordered", &Contender::ours(), &orders, report).await?;
        report.add("ordered.of_allowed", of_allowed(&measured, &orders));
    }
    Ok(())
}

/// Throughput by what the chain allows: every chat has one message under way, for the backend's time, as it was measured
/// there, and two round trips to the bus.
pub fn of_allowed(measured: &Measured, orders: &Orders) -> f64 {
    let turn = measured.backend + 2 * measured.round_trip;
    measured.per_second / (f64::from(orders.chats) / turn.as_secs_f64())
}
