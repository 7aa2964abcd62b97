//! Opens an encrypted file while it comes, without ever having all of it. Pure.
//!
//! WhatsApp encrypts a file with AES-256 in CBC mode, and puts the first ten bytes of an HMAC-SHA-256 behind it. Only
//! at the end is it known whether the file is the one that was sent. So nobody may use a part of it before that.

use aes::Aes256;
use aes::cipher::{Block, BlockCipherDecrypt as _, KeyInit as _};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use whatsapp_rust::wacore::download::DownloadUtils;

use super::File;

const BLOCK: usize = 16;
const MAC: usize = 10;

/// It is not what was sent: a part is missing, or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is not what was sent")]
pub(super) struct Damaged;

/// A file that was opened to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    /// The hash of its content.
    pub sha256: [u8; 32],
    /// How long it is, in bytes.
    pub size: u64,
}

/// Decrypts.
pub(super) struct Opener {
    cipher: Aes256,
    mac: Hmac<Sha256>,
    before: [u8; BLOCK],
    /// What may be the last block and the MAC.
    held: Vec<u8>,
    plain: Sha256,
    size: u64,
}

impl Opener {
    /// For this file. `None`: its key is none.
    pub(super) fn new(file: &File) -> Option<Self> {
        let (iv, key, mac_key) = DownloadUtils::get_media_keys(&file.key, file.kind.media_type()).ok()?;
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&mac_key).ok()?;
        mac.update(&iv);
        Some(Self {
            cipher: Aes256::new_from_slice(&key).ok()?,
            mac,
            before: iv,
            held: Vec::new(),
            plain: Sha256::new(),
            size: 0,
        })
    }

    /// How many bytes of content there are so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Takes what came, and returns what of it is certain to be content.
    pub(super) fn feed(&mut self, sealed: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(sealed);
        let spare = self.held.len().saturating_sub(BLOCK + MAC);
        let blocks: Vec<u8> = self.held.drain(..spare - spare % BLOCK).collect();
        let plain = self.decrypt(blocks);
        self.count(&plain);
        plain
    }

    /// The rest of the content, now that nothing more comes.
    pub(super) fn end(mut self) -> Result<(Vec<u8>, Opened), Damaged> {
        let length = self.held.len().checked_sub(MAC).filter(|length| *length > 0 && length % BLOCK == 0);
        let mac = self.held.split_off(length.ok_or(Damaged)?);
        let last = std::mem::take(&mut self.held);
        let mut plain = self.decrypt(last);
        let wanted = self.mac.clone().finalize().into_bytes();
        let is_whole = wanted.get(..MAC).is_some_and(|wanted| bool::from(wanted.ct_eq(&mac)));
        let padding = usize::from(plain.last().copied().unwrap_or_default());
        let is_padding = |byte: &u8| usize::from(*byte) == padding;
        let content = plain.len().checked_sub(padding).ok_or(Damaged)?;
        let is_padded = (1..=BLOCK).contains(&padding) && plain.iter().skip(content).all(is_padding);
        if !(is_whole && is_padded) {
            return Err(Damaged);
        }
        plain.truncate(content);
        self.count(&plain);
        let opened = Opened { sha256: self.plain.finalize().into(), size: self.size };
        Ok((plain, opened))
    }

    fn count(&mut self, plain: &[u8]) {
        self.plain.update(plain);
        self.size += u64::try_from(plain.len()).unwrap_or(u64::MAX);
    }

    /// Decrypts whole blocks in their place.
    fn decrypt(&mut self, mut blocks: Vec<u8>) -> Vec<u8> {
        self.mac.update(&blocks);
        for place in blocks.chunks_exact_mut(BLOCK) {
            let Ok(sealed) = <[u8; BLOCK]>::try_from(&*place) else { continue };
            let mut block: Block<Aes256> = sealed.into();
            self.cipher.decrypt_block(&mut block);
            for ((place, byte), before) in place.iter_mut().zip(block.iter()).zip(self.before) {
                *place = byte ^ before;
            }
            self.before = sealed;
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whatsapp_rust::wacore::upload::encrypt_media_with_key;

    use super::super::FileKind;
    use super::*;

    fn sealed(plain: &[u8]) -> (File, Vec<u8>) {
        let kind = FileKind::Document;
        let sealed = encrypt_media_with_key(plain, kind.media_type(), Some(&[7; 32])).expect("a cipher");
        let file = File {
            kind,
            path: String::new(),
            key: sealed.media_key,
            sha256: sealed.file_sha256,
            sealed_sha256: sealed.file_enc_sha256,
        };
        (file, sealed.data_to_upload)
    }

    fn open<'a>(file: &File, parts: impl Iterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Opened), Damaged> {
        let mut opener = Opener::new(file).expect("a key");
        let mut plain: Vec<u8> = parts.flat_map(|part| opener.feed(part)).collect();
        let (rest, opened) = opener.end()?;
        plain.extend(rest);
        Ok((plain, opened))
    }

    proptest! {
        #[test]
        fn what_the_library_seals_is_opened_however_it_comes(
            plain in prop::collection::vec(any::<u8>(), 0..200), part in 1_usize..60,
        ) {
            let (file, sealed) = sealed(&plain);
            let (opened, facts) = open(&file, sealed.chunks(part)).expect("it is whole");
            prop_assert_eq!(facts.size, plain.len() as u64);
            prop_assert_eq!(facts.sha256, file.sha256);
            prop_assert_eq!(opened, plain);
        }

        #[test]
        fn a_bit_that_is_another_and_an_end_that_is_missing_are_seen(
            plain in prop::collection::vec(any::<u8>(), 0..200), place in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let (file, whole) = sealed(&plain);
            let place = place.index(whole.len());
            let mut other = whole.clone();
            other[place] ^= 1_u8 << bit;
            prop_assert_eq!(open(&file, other.chunks(16)), Err(Damaged));
            prop_assert_eq!(open(&file, whole[..place].chunks(16)), Err(Damaged));
        }
    }
}
