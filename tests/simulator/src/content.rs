//! What a message says: building the ones customers send, reading the ones phones receive.

use buffa::MessageField;
use serde::{Deserialize, Serialize};
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp::{self as wa, message};

use crate::ids::Blob;
use crate::media::Opened;
use crate::timers;

/// The kinds of message a simulated customer can send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Plain text.
    #[default]
    Text,
    /// A picture; the text is its caption. Without a file it cannot be loaded.
    Image,
    /// A video; the text is its caption. It needs a file, as the next three do.
    Video,
    /// A piece of sound.
    Audio,
    /// A voice note.
    Voice,
    /// A document; the text is its caption.
    Document,
    /// A sticker; the text is ignored.
    Sticker,
    /// A place; the text is its name.
    Location,
    /// A reaction; the text is the emoji.
    Reaction,
    /// The chat's disappearing timer is set; the text is its seconds.
    Timer,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Text,
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Voice,
        Self::Document,
        Self::Sticker,
        Self::Location,
        Self::Reaction,
    ];

    /// Is it nothing without a file?
    pub(crate) fn needs_a_file(self) -> bool {
        matches!(self, Self::Video | Self::Audio | Self::Voice | Self::Document)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Voice => "voice",
            Self::Document => "document",
            Self::Sticker => "sticker",
            Self::Location => "location",
            Self::Reaction => "reaction",
            Self::Timer => "timer",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The `type` of the stanza that carries this kind.
    pub(crate) fn stanza_type(self) -> &'static str {
        match self {
            Self::Text | Self::Location | Self::Timer => "text",
            Self::Image | Self::Video | Self::Audio | Self::Voice | Self::Document | Self::Sticker => "media",
            Self::Reaction => "reaction",
        }
    }

    /// The `mediatype` of the encrypted part.
    pub(crate) fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Image => Some("image"),
            Self::Video => Some("video"),
            Self::Audio => Some("audio"),
            Self::Voice => Some("ptt"),
            Self::Document => Some("document"),
            Self::Sticker => Some("sticker"),
            Self::Text | Self::Location | Self::Reaction | Self::Timer => None,
        }
    }
}

/// The message a customer sends. `reacts_to` is the id of the message a reaction is about, and
/// whether the customer wrote it.
pub(crate) fn compose(kind: Kind, text: &str, reacts_to: Option<(&str, bool)>) -> wa::Message {
    let mut message = wa::Message::default();
    match kind {
        Kind::Timer => return timers::setting(text.parse().unwrap_or(0)),
        Kind::Text => message.conversation = Some(text.to_owned()),
        // What a file is in comes as it is (`media`).
        Kind::Video | Kind::Audio | Kind::Voice | Kind::Document => {}
        Kind::Image => {
            message.image_message = MessageField::some(message::ImageMessage {
                url: Some("https://mmg.whatsapp.net/simulated".to_owned()),
                direct_path: Some("/v/simulated".to_owned()),
                mimetype: Some("image/jpeg".to_owned()),
                caption: (!text.is_empty()).then(|| text.to_owned()),
                file_sha256: Some(vec![1; 32]),
                file_enc_sha256: Some(vec![2; 32]),
                media_key: Some(vec![3; 32]),
                file_length: Some(1024),
                height: Some(16),
                width: Some(16),
                ..Default::default()
            });
        }
        Kind::Sticker => {
            message.sticker_message = MessageField::some(message::StickerMessage {
                url: Some("https://mmg.whatsapp.net/simulated".to_owned()),
                direct_path: Some("/v/simulated".to_owned()),
                mimetype: Some("image/webp".to_owned()),
                file_sha256: Some(vec![1; 32]),
                file_enc_sha256: Some(vec![2; 32]),
                media_key: Some(vec![3; 32]),
                file_length: Some(1024),
                ..Default::default()
            });
        }
        Kind::Location => {
            message.location_message = MessageField::some(message::LocationMessage {
                degrees_latitude: Some(-34.6037),
                degrees_longitude: Some(-58.3816),
                name: (!text.is_empty()).then(|| text.to_owned()),
                ..Default::default()
            });
        }
        Kind::Reaction => {
            let key = reacts_to.map(|(id, from_me)| wa::MessageKey {
                id: Some(id.to_owned()),
                from_me: Some(from_me),
                ..Default::default()
            });
            message.reaction_message = MessageField::some(message::ReactionMessage {
                key: key.into(),
                text: Some(if text.is_empty() { "👍" } else { text }.to_owned()),
                ..Default::default()
            });
        }
    }
    message
}

