//! Files that messages name: where they are, how they are opened, and which of them are still to be fetched.
//!
//! `fetch` downloads one, `cipher` decrypts it on the way (pure), `ask` has a phone upload it again. `jobs` keeps what
//! is still to be done on the disk. Those that are sent: `seal` encrypts one, `upload` takes it to WhatsApp, and
//! `uploads` remembers on the disk what is there.

mod ask;
mod cipher;
mod fetch;
mod jobs;
mod seal;
mod upload;
mod uploads;

pub(crate) use ask::{Answer, ask_phone};
pub(crate) use fetch::{Fetched, Fetcher, Sink, Trouble};
pub(crate) use jobs::{Job, Jobs};
pub(super) use jobs::{JobChange, apply};
pub(crate) use seal::{Sealed, Sealing};
pub(crate) use upload::{Content, NotUploaded, Uploader};
pub(crate) use uploads::{Uploaded, Uploads};

use whatsapp_rust::wacore::download::MediaType;

/// What a file is, as far as its key depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    /// A picture or a sticker.
    Image,
    /// A video or a video note.
    Video,
    /// Sound.
    Audio,
    /// Anything.
    Document,
}

impl FileKind {
    const ALL: [Self; 4] = [Self::Image, Self::Video, Self::Audio, Self::Document];

    /// In one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn media_type(self) -> MediaType {
        match self {
            Self::Image => MediaType::Image,
            Self::Video => MediaType::Video,
            Self::Audio => MediaType::Audio,
            Self::Document => MediaType::Document,
        }
    }
}

/// What a message says of its file, as far as it is needed to fetch it. The sender wrote all of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// What it is.
    pub kind: FileKind,
    /// Where it is on WhatsApp's media hosts.
    pub path: String,
    /// Its key.
    pub key: [u8; 32],
    /// The hash of its content.
    pub sha256: [u8; 32],
    /// The hash of what is on the media host.
    pub sealed_sha256: [u8; 32],
}

impl std::fmt::Debug for File {
    /// Nothing of it is for a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("File").field(&self.kind).finish()
    }
}

/// Makes the tables beside the library's, if they are missing.
pub(super) fn make(
    connection: &mut diesel::SqliteConnection,
) -> whatsapp_rust::wacore::store::error::Result<()> {
    jobs::make(connection)?;
    uploads::make(connection)
}
