//! Subjects and headers on the bus. The first line is a subject, each other line a header.

use std::sync::Once;

use whatsapp_connector::bus::Stored;
use whatsapp_connector::forwarder::chain::{Last, Place, Step, step};
use whatsapp_connector::forwarder::records::About;
use whatsapp_connector::operator::{Letter, replayed};
use whatsapp_connector::telemetry::{otel, propagation, redact};
use whatsapp_connector::wire::v1::{Reply, outcome};
use whatsapp_connector::wire::{Account, ChatToken, Envelope, Headers, Subjects, header, id, masked};

const NOW_MS: i64 = 1_736_330_401_000;
const INCARNATION: &str = "1736330400000000000";

pub fn check(bytes: &[u8]) {
    propagators();
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let subject = lines.next().unwrap_or_default();
    // As nats-server's clients have them; whatever else was sent is no header to them.
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    let lines = lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| is_name(name));
    let headers: Headers = lines.map(|(name, value)| (name, value.trim())).collect();
    legal(&headers);
    propagation::continue_from(&tracing::Span::none(), &headers);
    tokens(subject);
    routes(subject);
    chain(&headers);
    written(&headers);
}

/// Those of a process with telemetry.
fn propagators() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let settings = otel::Settings::read(|_| None).0;
        // What it hands back is for the end of a process.
        drop(otel::Providers::start(&settings));
    });
}

fn legal(headers: &Headers) {
    for (name, value) in headers.iter() {
        assert!(!value.contains(['\r', '\n']), "{name} smuggles a header in: {value:?}");
    }
    assert!(!headers.message_id().contains('/'));
}

fn is_token(text: &str) -> bool {
    let special = |c: char| c.is_whitespace() || c.is_control() || ".*>$".contains(c);
    !text.is_empty() && text.is_ascii() && !text.contains(special)
}

/// No text breaks a subject, and what is shown of one is short.
fn tokens(text: &str) {
    for token in
        [ChatToken::phone(text), ChatToken::lid(text), ChatToken::group(text), ChatToken::other(text, text)]
    {
        assert!(is_token(token.as_str()), "{token:?}");
        assert_eq!(ChatToken::parse(token.as_str()).ok().as_ref(), Some(&token));
        assert!(token.masked().chars().count() <= 5);
        assert!(token.phone_number().chars().all(|c| c.is_ascii_digit()));
    }
    if let Ok(account) = Account::parse(text) {
        assert!(is_token(account.as_str()));
    }
    for id in [id::whatsapp(text), id::dead_letter(&id::whatsapp(text))] {
        assert!(id.is_ascii() && id.len() <= 26);
    }
    let shown = redact::text(&text);
    assert!(!has_digits(&shown, 7), "{shown}");
    assert!(!ChatToken::parse(text).is_err_and(|error| has_digits(&error.to_string(), 5)));
    assert!(masked(text).chars().count() <= 5);
}

/// Are there so many digits in a row?
fn has_digits(text: &str, count: usize) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= count)
}

/// A subject leads to its chat, and the chat back to that subject.
fn routes(text: &str) {
    let subjects = Subjects::new("wa").unwrap();
    if let Some(route) = subjects.route(text) {
        let (account, chat) = (&route.account, &route.chat);
        let again = ["in", "out"].map(|way| format!("wa.{way}.{account}.{}.{}", route.kind, chat.as_str()));
        assert!(
            again.iter().any(|again| again == text)
                || !text.starts_with("wa.in.") && !text.starts_with("wa.out.")
        );
        for (subject, kind) in [
            (subjects.message(account, chat), "message"),
            (subjects.update(account, chat), "update"),
            (subjects.receipt(account, chat), "receipt"),
            (subjects.reply(account, chat), "reply"),
        ] {
            let found = subjects.route(&subject).expect("its own subject");
            assert_eq!((&found.account, found.kind.as_str(), &found.chat), (account, kind, chat));
        }
    }
    if let Some((account, chat)) = subjects.dead_route(text) {
        assert_eq!(subjects.dead(&account, &chat), text);
    }
}

fn chain(headers: &Headers) {
    let of = |name| headers.sequence(name).unwrap_or(0);
    let (previous, done) = (of(header::PREV_SEQ), headers.in_sequence(INCARNATION));
    assert!(done == 0 || done == of(header::IN_SEQ));
    let last = Last { in_sequence: done, out_sequence: 9, ..Last::default() };
    for sequence in [1, 7, u64::MAX] {
        let step = step(Place { sequence, previous }, last, 3);
        assert_eq!(step == Step::Answered, done >= sequence);
        let due = previous <= 3 || done >= previous;
        assert_eq!(step == Step::Go { expected: 9 }, done < sequence && due);
    }
}

/// Whatever came with a message, what is written about it says what it has to, and nothing more.
fn written(headers: &Headers) {
    let (account, chat) = (Account::parse("default").unwrap(), ChatToken::phone("5491112345678"));
    let subjects = Subjects::new("wa").unwrap();
    let envelope = Envelope::open(&subjects, &subjects.message(&account, &chat), headers.clone());
    let envelope = envelope.expect("its own subject");
    let about = About { envelope: &envelope, incarnation: INCARNATION, sequence: 7, payload: &[] };
    let letter = about.dead_letter("rejected");
    legal(&letter);
    for (name, value) in letter.iter() {
        let commands = name.to_ascii_lowercase().starts_with("nats-") && name != header::MSG_ID;
        assert!(!commands, "the dead letter would tell nats-server {name}: {value}");
    }
    assert_eq!(letter.get(header::DEAD_REASON), Some("rejected"));
    assert_eq!(letter.sequence(header::IN_SEQ), Some(7));
    let decision = outcome::Result::Reply(Reply { text: "Hola".to_owned(), ..Reply::default() });
    let (headers, _) = about.outcome(&decision, 3, NOW_MS);
    legal(&headers);
    assert_eq!(headers.sequence(header::EXPECTED_LAST_SUBJECT_SEQUENCE), Some(3));
    let subject = subjects.dead(&account, &chat);
    let stored =
        Stored { subject, sequence: 3, stored_at_ms: 0, headers: letter, payload: Vec::new().into() };
    let line = Letter::of(&subjects, &stored, false).to_string();
    assert!(!line.contains(char::is_control), "{line:?}");
    let replay = replayed(&subjects, &stored, NOW_MS);
    assert_eq!(replay.is_ok(), stored.headers.get(header::CE_ID).is_some());
    if let Ok(record) = replay {
        legal(&record.headers);
        assert_eq!(record.headers.get(header::EXPECTED_LAST_SUBJECT_SEQUENCE), None);
    }
}
