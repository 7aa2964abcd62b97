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
    /// How often each message came on this connection.
    times: HashMap<Key, u32>,
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
            self.times.remove(&oldest);
        }
        self.last
    }

    /// The message came once more.
    pub(super) fn came(&mut self, chat: &str, id: &str) {
        self.number(chat, id);
        *self.times.entry((chat.to_owned(), id.to_owned())).or_default() += 1;
    }

    /// How often the message came on this connection.
    pub(super) fn times(&self, chat: &str, id: &str) -> u32 {
        self.times.get(&(chat.to_owned(), id.to_owned())).copied().unwrap_or_default()
    }

    /// A new connection: the count starts again.
    pub(super) fn reconnected(&mut self) {
        self.times.clear();
    }

    /// The message is finished.
    pub(super) fn forget(&mut self, chat: &str, id: &str) {
        let key = (chat.to_owned(), id.to_owned());
        self.times.remove(&key);
        if let Some(number) = self.numbers.remove(&key) {
            self.by_number.remove(&number);
        }
    }
}

#[cfg(test)]
impl Arrivals {
    /// Is nothing remembered of any message?
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty() && self.numbers.is_empty() && self.times.is_empty()
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
    fn what_comes_again_is_counted_for_each_connection() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.times("a", "1"), 0);
        for times in 1..=3 {
            arrivals.came("a", "1");
            assert_eq!((arrivals.times("a", "1"), arrivals.times("b", "1")), (times, 0));
        }
        arrivals.reconnected();
        assert_eq!(arrivals.times("a", "1"), 0);
        arrivals.came("a", "1");
        assert_eq!(arrivals.times("a", "1"), 1);
        arrivals.forget("a", "1");
        assert_eq!(arrivals.times("a", "1"), 0);
    }
}
