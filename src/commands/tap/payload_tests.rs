use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::bus::Stored;
use crate::commands::tap::Line;
use crate::wire::v1::*;
use crate::wire::{Account, ChatToken, Headers, Subjects, header, id, v1};

const CANARY: &str = "canary";

/// Whom a message is about.
#[derive(Debug, Clone)]
struct People {
    chat: ChatToken,
    phone: String,
    lid: String,
}

fn ana() -> People {
    People {
        chat: ChatToken::phone("5491112345678"),
        phone: "5491112345678".to_owned(),
        lid: "99988877766655".to_owned(),
    }
}

fn message(people: &People, content: Option<Content>) -> InboundMessage {
    InboundMessage {
        account: "default".to_owned(),
        chat: people.chat.as_str().to_owned(),
        chat_jid: format!("{}@s.whatsapp.net", people.phone),
        message_id: "3EB0AB".to_owned(),
        sender: Some(Identity {
            jid: format!("{}@lid", people.lid),
            phone: people.phone.clone(),
            lid: people.lid.clone(),
        }),
        push_name: CANARY.to_owned(),
        chat_kind: ChatKind::Direct.into(),
        sent_at_ms: 1_000,
        received_at_ms: 2_000,
        content,
        ..InboundMessage::default()
    }
}

/// Everything that a message can be.
#[expect(clippy::too_many_lines, reason = "a row for each kind")]
fn contents() -> Vec<Option<Content>> {
    let text = || CANARY.to_owned();
    let media = || Media {
        caption: text(),
        mime_type: "image/png".to_owned(),
        file_name: text(),
        size_bytes: 3,
        ..Media::default()
    };
    let target = || "3EB0CD".to_owned();
    vec![
        None,
        Some(Content::Text(Text { body: text() })),
        Some(Content::Image(media())),
        Some(Content::Video(media())),
        Some(Content::Audio(media())),
        Some(Content::Document(media())),
        Some(Content::Sticker(media())),
        Some(Content::Location(Location {
            name: text(),
            address: text(),
            latitude: 3.5,
            ..Location::default()
        })),
        Some(Content::Contacts(Contacts { display_names: vec![text()], vcards: vec![text()] })),
        Some(Content::ButtonReply(ButtonReply {
            button_id: text(),
            text: text(),
            written: text(),
            params_json: text(),
            ..ButtonReply::default()
        })),
        Some(Content::ListReply(ListReply {
            row_id: text(),
            title: text(),
            description: text(),
            written: text(),
        })),
        Some(Content::Poll(Poll {
            question: text(),
            options: vec![text()],
            correct_option: text(),
            ..Poll::default()
        })),
        Some(Content::Order(Order {
            order_id: text(),
            text: text(),
            title: text(),
            item_count: 2,
            total_thousandths: 1,
            currency: text(),
        })),
        Some(Content::Unsupported(Unsupported { kind: "album".to_owned(), target_message_id: target() })),
        Some(Content::Edit(Edit { target_message_id: target(), body: text() })),
        Some(Content::Revoke(Revoke { target_message_id: target(), ..Revoke::default() })),
        Some(Content::Reaction(Reaction { target_message_id: target(), emoji: text() })),
        Some(Content::ChatTimer(ChatTimer { seconds: 86_400 })),
        Some(Content::PollVote(PollVote {
            target_message_id: target(),
            options: vec![text()],
            decrypted: true,
            ..PollVote::default()
        })),
        Some(Content::Album(Album { expected_images: 2, expected_videos: 3 })),
        Some(Content::Event(Event { name: text(), description: text(), ..Event::default() })),
        Some(Content::Product(Product { text: text(), title: text(), ..Product::default() })),
        Some(Content::GroupInvite(GroupInvite { text: text(), code: text(), ..GroupInvite::default() })),
        Some(Content::Pin(Pin { target_message_id: target(), pinned: true, seconds: 3 })),
        Some(Content::BetterCopy(BetterCopy { target_message_id: target(), file: Some(media()) })),
        Some(Content::EventAnswer(EventAnswer { target_message_id: target(), ..EventAnswer::default() })),
        Some(Content::MissedCall(MissedCall { video: true })),
        Some(Content::GroupChange(GroupChange {
            action: GroupAction::Subject.into(),
            subject: text(),
            ..GroupChange::default()
        })),
    ]
}

