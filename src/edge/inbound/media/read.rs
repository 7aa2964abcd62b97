//! What a message says of its file. Pure.
//!
//! A sender can write anything here. What cannot be fetched safely is not tried.

use whatsapp_rust::prelude::wa;

use crate::edge::inbound::peel::peel;
use crate::edge::session::{File, FileKind};

/// The largest thumbnail that goes on the bus, in bytes. Phones write a tenth of it.
const THUMBNAIL: usize = 65_536;
/// The longest waveform. Phones write 64 values.
const WAVEFORM: usize = 256;
/// The longest path. WhatsApp's have about 200 characters.
const PATH: usize = 2_048;

/// The file in a message, and what can be shown of it without fetching it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::edge::inbound) struct Attached {
    /// The file, or why it cannot be fetched, as a code.
    pub file: Result<File, &'static str>,
    /// A small JPEG.
    pub thumbnail: Vec<u8>,
    /// Of a voice note: how loud it is, from 0 to 100.
    pub waveform: Vec<u8>,
}

/// The parts of a message that name a file.
struct Named<'a> {
    path: Option<&'a str>,
    key: Option<&'a [u8]>,
    sha256: Option<&'a [u8]>,
    sealed_sha256: Option<&'a [u8]>,
}

/// The file in a message. `None`: it has none.
pub(in crate::edge::inbound) fn attached(message: &wa::Message) -> Option<Attached> {
    macro_rules! named {
        ($part:expr) => {
            Named {
                path: $part.direct_path.as_deref(),
                key: $part.media_key.as_deref(),
                sha256: $part.file_sha256.as_deref(),
                sealed_sha256: $part.file_enc_sha256.as_deref(),
            }
        };
    }
    let base = peel(message);
    if let Some(image) = base.image_message.as_option() {
        return Some(read(FileKind::Image, &named!(image), image.jpeg_thumbnail.as_deref(), None));
    }
    if let Some(video) = base.video_message.as_option().or(base.ptv_message.as_option()) {
        return Some(read(FileKind::Video, &named!(video), video.jpeg_thumbnail.as_deref(), None));
    }
    if let Some(audio) = base.audio_message.as_option() {
        return Some(read(FileKind::Audio, &named!(audio), None, audio.waveform.as_deref()));
    }
    if let Some(sticker) = base.sticker_message.as_option() {
        return Some(read(FileKind::Image, &named!(sticker), None, None));
    }
    let document = base.document_message.as_option()?;
    Some(read(FileKind::Document, &named!(document), document.jpeg_thumbnail.as_deref(), None))
}

fn read(kind: FileKind, named: &Named<'_>, thumbnail: Option<&[u8]>, waveform: Option<&[u8]>) -> Attached {
    let short = |bytes: Option<&[u8]>, most: usize| {
        bytes.filter(|bytes| bytes.len() <= most).unwrap_or_default().to_vec()
    };
    Attached {
        file: file(kind, named).ok_or("unusable"),
        thumbnail: short(thumbnail, THUMBNAIL),
        waveform: short(waveform, WAVEFORM),
    }
}

fn file(kind: FileKind, named: &Named<'_>) -> Option<File> {
    Some(File {
        kind,
        path: named.path.filter(|path| is_path(path))?.to_owned(),
        // Without a key a file is public, and its own sender says what it has to be.
        key: named.key?.try_into().ok()?,
        sha256: named.sha256?.try_into().ok()?,
        sealed_sha256: named.sealed_sha256?.try_into().ok()?,
    })
}

/// Is it a path on a host, and no address of another one?
pub(super) fn is_path(path: &str) -> bool {
    path.len() <= PATH && path.starts_with('/') && !path.starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;
    use whatsapp_rust::prelude::MessageField;

    fn image(path: &str, key: usize) -> wa::Message {
        message!(image_message: part!(wa::message::ImageMessage {
            direct_path: Some(path.to_owned()),
            static_url: Some("https://evil.test/".to_owned()),
            media_key: Some(vec![1; key]),
            file_sha256: Some(vec![2; 32]),
            file_enc_sha256: Some(vec![3; 32]),
            jpeg_thumbnail: Some(vec![4; THUMBNAIL + 1])
        }))
    }

    #[test]
    fn a_file_is_read_whatever_it_is_wrapped_in() {
        let wrapped = message!(ephemeral_message: part!(wa::message::FutureProofMessage {
            message: MessageField::some(image("/v/t62?ccb=1", 32))
        }));
        let found = attached(&wrapped).expect("a file");
        let file = found.file.expect("it can be fetched");
        assert_eq!((file.kind, file.path.as_str(), file.key), (FileKind::Image, "/v/t62?ccb=1", [1; 32]));
        assert!(found.thumbnail.is_empty(), "one that is too large is left out");
        assert_eq!(attached(&message!(conversation: Some("hola".to_owned()))), None);
    }

    #[test]
    fn what_leads_elsewhere_or_is_no_file_is_not_fetched() {
        for (path, key) in [
            ("@evil.test/v", 32),
            (".evil.test/v", 32),
            ("//evil.test/v", 32),
            ("https://evil.test/v", 32),
            ("", 32),
            ("/v", 0),
            ("/v", 31),
            (&format!("/{}", "x".repeat(PATH)), 32),
        ] {
            let found = attached(&image(path, key)).expect("a file");
            assert_eq!(found.file, Err("unusable"), "{path}");
        }
    }
}
