//! The chain: decides what to do with a message, from what is known of its chat.
//!
//! A chat's messages form one list (`Wa-Prev-Seq`), and its outcomes another. The last outcome shows how far the
//! chat has come. A message goes to the backend when its predecessor's outcome is stored. Its own outcome is
//! appended by compare-and-set on the last outcome. So no replica has to know of another one.

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
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    /// What the bus has of one chat, and what was seen to be wrong.
    struct Model {
        messages: u64,
        outcomes: Vec<u64>,
        acked: Vec<bool>,
        gone: Vec<bool>,
        delivered: u64,
        one_was_deleted: bool,
        found: Vec<String>,
    }

    fn at(message: u64) -> usize {
        usize::try_from(message).unwrap()
    }

    impl Model {
        fn new(messages: u64) -> Self {
            let (acked, gone) = (vec![false; at(messages) + 1], vec![false; at(messages) + 1]);
            let (outcomes, found) = (Vec::new(), Vec::new());
            Self { messages, outcomes, acked, gone, delivered: 0, one_was_deleted: false, found }
        }

        /// Anything that is not acknowledged may be (re)delivered, in any order, unless it goes at that moment.
        fn deliver(&mut self, message: u64, how: u8) -> bool {
            match how % 16 {
                7 => self.gone[1..=at(message)].fill(true), // expired
                11 => (self.gone[at(message)], self.one_was_deleted) = (true, true),
                _ => {}
            }
            self.delivered = self.delivered.max(message);
            !self.acked[at(message)] && !self.gone[at(message)]
        }

        fn step(&self, message: u64, age: usize, gate: bool) -> Step {
            let seen = self.outcomes.len().saturating_sub(age);
            let last = Last {
                in_sequence: self.outcomes[..seen].last().copied().unwrap_or(0),
                out_sequence: u64::try_from(seen).unwrap(),
                ..Last::default()
            };
            let place = Place { sequence: message, previous: message - 1 };
            let floor = self.acked.iter().skip(1).take_while(|acked| **acked).count();
            let floor = u64::try_from(floor).unwrap();
            let first = (1..=self.messages).find(|one| !self.gone[at(*one)]).unwrap_or(self.messages + 1);
            let mut in_flight =
                (1..=self.delivered).filter(|one| !self.acked[at(*one)] && !self.gone[at(*one)]);
            let is_alone = in_flight.next() == Some(message) && in_flight.next().is_none();
            match step(place, last, floor) {
                Step::Wait if !gate => Step::Go { expected: last.out_sequence },
                Step::Wait if first > place.previous || is_alone => step(place.behind_nothing(), last, floor),
                step => step,
            }
        }

        fn answered(&mut self, message: u64) {
            if !self.outcomes.contains(&message) && !self.gone[at(message)] {
                self.found.push(format!("{message} was passed over"));
            }
            self.acked[at(message)] = true;
        }

        fn called(&mut self, message: u64) {
            let before = message - 1;
            if before > 0 && !self.outcomes.contains(&before) && !self.gone[at(before)] {
                self.found.push(format!("{message} was called before {before} had ended"));
            }
        }

        /// Returns whether the outcome is stored.
        fn append(&mut self, message: u64, expected: u64, ack_is_lost: bool) -> bool {
            if expected != u64::try_from(self.outcomes.len()).unwrap() {
                return false;
            }
            if self.outcomes.contains(&message) {
                self.found.push(format!("{message} has two outcomes"));
            }
            self.outcomes.push(message);
            self.acked[at(message)] |= !ack_is_lost;
            true
        }

        fn violations(mut self) -> Vec<String> {
            if self.outcomes.windows(2).any(|pair| pair[0] >= pair[1]) {
                self.found.push(format!("outcomes are out of order: {:?}", self.outcomes));
            }
            let waits = (1..=self.messages).find(|one| !self.acked[at(*one)] && !self.gone[at(*one)]);
            // Behind a single one that was deleted, several may wait until another chat moves the ack floor.
            let waits = waits.filter(|_| !self.one_was_deleted);
            self.found.extend(waits.map(|message| format!("{message} waits for ever")));
            self.found
        }
    }

    /// One chat and several replicas that read old state, die, and get redeliveries at any moment, and messages that
    /// expire or are deleted: a model of everything that the bus may do. `gate` off is the control: it must find
    /// violations.
    fn violations(messages: u64, schedule: &[(u8, u8, u8)], gate: bool) -> Vec<String> {
        #[derive(Clone, Copy)]
        enum At {
            Idle,
            Held(u64),
            Called { message: u64, expected: u64 },
        }
        let mut model = Model::new(messages);
        let mut replicas = [At::Idle; 3];
        // In the end nobody dies, nothing more goes, and each message comes to somebody who has no other one.
        let turns = u8::try_from(messages).unwrap();
        let end = (0..turns).flat_map(|message| [u8::MAX, 6, 6, 6].map(|how| (0, message, how)));
        for (who, what, how) in schedule.iter().copied().chain(end) {
            let replica = &mut replicas[usize::from(who) % 3];
            *replica = match *replica {
                _ if how == u8::MAX => At::Idle,
                At::Idle => {
                    let message = u64::from(what) % messages + 1;
                    if model.deliver(message, how) { At::Held(message) } else { At::Idle }
                }
                At::Held(_) | At::Called { .. } if how % 5 == 0 => At::Idle, // kill -9
                At::Held(message) => match model.step(message, usize::from(how) % 3, gate) {
                    Step::Wait => At::Held(message),
                    Step::Answered => {
                        model.answered(message);
                        At::Idle
                    }
                    Step::Go { expected } => {
                        model.called(message);
                        At::Called { message, expected }
                    }
                },
                At::Called { message, expected } => {
                    if model.append(message, expected, how % 2 != 0) {
                        At::Idle
                    } else {
                        At::Held(message)
                    }
                }
            };
        }
        model.violations()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn one_outcome_each_in_order_whatever_dies(
            messages in 1_u64..8,
            schedule in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..400),
        ) {
            prop_assert_eq!(violations(messages, &schedule, true), Vec::<String>::new());
        }
    }

    #[test]
    fn without_the_gate_the_model_finds_violations() {
        // Nothing goes: neither 7 nor 11 is in the last four bits.
        let schedule: Vec<_> = (0_u8..250).map(|i| (i, i.wrapping_mul(7), (i | 1) & !2)).collect();
        assert!(!violations(5, &schedule, false).is_empty());
    }
}
