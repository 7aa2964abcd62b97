//! Which messages the backend is asked about, and with what text.

use std::collections::HashSet;
use std::time::Duration;

use super::backend::{Fields, Full, Question};
use super::numbers;
use crate::wire::ChatToken;
use crate::wire::header::rfc3339_ms;
use crate::wire::v1::{ChatKind, InboundMessage, NoReplyReason, inbound_message::Content};

/// Which messages the backend is asked about.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Phone numbers, [canonical](numbers::canonical). Empty: all numbers.
    pub allowed_numbers: HashSet<String>,
    /// What the owner writes on the phone to the own number is answered as well.
    pub self_chat: bool,
    /// A message older than this gets no answer.
    pub reply_max_age: Duration,
    /// Who has no visible phone number.
    pub unknown_numbers: UnknownNumbers,
    /// What the backend is told. With all fields, it is asked about messages without words as well.
    pub fields: Fields,
    /// What is answered in groups.
    pub groups: Groups,
    /// In groups, the writer's name goes before the text.
    pub group_names: bool,
}

/// What is answered in groups (`GROUPS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Groups {
    /// Nothing.
    #[default]
    Off,
    /// What mentions the linked number, or quotes a message of it.
    Mention,
    /// Everything.
    All,
}

/// What becomes of people whose phone number WhatsApp does not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownNumbers {
    /// The backend is asked, and gets the chat's token for a number.
    #[default]
    Chat,
    /// They get no answer.
    Silent,
}

impl Settings {
    /// Who is answered, in words and without a number.
    pub fn whom(&self) -> String {
        match self.allowed_numbers.len() {
            0 => "everybody who writes (ALLOWED_NUMBERS is not set)".to_owned(),
            1 => "1 number, that of ALLOWED_NUMBERS, and nobody else".to_owned(),
            count => format!("{count} numbers, those of ALLOWED_NUMBERS, and nobody else"),
        }
    }
}

/// The question for the backend, or why there is none.
pub fn question(
    message: &InboundMessage,
    settings: &Settings,
    now_ms: i64,
) -> Result<Question, NoReplyReason> {
    if message.from_me && !(settings.self_chat && message.self_chat) {
        return Err(NoReplyReason::FromMe);
    }
    may_ask(message, settings.groups)?;
    let words = text(message);
    let (text, full) = match settings.fields {
        Fields::Basic => (words.ok_or(NoReplyReason::NotText)?, None),
        Fields::Full => {
            let words = words.or_else(|| beside(message));
            let says_more = has_more(message).then_some("");
            (words.or(says_more).ok_or(NoReplyReason::NotText)?, Some(Box::new(Full::of(message))))
        }
    };
    let number = answered(message, settings, now_ms)?;
    let is_group = message.chat_kind() == ChatKind::Group;
    Ok(Question {
        message_id: message.message_id.clone(),
        from_number: number,
        text: match message.push_name.trim() {
            name if is_group && settings.group_names && !name.is_empty() && !text.is_empty() => {
                format!("{name}: {text}")
            }
            _ => text.to_owned(),
        },
        timestamp_iso: rfc3339_ms(message.sent_at_ms),
        customer_name: Some(message.push_name.clone()).filter(|name| !name.is_empty()),
        customer_id: is_group.then(|| message.chat.clone()),
        full,
    })
}

/// A text that may be joined with those beside it (`JOIN_WITHIN`): its words, and who wrote them. Its age does not count, so
/// that it is the same at any time; nor are words joined that pick an option or stand with a file.
pub(super) fn joinable<'a>(message: &'a InboundMessage, settings: &Settings) -> Option<(&'a str, String)> {
    let Some(Content::Text(_)) = &message.content else { return None };
    let words = text(message)?;
    let is_meant = question(message, settings, i64::MIN).is_ok();
    let sender = message.sender.clone().unwrap_or_default();
    is_meant.then(|| (words, format!("{}/{}/{}/{}", message.from_me, sender.phone, sender.lid, sender.jid)))
}

/// Is it only for want of words that the backend is not asked? It is something that a person has sent and that a phone
/// shows, in a chat of two, and its sender would be answered.
pub fn lacks_only_words(message: &InboundMessage, settings: &Settings, now_ms: i64) -> bool {
    !message.from_me
        && message.chat_kind() == ChatKind::Direct
        && has_more(message)
        && text(message).is_none()
        && answered(message, settings, now_ms).is_ok()
}