/// A choice that a received message offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Choice {
    /// What the choice is called by the sender.
    pub(crate) id: String,
    /// What the person sees.
    pub(crate) title: String,
    /// It is in a list that a button opens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) row: bool,
}

/// What a received message says, for the inbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// `text`, `buttons`, `list`, `image`, …; `other` for what has no name here.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) choices: Vec<Choice>,
    /// The id of the message that this one quotes, edits, revokes or reacts to.
    pub(crate) about: Option<String>,
    /// The disappearing timer that it carries, in seconds.
    pub(crate) expires_s: Option<u32>,
    /// What else it says.
    pub(crate) more: More,
}

/// What only some messages say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct More {
    /// The words of the message that it quotes, and who has written them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quoted: Option<Quoted>,
    /// The addresses of those whom it mentions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mentions: Vec<String>,
    /// Of what it reacts to, edits or revokes: its sender has written that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about_own: Option<bool>,
    /// Latitude and longitude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_degrees: Option<[f64; 2]>,
    /// The file that it names, decrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Opened>,
    /// The group in which it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// A poll's secret, with which votes on it are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Blob>,
}

/// A quoted message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quoted {
    pub(crate) author: String,
    pub(crate) text: String,
}

impl Reading {
    fn of(kind: &'static str, text: Option<&str>) -> Self {
        Self { kind, text: text.unwrap_or_default().to_owned(), ..Default::default() }
    }
}

/// Reads a message, wrappers peeled; `None` if there is nothing for a person in it.
pub(crate) fn read(message: &wa::Message) -> Option<Reading> {
    let base = message.get_base_message();
    if let Some(text) = base.conversation.as_deref().filter(|t| !t.is_empty()) {
        return Some(Reading::of("text", Some(text)));
    }
    if let Some(m) = base.extended_text_message.as_option() {
        let reading = Reading::of("text", m.text.as_deref());
        return Some(quoting(reading, m.context_info.as_option()));
    }
    if let Some(m) = base.protocol_message.as_option() {
        return read_protocol(m);
    }
    if let Some(m) = base.reaction_message.as_option() {
        let mut reading = Reading::of("reaction", m.text.as_deref());
        reading.about = m.key.as_option().and_then(|key| key.id.clone());
        reading.more.about_own = m.key.as_option().and_then(|key| key.from_me);
        return Some(reading);
    }
    if let Some(m) = poll(base) {
        let mut reading = Reading::of("poll", m.name.as_deref());
        let names = m.options.iter().enumerate();
        reading.choices.extend(names.map(|(place, option)| Choice {
            id: (place + 1).to_string(),
            title: option.option_name.clone().unwrap_or_default(),
            row: false,
        }));
        let beside = base.message_context_info.as_option();
        reading.more.secret = beside.and_then(|beside| beside.message_secret.clone()).map(Blob);
        return Some(quoting(reading, m.context_info.as_option()));
    }
    read_choices(base).or_else(|| read_media(base)).or_else(|| anything_else(base))
}

fn poll(base: &wa::Message) -> Option<&message::PollCreationMessage> {
    let polls = [&base.poll_creation_message, &base.poll_creation_message_v2, &base.poll_creation_message_v3];
    polls.into_iter().find_map(|poll| poll.as_option())
}

fn quoting(mut reading: Reading, context: Option<&wa::ContextInfo>) -> Reading {
    let Some(context) = context else { return reading };
    reading.about = context.stanza_id.clone();
    reading.more.mentions = context.mentioned_jid.clone();
    reading.more.quoted = context.quoted_message.as_option().map(|quoted| Quoted {
        author: context.participant.clone().unwrap_or_default(),
        text: read(quoted).map(|quoted| quoted.text).unwrap_or_default(),
    });
    reading
}

fn read_protocol(m: &message::ProtocolMessage) -> Option<Reading> {
    use message::protocol_message::Type;
    let about = m.key.as_option().and_then(|key| key.id.clone());
    let own = m.key.as_option().and_then(|key| key.from_me);
    let mut reading = match m.r#type {
        Some(Type::REVOKE) => Reading::of("revoke", None),
        Some(Type::MESSAGE_EDIT) => {
            let edited = m.edited_message.as_option().and_then(read);
            Reading::of("edit", edited.as_ref().map(|edited| edited.text.as_str()))
        }
        _ => return None,
    };
    reading.about = about;
    reading.more.about_own = own;
    Some(reading)
}

