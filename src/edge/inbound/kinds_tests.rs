//! What each kind of message says: one line or more for each.

use whatsapp_rust::prelude::{MessageField, wa};

use super::super::content::{Mapped, map};
use super::super::context;
use crate::wire::v1::{
    Album, ButtonReply, Contacts, Event, GroupInvite, ListReply, Location, Media, Order, Poll, Product,
    inbound_message::Content,
};

fn some<T: From<&'static str>>(text: &'static str) -> Option<T> {
    Some(text.into())
}

fn wrapper(message: wa::Message) -> MessageField<wa::message::FutureProofMessage> {
    MessageField::some(wa::message::FutureProofMessage { message: MessageField::some(message) })
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
        (
            message!(ptv_message: video()),
            Content::Video(Media { video_note: true, ..with_caption("video/mp4") }),
        ),
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
fn a_place_is_told_with_its_name_and_a_live_one_as_live() {
    use wa::message::{LiveLocationMessage, LocationMessage};
    let location = || {
        part!(LocationMessage {
            degrees_latitude: Some(-34.6),
            degrees_longitude: Some(-58.4),
            name: some("Obelisco"),
            address: some("Av. 9 de Julio"),
            comment: some("acá"),
            url: some("https://maps.example/1"),
            accuracy_in_meters: Some(12),
        })
    };
    let live_location = || {
        part!(LiveLocationMessage {
            degrees_latitude: Some(-34.6),
            caption: some("voy"),
            accuracy_in_meters: Some(30),
        })
    };
    let place = Location {
        latitude: -34.6,
        longitude: -58.4,
        name: "Obelisco".into(),
        address: "Av. 9 de Julio".into(),
        text: "acá".into(),
        url: "https://maps.example/1".into(),
        accuracy_m: 12,
        live: false,
    };
    let live =
        Location { latitude: -34.6, live: true, text: "voy".into(), accuracy_m: 30, ..Location::default() };
    let marked = message!(location_message: part!(LocationMessage { is_live: Some(true) }));
    let live_too = Location { live: true, ..Location::default() };
    for (message, want) in [
        (message!(location_message: location()), place.clone()),
        (message!(live_location_message: live_location()), live),
        (message!(location_message: location(), live_location_message: live_location()), place),
        (marked, live_too),
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
    use wa::message::list_response_message::SingleSelectReply;
    use wa::message::{ButtonsResponseMessage, ListResponseMessage, TemplateButtonReplyMessage};
    let button = |text: &str| {
        Content::ButtonReply(ButtonReply { button_id: "b1".into(), text: text.into(), ..Default::default() })
    };
    let pressed =
        |response| part!(ButtonsResponseMessage { selected_button_id: some("b1"), response: response });
    let shown = Some(Response::SelectedDisplayText("Sí".into()));
    let template =
        part!(TemplateButtonReplyMessage { selected_id: some("b1"), selected_display_text: some("Sí") });
    let row = part!(SingleSelectReply { selected_row_id: some("r4") });
    let picked = part!(ListResponseMessage {
        title: some("Mesa"),
        description: some("de dos"),
        single_select_reply: row
    });
    let row = ListReply {
        row_id: "r4".into(),
        title: "Mesa".into(),
        description: "de dos".into(),
        ..Default::default()
    };
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
    use wa::message::{PollCreationMessage, PollType};
    let option = |name: &str| wa::message::poll_creation_message::Option {
        option_name: Some(name.into()),
        ..Default::default()
    };
    let poll = || {
        part!(PollCreationMessage {
            name: some("¿Cuándo?"),
            options: vec![option("hoy"), option("mañana")],
            selectable_options_count: Some(1),
            poll_type: Some(PollType::Quiz),
            correct_answer: MessageField::some(option("hoy")),
            end_time: Some(1_800_000_000),
        })
    };
    let want = Poll {
        question: "¿Cuándo?".into(),
        options: vec!["hoy".into(), "mañana".into()],
        selectable: 1,
        quiz: true,
        correct_option: "hoy".into(),
        ends_at_ms: 1_800_000_000_000,
    };
    for message in [
        message!(poll_creation_message: poll()),
        message!(poll_creation_message_v2: poll()),
        message!(poll_creation_message_v3: poll()),
        message!(poll_creation_message_v4: wrapper(message!(poll_creation_message: poll()))),
        message!(poll_creation_message_v4: wrapper(message!(poll_creation_message_v3: poll()))),
        message!(poll_creation_message_v5: poll()),
        message!(poll_creation_message_v6: poll()),
    ] {
        assert_eq!(map(&message), Mapped::Message(Content::Poll(want.clone())));
    }
}

#[test]
fn a_press_of_a_native_flow_button_has_its_label_and_its_id() {
    use wa::message::InteractiveResponseMessage;
    use wa::message::interactive_response_message::{Body, NativeFlowResponseMessage};
    let press = |body: Option<&str>, params: &str| {
        let flow = NativeFlowResponseMessage {
            name: some("quick_reply"),
            params_json: Some(params.to_owned()),
            ..Default::default()
        };
        let body = part!(Body { text: body.map(str::to_owned) });
        message!(interactive_response_message: part!(InteractiveResponseMessage {
            body: body,
            interactive_response_message: flow.into()
        }))
    };
    for (body, params, id, label) in [
        (Some("Mañana"), r#"{"id":"b-7"}"#, "b-7", "Mañana"),
        (Some("Mañana"), r#"{"display_text":"mañana","id":"b-7"}"#, "b-7", "Mañana"),
        (None, r#"{"display_text":"Al mediodía","id":"noon"}"#, "noon", "Al mediodía"),
        (Some(" "), r#"{"id":12,"title":"Doce"}"#, "12", "Doce"),
        (Some("Sí"), "", "", "Sí"),
        (Some("Sí"), "[1", "", "Sí"),
        (Some("Sí"), r#"["id"]"#, "", "Sí"),
        (None, r#"{"id":{"id":"x"}}"#, "", ""),
    ] {
        let (button_id, text, params_json) = (id.into(), label.into(), params.into());
        let flow = "quick_reply".into();
        let want = ButtonReply { button_id, text, flow, params_json, ..Default::default() };
        assert_eq!(map(&press(body, params)), Mapped::Message(Content::ButtonReply(want)), "{params}");
    }
}

#[test]
fn an_order_has_its_words_and_its_sum() {
    let order = part!(wa::message::OrderMessage {
        order_id: some("77"),
        item_count: Some(3),
        message: some("para las ocho"),
        order_title: some("Parrilla"),
        total_amount1000: Some(41_500_000),
        total_currency_code: some("ARS"),
    });
    let want = Order {
        order_id: "77".into(),
        text: "para las ocho".into(),
        title: "Parrilla".into(),
        item_count: 3,
        total_thousandths: 41_500_000,
        currency: "ARS".into(),
    };
    assert_eq!(map(&message!(order_message: order)), Mapped::Message(Content::Order(want)));
    let odd = part!(wa::message::OrderMessage { item_count: Some(-1) });
    assert_eq!(map(&message!(order_message: odd)), Mapped::Message(Content::Order(Order::default())));
}

#[test]
fn what_a_file_is_like_is_told() {
    use wa::message::{AudioMessage, DocumentMessage, ImageMessage, StickerMessage, VideoMessage};
    let image = part!(ImageMessage { width: Some(3), height: Some(4) });
    let video =
        part!(VideoMessage { gif_playback: Some(true), seconds: Some(5), width: Some(3), height: Some(4) });
    let audio = part!(AudioMessage { ptt: Some(true), seconds: Some(5) });
    let sticker = |is_animated, is_lottie| message!(sticker_message: part!(StickerMessage { is_animated: is_animated, is_lottie: is_lottie }));
    let animated = || Content::Sticker(Media { animated: true, ..Media::default() });
    let document = part!(DocumentMessage { title: some("Carta"), page_count: Some(2) });
    let size = || Media { width: 3, height: 4, ..Media::default() };
    for (message, want) in [
        (message!(image_message: image), Content::Image(size())),
        (message!(video_message: video), Content::Video(Media { gif: true, seconds: 5, ..size() })),
        (
            message!(audio_message: audio),
            Content::Audio(Media { voice: true, seconds: 5, ..Media::default() }),
        ),
        (sticker(Some(true), None), animated()),
        (sticker(Some(false), Some(true)), animated()),
        (sticker(None, Some(false)), Content::Sticker(Media::default())),
        (
            message!(document_message: document),
            Content::Document(Media { file_name: "Carta".into(), pages: 2, ..Media::default() }),
        ),
    ] {
        assert_eq!(map(&message), Mapped::Message(want));
    }
}

#[test]
fn an_event_an_album_and_an_invitation_are_told_with_what_they_say() {
    use wa::message::{AlbumMessage, EventMessage, GroupInviteMessage, LocationMessage};
    let location = part!(LocationMessage { name: some("Obelisco") });
    let event = part!(EventMessage {
        name: some("Cata"),
        description: some("de vinos"),
        start_time: Some(1_800_000_000),
        end_time: Some(1_800_003_600_000),
        location: location,
        join_link: some("https://call.example/1"),
        is_canceled: Some(true),
    });
    let want = Event {
        name: "Cata".into(),
        description: "de vinos".into(),
        starts_at_ms: 1_800_000_000_000,
        ends_at_ms: 1_800_003_600_000,
        location: Some(Location { name: "Obelisco".into(), ..Location::default() }),
        join_link: "https://call.example/1".into(),
        canceled: true,
    };
    assert_eq!(map(&message!(event_message: event)), Mapped::Message(Content::Event(want)));
    let event = part!(EventMessage { start_time: Some(-5) });
    assert_eq!(map(&message!(event_message: event)), Mapped::Message(Content::Event(Event::default())));
    let album = part!(AlbumMessage { expected_image_count: Some(2), expected_video_count: Some(3) });
    let want = Album { expected_images: 2, expected_videos: 3 };
    assert_eq!(map(&message!(album_message: album)), Mapped::Message(Content::Album(want)));
    let invite = part!(GroupInviteMessage {
        group_jid: some("120363@g.us"),
        invite_code: some("c0de"),
        invite_expiration: Some(1_800_000_000),
        group_name: some("Vecinos"),
        caption: some("sumate"),
    });
    let want = GroupInvite {
        group_jid: "120363@g.us".into(),
        code: "c0de".into(),
        group_name: "Vecinos".into(),
        text: "sumate".into(),
        expires_at_ms: 1_800_000_000_000,
    };
    assert_eq!(map(&message!(group_invite_message: invite)), Mapped::Message(Content::GroupInvite(want)));
}

#[test]
fn a_product_is_told_with_its_price_and_what_was_written_with_it() {
    use wa::message::ProductMessage;
    use wa::message::product_message::ProductSnapshot;
    let snapshot = part!(ProductSnapshot {
        product_id: some("77"),
        title: some("Silla"),
        description: some("de pino"),
        currency_code: some("UYU"),
        price_amount1000: Some(18_250_000),
        sale_price_amount1000: Some(17_000_000),
        retailer_id: some("sku-1"),
        url: some("https://shop.example/77"),
    });
    let product = part!(ProductMessage {
        product: snapshot,
        body: some("¿queda?"),
        business_owner_jid: some("54911@s.whatsapp.net"),
    });
    let want = Product {
        product_id: "77".into(),
        title: "Silla".into(),
        description: "de pino".into(),
        text: "¿queda?".into(),
        price_thousandths: 18_250_000,
        sale_price_thousandths: 17_000_000,
        currency: "UYU".into(),
        retailer_id: "sku-1".into(),
        url: "https://shop.example/77".into(),
        seller: context::person("54911@s.whatsapp.net"),
    };
    assert_eq!(map(&message!(product_message: product)), Mapped::Message(Content::Product(want)));
    let bare = message!(product_message: part!(ProductMessage { body: some("¿queda?") }));
    let want = Product { text: "¿queda?".into(), ..Product::default() };
    assert_eq!(map(&bare), Mapped::Message(Content::Product(want)));
}
