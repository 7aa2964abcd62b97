//! WhatsApp's message protobuf → the connector's own. Pure.

use whatsapp_rust::prelude::{MessageExt, wa};

use super::name;
use super::peel::{Peeled, peel};
use crate::wire::v1::{
    self, ChatTimer, Edit, InboundMessage, Location, Media, Order, Poll, PollVote, Reaction, Revoke, Text,
    Unsupported, inbound_message::Content,
};

/// Where a message belongs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mapped {
    /// On the chat's chain.
    Message(Content),
    /// It is about an earlier message.
    Update(Content),
    /// Traffic between the linked number's own devices, or without meaning for a reader. It does not go on the bus.
    Nothing,
}

/// The content of a message.
pub(super) fn map(message: &wa::Message) -> Mapped {
    let Peeled { inside: base, better_copy } = peel(message);
    if let Some(protocol) = base.protocol_message.as_option() {
        return protocol_message(protocol);
    }
    if let Some(reaction) = base.reaction_message.as_option() {
        return Mapped::Update(Content::Reaction(Reaction {
            target_message_id: target(reaction.key.as_option()),
            emoji: reaction.text.clone().unwrap_or_default(),
        }));
    }
    if let Some(vote) = base.poll_update_message.as_option() {
        // The vote is encrypted once more, with the poll's own key.
        let target_message_id = target(vote.poll_creation_message_key.as_option());
        return Mapped::Update(Content::PollVote(PollVote { target_message_id, options: Vec::new() }));
    }
    if let Some(body) = base.text_content() {
        return Mapped::Message(Content::Text(Text { body: body.to_owned() }));
    }
    match kind(base) {
        // Its words came with the first copy.
        Some(content) if better_copy => Mapped::Message(without_words(content)),
        Some(content) => Mapped::Message(content),
        None => match name::name(base) {
            Some(kind) => Mapped::Message(unsupported(kind)),
            None if name::only_keys(base) => Mapped::Nothing,
            // A kind that the schema does not know is left out when the message is read.
            None => Mapped::Message(unsupported(name::UNKNOWN.to_owned())),
        },
    }
}

/// A message of a kind that there is no field for.
pub(super) fn unsupported(kind: String) -> Content {
    Content::Unsupported(Unsupported { kind, ..Unsupported::default() })
}

fn without_words(content: Content) -> Content {
    let bare = |media| Media { caption: String::new(), ..media };
    match content {
        Content::Image(media) => Content::Image(bare(media)),
        Content::Video(media) => Content::Video(bare(media)),
        other => other,
    }
}

/// What a person wrote: a text, or the caption of a file.
fn words(base: &wa::Message) -> Option<&str> {
    let ptv = base.ptv_message.as_option().and_then(|video| video.caption.as_deref());
    base.text_content().or_else(|| base.get_caption()).or(ptv)
}

fn kind(base: &wa::Message) -> Option<Content> {
    media(base)
        .or_else(|| place(base))
        .or_else(|| contacts(base))
        .or_else(|| choice(base))
        .or_else(|| poll(base))
        .or_else(|| order(base))
}

/// A file that WhatsApp stores.
fn media(base: &wa::Message) -> Option<Content> {
    let media = |mime_type: &Option<String>, size_bytes: Option<u64>| Media {
        caption: words(base).unwrap_or_default().to_owned(),
        mime_type: mime_type.clone().unwrap_or_default(),
        size_bytes: size_bytes.unwrap_or_default(),
        ..Media::default()
    };
    if let Some(image) = base.image_message.as_option() {
        return Some(Content::Image(media(&image.mimetype, image.file_length)));
    }
    if let Some(video) = base.video_message.as_option().or(base.ptv_message.as_option()) {
        return Some(Content::Video(media(&video.mimetype, video.file_length)));
    }
    // A voice note is an audio message with a flag.
    if let Some(audio) = base.audio_message.as_option() {
        return Some(Content::Audio(media(&audio.mimetype, audio.file_length)));
    }
    if let Some(sticker) = base.sticker_message.as_option() {
        return Some(Content::Sticker(media(&sticker.mimetype, sticker.file_length)));
    }
    let document = base.document_message.as_option()?;
    let file_name = document.file_name.clone().unwrap_or_default();
    Some(Content::Document(Media { file_name, ..media(&document.mimetype, document.file_length) }))
}

