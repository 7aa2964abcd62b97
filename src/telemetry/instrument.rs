//! The parts of an instrument: a definition that people and tests can read, and the OpenTelemetry instrument, which is
//! created at its first use.
//!
//! The number of labels is part of an instrument's type, so a measurement cannot forget one.
//!
//! Counters count here, in a cell for each set of labels, and OpenTelemetry reads the cells when somebody wants to see
//! them: it would look a set up by its hash, each time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use opentelemetry::{KeyValue, Value, global, metrics};

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
    labels: &'static [&'static str; N],
    made: OnceLock<T>,
}

/// Counts what happens.
pub type Counter<const N: usize> = Instrument<Arc<Cells<AtomicU64, N>>, N>;
/// Measures durations.
pub type Durations<const N: usize> = Instrument<(metrics::Histogram<f64>, Cells<(), N>), N>;
/// Counts how many are inside at this moment.
pub type Level<const N: usize> = Instrument<Arc<Cells<AtomicI64, N>>, N>;
/// A value that is read now and then.
pub type Gauge<const N: usize> = Instrument<metrics::Gauge<u64>, N>;

/// A value for each set of labels that there was. They are few, so they are looked for one after the other.
#[derive(Debug)]
pub struct Cells<V: 'static, const N: usize> {
    names: &'static [&'static str; N],
    /// They live as long as the process, as the instruments do.
    known: RwLock<Vec<&'static Cell<V, N>>>,
}

/// A set of labels, and the value with these.
#[derive(Debug)]
struct Cell<V, const N: usize> {
    labels: [KeyValue; N],
    value: V,
}

impl<V, const N: usize> Cell<V, N> {
    fn has(&self, values: [&str; N]) -> bool {
        self.labels.iter().zip(values).all(|(label, value)| match &label.value {
            Value::String(known) => known.as_str() == value,
            _ => false,
        })
    }
}

impl<V: Default + 'static, const N: usize> Cells<V, N> {
    fn new(names: &'static [&'static str; N]) -> Self {
        Self { names, known: RwLock::default() }
    }

    fn find(&self, values: [&str; N]) -> Option<&'static Cell<V, N>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|cell| cell.has(values)).copied()
    }

    fn of(&self, values: [&str; N]) -> &'static Cell<V, N> {
        self.find(values).unwrap_or_else(|| {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have been here first.
            let found = known.iter().find(|cell| cell.has(values)).copied();
            found.unwrap_or_else(|| {
                let new = Cell { labels: labels(self.names, values), value: V::default() };
                let new: &'static _ = Box::leak(Box::new(new));
                known.push(new);
                new
            })
        })
    }

    fn each(&self, see: impl Fn(&V, &[KeyValue])) {
        for cell in self.known.read().unwrap_or_else(PoisonError::into_inner).iter() {
            see(&cell.value, &cell.labels);
        }
    }
}

fn labels<const N: usize>(names: &[&'static str], values: [&str; N]) -> [KeyValue; N] {
    let mut names = names.iter();
    values.map(|value| KeyValue::new(names.next().copied().unwrap_or_default(), value.to_owned()))
}

impl<T, const N: usize> Instrument<T, N> {
    const fn new(
        kind: Kind,
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str; N],
        description: &'static str,
    ) -> Self {
        Self {
            definition: Definition { name, unit, description, labels, kind },
            labels,
            made: OnceLock::new(),
        }
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
        let cells = self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            let cells = Arc::new(Cells::<AtomicU64, N>::new(self.labels));
            let seen = Arc::clone(&cells);
            meter()
                .u64_observable_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |reader| {
                    seen.each(|count, labels| reader.observe(count.load(Ordering::Relaxed), labels));
                })
                .build();
            cells
        });
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        cells.of(labels).value.fetch_add(count, Ordering::Relaxed);
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
        let (made, cells) = self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            let made = meter()
                .f64_histogram(name)
                .with_unit(unit)
                .with_description(description)
                .with_boundaries(SECONDS.to_vec())
                .build();
            (made, Cells::new(self.labels))
        });
        made.record(time.as_secs_f64(), &cells.of(labels).labels);
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

    /// One more, until the guard is dropped.
    pub fn enter(&self, labels: [&str; N]) -> Inside<'_> {
        let count = &self.cells().of(labels).value;
        count.fetch_add(1, Ordering::Relaxed);
        Inside(count)
    }

    /// So many more, or fewer.
    pub fn change(&self, by: i64, labels: [&str; N]) {
        self.cells().of(labels).value.fetch_add(by, Ordering::Relaxed);
    }

    /// How many are inside at this moment.
    pub fn now(&self, labels: [&str; N]) -> u64 {
        let cell = self.made.get().and_then(|cells| cells.find(labels));
        u64::try_from(cell.map_or(0, |cell| cell.value.load(Ordering::Relaxed))).unwrap_or(0)
    }

    fn cells(&self) -> &Cells<AtomicI64, N> {
        self.made.get_or_init(|| {
            let Definition { name, unit, description, .. } = self.definition;
            let cells = Arc::new(Cells::<AtomicI64, N>::new(self.labels));
            let seen = Arc::clone(&cells);
            meter()
                .i64_observable_up_down_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |reader| {
                    seen.each(|count, labels| reader.observe(count.load(Ordering::Relaxed), labels));
                })
                .build();
            cells
        })
    }
}

/// One of those that a [`Level`] counts.
#[derive(Debug)]
pub struct Inside<'a>(&'a AtomicI64);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        made.record(value, &self::labels(self.labels, labels));
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
