use super::*;
use crate::wire::v1::{SendEdit, SendReaction, SendRevoke, SendText};
use send_message::Content as Asked;

fn read(request: SendMessage, content: Asked) -> Result<(Content, Option<Quote>), Flaw> {
    checked(&request, &content)
}

fn alone(content: Asked) -> Result<Content, Flaw> {
    read(SendMessage::default(), content).map(|(content, _)| content)
}

fn text(body: &str) -> Asked {
    Asked::Text(SendText { body: body.to_owned(), ..Default::default() })
}

fn by_id(id: &str) -> Option<SendTarget> {
    Some(SendTarget { message_id: id.to_owned(), ..SendTarget::default() })
}

fn by_request(id: &str) -> Option<SendTarget> {
    Some(SendTarget { request_id: id.to_owned(), ..SendTarget::default() })
}

fn reaction(target: Option<SendTarget>, emoji: &str) -> Asked {
    Asked::Reaction(SendReaction { target, emoji: emoji.to_owned() })
}

fn edit(target: Option<SendTarget>, body: &str) -> Asked {
    Asked::Edit(SendEdit { target, body: body.to_owned() })
}

fn place(latitude: f64, longitude: f64, name: &str) -> Asked {
    Asked::Location(SendLocation { latitude, longitude, name: name.to_owned(), ..SendLocation::default() })
}

fn person(name: &str, phone: &str, vcard: &str) -> SendContact {
    SendContact { display_name: name.to_owned(), phone: phone.to_owned(), vcard: vcard.to_owned() }
}

fn contacts(contacts: &[SendContact]) -> Asked {
    Asked::Contacts(SendContacts { contacts: contacts.to_vec() })
}

fn asks(question: &str, options: &[&str], selectable: u32) -> Asked {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Asked::Poll(SendPoll { question: question.to_owned(), options, selectable })
}

#[test]
fn a_text_is_what_can_be_seen_of_it() {
    assert_eq!(alone(text("\n Hola \n")), Ok(Content::text(" Hola")));
    assert_eq!(alone(text(" \n")), Err(Flaw::TextEmpty));
    assert_eq!(alone(text(&"x".repeat(TEXT))), Ok(Content::text(&"x".repeat(TEXT))));
    assert_eq!(alone(text(&"x".repeat(TEXT + 1))), Err(Flaw::TextTooLong));
    assert_eq!(alone(edit(by_id("3EB0"), "")), Err(Flaw::TextEmpty));
}

#[test]
fn a_target_is_named_once() {
    let own = |id: &str| {
        Ok(Content::Revoke { target: Target { id: id.to_owned(), own: true, author: String::new() } })
    };
    let revoke = |target| alone(Asked::Revoke(SendRevoke { target }));
    assert_eq!(revoke(by_id("3EB0AB")), own("3EB0AB"));
    assert_eq!(revoke(by_request("order-77")), own(&id::whatsapp("order-77")));
    let of_member = SendTarget { author: "987@lid".into(), ..by_id("3EB0AB").unwrap_or_default() };
    let target = Target { id: "3EB0AB".to_owned(), own: false, author: "987@lid".to_owned() };
    assert_eq!(revoke(Some(of_member)), Ok(Content::Revoke { target }));
    let both = SendTarget {
        message_id: "3EB0".into(),
        request_id: "a".into(),
        from_me: true,
        ..SendTarget::default()
    };
    for wrong in [None, by_id(""), by_id("3E B0"), by_id("ñ"), by_id(&"A".repeat(ID + 1)), Some(both)] {
        assert_eq!(revoke(wrong.clone()), Err(Flaw::Target), "{wrong:?}");
        assert_eq!(alone(edit(wrong.clone(), "Hola")), Err(Flaw::Target), "{wrong:?}");
        assert_eq!(alone(reaction(wrong.clone(), "👍")), Err(Flaw::Target), "{wrong:?}");
    }
    let reacts = |target, own| {
        let Ok(Content::Reaction { target, .. }) = alone(reaction(target, "👍")) else {
            panic!("no reaction")
        };
        assert_eq!(target.own, own, "{target:?}");
    };
    reacts(by_id("3EB0"), false);
    reacts(by_request("order-77"), true);
    reacts(Some(SendTarget { message_id: "3EB0".into(), from_me: true, ..SendTarget::default() }), true);
}

