//! The loop breaker: decides when a chat gets no answers for a while. Pure.
//!
//! Two bots that answer each other never stop by themselves. They differ from a person in how fast they *write*. So
//! the rule looks at the times of writing: a backlog that drains at once after an outage is not a loop.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::rate::{Limit, Rate};
use crate::wire::ChatToken;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Answer,
    /// It is not sent: the chat writes faster than the limit.
    Suppress {
        /// It is the first suppressed answer since the chat was last answered.
        first: bool,
    },
}

/// What the loop breaker remembers of the chats.
#[derive(Debug)]
pub(super) struct LoopBreaker {
    limit: Limit,
    chats: HashMap<ChatToken, Chat>,
}

#[derive(Debug)]
struct Chat {
    /// The latest answers, also suppressed ones: when their messages were written, and their sequences. Never more
    /// than the limit plus one.
    latest: BTreeSet<(i64, u64)>,
    broken: bool,
    /// When the last answer was judged.
    touched: Instant,
}

impl LoopBreaker {
    /// Nothing is known of any chat yet.
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, chats: HashMap::new() }
    }

    /// May the answer `sequence` go to `chat`, whose message was written at `written_ms`?
    ///
    /// Suppressed answers count too: a loop stays broken for as long as the other side writes faster than the
    /// limit. The same answer counts only once.
    pub(super) fn judge(
        &mut self,
        chat: &ChatToken,
        sequence: u64,
        written_ms: i64,
        now: Instant,
    ) -> Verdict {
        let Some(rate) = self.limit else { return Verdict::Answer };
        let chat = self.chats.entry(chat.clone()).or_insert_with(|| Chat {
            latest: BTreeSet::new(),
            broken: false,
            touched: now,
        });
        chat.touched = now;
        chat.judge(rate, sequence, written_ms)
    }

    /// Forgets chats without an answer for longer than the limit's window.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        let window = self.limit.map_or(Duration::ZERO, |rate| rate.window);
        self.chats.retain(|_, chat| now.saturating_duration_since(chat.touched) <= window);
        self.chats.shrink_to_fit();
    }
}

