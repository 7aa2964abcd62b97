//! The control of the smoke: a forwarder that keeps no order must be noticed. Needs a build with the feature `simulator`.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, say};
use crate::contender::Contender;
use crate::load::Pattern;
use crate::report::Report;
use crate::run::{self, Orders};

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let careless = Contender::ours_with(&[("WITHOUT_GUARD", "chain"), ("BACKEND_CONCURRENCY", "1000")]);
    let backend = Duration::from_millis(50);
    let orders =
        Orders { chats: 5, each: 16, pattern: Pattern::InRows(8), backend, forwarders: 1, memory: None };
    let verdict = run::drained(&bench.starter, &careless, &orders).await?.verdict;
    if verdict.is_clean() {
        report
            .problems
            .push("the control: messages were answered out of order, and nobody noticed".to_owned());
    }
    say(&format!("control: noticed, {verdict:?}"));
    Ok(())
}
