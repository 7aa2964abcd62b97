//! Votes and answers as phones seal them.

use whatsapp_rust::prelude::MessageField;
use whatsapp_rust::wacore::event::encrypt_event_response_with_secret;
use whatsapp_rust::wacore::poll::encrypt_poll_vote_with_secret;

use super::*;

const SECRET: [u8; 32] = [7; 32];

fn ana() -> Identity {
    Identity { phone: "54911".to_owned(), lid: "987".to_owned(), ..Identity::default() }
}

fn own() -> Identity {
    Identity { phone: "15551".to_owned(), lid: "77".to_owned(), ..Identity::default() }
}

fn poll() -> Poll {
    Poll { secret: SECRET.to_vec(), options: vec!["hoy".to_owned(), "mañana".to_owned()], creator: own() }
}

fn vote(options: &[&str], creator: &str, voter: &str) -> Sealed {
    let hashes: Vec<_> = options.iter().map(|option| compute_option_hash(option).to_vec()).collect();
    let (payload, iv) =
        encrypt_poll_vote_with_secret(&hashes, &SECRET, "ABC", creator, voter).expect("a vote");
    Sealed { about: "ABC".to_owned(), payload, iv: iv.to_vec() }
}

fn opened(sealed: &Sealed, poll: Option<&Poll>, by: &Identity) -> PollVote {
    let mut content = Content::PollVote(PollVote::default());
    open(&mut content, sealed, poll, by);
    let Content::PollVote(vote) = content else { panic!("{content:?}") };
    vote
}

#[test]
fn a_vote_is_read_by_whatever_addresses_it_was_sealed() {
    let picked = PollVote { options: vec!["mañana".to_owned()], decrypted: true, ..PollVote::default() };
    let (own_phone, own_lid) = ("15551@s.whatsapp.net", "77@lid");
    let (phone, lid) = ("54911@s.whatsapp.net", "987@lid");
    for (creator, voter) in [(own_phone, phone), (own_lid, lid), (own_phone, lid), (own_lid, phone)] {
        let sealed = vote(&["mañana"], creator, voter);
        assert_eq!(opened(&sealed, Some(&poll()), &ana()), picked, "{creator} {voter}");
    }
    let hidden = Identity { phone: String::new(), ..ana() };
    assert_eq!(opened(&vote(&["mañana"], own_lid, lid), Some(&poll()), &hidden), picked);
}

#[test]
fn what_cannot_be_read_is_no_vote_taken_back() {
    let sealed = |options: &[&str]| vote(options, "77@lid", "987@lid");
    let reason = |reason: &str| PollVote { reason: reason.to_owned(), ..PollVote::default() };
    let nobodys = Poll { creator: Identity::default(), ..poll() };
    let other = Poll { secret: vec![8; 32], ..poll() };
    let back = PollVote { decrypted: true, ..PollVote::default() };
    let both = PollVote { options: poll().options, ..back.clone() };
    for (sealed, poll, want) in [
        (sealed(&[]), Some(poll()), back),
        (sealed(&["hoy", "mañana"]), Some(poll()), both),
        (sealed(&["hoy"]), None, reason("unknown")),
        (sealed(&["hoy"]), Some(other), reason("unreadable")),
        (sealed(&["hoy"]), Some(nobodys), reason("unreadable")),
        (sealed(&["pasado"]), Some(poll()), reason("unreadable")),
        (Sealed { payload: vec![1; 3], ..sealed(&[]) }, Some(poll()), reason("unreadable")),
        (Sealed { iv: Vec::new(), ..sealed(&[]) }, Some(poll()), reason("unreadable")),
    ] {
        assert_eq!(opened(&sealed, poll.as_ref(), &ana()), want);
    }
}

