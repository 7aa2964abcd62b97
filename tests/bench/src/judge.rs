//! Whether every message was answered, once, and in its chat's order. Out of what is stored and of the backend's log.

use std::collections::BTreeMap;

use crate::bus::Stored;
use crate::load::Written;
use crate::names;
use crate::stub::Call;

/// An outcome on the bus.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The message that it ends.
    pub of: u64,
    /// Its own place.
    pub sequence: u64,
    /// The place of the one before it in its chat, as it says.
    pub previous: u64,
    /// Its chat.
    pub chat: u32,
    /// When it was stored, in nanoseconds since 1970.
    pub at: i64,
}

impl Outcome {
    /// Reads one off the bus.
    pub fn read(stored: &Stored) -> Self {
        let number = |name: &str| {
            let value = stored.headers.get(name).map(async_nats::HeaderValue::as_str);
            value.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        Self {
            of: number("Wa-In-Seq"),
            sequence: stored.sequence,
            previous: number("Wa-Prev-Seq"),
            chat: names::chat(&stored.chat).unwrap_or(u32::MAX),
            at: stored.at,
        }
    }
}

/// What is wrong, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// How many messages there were.
    pub messages: usize,
    /// Without an outcome.
    pub lost: usize,
    /// Outcomes over one for each message.
    pub doubled: usize,
    /// Calls over one for each message.
    pub called_again: usize,
    /// Calls that began before the chat's call before them had ended, and outcomes that came too early.
    pub out_of_order: usize,
    /// Outcomes that name another one than the chat's last.
    pub unlinked: usize,
}

impl Verdict {
    /// All is as promised.
    pub fn is_clean(self) -> bool {
        Self { messages: self.messages, ..Self::default() } == self
    }

    /// Nothing lost or doubled; the order does not count. For contenders that promise none.
    pub fn is_complete(self) -> bool {
        self.lost == 0 && self.doubled == 0
    }

    /// Two runs as one.
    pub fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            called_again: self.called_again + other.called_again,
            out_of_order: self.out_of_order + other.out_of_order,
            unlinked: self.unlinked + other.unlinked,
        }
    }
}

/// Judges what is left behind when nothing more can happen.
pub fn judge(written: &[Written], outcomes: &[Outcome], calls: &[Call]) -> Verdict {
    let mut verdict = Verdict { messages: written.len(), ..Verdict::default() };
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for outcome in outcomes {
        *times.entry(outcome.of).or_default() += 1;
    }
    verdict.lost = written.iter().filter(|one| !times.contains_key(&one.sequence)).count();
    verdict.doubled = times.values().map(|times| times - 1).sum();
    let mut ends: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let first = outcomes.first().map_or(0, |outcome| outcome.sequence);
    for outcome in outcomes {
        let before = ends.insert(outcome.chat, (outcome.sequence, outcome.of));
        // A chat's first one here may name one from before.
        let fits = before.map_or(outcome.previous < first, |(last, _)| outcome.previous == last);
        verdict.unlinked += usize::from(!fits);
        verdict.out_of_order += usize::from(before.is_some_and(|(_, of)| outcome.of < of));
    }
    let mut open: BTreeMap<u32, (u32, i64)> = BTreeMap::new();
    let mut called: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for call in calls {
        *called.entry((call.chat, call.number)).or_default() += 1;
        if let Some((number, ended)) = open.insert(call.chat, (call.number, call.ended)) {
            // The same message again is one that was given up, and is counted below.
            let early = call.number != number && (ended == 0 || call.began < ended);
            verdict.out_of_order += usize::from(early || call.number < number);
        }
    }
    verdict.called_again = called.values().map(|times| times - 1).sum();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<Written> {
        [(0, 0, 1), (1, 0, 2), (0, 1, 3)]
            .map(|(chat, number, sequence)| Written { chat, number, sequence })
            .to_vec()
    }

    fn outcomes() -> Vec<Outcome> {
        [(1, 11, 0, 0), (2, 12, 0, 1), (3, 13, 11, 0)]
            .map(|(of, sequence, previous, chat)| Outcome { of, sequence, previous, chat, at: 0 })
            .to_vec()
    }

    fn calls() -> Vec<Call> {
        [(0, 0, 10, 20), (1, 0, 12, 22), (0, 1, 21, 31)]
            .map(|(chat, number, began, ended)| Call { chat, number, began, ended })
            .to_vec()
    }

    #[test]
    fn one_answer_each_in_order_is_clean() {
        let verdict = judge(&written(), &outcomes(), &calls());
        assert_eq!(verdict, Verdict { messages: 3, ..Verdict::default() });
        assert!(verdict.is_clean() && verdict.is_complete());
    }

    #[test]
    fn what_is_lost_or_doubled_is_counted() {
        let mut fewer = outcomes();
        fewer.pop();
        assert_eq!(judge(&written(), &fewer, &calls()).lost, 1);
        let mut more = outcomes();
        more.push(Outcome { of: 3, sequence: 14, previous: 13, chat: 0, at: 0 });
        let verdict = judge(&written(), &more, &calls());
        assert_eq!((verdict.doubled, verdict.is_complete()), (1, false));
        let mut again = calls();
        again.push(Call { chat: 0, number: 1, began: 30, ended: 50 });
        let verdict = judge(&written(), &outcomes(), &again);
        assert_eq!((verdict.called_again, verdict.out_of_order), (1, 0));
        assert!(!verdict.is_clean() && verdict.is_complete());
    }

    #[test]
    fn what_overtakes_is_counted() {
        let mut early = calls();
        early[2].began = 19;
        assert_eq!(judge(&written(), &outcomes(), &early).out_of_order, 1);
        let mut open = calls();
        open[0].ended = 0;
        assert_eq!(judge(&written(), &outcomes(), &open).out_of_order, 1);
        let mut swapped = outcomes();
        swapped.swap(0, 2);
        let verdict = judge(&written(), &swapped, &calls());
        assert_eq!((verdict.out_of_order, verdict.unlinked), (1, 1));
    }
}
