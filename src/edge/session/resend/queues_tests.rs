//! What a held chat gets, and when, against a model of a server and a phone.

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

/// An edge that was killed had asked for the first message, and its sender has sent it anew, behind the second one.
#[test]
fn what_follows_a_missing_message_waits_also_if_the_message_has_come_twice() {
    let mut world = World::new();
    for id in ["1", "2", "1"] {
        world.queues.arrivals.came("chat", id);
    }
    assert!(!world.queues.not_there("chat", "1", world.now), "the other stanza can be read");
    world.brings(&["2", "1"]);
    assert!(world.reconnects_within(GRACE));
    world.brings(&["2"]);
    assert_eq!(world.stored, ["1", "2"]);
    assert!(world.queues.chats.is_empty() && world.queues.arrivals.is_empty());
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
    world.queues.logged_in();
    world.queues.drained(world.now);
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
