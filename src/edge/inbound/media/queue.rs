//! Whose file is fetched next. Pure.
//!
//! The chats take turns, and of each chat one file is fetched at a time. So who sends a thousand files keeps only the
//! own chat busy.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// How many files may wait in all, and in one chat.
const ALL: usize = 10_000;
const OF_ONE_CHAT: usize = 1_000;

/// The files that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chats: HashMap<String, Chat>,
    /// Every chat in `chats`, the one whose turn it is first.
    turns: VecDeque<String>,
    known: HashSet<String>,
}

#[derive(Debug, Default)]
struct Chat {
    /// By the time from which they may be tried.
    waiting: BTreeSet<(i64, String)>,
    is_busy: bool,
}

impl Queue {
    /// Is there room for this file of the chat? For one that is known there is.
    pub(super) fn takes(&self, chat: &str, id: &str) -> bool {
        let of_chat = self.chats.get(chat).map_or(0, |chat| chat.waiting.len());
        self.known.contains(id) || (self.known.len() < ALL && of_chat < OF_ONE_CHAT)
    }

    /// Adds a file, unless it is known.
    pub(super) fn add(&mut self, chat: &str, id: &str, at_ms: i64) {
        if self.known.insert(id.to_owned()) {
            self.put(chat, id, at_ms);
        }
    }

    fn put(&mut self, chat: &str, id: &str, at_ms: i64) {
        if !self.chats.contains_key(chat) {
            self.turns.push_back(chat.to_owned());
        }
        self.chats.entry(chat.to_owned()).or_default().waiting.insert((at_ms, id.to_owned()));
    }

    /// The next file, with its chat. The chat is busy until [`Self::over`].
    pub(super) fn next(&mut self, now_ms: i64) -> Option<(String, String)> {
        for _ in 0..self.turns.len() {
            let name = self.turns.pop_front()?;
            let Some(chat) = self.chats.get_mut(&name) else { continue };
            self.turns.push_back(name.clone());
            let is_due = chat.waiting.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms);
            if !chat.is_busy
                && is_due
                && let Some((_, id)) = chat.waiting.pop_first()
            {
                chat.is_busy = true;
                return Some((name, id));
            }
        }
        None
    }

    /// The chat is free again. `again`: the file is to be tried once more, from then on.
    pub(super) fn over(&mut self, chat: &str, id: &str, again: Option<i64>) {
        match again {
            Some(at_ms) => self.put(chat, id, at_ms),
            None => {
                self.known.remove(id);
            }
        }
        let Some(known) = self.chats.get_mut(chat) else { return };
        known.is_busy = false;
        if known.waiting.is_empty() {
            self.chats.remove(chat);
            self.turns.retain(|name| name != chat);
        }
    }

    /// When something can be due next.
    pub(super) fn next_at_ms(&self) -> Option<i64> {
        let free = self.chats.values().filter(|chat| !chat.is_busy);
        free.filter_map(|chat| chat.waiting.first().map(|(at_ms, _)| *at_ms)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(files: &[(&str, &str, i64)]) -> Queue {
        let mut queue = Queue::default();
        for (chat, id, at_ms) in files {
            queue.add(chat, id, *at_ms);
        }
        queue
    }

    fn next(queue: &mut Queue, now_ms: i64) -> Option<String> {
        queue.next(now_ms).map(|(_, id)| id)
    }

    #[test]
    fn a_flood_of_one_chat_keeps_nobody_else_waiting() {
        let mut queue =
            queue(&[("a", "a1", 1), ("a", "a2", 2), ("a", "a3", 3), ("b", "b1", 4), ("b", "b2", 4)]);
        let mut under_way: Vec<_> = std::iter::from_fn(|| next(&mut queue, 9)).collect();
        under_way.sort();
        assert_eq!(under_way, ["a1", "b1"], "one of each chat");
        queue.over("b", "b1", None);
        assert_eq!(next(&mut queue, 9).as_deref(), Some("b2"));
        queue.over("a", "a1", None);
        assert_eq!(next(&mut queue, 9).as_deref(), Some("a2"));
        assert_eq!(next(&mut queue, 9), None);
    }

    #[test]
    fn what_is_put_off_waits_and_what_is_known_is_not_added_twice() {
        let mut queue = queue(&[("a", "a1", 1)]);
        queue.add("a", "a1", 1);
        assert_eq!(next(&mut queue, 0), None);
        assert_eq!(queue.next_at_ms(), Some(1));
        assert_eq!(next(&mut queue, 1).as_deref(), Some("a1"));
        queue.add("a", "a1", 1);
        assert_eq!((next(&mut queue, 9), queue.next_at_ms()), (None, None));
        queue.over("a", "a1", Some(20));
        assert_eq!((next(&mut queue, 9), queue.next_at_ms()), (None, Some(20)));
        assert_eq!(next(&mut queue, 20).as_deref(), Some("a1"));
        queue.over("a", "a1", None);
        assert!(queue.chats.is_empty() && queue.turns.is_empty() && queue.known.is_empty());
        queue.add("a", "a1", 30);
        assert_eq!(next(&mut queue, 30).as_deref(), Some("a1"), "it may come again");
    }

    #[test]
    fn there_is_a_limit_for_one_chat_and_one_for_all() {
        let mut queue = Queue::default();
        for number in 0..OF_ONE_CHAT {
            assert!(queue.takes("a", "new"));
            queue.add("a", &number.to_string(), 0);
        }
        assert!(!queue.takes("a", "new") && queue.takes("b", "new") && queue.takes("a", "0"));
        for number in OF_ONE_CHAT..ALL {
            queue.add(&format!("c{number}"), &number.to_string(), 0);
        }
        assert!(!queue.takes("b", "new"));
    }
}
