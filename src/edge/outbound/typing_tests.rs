use proptest::prelude::*;

use super::*;

fn chat(number: u64) -> ChatToken {
    ChatToken::phone(&format!("54911{number:08}"))
}

fn jid(number: u64) -> Jid {
    Jid::pn(format!("54911{number:08}"))
}

const SOON: Duration = Duration::from_secs(30);

fn tell(number: u64, word: Word) -> Next {
    Next::Tell(chat(number), jid(number), word)
}

/// Does what is due.
fn due(board: &mut Board, now: Instant) -> Next {
    let next = board.next(now);
    if let Next::Tell(chat, _, word) = &next {
        board.telling(chat, *word, now);
    }
    next
}

#[tokio::test]
async fn typing_is_told_again_and_taken_back_once() {
    let start = Instant::now();
    let mut board = Board::new(start);
    board.begins(chat(1), 5, jid(1), SOON, start);
    assert_eq!(due(&mut board, start), Next::At(start + FIRST));
    let shown = start + FIRST;
    assert_eq!(due(&mut board, shown), tell(1, Word::Composing));
    assert_eq!(due(&mut board, shown), Next::At(shown + REFRESH));
    assert_eq!(due(&mut board, shown + REFRESH), tell(1, Word::Composing));
    board.answered(&chat(1), 5, shown + REFRESH);
    assert_eq!(due(&mut board, shown + REFRESH), tell(1, Word::Paused));
    assert_eq!(due(&mut board, shown + REFRESH), Next::Nothing);
}

#[tokio::test]
async fn a_quick_answer_is_told_of_by_nothing_and_a_late_word_is_no_word() {
    let now = Instant::now();
    let mut board = Board::new(now);
    board.begins(chat(1), 5, jid(1), SOON, now);
    board.answered(&chat(1), 5, now);
    assert_eq!(board.next(now), Next::Nothing);
    // In a cluster, a word may come after the outcome.
    board.begins(chat(1), 5, jid(1), SOON, now);
    assert_eq!(board.next(now), Next::Nothing);
    // An old outcome comes again.
    board.answered(&chat(1), 4, now);
    board.begins(chat(1), 5, jid(1), SOON, now);
    assert_eq!(board.next(now), Next::Nothing);
    board.begins(chat(1), 6, jid(1), SOON, now);
    assert_eq!(due(&mut board, now + FIRST), tell(1, Word::Composing));
}

#[tokio::test]
async fn a_dead_forwarders_typing_ends_at_its_time() {
    let now = Instant::now();
    let mut board = Board::new(now);
    board.begins(chat(1), 5, jid(1), Duration::from_secs(5), now);
    assert_eq!(due(&mut board, now + FIRST), tell(1, Word::Composing));
    assert_eq!(
        due(&mut board, now + FIRST),
        Next::At(now + Duration::from_secs(5)),
        "sooner than the refresh"
    );
    assert_eq!(due(&mut board, now + Duration::from_secs(5)), tell(1, Word::Paused));
    assert_eq!(board.next(now + Duration::from_secs(5)), Next::Nothing);
}

#[tokio::test]
async fn the_outcome_of_an_earlier_message_does_not_end_the_next_ones_typing() {
    let now = Instant::now();
    let mut board = Board::new(now);
    board.begins(chat(1), 5, jid(1), SOON, now);
    assert_eq!(due(&mut board, now + FIRST), tell(1, Word::Composing));
    board.begins(chat(1), 6, jid(1), SOON, now + FIRST);
    board.answered(&chat(1), 5, now + FIRST);
    assert!(matches!(board.next(now + FIRST), Next::At(_)));
    // Another forwarder still has the earlier one in hand, which is late.
    board.stops(&chat(1), 5);
    board.begins(chat(1), 5, jid(1), SOON, now + FIRST);
    board.answered(&chat(1), 6, now + FIRST);
    assert_eq!(due(&mut board, now + FIRST), tell(1, Word::Paused));
}

#[tokio::test]
async fn a_failed_attempt_ends_it_and_the_next_one_begins_it() {
    let now = Instant::now();
    let mut board = Board::new(now);
    board.begins(chat(1), 5, jid(1), SOON, now);
    assert_eq!(due(&mut board, now + FIRST), tell(1, Word::Composing));
    board.stops(&chat(1), 5);
    // Before that is told, the next one begins.
    board.begins(chat(1), 5, jid(1), SOON, now + FIRST);
    assert_eq!(due(&mut board, now + FIRST * 2), tell(1, Word::Composing));
    board.stops(&chat(1), 5);
    assert_eq!(due(&mut board, now + FIRST * 2), tell(1, Word::Paused));
    board.begins(chat(1), 5, jid(1), SOON, now + FIRST * 2);
    assert_eq!(due(&mut board, now + FIRST * 3), tell(1, Word::Composing));
}