fn outcomes(people: &People) -> Vec<Outcome> {
    let text = || CANARY.to_owned();
    let choice = Interactive {
        buttons: vec![CANARY.to_owned()],
        list_title: CANARY.to_owned(),
        list_items: vec![ListItem { title: text(), description: text(), id: text() }],
        button_ids: vec![text()],
    };
    let reply = v1::Reply {
        text: CANARY.to_owned(),
        conversation_id: format!("whatsapp-{}", people.phone),
        interactive: Some(choice),
    };
    let dead = Dead {
        reason: DeadReason::Rejected.into(),
        detail: format!("http-422 for {}", people.phone),
        fallback_text: CANARY.to_owned(),
    };
    let reason = NoReplyReason::Shadow.into();
    let joined_into = format!("default/{0}/{0}/3EB0", people.phone);
    let shadow = NoReply { reason, would_be: Some(reply.clone()), joined_into };
    let results = [
        None,
        Some(outcome::Result::Reply(reply)),
        Some(outcome::Result::None(shadow)),
        Some(outcome::Result::None(NoReply { reason: NoReplyReason::Expired.into(), ..NoReply::default() })),
        Some(outcome::Result::None(NoReply { reason: 99, ..NoReply::default() })),
        Some(outcome::Result::Dead(dead)),
    ];
    let of = |result| Outcome {
        chat_jid: format!("{}@s.whatsapp.net", people.phone),
        message_id: "3EB0AB".to_owned(),
        decided_at_ms: 3_000,
        result,
        ..Outcome::default()
    };
    results.map(of).into()
}

/// Every kind of payload that there is, by its subject's kind.
fn all(people: &People) -> Vec<(&'static str, Vec<u8>)> {
    let mut payloads = Vec::new();
    for content in contents() {
        let replay = Replay {
            inbound_id: format!("default/{0}/{0}/3EB0", people.chat.as_str()),
            dead_letter: 3,
            at_ms: 4_000,
        };
        let message = InboundMessage { replay: Some(replay), ..message(people, content) };
        for kind in ["message", "update", "dead"] {
            payloads.push((kind, message.encode_to_vec()));
        }
    }
    payloads.extend(outcomes(people).iter().map(|outcome| ("reply", outcome.encode_to_vec())));
    for content in
        [None, Some(send_message::Content::Text(SendText { body: CANARY.to_owned(), ..Default::default() }))]
    {
        let request = SendMessage { to: people.phone.clone(), content, ..SendMessage::default() };
        payloads.push(("send", request.encode_to_vec()));
    }
    let failed = Receipt {
        chat: people.chat.as_str().to_owned(),
        message_ids: vec!["3EB0AB".to_owned()],
        status: ReceiptStatus::Failed.into(),
        reason: "refused-463".to_owned(),
        request_id: format!("reminder-{}", people.phone),
        ..Receipt::default()
    };
    payloads.push(("receipt", failed.encode_to_vec()));
    let event = SessionEvent {
        state: SessionState::Online.into(),
        code: "loop-broken".to_owned(),
        chat: people.chat.as_str().to_owned(),
        ..SessionEvent::default()
    };
    payloads.push(("session", event.encode_to_vec()));
    for kind in ["message", "update", "dead", "reply", "send", "receipt", "session", "other"] {
        payloads.push((kind, vec![0xff; 3]));
    }
    payloads
}

