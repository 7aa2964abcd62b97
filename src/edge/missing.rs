//! A chat's order over a message that has to come again.
//!
//! A message that was lost on its way to the disk (see `store`) is asked for again, and comes behind what its
//! sender wrote in the meantime. So the chat is held: the hook refuses what comes too early, WhatsApp keeps it,
//! and hands it over once more on the next connection, which is made as soon as the missing one is stored.
//! What was refused is let in in the order in which it was refused, whoever brings it when.
//!
//! A phone that is switched off must not hold its chat for long: a message that does not come within
//! [`PATIENCE`] is not waited for any longer, and then comes behind the others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a chat waits for the one message that is the next.
const PATIENCE: Duration = Duration::from_secs(20);
/// What was refused and is the next may come by itself within this time; else a new connection is made.
const GRACE: Duration = Duration::from_millis(500);
/// Never sooner after the last one: a queue that WhatsApp hands over must get somewhere.
const BETWEEN_CONNECTIONS: Duration = Duration::from_secs(5);

/// What is missing in which chat. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Missing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Notify,
}

impl Missing {
    /// A message of this chat has been lost, and will be asked for.
    pub fn lost(&self, chat: &str, id: &str) {
        self.queues().lost(chat, id, Instant::now());
        self.0.changed.notify_one();
    }

    /// May this message of this chat be stored now? If not, it has to be refused, and comes again.
    pub fn lets_pass(&self, chat: &str, id: &str) -> bool {
        self.queues().lets_pass(chat, id, Instant::now())
    }

    /// A message of this chat is stored, or needs no storing.
    pub fn dealt_with(&self, chat: &str, id: &str) {
        self.queues().dealt_with(chat, id, Instant::now());
        self.0.changed.notify_one();
    }

    /// What is not acknowledged is being handed over, from now on: waiting begins anew.
    pub fn connected(&self) {
        self.queues().connected(Instant::now());
        self.0.changed.notify_one();
    }

