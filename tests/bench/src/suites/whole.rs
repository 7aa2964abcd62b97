//! The whole path: from the customer's stanza to the answer's, at 20 and at 200 messages a second, of people whose numbers
//! are hidden; the backend answers at once.

use anyhow::Result;

use crate::bench::{Bench, say};
use crate::disturb::Watch;
use crate::report::{Report, percentile};
use crate::world::World;

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut world = World::set(&bench.starter, 1).await?;
    world.customers(bench.size.of(200, 100, 10), true).await?;
    for (per_second, seconds) in [(20, bench.size.of(20, 10, 1)), (200, bench.size.of(15, 6, 1))] {
        let mut times = 0;
        loop {
            let watch = Watch::begin();
            let from = world.written();
            // Everybody as often, so that all of them count.
            let messages = (per_second * seconds).next_multiple_of(bench.size.of(200, 100, 10));
            world.write_at(per_second, messages).await?;
            let mut answers = world.answers(from).await?;
            times += 1;
            report.problems.append(&mut answers.problems);
            if bench.again("whole", times, watch.end(), report) {
                continue;
            }
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut answers.latencies, share));
            report.add(&format!("whole.p50_ms_at_{per_second}"), p50);
            report.add(&format!("whole.p99_ms_at_{per_second}"), p99);
            say(&format!("whole: {p50:.1} / {p99:.1} ms at {per_second} a second"));
            break;
        }
    }
    world.calls_in_order()
}
