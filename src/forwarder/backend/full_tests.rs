use serde_json::{Value, json};

use super::*;
use crate::wire::v1::{Context, Media, MediaResult};

fn message(content: Content) -> InboundMessage {
    InboundMessage {
        account: "default".into(),
        chat_kind: ChatKind::Direct.into(),
        sender: Some(Identity { phone: "5491112345678".into(), lid: "987".into(), ..Identity::default() }),
        content: Some(content),
        ..InboundMessage::default()
    }
}

fn said(content: Content) -> Value {
    serde_json::to_value(Full::of(&message(content))).unwrap()
}

#[test]
fn each_kind_has_its_fields_and_no_others() {
    let media =
        Media { mime_type: "audio/ogg".into(), size_bytes: 7, seconds: 3, voice: true, ..Media::default() };
    let text = v1::Text { body: "Hola".into() };
    let place =
        v1::Location { latitude: -34.5, longitude: 1.0, name: "Casa".into(), ..v1::Location::default() };
    let poll = v1::Poll { question: "¿Cuándo?".into(), options: vec!["hoy".into()], ..v1::Poll::default() };
    let event = v1::Event { name: "Asado".into(), starts_at_ms: 1_736_330_400_000, ..v1::Event::default() };
    let order =
        v1::Order { order_id: "7".into(), item_count: 2, currency: "ARS".into(), ..v1::Order::default() };
    let product = v1::Product { product_id: "8".into(), title: "Mate".into(), ..v1::Product::default() };
    for (content, kind, field, value) in [
        (Content::Text(text), "text", None, json!({})),
        (
            Content::Audio(media),
            "audio",
            Some("media"),
            json!({"state": "off", "type": "audio/ogg", "size": 7, "seconds": 3, "voice": true}),
        ),
        (
            Content::Location(place),
            "location",
            Some("location"),
            json!({"latitude": -34.5, "longitude": 1.0, "name": "Casa"}),
        ),
        (Content::Poll(poll), "poll", Some("poll"), json!({"question": "¿Cuándo?", "options": ["hoy"]})),
        (
            Content::Event(event),
            "event",
            Some("event"),
            json!({"name": "Asado", "starts_at": "2025-01-08T10:00:00.000Z"}),
        ),
        (
            Content::Order(order),
            "order",
            Some("order"),
            json!({"id": "7", "item_count": 2, "total_thousandths": 0, "currency": "ARS"}),
        ),
        (
            Content::Product(product),
            "product",
            Some("product"),
            json!({"id": "8", "title": "Mate", "price_thousandths": 0, "currency": ""}),
        ),
    ] {
        let mut want = json!({"kind": kind, "account": "default"});
        if let Some(field) = field {
            want[field] = value;
        }
        assert_eq!(said(content), want);
    }
    let nowhere = v1::Location { latitude: f64::NAN, ..v1::Location::default() };
    assert_eq!(said(Content::Location(nowhere)).get("location"), None);
}

#[test]
fn a_file_is_told_of_as_far_as_it_has_come() {
    let media = Media { size_bytes: 9, state: MediaState::Pending.into(), ..Media::default() };
    let after = |result: Option<MediaResult>| {
        let mut file = File::of(&media);
        file.found("WA_MEDIA", "a/b", result.as_ref());
        serde_json::to_value(file).unwrap()
    };
    let stored = MediaResult {
        state: MediaState::Stored.into(),
        bucket: "B".into(),
        key: "k".into(),
        size_bytes: 7,
        sha256: vec![0, 255],
        ..MediaResult::default()
    };
    let failed =
        MediaResult { state: MediaState::Failed.into(), reason: "expired".into(), ..MediaResult::default() };
    for (result, want) in [
        (None, json!({"state": "pending", "size": 9, "bucket": "WA_MEDIA", "key": "a/b"})),
        (Some(stored), json!({"state": "stored", "size": 7, "bucket": "B", "key": "k", "sha256": "00ff"})),
        (Some(failed), json!({"state": "failed", "size": 9, "reason": "expired"})),
    ] {
        assert_eq!(after(result), want);
    }
}

