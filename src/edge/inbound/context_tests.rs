//! What is beside the content, a line or more for each part of it.

use whatsapp_rust::prelude::MessageField;
use whatsapp_rust::waproto::whatsapp::context_info::ExternalAdReplyInfo;

use super::*;

fn quoting(context: wa::ContextInfo) -> wa::Message {
    let (_, of) = KINDS[0];
    of(context)
}

fn said(text: &str) -> wa::Message {
    wa::Message { conversation: Some(text.to_owned()), ..Default::default() }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_message_of_any_kind_has_its_context() {
    for (kind, of) in KINDS {
        let info = || wa::ContextInfo {
            stanza_id: some("ABC"),
            expiration: Some(604_800),
            forwarding_score: Some(2),
            ..Default::default()
        };
        let message = of(info());
        assert_eq!((quoted_id(&message).as_str(), timer(&message)), ("ABC", Some(604_800)), "{kind}");
        assert_eq!(context(&message).expect("a context").forwarding_score, 2, "{kind}");
        let wrapped = wa::Message {
            ephemeral_message: MessageField::some(wa::message::FutureProofMessage {
                message: MessageField::some(of(info())),
            }),
            ..Default::default()
        };
        assert_eq!(context(&wrapped), context(&message), "{kind}");
    }
    let plain = said("hola");
    assert_eq!((quoted_id(&plain).as_str(), timer(&plain), context(&plain)), ("", None, None));
    assert_eq!(context(&quoting(wa::ContextInfo::default())), None, "it says nothing");
}

#[test]
fn what_is_quoted_is_told_with_its_author_its_words_and_its_kind() {
    let picture = |caption: &str| wa::Message {
        image_message: MessageField::some(wa::message::ImageMessage {
            caption: some(caption),
            ..Default::default()
        }),
        ..Default::default()
    };
    let quoted = |id: Option<&str>, participant: &str, message: Option<wa::Message>| {
        let info = wa::ContextInfo {
            stanza_id: id.map(str::to_owned),
            participant: some(participant),
            quoted_message: message.into(),
            ..Default::default()
        };
        context(&quoting(info)).and_then(|context| context.quoted)
    };
    let ana = || person("54911@s.whatsapp.net");
    let of = |author, text: &str, kind: &str| Some(Quoted { author, text: text.into(), kind: kind.into() });
    let long = "é".repeat(1_500);
    let rows = [
        (quoted(Some("ABC"), "54911@s.whatsapp.net", Some(said("¿abren?"))), of(ana(), "¿abren?", "text")),
        (quoted(Some("ABC"), "987:3@lid", Some(picture("mira"))), of(person("987@lid"), "mira", "image")),
        (quoted(Some("ABC"), "987@lid", Some(picture(""))), of(person("987@lid"), "", "image")),
        (quoted(Some("ABC"), "", None), of(None, "", "")),
        (quoted(Some("ABC"), "", Some(said(&long))), of(None, &"é".repeat(1_000), "text")),
        (quoted(Some("ABC"), &"9".repeat(500), Some(wa::Message::default())), of(None, "", "unsupported")),
        (quoted(None, "54911@s.whatsapp.net", Some(said("hola"))), None),
        (quoted(Some(""), "54911@s.whatsapp.net", Some(said("hola"))), None),
    ];
    for (place, (got, want)) in rows.into_iter().enumerate() {
        assert_eq!(got, want, "{place}");
    }
}

#[test]
fn every_kind_is_quoted_by_its_words_or_its_name() {
    use crate::wire::v1::{ButtonReply, ListReply, Pin, Text};
    use crate::wire::v1::{Contacts, Event, GroupInvite, Location, Media, Order, Poll, Product};
    let media = |caption: &str, file_name: &str| Media {
        caption: caption.into(),
        file_name: file_name.into(),
        ..Media::default()
    };
    let place = |name: &str, text: &str| {
        Content::Location(Location { name: name.into(), text: text.into(), ..Location::default() })
    };
    let product = |title: &str, text: &str| {
        Content::Product(Product { title: title.into(), text: text.into(), ..Product::default() })
    };
    let want = String::from("a");
    for content in [
        Content::Text(Text { body: want.clone() }),
        Content::Image(media("a", "b")),
        Content::Video(media("a", "b")),
        Content::Document(media("a", "b")),
        Content::Document(media("", "a")),
        place("a", ""),
        place("b", "a"),
        Content::Contacts(Contacts { display_names: vec![want.clone(), "b".into()], vcards: Vec::new() }),
        Content::ButtonReply(ButtonReply { text: want.clone(), ..ButtonReply::default() }),
        Content::ListReply(ListReply { title: want.clone(), ..ListReply::default() }),
        Content::Poll(Poll { question: want.clone(), ..Poll::default() }),
        Content::Order(Order { text: want.clone(), ..Order::default() }),
        Content::Event(Event { name: want.clone(), ..Event::default() }),
        product("a", ""),
        product("b", "a"),
        Content::GroupInvite(GroupInvite { group_name: want.clone(), ..GroupInvite::default() }),
    ] {
        assert_eq!(gist(&content), want, "{content:?}");
    }
    assert_eq!(gist(&Content::Pin(Pin::default())), "");
    assert_eq!(gist(&Content::Contacts(Contacts::default())), "");
}

#[test]
fn mentions_forwards_and_ads_are_told_and_bounded() {
    let mut mentioned: Vec<_> = (0..5_000).map(|number| format!("{}@lid", 1_000 + number)).collect();
    mentioned.insert(1, "nobody".to_owned());
    let ad = ExternalAdReplyInfo {
        title: some("2x1 en cenas"),
        body: some(&"x".repeat(100_000)),
        source_type: some("ad"),
        source_id: some("120210000000000001"),
        source_url: some("https://fb.me/1"),
        source_app: some("facebook"),
        ctwa_clid: some("ARAk"),
        r#ref: some("promo"),
        media_url: some("https://fb.me/2"),
        ..Default::default()
    };
    let message = quoting(wa::ContextInfo {
        mentioned_jid: mentioned,
        non_jid_mentions: Some(1),
        is_forwarded: Some(true),
        forwarding_score: Some(7),
        external_ad_reply: MessageField::some(ad),
        entry_point_conversion_source: some("ctwa_ad"),
        ..Default::default()
    });
    let context = context(&message).expect("a context");
    assert_eq!((context.forwarded, context.forwarding_score, context.mentions_all), (true, 7, true));
    assert!((250..=256).contains(&context.mentions.len()), "{}", context.mentions.len());
    assert_eq!((context.mentions[0].lid.as_str(), context.mentions[1].lid.as_str()), ("1000", "1001"));
    let ad = context.ad.expect("an ad");
    assert_eq!(ad.body.len(), 2_048);
    let want = Ad {
        source_type: "ad".into(),
        source_id: "120210000000000001".into(),
        source_url: "https://fb.me/1".into(),
        source_app: "facebook".into(),
        headline: "2x1 en cenas".into(),
        body: ad.body.clone(),
        click_id: "ARAk".into(),
        r#ref: "promo".into(),
        media_url: "https://fb.me/2".into(),
    };
    assert_eq!((ad, context.entry_point.as_str()), (want, "ctwa_ad"));
}

#[test]
fn a_part_of_an_album_names_it_and_what_may_be_seen_once_says_so() {
    let child = |kind, of: &str| {
        let key = wa::MessageKey { id: some(of), ..Default::default() };
        let association = wa::MessageAssociation {
            association_type: Some(kind),
            parent_message_key: MessageField::some(key),
            ..Default::default()
        };
        let context = wa::MessageContextInfo {
            message_association: MessageField::some(association),
            ..Default::default()
        };
        wa::Message { message_context_info: MessageField::some(context), ..said("") }
    };
    let album = |message: &wa::Message| context(message).map(|context| context.album_message_id);
    assert_eq!(album(&child(AssociationType::MediaAlbum, "ABC")).as_deref(), Some("ABC"));
    assert_eq!(album(&child(AssociationType::HdImageDualUpload, "ABC")), None);

    let picture = |view_once| wa::Message {
        image_message: MessageField::some(wa::message::ImageMessage { view_once, ..Default::default() }),
        ..Default::default()
    };
    let wrapped = wa::Message {
        view_once_message_v2: MessageField::some(wa::message::FutureProofMessage {
            message: MessageField::some(picture(None)),
        }),
        ..Default::default()
    };
    let once = |message: &wa::Message| context(message).is_some_and(|context| context.view_once);
    assert_eq!(
        [once(&picture(Some(true))), once(&wrapped), once(&picture(Some(false)))],
        [true, true, false]
    );
}
