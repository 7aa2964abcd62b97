//! One line or more for each kind of message.

use whatsapp_rust::prelude::MessageField;

use super::*;

fn text(body: &str) -> wa::Message {
    wa::Message { conversation: Some(body.into()), ..Default::default() }
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
    assert_eq!(map(&protocol(Type::Revoke, key())), Mapped::Update(revoke_of(&target_message_id)));
    assert_eq!(
        map(&protocol(Type::MessageEdit, key())),
        Mapped::Update(Content::Edit(Edit { target_message_id, body: "nuevo".into() }))
    );
    assert_eq!(map(&protocol(Type::AppStateSyncKeyShare, MessageField::none())), Mapped::Nothing);
}

fn revoke_of(id: &str) -> Content {
    Content::Revoke(Revoke { target_message_id: id.into(), ..Revoke::default() })
}

#[test]
fn reactions_votes_and_answers_are_about_an_earlier_message() {
    use wa::message::{EncEventResponseMessage, PollUpdateMessage, ReactionMessage};
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
            Content::PollVote(PollVote {
                target_message_id: target_message_id.clone(),
                ..PollVote::default()
            }),
        ),
        (
            message!(enc_event_response_message: part!(EncEventResponseMessage { event_creation_message_key: key() })),
            Content::EventAnswer(EventAnswer { target_message_id, ..EventAnswer::default() }),
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
    let revoke = Mapped::Update(revoke_of("ABC"));
    let number = Mapped::Message(unsupported("protocolMessage.SHARE_PHONE_NUMBER".into()));
    let newer = Mapped::Message(Content::Unsupported(Unsupported {
        kind: "protocolMessage".into(),
        target_message_id: "ABC".into(),
    }));
    for (kind, id, want) in [
        (Some(Type::Revoke), Some("ABC"), revoke),
        (None, Some("ABC"), newer),
        (Some(Type::Revoke), None, Mapped::Nothing),
        (None, None, Mapped::Nothing),
        (Some(Type::HistorySyncNotification), Some("ABC"), Mapped::Nothing),
        (Some(Type::SharePhoneNumber), None, number),
    ] {
        assert_eq!(map(&protocol(kind, id)), want, "{kind:?} {id:?}");
    }
}

#[test]
fn keys_alone_are_nothing_and_what_nobody_knows_is_unsupported() {
    use wa::message::{Call, PinInChatMessage, SenderKeyDistributionMessage, StickerPackMessage};
    let keys = || part!(SenderKeyDistributionMessage { group_id: some("120363") });
    let call = part!(Call { call_key: Some(vec![1]) });
    let secret = part!(wa::MessageContextInfo { message_secret: Some(vec![7; 32]) });
    for (message, want) in [
        (message!(sender_key_distribution_message: keys()), Mapped::Nothing),
        (
            message!(sender_key_distribution_message: keys(), conversation: some("hola")),
            Mapped::Message(Content::Text(Text { body: "hola".into() })),
        ),
        (message!(call: call), Mapped::Message(unsupported("call".into()))),
        (
            message!(pin_in_chat_message: part!(PinInChatMessage { sender_timestamp_ms: Some(1) })),
            Mapped::Message(unsupported("pinInChatMessage".into())),
        ),
        (
            message!(sticker_pack_message: part!(StickerPackMessage { name: some("gatos") })),
            Mapped::Message(unsupported("stickerPackMessage".into())),
        ),
        // What the schema does not know is left out when a message is read.
        (wa::Message::default(), Mapped::Message(unsupported("unknown".into()))),
        (message!(message_context_info: secret), Mapped::Message(unsupported("unknown".into()))),
    ] {
        assert_eq!(map(&message), want);
    }
}