#[test]
fn a_reaction_is_an_emoji_or_takes_one_back() {
    for emoji in ["", "👍", "❤️", "👨‍👩‍👧‍👦", "🇦🇷", "1️⃣", "🅰️"] {
        assert!(alone(reaction(by_id("3EB0"), emoji)).is_ok(), "{emoji}");
    }
    for wrong in ["ok", " ", "👍 👍", "\u{200d}", &"👍".repeat(17)] {
        assert_eq!(alone(reaction(by_id("3EB0"), wrong)), Err(Flaw::Emoji), "{wrong}");
    }
}

#[test]
fn a_quote_names_what_it_quotes() {
    let quotes = |message_id: &str, quoted: Option<SendQuoted>, content: Asked| {
        let quoted_message_id = message_id.to_owned();
        read(SendMessage { quoted_message_id, quoted, ..SendMessage::default() }, content)
            .map(|(_, quote)| quote)
    };
    let theirs = |id: &str| Target { id: id.to_owned(), own: false, author: String::new() };
    let bare = Quote { target: theirs("3EB0"), author: String::new(), text: String::new() };
    assert_eq!(quotes("", None, text("a")), Ok(None));
    assert_eq!(quotes("3EB0", None, text("a")), Ok(Some(bare.clone())));
    let long = SendQuoted { author: "54911".into(), text: "ñ".repeat(1_001), ..SendQuoted::default() };
    let cut = Quote { author: "54911".to_owned(), text: "ñ".repeat(1_000), ..bare };
    assert_eq!(quotes("3EB0", Some(long.clone()), text("a")), Ok(Some(cut)));
    assert_eq!(quotes("", Some(long), text("a")), Err(Flaw::Quote), "which?");
    let named = SendQuoted { request_id: "order-77".into(), ..SendQuoted::default() };
    let quote = quotes("", Some(named.clone()), place(0.0, 0.0, "")).expect("a quote").expect("a quote");
    assert_eq!(quote.target, Target { id: id::whatsapp("order-77"), own: true, author: String::new() });
    assert_eq!(quotes("3EB0", Some(named), text("a")), Err(Flaw::Quote), "two ids");
    let nobody = SendQuoted { author: "Ana".into(), ..SendQuoted::default() };
    assert_eq!(quotes("3EB0", Some(nobody), text("a")), Err(Flaw::Quote));
    for cannot in [reaction(by_id("3EB0"), "👍"), edit(by_id("3EB0"), "a")] {
        assert_eq!(quotes("3EB0", None, cannot), Err(Flaw::Quote));
    }
}

#[test]
fn only_a_text_mentions_and_only_persons() {
    let mentions = |persons: &[&str], content: Asked| {
        let mentions = persons.iter().map(|person| (*person).to_owned()).collect();
        read(SendMessage { mentions, ..SendMessage::default() }, content).map(|(content, _)| content)
    };
    let body = "@54911 @987".to_owned();
    let both = vec!["54911".to_owned(), "987@lid".to_owned()];
    assert_eq!(
        mentions(&["54911", "987@lid"], text("@54911 @987")),
        Ok(Content::Text { body, mentions: both })
    );
    assert_eq!(mentions(&["Ana"], text("@Ana")), Err(Flaw::Mentions));
    assert_eq!(mentions(&["54911"; MENTIONS + 1], text("@54911")), Err(Flaw::Mentions));
    assert_eq!(mentions(&["54911"], place(0.0, 0.0, "")), Err(Flaw::Mentions));
}

#[test]
fn a_file_quotes_and_its_caption_mentions() {
    let file = |caption: &str| {
        let kind = crate::wire::v1::SendMediaKind::Image.into();
        let caption = caption.to_owned();
        Asked::Media(SendMedia { key: "menu".to_owned(), kind, caption, ..SendMedia::default() })
    };
    let asked = || SendMessage {
        mentions: vec!["54911".to_owned()],
        quoted_message_id: "3EB0".to_owned(),
        ..SendMessage::default()
    };
    let (content, quote) = read(asked(), file("para @54911")).expect("a file");
    assert!(matches!(content, Content::Media { mentions, .. } if mentions == ["54911"]));
    assert_eq!(quote.map(|quote| quote.target.id).as_deref(), Some("3EB0"));
    assert_eq!(read(asked(), file("")), Err(Flaw::Mentions), "there are no words");
    assert_eq!(alone(Asked::Media(SendMedia::default())), Err(Flaw::Media));
}

