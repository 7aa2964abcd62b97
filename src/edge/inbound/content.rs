//! WhatsApp's message protobuf → the connector's own. Pure.
//!
//! Here is where a message belongs; `kinds` and `business` read what it says.

use whatsapp_rust::prelude::{MessageExt, wa};
use whatsapp_rust::wacore::types::message::{EditAttribute, MessageInfo};
use whatsapp_rust::waproto::whatsapp::message_association::AssociationType;

use super::peel::{beside, peel};
use super::{bound, business, context, kinds, name};
use crate::wire::v1::{
    BetterCopy, ChatTimer, Edit, EventAnswer, InboundMessage, Media, Pin, PollVote, Reaction, Revoke, Text,
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
    let base = peel(message);
    if let Some(protocol) = base.protocol_message.as_option() {
        return protocol_message(protocol);
    }
    if let Some(update) = update(message, base) {
        return Mapped::Update(update);
    }
    if let Some(body) = base.text_content() {
        return Mapped::Message(Content::Text(Text { body: bound::text(Some(body)) }));
    }
    match kinds::kind(base).or_else(|| business::kind(base)) {
        Some(content) => better_copy(message, content),
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

/// What says something of an earlier message.
fn update(message: &wa::Message, base: &wa::Message) -> Option<Content> {
    if let Some(reaction) = base.reaction_message.as_option() {
        return Some(Content::Reaction(Reaction {
            target_message_id: target(reaction.key.as_option()),
            emoji: bound::id(reaction.text.as_deref()),
        }));
    }
    // Votes and answers are encrypted once more, with the poll's or the event's own key.
    if let Some(vote) = base.poll_update_message.as_option() {
        let target_message_id = target(vote.poll_creation_message_key.as_option());
        return Some(Content::PollVote(PollVote { target_message_id, ..PollVote::default() }));
    }
    if let Some(answer) = base.enc_event_response_message.as_option() {
        let target_message_id = target(answer.event_creation_message_key.as_option());
        return Some(Content::EventAnswer(EventAnswer { target_message_id, ..EventAnswer::default() }));
    }
    let pin = base.pin_in_chat_message.as_option()?;
    pinned(message, pin)
}

/// `None`: it neither pins nor takes down.
fn pinned(message: &wa::Message, pin: &wa::message::PinInChatMessage) -> Option<Content> {
    use wa::message::pin_in_chat_message::Type;
    let target_message_id = target(pin.key.as_option());
    let pinned = match pin.r#type {
        Some(Type::PinForAll) => true,
        Some(Type::UnpinForAll) => false,
        _ => return None,
    };
    let seconds = beside(message, |beside| beside.message_add_on_duration_in_secs).unwrap_or_default();
    (!target_message_id.is_empty()).then_some(Content::Pin(Pin { target_message_id, pinned, seconds }))
}

/// A phone sends a picture twice, the second time in a better quality. Its words came with the first copy.
fn better_copy(message: &wa::Message, content: Content) -> Mapped {
    let of = beside(message, |beside| {
        let association = beside.message_association.as_option()?;
        let is_copy = matches!(
            association.association_type,
            Some(
                AssociationType::HdVideoDualUpload
                    | AssociationType::HdImageDualUpload
                    | AssociationType::HevcVideoDualUpload
            )
        );
        is_copy.then(|| target(association.parent_message_key.as_option()))
    });
    let Some(target_message_id) = of else { return Mapped::Message(content) };
    let bare = |file| Media { caption: String::new(), ..file };
    match content {
        Content::Image(file) | Content::Video(file) if !target_message_id.is_empty() => {
            Mapped::Update(Content::BetterCopy(BetterCopy { target_message_id, file: Some(bare(file)) }))
        }
        // It does not say of what.
        Content::Image(file) => Mapped::Message(Content::Image(bare(file))),
        Content::Video(file) => Mapped::Message(Content::Video(bare(file))),
        other => Mapped::Message(other),
    }
}

/// What a person wrote: a text, or the caption of a file.
pub(super) fn words(base: &wa::Message) -> Option<&str> {
    let ptv = base.ptv_message.as_option().and_then(|video| video.caption.as_deref());
    base.text_content().or_else(|| base.get_caption()).or(ptv)
}

fn protocol_message(protocol: &wa::message::ProtocolMessage) -> Mapped {
    use wa::message::protocol_message::Type;
    let target_message_id = target(protocol.key.as_option());
    match protocol.r#type {
        Some(Type::MessageEdit) => {
            let body = protocol.edited_message.as_option().and_then(|edited| words(peel(edited)));
            Mapped::Update(Content::Edit(Edit { target_message_id, body: bound::text(body) }))
        }
        Some(Type::EphemeralSetting) => Mapped::Update(Content::ChatTimer(ChatTimer {
            seconds: protocol.ephemeral_expiration.unwrap_or_default(),
        })),
        Some(Type::Revoke) if !target_message_id.is_empty() => {
            let author = protocol.key.as_option().and_then(|key| key.participant.as_deref());
            let author = author.and_then(context::person);
            Mapped::Update(Content::Revoke(Revoke { target_message_id, by_admin: false, author }))
        }
        // A type that the schema does not know. It is about a message, and nobody can tell what it says of it.
        None if !target_message_id.is_empty() => {
            let kind = "protocolMessage".to_owned();
            Mapped::Message(Content::Unsupported(Unsupported { kind, target_message_id }))
        }
        // Key shares, history sync and the like: traffic between the linked number's own devices.
        other => match other.and_then(of_people) {
            Some(name) => Mapped::Message(unsupported(format!("protocolMessage.{name}"))),
            None => Mapped::Nothing,
        },
    }
}

