//! What a send request asks for, checked. What WhatsApp, or a phone, could never show is refused here, with a code.
//! Pure.

use super::file;
use super::job::address;
use super::menu::Menu;
use crate::wire::v1::{
    SendContact, SendContacts, SendLocation, SendMedia, SendMessage, SendPoll, SendQuoted, SendTarget,
    send_message,
};
use crate::wire::{id, visible};

/// The longest text, in bytes. WhatsApp's own limit is 65,536 characters.
const TEXT: usize = 65_536;
/// How much of a quoted text is sent along, in characters. Phones show three lines.
const QUOTED: usize = 1_000;
/// The longest name, address or link of a place, in bytes.
const LINE: usize = 1_024;
/// The longest id and the longest address of a person, in bytes.
const ID: usize = 256;
/// The most persons that a text mentions.
const MENTIONS: usize = 256;
/// The most cards in one message. Phones send up to 257.
const CARDS: usize = 100;
/// The longest card, in bytes: one with a small photo.
const CARD: usize = 16_384;
/// All cards of a message together, in bytes.
const ALL_CARDS: usize = 262_144;
/// The longest emoji, in bytes: families have up to 41.
const EMOJI: usize = 64;
/// How many options a poll has on phones.
const OPTIONS: std::ops::RangeInclusive<usize> = 2..=12;
/// The longest option, in characters.
const OPTION: usize = 100;
/// The longest question, in characters.
const QUESTION: usize = 255;

/// What is wrong with a request. The code goes on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// `to` is no address.
    #[error("recipient")]
    Recipient,
    /// Nothing of the text can be seen.
    #[error("text-empty")]
    TextEmpty,
    /// It is longer than WhatsApp takes it.
    #[error("text-too-long")]
    TextTooLong,
    /// It quotes something that has no id, or an author without an address; or it is nothing that can quote.
    #[error("quote")]
    Quote,
    /// One of those whom it mentions has no address; there are too many; or it has no words.
    #[error("mentions")]
    Mentions,
    /// It does not say which message it is about, or says it twice.
    #[error("target")]
    Target,
    /// It is no emoji.
    #[error("emoji")]
    Emoji,
    /// It is nowhere on earth, or its words are too long.
    #[error("location")]
    Location,
    /// A card without a name or number, too many, or too long.
    #[error("contacts")]
    Contacts,
    /// A question or options that phones do not show.
    #[error("poll")]
    Poll,
    /// It names no object or no kind, or says of the file what cannot be said of it.
    #[error("media")]
    Media,
    /// It is too long, or of a kind that has none.
    #[error("caption")]
    Caption,
    /// The client library does not take it.
    #[error("content")]
    Content,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A text, and whom it mentions.
    Text {
        /// The words; something of them can be seen.
        body: String,
        /// Addresses: digits, or as WhatsApp writes them.
        mentions: Vec<String>,
    },
    /// A text with buttons or a list of WhatsApp's own.
    Menu(Box<Menu>),
    /// A reaction.
    Reaction {
        /// To what.
        target: Target,
        /// Empty: it is taken back.
        emoji: String,
    },
    /// Other words for a text of the number's own.
    Edit {
        /// The text's WhatsApp id.
        target: String,
        /// The new words.
        body: String,
    },
    /// A message is taken back: one of the number's own, or in a group, which it administers, one of somebody else.
    Revoke {
        /// Which.
        target: Target,
    },
    /// A place.
    Location(SendLocation),
    /// Cards: names and vCards.
    Contacts(Vec<(String, String)>),
    /// A poll.
    Poll(SendPoll),
    /// A file, and whom its caption mentions.
    Media {
        /// Where it is, and what is said of it.
        file: Box<SendMedia>,
        /// As those of a text.
        mentions: Vec<String>,
    },
}

/// An earlier message of the chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its WhatsApp id.
    pub id: String,
    /// The linked number has written it.
    pub own: bool,
    /// Who else has, if that is said; needed in groups.
    pub author: String,
}

/// A quoted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Which.
    pub target: Target,
    /// Who has written it. Empty: the recipient, or the linked number.
    pub author: String,
    /// Its words.
    pub text: String,
}

