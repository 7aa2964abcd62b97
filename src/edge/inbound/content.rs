//! WhatsApp's message protobuf → the connector's own. Pure.

use whatsapp_rust::prelude::{MessageExt, wa};

use crate::wire::v1::{
    self, ChatTimer, Edit, InboundMessage, Location, Media, Poll, PollVote, Reaction, Revoke, Text,
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
    let base = message.get_base_message();
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
        Some(content) => Mapped::Message(content),
        None if *base == wa::Message::default() || only_keys(base) => Mapped::Nothing,
        None => Mapped::Message(Content::Unsupported(Unsupported { kind: "other".to_owned() })),
    }
}

fn kind(base: &wa::Message) -> Option<Content> {
    media(base)
        .or_else(|| place(base))
        .or_else(|| contacts(base))
        .or_else(|| choice(base))
        .or_else(|| poll(base))
}

/// A file that WhatsApp stores.
fn media(base: &wa::Message) -> Option<Content> {
    let media = |mime_type: &Option<String>, size_bytes: Option<u64>| Media {
        caption: base.get_caption().unwrap_or_default().to_owned(),
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
        return Some(Content::ButtonReply(v1::ButtonReply { button_id, text }));
    }
    if let Some(reply) = base.template_button_reply_message.as_option() {
        return Some(Content::ButtonReply(v1::ButtonReply {
            button_id: reply.selected_id.clone().unwrap_or_default(),
            text: reply.selected_display_text.clone().unwrap_or_default(),
        }));
    }
    let reply = base.list_response_message.as_option()?;
    Some(Content::ListReply(v1::ListReply {
        row_id: String::new(),
        title: reply.title.clone().unwrap_or_default(),
        description: reply.description.clone().unwrap_or_default(),
    }))
}

fn poll(base: &wa::Message) -> Option<Content> {
    let polls = [&base.poll_creation_message, &base.poll_creation_message_v2, &base.poll_creation_message_v3];
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
            let body =
                protocol.edited_message.as_option().and_then(MessageExt::text_content).unwrap_or_default();
            Mapped::Update(Content::Edit(Edit { target_message_id, body: body.to_owned() }))
        }
        Some(Type::EphemeralSetting) => Mapped::Update(Content::ChatTimer(ChatTimer {
            seconds: protocol.ephemeral_expiration.unwrap_or_default(),
        })),
        // The first value of a protobuf enum is also the value of an unset field.
        Some(Type::Revoke) | None if !target_message_id.is_empty() => {
            Mapped::Update(Content::Revoke(Revoke { target_message_id }))
        }
        // Key shares, history sync and the like: traffic between the linked number's own devices.
        _ => Mapped::Nothing,
    }
}

fn only_keys(base: &wa::Message) -> bool {
    base.sender_key_distribution_message.as_option().is_some()
}

fn target(key: Option<&wa::MessageKey>) -> String {
    key.and_then(|key| key.id.clone()).unwrap_or_default()
}

/// The WhatsApp id of the message that this one quotes.
pub(super) fn quoted(message: &wa::Message) -> String {
    let base = message.get_base_message();
    base.extended_text_message
        .as_option()
        .and_then(|text| text.context_info.as_option())
        .and_then(|context| context.stanza_id.clone())
        .unwrap_or_default()
}

/// The chat's disappearing timer, as far as this message tells: 0 is off. What a phone writes into a chat with a
/// timer carries it; reactions and the like never do. What the linked number itself writes may come from a program
/// that knows no timers, so there silence says nothing.
pub(super) fn timer(message: &wa::Message, mapped: &Mapped, from_me: bool) -> Option<u32> {
    match mapped {
        Mapped::Update(Content::ChatTimer(timer)) => Some(timer.seconds),
        Mapped::Message(content) if from_me || matches!(content, Content::Unsupported(_)) => {
            message.get_base_message().get_ephemeral_expiration()
        }
        Mapped::Message(_) => Some(message.get_base_message().get_ephemeral_expiration().unwrap_or_default()),
        Mapped::Update(_) | Mapped::Nothing => None,
    }
}

/// The replacement for content that cannot be stored.
pub(super) fn too_large(message: InboundMessage) -> InboundMessage {
    let content = Content::Unsupported(Unsupported { kind: "too-large".to_owned() });
    InboundMessage { content: Some(content), ..message }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
