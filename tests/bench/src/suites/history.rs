//! A bus that has run for a week: a million answered messages of 100,000 chats in the streams. What a message costs then,
//! by what it costs on an empty bus, and how long a start takes.

use anyhow::Result;

use super::drain::orders;
use crate::bench::{Bench, say};
use crate::contender::Contender;
use crate::load::{self, Pattern, Writer};
use crate::report::Report;
use crate::run::{Measured, Site, answered};

/// Runs it.
pub async fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let chats = bench.size.of(100_000, 10_000, 100);
    let each = bench.size.of(10, 10, 2);
    let orders = orders(bench.size.of(10_000, 5_000, 100), 10);
    say(&format!("history: storing {} old messages and their outcomes", chats * each));
    let site = Site::set(&bench.starter, orders.backend).await?;
    let mut writer = Writer::new(&site.bus).await?;
    writer.write(chats, each, Pattern::InTurn).await?;
    load::outcomes(&site.bus, &writer.written).await?;
    site.bus.acknowledge_all().await?;
    let (mut old, mut empty) = (0.0, 0.0);
    for on_old in [true, false, false, true] {
        if on_old {
            let measured = on_history(bench, &site, &mut writer, &orders, report).await?;
            old += measured.cpu_ms;
        } else {
            empty += bench.drain("history.empty", &Contender::ours(), &orders, report).await?.cpu_ms;
        }
    }
    report.add("history.cpu", old / empty);
    Ok(())
}

async fn on_history(
    bench: &Bench,
    site: &Site,
    writer: &mut Writer<'_>,
    orders: &crate::run::Orders,
    report: &mut Report,
) -> Result<Measured> {
    let ours = Contender::ours();
    let mut times = 0;
    loop {
        let round_trip = site.bus.round_trip().await?;
        writer.skip_to_the_end().await?;
        writer.forget();
        writer.write(orders.chats, orders.each, orders.pattern).await?;
        let measured = answered(site, &bench.starter, &ours, orders, &writer.written, round_trip).await?;
        times += 1;
        report.judged("history.old", measured.verdict, true);
        if !bench.again("history.old", times, measured.disturbed, report) {
            measured.tell("history.old", report);
            return Ok(measured);
        }
    }
}
