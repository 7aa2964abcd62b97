//! What a call says beside the words, with `BACKEND_FIELDS=full`. Pure.
//!
//! All of it is what the sender's phone wrote, in the bounds that it has on the bus. A backend that ignores what it does
//! not know keeps working.

use serde::Serialize;

use crate::wire::header::rfc3339_ms;
use crate::wire::kind;
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{self, ChatKind, Identity, InboundMessage, MediaState};

/// How many contacts, numbers of a contact, and options of a poll are told of.
const MOST: usize = 32;
/// The longest number that is told of. Phones write a third of it.
const NUMBER: usize = 64;
/// How many messages of a person are told of.
const WROTE: usize = 20;
/// So many characters of each.
const WORDS: usize = 1_000;
/// So many bytes of all.
const WROTE_BYTES: usize = 16 << 10;

/// What a call says beside the words.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct Full {
    /// The kind of message, as the header `Wa-Kind` names it.
    pub kind: &'static str,
    /// The operator's name of the number that it was sent to.
    pub account: String,
    /// The text was spoken, and a service has written it down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub transcribed: bool,
    /// The ids of the messages before it whose texts are in its text, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<String>,
    /// The message that it quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoted: Option<Quoted>,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<File>,
    /// The place that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The people in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Contact>,
    /// The poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// The event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// The order from the number's catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The product of a catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<Product>,
    /// What a person of the number wrote in the chat since the last call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
}

/// What a person of the number wrote while the assistant was silent.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Person {
    /// The newest messages, in order.
    pub messages: Vec<PersonWrote>,
    /// There were more, or longer ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// A message of a person of the number.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct PersonWrote {
    /// The kind of message.
    pub kind: &'static str,
    /// Its words; empty if it has none.
    pub text: String,
    /// When it was written: UTC with milliseconds and `Z`.
    pub timestamp: String,
    #[serde(skip)]
    is_cut: bool,
}

impl PersonWrote {
    /// What there is to say of it.
    pub fn of(message: &InboundMessage, words: Option<&str>) -> Self {
        let words = words.unwrap_or_default();
        let text: String = words.chars().take(WORDS).collect();
        Self {
            kind: message.content.as_ref().map_or("", kind::field),
            is_cut: text.len() < words.len(),
            text,
            timestamp: rfc3339_ms(message.sent_at_ms),
        }
    }
}

impl Person {
    /// The newest of these messages. `None`: there are none.
    pub fn of(
        wrote: impl IntoIterator<Item = PersonWrote, IntoIter: DoubleEndedIterator>,
        more: bool,
    ) -> Option<Self> {
        let (mut messages, mut bytes, mut cut) = (Vec::new(), 0, more);
        for one in wrote.into_iter().rev() {
            bytes += one.text.len();
            if messages.len() == WROTE || bytes > WROTE_BYTES {
                cut = true;
                break;
            }
            cut |= one.is_cut;
            messages.push(one);
        }
        messages.reverse();
        (!messages.is_empty()).then_some(Self { messages, cut })
    }
}

/// A message that is quoted.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Quoted {
    /// Its WhatsApp id.
    pub id: String,
    /// Its words, as the writer's phone has them.
    pub text: String,
    /// Did this number write it? `None`: that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_us: Option<bool>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Files are not fetched.
    #[default]
    Off,
    /// It is still being fetched.
    Pending,
    /// It is in the bucket.
    Stored,
    /// It will not be there.
    Failed,
}

/// A file.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct File {
    /// What became of it, as far as known.
    pub state: State,
    /// Why it will not be there, as a code.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it is, in the sender's words.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub mime_type: String,
    /// Its size in bytes: the sender's word until it is stored.
    pub size: u64,
    /// Its name, in the sender's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file_name: String,
    /// How long it plays, in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds: u32,
    /// It was spoken in the chat.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub voice: bool,
    /// The bucket that it is in, or will be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bucket: String,
    /// Its name there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Its SHA-256 in hex, once it is stored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Where it can be fetched for a while.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
}

/// A place.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct Location {
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// It is where the person was when the sharing began.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
}

/// A person of an address book.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Contact {
    /// The name.
    pub name: String,
    /// The numbers, as they are written there.
    pub phones: Vec<String>,
}

/// A poll.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Poll {
    /// What is asked.
    pub question: String,
    /// What can be picked.
    pub options: Vec<String>,
}

/// An event.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// What is said of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it begins: UTC with milliseconds and `Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<String>,
}

/// An order.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// How many things are in it.
    pub item_count: u32,
    /// The total in thousandths of the currency's unit.
    pub total_thousandths: i64,
    /// Three letters.
    pub currency: String,
}

/// A product.
#[derive(Debug, Clone, Default, Serialize, PartialEq, Eq)]
pub struct Product {
    /// Its id in the catalogue.
    pub id: String,
    /// Its name.
    pub title: String,
    /// In thousandths of the currency's unit.
    pub price_thousandths: i64,
    /// Three letters.
    pub currency: String,
}

