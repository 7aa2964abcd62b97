//! What a refusal means, step by step, and whatever happens.

use proptest::prelude::*;

use super::*;

const NOBODY: Duration = Duration::ZERO;

/// Steps of a story: a call at a time, each begun and ended at once.
struct Story {
    hold: Hold,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        Self { hold: Hold::default(), now: Instant::now() }
    }

    fn later(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self
    }

    fn answered(&mut self, chat: &str) -> bool {
        self.later(0.01);
        self.hold.answered(chat, self.now, self.now)
    }

    fn refused(&mut self, chat: &str, reason: &str) -> Refusal {
        self.later(0.01);
        self.hold.refused(chat, reason, None, self.now)
    }

    fn is_held(&self) -> bool {
        self.hold.reason().is_some()
    }
}

#[test]
fn one_refused_chat_is_alone_as_soon_as_another_one_is_answered() {
    let mut story = Story::new();
    assert_eq!(story.refused("c", "http-429"), Refusal::Held, "nobody was answered lately");
    assert_eq!(story.hold.reason(), Some("http-429"));
    assert!(story.answered("d"), "that ends the hold");
    for _ in 0..20 {
        assert_eq!(story.later(25.0).refused("c", "http-429"), Refusal::Alone);
        assert!(!story.is_held(), "and it holds nobody up any more");
    }
    // Another reason is another matter, and so is the same one long after anybody else was answered.
    assert_eq!(story.refused("c", "http-503"), Refusal::Held);
    assert!(story.answered("d"));
    assert_eq!(story.later(700.0).refused("c", "http-503"), Refusal::Held);
}

#[test]
fn while_others_are_answered_one_refusal_holds_nothing() {
    let mut story = Story::new();
    story.answered("d");
    assert_eq!(story.refused("c", "http-403"), Refusal::Undecided);
    assert_eq!(story.later(0.5).refused("c", "http-403"), Refusal::Undecided);
    story.answered("d");
    assert_eq!(story.refused("c", "http-403"), Refusal::Alone);
    // It is answered: all is forgotten.
    story.answered("c");
    assert_eq!(story.refused("c", "http-403"), Refusal::Undecided);
    // Nobody else writes, so nobody knows.
    assert_eq!(story.later(11.0).refused("c", "http-403"), Refusal::Held);
}

#[test]
fn an_outage_costs_two_refusals() {
    let mut story = Story::new();
    story.answered("a");
    assert_eq!(story.refused("b", "http-502"), Refusal::Undecided);
    assert_eq!(story.refused("c", "http-503"), Refusal::Held);
    assert_eq!(story.refused("d", "http-503"), Refusal::Held);
    assert_eq!(story.refused("b", "http-502"), Refusal::Held);
}

#[test]
fn no_connection_is_everybodys() {
    let mut story = Story::new();
    story.answered("d");
    assert_eq!(story.refused("c", UNREACHABLE), Refusal::Held);
    story.answered("d");
    assert_eq!(story.refused("c", UNREACHABLE), Refusal::Held, "however often others are answered");
}

/// The backend returns, answers one, and falls over its own backlog: that is the outage again.
#[test]
fn a_backend_that_is_back_for_a_moment_uses_up_next_to_nothing() {
    let mut story = Story::new();
    for chat in ["a", "b", "c", "d", "e"] {
        assert_eq!(story.refused(chat, "http-503"), Refusal::Held);
    }
    assert!(story.answered("f"));
    let again = ["a", "b", "c", "d", "e"].map(|chat| story.refused(chat, "http-503"));
    assert_eq!(again.iter().filter(|refusal| **refusal == Refusal::Alone).count(), EVERYBODY - 1);
    assert!(story.is_held());
    // Those that are seen to be refused alone a second time are.
    assert!(story.answered("f"));
    for chat in ["a", "b", "c", "d", "e"] {
        assert_eq!(story.refused(chat, "http-503"), Refusal::Alone);
    }
    assert!(!story.is_held());
}

#[test]
fn an_answer_to_a_call_from_before_the_hold_ends_none() {
    let mut story = Story::new();
    let before = story.now;
    story.refused("c", "http-503");
    story.later(1.0);
    assert!(!story.hold.answered("d", before, story.now) && story.is_held());
    assert!(!story.hold.reached(before) && story.is_held());
    // A failure ends a hold, but says nothing of who was refused alone.
    let now = story.now;
    assert!(story.hold.reached(now) && !story.is_held());
    assert_eq!(story.refused("c", "http-503"), Refusal::Undecided);
    assert_eq!(story.refused("e", "http-503"), Refusal::Held);
}

