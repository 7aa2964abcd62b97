//! How many calls may be under way at once. Pure: `slots` shares it between the turns.
//!
//! A backend may work on many calls at a time or on one. If it works on one, more calls under way make nothing
//! faster: they wait inside it, until they time out. What tells the two apart is how the time of an answer follows the
//! number of calls that were under way when the call began. Where it grows with that number, the limit falls; where it
//! does not, the limit may grow up to the setting. Natural variance has no such slope.

use std::time::Duration;

use tokio::time::Instant;

/// The limit begins at the larger of this and this part of the maximum, and grows from there.
const START: f64 = 8.0;
const START_PART: f64 = 32.0;
/// The weight of the past: so many answers.
const MEMORY: f64 = 64.0;
/// Fewer answers than these say nothing.
const ENOUGH: f64 = 6.0;
/// Answers that come within this part of the time-out need no limit.
const AT_EASE: u32 = 32;
/// Answers that take more than this part of the time-out are near it.
const NEAR: u32 = 4;
/// A limit that was cut comes back after so long without a call.
const CALM: Duration = Duration::from_secs(60);
/// So many quick answers during a call that times out: it is that call's own fault.
const OTHERS_ARE_WELL: u64 = 3;

/// A call that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    began: Instant,
    /// How many were under way then, this one included.
    at_once: usize,
    /// How many quick answers there had been.
    quick: u64,
}

impl Call {
    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer for the customer, or with none for him.
    Answered,
    /// With something that is no answer.
    Failed,
    /// Without anything in time.
    TimedOut,
    /// The backend did not work on it.
    Refused,
}

/// How the time of an answer follows the number of calls: sums for a line through their logarithms.
#[derive(Debug, Clone, Copy, Default)]
struct Slope {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

/// What the answers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// More calls at once make each one slower.
    Crowded,
    /// They do not.
    Roomy,
    /// Too few answers, or all with the same number of calls.
    Unknown,
}

impl Slope {
    fn add(&mut self, calls: usize, took: Duration) {
        let (x, y) = (
            f64::from(u32::try_from(calls.max(1)).unwrap_or(u32::MAX)).ln(),
            took.as_secs_f64().max(1e-4).ln(),
        );
        let keep = 1.0 - 1.0 / MEMORY;
        for (sum, new) in [
            (&mut self.n, 1.0),
            (&mut self.x, x),
            (&mut self.y, y),
            (&mut self.xx, x * x),
            (&mut self.xy, x * y),
            (&mut self.yy, y * y),
        ] {
            *sum = *sum * keep + new;
        }
    }

    fn sign(&self) -> Sign {
        if self.n < ENOUGH - 0.5 {
            return Sign::Unknown;
        }
        let (x, y) = (self.x / self.n, self.y / self.n);
        let (xx, yy) = (self.xx / self.n - x * x, self.yy / self.n - y * y);
        // All with nearly the same number of calls: no slope can be seen.
        if xx < 1e-3 {
            return Sign::Unknown;
        }
        let slope = (self.xy / self.n - x * y) / xx;
        let error = ((yy - slope * slope * xx).max(0.0) / xx / (self.n - 2.0)).sqrt();
        if slope - error > 0.5 {
            Sign::Crowded
        } else if slope + error < 0.25 {
            Sign::Roomy
        } else {
            Sign::Unknown
        }
    }
}

/// The limit, and what it follows.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: f64,
    max: f64,
    start: f64,
    timeout: Duration,
    slope: Slope,
    /// What an answer takes, of late.
    usual: Option<Duration>,
    quick: u64,
    /// When the limit was last cut, and where it was then. Calls that began before say nothing of the limit since.
    cut: Option<(Instant, f64)>,
    last: Option<Instant>,
    /// When there was last no room for another call.
    full: Option<Instant>,
}

impl Limiter {
    /// Up to `max` calls, each of which ends after `timeout`.
    pub(super) fn new(max: usize, timeout: Duration) -> Self {
        let max = f64::from(u32::try_from(max.max(1)).unwrap_or(u32::MAX));
        let start = START.max(max / START_PART).min(max);
        Self {
            limit: start,
            max,
            start,
            timeout,
            slope: Slope::default(),
            usual: None,
            quick: 0,
            cut: None,
            last: None,
            full: None,
        }
    }

    /// How many calls may be under way.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 1 and the setting, which is a small whole number"
    )]
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A call begins; `at_once` are under way with it, and `full` says that there is room for no other.
    pub(super) fn begins(&mut self, at_once: usize, full: bool, now: Instant) -> Call {
        if self.limit < self.start && self.last.is_some_and(|last| now.saturating_duration_since(last) > CALM)
        {
            self.limit = self.start;
            self.slope = Slope::default();
        }
        if full {
            self.full = Some(now);
        }
        Call { began: now, at_once, quick: self.quick }
    }

    /// A call ended, and `others` are under way. Returns whether it is the load that ended it, and not the call itself.
    pub(super) fn ended(&mut self, call: &Call, ended: Ended, others: usize, now: Instant) -> bool {
        self.last = Some(now);
        let took = now.saturating_duration_since(call.began);
        if matches!(ended, Ended::Answered | Ended::Failed) && took < self.timeout / NEAR {
            self.quick += 1;
        }
        match ended {
            Ended::Answered => self.answered(call, took, now),
            Ended::TimedOut => return self.timed_out(call, others, now),
            Ended::Failed | Ended::Refused => {}
        }
        false
    }

    fn answered(&mut self, call: &Call, took: Duration, now: Instant) {
        let usual = self.usual.map_or(took, |usual| (usual * 7 + took) / 8);
        self.usual = Some(usual);
        if self.was_before_the_cut(call) {
            return;
        }
        self.slope.add(call.at_once, took);
        let at_ease = usual.max(took) < self.timeout / AT_EASE;
        let near = usual > self.timeout / NEAR;
        if at_ease {
            return self.grow(call, 4.0);
        }
        match self.slope.sign() {
            Sign::Crowded => {
                let floor = if near { 1.0 } else { self.start.min(self.limit) };
                self.cut_to((self.limit * 0.7).max(floor), now);
            }
            Sign::Roomy => self.grow(call, 1.0),
            Sign::Unknown if near || self.slope.n < ENOUGH - 0.5 => {}
            Sign::Unknown => {
                // Near a limit that was too much, it goes slowly.
                let is_new = self.cut.is_none_or(|(_, at)| self.limit > 1.5 * at) || self.limit < self.start;
                self.grow(call, if is_new { 1.0 } else { 0.25 });
            }
        }
    }

    fn timed_out(&mut self, call: &Call, others: usize, now: Instant) -> bool {
        if call.at_once <= 1 && others == 0 || self.quick - call.quick >= OTHERS_ARE_WELL {
            return false;
        }
        if !self.was_before_the_cut(call) {
            self.cut_to((self.limit / 2.0).max(1.0), now);
        }
        true
    }

    fn was_before_the_cut(&self, call: &Call) -> bool {
        self.cut.is_some_and(|(at, _)| call.began < at)
    }

    /// Only a limit that is used says anything by being larger.
    fn grow(&mut self, call: &Call, by: f64) {
        if self.full.is_some_and(|full| full >= call.began) {
            self.limit = (self.limit + by).min(self.max);
        }
    }

    fn cut_to(&mut self, limit: f64, now: Instant) {
        self.cut = Some((now, self.limit));
        self.limit = limit;
        self.slope = Slope::default();
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
