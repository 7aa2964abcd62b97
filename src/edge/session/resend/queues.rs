//! The chats that are held, and which message each must get next. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use whatsapp_rust::wacore::types::message::MessageInfo;

use super::arrivals::{Arrivals, REMEMBERED};

/// How long a chat waits for its next message.
const PATIENCE: Duration = Duration::from_secs(20);
/// A refused message whose turn it is may come by itself within this time. If not, the edge makes a new connection.
const GRACE: Duration = Duration::from_millis(500);
/// The shortest time between two such connections: WhatsApp needs time to work through its queue.
const BETWEEN_CONNECTIONS: Duration = Duration::from_secs(5);

/// The chats that are held, and which message each must get next. Pure.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// The order in which messages came.
    pub arrivals: Arrivals,
    chats: HashMap<String, Queue>,
    /// Messages that were waited for in vain. They hold their chat only once: (chat, id).
    given_up: HashSet<(String, String)>,
    /// Of these, the ones that nobody was told of yet.
    pub abandoned: VecDeque<Arc<MessageInfo>>,
    /// When the last connection was requested.
    reconnected: Option<Instant>,
    /// WhatsApp has redelivered what it had. Until then nothing is overdue, and the connection stays.
    drained: bool,
}

/// The messages that a held chat must get, by their number of arrival. Never empty.
#[derive(Debug)]
struct Queue {
    entries: BTreeMap<u64, Entry>,
    /// Since when the chat waits for the first one.
    since: Instant,
    /// A connection was requested to get the first one.
    asked: bool,
}

#[derive(Debug)]
struct Entry {
    id: String,
    /// The message came too early and was refused, so WhatsApp has it. Otherwise its sender has it.
    refused: bool,
    /// It could not be decrypted, and this is known of it. WhatsApp does not have it any more.
    unreadable: Option<Arc<MessageInfo>>,
}

impl Queues {
    /// A stanza can be decrypted no more. Returns whether to request the message: if it came twice on this connection,
    /// the other stanza may be the one that was requested before. What came after it waits in either case.
    pub(super) fn not_there(&mut self, chat: &str, id: &str, now: Instant) -> bool {
        self.hold(chat, id, None, now);
        self.arrivals.missed(chat, id)
    }

    /// A message cannot be read, and is being requested. Messages that came after it wait.
    pub(super) fn hold(&mut self, chat: &str, id: &str, unreadable: Option<Arc<MessageInfo>>, now: Instant) {
        let number = self.arrivals.number(chat, id);
        if self.given_up.contains(&(chat.to_owned(), id.to_owned())) {
            return;
        }
        let queue = self.chats.entry(chat.to_owned()).or_insert_with(|| Queue {
            entries: BTreeMap::new(),
            since: now,
            asked: false,
        });
        queue.put(number, Entry { id: id.to_owned(), refused: false, unreadable });
    }

    /// May the message be stored now? If not, it counts as refused.
    pub(super) fn lets_pass(&mut self, chat: &str, id: &str, now: Instant) -> bool {
        let Some(queue) = self.chats.get_mut(chat) else { return true };
        let number = self.arrivals.number(chat, id);
        if queue.is_first(number) {
            // It is being stored, and that may take time.
            queue.since = now;
            return true;
        }
        queue.put(number, Entry { id: id.to_owned(), refused: true, unreadable: None });
        false
    }

    /// The same question, about a message that WhatsApp would not bring again.
    pub(super) fn is_its_turn(&mut self, chat: &str, id: &str) -> bool {
        let Some(queue) = self.chats.get(chat) else { return true };
        queue.is_first(self.arrivals.number(chat, id))
    }

    /// The message is stored, or needs no storing.
    pub(super) fn dealt_with(&mut self, chat: &str, id: &str, now: Instant) {
        self.given_up.remove(&(chat.to_owned(), id.to_owned()));
        self.remove(chat, id, now);
        self.arrivals.forget(chat, id);
    }