fn place(base: &wa::Message) -> Option<Content> {
    if base.live_location_message.as_option().is_some() && base.location_message.as_option().is_none() {
        return Some(Content::Location(Location { live: true, ..Location::default() }));
    }
    let location = base.location_message.as_option()?;
    Some(Content::Location(Location {
        latitude: location.degrees_latitude.unwrap_or_default(),
        longitude: location.degrees_longitude.unwrap_or_default(),
        name: location.name.clone().unwrap_or_default(),
        address: location.address.clone().unwrap_or_default(),
        live: false,
    }))
}

fn contacts(base: &wa::Message) -> Option<Content> {
    let one = base.contact_message.as_option();
    let many = base.contacts_array_message.as_option().into_iter().flat_map(|array| &array.contacts);
    let contacts: Vec<_> = one.into_iter().chain(many).collect();
    if contacts.is_empty() {
        return None;
    }
    Some(Content::Contacts(v1::Contacts {
        display_names: contacts.iter().filter_map(|contact| contact.display_name.clone()).collect(),
        vcards: contacts.iter().filter_map(|contact| contact.vcard.clone()).collect(),
    }))
}

/// The choice that a person pressed or picked.
fn choice(base: &wa::Message) -> Option<Content> {
    use wa::message::buttons_response_message::Response;
    if let Some(reply) = base.buttons_response_message.as_option() {
        let text = match &reply.response {
            Some(Response::SelectedDisplayText(text)) => text.clone(),
            _ => String::new(),
        };
        let button_id = reply.selected_button_id.clone().unwrap_or_default();
        return Some(Content::ButtonReply(v1::ButtonReply { button_id, text, ..Default::default() }));
    }
    if let Some(reply) = base.interactive_response_message.as_option() {
        return Some(pressed(reply));
    }
    if let Some(reply) = base.template_button_reply_message.as_option() {
        return Some(Content::ButtonReply(v1::ButtonReply {
            button_id: reply.selected_id.clone().unwrap_or_default(),
            text: reply.selected_display_text.clone().unwrap_or_default(),
            ..Default::default()
        }));
    }
    let reply = base.list_response_message.as_option()?;
    Some(Content::ListReply(v1::ListReply {
        row_id: reply
            .single_select_reply
            .as_option()
            .and_then(|row| row.selected_row_id.clone())
            .unwrap_or_default(),
        title: reply.title.clone().unwrap_or_default(),
        description: reply.description.clone().unwrap_or_default(),
        ..Default::default()
    }))
}