impl Content {
    /// A text that mentions nobody.
    pub fn text(body: &str) -> Self {
        Self::Text { body: body.to_owned(), mentions: Vec::new() }
    }

    /// Its kind, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Menu(_) => "interactive",
            Self::Reaction { .. } => "reaction",
            Self::Edit { .. } => "edit",
            Self::Revoke { .. } => "revoke",
            Self::Location(_) => "location",
            Self::Contacts(_) => "contacts",
            Self::Poll(_) => "poll",
            Self::Media { file, .. } => file::name(file.kind()),
        }
    }

    /// Is it only about an earlier message, and no message of its own?
    pub(super) fn is_about_another(&self) -> bool {
        matches!(self, Self::Reaction { .. } | Self::Edit { .. } | Self::Revoke { .. })
    }

    fn may_quote(&self) -> bool {
        matches!(
            self,
            Self::Text { .. } | Self::Location(_) | Self::Contacts(_) | Self::Poll(_) | Self::Media { .. }
        )
    }

    fn may_mention(&self) -> bool {
        match self {
            Self::Text { .. } => true,
            Self::Media { file, .. } => !file.caption.is_empty(),
            _ => false,
        }
    }
}

/// What a request asks for, and what it quotes. `content` is the request's own.
pub(super) fn checked(
    request: &SendMessage,
    content: &send_message::Content,
) -> Result<(Content, Option<Quote>), Flaw> {
    use send_message::Content as Asked;
    let content = match content {
        Asked::Text(text) => {
            Content::Text { body: words(&text.body)?, mentions: mentions(&request.mentions)? }
        }
        Asked::Reaction(reaction) => {
            Content::Reaction { target: target(reaction.target.as_ref())?, emoji: emoji(&reaction.emoji)? }
        }
        Asked::Edit(edit) => {
            Content::Edit { target: target(edit.target.as_ref())?.id, body: words(&edit.body)? }
        }
        Asked::Revoke(revoke) => Content::Revoke { target: revoked(target(revoke.target.as_ref())?) },
        Asked::Location(place) => Content::Location(location(place)?),
        Asked::Contacts(contacts) => Content::Contacts(cards(contacts)?),
        Asked::Poll(asked) => Content::Poll(poll(asked)?),
        Asked::Media(asked) => {
            let file = Box::new(file::checked(asked)?);
            Content::Media { file, mentions: mentions(&request.mentions)? }
        }
    };
    let quote = quote(&request.quoted_message_id, request.quoted.as_ref())?;
    if quote.is_some() && !content.may_quote() {
        return Err(Flaw::Quote);
    }
    if !request.mentions.is_empty() && !content.may_mention() {
        return Err(Flaw::Mentions);
    }
    Ok((content, quote))
}

fn words(body: &str) -> Result<String, Flaw> {
    match visible::trimmed(body) {
        "" => Err(Flaw::TextEmpty),
        text if text.len() > TEXT => Err(Flaw::TextTooLong),
        text => Ok(text.to_owned()),
    }
}

fn mentions(persons: &[String]) -> Result<Vec<String>, Flaw> {
    let legal = persons.len() <= MENTIONS && persons.iter().all(|person| address(person).is_some());
    if legal { Ok(persons.to_vec()) } else { Err(Flaw::Mentions) }
}

/// The WhatsApp id of the message that is meant. Exactly one of the two names it.
fn named(message_id: &str, request_id: &str) -> Option<String> {
    let legal = |id: &str| id.len() <= ID && id.chars().all(|c| c.is_ascii_graphic());
    match (message_id, request_id) {
        ("", "") => None,
        (message, "") => legal(message).then(|| message.to_owned()),
        ("", request) => Some(id::whatsapp(request)),
        (_, _) => None,
    }
}

fn target(target: Option<&SendTarget>) -> Result<Target, Flaw> {
    let target = target.ok_or(Flaw::Target)?;
    let id = named(&target.message_id, &target.request_id).ok_or(Flaw::Target)?;
    if !target.author.is_empty() && address(&target.author).is_none() {
        return Err(Flaw::Target);
    }
    let own = target.from_me || !target.request_id.is_empty();
    Ok(Target { id, own, author: target.author.clone() })
}

