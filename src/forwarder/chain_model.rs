//! One chat and several replicas that read old state, die, and get redeliveries at any moment, and messages that expire or
//! are deleted: a model of everything that the bus may do. Texts are joined or not (`JOIN_WITHIN`), as it happens.

use proptest::prelude::*;

use super::*;
use crate::forwarder::burst::{Share, share};

/// What is decided for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is asked about, with all words from this message on.
    Asked { first: u64 },
    /// Its words go into a later one.
    Joined(Burst),
}

/// What the bus has of one chat, and what was seen to be wrong.
struct Model {
    messages: u64,
    outcomes: Vec<(u64, Ending)>,
    acked: Vec<bool>,
    gone: Vec<bool>,
    delivered: u64,
    one_was_deleted: bool,
    found: Vec<String>,
}

/// What is switched off: with it, the model must find violations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A message does not wait for the one before it.
    Gate,
    /// Nobody reads of bursts on the last outcome.
    Memory,
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

    fn has_ended(&self, message: u64) -> bool {
        self.outcomes.iter().any(|(ended, _)| *ended == message)
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

    fn step(&self, message: u64, age: usize, without: Without) -> (Step, Last) {
        let seen = self.outcomes.len().saturating_sub(age);
        let newest = self.outcomes[..seen].last();
        let last = Last {
            in_sequence: newest.map_or(0, |(ended, _)| *ended),
            out_sequence: u64::try_from(seen).unwrap(),
            burst: newest.and_then(|(_, ending)| match ending {
                Ending::Joined(burst) if without != Without::Memory => Some(*burst),
                _ => None,
            }),
            ..Last::default()
        };
        let place = Place { sequence: message, previous: message - 1 };
        let floor = self.acked.iter().skip(1).take_while(|acked| **acked).count();
        let floor = u64::try_from(floor).unwrap();
        let first = (1..=self.messages).find(|one| !self.gone[at(*one)]).unwrap_or(self.messages + 1);
        let mut in_flight = (1..=self.delivered).filter(|one| !self.acked[at(*one)] && !self.gone[at(*one)]);
        let is_alone = in_flight.next() == Some(message) && in_flight.next().is_none();
        let step = match step(place, last, floor) {
            Step::Wait if without == Without::Gate => Step::Go { expected: last.out_sequence },
            Step::Wait if first > place.previous || is_alone => step(place.behind_nothing(), last, floor),
            step => step,
        };
        (step, last)
    }

    /// What a replica decides that sees so many texts behind the message which belong to it.
    fn decide(&self, message: u64, last: Last, sees: u64) -> Ending {
        let there = |from: u64, to: u64| (from..=to.min(self.messages)).rfind(|one| !self.gone[at(*one)]);
        let (first, into) = match share(message, last.burst) {
            Share::Ends { first } => return Ending::Asked { first },
            Share::Open => (message, there(message + 1, message + sees)),
            Share::Joins(burst) => (burst.first, there(message + 1, burst.into)),
        };
        into.map_or(Ending::Asked { first }, |into| Ending::Joined(Burst { first, into }))
    }

    fn answered(&mut self, message: u64) {
        if !self.has_ended(message) && !self.gone[at(message)] {
            self.found.push(format!("{message} was passed over"));
        }
        self.acked[at(message)] = true;
    }

    fn called(&mut self, message: u64) {
        let before = message - 1;
        if before > 0 && !self.has_ended(before) && !self.gone[at(before)] {
            self.found.push(format!("{message} was called before {before} had ended"));
        }
    }

    /// Returns whether the outcome is stored.
    fn append(&mut self, message: u64, expected: u64, ending: Ending, ack_is_lost: bool) -> bool {
        if expected != u64::try_from(self.outcomes.len()).unwrap() {
            return false;
        }
        if self.has_ended(message) {
            self.found.push(format!("{message} has two outcomes"));
        }
        self.outcomes.push((message, ending));
        self.acked[at(message)] |= !ack_is_lost;
        true
    }

    /// The words of each message that has ended are in one call, unless nothing has come behind it.
    fn words(&mut self) {
        let mut calls = vec![0_usize; at(self.messages) + 1];
        let mut last_call = 0;
        for (message, ending) in &self.outcomes {
            if let Ending::Asked { first } = ending {
                last_call = *message;
                calls[at(*first)..=at(*message)].iter_mut().for_each(|calls| *calls += 1);
            }
        }
        for (message, _) in &self.outcomes {
            let count = calls[at(*message)];
            if count > 1 || (count == 0 && *message < last_call) {
                self.found.push(format!("the words of {message} are in {count} calls"));
            }
        }
        let ends_open = self.outcomes.last().is_some_and(|(_, ending)| matches!(ending, Ending::Joined(_)));
        if ends_open && !self.gone[at(self.messages)] {
            self.found.push("the last words were joined into nothing".to_owned());
        }
    }

    fn violations(mut self) -> Vec<String> {
        if self.outcomes.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            self.found.push(format!("outcomes are out of order: {:?}", self.outcomes));
        }
        let waits = (1..=self.messages).find(|one| !self.acked[at(*one)] && !self.gone[at(*one)]);
        // Behind a single one that was deleted, several may wait until another chat moves the ack floor.
        let waits = waits.filter(|_| !self.one_was_deleted);
        if waits.is_none() && !self.one_was_deleted {
            self.words();
        }
        self.found.extend(waits.map(|message| format!("{message} waits for ever")));
        self.found
    }
}

fn violations(messages: u64, schedule: &[(u8, u8, u8)], without: Without) -> Vec<String> {
    #[derive(Clone, Copy)]
    enum At {
        Idle,
        Held(u64),
        Decided { message: u64, expected: u64, ending: Ending },
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
            At::Held(_) | At::Decided { .. } if how % 5 == 0 => At::Idle, // kill -9
            At::Held(message) => match model.step(message, usize::from(how) % 3, without) {
                (Step::Wait, _) => At::Held(message),
                (Step::Answered, _) => {
                    model.answered(message);
                    At::Idle
                }
                (Step::Go { expected }, last) => {
                    // Whoever looks may see less of what belongs together than another one.
                    let ending = model.decide(message, last, u64::from(what / 8 % 4));
                    if matches!(ending, Ending::Asked { .. }) {
                        model.called(message);
                    }
                    At::Decided { message, expected, ending }
                }
            },
            At::Decided { message, expected, ending } => {
                if model.append(message, expected, ending, how % 2 != 0) {
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
        prop_assert_eq!(violations(messages, &schedule, Without::Nothing), Vec::<String>::new());
    }
}

/// Nothing goes: neither 7 nor 11 is in the last four bits.
fn nothing_goes() -> Vec<(u8, u8, u8)> {
    (0_u8..250).map(|i| (i, i.wrapping_mul(7), (i | 1) & !2)).collect()
}

#[test]
fn without_the_gate_the_model_finds_violations() {
    assert!(!violations(5, &nothing_goes(), Without::Gate).is_empty());
}

/// Message 1 is joined into 2, and 2 is asked about alone.
#[test]
fn without_the_memory_of_bursts_the_model_finds_lost_words() {
    let joined = [(0, 0, 6), (0, 8, 6), (0, 0, 6), (0, 1, 6), (0, 1, 6), (0, 1, 6)];
    assert_eq!(violations(2, &joined, Without::Nothing), Vec::<String>::new());
    assert_eq!(violations(2, &joined, Without::Memory), ["the words of 1 are in 0 calls"]);
}
