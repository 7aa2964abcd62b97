//! From the start of a process to what it is for: a forwarder's first call, an edge that is online.

use anyhow::Result;

use super::drain::orders;
use crate::bench::Bench;
use crate::contender::Contender;
use crate::report::Report;
use crate::world::World;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let one = orders(1, 1);
    for _ in 0..bench.size.of(5, 3, 1) {
        // Too short for a word on what disturbed it.
        let measured = crate::run::drained(&bench.starter, &Contender::ours(), &one).await;
        let measured = match measured {
            Ok(measured) => measured,
            Err(error) => return Err(error),
        };
        report.judged("start", measured.verdict, true);
        report.add("start.forwarder_s", measured.to_first_call);
    }
    let mut world = World::set(&bench.starter, 0).await?;
    for _ in 0..bench.size.of(5, 3, 1) {
        world.stop_edge().await?;
        let took = world.start_edge(&bench.starter).await?;
        report.add("start.edge_s", took.as_secs_f64());
    }
    Ok(())
}