impl Chat {
    fn judge(&mut self, rate: Rate, sequence: u64, written_ms: i64) -> Verdict {
        let window = i64::try_from(rate.window.as_millis()).unwrap_or(i64::MAX);
        let limit = usize::try_from(rate.count.get()).unwrap_or(usize::MAX);
        let this = (written_ms, sequence);
        // A message written a whole window earlier is outside the window: times are in whole seconds, and the
        // person gets the benefit of the doubt.
        let outside = (written_ms.saturating_sub(window), u64::MAX);
        let before = self.latest.range(..this).rev().take_while(|one| **one > outside).count();
        let is_new = self.latest.insert(this);
        if self.latest.len() > limit.saturating_add(1) {
            self.latest.pop_first();
        }
        let is_over = before >= limit;
        let first = is_new && is_over && !self.broken;
        if is_new {
            self.broken = is_over;
        }
        if is_over { Verdict::Suppress { first } } else { Verdict::Answer }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rate::limit;
    use super::*;
    use proptest::prelude::*;

    const ANSWER: Verdict = Verdict::Answer;
    const FIRST: Verdict = Verdict::Suppress { first: true };
    const MORE: Verdict = Verdict::Suppress { first: false };

    fn chat() -> ChatToken {
        ChatToken::phone("5491112345678")
    }

    fn loops(text: &str) -> LoopBreaker {
        LoopBreaker::new(limit(text).unwrap())
    }

    /// The verdicts on answers to messages written at these seconds.
    fn verdicts(text: &str, seconds: impl IntoIterator<Item = i64>) -> Vec<Verdict> {
        let mut loops = loops(text);
        let now = Instant::now();
        let numbered = seconds.into_iter().zip(1..);
        numbered.map(|(second, sequence)| loops.judge(&chat(), sequence, second * 1_000, now)).collect()
    }

    #[test]
    fn the_first_over_the_limit_is_told_and_none_is_answered_while_it_turns() {
        assert_eq!(verdicts("3/10s", [0, 1, 2, 3, 4, 5]), [ANSWER, ANSWER, ANSWER, FIRST, MORE, MORE]);
    }

    #[test]
    fn a_loop_stays_broken_until_it_is_slower_than_the_limit_and_can_break_again() {
        // One every three seconds is above three in ten seconds; one every four is not.
        let turning = verdicts("3/10s", (0..40).map(|number| number * 3));
        assert_eq!(turning.iter().filter(|verdict| **verdict == ANSWER).count(), 3);
        let slower = verdicts("3/10s", [0, 1, 2, 3, 13, 17, 18, 19, 20]);
        assert_eq!(slower, [ANSWER, ANSWER, ANSWER, FIRST, ANSWER, ANSWER, ANSWER, FIRST, MORE]);
    }

    #[test]
    fn exactly_the_limit_is_no_loop() {
        assert!(
            verdicts("30/1m", (0..300).map(|number| number * 2)).iter().all(|verdict| *verdict == ANSWER)
        );
    }

    #[test]
    fn what_was_written_a_whole_window_earlier_is_out_of_it_whatever_its_sequence() {
        for earlier in [0, 1, u64::MAX] {
            let (mut loops, now) = (loops("1/10s"), Instant::now());
            assert_eq!(loops.judge(&chat(), earlier, 0, now), ANSWER);
            assert_eq!(loops.judge(&chat(), 2, 10_000, now), ANSWER, "{earlier}");
        }
    }

    #[test]
    fn chats_are_judged_apart_and_off_is_no_limit() {
        let mut loops = loops("1/10s");
        let now = Instant::now();
        assert_eq!(loops.judge(&chat(), 1, 0, now), ANSWER);
        assert_eq!(loops.judge(&ChatToken::phone("15551234567"), 2, 0, now), ANSWER);
        assert_eq!(loops.judge(&chat(), 3, 0, now), FIRST);
        assert!(verdicts("off", [0; 100]).iter().all(|verdict| *verdict == ANSWER));
    }

    #[test]
    fn idle_chats_are_forgotten() {
        let mut loops = loops("1/10s");
        let start = Instant::now();
        loops.judge(&chat(), 1, 0, start);
        loops.forget_idle(start + Duration::from_secs(10));
        assert_eq!(loops.chats.len(), 1);
        loops.forget_idle(start + Duration::from_secs(11));
        assert!(loops.chats.is_empty());
    }

    proptest! {
        /// The rule from the times alone, without any memory: an answer is suppressed if and only if `limit` others
        /// were written in the window that ends with it.
        #[test]
        fn it_is_the_rate_of_writing_that_counts(gaps in prop::collection::vec(0i64..8, 1..120), limit in 1usize..6) {
            let times: Vec<i64> =
                gaps.iter().scan(0, |time, gap| { *time += gap; Some(*time) }).collect();
            let seen = verdicts(&format!("{limit}/10s"), times.iter().copied());
            for (at, verdict) in seen.iter().enumerate() {
                let earlier = times[..at].iter().filter(|time| **time > times[at] - 10).count();
                prop_assert_eq!(*verdict == ANSWER, earlier < limit, "number {} of {:?}", at, times);
                let is_first = at > 0 && seen[at - 1] == ANSWER;
                prop_assert_eq!(*verdict == FIRST, earlier >= limit && is_first);
            }
        }

        /// However often the bus delivers an answer, it counts once and is reported once.
        #[test]
        fn a_repeated_answer_changes_nothing(gaps in prop::collection::vec(0i64..8, 1..60), repeat in 1usize..4) {
            let times: Vec<i64> =
                gaps.iter().scan(0, |time, gap| { *time += gap; Some(*time) }).collect();
            let once = verdicts("3/10s", times.iter().copied());
            let (mut loops, now) = (loops("3/10s"), Instant::now());
            for ((time, sequence), verdict) in times.iter().zip(1..).zip(once) {
                prop_assert_eq!(loops.judge(&chat(), sequence, time * 1_000, now), verdict);
                for _ in 0..repeat {
                    let again = loops.judge(&chat(), sequence, time * 1_000, now);
                    prop_assert_eq!(again == ANSWER, verdict == ANSWER);
                    prop_assert_ne!(again, FIRST);
                }
            }
        }

        /// Times may come in any order and have any value. What is remembered stays within the limit.
        #[test]
        fn no_time_breaks_it(times in prop::collection::vec(any::<i64>(), 0..60)) {
            let mut loops = loops("5/1m");
            for (time, sequence) in times.into_iter().zip(1..) {
                loops.judge(&chat(), sequence, time, Instant::now());
                prop_assert!(loops.chats.values().all(|chat| chat.latest.len() <= 6));
            }
        }
    }
}
