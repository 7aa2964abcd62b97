//! Payloads on the bus: as every reader of them takes them, and what each does with them then.

use std::time::Duration;

use prost::Message;
use whatsapp_connector::bus::Stored;
use whatsapp_connector::edge::job::Job;
use whatsapp_connector::forwarder::backend::Fields;
use whatsapp_connector::forwarder::eligible::{Groups, Settings, UnknownNumbers, lacks_only_words, question};
use whatsapp_connector::forwarder::{crash_loop, records::About};
use whatsapp_connector::operator::{Filter, Letter, replayed};
use whatsapp_connector::wire::opt_out;
use whatsapp_connector::wire::takeover::{Lasts, over, resumed, written};
use whatsapp_connector::wire::v1::{
    Dead, DeadReason, InboundMessage, NoReply, NoReplyReason, OptOut, OptOutState, Outcome, Receipt, Reply,
    SendMessage, SessionEvent, Takeover, outcome,
};
use whatsapp_connector::wire::{Account, ChatToken, Envelope, Headers, Route, Subjects, header, id};

const CHAT: &str = "5491112345678";
const NOW_MS: i64 = 1_736_330_401_000;
const INCARNATION: &str = "1736330400000000000";

pub fn check(payload: &[u8]) {
    is_stable::<InboundMessage>(payload);
    is_stable::<Outcome>(payload);
    is_stable::<Receipt>(payload);
    is_stable::<SendMessage>(payload);
    is_stable::<SessionEvent>(payload);
    is_stable::<Takeover>(payload);
    taken_over(payload);
    opted_out(payload);
    inbound(payload);
    outbound(payload);
    let is_number = payload.strip_prefix(b"+").unwrap_or(payload).iter().all(u8::is_ascii_digit);
    assert!(crash_loop::count(payload) == 0 || is_number, "a mark that is none");
}

/// What was read is written in one way, and read again as the same.
fn is_stable<M: Message + Default>(payload: &[u8]) {
    let Ok(message) = M::decode(payload) else { return };
    let once = message.encode_to_vec();
    let again = M::decode(once.as_slice()).expect("what was read can be written and read");
    // Bytes, and not messages: a place may be at NaN degrees.
    assert_eq!(again.encode_to_vec(), once);
}

/// Whatever another service puts there, it is judged, and a person may still write.
fn taken_over(payload: &[u8]) {
    let Ok(takeover) = Takeover::decode(payload) else { return };
    let takeover = takeover.resolved(NOW_MS);
    let lasts = Lasts { each: Duration::from_secs(1_800), most: Duration::from_secs(43_200) };
    for at_ms in [i64::MIN, NOW_MS, i64::MAX] {
        takeover.covers(at_ms);
        let _ = written(Some(&takeover), at_ms, "3EB0AB", lasts);
    }
    let _ = (resumed(&takeover).resolved(NOW_MS), over(&takeover));
}

/// The same of a bucket that others may write.
fn opted_out(payload: &[u8]) {
    let Ok(held) = OptOut::decode(payload) else { return };
    let held = held.resolved(NOW_MS);
    opt_out::is_out([&held].into_iter());
    for at_ms in [i64::MIN, NOW_MS, i64::MAX] {
        for state in [OptOutState::Out, OptOutState::In] {
            let _ = opt_out::said(Some(&held), state, at_ms, "3EB0AB");
        }
    }
}

fn inbound(payload: &[u8]) {
    let (account, chat) = (Account::parse("default").unwrap(), ChatToken::phone(CHAT));
    let subjects = Subjects::new("wa").unwrap();
    let headers = Headers::cloud_event("default/a/b/3EB0AB", "InboundMessage", "default", NOW_MS);
    let envelope = opened(&subjects.message(&account, &chat), headers);
    let about = About { envelope: &envelope, incarnation: INCARNATION, sequence: 7, payload };
    let everybody = Settings {
        allowed_numbers: [].into(),
        self_chat: false,
        reply_max_age: Duration::from_secs(24 * 60 * 60),
        unknown_numbers: UnknownNumbers::Chat,
        fields: Fields::Basic,
        groups: Groups::All,
        group_names: true,
    };
    let known = Settings { unknown_numbers: UnknownNumbers::Silent, ..everybody.clone() };
    let nobody = Settings { allowed_numbers: ["+".to_owned()].into(), ..everybody };
    let reply = outcome::Result::Reply(Reply { text: "Hola".to_owned(), ..Reply::default() });
    let decision = match InboundMessage::decode(payload) {
        Err(_) => dead(DeadReason::Unreadable),
        Ok(message) => {
            assert!(question(&message, &nobody, NOW_MS).is_err());
            let shown = message.sender.as_ref().is_some_and(|sender| !sender.phone.is_empty());
            assert!(shown || question(&message, &known, NOW_MS).is_err());
            in_full(&message, &everybody);
            match question(&message, &everybody, NOW_MS) {
                Err(reason) => outcome::Result::None(NoReply { reason: reason.into(), ..NoReply::default() }),
                Ok(question) => {
                    assert!(!question.text.trim().is_empty() && !question.from_number.is_empty());
                    let time = &question.timestamp_iso;
                    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
                    serde_json::to_vec(&question).expect("a question is JSON");
                    reply.clone()
                }
            }
        }
    };
    for decision in [decision, reply, dead(DeadReason::CrashLoop)] {
        ended(&subjects, about, &decision);
    }
    given_up(&subjects, about);
}

