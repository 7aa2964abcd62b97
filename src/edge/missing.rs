//! A chat's order over a message that has to come again.
//!
//! A message that was lost on its way to the disk (see `store`), or that cannot be decrypted, is asked for
//! again, and comes behind what its sender wrote in the meantime. So the chat is held: the hook refuses what
//! came after the missing one, WhatsApp keeps it, and hands it over once more on the next connection, which is
//! made as soon as the missing one is stored. What counts is the order in which the stanzas first came: the
//! library collects what it drains from a queue, and the hook sees that later than what is missing from it.
//!
//! A phone that is switched off must not hold its chat for long: a message that does not come within
//! [`PATIENCE`] is not waited for any longer, and then comes behind the others.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// So many stanzas that came and were not dealt with are remembered. One that is forgotten counts as the last.
const REMEMBERED: usize = 20_000;

/// What is missing in which chat. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Missing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Notify,
}

impl Missing {
    /// A message of this chat has come, and nobody has looked at it yet.
    pub fn came(&self, chat: &str, id: &str) {
        self.queues().arrivals.came(chat, id);
    }

    /// A message of this chat was decrypted once and is not there. Returns whether it is to be asked for.
    pub fn not_there(&self, chat: &str, id: &str) -> bool {
        let lost = self.queues().not_there(chat, id, Instant::now());
        self.0.changed.notify_one();
        lost
    }

