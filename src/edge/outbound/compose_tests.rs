use super::*;
use crate::edge::outbound::request::Target;

const SECRET: [u8; 32] = [9; 32];

fn to() -> Jid {
    Jid::pn("54911")
}

fn around(to: &Jid) -> Around<'_> {
    let own = [Some(Jid::pn_device("54900", 3)), Some(Jid::lid("700"))];
    Around { to, own, by_lid: false, secret: SECRET, at_ms: 1_700, file: None }
}

fn composed(content: &Content, quote: Option<&Quote>) -> wa::Message {
    message(content, quote, &around(&to()))
}

fn quote(own: bool, author: &str) -> Quote {
    let target = Target { id: "3EB0Q".to_owned(), own, author: String::new() };
    Quote { target, author: author.to_owned(), text: "antes".to_owned() }
}

fn said(message: &wa::Message) -> &wa::ContextInfo {
    let text = message.extended_text_message.as_option().expect("an extended text");
    text.context_info.as_option().expect("a context")
}

#[test]
fn a_bare_text_is_a_conversation_and_what_it_says_beside_makes_it_an_extended_text() {
    assert_eq!(composed(&Content::text("Hola"), None).conversation.as_deref(), Some("Hola"));
    let mentions = vec!["54922".to_owned(), "988@lid".to_owned()];
    let text = Content::Text { body: "@54922 @988".to_owned(), mentions };
    let message = composed(&text, Some(&quote(false, "")));
    assert_eq!(message.conversation, None);
    let said = said(&message);
    assert_eq!(said.mentioned_jid, ["54922@s.whatsapp.net", "988@lid"]);
    assert_eq!(said.stanza_id.as_deref(), Some("3EB0Q"));
    let words = said.quoted_message.as_option().and_then(|quoted| quoted.conversation.as_deref());
    assert_eq!(words, Some("antes"));
}

#[test]
fn the_author_of_a_quote_is_named_as_the_chat_names_people() {
    let (phone, lid) = (Jid::pn("54911"), Jid::lid("987"));
    for (to, quote, want) in [
        (&phone, quote(false, ""), "54911@s.whatsapp.net"),
        (&lid, quote(false, ""), "987@lid"),
        (&phone, quote(false, "54922"), "54922@s.whatsapp.net"),
        (&phone, quote(true, ""), "54900@s.whatsapp.net"),
        (&lid, quote(true, ""), "700@lid"),
    ] {
        let message = message(&Content::text("a"), Some(&quote), &around(to));
        assert_eq!(said(&message).participant.as_deref(), Some(want));
    }
    let alone = Around { own: [Some(Jid::pn("54900")), None], ..around(&lid) };
    let message = message(&Content::text("a"), Some(&quote(true, "")), &alone);
    assert_eq!(said(&message).participant.as_deref(), Some("54900@s.whatsapp.net"));
}

