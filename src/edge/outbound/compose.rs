//! What is asked for → WhatsApp's message. The same request makes the same message, because a phone that has the first
//! copy never sees the second one. Pure.

use whatsapp_rust::Jid;
use whatsapp_rust::prelude::{MessageField, wa};
use whatsapp_rust::wacore_binary::JidExt as _;

use super::file::{self, Ready};
use super::job::address;
use super::request::{Content, Quote};
use crate::wire::v1::{SendLocation, SendPoll};

/// What a message needs to know of what surrounds it.
#[derive(Debug, Clone)]
pub(super) struct Around<'a> {
    /// Where it goes.
    pub to: &'a Jid,
    /// The linked number's own addresses: by phone number, by hidden id.
    pub own: [Option<Jid>; 2],
    /// It is a group whose members are named by hidden ids.
    pub by_lid: bool,
    /// With what votes are sealed.
    pub secret: [u8; 32],
    /// When it was asked for. Milliseconds.
    pub at_ms: i64,
    /// The file that it names, once WhatsApp has it.
    pub file: Option<&'a Ready>,
}

/// WhatsApp's message.
pub(super) fn message(content: &Content, quote: Option<&Quote>, around: &Around<'_>) -> wa::Message {
    match content {
        Content::Text { body, mentions } => text(body, context(quote, mentions, around)),
        Content::Menu(menu) => menu.message(context(quote, &menu.mentions, around)),
        Content::Reaction { target, emoji } => {
            let reaction = wa::message::ReactionMessage {
                key: key(around, &target.id, (target.own, &target.author)),
                text: Some(emoji.clone()),
                sender_timestamp_ms: Some(around.at_ms),
                ..Default::default()
            };
            wa::Message { reaction_message: MessageField::some(reaction), ..Default::default() }
        }
        Content::Edit { target, body } => {
            let edited = text(body, MessageField::none());
            protocol(wa::message::ProtocolMessage {
                key: key(around, target, (true, "")),
                r#type: Some(wa::message::protocol_message::Type::MessageEdit),
                edited_message: MessageField::some(edited),
                timestamp_ms: Some(around.at_ms),
                ..Default::default()
            })
        }
        Content::Revoke { target } => protocol(wa::message::ProtocolMessage {
            // In a chat of two nobody takes back what the other one wrote.
            key: key(around, &target.id, (target.own || !around.to.is_group(), &target.author)),
            r#type: Some(wa::message::protocol_message::Type::Revoke),
            ..Default::default()
        }),
        Content::Location(place) => location(place, context(quote, &[], around)),
        Content::Contacts(cards) => contacts(cards, context(quote, &[], around)),
        Content::Poll(asked) => poll(asked, context(quote, &[], around), around.secret),
        // Nothing is composed before the file is there.
        Content::Media { file: asked, mentions } => around.file.map_or_else(wa::Message::default, |ready| {
            file::message(asked, ready, context(quote, mentions, around), around.at_ms)
        }),
    }
}

fn text(body: &str, context: MessageField<wa::ContextInfo>) -> wa::Message {
    if context.as_option().is_none() {
        return wa::Message { conversation: Some(body.to_owned()), ..Default::default() };
    }
    let text = wa::message::ExtendedTextMessage {
        text: Some(body.to_owned()),
        context_info: context,
        ..Default::default()
    };
    wa::Message { extended_text_message: MessageField::some(text), ..Default::default() }
}

fn protocol(what: wa::message::ProtocolMessage) -> wa::Message {
    wa::Message { protocol_message: MessageField::some(what), ..Default::default() }
}

fn key(around: &Around<'_>, id: &str, (own, author): (bool, &str)) -> MessageField<wa::MessageKey> {
    // In a group, an id is unique only beside its writer.
    let writer = if own { ourselves(around) } else { address(author) };
    let writer = writer.filter(|_| around.to.is_group());
    MessageField::some(wa::MessageKey {
        remote_jid: Some(around.to.to_string()),
        from_me: Some(own),
        id: Some(id.to_owned()),
        participant: writer.map(|jid| jid.to_non_ad().to_string()),
    })
}