    /// A message of this chat cannot be decrypted, and is being asked for.
    pub fn unreadable(&self, chat: &str, id: &str) {
        self.queues().hold(chat, id, Instant::now());
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

    /// A new connection: from now on what is not acknowledged is being handed over.
    pub fn logged_in(&self) {
        self.queues().logged_in();
    }

    /// All of it has been handed over; waiting begins anew.
    pub fn drained(&self) {
        self.queues().drained(Instant::now());
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
    arrivals: Arrivals,
    chats: HashMap<String, Queue>,
    /// What was waited for in vain, so that it holds its chat only once: (chat, id).
    given_up: HashSet<(String, String)>,
    /// When the last connection was asked for.
    reconnected: Option<Instant>,
    /// WhatsApp has handed over what it had; until then nothing is overdue, and the connection is let be.
    drained: bool,
}

/// In which order messages came that are not dealt with.
#[derive(Debug, Default)]
struct Arrivals {
    last: u64,
    by_number: BTreeMap<u64, Key>,
    numbers: HashMap<Key, u64>,
    /// How often they came on this connection.
    times: HashMap<Key, u32>,
}

/// (chat, id).
type Key = (String, String);

impl Arrivals {
    /// The message's number; the next one if it has none.
    fn number(&mut self, chat: &str, id: &str) -> u64 {
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

    fn came(&mut self, chat: &str, id: &str) {
        self.number(chat, id);
        *self.times.entry((chat.to_owned(), id.to_owned())).or_default() += 1;
    }

    fn times(&self, chat: &str, id: &str) -> u32 {
        self.times.get(&(chat.to_owned(), id.to_owned())).copied().unwrap_or_default()
    }

    fn forget(&mut self, chat: &str, id: &str) {
        let key = (chat.to_owned(), id.to_owned());
        self.times.remove(&key);
        if let Some(number) = self.numbers.remove(&key) {
            self.by_number.remove(&number);
        }
    }
}

/// What a held chat is to bring, by the number of arrival. Never empty.
#[derive(Debug)]
struct Queue {
    entries: BTreeMap<u64, Entry>,
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
    /// If it came twice on one connection, the first one is still being worked on, or was asked for.
    fn not_there(&mut self, chat: &str, id: &str, now: Instant) -> bool {
        if self.arrivals.times(chat, id) > 1 {
            return false;
        }
        self.hold(chat, id, now);
        true
    }

    fn hold(&mut self, chat: &str, id: &str, now: Instant) {
        let number = self.arrivals.number(chat, id);
        if self.given_up.contains(&(chat.to_owned(), id.to_owned())) {
            return;
        }
        let queue = self.chats.entry(chat.to_owned()).or_insert_with(|| Queue {
            entries: BTreeMap::new(),
            since: now,
            asked: false,
        });
        queue.put(number, id, false);
    }

    fn lets_pass(&mut self, chat: &str, id: &str, now: Instant) -> bool {
        let Some(queue) = self.chats.get_mut(chat) else { return true };
        let number = self.arrivals.number(chat, id);
        if queue.entries.first_key_value().is_none_or(|(first, _)| number <= *first) {
            // It is being stored; that may take its time.
            queue.since = now;
            return true;
        }
        queue.put(number, id, true);
        false
    }

    fn dealt_with(&mut self, chat: &str, id: &str, now: Instant) {
        self.given_up.remove(&(chat.to_owned(), id.to_owned()));
        self.remove(chat, id, now);
        self.arrivals.forget(chat, id);
    }

    fn remove(&mut self, chat: &str, id: &str, now: Instant) {
        let Some(queue) = self.chats.get_mut(chat) else { return };
        queue.entries.retain(|_, entry| entry.id != id);
        queue.since = now;
        queue.asked = false;
        if queue.entries.is_empty() {
            self.chats.remove(chat);
        }
    }

    fn logged_in(&mut self) {
        self.drained = false;
        self.arrivals.times.clear();
    }

    fn drained(&mut self, now: Instant) {
        self.drained = true;
        for queue in self.chats.values_mut() {
            queue.since = now;
        }
    }

    /// Gives up what is overdue, and says whether a new connection is to be made.
    fn look(&mut self, now: Instant) -> bool {
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
        if !self.drained {
            return None;
        }
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
    fn put(&mut self, number: u64, id: &str, refused: bool) {
        self.entries.insert(number, Entry { id: id.to_owned(), refused });
    }

    fn first(&self) -> Option<&Entry> {
        self.entries.first_key_value().map(|(_, entry)| entry)
    }

    /// When a new connection is to be made for its first one, if it needs one.
    fn wanted_at(&self, pause: Option<Instant>) -> Option<Instant> {
        let needed = self.first().is_some_and(|first| first.refused) && !self.asked;
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
            let queues = Queues { drained: true, ..Queues::default() };
            Self { queues, now: Instant::now(), stored: Vec::new() }
        }

        fn lost(&mut self, id: &str) {
            assert!(self.queues.not_there("chat", id, self.now));
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
    fn what_came_before_the_missing_one_is_not_held() {
        let mut world = World::new();
        for id in ["1", "2", "3"] {
            world.queues.arrivals.came("chat", id);
        }
        world.lost("2");
        world.brings(&["3", "1", "2"]);
        assert!(world.reconnects_within(GRACE));
        world.brings(&["3", "4"]);
        assert_eq!(world.stored, ["1", "2", "3", "4"]);
        let Arrivals { by_number, numbers, times, .. } = &world.queues.arrivals;
        assert!(by_number.is_empty() && numbers.is_empty() && times.is_empty());
    }

    #[test]
    fn what_comes_twice_on_a_connection_is_asked_for_once() {
        let mut world = World::new();
        let not_there = |world: &mut World| {
            world.queues.arrivals.came("chat", "1");
            world.queues.not_there("chat", "1", world.now)
        };
        assert!(not_there(&mut world));
        assert!(!not_there(&mut world));
        world.queues.logged_in();
        assert!(not_there(&mut world));
    }

    #[test]
    fn a_connection_is_let_be_until_it_has_handed_over_all() {
        let mut world = World::new();
        world.lost("1");
        world.queues.logged_in();
        world.brings(&["2", "1"]);
        assert!(!world.reconnects_within(PATIENCE * 3));
        world.queues.drained(world.now);
        assert!(world.reconnects_within(GRACE));
    }

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
