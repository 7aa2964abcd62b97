//! What is on the bus of each kind of message: what WhatsApp says of it, and in a header which kind it is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::{Context, InboundMessage};
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::waproto::codec::message_to_vec;
use whatsapp_rust::waproto::whatsapp::context_info::ExternalAdReplyInfo;
use whatsapp_rust::waproto::whatsapp::message_association::AssociationType;

use crate::support::{Addressing, Customer, Entry, Layout, Stage};

const GROUP: &str = "120363000000000778@g.us";

/// A message with these fields.
macro_rules! message {
    ($($field:ident: $value:expr),* $(,)?) => { wa::Message { $($field: $value),*, ..Default::default() } };
}

/// A part of a message, of this type and with these fields.
macro_rules! part {
    ($part:path { $($field:ident: $value:expr),* $(,)? }) => {
        MessageField::some({
            use $part as Part;
            #[allow(clippy::needless_update, reason = "a few parts have one field only")]
            let part = Part { $($field: $value),*, ..Default::default() };
            part
        })
    };
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn send(customer: &Customer, message: &wa::Message) -> String {
    customer.write_with(json!({"raw": BASE64_STANDARD.encode(message_to_vec(message))})).await
}

async fn send_to_group(customer: &Customer, message: &wa::Message) -> String {
    let raw = BASE64_STANDARD.encode(message_to_vec(message));
    customer.write_with(json!({"raw": raw, "through": GROUP})).await
}

fn key(id: &str) -> MessageField<wa::MessageKey> {
    part!(wa::MessageKey { id: some(id) })
}

/// A part of something that came before.
fn child(kind: AssociationType, of: &str, inside: wa::Message) -> wa::Message {
    let association =
        part!(wa::MessageAssociation { association_type: Some(kind), parent_message_key: key(of) });
    message!(
        associated_child_message: part!(wa::message::FutureProofMessage { message: MessageField::some(inside) }),
        message_context_info: part!(wa::MessageContextInfo { message_association: association })
    )
}

fn image(caption: &str) -> wa::Message {
    message!(image_message: part!(wa::message::ImageMessage {
        caption: some(caption),
        mimetype: some("image/jpeg")
    }))
}

/// What readers see of each message: its kind in the header, which is its kind in the payload.
fn read(entries: &[Entry]) -> Vec<(String, InboundMessage)> {
    let read = |entry: &Entry| {
        let kind = entry.header(header::KIND).unwrap_or_else(|| panic!("no kind on {}", entry.subject));
        (kind.to_owned(), entry.inbound())
    };
    entries.iter().map(read).collect()
}

fn find<'a>(read: &'a [(String, InboundMessage)], id: &str) -> (&'a str, &'a Content, Context) {
    let found = read.iter().find(|(_, message)| message.message_id == id);
    let (kind, message) = found.unwrap_or_else(|| panic!("no {id}"));
    (kind, message.content.as_ref().expect("a content"), message.context.clone().unwrap_or_default())
}

fn kinds() -> Vec<(wa::Message, &'static str)> {
    use wa::message::*;
    let file = |kind: &str| some(kind);
    let video =
        |gif| part!(VideoMessage { mimetype: file("video/mp4"), gif_playback: Some(gif), seconds: Some(7) });
    let voice = part!(AudioMessage { mimetype: file("audio/ogg"), ptt: Some(true), seconds: Some(3) });
    let live = part!(LiveLocationMessage {
        degrees_latitude: Some(-34.9),
        degrees_longitude: Some(-56.1),
        caption: some("voy")
    });
    let event = part!(EventMessage { name: some("Cata de vinos"), start_time: Some(1_800_000_000) });
    let snapshot = part!(product_message::ProductSnapshot { product_id: some("77"), title: some("Silla") });
    let product = part!(ProductMessage { product: snapshot });
    let invite = part!(GroupInviteMessage {
        group_jid: some("120363@g.us"),
        invite_code: some("c0de"),
        group_name: some("Vecinos")
    });
    let option = |name: &str| poll_creation_message::Option { option_name: some(name), ..Default::default() };
    let poll = part!(PollCreationMessage {
        name: some("¿Cuándo?"),
        options: vec![option("hoy"), option("mañana")],
        selectable_options_count: Some(1)
    });
    let contact = part!(ContactMessage { display_name: some("Luis"), vcard: some("BEGIN:VCARD") });
    vec![
        (message!(video_message: video(true)), "video"),
        (message!(ptv_message: video(false)), "video"),
        (message!(audio_message: voice), "audio"),
        (message!(live_location_message: live), "location"),
        (message!(event_message: event), "event"),
        (message!(product_message: product), "product"),
        (message!(group_invite_message: invite), "group_invite"),
        (message!(poll_creation_message_v6: poll), "poll"),
        (message!(contact_message: contact), "contacts"),
        (message!(sticker_pack_message: part!(StickerPackMessage { name: some("gatos") })), "unsupported"),
    ]
}

