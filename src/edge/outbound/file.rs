//! A file that is asked for, checked, and WhatsApp's message for it. Pure.

use whatsapp_rust::prelude::{MessageField, wa};

use super::request::Flaw;
use crate::edge::session::{FileKind, Uploaded};
use crate::wire::object;
use crate::wire::v1::{SendMedia, SendMediaKind as Kind};

/// The longest name of an object, in bytes.
const KEY: usize = 1_024;
/// The longest caption, in characters. Phones write no longer one.
const CAPTION: usize = 1_024;
/// The longest type and the longest name of a file, in bytes.
const TYPE: usize = 128;
const NAME: usize = 255;
/// How many values the picture of a voice note has, and the largest of them.
const WAVEFORM: usize = 64;
const LOUDEST: u8 = 100;
/// The longest small picture, in bytes, and how a JPEG begins.
const THUMBNAIL: usize = 16_384;
const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];

/// A file that WhatsApp has, for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    /// The file.
    pub file: Uploaded,
    /// What it is.
    pub mime_type: String,
}

/// What is asked for, if a phone could show it.
pub(super) fn checked(asked: &SendMedia) -> Result<SendMedia, Flaw> {
    let kind = asked.kind();
    let line = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
    let named = (asked.bucket.is_empty() || object::is_bucket(&asked.bucket))
        && !asked.key.is_empty()
        && line(&asked.key, KEY);
    let typed = asked.mime_type.is_empty() || asked.mime_type.contains('/');
    let waves = asked.waveform.is_empty()
        || (kind == Kind::Voice
            && asked.waveform.len() <= WAVEFORM
            && asked.waveform.iter().all(|value| *value <= LOUDEST));
    let thumbnail = asked.thumbnail.is_empty()
        || (has_caption(kind) && asked.thumbnail.len() <= THUMBNAIL && asked.thumbnail.starts_with(&JPEG));
    let is_file = named
        && kind != Kind::Unspecified
        && typed
        && line(&asked.mime_type, TYPE)
        && line(&asked.file_name, NAME)
        && waves
        && thumbnail;
    let captioned =
        asked.caption.is_empty() || (has_caption(kind) && asked.caption.chars().count() <= CAPTION);
    match (is_file, captioned) {
        (false, _) => Err(Flaw::Media),
        (true, false) => Err(Flaw::Caption),
        (true, true) => Ok(asked.clone()),
    }
}

/// May words stand below it?
pub(super) fn has_caption(kind: Kind) -> bool {
    matches!(kind, Kind::Image | Kind::Video | Kind::Gif | Kind::Document)
}

/// The kind, in one word.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Video => "video",
        Kind::Gif => "gif",
        Kind::VideoNote => "video-note",
        Kind::Audio => "audio",
        Kind::Voice => "voice",
        Kind::Document | Kind::Unspecified => "document",
        Kind::Sticker => "sticker",
    }
}

/// What it is, as far as its key depends on it.
pub(super) fn class(kind: Kind) -> FileKind {
    match kind {
        Kind::Image | Kind::Sticker => FileKind::Image,
        Kind::Video | Kind::Gif | Kind::VideoNote => FileKind::Video,
        Kind::Audio | Kind::Voice => FileKind::Audio,
        Kind::Document | Kind::Unspecified => FileKind::Document,
    }
}

/// What the file is: what the request says, or the object, or what is usual.
pub(super) fn mime_type(asked: &SendMedia, object: &str) -> String {
    let usual = match asked.kind() {
        Kind::Image => "image/jpeg",
        Kind::Video | Kind::Gif | Kind::VideoNote => "video/mp4",
        Kind::Audio => "audio/mpeg",
        Kind::Voice => "audio/ogg; codecs=opus",
        Kind::Document | Kind::Unspecified => "application/octet-stream",
        Kind::Sticker => "image/webp",
    };
    let said = [&asked.mime_type, object, usual];
    said.into_iter().find(|said| !said.is_empty()).unwrap_or(usual).to_owned()
}

