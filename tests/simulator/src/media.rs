//! The media server: files as phones upload them, encrypted, and what is wrong with some of them.
//!
//! A customer's phone encrypts a file with a key of the file's own, puts it here and names it in its message. A linked
//! device downloads it. Files live in memory: after a restart they are gone, as they are at WhatsApp after a while.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use buffa::{Message as _, MessageField};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wacore::download::{DownloadUtils, MediaType};
use wacore::libsignal::crypto::aes_256_gcm_encrypt;
use wacore::media_retry::decrypt_media_retry_notification;
use wacore::proto_helpers::MessageExt as _;
use wacore::upload::encrypt_media_with_key;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp::{self as wa, message};

use crate::content::Kind;
use crate::faults::FaultKind;
use crate::iq::Asker;
use crate::stanza::{self, attr};
use crate::world::World;

/// Where files are.
pub(crate) const PATH: &str = "/media/";
const RETRY_KEY: &[u8] = b"WhatsApp Media Retry Notification";
const MAC: usize = 10;

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// Nothing.
    #[default]
    Whole,
    /// The second half is missing, and the answer ends as if it were not.
    Truncated,
    /// The connection breaks after the first half.
    Broken,
    /// A bit of the MAC is another.
    FlippedMac,
    /// The message names the hash of another file.
    WrongHash,
    /// It comes in small pieces, one every 50 ms.
    Slow,
    /// The first half comes, and then nothing any more.
    Stuck,
    /// It has expired: 410, until the phone uploads it again.
    Expired,
}

/// A file as a customer's phone sends it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attachment {
    /// Base64.
    pub(crate) bytes: crate::ids::BlobText,
    pub(crate) mime: Option<String>,
    pub(crate) file_name: Option<String>,
    pub(crate) seconds: Option<u32>,
    #[serde(default)]
    pub(crate) how: How,
    /// In place of the path where it is.
    pub(crate) direct_path: Option<String>,
    pub(crate) static_url: Option<String>,
    /// The small picture in the message itself.
    pub(crate) thumbnail: Option<crate::ids::BlobText>,
}

/// A file on the server.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) sealed: bytes::Bytes,
    pub(crate) how: How,
    key: [u8; 32],
}

/// All files.
#[derive(Debug, Default)]
pub(crate) struct Media {
    files: BTreeMap<String, File>,
    /// Which file a message names.
    of_message: BTreeMap<String, String>,
    /// With what clients are let in.
    let_in: BTreeSet<String>,
    /// Uploads that broke off.
    halves: BTreeMap<String, bytes::Bytes>,
    /// How clients reach this server: as they named it when they connected.
    pub(crate) host: String,
    renewed: u64,
}

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachmentError {
    #[error(
        "`media`: a message of the kind {0} carries no file; expected image, video, audio, voice, document or sticker"
    )]
    Kind(&'static str),
    #[error("`media`: it cannot be encrypted: {0}")]
    Cipher(String),
}

fn media_type(kind: Kind) -> Option<MediaType> {
    match kind {
        Kind::Image => Some(MediaType::Image),
        Kind::Sticker => Some(MediaType::Sticker),
        Kind::Video => Some(MediaType::Video),
        Kind::Audio | Kind::Voice => Some(MediaType::Audio),
        Kind::Document => Some(MediaType::Document),
        Kind::Text | Kind::Location | Kind::Reaction | Kind::Timer => None,
    }
}

/// Encrypts a file as a phone does. Returns what goes to the server, with its name there, and the message. The same
/// file gives the same, so that a message may be sent twice.
pub(crate) fn upload(
    kind: Kind,
    text: &str,
    sent: &Attachment,
) -> Result<(String, File, wa::Message), AttachmentError> {
    let media = media_type(kind).ok_or(AttachmentError::Kind(kind.name()))?;
    let plain = &sent.bytes.0.0;
    let key: [u8; 32] =
        Sha256::new().chain_update(b"simulated media key").chain_update(plain).finalize().into();
    let sealed = encrypt_media_with_key(plain, media, Some(&key))
        .map_err(|error| AttachmentError::Cipher(error.to_string()))?;
    let hash = match sent.how {
        How::WrongHash => Sha256::digest(b"another file").to_vec(),
        _ => sealed.file_sha256.to_vec(),
    };
    let name = BASE64_URL_SAFE_NO_PAD.encode(sealed.file_enc_sha256);
    let named = Named {
        direct_path: sent
            .direct_path
            .clone()
            .unwrap_or_else(|| format!("{PATH}{name}.enc?ccb=11-4&oh=simulated")),
        key: key.to_vec(),
        hash,
        sealed_hash: sealed.file_enc_sha256.to_vec(),
        length: u64::try_from(plain.len()).unwrap_or_default(),
    };
    let file = File { sealed: sealed.data_to_upload.into(), how: sent.how, key };
    Ok((name, file, compose(kind, text, sent, named)))
}

