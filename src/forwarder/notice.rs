//! Tells a person that only text is read (`UNSUPPORTED_TEXT`), once an hour in each chat. Pure.
//!
//! When a chat was told last is on its last outcome, and each outcome takes it over from the one before for an hour. The
//! compare-and-set on the last outcome is also the guard of this: whoever appends has read it. So no process remembers
//! anything, and a burst of stickers gets one text, whoever dies.

use super::chain::Last;
use super::decision::Decision;
use crate::wire::v1::{NoReplyReason, Reply};
use crate::wire::{Headers, header};

/// How long a chat is not told again.
const PAUSE_MS: u64 = 60 * 60 * 1_000;

/// When the chat was told, as this outcome says. 0: it does not say.
pub(super) fn told_at_ms(outcome: &Headers) -> i64 {
    outcome.sequence(header::TOLD_AT).and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
}

/// Does this decision leave a person without a word, for want of words?
pub(super) fn is_without_words(decision: &Decision) -> bool {
    matches!(decision, Decision::None(none) if none.reason() == NoReplyReason::NotText)
}

/// The text as an outcome behind `last`, unless the chat was told within the hour.
pub(super) fn due(text: &str, last: Last, now_ms: i64) -> Option<Decision> {
    let is_due = !was_told(last, now_ms);
    is_due.then(|| Decision::Reply(Reply { text: text.to_owned(), ..Reply::default() }))
}

/// What the next outcome says of when the chat was told, behind `last`.
pub(super) fn next_told_at_ms(tells: bool, last: Last, now_ms: i64) -> i64 {
    match (tells, was_told(last, now_ms)) {
        (true, _) => now_ms,
        (false, true) => last.told_at_ms,
        (false, false) => 0,
    }
}

/// Was the chat told within the hour? The clocks of two machines may differ by a little, in either direction.
fn was_told(last: Last, now_ms: i64) -> bool {
    last.told_at_ms > 0 && now_ms.abs_diff(last.told_at_ms) < PAUSE_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarder::decision;

    const NOW: i64 = 1_736_330_400_000;
    const HOUR: i64 = 3_600_000;

    fn told(told_at_ms: i64) -> Last {
        Last { told_at_ms, ..Last::default() }
    }

    #[test]
    fn a_chat_is_told_once_an_hour_and_each_outcome_remembers_it() {
        for (last, is_due, carried) in [
            (0, true, 0),
            (NOW, false, NOW),
            (NOW - HOUR + 1, false, NOW - HOUR + 1),
            (NOW - HOUR, true, 0),
            // Another machine's clock is ahead.
            (NOW + 5_000, false, NOW + 5_000),
            (NOW + HOUR, true, 0),
            (i64::MAX, true, 0),
            (-1, true, 0),
        ] {
            let text = due("Solo leo texto.", told(last), NOW);
            assert_eq!(text.is_some(), is_due, "{last}");
            assert_eq!(next_told_at_ms(false, told(last), NOW), carried, "{last}");
            assert_eq!(next_told_at_ms(true, told(last), NOW), NOW, "{last}");
        }
        let Some(Decision::Reply(reply)) = due("Solo leo texto.", told(0), NOW) else { panic!("no text") };
        assert_eq!(reply, Reply { text: "Solo leo texto.".into(), ..Reply::default() });
    }

    #[test]
    fn only_a_message_without_words_is_answered_so() {
        assert!(is_without_words(&decision::none(NoReplyReason::NotText)));
        for reason in [NoReplyReason::FromMe, NoReplyReason::NotDirect, NoReplyReason::BackendSilent] {
            assert!(!is_without_words(&decision::none(reason)));
        }
        assert!(!is_without_words(&Decision::Reply(Reply::default())));
    }

    #[test]
    fn an_outcome_says_it_in_a_header() {
        for (value, want) in [("1736330400000", NOW), ("soon", 0), ("-1", 0), ("99999999999999999999", 0)] {
            let mut headers = Headers::default();
            headers.set(header::TOLD_AT, value);
            assert_eq!(told_at_ms(&headers), want, "{value}");
        }
        assert_eq!(told_at_ms(&Headers::default()), 0);
    }
}
