//! Arguments → the request. Pure.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::file;
use crate::wire::ChatToken;
use crate::wire::v1::{
    SendContact, SendContacts, SendEdit, SendLocation, SendMedia, SendMediaKind, SendMessage, SendPoll,
    SendQuoted, SendReaction, SendRevoke, SendTarget, SendText, send_message::Content,
};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// --text
    Text,
    /// The emoji --text to the message --about or --about-request; without --text the reaction is taken back
    Reaction,
    /// --text in place of the words of the message --about or --about-request
    Edit,
    /// Takes the message --about or --about-request back
    Revoke,
    /// --latitude and --longitude, with --text as the place's name
    Location,
    /// The card of --text, a name, with --phone
    Contact,
    /// --text, a question, and --option for each option
    Poll,
    /// --file, a JPEG or PNG, with --caption
    Image,
    /// --file, an MP4, with --caption
    Video,
    /// --file, an MP4 that plays again and again, with --caption
    Gif,
    /// --file, an MP4 that is shown round
    VideoNote,
    /// --file with sound
    Audio,
    /// --file with Opus in Ogg, as a voice note
    Voice,
    /// --file of any sort, with --caption
    Document,
    /// --file, a WebP of 512 by 512 pixels
    Sticker,
}

impl Kind {
    /// As a file. `None`: it is none.
    pub(super) fn of_file(self) -> Option<SendMediaKind> {
        match self {
            Self::Image => Some(SendMediaKind::Image),
            Self::Video => Some(SendMediaKind::Video),
            Self::Gif => Some(SendMediaKind::Gif),
            Self::VideoNote => Some(SendMediaKind::VideoNote),
            Self::Audio => Some(SendMediaKind::Audio),
            Self::Voice => Some(SendMediaKind::Voice),
            Self::Document => Some(SendMediaKind::Document),
            Self::Sticker => Some(SendMediaKind::Sticker),
            _ => None,
        }
    }
}

/// The message.
#[derive(Debug, Args)]
pub(super) struct MessageArgs {
    /// To whom: a phone number in digits without `+`, or a JID.
    #[arg(long)]
    to: String,
    /// The kind of message. Without it: a text, or what the name of --file ends with.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// A file on this machine. It is put into the bucket of files, and the edge sends it, if it runs with MEDIA=all.
    #[arg(
        long,
        required_if_eq_any([
            ("kind", "image"), ("kind", "video"), ("kind", "gif"), ("kind", "video-note"), ("kind", "audio"),
            ("kind", "voice"), ("kind", "document"), ("kind", "sticker"),
        ])
    )]
    pub(super) file: Option<PathBuf>,
    /// What stands below an image, a video, a GIF or a document.
    #[arg(long, default_value = "", hide_default_value = true)]
    caption: String,
    /// The words.
    #[arg(long, default_value = "", hide_default_value = true)]
    text: String,
    /// The WhatsApp id of the message that this one is about; of a text, location, contact, poll or file: that it quotes.
    #[arg(long, default_value = "", hide_default_value = true)]
    about: String,
    /// In place of --about: the --id of the request that the message was sent with.
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "about")]
    about_request: String,
    /// The linked number has written the message --about.
    #[arg(long)]
    about_own: bool,
    /// In a group: who has written the message --about, as a phone number in digits or a JID. Not needed with --about-own or
    /// --about-request.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        requires = "about",
        conflicts_with = "about_own"
    )]
    author: String,
    /// Whom a text or a caption mentions; may be given several times. The text has `@` and the digits of each.
    #[arg(long = "mention")]
    mentions: Vec<String>,
    /// Of a location.
    #[arg(long, allow_negative_numbers = true, required_if_eq("kind", "location"))]
    latitude: Option<f64>,
    /// Of a location.
    #[arg(long, allow_negative_numbers = true, required_if_eq("kind", "location"))]
    longitude: Option<f64>,
    /// Of a contact: its number, in digits without `+`.
    #[arg(long, default_value = "", hide_default_value = true, required_if_eq("kind", "contact"))]
    phone: String,
    /// An option of a poll; given 2 to 12 times.
    #[arg(long = "option")]
    options: Vec<String>,
    /// How many options of a poll one person may pick; 0: all.
    #[arg(long, default_value_t = 1)]
    selectable: u32,
    /// It is not sent later than this time from now, such as 10m.
    #[arg(long, value_parser = humantime::parse_duration)]
    within: Option<Duration>,
}

