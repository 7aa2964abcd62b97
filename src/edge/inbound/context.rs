//! What a message says beside its content: what it quotes, whom it mentions, where it was forwarded from, which
//! advertisement brought its writer. Pure.

use whatsapp_rust::Jid;
use whatsapp_rust::prelude::wa;
use whatsapp_rust::waproto::whatsapp::message_association::AssociationType;

use super::content::{self, Mapped};
use super::{bound, peel};
use crate::edge::addressing::identity;
use crate::wire::kind;
use crate::wire::v1::{Ad, Context, Identity, Quoted, inbound_message::Content};

/// How much of a quoted text is kept, in characters.
const QUOTED: usize = 1_000;

/// All kinds of messages that may have a context.
macro_rules! contexts {
    ($($field:ident),* $(,)?) => {
        /// The context of a message without wrappers.
        fn info(base: &wa::Message) -> Option<&wa::ContextInfo> {
            None$(.or_else(|| base.$field.as_option()?.context_info.as_option()))*
        }

        #[cfg(test)]
        const KINDS: &[(&str, fn(wa::ContextInfo) -> wa::Message)] = &[$((stringify!($field), |context| {
            let mut message = wa::Message::default();
            message.$field.get_or_insert_default().context_info = whatsapp_rust::prelude::MessageField::some(context);
            message
        })),*];
    };
}

contexts![
    extended_text_message,
    image_message,
    audio_message,
    video_message,
    ptv_message,
    document_message,
    sticker_message,
    interactive_response_message,
    buttons_response_message,
    list_response_message,
    template_button_reply_message,
    location_message,
    live_location_message,
    contact_message,
    contacts_array_message,
    order_message,
    product_message,
    group_invite_message,
    poll_creation_message,
    poll_creation_message_v2,
    poll_creation_message_v3,
    poll_creation_message_v5,
    poll_creation_message_v6,
    poll_result_snapshot_message,
    poll_result_snapshot_message_v3,
    album_message,
    event_message,
    event_invite_message,
    sticker_pack_message,
    buttons_message,
    list_message,
    template_message,
    interactive_message,
    call,
    request_phone_number_message,
    newsletter_admin_invite_message,
    newsletter_follower_invite_message_v2,
    message_history_bundle,
    message_history_notice,
    split_payment_message,
];

/// The WhatsApp id of the message that this one quotes. Empty: it quotes none.
pub(super) fn quoted_id(message: &wa::Message) -> String {
    bound::id(info(peel::peel(message)).and_then(|info| info.stanza_id.as_deref()))
}

/// The disappearing timer that the message carries, in seconds.
pub(super) fn timer(message: &wa::Message) -> Option<u32> {
    info(peel::peel(message))?.expiration
}

/// What the message says beside its content.
pub(super) fn context(message: &wa::Message) -> Option<Context> {
    let mut context = info(peel::peel(message)).map(read).unwrap_or_default();
    context.album_message_id = album(message);
    context.view_once = peel::view_once(message);
    (context != Context::default()).then_some(context)
}

/// The album that the message is a part of.
fn album(message: &wa::Message) -> String {
    let parent = peel::beside(message, |beside| {
        let association = beside.message_association.as_option()?;
        let is_album = association.association_type == Some(AssociationType::MediaAlbum);
        association.parent_message_key.as_option().filter(|_| is_album)?.id.as_deref()
    });
    bound::id(parent)
}

fn read(info: &wa::ContextInfo) -> Context {
    let forwarding_score = info.forwarding_score.unwrap_or_default();
    Context {
        quoted: quoted(info),
        mentions: bound::parts(&info.mentioned_jid).filter_map(|jid| person(jid)).collect(),
        mentions_all: info.non_jid_mentions.is_some_and(|count| count > 0),
        forwarded: info.is_forwarded.unwrap_or_default() || forwarding_score > 0,
        forwarding_score,
        ad: ad(info),
        entry_point: bound::id(info.entry_point_conversion_source.as_deref()),
        ..Context::default()
    }
}

/// The person with this address. `None`: it is no address.
pub(super) fn person(jid: &str) -> Option<Identity> {
    let jid: Jid = Some(jid).filter(|jid| jid.len() <= 128)?.parse().ok()?;
    Some(identity::identity(&jid, None)).filter(|person| !person.jid.is_empty())
}

fn quoted(info: &wa::ContextInfo) -> Option<Quoted> {
    info.stanza_id.as_deref().filter(|id| !id.is_empty())?;
    let content = match info.quoted_message.as_option().map(content::map) {
        Some(Mapped::Message(content) | Mapped::Update(content)) => Some(content),
        Some(Mapped::Nothing) | None => None,
    };
    Some(Quoted {
        author: info.participant.as_deref().and_then(person),
        text: content
            .as_ref()
            .map(|content| bound::characters(gist(content), QUOTED).to_owned())
            .unwrap_or_default(),
        kind: content.as_ref().map(kind::field).unwrap_or_default().to_owned(),
    })
}

/// The words of a message, or its name.
fn gist(content: &Content) -> &str {
    match content {
        Content::Text(text) => &text.body,
        Content::Document(media) if media.caption.is_empty() => &media.file_name,
        Content::Image(media) | Content::Video(media) | Content::Document(media) => &media.caption,
        Content::Location(place) if place.text.is_empty() => &place.name,
        Content::Location(place) => &place.text,
        Content::Contacts(contacts) => contacts.display_names.first().map_or("", String::as_str),
        Content::ButtonReply(reply) => &reply.text,
        Content::ListReply(reply) => &reply.title,
        Content::Poll(poll) => &poll.question,
        Content::Order(order) => &order.text,
        Content::Event(event) => &event.name,
        Content::Product(product) if product.text.is_empty() => &product.title,
        Content::Product(product) => &product.text,
        Content::GroupInvite(invite) => &invite.group_name,
        _ => "",
    }
}

fn ad(info: &wa::ContextInfo) -> Option<Ad> {
    let ad = info.external_ad_reply.as_option()?;
    Some(Ad {
        source_type: bound::id(ad.source_type.as_deref()),
        source_id: bound::id(ad.source_id.as_deref()),
        source_url: bound::line(ad.source_url.as_deref()),
        source_app: bound::id(ad.source_app.as_deref()),
        headline: bound::line(ad.title.as_deref()),
        body: bound::line(ad.body.as_deref()),
        click_id: bound::line(ad.ctwa_clid.as_deref()),
        r#ref: bound::line(ad.r#ref.as_deref()),
        media_url: bound::line(ad.media_url.as_deref()),
    })
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
