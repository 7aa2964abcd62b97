//! Who writes what when, and what other services want to have sent. Pure; all of it follows from the seed.

use std::time::Duration;

use crate::random::Random;

/// What a customer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text that the backend answers.
    Text,
    /// A text that the backend rejects.
    Poison,
    /// Something that nobody answers.
    Sticker,
    /// A picture with words, which the backend answers; its file follows.
    Photo(File),
    /// A text in the group, which the backend answers there.
    InGroup,
    /// A vote on the newest poll of the business that the phone has, if it has one.
    Vote(Vote),
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// Nothing.
    Whole,
    /// It takes its time.
    Slow,
    /// The phone has to upload it again.
    Expired,
}

impl File {
    /// As the simulator calls it.
    pub fn how(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Slow => "slow",
            Self::Expired => "expired",
        }
    }
}

/// Which options a vote picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// One.
    One,
    /// Two.
    Both,
    /// None: an earlier vote is taken back.
    Back,
}

/// The options of each poll.
pub const OPTIONS: [&str; 2] = ["hoy", "mañana"];

impl Vote {
    /// What it picks of [`OPTIONS`].
    pub fn picks(self) -> &'static [&'static str] {
        match self {
            Self::One => &OPTIONS[..1],
            Self::Both => &OPTIONS,
            Self::Back => &[],
        }
    }
}

/// One message.
#[derive(Debug, Clone)]
pub struct Letter {
    /// When.
    pub at: Duration,
    /// By whom, from 0.
    pub customer: usize,
    /// What.
    pub kind: Kind,
}

/// What a service wants to have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Some words.
    Text,
    /// A question with [`OPTIONS`].
    Poll,
    /// A place.
    Place,
    /// A picture of the bucket, with words.
    File,
}

/// One request of a service.
#[derive(Debug, Clone)]
pub struct Request {
    /// When.
    pub at: Duration,
    /// For whom, from 0.
    pub customer: usize,
    /// What.
    pub wish: Wish,
}

/// Who writes in the group. One person, so that it is known in which order the group was written in.
pub const IN_GROUP: usize = 0;

/// What is drawn beside texts comes from seeds of its own: rounds stay what they were before it was drawn.
const KINDS: u64 = 0x006b_696e_6473;
const REQUESTS: u64 = 0x7265_7175_6573_7473;

/// Customers write on their own, now and then several messages at a stretch: those have an order to keep.
pub fn letters(random: &mut Random, seed: u64, length: Duration, customers: usize) -> Vec<Letter> {
    let mut kinds = Random::new(seed ^ KINDS);
    let mut letters = Vec::new();
    for customer in 0..customers {
        let mut at = random.millis(0, 1_500);
        while at < length {
            for _ in 0..random.between(1, 4) {
                let kind = match random.between(1, 100) {
                    1..=4 => Kind::Poison,
                    5..=8 => Kind::Sticker,
                    _ => of_a_text(&mut kinds, customer == IN_GROUP),
                };
                letters.push(Letter { at, customer, kind });
                at += random.millis(0, 120);
            }
            at += random.millis(600, 4_500);
        }
    }
    letters.sort_by_key(|letter| letter.at);
    letters
}

/// What a letter is that could be a text.
fn of_a_text(kinds: &mut Random, may_be_in_group: bool) -> Kind {
    match kinds.between(1, 100) {
        1..=7 => Kind::Photo(File::Whole),
        8..=9 => Kind::Photo(File::Slow),
        10 => Kind::Photo(File::Expired),
        11..=14 => Kind::Vote(kinds.pick(&[Vote::One, Vote::Both, Vote::Back]).unwrap_or(Vote::One)),
        15..=44 if may_be_in_group => Kind::InGroup,
        _ => Kind::Text,
    }
}

/// Services ask for something now and then, for everybody.
pub fn requests(seed: u64, length: Duration, customers: usize) -> Vec<Request> {
    let mut random = Random::new(seed ^ REQUESTS);
    let mut requests = Vec::new();
    for customer in 0..customers {
        let mut at = random.millis(300, 4_000);
        while at < length {
            let wish = match random.between(1, 100) {
                1..=30 => Wish::Poll,
                31..=45 => Wish::Place,
                46..=60 => Wish::File,
                _ => Wish::Text,
            };
            requests.push(Request { at, customer, wish });
            at += random.millis(1_500, 8_000);
        }
    }
    requests.sort_by_key(|request| request.at);
    requests
}