/// The words of a message, or those beside its file.
pub fn said(message: &InboundMessage) -> Option<&str> {
    text(message).or_else(|| beside(message))
}

/// Whose message it is, if that person is answered, and now.
fn answered(message: &InboundMessage, settings: &Settings, now_ms: i64) -> Result<String, NoReplyReason> {
    let is_group = message.chat_kind() == ChatKind::Group;
    let sender = message.sender.clone().unwrap_or_default();
    let phone = sender.phone.as_str();
    let number = match (phone.is_empty(), settings.unknown_numbers) {
        (false, _) => phone.to_owned(),
        // A group's token is not the person's.
        (true, UnknownNumbers::Chat) if is_group && !sender.lid.is_empty() => {
            ChatToken::lid(&sender.lid).as_str().to_owned()
        }
        (true, UnknownNumbers::Chat) if !is_group && !message.chat.is_empty() => message.chat.clone(),
        (true, _) => return Err(NoReplyReason::NoPhone),
    };
    if !settings.allowed_numbers.is_empty() && !settings.allowed_numbers.contains(&numbers::canonical(phone))
    {
        return Err(NoReplyReason::NotAllowed);
    }
    let max_age_ms = i64::try_from(settings.reply_max_age.as_millis()).unwrap_or(i64::MAX);
    // An operator who replays a dead letter wants an answer for it, however old it is.
    let since_ms = message.replay.as_ref().map_or(message.sent_at_ms, |replay| replay.at_ms);
    if now_ms.saturating_sub(since_ms) > max_age_ms {
        return Err(NoReplyReason::Expired);
    }
    Ok(number)
}

/// Does it say something beside words? An album's beginning says nothing, and its pictures are messages of their own.
/// Nor does what is unsupported: it is a placeholder, or nothing that a person has sent.
fn has_more(message: &InboundMessage) -> bool {
    matches!(
        message.content,
        Some(
            Content::Image(_)
                | Content::Video(_)
                | Content::Audio(_)
                | Content::Document(_)
                | Content::Sticker(_)
                | Content::Location(_)
                | Content::Contacts(_)
                | Content::Poll(_)
                | Content::Event(_)
                | Content::Order(_)
                | Content::Product(_)
                | Content::GroupInvite(_)
        )
    )
}

/// The words with a message that is not asked about for its words alone.
fn beside(message: &InboundMessage) -> Option<&str> {
    let text = match message.content.as_ref()? {
        Content::Location(place) => &place.text,
        Content::GroupInvite(invite) => &invite.text,
        _ => return None,
    };
    Some(text.as_str()).filter(|text| !text.trim().is_empty())
}

/// Is it in a chat that is answered, and meant for us there?
fn may_ask(message: &InboundMessage, groups: Groups) -> Result<(), NoReplyReason> {
    match (message.chat_kind(), groups) {
        (ChatKind::Direct, _) => return Ok(()),
        (ChatKind::Group, Groups::Mention | Groups::All) => {}
        (_, _) => return Err(NoReplyReason::NotDirect),
    }
    let is_meant = message.context.as_ref().is_some_and(|context| context.mentions_us);
    if groups == Groups::Mention && !is_meant {
        return Err(NoReplyReason::NotMentioned);
    }
    if message.group.as_ref().is_some_and(|group| group.announce && !group.admin) {
        return Err(NoReplyReason::AdminsOnly);
    }
    Ok(())
}

/// The text of a message: plain text, a caption, what was written with an order or a product, or the choice: its label,
/// or the person's own words if it was written.
pub(super) fn text(message: &InboundMessage) -> Option<&str> {
    let text = match message.content.as_ref()? {
        Content::Text(text) => &text.body,
        Content::Image(media) | Content::Video(media) | Content::Document(media) => &media.caption,
        Content::ButtonReply(reply) if reply.written.is_empty() => &reply.text,
        Content::ButtonReply(reply) => &reply.written,
        Content::ListReply(reply) if reply.written.is_empty() => &reply.title,
        Content::ListReply(reply) => &reply.written,
        Content::Order(order) => &order.text,
        Content::Product(product) => &product.text,
        _ => return None,
    };
    Some(text.as_str()).filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
#[path = "eligible_tests.rs"]
mod tests;