    /// The limit is the same as for arrivals. A forgotten message may hold its chat once more.
    fn give_up(&mut self, chat: String, id: String) {
        if self.given_up.len() >= REMEMBERED {
            let any = self.given_up.iter().next().cloned();
            any.map(|any| self.given_up.remove(&any));
        }
        self.given_up.insert((chat, id));
    }

    fn remove(&mut self, chat: &str, id: &str, now: Instant) {
        let Some(queue) = self.chats.get_mut(chat) else { return };
        queue.entries.retain(|_, entry| entry.id != id);
        queue.since = now;
        queue.asked = false;
        if queue.entries.is_empty() {
            self.chats.remove(chat);
        }
        debug_assert!(
            self.chats.values().all(|queue| !queue.entries.is_empty()),
            "a chat that waits for nothing would be held for ever"
        );
    }

    /// A new connection.
    pub(super) fn logged_in(&mut self) {
        self.drained = false;
        self.arrivals.reconnected();
    }

    /// WhatsApp has redelivered what it had. Waiting times start again.
    pub(super) fn drained(&mut self, now: Instant) {
        self.drained = true;
        for queue in self.chats.values_mut() {
            queue.since = now;
        }
    }

    /// Gives up what is overdue. Returns whether a new connection is needed.
    pub(super) fn check(&mut self, now: Instant) -> bool {
        if !self.drained {
            return false;
        }
        let overdue: Vec<(String, String)> = self
            .chats
            .iter()
            .filter(|(_, queue)| queue.since + PATIENCE <= now)
            .filter_map(|(chat, queue)| Some((chat.clone(), queue.first()?.id.clone())))
            .collect();
        for (chat, id) in overdue {
            let unreadable =
                self.chats.get(&chat).and_then(Queue::first).and_then(|first| first.unreadable.clone());
            // The limit is that of arrivals.
            self.abandoned.extend(unreadable.filter(|_| self.abandoned.len() < REMEMBERED));
            tracing::warn!(
                message_id = id,
                "a message that must come again has not come; its chat goes on without it"
            );
            self.remove(&chat, &id, now);
            self.give_up(chat, id);
        }
        let pause = self.pause();
        let due: Vec<&mut Queue> = self
            .chats
            .values_mut()
            .filter(|queue| queue.wanted_at(pause).is_some_and(|at| at <= now))
            .collect();
        let wanted = !due.is_empty();
        due.into_iter().for_each(|queue| queue.asked = true);
        if wanted {
            self.reconnected = Some(now);
        }
        wanted
    }

    /// When the next check is due.
    pub(super) fn next_check(&self) -> Option<Instant> {
        if !self.drained {
            return None;
        }
        let pause = self.pause();
        let checks = self.chats.values().map(|queue| {
            let overdue = queue.since + PATIENCE;
            queue.wanted_at(pause).map_or(overdue, |wanted| wanted.min(overdue))
        });
        checks.min()
    }

    /// Until when no other new connection may be made.
    fn pause(&self) -> Option<Instant> {
        self.reconnected.map(|at| at + BETWEEN_CONNECTIONS)
    }
}

impl Queue {
    fn put(&mut self, number: u64, entry: Entry) {
        self.entries.insert(number, entry);
    }

    fn is_first(&self, number: u64) -> bool {
        self.entries.first_key_value().is_none_or(|(first, _)| number <= *first)
    }

    fn first(&self) -> Option<&Entry> {
        self.entries.first_key_value().map(|(_, entry)| entry)
    }

    /// When the chat needs a new connection for its first message, if it needs one.
    fn wanted_at(&self, pause: Option<Instant>) -> Option<Instant> {
        let needed = self.first().is_some_and(|first| first.refused) && !self.asked;
        needed.then(|| pause.map_or(self.since + GRACE, |pause| pause.max(self.since + GRACE)))
    }
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