#[tokio::test]
async fn each_kind_has_its_name_in_a_header_and_says_what_whatsapp_says_of_it() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let mut written = Vec::new();
    for (message, kind) in kinds() {
        written.push((send(&customer, &message).await, kind));
    }
    let evidence = stage.evidence(written.len(), [&customer]).await;
    let read = read(&evidence.messages);
    let got: Vec<_> =
        read.iter().map(|(kind, message)| (message.message_id.clone(), kind.as_str())).collect();
    assert_eq!(got, written);
    let contents: Vec<_> = read.iter().filter_map(|(_, message)| message.content.clone()).collect();
    let [
        Content::Video(gif),
        Content::Video(note),
        Content::Audio(voice),
        Content::Location(live),
        Content::Event(event),
        Content::Product(product),
        Content::GroupInvite(invite),
        Content::Poll(poll),
        Content::Contacts(contacts),
        Content::Unsupported(other),
    ] = contents.as_slice()
    else {
        panic!("{contents:?}")
    };
    assert_eq!((gif.gif, gif.video_note, gif.seconds), (true, false, 7));
    assert_eq!((note.gif, note.video_note), (false, true));
    assert_eq!((voice.voice, voice.seconds), (true, 3));
    assert_eq!((live.live, live.latitude, live.text.as_str()), (true, -34.9, "voy"));
    assert_eq!((event.name.as_str(), event.starts_at_ms), ("Cata de vinos", 1_800_000_000_000));
    assert_eq!((product.product_id.as_str(), product.title.as_str()), ("77", "Silla"));
    assert_eq!((invite.code.as_str(), invite.group_name.as_str()), ("c0de", "Vecinos"));
    assert_eq!(
        (poll.options.as_slice(), poll.selectable),
        (["hoy".to_owned(), "mañana".to_owned()].as_slice(), 1)
    );
    assert_eq!(contacts.display_names, ["Luis"]);
    assert_eq!(other.kind, "stickerPackMessage");
    assert!(evidence.calls.is_empty(), "nothing of this has words for the assistant");
}

#[tokio::test]
async fn a_message_says_what_it_quotes_whom_it_mentions_and_which_ad_it_came_from() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.simulator.customer("5491155550009", Addressing::Lid).await;
    let first = customer.write("hola").await;
    let lid = format!("{}@lid", customer.lid().await.trim_end_matches("@lid"));
    let ad = ExternalAdReplyInfo {
        title: some("2x1 en cenas"),
        source_type: some("ad"),
        source_id: some("120210000000000001"),
        ctwa_clid: some("ARAk"),
        ..Default::default()
    };
    let context = part!(wa::ContextInfo {
        stanza_id: some(&first),
        participant: some(&lid),
        quoted_message: MessageField::some(message!(conversation: some("hola"))),
        mentioned_jid: vec![lid.clone(), "15550001111@s.whatsapp.net".to_owned()],
        is_forwarded: Some(true),
        forwarding_score: Some(5),
        external_ad_reply: MessageField::some(ad),
        entry_point_conversion_source: some("ctwa_ad"),
    });
    let text = part!(wa::message::ExtendedTextMessage { text: some("¿abren hoy?"), context_info: context });
    let second = send(&customer, &message!(extended_text_message: text)).await;

    customer.receives(2).await;
    let evidence = stage.evidence(2, [&customer]).await;
    let read = read(&evidence.messages);
    let (kind, _, context) = find(&read, &second);
    assert_eq!(kind, "text");
    assert_eq!(evidence.messages[1].inbound().quoted_message_id, first);
    let quoted = context.quoted.expect("a quote");
    assert_eq!((quoted.text.as_str(), quoted.kind.as_str()), ("hola", "text"));
    let author = quoted.author.expect("an author");
    assert_eq!(
        (author.jid.as_str(), author.phone.as_str()),
        (lid.as_str(), customer.phone()),
        "by both addresses"
    );
    let mentioned: Vec<_> = context.mentions.iter().map(|person| person.phone.as_str()).collect();
    assert_eq!(mentioned, [customer.phone(), "15550001111"]);
    assert_eq!((context.forwarded, context.forwarding_score), (true, 5));
    let ad = context.ad.expect("an ad");
    assert_eq!(
        [ad.source_type, ad.source_id, ad.headline, ad.click_id, context.entry_point],
        ["ad", "120210000000000001", "2x1 en cenas", "ARAk", "ctwa_ad"]
    );
}

