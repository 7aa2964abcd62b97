//! The parts of an instrument: a definition that people and tests can read, and the OpenTelemetry instrument, which is
//! created at its first use.
//!
//! The number of labels is part of an instrument's type, so a measurement cannot forget one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry::{KeyValue, global, metrics};

/// The buckets of all durations, in seconds. They suit an assistant that is slow to answer.
pub const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// What an instrument measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A distribution of durations.
    Histogram,
    /// Goes up and down.
    Gauge,
}

/// The definition of an instrument.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name in OpenTelemetry: `wa.messages`.
    pub name: &'static str,
    /// Its unit in UCUM: `s`, `{message}`. Empty for yes or no, because Prometheus would call the unit `1` a ratio.
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// The labels' names.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub kind: Kind,
}

impl Definition {
    /// Its name in Prometheus: `wa_messages_total`.
    pub fn prometheus_name(&self) -> String {
        let unit = if self.unit == "s" { "_seconds" } else { "" };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }
}

/// An instrument: its definition, and what measures.
#[derive(Debug)]
pub struct Instrument<T, const N: usize> {
    /// The definition.
    pub definition: Definition,
    made: OnceLock<T>,
}

/// Counts what happens.
pub type Counter<const N: usize> = Instrument<metrics::Counter<u64>, N>;
/// Measures durations.
pub type Durations<const N: usize> = Instrument<metrics::Histogram<f64>, N>;
/// Counts how many are inside at this moment.
pub type Level<const N: usize> = Instrument<Tally, N>;
/// A value that is read now and then.
pub type Gauge<const N: usize> = Instrument<metrics::Gauge<u64>, N>;

impl<T, const N: usize> Instrument<T, N> {
    const fn new(
        kind: Kind,
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str; N],
        description: &'static str,
    ) -> Self {
        Self { definition: Definition { name, unit, description, labels, kind }, made: OnceLock::new() }
    }

    fn with(&self, values: [&str; N]) -> [KeyValue; N] {
        let mut names = self.definition.labels.iter();
        values.map(|value| KeyValue::new(names.next().copied().unwrap_or_default(), value.to_owned()))
    }
}

fn meter() -> metrics::Meter {
    global::meter("whatsapp_connector")
}

impl<const N: usize> Counter<N> {
    /// Defines one.
    pub const fn counter(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str; N],
        description: &'static str,
    ) -> Self {
        Self::new(Kind::Counter, name, unit, labels, description)
    }

    /// Adds this many.
    pub fn add(&self, count: usize, labels: [&str; N]) {
        let made = self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            meter().u64_counter(name).with_unit(unit).with_description(description).build()
        });
        made.add(u64::try_from(count).unwrap_or(u64::MAX), &self.with(labels));
    }
}

impl<const N: usize> Durations<N> {
    /// Defines one.
    pub const fn durations(
        name: &'static str,
        labels: &'static [&'static str; N],
        description: &'static str,
    ) -> Self {
        Self::new(Kind::Histogram, name, "s", labels, description)
    }

    /// It took this long.
    pub fn record(&self, time: Duration, labels: [&str; N]) {
        let made = self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            meter()
                .f64_histogram(name)
                .with_unit(unit)
                .with_description(description)
                .with_boundaries(SECONDS.to_vec())
                .build()
        });
        made.record(time.as_secs_f64(), &self.with(labels));
    }

    /// It began then, by another process's clock, and ended now. If the clocks disagree, the duration is zero and never
    /// negative.
    pub fn record_since(&self, began_ms: i64, now_ms: i64, labels: [&str; N]) {
        let took = u64::try_from(now_ms.saturating_sub(began_ms)).unwrap_or(0);
        self.record(Duration::from_millis(took), labels);
    }
}

impl<const N: usize> Level<N> {
    /// Defines one.
    pub const fn level(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str; N],
        description: &'static str,
    ) -> Self {
        Self::new(Kind::Gauge, name, unit, labels, description)
    }

    fn tally(&self) -> &Tally {
        self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            let made =
                meter().i64_up_down_counter(name).with_unit(unit).with_description(description).build();
            Tally { made, now: Mutex::default() }
        })
    }

    /// One more, until the guard is dropped.
    pub fn enter(&self, labels: [&str; N]) -> Inside<'_> {
        let (tally, labels) = (self.tally(), self.with(labels).to_vec());
        tally.add(1, &labels);
        Inside { tally, labels }
    }

    /// So many more, or fewer.
    pub fn change(&self, by: i64, labels: [&str; N]) {
        self.tally().add(by, &self.with(labels));
    }

    /// How many are inside at this moment.
    pub fn now(&self, labels: [&str; N]) -> u64 {
        let now = self.made.get().and_then(|tally| tally.now().get(self.with(labels).as_slice()).copied());
        u64::try_from(now.unwrap_or(0)).unwrap_or(0)
    }
}

/// The count of a [`Level`]. OpenTelemetry's counters cannot be read.
#[derive(Debug)]
pub struct Tally {
    made: metrics::UpDownCounter<i64>,
    now: Mutex<HashMap<Vec<KeyValue>, i64>>,
}

impl Tally {
    fn add(&self, change: i64, labels: &[KeyValue]) {
        self.made.add(change, labels);
        *self.now().entry(labels.to_vec()).or_default() += change;
    }

    fn now(&self) -> MutexGuard<'_, HashMap<Vec<KeyValue>, i64>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that a [`Level`] counts.
#[derive(Debug)]
pub struct Inside<'a> {
    tally: &'a Tally,
    labels: Vec<KeyValue>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.tally.add(-1, &self.labels);
    }
}

impl<const N: usize> Gauge<N> {
    /// Defines one.
    pub const fn gauge(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str; N],
        description: &'static str,
    ) -> Self {
        Self::new(Kind::Gauge, name, unit, labels, description)
    }

    /// It is this now.
    pub fn set(&self, value: u64, labels: [&str; N]) {
        let made = self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            meter().u64_gauge(name).with_unit(unit).with_description(description).build()
        });
        made.record(value, &self.with(labels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_inside_is_counted() {
        static LEVEL: Level<1> = Level::level("wa.test", "", &["state"], "A test.");
        assert_eq!(LEVEL.now(["a"]), 0);
        let (first, second) = (LEVEL.enter(["a"]), LEVEL.enter(["a"]));
        let _other = LEVEL.enter(["b"]);
        assert_eq!((LEVEL.now(["a"]), LEVEL.now(["b"]), LEVEL.now(["c"])), (2, 1, 0));
        drop((first, second));
        assert_eq!(LEVEL.now(["a"]), 0);
    }
}
