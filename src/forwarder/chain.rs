//! The chain: decides what to do with a message, from what is known of its chat.
//!
//! A chat's messages form one list (`Wa-Prev-Seq`), and its outcomes another. The last outcome shows how far the
//! chat has come. A message goes to the backend when its predecessor's outcome is stored. Its own outcome is
//! appended by compare-and-set on the last outcome. So no replica has to know of another one.

use super::burst::Burst;
use super::calls_per_chat::Counted;

/// A message's place in its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence in `WA_IN`.
    pub sequence: u64,
    /// The sequence of the message before it in the chat. 0: it is the first.
    pub previous: u64,
}

impl Place {
    /// The same message, when the one before it and all before that are known to be acknowledged or gone from the stream
    /// (expired, purged or deleted). What is gone gets no outcome any more, if it had none, so nobody waits for it. It is
    /// not enough that the one before it is gone: one before that may still wait for its turn.
    pub fn behind_nothing(self) -> Self {
        Self { previous: 0, ..self }
    }
}

/// A chat's last outcome. The default is a chat without an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Last {
    /// The `WA_IN` sequence of the message that it ended.
    pub in_sequence: u64,
    /// Its own sequence in `WA_OUT`. The next outcome's compare-and-set must expect it.
    pub out_sequence: u64,
    /// When the chat was last told that only text is read, as this outcome says. 0: it says nothing of that. Milliseconds
    /// since the epoch. The chain itself does not look at it.
    pub told_at_ms: i64,
    /// Its message was joined with others, as this outcome says: they are asked about together. `None`: it was not. What
    /// follows from it is in `burst`.
    pub burst: Option<Burst>,
    /// What this outcome says of the chat's calls. The chain itself does not look at it.
    pub calls: Counted,
}

/// What to do with a message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its outcome is stored: acknowledge it, and call nothing.
    Answered,
    /// It is its turn. Its outcome is appended if this is still the chat's last outcome.
    Go {
        /// The `WA_OUT` sequence to expect.
        expected: u64,
    },
    /// An earlier message of the chat has no outcome yet.
    Wait,
}

/// The rule. `last` and `ack_floor` may be old. With an old `last` the append is refused; with an old floor the
/// wait is longer. Neither gives a wrong result.
pub fn step(place: Place, last: Last, ack_floor: u64) -> Step {
    if last.in_sequence >= place.sequence {
        return Step::Answered;
    }
    // A message below the ack floor has its outcome, even if that outcome has expired since.
    let predecessor_is_done =
        place.previous == 0 || last.in_sequence >= place.previous || place.previous <= ack_floor;
    if predecessor_is_done { Step::Go { expected: last.out_sequence } } else { Step::Wait }
}

#[cfg(test)]
#[path = "chain_model.rs"]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let last = |in_sequence, out_sequence| Last { in_sequence, out_sequence, ..Last::default() };
        let place = |sequence, previous| Place { sequence, previous };
        for (place, last, floor, want) in [
            (place(7, 0), last(0, 0), 0, Step::Go { expected: 0 }),
            (place(9, 7), last(0, 0), 0, Step::Wait),
            (place(9, 7), last(7, 3), 0, Step::Go { expected: 3 }),
            (place(9, 7), last(8, 4), 0, Step::Go { expected: 4 }),
            (place(9, 7), last(9, 4), 0, Step::Answered),
            (place(9, 7), last(12, 5), 0, Step::Answered),
            (place(9, 7), last(0, 0), 6, Step::Wait),
            (place(9, 7), last(0, 0), 7, Step::Go { expected: 0 }),
        ] {
            assert_eq!(step(place, last, floor), want, "{place:?} {last:?} floor {floor}");
        }
    }
}
