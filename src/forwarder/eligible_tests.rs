use super::*;
use crate::wire::v1::{self, Identity, Media, Replay, Text};

fn settings() -> Settings {
    Settings {
        allowed_numbers: HashSet::new(),
        self_chat: false,
        reply_max_age: Duration::from_secs(60),
        unknown_numbers: UnknownNumbers::Silent,
        fields: Fields::Basic,
        groups: Groups::Off,
        group_names: false,
    }
}

fn message() -> InboundMessage {
    InboundMessage {
        message_id: "ABC".into(),
        sender: Some(Identity { phone: "5491112345678".into(), ..Identity::default() }),
        push_name: "Ana".into(),
        chat_kind: ChatKind::Direct.into(),
        sent_at_ms: 1_736_330_400_000,
        content: Some(Content::Text(Text { body: "Hola".into() })),
        ..InboundMessage::default()
    }
}

const NOW: i64 = 1_736_330_401_000;

#[test]
fn a_text_is_asked_as_the_contract_says() {
    let got = question(&message(), &settings(), NOW).unwrap();
    let want = Question {
        message_id: "ABC".into(),
        from_number: "5491112345678".into(),
        text: "Hola".into(),
        timestamp_iso: "2025-01-08T10:00:00.000Z".into(),
        customer_name: Some("Ana".into()),
        full: None,
        customer_id: None,
    };
    assert_eq!(got, want);
}

#[test]
fn a_caption_is_a_text_and_a_bare_picture_is_none() {
    let image = |caption: &str| InboundMessage {
        content: Some(Content::Image(Media { caption: caption.into(), ..Media::default() })),
        ..message()
    };
    assert_eq!(question(&image("mira"), &settings(), NOW).unwrap().text, "mira");
    assert_eq!(question(&image(""), &settings(), NOW), Err(NoReplyReason::NotText));
}

#[test]
fn what_was_chosen_is_asked_in_the_words_that_the_person_saw() {
    let button = |written: &str| {
        let (button_id, text, written) = ("yes-1".into(), "Sí".into(), written.into());
        Content::ButtonReply(v1::ButtonReply { button_id, text, written, ..Default::default() })
    };
    let row = |written: &str| {
        let (row_id, title, description) = ("4".into(), "Mesa".into(), "de dos".into());
        Content::ListReply(v1::ListReply { row_id, title, description, written: written.into() })
    };
    let media = || Media { caption: "mira".into(), ..Media::default() };
    let order = v1::Order { text: "para hoy".into(), ..v1::Order::default() };
    let product = v1::Product { text: "¿queda?".into(), ..v1::Product::default() };
    for (content, want) in [
        (button(""), Ok("Sí")),
        (row(""), Ok("Mesa")),
        // Who writes what was offered is asked about in the words as written.
        (button("1."), Ok("1.")),
        (row("mesa"), Ok("mesa")),
        (Content::Video(media()), Ok("mira")),
        (Content::Document(media()), Ok("mira")),
        (Content::Order(order), Ok("para hoy")),
        (Content::Order(v1::Order::default()), Err(NoReplyReason::NotText)),
        (Content::Product(product), Ok("¿queda?")),
        (Content::Product(v1::Product::default()), Err(NoReplyReason::NotText)),
        (Content::Sticker(media()), Err(NoReplyReason::NotText)),
        (Content::Text(Text { body: " \n".into() }), Err(NoReplyReason::NotText)),
        (Content::ButtonReply(v1::ButtonReply::default()), Err(NoReplyReason::NotText)),
        (Content::ListReply(v1::ListReply::default()), Err(NoReplyReason::NotText)),
    ] {
        let message = InboundMessage { content: Some(content), ..message() };
        let got = question(&message, &settings(), NOW).map(|question| question.text);
        assert_eq!(got, want.map(str::to_owned), "{message:?}");
    }
}