/// What a message says beside its content: one part for all of it, because the library puts the timer in there, too.
fn context(quote: Option<&Quote>, mentions: &[String], around: &Around<'_>) -> MessageField<wa::ContextInfo> {
    if quote.is_none() && mentions.is_empty() {
        return MessageField::none();
    }
    let mentioned = mentions.iter().filter_map(|person| address(person)).map(|jid| jid.to_string());
    let mut context = wa::ContextInfo { mentioned_jid: mentioned.collect(), ..Default::default() };
    if let Some(quote) = quote {
        context.stanza_id = Some(quote.target.id.clone());
        context.participant = author(quote, around).map(|jid| jid.to_non_ad().to_string());
        // A phone that has the message shows its own copy; without any words it shows nothing at all.
        context.quoted_message = MessageField::some(text(&quote.text, MessageField::none()));
    }
    MessageField::some(context)
}

/// Who has written what is quoted, by the sort of address that the chat uses.
fn author(quote: &Quote, around: &Around<'_>) -> Option<Jid> {
    if !quote.target.own {
        return if quote.author.is_empty() { Some(around.to.clone()) } else { address(&quote.author) };
    }
    ourselves(around)
}

/// The linked number, by the sort of address that the chat uses.
fn ourselves(around: &Around<'_>) -> Option<Jid> {
    let [phone, lid] = &around.own;
    let by_lid = around.to.is_lid() || around.by_lid;
    let (first, second) = if by_lid { (lid, phone) } else { (phone, lid) };
    first.as_ref().or(second.as_ref()).cloned()
}

fn location(place: &SendLocation, context: MessageField<wa::ContextInfo>) -> wa::Message {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let place = wa::message::LocationMessage {
        degrees_latitude: Some(place.latitude),
        degrees_longitude: Some(place.longitude),
        name: some(&place.name),
        address: some(&place.address),
        url: some(&place.url),
        context_info: context,
        ..Default::default()
    };
    wa::Message { location_message: MessageField::some(place), ..Default::default() }
}

fn contacts(cards: &[(String, String)], context: MessageField<wa::ContextInfo>) -> wa::Message {
    let card = |(name, card): &(String, String)| wa::message::ContactMessage {
        display_name: Some(name.clone()),
        vcard: Some(card.clone()),
        ..Default::default()
    };
    if let [only] = cards {
        let contact = wa::message::ContactMessage { context_info: context, ..card(only) };
        return wa::Message { contact_message: MessageField::some(contact), ..Default::default() };
    }
    let list = wa::message::ContactsArrayMessage {
        display_name: cards.first().map(|(name, _)| name.clone()),
        contacts: cards.iter().map(card).collect(),
        context_info: context,
    };
    wa::Message { contacts_array_message: MessageField::some(list), ..Default::default() }
}

fn poll(asked: &SendPoll, context: MessageField<wa::ContextInfo>, secret: [u8; 32]) -> wa::Message {
    use wa::message::poll_creation_message::Option as Choice;
    let choice = |name: &String| Choice { option_name: Some(name.clone()), ..Default::default() };
    let poll = MessageField::some(wa::message::PollCreationMessage {
        name: Some(asked.question.clone()),
        options: asked.options.iter().map(choice).collect(),
        selectable_options_count: Some(asked.selectable),
        context_info: context,
        ..Default::default()
    });
    let beside = wa::MessageContextInfo { message_secret: Some(secret.to_vec()), ..Default::default() };
    let message = wa::Message { message_context_info: MessageField::some(beside), ..Default::default() };
    // As WhatsApp's own clients do.
    if asked.selectable == 1 {
        wa::Message { poll_creation_message_v3: poll, ..message }
    } else {
        wa::Message { poll_creation_message: poll, ..message }
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