#[test]
fn a_place_is_on_earth() {
    for (latitude, longitude) in [(-90.0, 180.0), (90.0, -180.0), (-34.6, -58.4)] {
        assert!(alone(place(latitude, longitude, "Obelisco")).is_ok());
    }
    for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
        assert_eq!(alone(place(latitude, longitude, "")), Err(Flaw::Location), "{latitude} {longitude}");
    }
    assert_eq!(alone(place(0.0, 0.0, &"x".repeat(LINE + 1))), Err(Flaw::Location));
}

#[test]
fn a_card_is_given_or_made_of_name_and_number() {
    let made = "BEGIN:VCARD\nVERSION:3.0\nN:;Luis\\; Hijo\\, SA;;;\nFN:Luis\\; Hijo\\, SA\n\
                TEL;type=CELL;waid=5491155550001:+5491155550001\nEND:VCARD";
    let given = "BEGIN:VCARD\nFN:Ana\nEND:VCARD";
    let two = [person("Luis; Hijo, SA", "5491155550001", ""), person("Ana", "", given)];
    let want = vec![("Luis; Hijo, SA".to_owned(), made.to_owned()), ("Ana".to_owned(), given.to_owned())];
    assert_eq!(alone(contacts(&two)), Ok(Content::Contacts(want)));
    let Ok(Content::Contacts(cards)) = alone(contacts(&[person("A\nTEL:+1\rTEL:+2", "54911", "")])) else {
        panic!("no card")
    };
    let lines = cards[0].1.split(['\n', '\r']);
    assert_eq!(lines.filter(|line| line.starts_with("TEL")).count(), 1, "a name is one line");
    let long = format!("BEGIN:VCARD{}", "x".repeat(CARD));
    for wrong in [
        person("", "5491155550001", ""),
        person("Luis", "", ""),
        person("Luis", "+549", ""),
        person("Luis", "5491155550001", given),
        person("Luis", "", "FN:Luis"),
        person("Luis", "", &long),
        person(&"x".repeat(LINE + 1), "5491155550001", ""),
    ] {
        assert_eq!(alone(contacts(std::slice::from_ref(&wrong))), Err(Flaw::Contacts), "{wrong:?}");
    }
    let one = person("Luis", "5491155550001", "");
    let large = person("Luis", "", &format!("BEGIN:VCARD{}", "x".repeat(CARD - 11)));
    assert!(alone(contacts(&vec![one.clone(); CARDS])).is_ok());
    for wrong in [vec![], vec![one; CARDS + 1], vec![large; 17]] {
        assert_eq!(alone(contacts(&wrong)), Err(Flaw::Contacts), "{}", wrong.len());
    }
}

#[test]
fn a_poll_is_one_that_phones_show() {
    let twelve: Vec<_> = (0..12).map(|number| number.to_string()).collect();
    let twelve: Vec<_> = twelve.iter().map(String::as_str).collect();
    let long = "ñ".repeat(OPTION);
    for (question, options, selectable) in [
        ("¿Cuándo?", vec!["hoy", "mañana"], 0),
        ("¿Cuándo?", vec!["hoy", "mañana"], 2),
        (&"ñ".repeat(QUESTION), twelve.clone(), 1),
        ("¿Cuándo?", vec!["hoy", &long], 1),
    ] {
        assert!(alone(asks(question, &options, selectable)).is_ok(), "{question} {options:?}");
    }
    let (longer, thirteen) = ("ñ".repeat(OPTION + 1), [twelve.as_slice(), &["x"]].concat());
    for (question, options, selectable) in [
        ("", vec!["hoy", "mañana"], 0),
        (&"ñ".repeat(QUESTION + 1), vec!["hoy", "mañana"], 0),
        ("¿Cuándo?", vec!["hoy"], 0),
        ("¿Cuándo?", thirteen, 0),
        ("¿Cuándo?", vec!["hoy", "hoy"], 0),
        ("¿Cuándo?", vec!["hoy", " "], 0),
        ("¿Cuándo?", vec!["hoy", &longer], 0),
        ("¿Cuándo?", vec!["hoy", "mañana"], 3),
    ] {
        assert_eq!(alone(asks(question, &options, selectable)), Err(Flaw::Poll), "{question} {options:?}");
    }
}