#[test]
fn what_is_about_a_message_names_it_and_whose_it_is() {
    use wa::message::protocol_message::Type;
    let key = |key: &MessageField<wa::MessageKey>| {
        let key = key.as_option().expect("a key");
        (key.id.clone(), key.from_me, key.remote_jid.clone())
    };
    let of = |own| (Some("3EB0T".to_owned()), Some(own), Some("54911@s.whatsapp.net".to_owned()));
    for own in [true, false] {
        let target = Target { id: "3EB0T".to_owned(), own, author: String::new() };
        let message = composed(&Content::Reaction { target, emoji: String::new() }, None);
        let reaction = message.reaction_message.as_option().expect("a reaction");
        assert_eq!(key(&reaction.key), of(own));
        assert_eq!((reaction.text.as_deref(), reaction.sender_timestamp_ms), (Some(""), Some(1_700)));
    }
    let edit = composed(&Content::Edit { target: "3EB0T".to_owned(), body: "Chau".to_owned() }, None);
    let edit = edit.protocol_message.as_option().expect("an edit");
    assert_eq!((key(&edit.key), edit.r#type), (of(true), Some(Type::MessageEdit)));
    let edited = edit.edited_message.as_option().and_then(|edited| edited.conversation.as_deref());
    assert_eq!((edited, edit.timestamp_ms), (Some("Chau"), Some(1_700)));
    let own = Target { id: "3EB0T".to_owned(), own: true, author: String::new() };
    let revoke = composed(&Content::Revoke { target: own }, None);
    let revoke = revoke.protocol_message.as_option().expect("a revoke");
    assert_eq!((key(&revoke.key), revoke.r#type), (of(true), Some(Type::Revoke)));
}

#[test]
fn places_and_cards_are_as_they_were_given() {
    let place =
        SendLocation { latitude: -34.6, longitude: -58.4, name: "Obelisco".into(), ..Default::default() };
    let message = composed(&Content::Location(place), Some(&quote(false, "")));
    let place = message.location_message.as_option().expect("a place");
    assert_eq!((place.degrees_latitude, place.degrees_longitude), (Some(-34.6), Some(-58.4)));
    assert_eq!((place.name.as_deref(), place.address.as_deref()), (Some("Obelisco"), None));
    assert!(place.context_info.as_option().is_some(), "it quotes");
    let card = |name: &str| (name.to_owned(), format!("BEGIN:VCARD {name}"));
    let one = composed(&Content::Contacts(vec![card("Luis")]), None);
    let one = one.contact_message.as_option().expect("a card");
    assert_eq!((one.display_name.as_deref(), one.vcard.as_deref()), (Some("Luis"), Some("BEGIN:VCARD Luis")));
    let two = composed(&Content::Contacts(vec![card("Luis"), card("Ana")]), None);
    assert_eq!(two.contacts_array_message.as_option().map(|array| array.contacts.len()), Some(2));
}

#[test]
fn a_poll_has_its_secret_and_is_the_same_each_time() {
    let asked = |selectable| {
        let options = vec!["hoy".to_owned(), "mañana".to_owned()];
        Content::Poll(SendPoll { question: "¿Cuándo?".into(), options, selectable })
    };
    let one = composed(&asked(1), None);
    assert_eq!(one, composed(&asked(1), None));
    let secret = one.message_context_info.as_option().and_then(|beside| beside.message_secret.clone());
    assert_eq!(secret.as_deref(), Some(SECRET.as_slice()));
    assert!(one.poll_creation_message_v3.as_option().is_some());
    let many = composed(&asked(0), None);
    let many = many.poll_creation_message.as_option().expect("a poll of the first version");
    let names: Vec<_> = many.options.iter().filter_map(|option| option.option_name.as_deref()).collect();
    assert_eq!((names.as_slice(), many.selectable_options_count), (["hoy", "mañana"].as_slice(), Some(0)));
}

#[test]
fn in_a_group_a_message_is_named_with_its_writer() {
    let group = Jid::group("120363");
    let key = |own, author: &str, by_lid| {
        let target = Target { id: "3EB0T".to_owned(), own, author: author.to_owned() };
        let around = Around { by_lid, ..around(&group) };
        let message = message(&Content::Reaction { target, emoji: String::new() }, None, &around);
        let reaction = message.reaction_message.as_option().cloned().expect("a reaction");
        reaction.key.as_option().and_then(|key| key.participant.clone()).unwrap_or_default()
    };
    assert_eq!(key(true, "", true), "700@lid");
    assert_eq!(key(true, "", false), "54900@s.whatsapp.net");
    assert_eq!(key(false, "987@lid", true), "987@lid");
    assert_eq!(key(false, "54911", true), "54911@s.whatsapp.net");
    assert_eq!(key(false, "", true), "");
    let revoked = |own, author: &str, to: &Jid| {
        let target = Target { id: "3EB0T".to_owned(), own, author: author.to_owned() };
        let message = message(&Content::Revoke { target }, None, &around(to));
        let revoke = message.protocol_message.as_option().cloned().expect("a revoke");
        let key = revoke.key.as_option().cloned().expect("a key");
        (key.from_me, key.participant)
    };
    assert_eq!(revoked(false, "987@lid", &group), (Some(false), Some("987@lid".to_owned())));
    assert_eq!(revoked(true, "", &group), (Some(true), Some("54900@s.whatsapp.net".to_owned())));
    assert_eq!(revoked(false, "54911", &to()), (Some(true), None));
}
