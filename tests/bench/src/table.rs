//! The table of docs/performance.md: what was measured, beside what was meant to be reached.

use std::fmt::Write as _;

use crate::report::Report;
use crate::suites::PARTS;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}
use Better::{Less, More};

/// One figure of a row.
#[derive(Debug, Clone, Copy)]
struct Cell {
    figure: &'static str,
    /// The figure is divided into 1: it was measured the other way round.
    inverse: bool,
    unit: &'static str,
    better: Better,
    reach: f64,
    aim: f64,
}

/// What is measured, and its figures.
struct Row(&'static str, &'static [Cell]);

const fn cell(figure: &'static str, unit: &'static str, better: Better, reach: f64, aim: f64) -> Cell {
    Cell { figure, inverse: false, unit, better, reach, aim }
}

const fn inverse(figure: &'static str, reach: f64, aim: f64) -> Cell {
    Cell { figure, inverse: true, unit: "", better: More, reach, aim }
}

const ROWS: &[Row] = &[
    Row(
        "drain: CPU per 1,000 messages, ours / unordered reqwest loop",
        &[cell("drain.floor.cpu", "", Less, 1.3, 1.0)],
    ),
    Row("drain: throughput, the same", &[cell("drain.floor.speed", "", More, 0.8, 1.0)]),
    Row("drain: CPU of nats-py + aiohttp / ours", &[inverse("drain.aiohttp.cpu", 3.5, 4.5)]),
    Row("drain: CPU of Node + undici / ours", &[inverse("drain.node.cpu", 2.5, 3.0)]),
    Row("drain: CPU of FastStream + httpx / ours", &[inverse("drain.faststream.cpu", 12.0, 18.0)]),
    Row("ordered: throughput / what the chain allows", &[cell("ordered.of_allowed", "", More, 0.7, 0.9)]),
    Row("deep, 20 chats × 500: the same", &[cell("deep.few.of_allowed", "", More, 0.7, 0.9)]),
    Row("deep, 100 chats × 1,000: the same", &[cell("deep.many.of_allowed", "", More, 0.7, 0.9)]),
    Row(
        "deep, 100 chats × 1,000: memory of the process",
        &[cell("deep.many.peak_mb", "MB", Less, 96.0, 64.0)],
    ),
    Row(
        "deep, 100 chats × 1,000 within 128 MiB: survived (1)",
        &[cell("deep.limited.survived", "", More, 1.0, 1.0)],
    ),
    Row(
        "burst, 5,000 chats, backend 2 s: warm; memory",
        &[cell("burst.warm_s", "s", Less, 2.5, 2.3), cell("burst.peak_mb", "MB", Less, 140.0, 100.0)],
    ),
    Row(
        "slow, 10,000 chats, backend 20 s: redelivered; memory; CPU while waiting",
        &[
            cell("slow.redelivered", "", Less, 0.0, 0.0),
            cell("slow.peak_mb", "MB", Less, 250.0, 150.0),
            cell("slow.cpu_percent", "% of a core", Less, 5.0, 3.0),
        ],
    ),
    Row(
        "open, 200/s: p50; p99 over a direct call",
        &[cell("open.added_p50_ms", "ms", Less, 1.0, 0.6), cell("open.added_p99_ms", "ms", Less, 4.0, 2.5)],
    ),
    Row(
        "history, 1,000,000 messages of 100,000 chats: CPU / empty bus; start",
        &[cell("history.cpu", "", Less, 1.1, 1.03), cell("history.old.start_s", "s", Less, 2.0, 0.5)],
    ),
    Row("scale: throughput of 4 forwarders / 1", &[cell("scale.4_by_1", "", More, 3.6, 3.9)]),
    Row("telemetry and logs: CPU as shipped / off", &[cell("telemetry.cpu", "", Less, 1.1, 1.05)]),
    Row(
        "edge: CPU per message in and answered at 200/s; in a burst",
        &[cell("edge.cpu_ms", "ms", Less, 0.9, 0.5), cell("burst_of.edge.cpu_ms", "ms", Less, 0.5, 0.3)],
    ),
    Row(
        "edge: offline drain; steady",
        &[
            cell("edge.offline_per_second", "/s", More, 1_500.0, 4_000.0),
            cell("edge.steady_per_second", "/s", More, 800.0, 2_000.0),
        ],
    ),
    Row(
        "whole, hidden numbers, 20/s: p50; p99",
        &[
            cell("whole.p50_ms_at_20", "ms", Less, 5.0, 3.0),
            cell("whole.p99_ms_at_20", "ms", Less, 20.0, 10.0),
        ],
    ),
    Row(
        "whole, hidden numbers, 200/s: p50; p99",
        &[
            cell("whole.p50_ms_at_200", "ms", Less, 12.0, 6.0),
            cell("whole.p99_ms_at_200", "ms", Less, 40.0, 25.0),
        ],
    ),
    Row(
        "idle, 1,000 chats: memory of forwarder; edge",
        &[cell("idle.forwarder_mb", "MB", Less, 14.0, 10.0), cell("idle.edge_mb", "MB", Less, 32.0, 24.0)],
    ),
    Row(
        "idle: CPU of forwarder; edge",
        &[
            cell("idle.forwarder_cpu_percent", "% of a core", Less, 0.03, 0.03),
            cell("idle.edge_cpu_percent", "% of a core", Less, 0.07, 0.07),
        ],
    ),
    Row(
        "session on the bus: commit of 2 keys, p50 / SQLite FULL's on the same disk; with `sync_interval: always`",
        &[
            cell("session.commit_by_sqlite", "", Less, 2.0, 1.0),
            cell("session.always.commit_by_sqlite", "", Less, 4.0, 2.0),
        ],
    ),
    Row("session on the bus: commit of 2 keys, p99", &[cell("session.commit_p99_ms", "ms", Less, 5.0, 1.0)]),
    Row(
        "session on the bus: take-over of 10,000 keys (fence and load); the edge's CPU for it",
        &[
            cell("session.take_over_ms", "ms", Less, 250.0, 100.0),
            cell("session.take_over_cpu_ms", "ms", Less, 150.0, 60.0),
        ],
    ),
    Row(
        "start of an edge with 200 chats until it is online: session in a file; on the bus",
        &[
            cell("session.file.online_ms", "ms", Less, 1_000.0, 500.0),
            cell("session.bus.online_ms", "ms", Less, 1_000.0, 500.0),
        ],
    ),
    Row("binary, stripped", &[cell("binary_mb", "MB", Less, 20.0, 15.0)]),
];

