//! What logs and spans cost: as they are shipped (a line and its spans for each message, exported nowhere), and off.

use anyhow::Result;

use super::drain::orders;
use crate::bench::Bench;
use crate::contender::Contender;
use crate::report::Report;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let shipped = Contender::ours();
    let off = Contender::ours_with(&[("RUST_LOG", "off"), ("OTEL_SDK_DISABLED", "true")]);
    let orders = orders(bench.size.of(20_000, 10_000, 200), 20);
    let pair = [("shipped", &shipped), ("off", &off)];
    bench.pair("telemetry", pair, &orders, bench.size.of(2, 1, 1), report).await
}