/// WhatsApp's names of the protocol messages that a person causes, and that there is no field for.
fn of_people(kind: wa::message::protocol_message::Type) -> Option<&'static str> {
    use wa::message::protocol_message::Type;
    match kind {
        Type::SharePhoneNumber => Some("SHARE_PHONE_NUMBER"),
        Type::RequestWelcomeMessage => Some("REQUEST_WELCOME_MESSAGE"),
        Type::LimitSharing => Some("LIMIT_SHARING"),
        Type::GroupMemberLabelChange => Some("GROUP_MEMBER_LABEL_CHANGE"),
        Type::ChatThemeSetting => Some("CHAT_THEME_SETTING"),
        _ => None,
    }
}

fn target(key: Option<&wa::MessageKey>) -> String {
    bound::id(key.and_then(|key| key.id.as_deref()))
}

/// Who takes a message back: its writer, or an admin of the group. The stanza says so, or else the addresses do.
pub(super) fn by_whom(mapped: Mapped, info: &MessageInfo) -> Mapped {
    let Mapped::Update(Content::Revoke(mut revoke)) = mapped else { return mapped };
    let source = &info.source;
    let is_writer = |jid: &str| {
        [Some(&source.sender), source.sender_alt.as_ref()]
            .into_iter()
            .flatten()
            .any(|known| known.to_non_ad_string() == jid)
    };
    let of_another = || revoke.author.as_ref().is_some_and(|author| !is_writer(&author.jid));
    revoke.by_admin = match info.edit {
        EditAttribute::AdminRevoke => true,
        EditAttribute::SenderRevoke => false,
        _ => source.is_group && of_another(),
    };
    if !revoke.by_admin {
        revoke.author = None;
    }
    Mapped::Update(Content::Revoke(revoke))
}

/// The chat's disappearing timer, as far as this message tells: 0 is off. What a phone writes into a chat with a
/// timer carries it; reactions and the like never do. What the linked number itself writes may come from a program
/// that knows no timers, so there silence says nothing. Nor does it of kinds that may not carry it.
pub(super) fn timer(message: &wa::Message, mapped: &Mapped, from_me: bool) -> Option<u32> {
    let carried = || context::timer(message);
    match mapped {
        Mapped::Update(Content::ChatTimer(timer)) => Some(timer.seconds),
        Mapped::Message(
            Content::Unsupported(_)
            | Content::Poll(_)
            | Content::Album(_)
            | Content::Event(_)
            | Content::Product(_)
            | Content::GroupInvite(_),
        ) => carried(),
        Mapped::Message(_) if from_me => carried(),
        Mapped::Message(_) => Some(carried().unwrap_or_default()),
        Mapped::Update(_) | Mapped::Nothing => None,
    }
}

/// The replacement for content that cannot be stored.
pub(super) fn too_large(message: InboundMessage) -> InboundMessage {
    InboundMessage { content: Some(unsupported("too-large".to_owned())), context: None, ..message }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
