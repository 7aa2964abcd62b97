//! Encrypts a file that is sent, piece by piece, into a file without a name: never whole in memory.

use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
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
    file: File,
    head: Vec<u8>,
    sealed: Vec<u8>,
    length: u64,
}

/// An encrypted file.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Where it is. It is gone with this.
    pub(super) file: File,
    /// How long it is, in bytes.
    pub(super) length: u64,
    /// What it is.
    pub(super) kind: FileKind,
    /// The key.
    pub(super) key: [u8; 32],
    /// The hash of the content.
    pub(crate) sha256: [u8; 32],
    /// The hash of what is encrypted.
    pub(super) sealed_sha256: [u8; 32],
    /// How long the content is.
    pub(crate) size: u64,
    /// With which phones play it before all of it is there.
    pub(super) sidecar: Vec<u8>,
    /// A picture that moves.
    pub(super) is_animated: bool,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sealing").field(&self.kind).finish_non_exhaustive()
    }
}

impl Sealing {
    /// Into this file, with this key.
    pub(crate) fn begin(file: File, kind: FileKind, key: [u8; 32]) -> std::io::Result<Self> {
        let plays = matches!(kind, FileKind::Audio | FileKind::Video);
        let encryptor = MediaEncryptor::with_key_and_sidecar(key, kind.media_type(), plays);
        let encryptor = encryptor.map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self { encryptor, kind, file, head: Vec::new(), sealed: Vec::new(), length: 0 })
    }

    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let missing = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend(bytes.iter().take(missing));
        self.encryptor.update(bytes, &mut self.sealed);
        self.flush().await
    }

    /// Nothing more comes.
    pub(crate) async fn finish(mut self) -> std::io::Result<Sealed> {
        let Self { encryptor, kind, mut file, head, mut sealed, length } = {
            self.flush().await?;
            self
        };
        let facts =
            encryptor.finalize(&mut sealed).map_err(|error| std::io::Error::other(error.to_string()))?;
        file.write_all(&sealed).await?;
        // What is read next is read through another handle.
        file.flush().await?;
        let sidecar = facts.streaming_sidecar.filter(|table| table.len() <= SIDECAR).unwrap_or_default();
        Ok(Sealed {
            file,
            length: length + u64::try_from(sealed.len()).unwrap_or_default(),
            kind,
            key: facts.media_key,
            sha256: facts.file_sha256,
            sealed_sha256: facts.file_enc_sha256,
            size: facts.file_length,
            sidecar,
            is_animated: kind == FileKind::Image && webp::is_animated(&head),
        })
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.sealed).await?;
        self.length += u64::try_from(self.sealed.len()).unwrap_or_default();
        self.sealed.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

    use super::super::cipher::Opener;
    use super::*;

    async fn seal(plain: &[u8], kind: FileKind, part: usize) -> (Sealed, Vec<u8>) {
        let file = File::from_std(tempfile::tempfile().expect("a file"));
        let mut sealing = Sealing::begin(file, kind, [7; 32]).expect("a key");
        for part in plain.chunks(part) {
            sealing.write(part).await.expect("it is written");
        }
        let mut sealed = sealing.finish().await.expect("it is sealed");
        let mut bytes = Vec::new();
        sealed.file.rewind().await.expect("its beginning");
        sealed.file.read_to_end(&mut bytes).await.expect("its bytes");
        (sealed, bytes)
    }

    #[tokio::test]
    async fn what_is_sealed_is_opened_by_who_has_the_key_and_is_the_same_each_time() {
        for length in [0, 1, 15, 16, 17, 200_000] {
            let plain: Vec<u8> =
                (0..length).map(|place| u8::try_from(place % 251).expect("a byte")).collect();
            let (sealed, bytes) = seal(&plain, FileKind::Audio, 1_000).await;
            assert_eq!(sealed.length, u64::try_from(bytes.len()).expect("a length"));
            assert_eq!(seal(&plain, FileKind::Audio, 77).await.1, bytes);
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

    #[tokio::test]
    async fn a_sticker_that_moves_is_seen_by_its_first_bytes() {
        let mut webp = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0".to_vec();
        webp.resize(10_000, 0);
        assert!(seal(&webp, FileKind::Image, 7).await.0.is_animated);
        assert!(!seal(&webp, FileKind::Document, 7).await.0.is_animated);
        webp[20] = 0;
        assert!(!seal(&webp, FileKind::Image, 7).await.0.is_animated);
    }
}
