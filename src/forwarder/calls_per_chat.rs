//! How many calls of the backend one chat may cause in a time (`CALLS_PER_CHAT`). Pure.
//!
//! It is a bucket of calls that fills again evenly. All that has to be known of it is when it will be full: that is one
//! time, and it is on the chat's last outcome, as `notice` has its own. Whoever appends the next outcome has read it, so no
//! process counts anything, and it holds for any number of them and across restarts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::chain::Last;
use super::decision::Decision;
use crate::wire::v1::{NoReplyReason, Reply};
use crate::wire::{Headers, header};

/// At most `count` calls in any `window`, and as many again after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub count: u32,
    /// In what time.
    pub window: Duration,
}

/// What an outcome says of its chat's calls. 0: nothing. Milliseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// When all calls may be made again.
    pub full_at_ms: i64,
    /// When the person was last told.
    pub told_at_ms: i64,
}

impl Counted {
    /// As an outcome's headers say it.
    pub(super) fn of(outcome: &Headers) -> Self {
        let read = |name| outcome.sequence(name).and_then(|at| i64::try_from(at).ok()).unwrap_or(0);
        Self { full_at_ms: read(header::CALLS_FULL_AT), told_at_ms: read(header::RATE_TOLD_AT) }
    }

    /// Says it in an outcome's headers.
    pub(super) fn set(self, outcome: &mut Headers) {
        for (name, at_ms) in
            [(header::CALLS_FULL_AT, self.full_at_ms), (header::RATE_TOLD_AT, self.told_at_ms)]
        {
            if at_ms > 0 {
                outcome.set(name, &at_ms.to_string());
            }
        }
    }
}

impl Limit {
    fn window_ms(self) -> i64 {
        i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX)
    }

    fn interval_ms(self) -> i64 {
        (self.window_ms() / i64::from(self.count.max(1))).max(1)
    }

    /// When the bucket is full, as far as this can be: a clock that is wrong costs no more than one window.
    fn full_at_ms(self, last: Last, now_ms: i64) -> i64 {
        last.calls.full_at_ms.clamp(now_ms, now_ms.saturating_add(self.window_ms()))
    }

    /// Has the chat made its calls, and none may be made now?
    pub(super) fn is_over(self, last: Last, now_ms: i64) -> bool {
        let missing = self.full_at_ms(last, now_ms).saturating_sub(now_ms);
        missing.saturating_add(self.interval_ms()) > self.window_ms()
    }

    /// The text that says so, if it is due behind `last`.
    pub(super) fn notice(self, text: &str, last: Last, now_ms: i64) -> Option<Decision> {
        let is_due = !text.is_empty() && !self.was_told(last, now_ms);
        is_due.then(|| Decision::Reply(Reply { text: text.to_owned(), ..Reply::default() }))
    }

    /// What the next outcome says, behind `last`.
    pub(super) fn next(self, last: Last, (called, tells): (bool, bool), now_ms: i64) -> Counted {
        let used = if called { self.interval_ms() } else { 0 };
        let full_at_ms = self.full_at_ms(last, now_ms).saturating_add(used);
        let told_at_ms = match (tells, self.was_told(last, now_ms)) {
            (true, _) => now_ms,
            (false, true) => last.calls.told_at_ms,
            (false, false) => 0,
        };
        Counted { full_at_ms: if full_at_ms > now_ms { full_at_ms } else { 0 }, told_at_ms }
    }

    fn was_told(self, last: Last, now_ms: i64) -> bool {
        let since = now_ms.abs_diff(last.calls.told_at_ms);
        last.calls.told_at_ms > 0 && i64::try_from(since).is_ok_and(|since| since < self.window_ms())
    }
}

/// Does this decision leave a person without an answer because of the limit?
pub(super) fn is_over_the_limit(decision: &Decision) -> bool {
    matches!(decision, Decision::None(none) if none.reason() == NoReplyReason::Rate)
}

/// What is known of one turn's calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    over: AtomicBool,
    made: AtomicBool,
}

impl Calls {
    /// It is the message's turn, behind `last`.
    pub(super) fn turn(&self, limit: Option<Limit>, last: Last, now_ms: i64) {
        self.over.store(limit.is_some_and(|limit| limit.is_over(last, now_ms)), Ordering::Relaxed);
    }

    /// May the backend be called? What has begun may be repeated.
    pub(super) fn is_refused(&self) -> bool {
        self.over.load(Ordering::Relaxed) && !self.were_made()
    }