fn choice(id: Option<&str>, title: Option<&str>) -> Choice {
    Choice { id: id.unwrap_or_default().to_owned(), title: title.unwrap_or_default().to_owned(), row: false }
}

fn read_choices(base: &wa::Message) -> Option<Reading> {
    if let Some(m) = base.buttons_message.as_option() {
        let mut reading = Reading::of("buttons", m.content_text.as_deref());
        for button in &m.buttons {
            let title = button.button_text.as_option();
            let title = title.and_then(|text| text.display_text.as_deref());
            reading.choices.push(choice(button.button_id.as_deref(), title));
        }
        return Some(quoting(reading, m.context_info.as_option()));
    }
    if let Some(m) = base.list_message.as_option() {
        let text = m.description.as_deref().or(m.title.as_deref());
        let mut reading = Reading::of("list", text);
        for row in m.sections.iter().flat_map(|section| &section.rows) {
            reading.choices.push(choice(row.row_id.as_deref(), row.title.as_deref()));
        }
        return Some(quoting(reading, m.context_info.as_option()));
    }
    if let Some(m) = base.interactive_message.as_option() {
        let body = m.body.as_option().and_then(|body| body.text.as_deref());
        let mut reading = Reading::of("interactive", body);
        if let Some(message::interactive_message::InteractiveMessage::NativeFlowMessage(flow)) =
            &m.interactive_message
        {
            reading.choices.extend(flow.buttons.iter().flat_map(offered));
        }
        return Some(quoting(reading, m.context_info.as_option()));
    }
    None
}

/// What a button of a native flow offers: itself, or the rows of the list that it opens. What a phone cannot show is not there.
fn offered(button: &message::interactive_message::native_flow_message::NativeFlowButton) -> Vec<Choice> {
    let parameters = button.button_params_json.as_deref().unwrap_or_default();
    let parameters: serde_json::Value = serde_json::from_str(parameters).unwrap_or_default();
    let text = |value: &serde_json::Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    match button.name.as_deref() {
        Some("quick_reply") => {
            vec![Choice { id: text(&parameters, "id"), title: text(&parameters, "display_text"), row: false }]
        }
        Some("single_select") => {
            let sections = parameters["sections"].as_array().into_iter().flatten();
            let rows = sections.flat_map(|section| section["rows"].as_array().into_iter().flatten());
            rows.map(|row| Choice { id: text(row, "id"), title: text(row, "title"), row: true }).collect()
        }
        _ => Vec::new(),
    }
}

/// The answer of a phone on which a choice of this message was tapped.
pub(crate) fn tapped(id: &str, author: String, picked: &Choice) -> wa::Message {
    use message::interactive_response_message::{
        Body, InteractiveResponseMessage as Response, NativeFlowResponseMessage,
    };
    let name = if picked.row { "menu_options" } else { "quick_reply" };
    let flow = NativeFlowResponseMessage {
        name: Some(name.to_owned()),
        params_json: Some(serde_json::json!({"id": picked.id, "title": picked.title}).to_string()),
        version: Some(1),
    };
    let context =
        wa::ContextInfo { stanza_id: Some(id.to_owned()), participant: Some(author), ..Default::default() };
    let response = message::InteractiveResponseMessage {
        body: MessageField::some(Body { text: Some(picked.title.clone()), ..Default::default() }),
        interactive_response_message: Some(Response::NativeFlowResponseMessage(Box::new(flow))),
        context_info: MessageField::some(context),
    };
    wa::Message { interactive_response_message: MessageField::some(response), ..Default::default() }
}