fn asked(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn who_was_not_refused_probes_first_and_does_not_wait_for_what_others_were_asked() {
    let mut hold = Hold::default();
    let start = Instant::now();
    hold.refused("c", "http-429", asked(20), start);
    let refused = hold.enter("c");
    assert_eq!(hold.next(refused, start), Next::At(start + Duration::from_secs(20)));
    let (fresh, second) = (hold.enter("d"), hold.enter("e"));
    assert_eq!(hold.next(refused, start), Next::Later);
    let soon = start + Duration::from_millis(250);
    assert_eq!(hold.next(fresh, start), Next::At(soon));
    assert_eq!(hold.next(second, start), Next::Later);
    assert_eq!(hold.next(fresh, soon), Next::Probe);
    // It takes its time: the next one goes after a second.
    assert_eq!(hold.next(second, soon), Next::At(soon + QUICK));
    assert_eq!(hold.next(second, soon + QUICK), Next::Probe);
    assert_eq!(hold.wants(), Some(ENOUGH - 3));
    // Three chats are refused: what is asked concerns all.
    let now = soon + QUICK;
    for (chat, ticket) in [("d", fresh), ("e", second)] {
        hold.refused(chat, "http-429", asked(10), now);
        hold.leave(ticket);
    }
    let third = hold.enter("f");
    assert_eq!(hold.next(third, now), Next::At(now + Duration::from_secs(10)));
    hold.leave(third);
    hold.leave(refused);
    assert_eq!(hold.wants(), Some(ENOUGH));
}

#[test]
fn those_that_were_refused_take_turns() {
    let mut hold = Hold::default();
    let mut now = Instant::now();
    hold.refused("a", "http-503", None, now);
    let mut waiting = vec![("a", hold.enter("a"))];
    hold.refused("b", "http-503", None, now);
    waiting.push(("b", hold.enter("b")));
    let mut order = String::new();
    for _ in 0..6 {
        now += Duration::from_secs(2);
        let (chat, ticket) =
            *waiting.iter().find(|(_, ticket)| hold.next(*ticket, now) == Next::Probe).unwrap();
        hold.refused(chat, "http-503", None, now);
        hold.leave(ticket);
        waiting.retain(|(_, other)| *other != ticket);
        waiting.push((chat, hold.enter(chat)));
        order += chat;
    }
    assert_eq!(order, "ababab");
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Answers,
    Refuses,
    Fails,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Nobody is ever blamed in an outage of everybody, whatever happened before, beyond the two that a backend which is
    /// back for a moment may cost.
    #[test]
    fn an_outage_blames_nobody_for_long(
        before in proptest::collection::vec((0_u8..6, prop_oneof![Just(Does::Answers), Just(Does::Refuses), Just(Does::Fails)], 0_u64..20_000), 0..60),
        outage in proptest::collection::vec((6_u8..12, 0_u64..5_000), 4..40),
    ) {
        let mut hold = Hold::default();
        let mut now = Instant::now();
        for (chat, does, wait) in before {
            now += Duration::from_millis(wait);
            let chat = chat.to_string();
            match does {
                Does::Answers => { hold.answered(&chat, now, now); }
                Does::Refuses => { hold.refused(&chat, "http-503", None, now); }
                Does::Fails => { hold.reached(now); }
            }
        }
        let mut undecided = 0;
        for (chat, wait) in outage {
            now += Duration::from_millis(wait);
            match hold.refused(&chat.to_string(), "http-503", None, now) {
                Refusal::Alone => prop_assert!(false, "a chat that was never refused alone is blamed"),
                Refusal::Undecided => undecided += 1,
                Refusal::Held => {}
            }
        }
        prop_assert!(hold.reason().is_some() || undecided > 0);
    }

    /// However others come and go: a chat that nobody refuses is let through within a second and a bit.
    #[test]
    fn a_fresh_chat_probes_soon(
        refused in proptest::collection::vec((0_u8..20, 0_u64..60), 1..40),
    ) {
        let mut hold = Hold::default();
        let now = Instant::now();
        for (chat, asks) in &refused {
            hold.refused(&chat.to_string(), "http-429", asked(*asks), now);
        }
        let others: Vec<_> = refused.iter().map(|(chat, _)| hold.enter(&chat.to_string())).collect();
        let fresh = hold.enter("fresh");
        prop_assert!(others.iter().all(|other| hold.next(*other, now) == Next::Later));
        let chats: std::collections::BTreeSet<_> = refused.iter().map(|(chat, _)| *chat).collect();
        let due = match hold.next(fresh, now) {
            Next::At(due) => due.duration_since(now),
            Next::Probe => NOBODY,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let most = if chats.len() < EVERYBODY { 1 } else { 30 };
        prop_assert!(due <= Duration::from_secs(most), "{due:?}");
    }
}