#[tokio::test]
async fn what_could_not_be_told_is_owed() {
    let now = Instant::now();
    let mut board = Board::new(now);
    board.begins(chat(1), 5, jid(1), SOON, now);
    due(&mut board, now + FIRST);
    board.close();
    assert_eq!(due(&mut board, now + FIRST), tell(1, Word::Paused));
    board.owes(chat(1), jid(1), now + FIRST);
    assert_eq!(due(&mut board, now + SOON * 100), tell(1, Word::Paused), "however long WhatsApp is away");
    // While it could not be told, somebody types there again.
    board.begins(chat(1), 6, jid(1), SOON, now);
    board.owes(chat(1), jid(1), now);
    board.stops(&chat(1), 6);
    assert_eq!(due(&mut board, now), tell(1, Word::Paused));
}

#[tokio::test]
async fn a_flood_takes_a_bounded_room_and_no_time_lasts_long() {
    let now = Instant::now();
    let mut board = Board::new(now);
    for number in 0..100_000 {
        board.begins(chat(number), 5, jid(number), Duration::MAX, now);
        board.owes(chat(number), jid(number), now);
    }
    assert_eq!(board.lines.len(), CHATS);
    let mut over = now + LONGEST;
    while let Next::Tell(chat, _, word) = board.next(over) {
        assert_eq!(word, Word::Paused);
        board.telling(&chat, word, over);
        over += Duration::from_millis(1);
    }
    assert_eq!((board.next(over), board.lines.len()), (Next::Nothing, 0));
}

#[derive(Debug, Clone)]
enum Event {
    Begins(u64, u64, u64),
    Stops(u64, u64),
    Answered(u64, u64),
    Wait(u64),
    Lost,
}

fn event() -> impl Strategy<Value = Event> {
    let (chats, seqs) = (0..3_u64, 0..6_u64);
    prop_oneof![
        (chats.clone(), seqs.clone(), 0..90_u64).prop_map(|(chat, seq, left)| Event::Begins(chat, seq, left)),
        (chats.clone(), seqs.clone()).prop_map(|(chat, seq)| Event::Stops(chat, seq)),
        (chats, seqs).prop_map(|(chat, seq)| Event::Answered(chat, seq)),
        (0..20_000_u64).prop_map(Event::Wait),
        Just(Event::Lost),
    ]
}

proptest! {
    /// Whatever happens: in the end nobody is seen typing, WhatsApp is told nothing in vain, and nobody types on for over ten
    /// seconds without another word to WhatsApp.
    #[test]
    fn nobody_types_for_ever(events in prop::collection::vec(event(), 0..60)) {
        let mut now = Instant::now();
        let mut board = Board::new(now);
        let mut shown: HashMap<ChatToken, bool> = HashMap::new();
        let end = now + Duration::from_secs(3_600);
        let mut events = events.into_iter();
        loop {
            let mut is_lost = false;
            let wait = match events.next() {
                Some(Event::Begins(who, seq, left)) => {
                    board.begins(chat(who), seq, jid(who), Duration::from_secs(left), now);
                    0
                }
                Some(Event::Stops(who, seq)) => { board.stops(&chat(who), seq); 0 }
                Some(Event::Answered(who, seq)) => { board.answered(&chat(who), seq, now); 0 }
                Some(Event::Wait(ms)) => ms,
                Some(Event::Lost) => { is_lost = true; 0 }
                None => 5_000,
            };
            now += Duration::from_millis(wait);
            for _ in 0..20 {
                let Next::Tell(chat, to, word) = board.next(now) else { break };
                board.telling(&chat, word, now);
                if is_lost {
                    if word == Word::Paused { board.owes(chat, to, now); break }
                    shown.insert(chat, true);
                    continue;
                }
                let was = shown.insert(chat, word == Word::Composing).unwrap_or(false);
                prop_assert!(was || word == Word::Composing, "taken back what nobody has seen");
            }
            if now > end { break }
        }
        prop_assert!(shown.values().all(|shown| !shown), "{shown:?}");
        prop_assert_eq!(board.next(now), Next::Nothing);
    }
}