/// A press of a native-flow button. The label is the message's body; the parameters have the id, and the label again.
fn pressed(reply: &wa::message::InteractiveResponseMessage) -> Content {
    use wa::message::interactive_response_message::InteractiveResponseMessage::NativeFlowResponseMessage;
    let params = match &reply.interactive_response_message {
        Some(NativeFlowResponseMessage(flow)) => flow.params_json.as_deref().unwrap_or_default(),
        None => "",
    };
    let params: serde_json::Value = serde_json::from_str(params).unwrap_or_default();
    let field = |name: &str| match params.get(name) {
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(serde_json::Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let label = |text: &String| !text.trim().is_empty();
    let text = reply.body.as_option().and_then(|body| body.text.clone()).filter(label);
    let text = text.or_else(|| field("display_text").filter(label)).or_else(|| field("title"));
    Content::ButtonReply(v1::ButtonReply {
        button_id: field("id").unwrap_or_default(),
        text: text.unwrap_or_default(),
        ..Default::default()
    })
}

fn order(base: &wa::Message) -> Option<Content> {
    let order = base.order_message.as_option()?;
    Some(Content::Order(Order {
        order_id: order.order_id.clone().unwrap_or_default(),
        text: order.message.clone().unwrap_or_default(),
        title: order.order_title.clone().unwrap_or_default(),
        item_count: order.item_count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
        total_thousandths: order.total_amount1000.unwrap_or_default(),
        currency: order.total_currency_code.clone().unwrap_or_default(),
    }))
}

fn poll(base: &wa::Message) -> Option<Content> {
    let polls = [
        &base.poll_creation_message,
        &base.poll_creation_message_v2,
        &base.poll_creation_message_v3,
        &base.poll_creation_message_v5,
        &base.poll_creation_message_v6,
    ];
    let poll = polls.iter().find_map(|poll| poll.as_option())?;
    Some(Content::Poll(Poll {
        question: poll.name.clone().unwrap_or_default(),
        options: poll.options.iter().filter_map(|option| option.option_name.clone()).collect(),
    }))
}

fn protocol_message(protocol: &wa::message::ProtocolMessage) -> Mapped {
    use wa::message::protocol_message::Type;
    let target_message_id = target(protocol.key.as_option());
    match protocol.r#type {
        Some(Type::MessageEdit) => {
            let body = protocol.edited_message.as_option().and_then(|edited| words(peel(edited).inside));
            let body = body.unwrap_or_default();
            Mapped::Update(Content::Edit(Edit { target_message_id, body: body.to_owned() }))
        }
        Some(Type::EphemeralSetting) => Mapped::Update(Content::ChatTimer(ChatTimer {
            seconds: protocol.ephemeral_expiration.unwrap_or_default(),
        })),
        Some(Type::Revoke) if !target_message_id.is_empty() => {
            Mapped::Update(Content::Revoke(Revoke { target_message_id }))
        }
        // A type that the schema does not know. It is about a message, and nobody can tell what it says of it.
        None if !target_message_id.is_empty() => {
            let kind = "protocolMessage".to_owned();
            Mapped::Message(Content::Unsupported(Unsupported { kind, target_message_id }))
        }
        // Key shares, history sync and the like: traffic between the linked number's own devices.
        _ => Mapped::Nothing,
    }
}

fn target(key: Option<&wa::MessageKey>) -> String {
    key.and_then(|key| key.id.clone()).unwrap_or_default()
}

/// The WhatsApp id of the message that this one quotes.
pub(super) fn quoted(message: &wa::Message) -> String {
    let base = peel(message).inside;
    let contexts = [
        base.extended_text_message.as_option().map(|text| &text.context_info),
        base.image_message.as_option().map(|image| &image.context_info),
        base.video_message.as_option().or(base.ptv_message.as_option()).map(|video| &video.context_info),
        base.audio_message.as_option().map(|audio| &audio.context_info),
        base.document_message.as_option().map(|document| &document.context_info),
        base.sticker_message.as_option().map(|sticker| &sticker.context_info),
        base.order_message.as_option().map(|order| &order.context_info),
        base.interactive_response_message.as_option().map(|reply| &reply.context_info),
        base.buttons_response_message.as_option().map(|reply| &reply.context_info),
        base.list_response_message.as_option().map(|reply| &reply.context_info),
    ];
    contexts
        .into_iter()
        .flatten()
        .find_map(|context| context.as_option())
        .and_then(|context| context.stanza_id.clone())
        .unwrap_or_default()
}

/// The chat's disappearing timer, as far as this message tells: 0 is off. What a phone writes into a chat with a
/// timer carries it; reactions and the like never do. What the linked number itself writes may come from a program
/// that knows no timers, so there silence says nothing. Nor does it where the client library does not look.
pub(super) fn timer(message: &wa::Message, mapped: &Mapped, from_me: bool) -> Option<u32> {
    let carried = || peel(message).inside.get_ephemeral_expiration();
    match mapped {
        Mapped::Update(Content::ChatTimer(timer)) => Some(timer.seconds),
        Mapped::Message(Content::Unsupported(_) | Content::Poll(_)) => carried(),
        Mapped::Message(_) if from_me => carried(),
        Mapped::Message(_) => Some(carried().unwrap_or_default()),
        Mapped::Update(_) | Mapped::Nothing => None,
    }
}

/// The replacement for content that cannot be stored.
pub(super) fn too_large(message: InboundMessage) -> InboundMessage {
    InboundMessage { content: Some(unsupported("too-large".to_owned())), ..message }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
