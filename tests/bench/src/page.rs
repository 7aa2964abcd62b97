//! Rewrites what is between the marks in docs/performance.md, and the chart beside it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::report::Report;
use crate::{chart, child, table};

const BEGIN: &str = "<!-- bench: written by make bench -->\n";
const END: &str = "<!-- end of bench -->";

/// What goes between the marks.
pub fn render(report: &Report, machine: &str) -> String {
    let mut text = format!("{machine}\n\n{}", table::render(report));
    for more in [table::contenders(report), table::parts(report)] {
        // A heading and the line below it.
        if more.lines().count() > 2 {
            let _ = write!(text, "\n{more}");
        }
    }
    if chart::render(report).is_some() {
        text.push_str("\n![CPU per 1,000 messages](performance.svg)\n");
    }
    if !report.notes.is_empty() {
        text.push('\n');
        for note in &report.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}

/// The machine in a line.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    format!(
        "Measured on {} processors ({}), {:.0} GB of memory, Linux {}.",
        child::processors(),
        model.map_or("unknown", |(_, name)| name),
        kib.unwrap_or(0.0) * 1024.0 / 1e9,
        kernel.split('.').take(2).collect::<Vec<_>>().join(".")
    )
}

/// Writes both.
pub fn write(docs: &Path, report: &Report) -> Result<()> {
    let path = docs.join("performance.md");
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let new =
        between(&page, &render(report, &machine())).context("performance.md has no marks for the table")?;
    std::fs::write(&path, new)?;
    if let Some(svg) = chart::render(report) {
        std::fs::write(docs.join("performance.svg"), svg)?;
    }
    Ok(())
}

fn between(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{text}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# A\n{BEGIN}old\n{END}\nrest\n");
        assert_eq!(between(&page, "new"), Some(format!("# A\n{BEGIN}\nnew\n{END}\nrest\n")));
        assert_eq!(between("# A\n", "new"), None);
    }

    #[test]
    fn the_page_has_its_marks() {
        let page = std::fs::read_to_string(crate::root().join("docs/performance.md")).unwrap_or_default();
        let text = render(&Report::default(), "");
        assert!(between(&page, &text).is_some_and(|page| page.contains("| binary, stripped | – |")));
    }
}