    /// Returns when a new connection has to be made for what was refused and is the next. Gives up waiting
    /// for what does not come. Cancel-safe.
    pub async fn wants_reconnect(&self) {
        loop {
            let changed = self.0.changed.notified();
            let (due, next) = {
                let mut queues = self.queues();
                (queues.look(Instant::now()), queues.next_look())
            };
            if due {
                return;
            }
            match next {
                // Woken or not: it is looked at.
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chats that are held, and what each is to bring next. Pure.
#[derive(Debug, Default)]
struct Queues {
    chats: HashMap<String, Queue>,
    /// What was waited for in vain, so that it holds its chat only once: (chat, id).
    given_up: HashSet<(String, String)>,
    /// When the last connection was asked for.
    reconnected: Option<Instant>,
}

/// What a held chat is to bring, in this order. Never empty.
#[derive(Debug)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Since when the first one is waited for.
    since: Instant,
    /// A connection was asked for to get the first one.
    asked: bool,
}

#[derive(Debug)]
struct Entry {
    id: String,
    /// It was here, and too early: WhatsApp has it. Otherwise its sender does.
    refused: bool,
}

impl Queues {
    fn lost(&mut self, chat: &str, id: &str, now: Instant) {
        if self.given_up.contains(&(chat.to_owned(), id.to_owned())) {
            return;
        }
        let queue = self.chats.entry(chat.to_owned()).or_insert_with(|| Queue {
            entries: VecDeque::new(),
            since: now,
            asked: false,
        });
        match queue.entries.iter_mut().find(|entry| entry.id == id) {
            Some(entry) => entry.refused = false,
            None => queue.entries.push_back(Entry { id: id.to_owned(), refused: false }),
        }
    }

    fn lets_pass(&mut self, chat: &str, id: &str, now: Instant) -> bool {
        let Some(queue) = self.chats.get_mut(chat) else { return true };
        match queue.entries.iter_mut().enumerate().find(|(_, entry)| entry.id == id) {
            Some((0, _)) => {
                // It is being stored; that may take its time.
                queue.since = now;
                return true;
            }
            Some((_, entry)) => entry.refused = true,
            None => queue.entries.push_back(Entry { id: id.to_owned(), refused: true }),
        }
        false
    }

    fn dealt_with(&mut self, chat: &str, id: &str, now: Instant) {
        self.given_up.remove(&(chat.to_owned(), id.to_owned()));
        self.remove(chat, id, now);
    }

    fn remove(&mut self, chat: &str, id: &str, now: Instant) {
        let Some(queue) = self.chats.get_mut(chat) else { return };
        queue.entries.retain(|entry| entry.id != id);
        queue.since = now;
        queue.asked = false;
        if queue.entries.is_empty() {
            self.chats.remove(chat);
        }
    }

    fn connected(&mut self, now: Instant) {
        for queue in self.chats.values_mut() {
            queue.since = now;
        }
    }

    /// Gives up what is overdue, and says whether a new connection is to be made.
    fn look(&mut self, now: Instant) -> bool {
        let overdue: Vec<(String, String)> = self
            .chats
            .iter()
            .filter(|(_, queue)| queue.since + PATIENCE <= now)
            .filter_map(|(chat, queue)| Some((chat.clone(), queue.entries.front()?.id.clone())))
            .collect();
        for (chat, id) in overdue {
            tracing::warn!(
                message_id = id,
                "a message that has to come again does not; its chat goes on without it"
            );
            self.remove(&chat, &id, now);
            self.given_up.insert((chat, id));
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

    /// When there will be something to be seen.
    fn next_look(&self) -> Option<Instant> {
        let pause = self.pause();
        let looks = self.chats.values().map(|queue| {
            let overdue = queue.since + PATIENCE;
            queue.wanted_at(pause).map_or(overdue, |wanted| wanted.min(overdue))
        });
        looks.min()
    }

    /// Until when there must not be another new connection.
    fn pause(&self) -> Option<Instant> {
        self.reconnected.map(|at| at + BETWEEN_CONNECTIONS)
    }
}

impl Queue {
    /// When a new connection is to be made for its first one, if it needs one.
    fn wanted_at(&self, pause: Option<Instant>) -> Option<Instant> {
        let needed = self.entries.front().is_some_and(|first| first.refused) && !self.asked;
        needed.then(|| pause.map_or(self.since + GRACE, |pause| pause.max(self.since + GRACE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WhatsApp server and a phone, as far as order is concerned.
    struct World {
        queues: Queues,
        now: Instant,
        stored: Vec<&'static str>,
    }

    impl World {
        fn new() -> Self {
            Self { queues: Queues::default(), now: Instant::now(), stored: Vec::new() }
        }

        fn lost(&mut self, id: &str) {
            self.queues.lost("chat", id, self.now);
        }

        /// Hands messages over.
        fn brings(&mut self, ids: &[&'static str]) {
            for id in ids {
                if self.queues.lets_pass("chat", id, self.now) {
                    self.stored.push(id);
                    self.queues.dealt_with("chat", id, self.now);
                }
            }
        }

        /// Does it make a new connection within this time?
        fn reconnects_within(&mut self, time: Duration) -> bool {
            let end = self.now + time;
            while let Some(next) = self.queues.next_look().filter(|next| *next <= end) {
                self.now = self.now.max(next);
                if self.queues.look(self.now) {
                    return true;
                }
            }
            self.now = end;
            false
        }
    }

    #[test]
    fn later_messages_wait_for_the_missing_one_and_come_in_order() {
        let mut world = World::new();
        world.lost("1");
        world.brings(&["2", "3"]);
        assert!(!world.reconnects_within(PATIENCE / 2), "the phone has not answered yet");
        assert!(world.queues.lets_pass("another chat", "x", world.now));
        world.brings(&["1"]);
        assert!(world.reconnects_within(GRACE), "WhatsApp has to hand over 2 and 3 again");
        world.brings(&["4"]);
        world.brings(&["2", "3", "4", "5"]);
        assert_eq!(world.stored, ["1", "2", "3", "4", "5"]);
        assert!(world.queues.chats.is_empty());
    }

    #[test]
    fn nothing_behind_it_means_no_new_connection() {
        let mut world = World::new();
        world.lost("1");
        world.brings(&["1", "2"]);
        assert!(!world.reconnects_within(PATIENCE * 2));
        assert_eq!(world.stored, ["1", "2"]);
    }

    #[test]
    fn of_two_missing_ones_the_second_comes_second() {
        let mut world = World::new();
        world.lost("1");
        world.lost("2");
        world.brings(&["2", "1"]);
        assert_eq!(world.stored, ["1"]);
        assert!(world.reconnects_within(GRACE));
        world.brings(&["3", "2"]);
        assert_eq!(world.stored, ["1", "2"]);
        assert!(!world.reconnects_within(BETWEEN_CONNECTIONS / 2), "there was one just now");
        assert!(world.reconnects_within(BETWEEN_CONNECTIONS));
        world.brings(&["3"]);
        assert_eq!(world.stored, ["1", "2", "3"]);
    }

    #[test]
    fn a_phone_that_is_off_holds_its_chat_once() {
        let mut world = World::new();
        world.lost("1");
        world.brings(&["2"]);
        assert!(world.reconnects_within(PATIENCE + GRACE), "2 has to come again");
        world.lost("1");
        world.brings(&["2", "3", "1"]);
        assert_eq!(world.stored, ["2", "3", "1"]);
        assert!(world.queues.chats.is_empty() && world.queues.given_up.is_empty());
    }

    #[test]
    fn what_never_comes_again_is_not_waited_for_either() {
        let mut world = World::new();
        world.lost("1");
        world.brings(&["2", "3", "1"]);
        assert!(world.reconnects_within(GRACE));
        world.brings(&["3"]);
        assert!(world.reconnects_within(PATIENCE + GRACE), "for 3, without 2");
        world.brings(&["3"]);
        assert_eq!(world.stored, ["1", "3"]);
        assert!(world.queues.chats.is_empty());
    }
}