/// The figures in the table for which less is better; for comparisons.
pub fn less_is_better(figure: &str) -> Option<bool> {
    let mut cells = ROWS.iter().flat_map(|row| row.1);
    cells.find(|cell| cell.figure == figure).map(|cell| (cell.better == Less) != cell.inverse)
}

/// The table, in Markdown. A row that was not measured says so.
pub fn render(report: &Report) -> String {
    let mut text = "| what | measured | reach | aim | met |\n|---|---|---|---|---|\n".to_owned();
    for Row(what, cells) in ROWS {
        let join = |each: &dyn Fn(&Cell) -> String| cells.iter().map(each).collect::<Vec<_>>().join("; ");
        let measured = join(&|cell| cell.measured(report));
        let (reach, aim) = (join(&|cell| cell.bound(cell.reach)), join(&|cell| cell.bound(cell.aim)));
        let _ = writeln!(text, "| {what} | {measured} | {reach} | {aim} | {} |", met(cells, report));
    }
    text
}

/// What every contender of the drain gave.
pub fn contenders(report: &Report) -> String {
    let mut text =
        "| drain of stored messages | CPU per 1,000 messages | messages/s | peak | keeps a chat's order |\n\
                    |---|---|---|---|---|\n"
            .to_owned();
    for (figure, name, order) in CONTENDERS {
        let of = |what: &str| report.median(&format!("drain.{figure}.{what}"));
        let (Some(cpu), Some(speed), Some(peak)) = (of("cpu_ms"), of("per_second"), of("peak_mb")) else {
            continue;
        };
        let _ = writeln!(text, "| {name} | {cpu:.0} ms | {speed:.0} | {peak:.0} MB | {order} |");
    }
    text
}

/// What each process takes of the whole path in a burst.
pub fn parts(report: &Report) -> String {
    let mut text =
        "| whole path, in a burst | memory before | at the most | CPU per message |\n|---|---|---|---|\n"
            .to_owned();
    for part in PARTS {
        let of = |what: &str| report.median(&format!("burst_of.{part}.{what}"));
        let (Some(idle), Some(peak), Some(cpu)) = (of("idle_mb"), of("peak_mb"), of("cpu_ms")) else {
            continue;
        };
        let _ = writeln!(text, "| {part} | {idle:.0} MB | {peak:.0} MB | {cpu:.2} ms |");
    }
    text
}

/// The drain's contenders: their figures, their names, and whether they keep a chat's order.
pub const CONTENDERS: [(&str, &str, &str); 5] = [
    ("floor.floor", "unordered loop in Rust, reqwest", "no"),
    ("floor.ours", "**this connector**", "yes"),
    ("node.node", "Node + undici", "no"),
    ("aiohttp.aiohttp", "nats-py + aiohttp", "no"),
    ("faststream.faststream", "FastStream + httpx", "no"),
];

