//! What a message's failures have used up of `BACKEND_RETRY_FOR`, and how long it waits before its next attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::forwarder::policy;

/// So many time-outs of a message may be due to the load. Then they are its own.
const OVERLOADS: u32 = 4;

/// The failures of one turn.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// Attempts that did not succeed, whosever fault that was.
    attempts: u32,
    overloads: u32,
    used: Duration,
    since: Option<Instant>,
}

impl Failing {
    /// Has the backend been asked before?
    pub(super) fn is_retry(&self) -> bool {
        self.attempts > 0
    }

    /// How often an attempt did not succeed.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// From now until the next failure, nothing is used up.
    pub(super) fn pause(&mut self, now: Instant) {
        self.used += self.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    }

    /// The message failed. Returns how long to wait for the next attempt. `None`: the time is used up.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        retry_for: Duration,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let wait = self.wait(retry_after);
        let used = self.used + now.saturating_duration_since(since);
        (used + wait <= retry_for).then_some(wait)
    }

    /// It is not the message's fault. Returns how long to wait for the next attempt.
    pub(super) fn excused(&mut self, now: Instant, retry_after: Option<Duration>) -> Duration {
        self.pause(now);
        self.wait(retry_after)
    }

    /// May one more time-out be due to the load?
    pub(super) fn may_be_overload(&mut self) -> bool {
        self.overloads += 1;
        self.overloads <= OVERLOADS
    }

    fn wait(&mut self, retry_after: Option<Duration>) -> Duration {
        let wait = policy::at_least(policy::retry_delay(self.attempts, jitter()), retry_after);
        self.attempts += 1;
        wait
    }
}

/// A random number in 0..1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn only_the_time_of_failing_is_used_up() {
        let (mut failing, mut now) = (Failing::default(), Instant::now());
        now += failing.failed(now, LIMIT, None).unwrap();
        // An outage of an hour, and then the same failure as before.
        failing.pause(now);
        now += Duration::from_secs(3_600);
        now += failing.failed(now, LIMIT, None).unwrap();
        now += failing.excused(now, Some(Duration::from_secs(25)));
        now += failing.failed(now, LIMIT, None).unwrap();
        now += LIMIT;
        assert_eq!(failing.failed(now, LIMIT, None), None);
        assert!(failing.is_retry());
    }

    #[test]
    fn what_the_backend_asks_for_is_waited_for_and_counts() {
        let (mut failing, now) = (Failing::default(), Instant::now());
        let seven = Some(Duration::from_secs(7));
        assert_eq!(failing.failed(now, LIMIT, seven), seven);
        assert_eq!(failing.failed(now + Duration::from_secs(7), LIMIT, seven), None);
    }

    #[test]
    fn a_message_that_always_times_out_is_to_blame_in_the_end() {
        let mut failing = Failing::default();
        let excused = (0..100).filter(|_| failing.may_be_overload()).count();
        assert_eq!(excused, 4);
    }
}