impl MessageArgs {
    /// What is sent.
    pub(super) fn kind(&self) -> Kind {
        let guessed = || self.file.as_ref().map_or(Kind::Text, |path| file::kind(path).0);
        self.kind.unwrap_or_else(guessed)
    }

    /// The file that is sent, once it is in the bucket under this name.
    fn media(&self, kind: SendMediaKind, key: &str) -> Content {
        let path = self.file.clone().unwrap_or_default();
        let (usual, mime_type) = file::kind(&path);
        // What the name does not say, the kind does.
        let is_usual = usual.of_file() == Some(kind) || kind == SendMediaKind::Document;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Content::Media(SendMedia {
            key: key.to_owned(),
            kind: kind.into(),
            caption: self.caption.clone(),
            mime_type: if is_usual { mime_type.to_owned() } else { String::new() },
            file_name: if kind == SendMediaKind::Document { name.into_owned() } else { String::new() },
            ..SendMedia::default()
        })
    }

    /// The request, made at this time. `key` is the name of its file in the bucket.
    pub(super) fn request(&self, now_ms: i64, key: &str) -> SendMessage {
        let kind = self.kind();
        let content = match kind.of_file() {
            Some(file) => self.media(file, key),
            None => self.words(kind),
        };
        let is_about = matches!(kind, Kind::Reaction | Kind::Edit | Kind::Revoke);
        let names_one = !self.about.is_empty() || !self.about_request.is_empty();
        let quotes = names_one && !is_about;
        let within = self.within.map(|within| i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
        SendMessage {
            to: self.to.clone(),
            quoted_message_id: if is_about { String::new() } else { self.about.clone() },
            quoted: quotes.then(|| SendQuoted {
                request_id: self.about_request.clone(),
                from_me: self.about_own,
                author: self.author.clone(),
                ..SendQuoted::default()
            }),
            mentions: self.mentions.clone(),
            not_after_ms: within.map_or(0, |within| now_ms.saturating_add(within)),
            content: Some(content),
        }
    }

    /// What is sent, if it is no file.
    fn words(&self, kind: Kind) -> Content {
        let target = Some(SendTarget {
            message_id: self.about.clone(),
            request_id: self.about_request.clone(),
            from_me: self.about_own,
            author: self.author.clone(),
        });
        let text = self.text.clone();
        match kind {
            Kind::Reaction => Content::Reaction(SendReaction { target, emoji: text }),
            Kind::Edit => Content::Edit(SendEdit { target, body: text }),
            Kind::Revoke => Content::Revoke(SendRevoke { target }),
            Kind::Location => Content::Location(SendLocation {
                latitude: self.latitude.unwrap_or_default(),
                longitude: self.longitude.unwrap_or_default(),
                name: text,
                ..SendLocation::default()
            }),
            Kind::Contact => {
                let card =
                    SendContact { display_name: text, phone: self.phone.clone(), ..SendContact::default() };
                Content::Contacts(SendContacts { contacts: vec![card] })
            }
            Kind::Poll => Content::Poll(SendPoll {
                question: text,
                options: self.options.clone(),
                selectable: self.selectable,
            }),
            _ => Content::Text(SendText { body: text, ..Default::default() }),
        }
    }

    /// The chat with which the message is kept in order. `None`: `--to` is no number and no JID.
    pub(super) fn chat(&self) -> Option<ChatToken> {
        let is_number = |user: &str| !user.is_empty() && user.chars().all(|c| c.is_ascii_digit());
        match self.to.split_once('@') {
            None => is_number(&self.to).then(|| ChatToken::phone(&self.to)),
            Some((user, "s.whatsapp.net")) if is_number(user) => Some(ChatToken::phone(user)),
            Some((user, "lid")) if is_number(user) => Some(ChatToken::lid(user)),
            // Groups of earlier years have the number of who made them, and a time.
            Some((user, "g.us")) if is_number(&user.replacen('-', "", 1)) => Some(ChatToken::group(user)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        message: MessageArgs,
    }

    fn read(line: &[&str]) -> MessageArgs {
        let words = ["send", "--to", "54911"].iter().chain(line);
        Line::try_parse_from(words).expect("a message").message
    }

    #[test]
    fn the_chat_is_the_one_of_inbound_messages() {
        for (to, chat) in [
            ("5491112345678", Some("5491112345678")),
            ("5491112345678@s.whatsapp.net", Some("5491112345678")),
            ("987@lid", Some("lid-987")),
            ("+5491112345678", None),
            ("Ana", None),
            ("", None),
            ("120363@g.us", Some("group-120363")),
            ("54911-1600000000@g.us", Some("group-54911-1600000000")),
            ("5-4-3@g.us", None),
            ("status@broadcast", None),
        ] {
            let message = MessageArgs { to: to.to_owned(), ..read(&["--text", "a"]) };
            assert_eq!(message.chat().as_ref().map(ChatToken::as_str), chat, "{to}");
        }
    }

    #[test]
    fn what_a_message_is_about_is_its_target_or_what_it_quotes() {
        let edit = read(&["--kind", "edit", "--text", "Chau", "--about-request", "order-77"]).request(0, "");
        assert_eq!((edit.quoted_message_id.as_str(), edit.quoted.as_ref()), ("", None));
        let target = Some(SendTarget { request_id: "order-77".to_owned(), ..SendTarget::default() });
        assert_eq!(edit.content, Some(Content::Edit(SendEdit { target, body: "Chau".to_owned() })));
        let text =
            read(&["--text", "Chau", "--about", "3EB0", "--about-own", "--within", "10s"]).request(5, "");
        let quoted = SendQuoted { from_me: true, ..SendQuoted::default() };
        assert_eq!((text.quoted_message_id.as_str(), text.quoted), ("3EB0", Some(quoted)));
        assert_eq!(text.not_after_ms, 10_005);
        assert_eq!(read(&["--text", "Chau"]).request(5, "").not_after_ms, 0);
    }

    #[test]
    fn in_a_group_the_author_says_which_message_it_is() {
        let line = |kind: &[&str]| {
            let line = [kind, &["--text", "👍", "--about", "3EB0", "--author", "987@lid"]].concat();
            read(&line).request(0, "")
        };
        let Some(Content::Reaction(reaction)) = line(&["--kind", "reaction"]).content else { panic!() };
        let target = SendTarget {
            message_id: "3EB0".to_owned(),
            author: "987@lid".to_owned(),
            ..SendTarget::default()
        };
        assert_eq!(reaction.target, Some(target));
        assert_eq!(line(&[]).quoted.map(|quoted| quoted.author).as_deref(), Some("987@lid"));
        for bad in [
            ["--author", "987@lid", "--text", "a"].as_slice(),
            &["--about", "3EB0", "--about-own", "--author", "5"],
        ] {
            assert!(Line::try_parse_from(["send", "--to", "120363@g.us"].iter().chain(bad)).is_err());
        }
    }

    #[test]
    fn a_place_may_be_in_the_south() {
        let place =
            read(&["--kind", "location", "--latitude", "-34.6", "--longitude", "-58.4"]).request(0, "");
        let at = SendLocation { latitude: -34.6, longitude: -58.4, ..SendLocation::default() };
        assert_eq!(place.content, Some(Content::Location(at)));
        assert!(Line::try_parse_from(["send", "--to", "54911", "--kind", "location"]).is_err());
    }

    #[test]
    fn a_file_is_sent_as_its_name_says_or_as_the_operator_says() {
        let media = |line: &[&str]| match read(line).request(0, "sent/77").content {
            Some(Content::Media(media)) => media,
            other => panic!("{other:?}"),
        };
        let guessed = media(&["--file", "dir/menu.pdf", "--caption", "hoy"]);
        assert_eq!((guessed.kind(), guessed.key.as_str()), (SendMediaKind::Document, "sent/77"));
        assert_eq!((guessed.file_name.as_str(), guessed.caption.as_str()), ("menu.pdf", "hoy"));
        assert_eq!(guessed.mime_type, "application/pdf");
        let said = media(&["--file", "clip.mp4", "--kind", "gif"]);
        assert_eq!(
            (said.kind(), said.mime_type.as_str(), said.file_name.as_str()),
            (SendMediaKind::Gif, "", "")
        );
        let as_document = media(&["--file", "foto.jpg", "--kind", "document"]);
        assert_eq!(as_document.mime_type, "image/jpeg");
        assert!(Line::try_parse_from(["send", "--to", "54911", "--kind", "voice"]).is_err());
    }
}