fn met(cells: &[Cell], report: &Report) -> &'static str {
    let all = |bound: &dyn Fn(&Cell) -> f64| {
        cells.iter().all(|cell| cell.value(report).is_some_and(|value| cell.holds(value, bound(cell))))
    };
    if cells.iter().any(|cell| cell.value(report).is_none()) {
        "–"
    } else if all(&|cell| cell.aim) {
        "aim"
    } else if all(&|cell| cell.reach) {
        "reach"
    } else {
        "no"
    }
}

impl Cell {
    fn value(&self, report: &Report) -> Option<f64> {
        let value = report.median(self.figure)?;
        Some(if self.inverse { 1.0 / value } else { value })
    }

    /// As it is shown, so that the table never contradicts itself.
    fn holds(&self, value: f64, bound: f64) -> bool {
        let shown = |number: f64| digits(number).replace(',', "").parse::<f64>().unwrap_or(number);
        match self.better {
            Less => shown(value) <= bound,
            More => shown(value) >= bound,
        }
    }

    fn measured(&self, report: &Report) -> String {
        let Some(value) = self.value(report) else { return "–".to_owned() };
        let shown = self.with_unit(&digits(value));
        let range = report
            .range(self.figure)
            .map(|(least, most)| if self.inverse { (1.0 / most, 1.0 / least) } else { (least, most) });
        match range.map(|(least, most)| (digits(least), digits(most))) {
            Some((least, most)) if least != most => format!("{shown} ({least}–{most})"),
            _ => shown,
        }
    }

    fn bound(&self, bound: f64) -> String {
        let sign = if self.better == Less { "≤" } else { "≥" };
        if bound == 0.0 { "0".to_owned() } else { format!("{sign} {}", self.with_unit(&bare(bound))) }
    }

    fn with_unit(&self, number: &str) -> String {
        match self.unit {
            "" => number.to_owned(),
            "/s" => format!("{number}/s"),
            unit => format!("{number} {unit}"),
        }
    }
}

/// As many digits as say something.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => thousands(value.round()),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

fn bare(value: f64) -> String {
    if value >= 1_000.0 { thousands(value) } else { value.to_string() }
}

fn thousands(value: f64) -> String {
    let plain = format!("{value:.0}");
    let from_the_end = |index: usize| plain.len() - index;
    let mut text = String::new();
    for (index, digit) in plain.char_indices() {
        if index > 0 && from_the_end(index) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figures: &[(&str, f64)], what: &str) -> String {
        let mut report = Report::default();
        for (name, value) in figures {
            report.add(name, *value);
        }
        let table = render(&report);
        table.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_row_says_what_is_met() {
        let of = |value| line(&[("drain.floor.cpu", value)], "ours / unordered");
        assert!(of(0.9).ends_with("| 0.90 | ≤ 1.3 | ≤ 1 | aim |"), "{}", of(0.9));
        assert!(of(1.2).ends_with("| reach |"));
        assert!(of(2.8).ends_with("| no |"));
        assert!(line(&[], "ours / unordered").ends_with("| – | ≤ 1.3 | ≤ 1 | – |"));
    }

    #[test]
    fn a_row_with_several_figures_is_met_by_all_or_not() {
        let of = |warm, peak| line(&[("burst.warm_s", warm), ("burst.peak_mb", peak)], "burst");
        assert!(of(2.2, 90.0).ends_with("| aim |"));
        assert!(of(2.2, 130.0).ends_with("| reach |"));
        assert!(of(2.2, 220.0).contains("| 2.20 s; 220 MB | ≤ 2.5 s; ≤ 140 MB | ≤ 2.3 s; ≤ 100 MB | no |"));
    }

    #[test]
    fn what_was_measured_the_other_way_round_is_turned() {
        let row = line(&[("drain.aiohttp.cpu", 0.2), ("drain.aiohttp.cpu", 0.25)], "aiohttp");
        assert!(row.contains("| 4.44 (4.00–5.00) | ≥ 3.5 | ≥ 4.5 | reach |"), "{row}");
        assert_eq!(less_is_better("drain.aiohttp.cpu"), Some(true));
        assert_eq!(less_is_better("scale.4_by_1"), Some(false));
    }

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        for (value, shown) in
            [(1_234_567.0, "1,234,567"), (999.6, "1000"), (123.4, "123"), (12.34, "12.3"), (0.0, "0")]
        {
            assert_eq!(digits(value), shown);
        }
    }
}
