use super::super::looks::{LOOKS, SETTLE, STALE};
use super::*;
use proptest::prelude::*;

const ACK_WAIT: Duration = Duration::from_secs(15);

fn held(sequence: u64, previous: u64, now: Instant) -> Held<u64> {
    Held {
        place: Place { sequence, previous },
        claim: Claim::new(sequence, 1, 0, &format!("ack.{sequence}")),
        kept: Some(sequence),
        since: now,
        reserved: now + ACK_WAIT,
        has_waited: false,
        weight: 100,
    }
}

fn begins(arrival: Arrival<u64>) -> AtWork {
    match arrival {
        Arrival::Begins(at_work, _) => at_work,
        other => panic!("it does not begin: {other:?}"),
    }
}

#[test]
fn a_chats_next_message_is_ready_when_the_one_before_it_has_ended_and_not_before() {
    let (mut hand, now) = (Hand::new(1_000), Instant::now());
    let first = begins(hand.arrives("a", held(1, 0, now), true));
    assert!(matches!(hand.arrives("a", held(2, 1, now), true), Arrival::Waits));
    assert!(
        matches!(hand.arrives("b", held(3, 0, now), true), Arrival::Begins(..)),
        "another chat does not wait"
    );
    assert!(hand.next(0).is_none());
    hand.ended(&first);
    let (second, waited) = hand.next(0).unwrap();
    assert_eq!((waited.place.sequence, waited.has_waited, waited.kept), (2, true, Some(2)));
    // Its end counts once.
    assert!(matches!(hand.arrives("a", held(4, 2, now), true), Arrival::Waits));
    hand.ended(&first);
    assert!(hand.next(0).is_none());
    hand.ended(&second);
    assert_eq!(hand.next(0).unwrap().1.place.sequence, 4);
}

#[test]
fn without_a_slot_it_waits_for_one_and_chats_take_turns() {
    let (mut hand, now) = (Hand::new(1_000), Instant::now());
    for (chat, sequence) in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)] {
        assert!(matches!(hand.arrives(chat, held(sequence, 0, now), false), Arrival::Waits));
    }
    let mut order = Vec::new();
    while let Some((at_work, message)) = hand.next(0) {
        order.push(message.place.sequence);
        hand.ended(&at_work);
    }
    assert_eq!(order, [1, 3, 2, 5, 4]);
    assert_eq!((hand.waiting(), hand.kept, hand.chats.len()), (0, 0, 0));
}

#[test]
fn what_the_bus_delivers_again_is_not_in_hand_twice() {
    let (mut hand, now) = (Hand::new(1_000), Instant::now());
    let first = begins(hand.arrives("a", held(1, 0, now), true));
    hand.arrives("a", held(2, 1, now), true);
    let again = Held { claim: Claim::new(2, 2, 0, "later"), ..held(2, 1, now) };
    assert!(matches!(hand.arrives("a", again, true), Arrival::Known));
    assert!(matches!(hand.arrives("a", held(1, 0, now), true), Arrival::Known));
    hand.ended(&first);
    let (second, message) = hand.next(0).unwrap();
    assert_eq!(message.claim.delivered, 2, "its deaths are counted");
    hand.ended(&second);
    assert_eq!((hand.next(0).is_none(), hand.waiting()), (true, 0));
}

#[test]
fn an_earlier_message_that_comes_later_goes_first() {
    let (mut hand, now) = (Hand::new(1_000), Instant::now());
    let second = begins(hand.arrives("a", held(2, 1, now), true));
    assert!(hand.waits_elsewhere(&second, held(2, 1, now), now).is_none());
    assert!(hand.next(0).is_none());
    hand.arrives("a", held(1, 0, now), true);
    let (first, message) = hand.next(0).unwrap();
    assert_eq!(message.place.sequence, 1);
    assert!(!hand.is_elsewhere());
    hand.ended(&first);
    assert_eq!(hand.next(0).unwrap().1.place.sequence, 2);
}

#[test]
fn over_the_budget_a_message_is_only_a_claim() {
    let (mut hand, now) = (Hand::new(250), Instant::now());
    begins(hand.arrives("a", held(1, 0, now), true));
    for sequence in 2..6 {
        hand.arrives("a", held(sequence, sequence - 1, now), true);
    }
    let kept: Vec<_> = hand.chats["a"].waiting.values().filter_map(|one| one.kept).collect();
    assert_eq!((kept, hand.kept, hand.waiting()), (vec![2, 3], 200, 4));
    assert_eq!(hand.clear().len(), 4);
    assert_eq!((hand.kept, hand.waiting(), hand.is_ready(0)), (0, 0, false));
}