#[test]
fn whoever_wrote_what_is_quoted_is_told_if_it_is_known() {
    let of = |author: Option<Identity>, from_me: bool, kind: ChatKind| {
        let quoted = v1::Quoted { author, text: "¿A qué hora?".into(), ..v1::Quoted::default() };
        let quoting = InboundMessage {
            quoted_message_id: "3EB0".into(),
            context: Some(Context { quoted: Some(quoted), ..Context::default() }),
            from_me,
            chat_kind: kind.into(),
            ..message(Content::Text(v1::Text::default()))
        };
        serde_json::to_value(Full::of(&quoting).quoted).unwrap()
    };
    let phone = |phone: &str| Some(Identity { phone: phone.into(), ..Identity::default() });
    let lid = |lid: &str| Some(Identity { lid: lid.into(), ..Identity::default() });
    for (author, from_me, kind, want) in [
        (phone("5491112345678"), false, ChatKind::Direct, Some(false)),
        (phone("5491100000000"), false, ChatKind::Direct, Some(true)),
        (lid("987"), false, ChatKind::Direct, Some(false)),
        (lid("988"), false, ChatKind::Direct, Some(true)),
        (phone("5491112345678"), true, ChatKind::Direct, Some(true)),
        (phone("5491100000000"), false, ChatKind::Group, None),
        (Some(Identity::default()), false, ChatKind::Direct, None),
        (None, false, ChatKind::Direct, None),
    ] {
        let mut expected = json!({"id": "3EB0", "text": "¿A qué hora?"});
        if let Some(want) = want {
            expected["from_us"] = want.into();
        }
        assert_eq!(of(author, from_me, kind), expected);
    }
    let bare =
        InboundMessage { quoted_message_id: "A".into(), ..message(Content::Text(v1::Text::default())) };
    assert_eq!(Full::of(&bare).quoted, Some(Quoted { id: "A".into(), ..Quoted::default() }));
}

#[test]
fn the_numbers_of_a_contact_are_those_of_its_card() {
    let card = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:;Ana;;;\r\nFN:Ana\r\n\
                item1.TEL;waid=5491112345678:+54 9 11 1234-5678\r\ntel;type=CELL:tel:+541143218765\r\n\
                TEL:\r\nNOTE:TEL:1\r\nTELEX:2\r\nEND:VCARD";
    assert_eq!(phones(card), ["+54 9 11 1234-5678", "+541143218765"]);
    assert_eq!(phones(&format!("TEL:{}", "1".repeat(NUMBER + 1))), [""; 0]);
    assert_eq!(phones(&"TEL:1\n".repeat(MOST + 1)).len(), MOST);
    let many = v1::Contacts { display_names: vec!["Ana".into(); MOST + 1], vcards: vec!["TEL:12".into()] };
    let told = people(&many);
    assert_eq!((told.len(), told[0].phones.as_slice()), (MOST, ["12".to_owned()].as_slice()));
    assert_eq!(said(Content::Contacts(v1::Contacts::default())).get("contacts"), None);
}

#[test]
fn of_what_a_person_wrote_the_newest_is_told_and_not_without_end() {
    let wrote = |text: &str| {
        let content = Some(Content::Text(v1::Text { body: text.to_owned() }));
        PersonWrote::of(&InboundMessage { content, ..InboundMessage::default() }, Some(text))
    };
    assert_eq!(Person::of([], false), None);
    let all = Person::of((0..25).map(|number| wrote(&number.to_string())), false).unwrap();
    assert_eq!((all.messages.len(), all.cut), (20, true));
    assert_eq!((all.messages[0].text.as_str(), all.messages[19].text.as_str()), ("5", "24"));
    let two = Person::of([wrote("uno"), wrote("dos")], false).unwrap();
    assert_eq!((two.messages.len(), two.cut), (2, false));
    assert!(Person::of([wrote("uno")], true).unwrap().cut);
    // Characters count, and bytes of all together.
    let long = Person::of([wrote(&"ñ".repeat(1_001))], false).unwrap();
    assert_eq!((long.messages[0].text.chars().count(), long.cut), (1_000, true));
    let many = Person::of((0..10).map(|_| wrote(&"ñ".repeat(1_000))), false).unwrap();
    assert_eq!((many.messages.len(), many.cut), (8, true));
    let bare =
        serde_json::to_value(Person::of([PersonWrote::of(&InboundMessage::default(), None)], false)).unwrap();
    assert_eq!(
        bare["messages"][0],
        serde_json::json!({"kind": "", "text": "", "timestamp": "1970-01-01T00:00:00.000Z"})
    );
}