/// What the message says of the file.
struct Named {
    direct_path: String,
    key: Vec<u8>,
    hash: Vec<u8>,
    sealed_hash: Vec<u8>,
    length: u64,
}

/// A part of a message that names a file.
macro_rules! file {
    ($part:path, $sent:expr, $named:expr, $mime:literal, { $($field:ident: $value:expr),* $(,)? }) => {{
        use $part as Part;
        MessageField::some(Part {
            url: Some(format!("https://mmg.whatsapp.net{}", $named.direct_path)),
            direct_path: Some($named.direct_path),
            mimetype: Some($sent.mime.clone().unwrap_or_else(|| $mime.to_owned())),
            media_key: Some($named.key),
            file_sha256: Some($named.hash),
            file_enc_sha256: Some($named.sealed_hash),
            file_length: Some($named.length),
            $($field: $value,)*
            ..Default::default()
        })
    }};
}

fn compose(kind: Kind, text: &str, sent: &Attachment, named: Named) -> wa::Message {
    let caption = (!text.is_empty()).then(|| text.to_owned());
    let thumbnail = sent.thumbnail.as_ref().map(|thumbnail| thumbnail.0.0.clone());
    let static_url = sent.static_url.clone();
    let mut message = wa::Message::default();
    match kind {
        Kind::Video => {
            message.video_message = file!(message::VideoMessage, sent, named, "video/mp4", {
                caption: caption,
                seconds: sent.seconds,
                jpeg_thumbnail: thumbnail,
                static_url: static_url,
            });
        }
        Kind::Audio | Kind::Voice => {
            let voice = kind == Kind::Voice;
            message.audio_message = file!(message::AudioMessage, sent, named, "audio/ogg; codecs=opus", {
                ptt: Some(voice),
                seconds: sent.seconds,
                waveform: voice.then(|| (0..64).collect()),
            });
        }
        Kind::Document => {
            message.document_message = file!(message::DocumentMessage, sent, named, "application/pdf", {
                caption: caption,
                file_name: sent.file_name.clone(),
                jpeg_thumbnail: thumbnail,
            });
        }
        Kind::Sticker => {
            message.sticker_message = file!(message::StickerMessage, sent, named, "image/webp", {});
        }
        Kind::Image | Kind::Text | Kind::Location | Kind::Reaction | Kind::Timer => {
            message.image_message = file!(message::ImageMessage, sent, named, "image/jpeg", {
                caption: caption,
                jpeg_thumbnail: thumbnail,
                static_url: static_url,
                width: Some(16),
                height: Some(16),
            });
        }
    }
    message
}

impl Media {
    /// Keeps a file that the message with this id names.
    pub(crate) fn put(&mut self, message: &str, name: String, file: File) {
        self.of_message.insert(message.to_owned(), name.clone());
        self.files.insert(name, file);
    }

    /// Keeps what a linked device has uploaded: its key is nobody's but the reader's.
    pub(crate) fn take_in(&mut self, name: String, sealed: bytes::Bytes) {
        self.halves.remove(&name);
        self.files.insert(name, File { sealed, how: How::Whole, key: [0; 32] });
    }

    /// The file with this name.
    pub(crate) fn file(&self, name: &str) -> Option<&File> {
        self.files.get(name)
    }

    /// Is a client that says this let in? One that says nothing is a test.
    pub(crate) fn lets_in(&self, auth: Option<&str>) -> bool {
        auth.is_none_or(|auth| self.let_in.contains(auth))
    }

    /// What clients were given before is not valid any more.
    pub(crate) fn lets_nobody_in(&mut self) {
        self.let_in.clear();
    }