/// What waits elsewhere is looked up when somebody listens, once more when that has settled, then each second, and as
/// soon as the outcome passes by.
#[test]
fn what_waits_elsewhere_is_looked_up_when_it_is_useful() {
    let (mut hand, start) = (Hand::new(1_000), Instant::now());
    let at_work = begins(hand.arrives("a", held(9, 7, start), true));
    assert!(hand.waits_elsewhere(&at_work, held(9, 7, start), start).is_none());
    assert!(hand.is_elsewhere());
    assert_eq!(hand.next_look(), None, "nobody listens yet");
    let since = start + Duration::from_millis(3);
    hand.listening(Some(since));
    for due in [since, since + SETTLE, since + SETTLE + STALE] {
        assert_eq!(hand.next_look(), Some(due));
        assert!(hand.look(due - Duration::from_millis(1), |_| false).is_none());
        let look = hand.look(due, |_| false).unwrap();
        assert_eq!(look.place.sequence, 9);
        hand.looked(&look, Found::Nothing, due);
    }
    let now = since + SETTLE + STALE * 2;
    assert!(!hand.heard("a", 6, now), "it is another one's");
    assert!(!hand.heard("b", 7, now));
    assert!(hand.heard("a", 7, now - SETTLE));
    // It is not stored yet, and then not at all: its append was refused.
    let (heard_at, mut at) = (now - SETTLE, now - SETTLE);
    for _ in 0..LOOKS {
        let before = at;
        at = hand.next_look().unwrap();
        assert!(at - before <= before - heard_at + Duration::from_millis(1), "as late again at most");
        let look = hand.look(at, |_| false).unwrap();
        hand.looked(&look, Found::Nothing, at);
    }
    assert_eq!(hand.next_look(), Some(at + STALE));
    assert!(at - heard_at > STALE - SETTLE, "there is no gap in which it would be a second late");
    let look = hand.look(at + STALE, |_| false).unwrap();
    hand.looked(&look, Found::NothingBefore, at + STALE);
    let (_, message) = hand.next(0).unwrap();
    assert_eq!((message.place.previous, message.has_waited, hand.is_elsewhere()), (0, true, false));
    assert_eq!(hand.next_look(), None);
}

/// The bus said that there is no outcome, it passed by, and only then is it known that it is waited for.
#[test]
fn an_outcome_that_passes_while_the_bus_is_asked_is_looked_up_at_once() {
    for (passed, is_waited_for) in [(7, true), (6, false)] {
        let (mut hand, start) = (Hand::new(1_000), Instant::now());
        hand.listening(Some(start));
        let read_at = start + STALE;
        let at_work = begins(hand.arrives("a", held(9, 7, start), true));
        assert!(!hand.heard("a", passed, read_at));
        assert!(!hand.heard("a", 5, read_at), "a later word is not an earlier one's end");
        assert!(hand.waits_elsewhere(&at_work, held(9, 7, start), read_at).is_none());
        let due = if is_waited_for { read_at } else { read_at + STALE };
        assert_eq!(hand.next_look(), Some(due));
        // It counts once.
        let look = hand.look(due, |_| false).unwrap();
        hand.looked(&look, Found::Turn, due);
        let (again, message) = hand.next(0).unwrap();
        assert!(hand.waits_elsewhere(&again, message, due).is_none());
        assert_eq!(hand.next_look(), Some(due + STALE));
    }
}

/// The outcome passed by before the message was in hand, and was not readable yet when the bus was asked.
#[test]
fn what_is_asked_for_right_after_it_came_is_looked_up_once_more_when_that_has_settled() {
    let (mut hand, start) = (Hand::new(1_000), Instant::now());
    hand.listening(Some(start));
    let came = start + STALE;
    let at_work = begins(hand.arrives("a", held(9, 7, came), true));
    assert!(hand.waits_elsewhere(&at_work, held(9, 7, came), came + SETTLE / 2).is_none());
    assert_eq!(hand.next_look(), Some(came + SETTLE));
}

#[test]
fn what_is_soon_is_reserved_for_a_short_time_and_what_is_deep_for_longer() {
    let (mut hand, start) = (Hand::new(0), Instant::now());
    begins(hand.arrives("a", held(1, 0, start), true));
    for sequence in 2..202 {
        hand.arrives("a", held(sequence, sequence - 1, start), true);
    }
    assert!(hand.renewals(start + ACK_WAIT / 3, ACK_WAIT, |_| false).is_empty());
    let renewed = hand.renewals(start + ACK_WAIT / 2, ACK_WAIT, |_| false);
    let short = renewed.iter().filter(|one| one.ack_waits == 1).count();
    assert_eq!((short, renewed.len()), (NEAR, 200));
    // Nothing of it lapses if somebody looks each sixth of an ack wait.
    let (mut now, mut count) = (start + ACK_WAIT / 2, 0);
    while now < start + ACK_WAIT * 20 {
        now += ACK_WAIT / 6;
        assert!(hand.chats["a"].waiting.values().all(|one| one.reserved > now));
        count += hand.renewals(now, ACK_WAIT, |_| false).len();
    }
    assert!(count < 20 * (2 * NEAR + 200 / 3), "{count}");
}