fn read_media(base: &wa::Message) -> Option<Reading> {
    if let Some(m) = base.image_message.as_option() {
        let reading = Reading::of("image", m.caption.as_deref());
        return Some(quoting(reading, m.context_info.as_option()));
    }
    if let Some(m) = base.video_message.as_option() {
        let kind = if m.gif_playback == Some(true) { "gif" } else { "video" };
        return Some(quoting(Reading::of(kind, m.caption.as_deref()), m.context_info.as_option()));
    }
    if let Some(m) = base.ptv_message.as_option() {
        return Some(quoting(Reading::of("video_note", None), m.context_info.as_option()));
    }
    if let Some(m) = base.document_message.as_option() {
        let text = m.caption.as_deref().or(m.file_name.as_deref());
        return Some(quoting(Reading::of("document", text), m.context_info.as_option()));
    }
    if let Some(m) = base.audio_message.as_option() {
        let kind = if m.ptt == Some(true) { "voice" } else { "audio" };
        return Some(quoting(Reading::of(kind, None), m.context_info.as_option()));
    }
    if let Some(m) = base.sticker_message.as_option() {
        return Some(quoting(Reading::of("sticker", None), m.context_info.as_option()));
    }
    if let Some(m) = base.location_message.as_option() {
        let mut reading = Reading::of("location", m.name.as_deref());
        reading.more.at_degrees = m.degrees_latitude.zip(m.degrees_longitude).map(<[f64; 2]>::from);
        return Some(quoting(reading, m.context_info.as_option()));
    }
    if let Some(m) = base.contact_message.as_option() {
        let mut reading = Reading::of("contact", m.display_name.as_deref());
        reading.choices.push(choice(m.vcard.as_deref(), m.display_name.as_deref()));
        return Some(quoting(reading, m.context_info.as_option()));
    }
    if let Some(m) = base.contacts_array_message.as_option() {
        let mut reading = Reading::of("contacts", m.display_name.as_deref());
        for card in &m.contacts {
            reading.choices.push(choice(card.vcard.as_deref(), card.display_name.as_deref()));
        }
        return Some(quoting(reading, m.context_info.as_option()));
    }
    None
}

/// Something for a person that has no name here; nothing if the message is only bookkeeping.
fn anything_else(base: &wa::Message) -> Option<Reading> {
    let mut rest = base.clone();
    rest.message_context_info = MessageField::none();
    rest.sender_key_distribution_message = MessageField::none();
    (rest != wa::Message::default()).then(|| Reading::of("other", None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_customer_composes_reads_as_its_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
            if kind.needs_a_file() {
                continue;
            }
            let reading = read(&compose(kind, "hola", Some(("ID", true))));
            assert_eq!(reading.map(|r| r.kind), Some(kind.name()), "{kind:?}");
        }
        assert_eq!(Kind::parse("fax"), None);
    }

    #[test]
    fn buttons_are_read_with_their_choices_inside_a_wrapper() {
        use message::buttons_message::{Button, button::ButtonText};
        let buttons = message::ButtonsMessage {
            content_text: Some("¿Qué hora?".to_owned()),
            buttons: vec![Button {
                button_id: Some("1".to_owned()),
                button_text: MessageField::some(ButtonText { display_text: Some("Las dos".to_owned()) }),
                ..Default::default()
            }],
            ..Default::default()
        };
        let inner = wa::Message { buttons_message: MessageField::some(buttons), ..Default::default() };
        let wrapped = wa::Message {
            view_once_message: MessageField::some(message::FutureProofMessage {
                message: MessageField::some(inner),
            }),
            ..Default::default()
        };
        let reading = read(&wrapped).unwrap_or_default();
        assert_eq!(reading.kind, "buttons");
        assert_eq!(reading.text, "¿Qué hora?");
        assert_eq!(reading.choices, [choice(Some("1"), Some("Las dos"))]);
    }

    #[test]
    fn a_native_flow_is_read_as_what_can_be_tapped() {
        use message::interactive_message::{
            InteractiveMessage as Flow, NativeFlowMessage, native_flow_message::NativeFlowButton,
        };
        let button = |name: &str, parameters: &str| NativeFlowButton {
            name: Some(name.to_owned()),
            button_params_json: Some(parameters.to_owned()),
        };
        let flow = NativeFlowMessage {
            buttons: vec![
                button("quick_reply", r#"{"id":"y","display_text":"Sí"}"#),
                button("quick_reply", "no JSON"),
                button("cta_url", "{}"),
                button("single_select", r#"{"sections":[{"rows":[{"id":"r2","title":"Mesa de dos"}]}]}"#),
            ],
            ..Default::default()
        };
        let menu = message::InteractiveMessage {
            interactive_message: Some(Flow::NativeFlowMessage(Box::new(flow))),
            ..Default::default()
        };
        let message = wa::Message { interactive_message: MessageField::some(menu), ..Default::default() };
        let reading = read(&message).unwrap_or_default();
        let row = Choice { row: true, ..choice(Some("r2"), Some("Mesa de dos")) };
        assert_eq!(reading.kind, "interactive");
        assert_eq!(reading.choices, [choice(Some("y"), Some("Sí")), choice(None, None), row]);
    }

    #[test]
    fn bookkeeping_is_not_shown() {
        assert_eq!(read(&wa::Message::default()), None);
        let only_context = wa::Message {
            message_context_info: MessageField::some(wa::MessageContextInfo {
                message_secret: Some(vec![1; 32]),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(read(&only_context), None);
    }
}
