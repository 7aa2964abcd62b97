//! What all suites have found so far.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::judge::Verdict;

/// Figures by name, each with a value for each run; verdicts; and what there is to say.
#[derive(Debug, Clone, Default)]
pub struct Report {
    figures: BTreeMap<String, Vec<f64>>,
    verdicts: BTreeMap<String, Verdict>,
    /// What must not be.
    pub problems: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Report {
    /// One more value of a figure.
    pub fn add(&mut self, name: &str, value: f64) {
        self.figures.entry(name.to_owned()).or_default().push(value);
    }

    /// A run was judged; what was promised must be so.
    pub fn judged(&mut self, suite: &str, verdict: Verdict, keeps_order: bool) {
        let fine = if keeps_order { verdict.is_clean() } else { verdict.is_complete() };
        if !fine {
            self.problems.push(format!("{suite}: {verdict:?}"));
        }
        let so_far = self.verdicts.entry(suite.to_owned()).or_default();
        *so_far = so_far.and(verdict);
    }

    /// The middle of a figure's values.
    pub fn median(&self, name: &str) -> Option<f64> {
        median(self.figures.get(name)?)
    }

    /// The least and the most of them.
    pub fn range(&self, name: &str) -> Option<(f64, f64)> {
        let values = self.figures.get(name)?;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (!values.is_empty()).then_some((least, most))
    }

    /// The names of all figures.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.figures.keys().map(String::as_str)
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let figures = self
            .figures
            .iter()
            .map(|(name, values)| (name.clone(), json!({"median": median(values), "values": values})));
        json!({
            "figures": figures.collect::<serde_json::Map<_, _>>(), "verdicts": self.verdicts,
            "problems": self.problems, "notes": self.notes,
        })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The value below which `share` of all are; `times` need not be sorted.
pub fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let index = (times.len() as f64 * share).floor() as usize;
    times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_range_of_a_figure() {
        let mut report = Report::default();
        for value in [3.0, 1.0, 2.0, 10.0] {
            report.add("a", value);
        }
        assert_eq!(report.median("a"), Some(2.5));
        assert_eq!(report.range("a"), Some((1.0, 10.0)));
        assert_eq!((report.median("b"), report.range("b")), (None, None));
        assert_eq!(percentile(&mut [5.0, 1.0, 4.0, 2.0, 3.0], 0.5), 3.0);
        assert_eq!(percentile(&mut [1.0, 2.0], 0.99), 2.0);
    }

    #[test]
    fn what_is_lost_is_a_problem_and_disorder_only_where_order_is_promised() {
        let mut report = Report::default();
        let disorder = Verdict { messages: 5, out_of_order: 1, ..Verdict::default() };
        report.judged("floor", disorder, false);
        assert!(report.problems.is_empty());
        report.judged("ours", disorder, true);
        report.judged("floor", Verdict { lost: 1, ..disorder }, false);
        assert_eq!(report.problems.len(), 2);
    }
}