/// Without an author it is the number's own, whether that is said or not.
fn revoked(target: Target) -> Target {
    Target { own: target.own || target.author.is_empty(), ..target }
}

fn quote(message_id: &str, said: Option<&SendQuoted>) -> Result<Option<Quote>, Flaw> {
    let Some(said) = said else {
        if message_id.is_empty() {
            return Ok(None);
        }
        let id = named(message_id, "").ok_or(Flaw::Quote)?;
        let target = Target { id, own: false, author: String::new() };
        return Ok(Some(Quote { target, author: String::new(), text: String::new() }));
    };
    let id = named(message_id, &said.request_id).ok_or(Flaw::Quote)?;
    if !said.author.is_empty() && address(&said.author).is_none() {
        return Err(Flaw::Quote);
    }
    let own = said.from_me || !said.request_id.is_empty();
    let target = Target { id, own, author: String::new() };
    let text = said.text.chars().take(QUOTED).collect();
    Ok(Some(Quote { target, author: said.author.clone(), text }))
}

/// An emoji, or nothing. What an emoji is changes every year; words and blanks are none.
fn emoji(emoji: &str) -> Result<String, Flaw> {
    let is_word = emoji.chars().any(|c| c.is_ascii_alphabetic() || c.is_whitespace() || c.is_control());
    if emoji.len() > EMOJI || is_word || !(emoji.is_empty() || visible::is_any(emoji)) {
        return Err(Flaw::Emoji);
    }
    Ok(emoji.to_owned())
}

fn location(place: &SendLocation) -> Result<SendLocation, Flaw> {
    // Neither holds for what is no number.
    let on_earth = (-90.0..=90.0).contains(&place.latitude) && (-180.0..=180.0).contains(&place.longitude);
    let short = [&place.name, &place.address, &place.url].into_iter().all(|line| line.len() <= LINE);
    if on_earth && short { Ok(place.clone()) } else { Err(Flaw::Location) }
}

fn cards(asked: &SendContacts) -> Result<Vec<(String, String)>, Flaw> {
    if asked.contacts.is_empty() || asked.contacts.len() > CARDS {
        return Err(Flaw::Contacts);
    }
    let cards: Vec<_> = asked.contacts.iter().map(card).collect::<Result<_, _>>()?;
    let size: usize = cards.iter().map(|(_, card)| card.len()).sum();
    if size > ALL_CARDS { Err(Flaw::Contacts) } else { Ok(cards) }
}

/// A card's name and its vCard.
fn card(contact: &SendContact) -> Result<(String, String), Flaw> {
    let SendContact { display_name: name, phone, vcard } = contact;
    let is_number = (5..=15).contains(&phone.len()) && phone.chars().all(|c| c.is_ascii_digit());
    let card = match (phone.as_str(), vcard.as_str()) {
        (_, "") if is_number => {
            let name = escaped(name);
            format!(
                "BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\nTEL;type=CELL;waid={phone}:+{phone}\nEND:VCARD"
            )
        }
        ("", card) if card.trim_start().starts_with("BEGIN:VCARD") => card.to_owned(),
        _ => return Err(Flaw::Contacts),
    };
    if !visible::is_any(name) || name.len() > LINE || card.len() > CARD {
        return Err(Flaw::Contacts);
    }
    Ok((name.clone(), card))
}

/// A text inside a vCard's line (RFC 6350, 3.4).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ',' | ';' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

fn poll(asked: &SendPoll) -> Result<SendPoll, Flaw> {
    let (question, options) = (&asked.question, &asked.options);
    let shows = |text: &str, most: usize| visible::is_any(text) && text.chars().count() <= most;
    let count = options.len();
    // A vote names an option by its hash.
    let unique = options.iter().collect::<std::collections::HashSet<_>>().len() == count;
    let can_pick = usize::try_from(asked.selectable).is_ok_and(|most| most <= count);
    let legal = shows(question, QUESTION)
        && OPTIONS.contains(&count)
        && options.iter().all(|option| shows(option, OPTION))
        && unique
        && can_pick;
    if legal { Ok(asked.clone()) } else { Err(Flaw::Poll) }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
