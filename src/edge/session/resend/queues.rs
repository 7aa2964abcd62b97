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
    /// If it came twice on one connection, its first copy is still being worked on, or was requested.
    pub(super) fn not_there(&mut self, chat: &str, id: &str, now: Instant) -> bool {
        if self.arrivals.times(chat, id) > 1 {
            return false;
        }
        self.hold(chat, id, None, now);
        true
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
mod tests {
    use super::*;

    /// A model of a WhatsApp server and a phone, as far as order matters.
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

        /// Delivers messages.
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
            while let Some(next) = self.queues.next_check().filter(|next| *next <= end) {
                self.now = self.now.max(next);
                if self.queues.check(self.now) {
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
        assert!(world.queues.arrivals.is_empty());
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
    fn what_was_refused_may_come_by_itself_for_a_moment() {
        let mut world = World::new();
        for [missing, refused] in [["1", "2"], ["3", "4"]] {
            world.lost(missing);
            world.brings(&[refused, missing]);
            let moment = Duration::from_millis(1);
            assert!(!world.reconnects_within(GRACE - moment), "{refused} may be on its way");
            assert!(world.reconnects_within(moment));
            world.brings(&[refused]);
            world.now += BETWEEN_CONNECTIONS * 2;
        }
        assert_eq!(world.stored, ["1", "2", "3", "4"]);
    }

    fn unreadable(id: &str) -> Option<Arc<MessageInfo>> {
        Some(Arc::new(MessageInfo { id: id.to_owned(), ..MessageInfo::default() }))
    }

    #[test]
    fn of_what_could_not_be_decrypted_and_does_not_come_somebody_is_told_once() {
        let mut world = World::new();
        world.queues.hold("chat", "1", unreadable("1"), world.now);
        world.queues.hold("chat", "2", unreadable("2"), world.now);
        world.lost("3");
        assert!(!world.reconnects_within(PATIENCE - GRACE));
        assert!(world.queues.abandoned.is_empty());
        world.reconnects_within(PATIENCE * 4);
        let told: Vec<_> = world.queues.abandoned.iter().map(|info| info.id.as_str()).collect();
        assert_eq!(told, ["1", "2"], "WhatsApp still has 3");
        // What comes in time is not told of.
        world.queues.hold("another", "4", unreadable("4"), world.now);
        assert!(world.queues.lets_pass("another", "4", world.now));
        world.queues.dealt_with("another", "4", world.now);
        world.reconnects_within(PATIENCE * 2);
        assert_eq!(world.queues.abandoned.len(), 2);
    }

    #[test]
    fn what_the_owners_phone_hands_over_waits_for_its_turn_and_is_not_counted_as_refused() {
        let mut world = World::new();
        world.queues.hold("chat", "1", unreadable("1"), world.now);
        world.queues.hold("chat", "2", unreadable("2"), world.now);
        assert!(!world.queues.is_its_turn("chat", "2"));
        assert!(world.queues.is_its_turn("chat", "1") && world.queues.is_its_turn("another", "2"));
        assert!(!world.reconnects_within(PATIENCE / 2), "WhatsApp has nothing to bring");
        world.brings(&["1"]);
        assert!(world.queues.is_its_turn("chat", "2"));
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

    #[test]
    fn what_was_given_up_is_remembered_up_to_a_bound() {
        let mut queues = Queues::default();
        for id in 0..=REMEMBERED {
            queues.give_up("chat".to_owned(), id.to_string());
            assert_eq!(queues.given_up.len(), (id + 1).min(REMEMBERED));
        }
        assert!(queues.given_up.contains(&("chat".to_owned(), REMEMBERED.to_string())), "the last is kept");
    }
}