fn shown(kind: &str, bytes: &[u8], texts: bool) -> Value {
    payload(kind, bytes, &mut Mask::new(None, texts))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a row for each payload")]
fn each_payload_says_what_it_is() {
    let ana = ana();
    let common = json!({
        "message_id": "3EB0AB", "from": "…5678", "chat_kind": "direct",
        "sent_at": "1970-01-01T00:00:01.000Z", "received_at": "1970-01-01T00:00:02.000Z",
    });
    let media = json!({ "mime_type": "image/png", "size_bytes": 3 });
    let wants = [
        json!({ "content": "unreadable" }),
        json!({ "content": "text" }),
        json!({ "content": "image", "media": media }),
        json!({ "content": "video", "media": media }),
        json!({ "content": "audio", "media": media }),
        json!({ "content": "document", "media": media }),
        json!({ "content": "sticker", "media": media }),
        json!({ "content": "location" }),
        json!({ "content": "contacts", "count": 1 }),
        json!({ "content": "button", "by_writing": true }),
        json!({ "content": "list", "by_writing": true }),
        json!({ "content": "poll" }),
        json!({ "content": "order", "item_count": 2 }),
        json!({ "content": "other", "whatsapp_kind": "album", "target": "3EB0CD" }),
        json!({ "content": "edit", "target": "3EB0CD" }),
        json!({ "content": "revoke", "target": "3EB0CD" }),
        json!({ "content": "reaction", "target": "3EB0CD" }),
        json!({ "content": "chat-timer", "seconds": 86_400 }),
        json!({ "content": "poll-vote", "target": "3EB0CD", "decrypted": true }),
        json!({ "content": "album", "expected_images": 2, "expected_videos": 3 }),
        json!({ "content": "event" }),
        json!({ "content": "product" }),
        json!({ "content": "group-invite" }),
        json!({ "content": "pin", "target": "3EB0CD", "pinned": true }),
        json!({ "content": "better-copy", "target": "3EB0CD", "media": media }),
        json!({ "content": "event-answer", "target": "3EB0CD" }),
        json!({ "content": "missed-call", "video": true }),
        json!({ "content": "group-change", "action": "subject" }),
    ];
    assert_eq!(wants.len(), contents().len());
    for (content, mut want) in contents().into_iter().zip(wants) {
        let got = shown("message", &message(&ana, content).encode_to_vec(), false);
        let fields = want.as_object_mut().unwrap();
        fields.extend(common.as_object().unwrap().clone());
        if let Some(Value::Object(media)) = fields.remove("media") {
            fields.extend(media);
        }
        assert_eq!(got, want);
    }
    let ended = json!({
        "message_id": "3EB0AB", "to": "…5678@s.whatsapp.net", "decided_at": "1970-01-01T00:00:03.000Z",
    });
    let wants = [
        json!({ "class": "unreadable" }),
        json!({ "class": "reply", "conversation_id": "whatsapp-…5678", "choices": 2 }),
        json!({
            "class": "none", "reason": "shadow", "joined_into": "default/…5678/…5678/3EB0",
            "would_be": { "conversation_id": "whatsapp-…5678", "choices": 2 },
        }),
        json!({ "class": "none", "reason": "expired" }),
        json!({ "class": "none", "reason": "99" }),
        json!({ "class": "dead", "reason": "rejected", "detail": "http-422 for …5678" }),
    ];
    for (outcome, mut want) in outcomes(&ana).iter().zip(wants) {
        want.as_object_mut().unwrap().extend(ended.as_object().unwrap().clone());
        assert_eq!(shown("reply", &outcome.encode_to_vec(), false), want);
    }
    let others: Vec<_> = all(&ana)
        .into_iter()
        .filter(|(kind, _)| ["send", "receipt", "session", "other"].contains(kind))
        .collect();
    let wants = [
        json!({ "to": "…5678", "content": "unreadable" }),
        json!({ "to": "…5678", "content": "text" }),
        json!({ "status": "failed", "message_ids": ["3EB0AB"], "reason": "refused-463", "request_id": "reminder-…5678" }),
        json!({ "state": "online", "code": "loop-broken", "action": "none", "chat": "…5678" }),
        json!({ "unreadable": true, "bytes": 3 }),
        json!({ "unreadable": true, "bytes": 3 }),
        json!({ "unreadable": true, "bytes": 3 }),
        json!({ "unreadable": true, "bytes": 3 }),
    ];
    assert_eq!(others.len(), wants.len());
    for ((kind, bytes), want) in others.iter().zip(wants) {
        assert_eq!(shown(kind, bytes, false), want);
    }
}

#[test]
fn what_is_beside_the_content_is_told_without_words_and_numbers() {
    let ana = ana();
    let person = Identity { jid: format!("{}@lid", ana.lid), phone: ana.phone.clone(), lid: ana.lid.clone() };
    let quoted = Quoted { author: Some(person.clone()), text: CANARY.to_owned(), kind: "image".to_owned() };
    let context = Context {
        quoted: Some(quoted),
        mentions: vec![person.clone(), Identity { phone: "4988877766655".to_owned(), ..Identity::default() }],
        forwarded: true,
        ad: Some(Ad { headline: CANARY.to_owned(), ..Ad::default() }),
        entry_point: "ctwa_ad".to_owned(),
        album_message_id: "3EB0EF".to_owned(),
        ..Context::default()
    };
    let revoke = Revoke { by_admin: true, author: Some(person), ..Revoke::default() };
    let message = InboundMessage { context: Some(context), ..message(&ana, Some(Content::Revoke(revoke))) };
    let bytes = message.encode_to_vec();
    for texts in [false, true] {
        let shown = shown("update", &bytes, texts);
        for (field, want) in [
            ("quoted_author", json!("…5678")),
            ("quoted_kind", json!("image")),
            ("mentions", json!(2)),
            ("forwarded", json!(true)),
            ("from_ad", json!(true)),
            ("entry_point", json!("ctwa_ad")),
            ("album", json!("3EB0EF")),
            ("by_admin", json!(true)),
        ] {
            assert_eq!(shown[field], want, "{field}");
        }
        assert_eq!((shown["quoted_text"] == CANARY, shown["ad"]["headline"] == CANARY), (texts, texts));
        let shown = shown.to_string();
        assert!(!shown.contains("12345678") && !shown.contains("88877766655"), "{shown}");
        assert!(texts || !shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn what_people_and_the_assistant_wrote_is_there_only_on_request() {
    let mut asked = 0;
    for (kind, bytes) in all(&ana()) {
        assert!(!shown(kind, &bytes, false).to_string().contains(CANARY), "{kind}");
        asked += usize::from(shown(kind, &bytes, true).to_string().contains(CANARY));
    }
    // Every inbound message has a profile name; a reply, a would-be one, a fallback and a request have texts.
    assert_eq!(asked, 3 * contents().len() + 4);
}

/// Whatever it is: with texts and without, no five digits of a number in a row. Nothing else in a line has
/// digits above 5.
fn assert_masked(people: &People) {
    let subjects = Subjects::new("wa").unwrap();
    let account = Account::parse("default").unwrap();
    let chat = people.chat.as_str();
    for (kind, payload) in all(people) {
        let subject = match kind {
            "dead" => subjects.dead(&account, &people.chat),
            "session" => subjects.session(&account),
            "reply" | "send" => format!("wa.out.default.{kind}.{chat}"),
            _ => format!("wa.in.default.{kind}.{chat}"),
        };
        let own = id::inbound(&account, &people.chat, &format!("{}@s.whatsapp.net", people.phone), "3EB0AB");
        for ce_id in [
            own,
            format!("{0}/{0}/{0}/{0}/failed", people.phone),
            format!("default/{chat}/{0}-{1}", people.phone, people.lid),
        ] {
            let mut headers = Headers::cloud_event(&ce_id, "Any", "default", 0);
            headers.set(header::DEAD_REASON, &people.phone);
            let stored = Stored {
                subject: subject.clone(),
                sequence: 1,
                headers,
                payload: payload.clone().into(),
                stored_at_ms: 0,
            };
            for texts in [false, true] {
                let line = serde_json::to_string(&Line::of(&subjects, "WA_IN", &stored, texts)).unwrap();
                for number in [&people.phone, &people.lid] {
                    for at in 0..number.len() - 4 {
                        assert!(!line.contains(&number[at..at + 5]), "{number} in {line}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_number_gets_out(phone in "[6-9]{7,15}", lid in "[6-9]{7,15}", hidden in any::<bool>()) {
        let chat = if hidden { ChatToken::lid(&lid) } else { ChatToken::phone(&phone) };
        assert_masked(&People { chat, phone, lid });
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in "[a-z]{1,8}") {
        for kind in ["message", "update", "dead", "reply", "send", "receipt", "session", kind.as_str()] {
            prop_assert!(shown(kind, &bytes, true).is_object());
        }
    }
}
