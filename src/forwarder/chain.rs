//! The chain: what to do with a message, from what is known of its chat.
//!
//! A chat's messages form a list (`Wa-Prev-Seq`), its outcomes another; the last outcome says how far
//! the chat has come. A message goes to the backend once its predecessor's outcome is stored, and its
//! own outcome is appended by compare-and-set on the last one. No replica has to know of another.

/// A message's place in its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its sequence in `WA_IN`.
    pub sequence: u64,
    /// The sequence of the chat's message before it; 0 for the first.
    pub previous: u64,
}

/// A chat's last outcome. The default is a chat without one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Last {
    /// The `WA_IN` sequence of the message that it ended.
    pub in_sequence: u64,
    /// Its own sequence in `WA_OUT`: what the next outcome's compare-and-set has to expect.
    pub out_sequence: u64,
}

/// What to do with a message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its outcome is stored: acknowledge, call nobody.
    Answered,
    /// It is its turn. Its outcome is appended if the chat's last outcome is still this one.
    Go {
        /// The `WA_OUT` sequence to expect.
        expected: u64,
    },
    /// An earlier message of the chat has no outcome yet.
    Wait,
}

/// The rule. `last` and `ack_floor` may be old: an old `last` leads to a refused append, an old floor to
/// a longer wait, neither to a wrong answer.
pub fn step(place: Place, last: Last, ack_floor: u64) -> Step {
    if last.in_sequence >= place.sequence {
        return Step::Answered;
    }
    // Below the ack floor a message has its outcome even if that has expired since.
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
        let last = |in_sequence, out_sequence| Last { in_sequence, out_sequence };
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

    /// One chat, several replicas that read old state, die and get redeliveries at any moment: a model
    /// of all that the bus may do. `gate` off is the control: it must find violations.
    fn violations(messages: u64, schedule: &[(u8, u8, u8)], gate: bool) -> Vec<String> {
        #[derive(Clone, Copy)]
        enum At {
            Idle,
            Held(u64),
            Called { message: u64, expected: u64 },
        }
        let mut outcomes: Vec<u64> = Vec::new();
        let mut acked = vec![false; usize::try_from(messages).unwrap() + 1];
        let mut replicas = [At::Idle; 3];
        let mut found = Vec::new();
        let last_of = |outcomes: &[u64], age: usize| {
            let seen = outcomes.len().saturating_sub(age);
            Last {
                in_sequence: outcomes[..seen].last().copied().unwrap_or(0),
                out_sequence: u64::try_from(seen).unwrap(),
            }
        };
        for &(who, what, how) in schedule {
            let replica = &mut replicas[usize::from(who) % 3];
            *replica = match *replica {
                // Anything not acknowledged may be (re)delivered to anyone, in any order.
                At::Idle => {
                    let message = u64::from(what) % messages + 1;
                    if acked[usize::try_from(message).unwrap()] { At::Idle } else { At::Held(message) }
                }
                At::Held(_) | At::Called { .. } if how % 5 == 0 => At::Idle, // kill -9
                At::Held(message) => {
                    let floor = acked.iter().skip(1).take_while(|acked| **acked).count();
                    let last = last_of(&outcomes, usize::from(how) % 3);
                    let place = Place { sequence: message, previous: message - 1 };
                    let step = match step(place, last, u64::try_from(floor).unwrap()) {
                        Step::Wait if !gate => Step::Go { expected: last.out_sequence },
                        step => step,
                    };
                    match step {
                        Step::Answered => {
                            acked[usize::try_from(message).unwrap()] = true;
                            At::Idle
                        }
                        Step::Wait => At::Held(message),
                        Step::Go { expected } => {
                            if message > 1 && !outcomes.contains(&(message - 1)) {
                                found.push(format!("{message} was called before {} had ended", message - 1));
                            }
                            At::Called { message, expected }
                        }
                    }
                }
                At::Called { message, expected } => {
                    if expected == u64::try_from(outcomes.len()).unwrap() {
                        if outcomes.contains(&message) {
                            found.push(format!("{message} has two outcomes"));
                        }
                        outcomes.push(message);
                        // The ack may get lost.
                        acked[usize::try_from(message).unwrap()] |= how % 2 == 0;
                        At::Idle
                    } else {
                        At::Held(message)
                    }
                }
            };
        }
        if outcomes.windows(2).any(|pair| pair[0] >= pair[1]) {
            found.push(format!("outcomes are out of order: {outcomes:?}"));
        }
        found
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
        let schedule: Vec<_> = (0_u8..250).map(|i| (i, i.wrapping_mul(7), i | 1)).collect();
        assert!(!violations(5, &schedule, false).is_empty());
    }
}