#[test]
fn more_is_asked_for_if_most_of_it_only_waits() {
    let (mut hand, now) = (Hand::new(0), Instant::now());
    assert_eq!((hand.ask(8, 256), hand.ask(0, 256), hand.ask(300, 256)), (8, 1, 256));
    for sequence in 1..400 {
        hand.arrives("a", held(sequence, sequence - 1, now), true);
    }
    assert_eq!(hand.ask(8, 256), 256);
    assert_eq!(hand.ask(8, 2), 2, "during a hold");
    for sequence in 400..800 {
        hand.arrives(&sequence.to_string(), held(sequence, 0, now), true);
    }
    assert_eq!(hand.ask(8, 256), 8);
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Arrives { chat: u8, sequence: u8, may_begin: bool },
    Next,
    Ends,
    WaitsElsewhere,
    Hears { chat: u8, sequence: u8 },
    Looks { finds: bool },
    Renews,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => (0_u8..3, 1_u8..20, any::<bool>())
            .prop_map(|(chat, sequence, may_begin)| Does::Arrives { chat, sequence, may_begin }),
        3 => Just(Does::Next),
        2 => Just(Does::Ends),
        2 => Just(Does::WaitsElsewhere),
        1 => (0_u8..3, 1_u8..20).prop_map(|(chat, sequence)| Does::Hears { chat, sequence }),
        2 => any::<bool>().prop_map(|finds| Does::Looks { finds }),
        1 => Just(Does::Renews),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// Whatever happens: of a chat one message is at work, none is forgotten, and the books are right.
    #[test]
    fn nothing_in_hand_is_lost_or_doubled(steps in proptest::collection::vec(does(), 0..120)) {
        let (mut hand, mut now) = (Hand::new(500), Instant::now());
        let mut at_work: Vec<(AtWork, u64)> = Vec::new();
        let mut in_hand: BTreeSet<u64> = BTreeSet::new();
        hand.listening(Some(now));
        for step in steps {
            now += Duration::from_millis(100);
            match step {
                Does::Arrives { chat, sequence, may_begin } => {
                    // A sequence belongs to one chat.
                    let sequence = u64::from(sequence) * 3 + u64::from(chat);
                    let arrival = hand.arrives(&chat.to_string(), held(sequence, sequence.saturating_sub(3), now), may_begin);
                    let is_new = in_hand.insert(sequence);
                    prop_assert_eq!(is_new, !matches!(arrival, Arrival::Known));
                    if let Arrival::Begins(working, _) = arrival {
                        at_work.push((working, sequence));
                    }
                }
                Does::Next => if let Some((working, message)) = hand.next(0) {
                    at_work.push((working, message.place.sequence));
                },
                Does::Ends => if let Some((working, sequence)) = at_work.pop() {
                    in_hand.remove(&sequence);
                    hand.ended(&working);
                },
                Does::WaitsElsewhere => if let Some((working, sequence)) = at_work.pop() {
                    let message = held(sequence, sequence.saturating_sub(3), now);
                    prop_assert!(hand.waits_elsewhere(&working, message, now).is_none());
                    hand.ended(&working);
                },
                Does::Hears { chat, sequence } => {
                    hand.heard(&chat.to_string(), u64::from(sequence) * 3 + u64::from(chat), now);
                }
                Does::Looks { finds } => if let Some(look) = hand.look(now, |_| false) {
                    hand.looked(&look, if finds { Found::Turn } else { Found::Nothing }, now);
                },
                Does::Renews => drop(hand.renewals(now, ACK_WAIT, |_| false)),
            }
            let chats: BTreeSet<_> = at_work.iter().map(|(working, _)| Arc::clone(&working.chat)).collect();
            prop_assert_eq!(chats.len(), at_work.len(), "two of a chat are at work");
            prop_assert_eq!(hand.waiting() + at_work.len(), in_hand.len());
            let waiting = || hand.chats.values().flat_map(|chat| chat.waiting.values());
            prop_assert_eq!(waiting().count(), hand.waiting());
            prop_assert_eq!(waiting().filter(|one| one.kept.is_some()).map(|one| one.weight).sum::<usize>(), hand.kept);
            let elsewhere = hand.chats.values().filter(|chat| chat.elsewhere.is_some()).count();
            prop_assert_eq!(elsewhere, hand.waiting_elsewhere);
            for chat in hand.chats.values() {
                // Somebody will take care of it.
                let is_cared_for = chat.at_work.is_some() || chat.is_ready
                    || chat.elsewhere.as_ref().is_some_and(|one| one.due.is_some());
                prop_assert!(is_cared_for, "{:?}", chat);
            }
        }
        // When all that is at work ends, and every look finds its outcome, the hand is empty in the end.
        for _ in 0..1_000 {
            now += STALE;
            for (working, _) in at_work.drain(..) {
                hand.ended(&working);
            }
            while let Some(look) = hand.look(now, |_| false) {
                hand.looked(&look, Found::Turn, now);
            }
            while let Some((working, message)) = hand.next(0) {
                at_work.push((working, message.place.sequence));
            }
        }
        prop_assert_eq!((hand.waiting(), hand.kept, hand.chats.len(), at_work.len()), (0, 0, 0, 0));
        prop_assert!(hand.due.is_empty() && hand.queues.values().all(|queue| queue.ready.is_empty() && queue.waiting == 0));
    }
}

