//! The order in which unfinished messages arrived. Pure.

use std::collections::{BTreeMap, HashMap};

/// How many unfinished stanzas are remembered. A forgotten one counts as the last.
pub(super) const REMEMBERED: usize = 20_000;

/// The order in which unfinished messages arrived.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    last: u64,
    by_number: BTreeMap<u64, Key>,
    numbers: HashMap<Key, u64>,
    /// What has become of each message on this connection.
    seen: HashMap<Key, Seen>,
}

/// What has become of a message on this connection.
#[derive(Debug, Default)]
struct Seen {
    /// So many stanzas of it came.
    came: u32,
    /// So many of them could not be decrypted any more and have no copy.
    missed: u32,
    /// It was requested.
    asked: bool,
}

/// (chat, id).
type Key = (String, String);

impl Arrivals {
    /// The message's number. If it has none, the next number.
    pub(super) fn number(&mut self, chat: &str, id: &str) -> u64 {
        let key = (chat.to_owned(), id.to_owned());
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        self.last += 1;
        self.by_number.insert(self.last, key.clone());
        self.numbers.insert(key, self.last);
        if self.by_number.len() > REMEMBERED
            && let Some((_, oldest)) = self.by_number.pop_first()
        {
            self.numbers.remove(&oldest);
            self.seen.remove(&oldest);
        }
        self.last
    }

    /// The message came once more.
    pub(super) fn came(&mut self, chat: &str, id: &str) {
        self.number(chat, id);
        self.seen.entry((chat.to_owned(), id.to_owned())).or_default().came += 1;
    }

    /// One of its stanzas cannot be decrypted and has no copy. Returns whether the message must be requested: if no
    /// other stanza of it is being worked on or will be, and once for each connection.
    pub(super) fn missed(&mut self, chat: &str, id: &str) -> bool {
        let seen = self.seen.entry((chat.to_owned(), id.to_owned())).or_default();
        seen.missed += 1;
        seen.missed >= seen.came && !std::mem::replace(&mut seen.asked, seen.missed >= seen.came)
    }

    /// A new connection: the count starts again.
    pub(super) fn reconnected(&mut self) {
        self.seen.clear();
    }

    /// The message is finished.
    pub(super) fn forget(&mut self, chat: &str, id: &str) {
        let key = (chat.to_owned(), id.to_owned());
        self.seen.remove(&key);
        if let Some(number) = self.numbers.remove(&key) {
            self.by_number.remove(&number);
        }
    }
}

#[cfg(test)]
impl Arrivals {
    /// Is nothing remembered of any message?
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty() && self.numbers.is_empty() && self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_stanzas_are_remembered_than_that() {
        let mut arrivals = Arrivals::default();
        for id in 0..=REMEMBERED {
            arrivals.number("chat", &id.to_string());
        }
        assert_eq!((arrivals.numbers.len(), arrivals.by_number.len()), (REMEMBERED, REMEMBERED));
        assert!(arrivals.number("chat", "0") > arrivals.number("chat", &REMEMBERED.to_string()));
    }

    #[test]
    fn a_message_keeps_its_number_until_it_is_dealt_with() {
        let mut arrivals = Arrivals::default();
        let numbers = |arrivals: &mut Arrivals| {
            [("a", "1"), ("a", "2"), ("b", "1")].map(|(chat, id)| arrivals.number(chat, id))
        };
        assert_eq!(numbers(&mut arrivals), [1, 2, 3]);
        arrivals.reconnected();
        assert_eq!(numbers(&mut arrivals), [1, 2, 3], "a new connection changes nothing about that");
        arrivals.forget("a", "1");
        assert_eq!(numbers(&mut arrivals), [4, 2, 3], "if it comes once more, it is the last");
        for (chat, id) in [("a", "1"), ("a", "2"), ("b", "1")] {
            arrivals.forget(chat, id);
        }
        assert!(arrivals.is_empty());
    }

    #[test]
    fn a_message_is_requested_when_its_last_stanza_is_missing_and_once_for_each_connection() {
        let mut arrivals = Arrivals::default();
        for connection in 0..2 {
            for _ in 0..3 {
                arrivals.came("a", "1");
            }
            let asked = [0; 5].map(|_| arrivals.missed("a", "1"));
            assert_eq!(asked, [false, false, true, false, false], "on connection {connection}");
            assert!(arrivals.missed("b", "1"), "of another chat");
            arrivals.reconnected();
        }
        arrivals.came("a", "1");
        arrivals.forget("a", "1");
        assert!(arrivals.missed("a", "1"), "it begins anew");
    }
}