    /// What came of a file before its upload broke off.
    pub(crate) fn half(&self, name: &str) -> Option<&bytes::Bytes> {
        self.halves.get(name)
    }

    /// Keeps what came of a file.
    pub(crate) fn keep_half(&mut self, name: String, sealed: bytes::Bytes) {
        self.halves.insert(name, sealed);
    }

    /// The phone uploads the message's file once more, under a new name.
    fn renew(&mut self, message: &str) -> Option<String> {
        let name = self.of_message.get(message)?;
        let file = self.files.get(name)?;
        self.renewed += 1;
        let renewed = format!("again-{}-{name}", self.renewed);
        let file = File { how: How::Whole, ..file.clone() };
        self.put(message, renewed.clone(), file);
        Some(renewed)
    }
}

impl File {
    /// What is served of it.
    pub(crate) fn served(&self) -> bytes::Bytes {
        match self.how {
            How::Truncated | How::Broken | How::Stuck => self.sealed.slice(..self.sealed.len() / 2),
            How::FlippedMac => {
                let mut sealed = self.sealed.to_vec();
                let place = sealed.len().saturating_sub(MAC);
                if let Some(byte) = sealed.get_mut(place) {
                    *byte ^= 1;
                }
                sealed.into()
            }
            How::Whole | How::WrongHash | How::Slow | How::Expired => self.sealed.clone(),
        }
    }
}

/// Where media servers are, as a client hears it.
pub(crate) fn connection(world: &mut World, request: &Node) -> Node {
    let fault = world.faults.find(FaultKind::MediaHost, None, std::time::Instant::now());
    let foreign = fault.and_then(|fault| fault.attributes.get("host")).cloned();
    let host = foreign.unwrap_or_else(|| world.media.host.clone());
    let auth = crate::ids::random_hex(8);
    world.media.let_in.insert(auth.clone());
    let host = NodeBuilder::new("host").attr("hostname", host).attr("type", "primary").build();
    let connection = NodeBuilder::new("media_conn")
        .attr("auth", auth)
        .attr("ttl", 300u16)
        .attr("auth_ttl", 21_600u32)
        .attr("max_buckets", 12u8)
        .children([host])
        .build();
    stanza::iq_result(request, vec![connection])
}

/// A device asks the phone to upload a message's file once more.
pub(crate) fn ask_again(world: &mut World, sender: &Asker<'_>, receipt: &Node) {
    world.counters.media_retries += 1;
    let now = std::time::Instant::now();
    let fault = world.faults.find(FaultKind::MediaRetry, Some(sender.number), now);
    let answer = fault.map(|fault| fault.attributes.get("answer").cloned().unwrap_or_default());
    let id = attr(receipt, "id");
    let content = match answer.as_deref() {
        None => renewed(world, receipt, &id),
        // The phone is off.
        Some("" | "silence") => return,
        Some(_) => None,
    };
    let content = content.unwrap_or_else(|| vec![NodeBuilder::new("error").attr("code", 2u8).build()]);
    let notification = NodeBuilder::new("notification")
        .attr("type", "mediaretry")
        .attr("id", id)
        .attr("from", sender.number.pn_jid(0))
        .attr("t", crate::ids::unix_now())
        .children(content)
        .build();
    world.send(sender.connection, notification);
}

/// What the phone answers, encrypted with the file's key. `None`: it has no such file, or cannot read the request.
fn renewed(world: &mut World, receipt: &Node, id: &str) -> Option<Vec<Node>> {
    let key = world.media.files.get(world.media.of_message.get(id)?)?.key;
    let asked = receipt.get_optional_child("encrypt")?;
    let part = |name: &str| asked.get_optional_child(name).and_then(stanza::bytes);
    decrypt_media_retry_notification(&key, id, part("enc_iv")?, part("enc_p")?).ok()?;
    let name = world.media.renew(id)?;
    let said = wa::MediaRetryNotification {
        stanza_id: Some(id.to_owned()),
        direct_path: Some(format!("{PATH}{name}.enc?ccb=11-4&oh=renewed")),
        result: Some(wa::media_retry_notification::ResultType::SUCCESS),
        ..Default::default()
    };
    let mut retry_key = [0; 32];
    wacore::crypto::hkdf_sha256_into(&key, None, RETRY_KEY, &mut retry_key).ok()?;
    let (iv, mut sealed) = ([7; 12], Vec::new());
    aes_256_gcm_encrypt(&retry_key, &iv, id.as_bytes(), &said.encode_to_vec(), &mut sealed).ok()?;
    let encrypt = NodeBuilder::new("encrypt").children([
        NodeBuilder::new("enc_p").bytes(sealed).build(),
        NodeBuilder::new("enc_iv").bytes(iv.to_vec()).build(),
    ]);
    Some(vec![encrypt.build()])
}