/// `<prefix>.out.<account>.reply.<chat>`.
fn chat_of(account: &str, chat: &str) -> String {
    format!("wa.out.{account}.reply.{chat}")
}

fn lanes(own: &[(&str, Lane)]) -> Lanes {
    Lanes { own: own.iter().map(|(account, lane)| ((*account).to_owned(), *lane)).collect(), others: 0 }
}

#[test]
fn what_waits_in_a_lane_is_begun_there_and_goes_with_its_account() {
    let (mut hand, now) = (Hand::new(1_000), Instant::now());
    hand.reroute(lanes(&[("acme", 1)]));
    for (account, chat, sequence) in [("acme", "a", 1), ("bolt", "b", 2), ("acme", "c", 3), ("acme", "a", 4)]
    {
        hand.arrives(&chat_of(account, chat), held(sequence, 0, now), false);
    }
    assert_eq!((hand.waiting_in(0), hand.waiting_in(1), hand.woken()), (1, 3, vec![1, 0, 1]));
    let (at_work, message) = hand.next(0).unwrap();
    assert_eq!((message.place.sequence, hand.is_ready(0), hand.waiting_in(0)), (2, false, 0));
    hand.ended(&at_work);
    let (first, message) = hand.next(1).unwrap();
    assert_eq!(message.place.sequence, 1);
    // Both change their places while one is at work.
    hand.reroute(lanes(&[("acme", 2), ("bolt", 3)]));
    assert_eq!((hand.is_ready(1), hand.waiting_in(1), hand.waiting_in(2)), (false, 0, 2));
    assert_eq!(hand.woken(), [2]);
    assert_eq!(hand.next(2).unwrap().1.place.sequence, 3);
    hand.ended(&first);
    assert_eq!((hand.woken(), hand.next(2).unwrap().1.place.sequence), (vec![2], 4));
    assert!(matches!(hand.arrives(&chat_of("bolt", "b"), held(5, 2, now), false), Arrival::Waits));
    assert_eq!(hand.next(3).unwrap().1.place.sequence, 5);
    assert_eq!(hand.waiting(), 0);
}

#[test]
fn a_lane_that_is_held_is_quiet() {
    let (mut hand, start) = (Hand::new(1_000), Instant::now());
    hand.reroute(lanes(&[("acme", 1)]));
    let (acme, bolt) = (chat_of("acme", "a"), chat_of("bolt", "b"));
    let is_held = |lane| lane == 1;
    for (chat, sequence) in [(&acme, 9), (&bolt, 19)] {
        let at_work = begins(hand.arrives(chat, held(sequence, sequence - 1, start), true));
        assert!(hand.waits_elsewhere(&at_work, held(sequence, sequence - 1, start), start).is_none());
    }
    hand.listening(Some(start));
    // Only the other one is looked up, until the outcome passes by.
    assert_eq!(hand.look(start + SETTLE, is_held).unwrap().place.sequence, 19);
    assert!(hand.look(start + SETTLE, is_held).is_none());
    assert_eq!(hand.next_look(), Some(start + SETTLE + QUIET));
    assert!(hand.heard(&acme, 8, start + STALE));
    assert_eq!(hand.look(start + STALE, is_held).unwrap().place.sequence, 9);
    // And it is reserved for longer.
    let renewed = hand.renewals(start + ACK_WAIT / 2, ACK_WAIT, is_held);
    let renewed: std::collections::BTreeMap<_, _> =
        renewed.iter().map(|renewal| (renewal.claim.sequence, renewal.ack_waits)).collect();
    assert_eq!(renewed, [(9, FAR), (19, 1)].into());
}