#[tokio::test]
async fn an_albums_parts_name_it_and_what_is_about_a_message_is_an_update() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let album = part!(wa::message::AlbumMessage { expected_image_count: Some(1) });
    let album = send(&customer, &message!(album_message: album)).await;
    let part = send(&customer, &child(AssociationType::MediaAlbum, &album, image("¿tienen?"))).await;
    customer.receives(1).await;
    // The better copy is no second message, and nobody is asked twice about its words.
    send(&customer, &child(AssociationType::HdImageDualUpload, &part, image("¿tienen?"))).await;
    let pin = part!(wa::message::PinInChatMessage {
        key: key(&part),
        r#type: Some(wa::message::pin_in_chat_message::Type::PinForAll)
    });
    let lasting = part!(wa::MessageContextInfo { message_add_on_duration_in_secs: Some(604_800) });
    send(&customer, &message!(pin_in_chat_message: pin, message_context_info: lasting)).await;

    stage.streams().await.updated(2).await;
    let evidence = stage.evidence(2, [&customer]).await;
    let messages = read(&evidence.messages);
    let (kind, content, _) = find(&messages, &album);
    assert_eq!(kind, "album");
    assert!(matches!(content, Content::Album(album) if album.expected_images == 1), "{content:?}");
    let (kind, content, context) = find(&messages, &part);
    assert_eq!((kind, context.album_message_id.as_str()), ("image", album.as_str()));
    assert!(matches!(content, Content::Image(image) if image.caption == "¿tienen?"), "{content:?}");
    assert_eq!(evidence.calls.len(), 1);
    let updates = read(&stage.streams().await.updates().await);
    let mut contents: Vec<_> =
        updates.iter().map(|(kind, message)| (kind.as_str(), &message.content)).collect();
    contents.sort_by_key(|(kind, _)| *kind);
    let [("better_copy", Some(Content::BetterCopy(copy))), ("pin", Some(Content::Pin(pin)))] =
        contents.as_slice()
    else {
        panic!("{contents:?}")
    };
    assert_eq!(
        (&copy.target_message_id, copy.file.clone().unwrap_or_default().caption.as_str()),
        (&part, "")
    );
    assert_eq!((&pin.target_message_id, pin.pinned, pin.seconds), (&part, true, 604_800));
}

#[tokio::test]
async fn edits_and_reactions_are_updates_that_nobody_is_asked_about() {
    use wa::message::protocol_message::Type;
    use wa::message::{ProtocolMessage, ReactionMessage};
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let id = send(&customer, &image("para dos")).await;
    customer.receives(1).await;
    let edited = |message| {
        let edit = part!(ProtocolMessage {
            r#type: Some(Type::MessageEdit),
            key: key(&id),
            edited_message: MessageField::some(message)
        });
        message!(protocol_message: edit)
    };
    let reaction = |emoji| {
        let reaction = part!(ReactionMessage { key: key(&id), text: some(emoji) });
        message!(reaction_message: reaction)
    };
    let sent = [edited(image("para tres")), reaction("👍"), reaction("")];
    for (count, message) in sent.iter().enumerate() {
        send(&customer, message).await;
        stage.streams().await.updated(count + 1).await;
    }
    let evidence = stage.evidence(1, [&customer]).await;
    assert_eq!(evidence.calls.len(), 1);
    let updates = read(&stage.streams().await.updates().await);
    let said: Vec<_> = updates
        .iter()
        .filter_map(|(kind, message)| match &message.content {
            Some(Content::Edit(edit)) => Some((kind.as_str(), &edit.target_message_id, &edit.body)),
            Some(Content::Reaction(it)) => Some((kind.as_str(), &it.target_message_id, &it.emoji)),
            _ => None,
        })
        .map(|(kind, target, words)| (kind, target.as_str(), words.as_str()))
        .collect();
    let of = id.as_str();
    assert_eq!(said, [("edit", of, "para tres"), ("reaction", of, "👍"), ("reaction", of, "")]);
}

#[tokio::test]
async fn who_took_a_message_back_is_told() {
    use wa::message::ProtocolMessage;
    use wa::message::protocol_message::Type;
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let admin = stage.simulator.customer("5491155550008", Addressing::Phone).await;
    let own = format!("{}@s.whatsapp.net", customer.phone());
    let mut said = Vec::new();
    for (text, by) in [("uno", &customer), ("dos", &admin)] {
        let id = send_to_group(&customer, &message!(conversation: some(text))).await;
        stage.streams().await.received(said.len() + 1).await;
        let key = part!(wa::MessageKey { id: some(&id), participant: some(&own) });
        let revoke = part!(ProtocolMessage { r#type: Some(Type::Revoke), key: key });
        send_to_group(by, &message!(protocol_message: revoke)).await;
        said.push(id);
        stage.streams().await.updated(said.len()).await;
    }
    let updates = read(&stage.streams().await.updates().await);
    let revokes: Vec<_> = updates
        .iter()
        .filter_map(|(kind, message)| match &message.content {
            Some(Content::Revoke(revoke)) if kind == "revoke" => Some((
                revoke.target_message_id.clone(),
                message.sender.clone().unwrap_or_default().phone,
                revoke.by_admin,
                revoke.author.clone().map(|author| author.phone),
            )),
            _ => None,
        })
        .collect();
    let wanted = [
        (said[0].clone(), customer.phone().to_owned(), false, None),
        (said[1].clone(), admin.phone().to_owned(), true, Some(customer.phone().to_owned())),
    ];
    assert_eq!(revokes, wanted);
}
