//! In which chats the assistant is seen typing, and what WhatsApp has to be told of it. Pure.
//!
//! A forwarder says that the backend works on a message, and until when. From then on WhatsApp is told so again and again,
//! because phones forget it after some 25 seconds. What ends it: the message's outcome, the forwarder's word, or the
//! time. Whatever was shown is taken back, after a loss of the connection as well.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use whatsapp_rust::Jid;

use crate::recent::Recent;
use crate::wire::ChatToken;

/// A quick answer comes before anybody is seen typing.
pub(super) const FIRST: Duration = Duration::from_millis(300);
/// How often WhatsApp is told again. Phones forget it after some 25 s.
const REFRESH: Duration = Duration::from_secs(9);
/// Nobody types for longer without another word of a forwarder, which says it every ten seconds.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// In so many chats at once is somebody seen typing. In one more nobody is.
pub(super) const CHATS: usize = 256;
/// So many chats are remembered in which an outcome came lately, or twice as many.
const ENDED: usize = 1_024;
/// And for so long: a word about the message of such an outcome is late.
const LATE: Duration = Duration::from_secs(60);

/// What WhatsApp is told of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Somebody types.
    Composing,
    /// Nobody types any more.
    Paused,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Tell WhatsApp.
    Tell(ChatToken, Jid, Word),
    /// Nothing before this time.
    At(Instant),
    /// Nothing before another word.
    Nothing,
}

/// A chat in which somebody types, or was seen typing.
#[derive(Debug)]
struct Line {
    /// The `WA_IN` sequence of the message that is worked on.
    in_seq: u64,
    to: Jid,
    /// `None`: it is over, and this has to be shown.
    until: Option<Instant>,
    /// WhatsApp was told that somebody types, and not that it is over.
    shown: bool,
    /// When WhatsApp is to be told again.
    due: Instant,
}

/// All such chats.
#[derive(Debug)]
pub(super) struct Board {
    lines: HashMap<ChatToken, Line>,
    /// The highest message of each chat that has its outcome.
    ended: Recent<ChatToken, u64>,
}

impl Board {
    /// Nobody types.
    pub(super) fn new(now: Instant) -> Self {
        Self { lines: HashMap::new(), ended: Recent::new(ENDED, LATE, |_| false, now) }
    }

    /// The backend works on a message, for so long at the most.
    pub(super) fn begins(&mut self, chat: ChatToken, in_seq: u64, to: Jid, left: Duration, now: Instant) {
        if left.is_zero() || self.ended.get(&chat, now).is_some_and(|ended| *ended >= in_seq) {
            return;
        }
        let until = Some(now + left.min(LONGEST));
        if let Some(line) = self.lines.get_mut(&chat) {
            // What a forwarder says of an earlier message is late.
            if line.until.is_some() && in_seq < line.in_seq {
                return;
            }
            let due = if line.until.is_some() { line.due } else { now + FIRST };
            *line = Line { in_seq, to, until, shown: line.shown, due };
        } else if self.lines.len() < CHATS {
            self.lines.insert(chat, Line { in_seq, to, until, shown: false, due: now + FIRST });
        }
    }

    /// A forwarder no longer works on a message; it may again.
    pub(super) fn stops(&mut self, chat: &ChatToken, in_seq: u64) {
        self.over(chat, |line| line.in_seq == in_seq);
    }

    /// The outcome of a message is dealt with.
    pub(super) fn answered(&mut self, chat: &ChatToken, in_seq: u64, now: Instant) {
        if self.ended.get(chat, now).is_none_or(|ended| *ended < in_seq) {
            self.ended.insert(chat.clone(), in_seq, now);
        }
        self.over(chat, |line| line.in_seq <= in_seq);
    }

    /// Nobody types any more anywhere.
    pub(super) fn close(&mut self) {
        self.lines.retain(|_, line| line.shown);
        self.lines.values_mut().for_each(|line| line.until = None);
    }

    fn over(&mut self, chat: &ChatToken, is_meant: impl Fn(&Line) -> bool) {
        let Some(line) = self.lines.get_mut(chat).filter(|line| is_meant(line)) else { return };
        if line.shown {
            line.until = None;
        } else {
            self.lines.remove(chat);
        }
    }

    /// What is to be done first. What is over comes before what goes on.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        for line in self.lines.values_mut() {
            line.until = line.until.filter(|until| *until > now);
        }
        self.lines.retain(|_, line| line.shown || line.until.is_some());
        let first = self.lines.iter().min_by_key(|(_, line)| (line.until.is_some(), line.due));
        let Some((chat, line)) = first else { return Next::Nothing };
        let (word, at) = match line.until {
            None => (Word::Paused, now),
            Some(_) => (Word::Composing, line.due),
        };
        if at <= now {
            return Next::Tell(chat.clone(), line.to.clone(), word);
        }
        // Or when the time of another one is over.
        let ends = self.lines.values().filter_map(|line| line.until).min();
        Next::At(ends.map_or(at, |end| end.min(at)))
    }

    /// WhatsApp is about to be told. Before it is: whether it has heard is never known.
    pub(super) fn telling(&mut self, chat: &ChatToken, word: Word, now: Instant) {
        let Some(line) = self.lines.get_mut(chat) else { return };
        match word {
            Word::Composing => (line.shown, line.due) = (true, now + REFRESH),
            Word::Paused if line.until.is_none() => drop(self.lines.remove(chat)),
            // Another message is worked on by now.
            Word::Paused => line.shown = false,
        }
    }

    /// WhatsApp could not be told that it is over. It has to be told again, if the chat has no other line.
    pub(super) fn owes(&mut self, chat: ChatToken, to: Jid, now: Instant) {
        if self.lines.len() < CHATS {
            let line = || Line { in_seq: 0, to, until: None, shown: true, due: now };
            self.lines.entry(chat).or_insert_with(line).shown = true;
        }
    }
}

#[cfg(test)]
#[path = "typing_tests.rs"]
mod tests;
