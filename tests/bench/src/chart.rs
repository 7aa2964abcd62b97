//! The chart of docs/performance.md: what a message costs each contender, as bars.

use std::fmt::Write as _;

use crate::report::Report;
use crate::table::CONTENDERS;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const LINE: f64 = 34.0;
const TOP: f64 = 52.0;

/// The bars; `None` if there is nothing beside ours.
pub fn render(report: &Report) -> Option<String> {
    let bars: Vec<(&str, bool, f64)> = CONTENDERS
        .iter()
        .filter_map(|(figure, name, order)| {
            let cpu = report.median(&format!("drain.{figure}.cpu_ms"))?;
            Some((name.trim_matches('*'), *order == "yes", cpu))
        })
        .collect();
    if bars.len() < 2 {
        return None;
    }
    let most = bars.iter().map(|(_, _, cpu)| *cpu).fold(0.0, f64::max);
    let height = TOP + LINE * bars.len() as f64 + 16.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14" role="img">
<title>CPU per 1,000 messages</title>
<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>
<text x="16" y="28" font-weight="bold" fill="#1f2328">CPU per 1,000 messages, milliseconds; less is better</text>
"##
    );
    for (index, (name, ours, cpu)) in bars.into_iter().enumerate() {
        let y = TOP + LINE * index as f64;
        let length = (WIDTH - LEFT - 80.0) * cpu / most;
        let (colour, weight) = if ours { ("#1a7f37", "bold") } else { ("#8c959f", "normal") };
        let (text, end) = (y + 16.0, LEFT + length + 8.0);
        let _ = write!(
            svg,
            r##"<text x="{right}" y="{text}" text-anchor="end" font-weight="{weight}" fill="#1f2328">{name}</text>
<rect x="{LEFT}" y="{y}" width="{length:.1}" height="22" rx="3" fill="{colour}"/>
<text x="{end:.1}" y="{text}" font-weight="{weight}" fill="#1f2328">{cpu:.0}</text>
"##,
            right = LEFT - 12.0,
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_bar_for_each_contender_that_ran() {
        let mut report = Report::default();
        report.add("drain.floor.ours.cpu_ms", 80.0);
        assert_eq!(render(&report), None);
        report.add("drain.floor.floor.cpu_ms", 75.0);
        report.add("drain.aiohttp.aiohttp.cpu_ms", 306.0);
        let svg = render(&report).unwrap_or_default();
        assert_eq!(svg.matches("<rect").count(), 1 + 3);
        assert!(
            svg.contains(">this connector<") && svg.contains(">306<") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
    }
}