#[test]
fn of_what_is_too_large_all_but_the_content_is_kept() {
    let content = Some(Content::Text(Text { body: "x".repeat(100) }));
    let context = Some(crate::wire::v1::Context { forwarded: true, ..Default::default() });
    let message = InboundMessage { message_id: "ABC".into(), content, context, ..InboundMessage::default() };
    let content = Some(unsupported("too-large".into()));
    assert_eq!(too_large(message.clone()), InboundMessage { content, context: None, ..message });
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

fn wrapper(message: wa::Message) -> MessageField<wa::message::FutureProofMessage> {
    MessageField::some(wa::message::FutureProofMessage { message: MessageField::some(message) })
}

/// Each of WhatsApp's wrappers, by the names that its schema gives their fields.
#[test]
fn every_wrapper_is_opened_and_what_it_is_in_does_not_matter() {
    macro_rules! wrappers {
        ($($field:ident),* $(,)?) => {
            [$((stringify!($field), (|inside| message!($field: wrapper(inside))) as fn(wa::Message) -> wa::Message)),*]
        };
    }
    let all = wrappers![
        ephemeral_message,
        view_once_message,
        view_once_message_v2,
        view_once_message_v2_extension,
        document_with_caption_message,
        edited_message,
        associated_child_message,
        group_mentioned_message,
        bot_invoke_message,
        bot_task_message,
        bot_forwarded_message,
        lottie_sticker_message,
        event_cover_image,
        poll_creation_message_v4,
        poll_creation_option_image_message,
        status_mention_message,
        status_add_yours,
        group_status_mention_message,
        group_status_message,
        group_status_message_v2,
        limit_sharing_message,
        question_message,
        question_reply_message,
        spoiler_message,
        newsletter_admin_profile_message,
        newsletter_admin_profile_message_v2,
        newsletter_admin_profile_status_message,
    ];
    let want = Mapped::Message(Content::Text(Text { body: "hola".into() }));
    for (outer, wrap) in all {
        assert_eq!(map(&wrap(text("hola"))), want, "{outer}");
        for (inner, wrap_too) in all {
            assert_eq!(map(&wrap(wrap_too(text("hola")))), want, "{outer} {inner}");
        }
        let empty = map(&wrap(wa::Message::default()));
        assert_eq!(empty, Mapped::Message(unsupported("unknown".into())), "{outer}");
    }
    let seven = (0..7).fold(text("hola"), |inside, _| message!(spoiler_message: wrapper(inside)));
    assert_eq!(map(&seven), want);
    let nine = (0..9).fold(text("hola"), |inside, _| message!(spoiler_message: wrapper(inside)));
    assert_eq!(map(&nine), Mapped::Message(unsupported("spoilerMessage".into())), "too deep");
    let hollow = MessageField::some(wa::message::FutureProofMessage::default());
    assert_eq!(
        map(&message!(associated_child_message: hollow)),
        Mapped::Message(unsupported("associatedChildMessage".into()))
    );
}

#[test]
fn an_edited_caption_has_its_words() {
    use wa::message::protocol_message::Type;
    use wa::message::{DocumentMessage, ImageMessage, ProtocolMessage, VideoMessage};
    let edited = |inside: wa::Message| {
        let key = part!(wa::MessageKey { id: some("ABC") });
        let edit = part!(ProtocolMessage {
            r#type: Some(Type::MessageEdit),
            key: key,
            edited_message: MessageField::some(inside)
        });
        message!(edited_message: wrapper(message!(protocol_message: edit)))
    };
    let caption = || some("ahora sí");
    let document = message!(document_message: part!(DocumentMessage { caption: caption() }));
    for inside in [
        text("ahora sí"),
        message!(image_message: part!(ImageMessage { caption: caption() })),
        message!(video_message: part!(VideoMessage { caption: caption() })),
        message!(ptv_message: part!(VideoMessage { caption: caption() })),
        message!(document_with_caption_message: wrapper(document)),
    ] {
        let want = Edit { target_message_id: "ABC".into(), body: "ahora sí".into() };
        assert_eq!(map(&edited(inside)), Mapped::Update(Content::Edit(want)));
    }
}

/// A phone sends a picture twice, the second time in a better quality and with the same caption.
#[test]
fn a_better_copy_of_a_file_is_about_the_first_one_and_does_not_say_its_words_again() {
    use wa::message::{ImageMessage, VideoMessage};
    let child = |kind, of: Option<&str>, inside: wa::Message| {
        let key = part!(wa::MessageKey { id: of.map(str::to_owned) });
        let association =
            part!(wa::MessageAssociation { association_type: Some(kind), parent_message_key: key });
        let context = part!(wa::MessageContextInfo { message_association: association });
        message!(associated_child_message: wrapper(inside), message_context_info: context)
    };
    let image = || message!(image_message: part!(ImageMessage { caption: some("¿tienen?"), mimetype: some("image/jpeg") }));
    let video = || message!(video_message: part!(VideoMessage { caption: some("¿tienen?") }));
    let file =
        |caption: &str| Media { caption: caption.into(), mime_type: "image/jpeg".into(), ..Media::default() };
    let copy = |file| {
        let target_message_id = "ABC".into();
        Mapped::Update(Content::BetterCopy(BetterCopy { target_message_id, file: Some(file) }))
    };
    for (kind, of, inside, want) in [
        (
            AssociationType::MediaAlbum,
            Some("ABC"),
            image(),
            Mapped::Message(Content::Image(file("¿tienen?"))),
        ),
        (AssociationType::HdImageDualUpload, Some("ABC"), image(), copy(file(""))),
        (AssociationType::HdVideoDualUpload, Some("ABC"), video(), copy(Media::default())),
        (AssociationType::HevcVideoDualUpload, Some("ABC"), video(), copy(Media::default())),
        // It does not say of what.
        (AssociationType::HdImageDualUpload, None, image(), Mapped::Message(Content::Image(file("")))),
        (
            AssociationType::HdVideoDualUpload,
            None,
            video(),
            Mapped::Message(Content::Video(Media::default())),
        ),
        (
            AssociationType::HdImageDualUpload,
            Some("ABC"),
            text("hola"),
            Mapped::Message(Content::Text(Text { body: "hola".into() })),
        ),
    ] {
        assert_eq!(map(&child(kind, of, inside)), want, "{kind:?}");
    }
}

#[test]
fn a_message_is_pinned_for_a_while_or_taken_down() {
    use wa::message::PinInChatMessage;
    use wa::message::pin_in_chat_message::Type;
    let pin = |kind, id: Option<&str>| {
        let key = part!(wa::MessageKey { id: id.map(str::to_owned) });
        let context = part!(wa::MessageContextInfo { message_add_on_duration_in_secs: Some(86_400) });
        message!(
            pin_in_chat_message: part!(PinInChatMessage { key: key, r#type: kind }),
            message_context_info: context
        )
    };
    let want = |pinned| {
        Mapped::Update(Content::Pin(Pin { target_message_id: "ABC".into(), pinned, seconds: 86_400 }))
    };
    let unknown = || Mapped::Message(unsupported("pinInChatMessage".into()));
    for (kind, id, want) in [
        (Some(Type::PinForAll), Some("ABC"), want(true)),
        (Some(Type::UnpinForAll), Some("ABC"), want(false)),
        (Some(Type::PinForAll), None, unknown()),
        (Some(Type::UnknownType), Some("ABC"), unknown()),
        (None, Some("ABC"), unknown()),
    ] {
        assert_eq!(map(&pin(kind, id)), want, "{kind:?}");
    }
}

#[test]
fn who_takes_a_message_back_is_its_writer_or_an_admin() {
    use whatsapp_rust::Jid;
    use whatsapp_rust::wacore::types::message::MessageSource;
    let (ana, ana_hidden, luis) = (Jid::pn("54911"), Jid::lid("987"), "54912@s.whatsapp.net");
    let info = |edit, is_group| MessageInfo {
        source: MessageSource {
            sender: ana.clone(),
            sender_alt: Some(ana_hidden.clone()),
            is_group,
            ..MessageSource::default()
        },
        edit,
        ..MessageInfo::default()
    };
    let rows = [
        (EditAttribute::AdminRevoke, true, Some(luis), true),
        (EditAttribute::AdminRevoke, true, None, true),
        (EditAttribute::SenderRevoke, true, Some(luis), false),
        // An older phone says neither.
        (EditAttribute::Empty, true, Some(luis), true),
        (EditAttribute::Empty, true, Some("54911@s.whatsapp.net"), false),
        (EditAttribute::Empty, true, Some("987@lid"), false),
        (EditAttribute::Empty, true, None, false),
        (EditAttribute::Empty, false, Some(luis), false),
    ];
    for (edit, is_group, author, by_admin) in rows {
        let author = author.and_then(context::person);
        let revoke = Revoke { target_message_id: "ABC".into(), by_admin: false, author: author.clone() };
        let info = info(edit.clone(), is_group);
        let judged = by_whom(Mapped::Update(Content::Revoke(revoke.clone())), &info);
        let want = Revoke { by_admin, author: author.filter(|_| by_admin), ..revoke };
        assert_eq!(judged, Mapped::Update(Content::Revoke(want)), "{edit:?}");
    }
    let other = map(&text("hola"));
    assert_eq!(by_whom(other.clone(), &info(EditAttribute::AdminRevoke, true)), other);
}

/// Every text of a message is cut off somewhere, whatever its kind.
#[test]
fn nothing_from_outside_is_without_a_bound() {
    use prost::Message as _;
    use wa::message::{
        DocumentMessage, EventMessage, ExtendedTextMessage, PollCreationMessage, ProtocolMessage,
    };
    let huge = || Some("€".repeat(400_000));
    let options = (0..5_000)
        .map(|_| wa::message::poll_creation_message::Option {
            option_name: Some("€".repeat(100)),
            ..Default::default()
        })
        .collect();
    let key = || part!(wa::MessageKey { id: huge() });
    for message in [
        message!(conversation: huge()),
        message!(extended_text_message: part!(ExtendedTextMessage { text: huge() })),
        message!(document_message: part!(DocumentMessage { caption: huge(), file_name: huge(), mimetype: huge() })),
        message!(poll_creation_message: part!(PollCreationMessage { name: huge(), options: options })),
        message!(event_message: part!(EventMessage { name: huge(), description: huge(), join_link: huge() })),
        message!(protocol_message: part!(ProtocolMessage {
            key: key(),
            r#type: Some(wa::message::protocol_message::Type::MessageEdit),
            edited_message: MessageField::some(message!(conversation: huge()))
        })),
    ] {
        let (Mapped::Message(content) | Mapped::Update(content)) = map(&message) else {
            panic!("{message:?}")
        };
        let size = InboundMessage { content: Some(content), ..InboundMessage::default() }.encoded_len();
        assert!(size < 800_000, "{size}");
    }
}

/// Whatever a phone sends, it is something. Wrappers are opened in any nesting.
mod whatever_comes {
    use proptest::prelude::*;
    use whatsapp_rust::waproto::codec::message_decode;

    use super::*;

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = message_decode(&bytes) {
                let _ = (map(&message), context::quoted_id(&message), context::context(&message));
            }
        }

        /// A field that no schema knows, whatever its number and its bytes.
        #[test]
        fn a_kind_of_the_future_is_unsupported(field in 1_000_u32..100_000, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut encoded = Vec::new();
            prost::encoding::bytes::encode(field, &bytes, &mut encoded);
            let message = message_decode(&encoded).expect("a protobuf");
            prop_assert_eq!(map(&message), Mapped::Message(unsupported("unknown".into())));
        }

        /// A number of a field of its own schema, and a press whose parameters are anything.
        #[test]
        fn one_field_of_any_number_is_something(field in 1_u32..140, inner in 1_u32..20, text in "\\PC{0,20}") {
            let (mut inside, mut encoded) = (Vec::new(), Vec::new());
            prost::encoding::string::encode(inner, &text, &mut inside);
            prost::encoding::bytes::encode(field, &inside, &mut encoded);
            if let Ok(message) = message_decode(&encoded) {
                let _ = (map(&message), context::quoted_id(&message), context::context(&message));
            }
        }
    }
}