/// With all fields whoever was asked about is asked about, in the same words; and so is who lacked only words.
fn in_full(message: &InboundMessage, settings: &Settings) {
    let full = Settings { fields: Fields::Full, ..settings.clone() };
    let (basic, full) = (question(message, settings, NOW_MS), question(message, &full, NOW_MS));
    assert!(!lacks_only_words(message, settings, NOW_MS) || basic.is_err() && full.is_ok());
    if let Ok(basic) = basic {
        assert_eq!(Some(basic.text), full.as_ref().ok().map(|full| full.text.clone()));
    }
    if let Ok(question) = full {
        let json = serde_json::to_value(&question).expect("a question is JSON");
        assert!(json["kind"].is_string() && json["account"].is_string());
    }
}

fn dead(reason: DeadReason) -> outcome::Result {
    outcome::Result::Dead(Dead { reason: reason.into(), ..Dead::default() })
}

/// What a forwarder stores is what an edge reads.
fn ended(subjects: &Subjects, about: About<'_>, decision: &outcome::Result) {
    let (headers, outcome) = about.outcome(decision, 3, NOW_MS);
    assert_eq!(headers.in_sequence(INCARNATION), about.sequence);
    assert_eq!(headers.in_sequence("1"), 0, "it counts in another stream");
    let kills = matches!(decision, outcome::Result::Dead(dead) if dead.reason() == DeadReason::CrashLoop);
    assert!(!kills || outcome.message_id.is_empty(), "what has killed is not looked at");
    let Route { account, chat, .. } = &about.envelope.route;
    let envelope = opened(&subjects.reply(account, chat), headers);
    let job = Job::read(&envelope, &outcome.encode_to_vec()).expect("it is an outcome");
    match decision {
        outcome::Result::Reply(reply) => {
            let job = job.expect("there is something to send");
            assert_eq!(job.words(), reply.text);
            assert_eq!(job.cause, id::outcome(&about.inbound_id()));
            assert!(!job.to.is_empty() && !job.first_contact);
            is_addressed(&job);
        }
        _ => assert_eq!(job, None),
    }
}

/// The dead letter is shown without what is nobody's business, and can be replayed if it could be read.
fn given_up(subjects: &Subjects, about: About<'_>) {
    let Route { account, chat, .. } = &about.envelope.route;
    let stored = Stored {
        stored_at_ms: 0,
        subject: subjects.dead(account, chat),
        sequence: 3,
        headers: about.dead_letter("rejected"),
        payload: about.payload.to_vec().into(),
    };
    let letter = Letter::of(subjects, &stored, false);
    assert_eq!((letter.chat.as_str(), letter.text.as_deref()), ("…5678", None));
    let line = letter.to_string();
    assert!(!(0..CHAT.len() - 4).any(|at| line.contains(&CHAT[at..at + 5])), "{line}");
    for letter in [letter, Letter::of(subjects, &stored, true)] {
        let line = letter.to_string();
        assert!(!line.contains(char::is_control), "it would command the terminal: {line:?}");
        serde_json::to_string(&letter).expect("a letter is JSON");
    }
    let rejected = Filter { reason: Some("rejected".to_owned()), ..Filter::default() };
    let failed = Filter { reason: Some("failed".to_owned()), ..Filter::default() };
    assert!(rejected.matches(&stored, NOW_MS) && !failed.matches(&stored, NOW_MS));
    Filter { since: Some(Duration::MAX), ..Filter::default() }.matches(&stored, NOW_MS);
    Filter { since: Some(Duration::ZERO), ..Filter::default() }.matches(&stored, i64::MIN);
    let readable = InboundMessage::decode(about.payload).is_ok();
    let replayed = replayed(subjects, &stored, NOW_MS);
    assert_eq!(replayed.is_ok(), readable, "{replayed:?}");
    if let Ok(record) = replayed {
        assert_eq!(record.subject, subjects.message(account, chat));
        let message = InboundMessage::decode(record.payload).expect("a replay can be read");
        let settings = Settings {
            allowed_numbers: [].into(),
            self_chat: false,
            reply_max_age: Duration::ZERO,
            unknown_numbers: UnknownNumbers::Chat,
            fields: Fields::Full,
            groups: Groups::All,
            group_names: true,
        };
        let asked = question(&message, &settings, NOW_MS);
        assert_ne!(asked, Err(NoReplyReason::Expired), "who replays it wants it answered");
    }
}

/// As it comes off the bus.
fn opened(subject: &str, headers: Headers) -> Envelope {
    Envelope::open(&Subjects::new("wa").unwrap(), subject, headers).expect("a chat's subject")
}

/// As if somebody else had put it there.
fn outbound(payload: &[u8]) {
    let mut headers = Headers::default();
    for name in [header::CE_ID, header::MSG_ID] {
        headers.set(name, "order-77");
    }
    for kind in ["reply", "send"] {
        let subject = format!("wa.out.default.{kind}.{CHAT}");
        if let Ok(Some(job)) = Job::read(&opened(&subject, headers.clone()), payload) {
            assert_eq!((job.cause.as_str(), job.first_contact), ("order-77", kind == "send"));
            assert!(kind == "send" || job.content.is_ok());
            is_addressed(&job);
        }
        let unnamed = Job::read(&opened(&subject, Headers::default()), payload);
        assert!(!matches!(unnamed, Ok(Some(_))), "what has no id of its own would be sent twice");
    }
}

/// An address leads where it says, and is one again when it is written down.
fn is_addressed(job: &Job) {
    let Some(address) = job.address() else { return };
    let mut written = job.clone();
    written.to = address.to_string();
    assert!(!job.is_to_phone() || written.to.starts_with(&job.to), "{address}");
    assert!(written.address().is_some(), "{:?} became {address}", job.to);
}