impl Full {
    /// What there is to say of this message beside its words.
    pub fn of(message: &InboundMessage) -> Self {
        let Some(content) = &message.content else { return Self::default() };
        let mut full = Self {
            kind: kind::field(content),
            account: message.account.clone(),
            quoted: quoted(message),
            ..Self::default()
        };
        match content {
            Content::Image(media)
            | Content::Video(media)
            | Content::Audio(media)
            | Content::Document(media)
            | Content::Sticker(media) => full.media = Some(File::of(media)),
            Content::Location(place) => full.location = Location::of(place),
            Content::Contacts(contacts) => full.contacts = people(contacts),
            Content::Poll(poll) => {
                let options = poll.options.iter().take(MOST).cloned().collect();
                full.poll = Some(Poll { question: poll.question.clone(), options });
            }
            Content::Event(event) => {
                full.event = Some(Event {
                    name: event.name.clone(),
                    description: event.description.clone(),
                    starts_at: (event.starts_at_ms > 0).then(|| rfc3339_ms(event.starts_at_ms)),
                });
            }
            Content::Order(order) => {
                full.order = Some(Order {
                    id: order.order_id.clone(),
                    item_count: order.item_count,
                    total_thousandths: order.total_thousandths,
                    currency: order.currency.clone(),
                });
            }
            Content::Product(product) => {
                full.product = Some(Product {
                    id: product.product_id.clone(),
                    title: product.title.clone(),
                    price_thousandths: product.price_thousandths,
                    currency: product.currency.clone(),
                });
            }
            _ => {}
        }
        full
    }
}

impl File {
    fn of(media: &v1::Media) -> Self {
        let state = match media.state() {
            MediaState::Unspecified => State::Off,
            MediaState::Pending => State::Pending,
            MediaState::Stored => State::Stored,
            MediaState::Failed => State::Failed,
        };
        Self {
            state,
            reason: media.reason.clone(),
            mime_type: media.mime_type.clone(),
            size: media.size_bytes,
            file_name: media.file_name.clone(),
            seconds: media.seconds,
            voice: media.voice,
            ..Self::default()
        }
    }

    /// The file will be, or is, in this bucket under this name. `result` is what became of it, if that is known.
    pub fn found(&mut self, bucket: &str, key: &str, result: Option<&v1::MediaResult>) {
        let Some(result) = result else {
            (self.bucket, self.key) = (bucket.to_owned(), key.to_owned());
            return;
        };
        if result.state() != MediaState::Stored {
            (self.state, self.reason) = (State::Failed, result.reason.clone());
            return;
        }
        self.state = State::Stored;
        (self.bucket, self.key) = (result.bucket.clone(), result.key.clone());
        self.size = result.size_bytes;
        self.sha256 = result.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    }
}

impl Location {
    /// `None`: it is nowhere. JSON has no such numbers.
    fn of(place: &v1::Location) -> Option<Self> {
        let is_somewhere = place.latitude.is_finite() && place.longitude.is_finite();
        is_somewhere.then(|| Self {
            latitude: place.latitude,
            longitude: place.longitude,
            name: place.name.clone(),
            address: place.address.clone(),
            live: place.live,
        })
    }
}

fn quoted(message: &InboundMessage) -> Option<Quoted> {
    let id = Some(message.quoted_message_id.clone()).filter(|id| !id.is_empty())?;
    let quoted = message.context.as_ref().and_then(|context| context.quoted.as_ref());
    let author = quoted.and_then(|quoted| quoted.author.as_ref());
    // In a chat of two, whoever is not the one is the other.
    let is_same = author.zip(message.sender.as_ref()).and_then(|(author, sender)| same(author, sender));
    let from_us = is_same
        .filter(|_| message.chat_kind() == ChatKind::Direct)
        .map(|is_senders| is_senders == message.from_me);
    Some(Quoted { id, text: quoted.map(|quoted| quoted.text.clone()).unwrap_or_default(), from_us })
}

/// Are they one person? `None`: they are known by different addresses.
fn same(one: &Identity, other: &Identity) -> Option<bool> {
    let compared = |one: &str, other: &str| (!one.is_empty() && !other.is_empty()).then(|| one == other);
    compared(&one.phone, &other.phone).or_else(|| compared(&one.lid, &other.lid))
}

fn people(contacts: &v1::Contacts) -> Vec<Contact> {
    let count = contacts.display_names.len().max(contacts.vcards.len()).min(MOST);
    (0..count)
        .map(|at| Contact {
            name: contacts.display_names.get(at).cloned().unwrap_or_default(),
            phones: contacts.vcards.get(at).map(|card| phones(card)).unwrap_or_default(),
        })
        .collect()
}

/// The numbers of a vCard: the values of its `TEL` lines. Phones write `item1.TEL;waid=54911…:+54 9 11 …`.
fn phones(card: &str) -> Vec<String> {
    let number = |line: &str| {
        let (property, value) = line.trim_end().split_once(':')?;
        let name = property.split(';').next().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default();
        let value = value.trim();
        let is_number = name.eq_ignore_ascii_case("TEL") && !value.is_empty() && value.len() <= NUMBER;
        // As an address: `tel:+54…`.
        let value = value.strip_prefix("tel:").unwrap_or(value);
        is_number.then(|| value.to_owned())
    };
    card.lines().filter_map(number).take(MOST).collect()
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
#[path = "full_tests.rs"]
mod tests;
