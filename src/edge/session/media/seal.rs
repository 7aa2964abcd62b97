//! Encrypts a file that is sent, piece by piece: never whole in memory, and on no disk.
//!
//! What is encrypted depends on the content, the kind and the key alone. So a file can be encrypted once to know its hashes,
//! and again while it is uploaded.

use bytes::Bytes;
use whatsapp_rust::wacore::upload::MediaEncryptor;
use whatsapp_rust::wacore::webp;

use super::FileKind;

/// So much of a file is looked at to see whether it is a picture that moves.
const HEAD: usize = 4_096;
/// The longest table that lets phones play a file before all of it is there, in bytes: that of 400 MB. A longer file goes
/// without.
const SIDECAR: usize = 65_536;

/// A file while it is encrypted.
pub(crate) struct Sealing {
    encryptor: MediaEncryptor,
    kind: FileKind,
    head: Vec<u8>,
    length: u64,
}

/// What is known of an encrypted file.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// How long it is, in bytes.
    pub(super) length: u64,
    /// What it is.
    pub(super) kind: FileKind,
    /// The key.
    pub(super) key: [u8; 32],
    /// The hash of the content.
    pub(super) sha256: [u8; 32],
    /// The hash of what is encrypted.
    pub(super) sealed_sha256: [u8; 32],
    /// How long the content is.
    pub(super) size: u64,
    /// With which phones play it before all of it is there.
    pub(super) sidecar: Vec<u8>,
    /// A picture that moves.
    pub(super) is_animated: bool,
}

/// The library does not encrypt it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be encrypted")]
pub(crate) struct NotSealed;

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sealing").field(&self.kind).finish_non_exhaustive()
    }
}

impl Sealing {
    /// With this key.
    pub(crate) fn begin(kind: FileKind, key: [u8; 32]) -> Result<Self, NotSealed> {
        let plays = matches!(kind, FileKind::Audio | FileKind::Video);
        let encryptor = MediaEncryptor::with_key_and_sidecar(key, kind.media_type(), plays);
        let encryptor = encryptor.map_err(|_| NotSealed)?;
        Ok(Self { encryptor, kind, head: Vec::new(), length: 0 })
    }

    /// The next bytes, encrypted as far as they can be yet.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Bytes {
        let missing = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend(bytes.iter().take(missing));
        let mut sealed = Vec::with_capacity(bytes.len());
        self.encryptor.update(bytes, &mut sealed);
        self.length += sealed.len() as u64;
        sealed.into()
    }

    /// Nothing more comes: the rest, and what is known of the file now.
    pub(crate) fn end(self) -> Result<(Bytes, Sealed), NotSealed> {
        let Self { encryptor, kind, head, length } = self;
        let mut rest = Vec::new();
        let facts = encryptor.finalize(&mut rest).map_err(|_| NotSealed)?;
        let sidecar = facts.streaming_sidecar.filter(|table| table.len() <= SIDECAR).unwrap_or_default();
        let sealed = Sealed {
            length: length + rest.len() as u64,
            kind,
            key: facts.media_key,
            sha256: facts.file_sha256,
            sealed_sha256: facts.file_enc_sha256,
            size: facts.file_length,
            sidecar,
            is_animated: kind == FileKind::Image && webp::is_animated(&head),
        };
        Ok((rest.into(), sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cipher::Opener;
    use super::*;

    fn seal(plain: &[u8], kind: FileKind, part: usize) -> (Sealed, Vec<u8>) {
        let mut sealing = Sealing::begin(kind, [7; 32]).expect("a key");
        let mut bytes: Vec<u8> = plain.chunks(part).flat_map(|part| sealing.feed(part)).collect();
        let (rest, sealed) = sealing.end().expect("it is sealed");
        bytes.extend(rest);
        (sealed, bytes)
    }

    #[test]
    fn what_is_sealed_is_opened_by_who_has_the_key_and_is_the_same_each_time() {
        for length in [0, 1, 15, 16, 17, 200_000] {
            let plain: Vec<u8> =
                (0..length).map(|place| u8::try_from(place % 251).expect("a byte")).collect();
            let (sealed, bytes) = seal(&plain, FileKind::Audio, 1_000);
            assert_eq!(sealed.length, u64::try_from(bytes.len()).expect("a length"));
            assert_eq!(seal(&plain, FileKind::Audio, 77).1, bytes);
            let file = super::super::File {
                kind: FileKind::Audio,
                path: String::new(),
                key: sealed.key,
                sha256: sealed.sha256,
                sealed_sha256: sealed.sealed_sha256,
            };
            let mut opener = Opener::new(&file).expect("a key");
            let mut opened = opener.feed(&bytes);
            let (rest, facts) = opener.end().expect("it is whole");
            opened.extend(rest);
            assert_eq!((opened, facts.sha256, facts.size), (plain, sealed.sha256, sealed.size));
        }
    }

    #[test]
    fn a_sticker_that_moves_is_seen_by_its_first_bytes() {
        let mut webp = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0".to_vec();
        webp.resize(10_000, 0);
        assert!(seal(&webp, FileKind::Image, 7).0.is_animated);
        assert!(!seal(&webp, FileKind::Document, 7).0.is_animated);
        webp[20] = 0;
        assert!(!seal(&webp, FileKind::Image, 7).0.is_animated);
    }
}