#[test]
fn an_answer_to_an_event_is_read() {
    use wa::message::EventResponseMessage;
    use wa::message::event_response_message::EventResponseType;
    let event = Poll { options: Vec::new(), ..poll() };
    let sealed = |response, extra_guest_count| {
        let answer =
            EventResponseMessage { response: Some(response), extra_guest_count, ..Default::default() };
        let (payload, iv) = encrypt_event_response_with_secret(&answer, &SECRET, "ABC", "77@lid", "987@lid")
            .expect("an answer");
        Sealed { about: "ABC".to_owned(), payload, iv: iv.to_vec() }
    };
    let opened = |sealed: &Sealed, event: Option<&Poll>| {
        let mut content = Content::EventAnswer(EventAnswer::default());
        open(&mut content, sealed, event, &ana());
        content
    };
    let said = |word: EventAnswerWord, extra_guests| {
        let answer = word.into();
        Content::EventAnswer(EventAnswer { answer, extra_guests, decrypted: true, ..EventAnswer::default() })
    };
    for (response, guests, want) in [
        (EventResponseType::Going, Some(2), said(EventAnswerWord::Going, 2)),
        (EventResponseType::NotGoing, None, said(EventAnswerWord::NotGoing, 0)),
        (EventResponseType::Maybe, Some(-1), said(EventAnswerWord::Maybe, 0)),
    ] {
        assert_eq!(opened(&sealed(response, guests), Some(&event)), want);
    }
    let reason = |reason: &str| {
        Content::EventAnswer(EventAnswer { reason: reason.to_owned(), ..EventAnswer::default() })
    };
    let one = sealed(EventResponseType::Going, None);
    assert_eq!(opened(&one, None), reason("unknown"));
    let other = Poll { secret: vec![8; 32], ..event };
    assert_eq!(opened(&one, Some(&other)), reason("unreadable"));
}

#[test]
fn a_poll_and_an_event_are_kept_if_they_have_a_secret() {
    use wa::message::poll_creation_message::Option as Choice;
    use wa::message::{EventMessage, FutureProofMessage, PollCreationMessage};
    let option = |name: &str| Choice { option_name: Some(name.to_owned()), ..Default::default() };
    let poll = |secret: Option<Vec<u8>>| wa::Message {
        poll_creation_message_v4: MessageField::some(FutureProofMessage {
            message: MessageField::some(wa::Message {
                poll_creation_message_v3: MessageField::some(PollCreationMessage {
                    options: vec![option("hoy"), option("mañana")],
                    ..Default::default()
                }),
                ..Default::default()
            }),
        }),
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_secret: secret,
            ..Default::default()
        }),
        ..Default::default()
    };
    let want = |options: &[&str]| {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Some(Poll { secret: SECRET.to_vec(), options, creator: Identity::default() })
    };
    assert_eq!(kept(&poll(Some(SECRET.to_vec()))), want(&["hoy", "mañana"]));
    assert_eq!((kept(&poll(None)), kept(&poll(Some(vec![7; 31])))), (None, None));
    let event = wa::Message {
        poll_creation_message_v4: MessageField::none(),
        event_message: MessageField::some(EventMessage::default()),
        ..poll(Some(SECRET.to_vec()))
    };
    assert_eq!(kept(&event), want(&[]));
    let text = wa::Message { event_message: MessageField::none(), ..event };
    assert_eq!(kept(&text), None);
}

#[test]
fn what_is_sealed_is_found_with_what_it_is_about() {
    use wa::message::{EncEventResponseMessage, PollEncValue, PollUpdateMessage};
    let key = || MessageField::some(wa::MessageKey { id: Some("ABC".to_owned()), ..Default::default() });
    let vote = |enc_iv| wa::Message {
        poll_update_message: MessageField::some(PollUpdateMessage {
            poll_creation_message_key: key(),
            vote: MessageField::some(PollEncValue { enc_payload: Some(vec![1]), enc_iv }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let want = Sealed { about: "ABC".to_owned(), payload: vec![1], iv: vec![2] };
    assert_eq!(sealed(&vote(Some(vec![2]))), Some(want.clone()));
    assert_eq!(sealed(&vote(None)), None);
    let answer = wa::Message {
        enc_event_response_message: MessageField::some(EncEventResponseMessage {
            event_creation_message_key: key(),
            enc_payload: Some(vec![1]),
            enc_iv: Some(vec![2]),
        }),
        ..Default::default()
    };
    assert_eq!(sealed(&answer), Some(want));
    assert_eq!(sealed(&wa::Message::default()), None);
}