/// The contract as it always was, to the byte.
#[test]
fn without_more_fields_a_question_is_what_it_was() {
    let json = |name: &str| {
        let named = InboundMessage { push_name: name.into(), quoted_message_id: "Q".into(), ..message() };
        serde_json::to_string(&question(&named, &settings(), NOW).unwrap()).unwrap()
    };
    let want = r#"{"message_id":"ABC","from_number":"5491112345678","text":"Hola","timestamp_iso":"2025-01-08T10:00:00.000Z"}"#;
    assert_eq!(json(""), want);
    assert_eq!(json("Ana"), want.replace('}', r#","customer_name":"Ana"}"#));
}

#[test]
fn with_all_fields_the_backend_is_asked_about_messages_without_words() {
    let full = Settings { fields: Fields::Full, ..settings() };
    let media = || Media { caption: " ".into(), ..Media::default() };
    let place = |text: &str| v1::Location { text: text.into(), ..v1::Location::default() };
    let invite = v1::GroupInvite { text: "vení".into(), ..v1::GroupInvite::default() };
    let unsupported = v1::Unsupported { kind: "waiting".into(), ..v1::Unsupported::default() };
    for (content, want, is_shown) in [
        (Content::Text(Text { body: "Hola".into() }), Ok("Hola"), false),
        (Content::Text(Text { body: " \n".into() }), Err(NoReplyReason::NotText), false),
        (Content::Image(media()), Ok(""), true),
        (Content::Video(media()), Ok(""), true),
        (Content::Audio(media()), Ok(""), true),
        (Content::Document(media()), Ok(""), true),
        (Content::Sticker(media()), Ok(""), true),
        (Content::Location(place("acá")), Ok("acá"), true),
        (Content::Location(place("")), Ok(""), true),
        (Content::Contacts(v1::Contacts::default()), Ok(""), true),
        (Content::Poll(v1::Poll::default()), Ok(""), true),
        (Content::Event(v1::Event::default()), Ok(""), true),
        (Content::Order(v1::Order::default()), Ok(""), true),
        (Content::Product(v1::Product::default()), Ok(""), true),
        (Content::GroupInvite(invite), Ok("vení"), true),
        (Content::Album(v1::Album::default()), Err(NoReplyReason::NotText), false),
        (Content::Unsupported(unsupported), Err(NoReplyReason::NotText), false),
        (Content::ButtonReply(v1::ButtonReply::default()), Err(NoReplyReason::NotText), false),
        (Content::Reaction(v1::Reaction::default()), Err(NoReplyReason::NotText), false),
    ] {
        let message = InboundMessage { content: Some(content), ..message() };
        let got = question(&message, &full, NOW);
        assert!(got.iter().all(|question| question.full.is_some()));
        assert_eq!(got.map(|question| question.text), want.map(str::to_owned), "{message:?}");
        assert_eq!(lacks_only_words(&message, &settings(), NOW), is_shown, "{message:?}");
    }
    let nothing = InboundMessage { content: None, ..message() };
    assert_eq!(question(&nothing, &full, NOW), Err(NoReplyReason::NotText));
}

#[test]
fn who_would_get_no_answer_lacks_more_than_words() {
    let sticker = || InboundMessage { content: Some(Content::Sticker(Media::default())), ..message() };
    let lacks = |message: InboundMessage, settings: &Settings| lacks_only_words(&message, settings, NOW);
    assert!(lacks(sticker(), &settings()));
    let caption = Content::Image(Media { caption: "mira".into(), ..Media::default() });
    assert!(!lacks(InboundMessage { content: Some(caption), ..message() }, &settings()));
    let on = Settings { self_chat: true, ..settings() };
    assert!(!lacks(InboundMessage { from_me: true, self_chat: true, ..sticker() }, &on));
    assert!(!lacks(InboundMessage { chat_kind: ChatKind::Group.into(), ..sticker() }, &settings()));
    assert!(!lacks(InboundMessage { sender: None, ..sticker() }, &settings()));
    assert!(!lacks(InboundMessage { sent_at_ms: NOW - 60_001, ..sticker() }, &settings()));
    let others = Settings { allowed_numbers: HashSet::from(["1".to_owned()]), ..settings() };
    assert!(!lacks(sticker(), &others));
}

#[test]
fn a_person_without_a_visible_number_is_known_by_the_chat() {
    let hidden = InboundMessage {
        chat: "lid-987".into(),
        sender: Some(Identity { lid: "987".into(), ..Identity::default() }),
        ..message()
    };
    let chat = Settings { unknown_numbers: UnknownNumbers::Chat, ..settings() };
    assert_eq!(question(&hidden, &chat, NOW).unwrap().from_number, "lid-987");
    assert_eq!(question(&message(), &chat, NOW).unwrap().from_number, "5491112345678");
    assert_eq!(question(&hidden, &settings(), NOW), Err(NoReplyReason::NoPhone));
    // Whoever lists the numbers that are answered has not listed this one.
    for listed in ["5491112345678", "987", "lid-987"] {
        let only = Settings { allowed_numbers: HashSet::from([listed.to_owned()]), ..chat.clone() };
        assert_eq!(question(&hidden, &only, NOW), Err(NoReplyReason::NotAllowed));
    }
}

#[test]
fn in_a_group_only_what_is_meant_for_us_is_asked_about() {
    let says = |mentions_us| InboundMessage {
        chat: "group-120363".into(),
        chat_kind: ChatKind::Group.into(),
        context: Some(v1::Context { mentions_us, mentions_all: true, ..v1::Context::default() }),
        ..message()
    };
    let silent = InboundMessage { context: None, ..says(false) };
    let group = |announce, admin| v1::Group { announce, admin, ..v1::Group::default() };
    let only_admins = |admin| InboundMessage { group: Some(group(true, admin)), ..says(true) };
    let open = InboundMessage { group: Some(group(false, false)), ..says(true) };
    let status = InboundMessage { chat_kind: ChatKind::Status.into(), ..says(true) };
    use NoReplyReason::{AdminsOnly, NotDirect, NotMentioned};
    for (groups, message, want) in [
        (Groups::Off, says(true), Err(NotDirect)),
        (Groups::Mention, says(true), Ok(())),
        (Groups::Mention, says(false), Err(NotMentioned)),
        (Groups::Mention, silent.clone(), Err(NotMentioned)),
        (Groups::All, silent, Ok(())),
        (Groups::All, says(false), Ok(())),
        (Groups::All, status, Err(NotDirect)),
        (Groups::All, only_admins(false), Err(AdminsOnly)),
        (Groups::All, only_admins(true), Ok(())),
        (Groups::Mention, open, Ok(())),
        (Groups::Mention, message(), Ok(())),
    ] {
        let settings = Settings { groups, ..settings() };
        assert_eq!(question(&message, &settings, NOW).map(drop), want, "{groups:?} {message:?}");
    }
}

#[test]
fn in_a_group_the_person_is_the_number_and_the_group_is_the_conversation() {
    let all = Settings { groups: Groups::All, group_names: true, ..settings() };
    let said = InboundMessage { chat: "group-120363".into(), chat_kind: ChatKind::Group.into(), ..message() };
    let asked = question(&said, &all, NOW).unwrap();
    assert_eq!(asked.customer_id.as_deref(), Some("group-120363"));
    assert_eq!((asked.from_number.as_str(), asked.text.as_str()), ("5491112345678", "Ana: Hola"));
    let plain = Settings { group_names: false, ..all.clone() };
    assert_eq!(question(&said, &plain, NOW).unwrap().text, "Hola");
    assert_eq!(question(&message(), &all, NOW).unwrap().text, "Hola", "only in groups");
    let nameless = InboundMessage { push_name: " ".into(), ..said.clone() };
    assert_eq!(question(&nameless, &all, NOW).unwrap().text, "Hola");

    let sender = Some(Identity { lid: "987".into(), ..Identity::default() });
    let hidden = InboundMessage { sender, ..said.clone() };
    let chat = Settings { unknown_numbers: UnknownNumbers::Chat, ..all.clone() };
    assert_eq!(question(&hidden, &chat, NOW).unwrap().from_number, "lid-987");
    assert_eq!(question(&hidden, &all, NOW), Err(NoReplyReason::NoPhone));
    let nobody = InboundMessage { sender: None, ..said.clone() };
    assert_eq!(question(&nobody, &chat, NOW), Err(NoReplyReason::NoPhone));
    let only = Settings { allowed_numbers: HashSet::from(["1".to_owned()]), ..all };
    assert_eq!(question(&said, &only, NOW), Err(NoReplyReason::NotAllowed), "of the person");
}

#[test]
fn a_nameless_person_is_asked_about_without_a_name() {
    let nameless = InboundMessage { push_name: String::new(), ..message() };
    assert_eq!(question(&nameless, &settings(), NOW).unwrap().customer_name, None);
}

#[test]
fn every_reason_not_to_ask() {
    let only = |number: &str| Settings { allowed_numbers: HashSet::from([number.to_owned()]), ..settings() };
    let rows = [
        (InboundMessage { from_me: true, ..message() }, settings(), NoReplyReason::FromMe),
        (
            InboundMessage { chat_kind: ChatKind::Group.into(), ..message() },
            settings(),
            NoReplyReason::NotDirect,
        ),
        (InboundMessage { chat_kind: 99, ..message() }, settings(), NoReplyReason::NotDirect),
        (InboundMessage { content: None, ..message() }, settings(), NoReplyReason::NotText),
        (InboundMessage { sender: None, ..message() }, settings(), NoReplyReason::NoPhone),
        (message(), only("1"), NoReplyReason::NotAllowed),
        (InboundMessage { sent_at_ms: NOW - 60_001, ..message() }, settings(), NoReplyReason::Expired),
    ];
    for (message, settings, want) in rows {
        assert_eq!(question(&message, &settings, NOW), Err(want));
    }
    assert!(question(&message(), &only("5491112345678"), NOW).is_ok());
    // The own number's own chat, if it is wanted.
    let note = InboundMessage { from_me: true, self_chat: true, ..message() };
    assert_eq!(question(&note, &settings(), NOW), Err(NoReplyReason::FromMe));
    let on = |settings: Settings| Settings { self_chat: true, ..settings };
    assert!(question(&note, &on(settings()), NOW).is_ok());
    assert!(question(&note, &on(only("5491112345678")), NOW).is_ok());
    assert_eq!(question(&note, &on(only("1")), NOW), Err(NoReplyReason::NotAllowed));
    let to_others = InboundMessage { from_me: true, ..message() };
    assert_eq!(question(&to_others, &on(settings()), NOW), Err(NoReplyReason::FromMe));
    // WhatsApp may leave a digit out.
    let sender = Some(Identity { phone: "541112345678".into(), ..Identity::default() });
    let without = question(&InboundMessage { sender, ..message() }, &only("5491112345678"), NOW).unwrap();
    assert_eq!(without.from_number, "541112345678", "and the backend gets the number as it is");
    let just_in_time = InboundMessage { sent_at_ms: NOW - 60_000, ..message() };
    assert!(question(&just_in_time, &settings(), NOW).is_ok());
    let replay = Some(Replay { at_ms: NOW - 1, ..Replay::default() });
    assert!(question(&InboundMessage { sent_at_ms: 0, replay, ..message() }, &settings(), NOW).is_ok());
}
