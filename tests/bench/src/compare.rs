//! Two builds beside each other, each suite in balanced order: base, this, this, base.

use std::fmt::Write as _;

use anyhow::Result;

use crate::bench::{Bench, say};
use crate::report::Report;
use crate::suites::Suite;
use crate::table::{digits, less_is_better};

/// Runs the suites on both.
pub async fn run(base: &Bench, this: &Bench, suites: &[Suite]) -> Result<[Report; 2]> {
    let mut reports = [Report::default(), Report::default()];
    for suite in suites {
        for index in [0, 1, 1, 0] {
            let (bench, name) = if index == 0 { (base, "base") } else { (this, "this") };
            say(&format!("{suite:?}, {name}"));
            // A base that cannot do something is no reason to say nothing of the rest.
            if let Err(error) = suite.run(bench, &mut reports[index]).await {
                reports[index].problems.push(format!("{name}: {error:#}"));
            }
        }
    }
    Ok(reports)
}

/// A line for each figure: the medians, their ratio, and the ranges. Figures whose ranges do not touch are marked.
pub fn render([base, this]: &[Report; 2]) -> String {
    let mut text = "| figure | base | this | this / base | |\n|---|---|---|---|---|\n".to_owned();
    for name in this.names() {
        let (Some(before), Some(now)) = (base.median(name), this.median(name)) else { continue };
        let (Some(old), Some(new)) = (base.range(name), this.range(name)) else { continue };
        let apart = old.1 < new.0 || new.1 < old.0;
        let word = match (apart, less_is_better(name)) {
            (false, _) => "",
            (true, Some(less)) if (now < before) == less => "better",
            (true, Some(_)) => "worse",
            (true, None) => "differs",
        };
        let show = |middle: f64, (least, most): (f64, f64)| {
            format!("{} ({}–{})", digits(middle), digits(least), digits(most))
        };
        let (left, right) = (show(before, old), show(now, new));
        let _ = writeln!(text, "| {name} | {left} | {right} | {} | {word} |", digits(now / before));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_apart_is_better_or_worse_and_the_rest_is_nothing() {
        let mut reports = [Report::default(), Report::default()];
        for (name, base, this) in [
            ("burst.warm_s", [2.0, 3.0], [1.0, 1.5]),
            ("scale.4_by_1", [3.9, 3.8], [3.0, 3.1]),
            ("edge.cpu_ms", [1.0, 2.0], [1.5, 2.5]),
        ] {
            for (index, values) in [base, this].into_iter().enumerate() {
                values.into_iter().for_each(|value| reports[index].add(name, value));
            }
        }
        let text = render(&reports);
        let word = |name: &str| {
            let line = text.lines().find(|line| line.contains(name)).unwrap_or_default();
            line.rsplit('|').nth(1).unwrap_or_default().trim().to_owned()
        };
        assert_eq!([word("burst"), word("scale"), word("edge")], ["better", "worse", ""]);
    }
}