/// A file that a phone has got, as it is once it is decrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Hex.
    pub(crate) sha256: String,
    pub(crate) size: usize,
    pub(crate) mime: String,
    /// Where it was.
    pub(crate) path: String,
    /// It is what the message says of it.
    pub(crate) whole: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pixels: Option<[u32; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waveform: Option<crate::ids::Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thumbnail: Option<crate::ids::Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) animated: Option<bool>,
}

/// What a part of a message says of its file, and what else that part alone has.
macro_rules! said {
    ($part:expr, $kind:expr, { $($field:ident: $value:expr),* $(,)? }) => {{
        let part = $part;
        let said = Said {
            path: part.direct_path.clone().unwrap_or_default(),
            key: part.media_key.clone().unwrap_or_default(),
            hash: part.file_sha256.clone().unwrap_or_default(),
            sealed_hash: part.file_enc_sha256.clone().unwrap_or_default(),
            length: part.file_length,
            kind: $kind,
        };
        let opened = Opened {
            mime: part.mimetype.clone().unwrap_or_default(),
            $($field: $value,)*
            ..Opened::default()
        };
        (said, opened)
    }};
}

struct Said {
    path: String,
    key: Vec<u8>,
    hash: Vec<u8>,
    sealed_hash: Vec<u8>,
    length: Option<u64>,
    kind: MediaType,
}

fn said(message: &wa::Message) -> Option<(Said, Opened)> {
    let base = message.get_base_message();
    let blob = |bytes: &Option<Vec<u8>>| bytes.clone().map(crate::ids::Blob);
    if let Some(part) = base.image_message.as_option() {
        return Some(said!(part, MediaType::Image, {
            pixels: part.width.zip(part.height).map(<[u32; 2]>::from),
            thumbnail: blob(&part.jpeg_thumbnail),
        }));
    }
    let video = base.video_message.as_option().or(base.ptv_message.as_option());
    if let Some(part) = video {
        return Some(said!(part, MediaType::Video, {
            seconds: part.seconds,
            pixels: part.width.zip(part.height).map(<[u32; 2]>::from),
            thumbnail: blob(&part.jpeg_thumbnail),
        }));
    }
    if let Some(part) = base.audio_message.as_option() {
        return Some(said!(part, MediaType::Audio, {
            seconds: part.seconds,
            waveform: blob(&part.waveform),
        }));
    }
    if let Some(part) = base.document_message.as_option() {
        return Some(said!(part, MediaType::Document, {
            file_name: part.file_name.clone(),
            thumbnail: blob(&part.jpeg_thumbnail),
        }));
    }
    let part = base.sticker_message.as_option()?;
    Some(said!(part, MediaType::Sticker, { animated: part.is_animated }))
}

impl Media {
    /// The file that a message names, decrypted as a phone does it. `None`: it names none.
    pub(crate) fn opened(&self, message: &wa::Message) -> Option<Opened> {
        let (said, mut opened) = said(message)?;
        opened.path.clone_from(&said.path);
        let name = said.path.strip_prefix(PATH).and_then(|path| path.split_once(".enc"));
        let Some(file) = name.and_then(|(name, _)| self.file(name)) else { return Some(opened) };
        let Ok(plain) = DownloadUtils::decrypt_stream(&file.sealed[..], &said.key, said.kind) else {
            return Some(opened);
        };
        let hash = Sha256::digest(&plain);
        opened.whole = said.hash == hash[..]
            && said.sealed_hash == Sha256::digest(&file.sealed)[..]
            && said.length == u64::try_from(plain.len()).ok();
        opened.sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        opened.size = plain.len();
        Some(opened)
    }
}
