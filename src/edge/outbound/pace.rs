//! How soon WhatsApp is asked again after it gave no answer: ever later, and never sooner than it wants.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest one, also if WhatsApp names a longer one.
const LONGEST: Duration = Duration::from_secs(600);

/// How often there was no answer, in a row. Pure, but for chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    failures: u32,
    /// How long it waits of its own accord at most.
    at_most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self::at_most(LONGEST)
    }
}

impl Pace {
    /// It waits so long at most, if WhatsApp does not name a longer pause.
    pub(super) fn at_most(at_most: Duration) -> Self {
        Self { failures: 0, at_most }
    }

    /// Is this the first failure in a row?
    pub(super) fn is_fresh(self) -> bool {
        self.failures == 0
    }

    /// There was an answer.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    /// There was none. WhatsApp may want to be left alone for `backoff`. Returns how long to wait: not all wait equally long.
    pub(super) fn failed(&mut self, backoff: Option<Duration>) -> Duration {
        self.failed_by(backoff, chance())
    }

    fn failed_by(&mut self, backoff: Option<Duration>, chance: f64) -> Duration {
        let doubled = (FIRST * 2_u32.pow(self.failures.min(10))).min(self.at_most);
        self.failures = self.failures.saturating_add(1);
        let own = doubled.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 4.0);
        backoff.unwrap_or_default().max(own).min(LONGEST)
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_respect_what_whatsapp_asks_for() {
        let seconds = Duration::from_secs;
        let all =
            |mut pace: Pace| -> Vec<u64> { (0..12).map(|_| pace.failed_by(None, 1.0).as_secs()).collect() };
        assert_eq!(all(Pace::default()), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(all(Pace::at_most(seconds(60))), [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]);
        assert_eq!(Pace::default().failed_by(None, 0.0), Duration::from_millis(750));
        assert_eq!(Pace::default().failed_by(Some(seconds(30)), 1.0), seconds(30));
        assert_eq!(Pace::at_most(seconds(60)).failed_by(Some(seconds(90)), 1.0), seconds(90));
        assert_eq!(Pace::default().failed_by(Some(seconds(86_400)), 1.0), LONGEST);
    }
}
