//! One line or more for each kind of message.

use whatsapp_rust::prelude::MessageField;

use super::*;
use crate::wire::v1::{ButtonReply, Contacts, ListReply};

fn text(body: &str) -> wa::Message {
    wa::Message { conversation: Some(body.into()), ..Default::default() }
}

/// A message with these fields.
macro_rules! message {
    ($($field:ident: $value:expr),* $(,)?) => { wa::Message { $($field: $value),*, ..Default::default() } };
}

/// A part of a message, of this type and with these fields.
macro_rules! part {
    ($part:path { $($field:ident: $value:expr),* $(,)? }) => {
        MessageField::some({
            use $part as Part;
            Part { $($field: $value),*, ..Default::default() }
        })
    };
}

fn some<T: From<&'static str>>(text: &'static str) -> Option<T> {
    Some(text.into())
}

#[test]
fn text_is_text_however_it_is_wrapped() {
    let extended = wa::Message {
        extended_text_message: MessageField::some(wa::message::ExtendedTextMessage {
            text: Some("hola".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let ephemeral = wa::Message {
        ephemeral_message: MessageField::some(wa::message::FutureProofMessage {
            message: MessageField::some(text("hola")),
        }),
        ..Default::default()
    };
    for message in [text("hola"), extended, ephemeral] {
        assert_eq!(map(&message), Mapped::Message(Content::Text(Text { body: "hola".into() })));
    }
}

#[test]
fn a_picture_keeps_its_kind_and_caption() {
    let message = wa::Message {
        image_message: MessageField::some(wa::message::ImageMessage {
            caption: Some("mira".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let want = Media { caption: "mira".into(), ..Media::default() };
    assert_eq!(map(&message), Mapped::Message(Content::Image(want)));
}

#[test]
fn revokes_edits_and_reactions_are_updates_and_key_shares_are_nothing() {
    use wa::message::protocol_message::Type;
    let key = || MessageField::some(wa::MessageKey { id: Some("ABC".into()), ..Default::default() });
    let protocol = |kind, key| wa::Message {
        protocol_message: MessageField::some(wa::message::ProtocolMessage {
            r#type: Some(kind),
            key,
            edited_message: MessageField::some(text("nuevo")),
            ..Default::default()
        }),
        ..Default::default()
    };
    let target_message_id = "ABC".to_owned();
    assert_eq!(
        map(&protocol(Type::Revoke, key())),
        Mapped::Update(Content::Revoke(Revoke { target_message_id: target_message_id.clone() }))
    );
    assert_eq!(
        map(&protocol(Type::MessageEdit, key())),
        Mapped::Update(Content::Edit(Edit { target_message_id, body: "nuevo".into() }))
    );
    assert_eq!(map(&protocol(Type::AppStateSyncKeyShare, MessageField::none())), Mapped::Nothing);
    assert_eq!(map(&wa::Message::default()), Mapped::Nothing);
}

/// One line for each kind of file; a picture, a video and a document have a caption.
#[test]
fn a_file_is_told_by_its_kind_its_type_and_its_size() {
    use wa::message::{AudioMessage, DocumentMessage, ImageMessage, StickerMessage, VideoMessage};
    let (caption, file_length) = (some("mira"), Some(1_024));
    let media =
        |mime_type: &str| Media { mime_type: mime_type.into(), size_bytes: 1_024, ..Media::default() };
    let with_caption = |mime_type: &str| Media { caption: "mira".into(), ..media(mime_type) };
    let video = || {
        part!(VideoMessage {
            caption: caption.clone(),
            mimetype: some("video/mp4"),
            file_length: file_length
        })
    };
    let file_name = some("menú.pdf");
    let document = Media { file_name: "menú.pdf".into(), ..with_caption("application/pdf") };
    let rows = [
        (
            message!(image_message: part!(ImageMessage { caption: caption.clone(), mimetype: some("image/jpeg"), file_length: file_length })),
            Content::Image(with_caption("image/jpeg")),
        ),
        (message!(video_message: video()), Content::Video(with_caption("video/mp4"))),
        // A round video has no caption of its own.
        (message!(ptv_message: video()), Content::Video(media("video/mp4"))),
        (
            message!(audio_message: part!(AudioMessage { mimetype: some("audio/ogg"), file_length: file_length })),
            Content::Audio(media("audio/ogg")),
        ),
        (
            message!(sticker_message: part!(StickerMessage { mimetype: some("image/webp"), file_length: file_length })),
            Content::Sticker(media("image/webp")),
        ),
        (
            message!(document_message: part!(DocumentMessage { caption: caption.clone(), mimetype: some("application/pdf"), file_length: file_length, file_name: file_name })),
            Content::Document(document),
        ),
    ];
    for (message, want) in rows {
        assert_eq!(map(&message), Mapped::Message(want));
    }
}

#[test]
fn a_place_is_told_with_its_name_and_a_live_one_only_as_live() {
    use wa::message::{LiveLocationMessage, LocationMessage};
    let location = || {
        part!(LocationMessage {
            degrees_latitude: Some(-34.6),
            degrees_longitude: Some(-58.4),
            name: some("Obelisco"),
            address: some("Av. 9 de Julio"),
        })
    };
    let live_location = || part!(LiveLocationMessage { degrees_latitude: Some(-34.6) });
    let place = Location {
        latitude: -34.6,
        longitude: -58.4,
        name: "Obelisco".into(),
        address: "Av. 9 de Julio".into(),
        live: false,
    };
    let live = Location { live: true, ..Location::default() };
    for (message, want) in [
        (message!(location_message: location()), place.clone()),
        (message!(live_location_message: live_location()), live),
        (message!(location_message: location(), live_location_message: live_location()), place),
    ] {
        assert_eq!(map(&message), Mapped::Message(Content::Location(want)));
    }
}

#[test]
fn one_contact_and_several_are_the_same_kind() {
    use wa::message::{ContactMessage, ContactsArrayMessage};
    let contact = |name: &str| ContactMessage {
        display_name: Some(name.into()),
        vcard: Some(format!("FN:{name}")),
        ..Default::default()
    };
    let array = part!(ContactsArrayMessage { contacts: vec![contact("Ana"), contact("Luis")] });
    for (message, want) in [
        (message!(contact_message: MessageField::some(contact("Ana"))), vec!["Ana"]),
        (message!(contacts_array_message: array), vec!["Ana", "Luis"]),
    ] {
        let display_names = want.iter().map(|name| (*name).to_owned()).collect();
        let vcards = want.iter().map(|name| format!("FN:{name}")).collect();
        assert_eq!(map(&message), Mapped::Message(Content::Contacts(Contacts { display_names, vcards })));
    }
}

#[test]
fn what_was_pressed_or_picked_is_told_in_the_words_that_were_shown() {
    use wa::message::buttons_response_message::Response;
    use wa::message::{ButtonsResponseMessage, ListResponseMessage, TemplateButtonReplyMessage};
    let button = |text: &str| Content::ButtonReply(ButtonReply { button_id: "b1".into(), text: text.into() });
    let pressed =
        |response| part!(ButtonsResponseMessage { selected_button_id: some("b1"), response: response });
    let shown = Some(Response::SelectedDisplayText("Sí".into()));
    let template =
        part!(TemplateButtonReplyMessage { selected_id: some("b1"), selected_display_text: some("Sí") });
    let picked = part!(ListResponseMessage { title: some("Mesa"), description: some("de dos") });
    let row = ListReply { row_id: String::new(), title: "Mesa".into(), description: "de dos".into() };
    for (message, want) in [
        (message!(buttons_response_message: pressed(shown)), button("Sí")),
        (message!(buttons_response_message: pressed(None)), button("")),
        (message!(template_button_reply_message: template), button("Sí")),
        (message!(list_response_message: picked), Content::ListReply(row)),
    ] {
        assert_eq!(map(&message), Mapped::Message(want));
    }
}

#[test]
fn a_poll_of_any_version_is_a_poll() {
    use wa::message::PollCreationMessage;
    let option = |name: &str| wa::message::poll_creation_message::Option {
        option_name: Some(name.into()),
        ..Default::default()
    };
    let poll = || {
        part!(PollCreationMessage {
            name: some("¿Cuándo?"), options: vec![option("hoy"), option("mañana")]
        })
    };
    let want = Poll { question: "¿Cuándo?".into(), options: vec!["hoy".into(), "mañana".into()] };
    for message in [
        message!(poll_creation_message: poll()),
        message!(poll_creation_message_v2: poll()),
        message!(poll_creation_message_v3: poll()),
    ] {
        assert_eq!(map(&message), Mapped::Message(Content::Poll(want.clone())));
    }
}

#[test]
fn reactions_and_votes_are_about_an_earlier_message() {
    use wa::message::{PollUpdateMessage, ReactionMessage};
    let key = || part!(wa::MessageKey { id: some("ABC") });
    let target_message_id = "ABC".to_owned();
    let reaction = Reaction { target_message_id: target_message_id.clone(), emoji: "👍".into() };
    for (message, want) in [
        (
            message!(reaction_message: part!(ReactionMessage { key: key(), text: some("👍") })),
            Content::Reaction(reaction),
        ),
        (
            message!(poll_update_message: part!(PollUpdateMessage { poll_creation_message_key: key() })),
            Content::PollVote(PollVote { target_message_id, options: Vec::new() }),
        ),
    ] {
        assert_eq!(map(&message), Mapped::Update(want));
    }
}

#[test]
fn only_a_message_about_something_takes_it_back() {
    use wa::message::ProtocolMessage;
    use wa::message::protocol_message::Type;
    let protocol = |kind, id: Option<&str>| {
        let key = part!(wa::MessageKey { id: id.map(str::to_owned) });
        message!(protocol_message: part!(ProtocolMessage { r#type: kind, key: key }))
    };
    let revoke = Mapped::Update(Content::Revoke(Revoke { target_message_id: "ABC".into() }));
    for (kind, id, want) in [
        (Some(Type::Revoke), Some("ABC"), revoke.clone()),
        (None, Some("ABC"), revoke),
        (Some(Type::Revoke), None, Mapped::Nothing),
        (None, None, Mapped::Nothing),
        (Some(Type::HistorySyncNotification), Some("ABC"), Mapped::Nothing),
    ] {
        assert_eq!(map(&protocol(kind, id)), want, "{kind:?} {id:?}");
    }
}

#[test]
fn keys_alone_are_nothing_and_what_nobody_knows_is_unsupported() {
    use wa::message::{Call, SenderKeyDistributionMessage};
    let keys = || part!(SenderKeyDistributionMessage { group_id: some("120363") });
    let call = part!(Call { call_key: Some(vec![1]) });
    let other = Content::Unsupported(Unsupported { kind: "other".into() });
    for (message, want) in [
        (message!(sender_key_distribution_message: keys()), Mapped::Nothing),
        (
            message!(sender_key_distribution_message: keys(), conversation: some("hola")),
            Mapped::Message(Content::Text(Text { body: "hola".into() })),
        ),
        (message!(call: call), Mapped::Message(other)),
    ] {
        assert_eq!(map(&message), want);
    }
}

#[test]
fn what_a_message_quotes_is_known_by_its_id() {
    let context_info = part!(wa::ContextInfo { stanza_id: some("ABC") });
    let extended = part!(wa::message::ExtendedTextMessage { text: some("sí"), context_info: context_info });
    assert_eq!(quoted(&message!(extended_text_message: extended)), "ABC");
    assert_eq!(quoted(&text("sí")), "");
}

#[test]
fn of_what_is_too_large_all_but_the_content_is_kept() {
    let content = Some(Content::Text(Text { body: "x".repeat(100) }));
    let message = InboundMessage { message_id: "ABC".into(), content, ..InboundMessage::default() };
    let content = Some(Content::Unsupported(Unsupported { kind: "too-large".into() }));
    assert_eq!(too_large(message.clone()), InboundMessage { content, ..message });
}

#[test]
fn the_chats_timer_is_what_a_phones_message_carries_or_its_setting_says() {
    let setting = |seconds| {
        use wa::message::protocol_message::Type;
        message! { protocol_message: part!(wa::message::ProtocolMessage {
            r#type: Some(Type::EphemeralSetting),
            ephemeral_expiration: seconds,
        }) }
    };
    let mut timed = text("hola");
    assert!(timed.set_ephemeral_expiration(604_800));
    let reaction = message! { reaction_message: part!(wa::message::ReactionMessage { text: some("👍") }) };
    for (message, theirs, ours) in [
        (text("hola"), Some(0), None),
        (timed, Some(604_800), Some(604_800)),
        (reaction, None, None),
        (setting(Some(86_400)), Some(86_400), Some(86_400)),
        (setting(Some(0)), Some(0), Some(0)),
        (setting(None), Some(0), Some(0)),
        (wa::Message::default(), None, None),
    ] {
        let mapped = map(&message);
        let told = [false, true].map(|from_me| timer(&message, &mapped, from_me));
        assert_eq!(told, [theirs, ours], "{mapped:?}");
    }
    let told = Mapped::Update(Content::ChatTimer(ChatTimer { seconds: 86_400 }));
    assert_eq!(map(&setting(Some(86_400))), told);
}