    /// The backend is called.
    pub(super) fn made(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    /// Was the backend called in this turn?
    pub(super) fn were_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forwarder::decision;

    const NOW: i64 = 1_736_330_400_000;
    const HOUR: i64 = 3_600_000;
    const LIMIT: Limit = Limit { count: 3, window: Duration::from_secs(3_600) };

    fn behind(calls: Counted) -> Last {
        Last { calls, ..Last::default() }
    }

    /// Calls as long as that is allowed; how many were.
    fn calls(last: &mut Last, now_ms: i64) -> usize {
        let mut made = 0;
        while !LIMIT.is_over(*last, now_ms) {
            last.calls = LIMIT.next(*last, (true, false), now_ms);
            made += 1;
        }
        made
    }

    #[test]
    fn so_many_at_once_and_then_one_as_each_becomes_free() {
        let mut last = Last::default();
        for (at, made) in [(0, 3), (1, 0), (HOUR / 3 - 1, 0), (HOUR / 3, 1), (HOUR, 2), (10 * HOUR, 3)] {
            assert_eq!(calls(&mut last, NOW + at), made, "{at}");
        }
    }

    #[test]
    fn what_no_call_was_made_for_costs_nothing_and_keeps_the_count() {
        let mut last = Last::default();
        calls(&mut last, NOW);
        let kept = LIMIT.next(last, (false, false), NOW + 5);
        assert_eq!(kept, last.calls);
        assert_eq!(
            LIMIT.next(last, (false, false), NOW + HOUR),
            Counted::default(),
            "full again: nothing to say"
        );
    }

    #[test]
    fn a_wrong_clock_silences_nobody_for_longer_than_the_window() {
        for full_at_ms in [i64::MAX, NOW + 100 * HOUR] {
            let mut last = behind(Counted { full_at_ms, told_at_ms: 0 });
            assert!(LIMIT.is_over(last, NOW));
            last.calls = LIMIT.next(last, (false, false), NOW);
            assert_eq!(calls(&mut last, NOW + HOUR), 3);
        }
        assert!(!LIMIT.is_over(behind(Counted { full_at_ms: -5, told_at_ms: 0 }), NOW));
    }

    #[test]
    fn a_person_is_told_once_in_a_window() {
        let told = |told_at_ms| behind(Counted { full_at_ms: 0, told_at_ms });
        for (told_at_ms, is_due) in
            [(0, true), (NOW, false), (NOW - HOUR + 1, false), (NOW - HOUR, true), (NOW + 5, false)]
        {
            assert_eq!(LIMIT.notice("Mañana más.", told(told_at_ms), NOW).is_some(), is_due, "{told_at_ms}");
            let carried = LIMIT.next(told(told_at_ms), (false, false), NOW).told_at_ms;
            assert_eq!(carried, if is_due { 0 } else { told_at_ms });
        }
        assert_eq!(LIMIT.notice("", told(0), NOW), None);
        assert_eq!(LIMIT.next(told(0), (false, true), NOW).told_at_ms, NOW);
        assert!(is_over_the_limit(&decision::none(NoReplyReason::Rate)));
        assert!(!is_over_the_limit(&decision::none(NoReplyReason::NotText)));
    }

    #[test]
    fn headers_say_it_and_are_read_again() {
        let counted = Counted { full_at_ms: NOW, told_at_ms: 7 };
        let mut headers = Headers::default();
        counted.set(&mut headers);
        assert_eq!(Counted::of(&headers), counted);
        let mut none = Headers::default();
        Counted::default().set(&mut none);
        assert_eq!(none, Headers::default());
        headers.set(header::CALLS_FULL_AT, "soon");
        assert_eq!(Counted::of(&headers).full_at_ms, 0);
    }

    #[test]
    fn a_retry_of_what_has_begun_is_never_refused() {
        let (mut last, turn) = (Last::default(), Calls::default());
        turn.turn(Some(LIMIT), last, NOW);
        assert!(!turn.is_refused());
        turn.made();
        calls(&mut last, NOW);
        turn.turn(Some(LIMIT), last, NOW);
        assert!(!turn.is_refused());
        let other = Calls::default();
        other.turn(Some(LIMIT), last, NOW);
        assert!(other.is_refused());
        other.turn(None, last, NOW);
        assert!(!other.is_refused());
    }

    proptest! {
        /// In no window are there more than twice as many, and over a long time no more than the rate.
        #[test]
        fn the_rate_is_kept(waits in prop::collection::vec(0..HOUR, 1..60), count in 1..20_u32) {
            let limit = Limit { count, window: Duration::from_secs(3_600) };
            let (mut last, mut now, mut made) = (Last::default(), NOW, Vec::new());
            for wait in waits {
                now += wait;
                let is_over = limit.is_over(last, now);
                last.calls = limit.next(last, (!is_over, false), now);
                if !is_over { made.push(now) }
            }
            for (at, first) in made.iter().enumerate() {
                let within = made[at..].iter().filter(|one| **one - first < HOUR).count();
                prop_assert!(within <= 2 * count as usize);
            }
            let whole = made.len() as i64 - i64::from(count);
            prop_assert!(whole <= (now - NOW) / limit.interval_ms() + 1);
        }
    }
}