/// A part of a message that names a file.
macro_rules! part {
    ($part:ident, $ready:expr, $at_ms:expr, $context:expr, { $($field:ident: $value:expr),* $(,)? }) => {{
        let Ready { file, mime_type } = $ready;
        MessageField::some(wa::message::$part {
            url: Some(file.url.clone()).filter(|url| !url.is_empty()),
            direct_path: Some(file.path.clone()),
            mimetype: Some(mime_type.clone()),
            media_key: Some(file.key.to_vec()),
            // Of the request: the same in each copy of the message.
            media_key_timestamp: Some($at_ms / 1_000),
            file_sha256: Some(file.sha256.to_vec()),
            file_enc_sha256: Some(file.sealed_sha256.to_vec()),
            file_length: Some(file.size),
            context_info: $context,
            $($field: $value,)*
            ..Default::default()
        })
    }};
}

/// WhatsApp's message.
pub(super) fn message(
    asked: &SendMedia,
    ready: &Ready,
    context: MessageField<wa::ContextInfo>,
    at_ms: i64,
) -> wa::Message {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let bytes = |bytes: &[u8]| Some(bytes.to_vec()).filter(|bytes| !bytes.is_empty());
    let number = |number: u32| Some(number).filter(|number| *number > 0);
    let (seconds, width, height) = (number(asked.seconds), number(asked.width), number(asked.height));
    let (caption, thumbnail) = (text(&asked.caption), bytes(&asked.thumbnail));
    let sidecar = bytes(&ready.file.sidecar);
    let kind = asked.kind();
    let mut message = wa::Message::default();
    match kind {
        Kind::Image => {
            message.image_message = part!(ImageMessage, ready, at_ms, context, {
                caption: caption, jpeg_thumbnail: thumbnail, width: width, height: height,
            });
        }
        Kind::Video | Kind::Gif | Kind::VideoNote => {
            let video = part!(VideoMessage, ready, at_ms, context, {
                caption: caption,
                jpeg_thumbnail: thumbnail,
                seconds: seconds,
                width: width,
                height: height,
                gif_playback: (kind == Kind::Gif).then_some(true),
                streaming_sidecar: sidecar,
            });
            if kind == Kind::VideoNote {
                message.ptv_message = video;
            } else {
                message.video_message = video;
            }
        }
        Kind::Audio | Kind::Voice => {
            message.audio_message = part!(AudioMessage, ready, at_ms, context, {
                seconds: seconds,
                ptt: Some(kind == Kind::Voice),
                waveform: bytes(&asked.waveform),
                streaming_sidecar: sidecar,
            });
        }
        Kind::Sticker => {
            message.sticker_message = part!(StickerMessage, ready, at_ms, context, {
                width: width, height: height, is_animated: Some(ready.file.is_animated),
            });
        }
        Kind::Document | Kind::Unspecified => {
            let name = match asked.file_name.as_str() {
                "" => asked.key.rsplit('/').next().unwrap_or(&asked.key),
                name => name,
            };
            message.document_message = part!(DocumentMessage, ready, at_ms, context, {
                caption: caption, jpeg_thumbnail: thumbnail, file_name: text(name), title: text(name),
            });
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: Kind) -> SendMedia {
        SendMedia { key: "menus/menu.pdf".to_owned(), kind: kind.into(), ..SendMedia::default() }
    }

    #[test]
    fn what_no_phone_could_show_is_refused() {
        let with = |change: fn(&mut SendMedia), kind| {
            let mut asked = asked(kind);
            change(&mut asked);
            checked(&asked).err()
        };
        type Row = (Kind, fn(&mut SendMedia), Option<Flaw>);
        let rows: [Row; 22] = [
            (Kind::Image, |_| {}, None),
            (Kind::Unspecified, |_| {}, Some(Flaw::Media)),
            (Kind::Image, |a| a.kind = 99, Some(Flaw::Media)),
            (Kind::Image, |a| a.key.clear(), Some(Flaw::Media)),
            (Kind::Image, |a| a.key = "x".repeat(KEY), None),
            (Kind::Image, |a| a.key = "x".repeat(KEY + 1), Some(Flaw::Media)),
            (Kind::Image, |a| a.bucket = "MENUS".to_owned(), None),
            (Kind::Image, |a| a.bucket = "a.>".to_owned(), Some(Flaw::Media)),
            (Kind::Image, |a| a.mime_type = "image/png".to_owned(), None),
            (Kind::Image, |a| a.mime_type = "png".to_owned(), Some(Flaw::Media)),
            (Kind::Image, |a| a.mime_type = "image/png\r\n".to_owned(), Some(Flaw::Media)),
            (Kind::Document, |a| a.file_name = "a\nb".to_owned(), Some(Flaw::Media)),
            (Kind::Voice, |a| a.waveform = vec![LOUDEST; WAVEFORM], None),
            (Kind::Voice, |a| a.waveform = vec![LOUDEST + 1], Some(Flaw::Media)),
            (Kind::Voice, |a| a.waveform = vec![0; WAVEFORM + 1], Some(Flaw::Media)),
            (Kind::Audio, |a| a.waveform = vec![0], Some(Flaw::Media)),
            (Kind::Image, |a| a.thumbnail = JPEG.to_vec(), None),
            (Kind::Image, |a| a.thumbnail = b"GIF89a".to_vec(), Some(Flaw::Media)),
            (Kind::Voice, |a| a.thumbnail = JPEG.to_vec(), Some(Flaw::Media)),
            (Kind::Image, |a| a.caption = "ñ".repeat(CAPTION), None),
            (Kind::Image, |a| a.caption = "ñ".repeat(CAPTION + 1), Some(Flaw::Caption)),
            (Kind::Sticker, |a| a.caption = "hola".to_owned(), Some(Flaw::Caption)),
        ];
        for (place, (kind, change, want)) in rows.into_iter().enumerate() {
            assert_eq!(with(change, kind), want, "row {place}");
        }
        let long = |length| SendMedia {
            thumbnail: [&JPEG[..], &vec![0; length - JPEG.len()]].concat(),
            ..asked(Kind::Image)
        };
        assert!(checked(&long(THUMBNAIL)).is_ok() && checked(&long(THUMBNAIL + 1)).is_err());
    }

    #[test]
    fn a_type_is_what_the_request_says_or_the_object_or_what_is_usual() {
        let said = |mime_type: &str| SendMedia { mime_type: mime_type.to_owned(), ..asked(Kind::Voice) };
        assert_eq!(mime_type(&said("a/b"), "c/d"), "a/b");
        assert_eq!(mime_type(&said(""), "c/d"), "c/d");
        assert_eq!(mime_type(&said(""), ""), "audio/ogg; codecs=opus");
    }

    #[test]
    fn each_kind_is_the_message_that_phones_send_for_it() {
        let file = Uploaded {
            kind: FileKind::Image,
            path: "/v/t62".to_owned(),
            url: String::new(),
            key: [1; 32],
            sha256: [2; 32],
            sealed_sha256: [3; 32],
            size: 70_000,
            sidecar: vec![4; 20],
            is_animated: true,
        };
        let ready = Ready { file, mime_type: "a/b".to_owned() };
        let composed = |kind| message(&asked(kind), &ready, MessageField::none(), 1_700_000);
        let image = composed(Kind::Image);
        let image = image.image_message.as_option().expect("a picture");
        assert_eq!(
            (image.direct_path.as_deref(), image.mimetype.as_deref(), image.url.as_deref()),
            (Some("/v/t62"), Some("a/b"), None)
        );
        assert_eq!((image.file_length, image.media_key_timestamp), (Some(70_000), Some(1_700)));
        assert_eq!(
            [&image.media_key, &image.file_sha256, &image.file_enc_sha256],
            [&Some(vec![1; 32]), &Some(vec![2; 32]), &Some(vec![3; 32])]
        );
        let gif = composed(Kind::Gif).video_message.as_option().cloned().expect("a video");
        assert_eq!((gif.gif_playback, gif.streaming_sidecar), (Some(true), Some(vec![4; 20])));
        let video = composed(Kind::Video).video_message.as_option().cloned().expect("a video");
        assert_eq!(video.gif_playback, None);
        assert!(composed(Kind::VideoNote).ptv_message.as_option().is_some());
        let ptt = |kind| composed(kind).audio_message.as_option().and_then(|audio| audio.ptt);
        assert_eq!((ptt(Kind::Voice), ptt(Kind::Audio)), (Some(true), Some(false)));
        let sticker = composed(Kind::Sticker).sticker_message.as_option().cloned().expect("a sticker");
        assert_eq!(sticker.is_animated, Some(true));
        let document = composed(Kind::Document).document_message.as_option().cloned().expect("a document");
        assert_eq!(document.file_name.as_deref(), Some("menu.pdf"));
    }
}
