//! The Noise side of a connection: bytes to frames, the handshake as the server, frames to stanzas.
//!
//! Patterns and orders of mixing as observed with whatsapp-rust 0.7.0. Nothing here does I/O.

use buffa::{Message as _, MessageField};
use bytes::BytesMut;
use wacore::framing::{FrameDecoder, encode_frame};
use wacore::handshake::{NoiseCipher, NoiseHandshake};
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER};
use wacore_binary::{Node, OwnedNodeRef};
use wacore_libsignal::protocol::{KeyPair, PrivateKey};
use waproto::whatsapp::{self as wa, handshake_message};

use crate::ids::Key32;

/// Why a connection's bytes could not be understood. The connection ends; the server goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoiseError {
    #[error("the client did not begin with the WhatsApp header")]
    Header,
    #[error("the handshake message lacks `{0}`")]
    Missing(&'static str),
    #[error("the handshake failed: {0}")]
    Handshake(#[from] wacore::handshake::HandshakeError),
    #[error("a protobuf could not be read: {0}")]
    Protobuf(#[from] buffa::DecodeError),
    #[error("a frame could not be decrypted or encrypted: {0}")]
    Cipher(#[from] wacore::handshake::NoiseError),
    #[error("a frame could not be built: {0}")]
    Frame(String),
    #[error("a stanza could not be read or written: {0}")]
    Stanza(#[from] wacore_binary::error::BinaryError),
    #[error("the client sent more than 2^32 frames")]
    Exhausted,
}

/// The server's static key and the certificate chain that names it.
pub(crate) struct ServerKey {
    pair: KeyPair,
    certificate: Vec<u8>,
}

impl ServerKey {
    /// A new random key.
    pub(crate) fn generate() -> Self {
        Self::from_pair(KeyPair::generate(&mut rand::rng()))
    }

    /// The key with this private half; `None` if it is none.
    pub(crate) fn from_private(private: &Key32) -> Option<Self> {
        let private_key = PrivateKey::deserialize(&private.0).ok()?;
        let public_key = private_key.public_key().ok()?;
        Some(Self::from_pair(KeyPair::new(public_key, private_key)))
    }

    fn from_pair(pair: KeyPair) -> Self {
        let mut public = [0u8; 32];
        public.copy_from_slice(pair.public_key.public_key_bytes());
        Self { pair, certificate: wacore_noise::test_util::build_cert_chain_bytes(&public) }
    }

    pub(crate) fn private(&self) -> Key32 {
        Key32(*self.pair.private_key.serialize())
    }
}

/// Which handshake a client ended up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Xx,
    Ik,
    XxFallback,
}

/// The client's byte stream, cut into frames. Skips the connection header and the optional
/// edge-routing prologue before it.
pub(crate) struct Intake {
    start: Option<Vec<u8>>,
    frames: FrameDecoder,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self { start: Some(Vec::new()), frames: FrameDecoder::new() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), NoiseError> {
        let Some(mut start) = self.start.take() else {
            self.frames.feed(bytes);
            return Ok(());
        };
        start.extend_from_slice(bytes);
        match skip_header(&start)? {
            Some(skip) => self.frames.feed(&start[skip..]),
            None => self.start = Some(start),
        }
        Ok(())
    }

    pub(crate) fn next_frame(&mut self) -> Option<BytesMut> {
        self.frames.decode_frame()
    }
}

/// How many bytes come before the first frame; `None` while that cannot be told yet.
fn skip_header(start: &[u8]) -> Result<Option<usize>, NoiseError> {
    const ROUTING: [u8; 4] = [b'E', b'D', 0, 1];
    let mut skip = 0;
    if ROUTING.starts_with(&start[..start.len().min(4)]) && !start.is_empty() {
        let Some(length) = start.get(4..7) else {
            return Ok(None);
        };
        skip = 7 + ((usize::from(length[0]) << 16) | (usize::from(length[1]) << 8) | usize::from(length[2]));
    }
    let rest = start.get(skip..).unwrap_or_default();
    let seen = &rest[..rest.len().min(WA_CONN_HEADER.len())];
    if !WA_CONN_HEADER.starts_with(seen) {
        return Err(NoiseError::Header);
    }
    Ok((seen.len() == WA_CONN_HEADER.len()).then_some(skip + WA_CONN_HEADER.len()))
}

/// A finished handshake.
pub(crate) struct Established {
    pub(crate) pattern: Pattern,
    pub(crate) client_static: Key32,
    pub(crate) payload: wa::ClientPayload,
    pub(crate) opener: Opener,
    pub(crate) sealer: Sealer,
}

/// What the server does after the client's first frame.
pub(crate) enum Accepted {
    /// IK: one round is enough.
    Done(Vec<u8>, Box<Established>),
    /// XX and XXfallback: one more frame is needed.
    Finish(Vec<u8>, Box<AwaitingFinish>),
}

/// Answers the client's first frame. The bytes are the frame to send.
pub(crate) fn accept(key: &ServerKey, frame: &[u8]) -> Result<Accepted, NoiseError> {
    let message = wa::HandshakeMessage::decode_from_slice(frame)?;
    let hello = message.client_hello.into_option().ok_or(NoiseError::Missing("client_hello"))?;
    let ephemeral = hello.ephemeral.ok_or(NoiseError::Missing("ephemeral"))?;
    match (hello.r#static, hello.payload) {
        (Some(sealed_static), Some(sealed_payload)) => {
            match resume(key, &ephemeral, &sealed_static, &sealed_payload) {
                Ok((reply, established)) => Ok(Accepted::Done(reply, Box::new(established))),
                // The client knows another server key: offer ours, as the real server does.
                Err(_) => greet(key, NOISE_PATTERN_XXFALLBACK, Pattern::XxFallback, &ephemeral),
            }
        }
        _ => greet(key, NOISE_PATTERN_XX, Pattern::Xx, &ephemeral),
    }
}

fn resume(
    key: &ServerKey,
    client_ephemeral: &[u8],
    sealed_static: &[u8],
    sealed_payload: &[u8],
) -> Result<(Vec<u8>, Established), NoiseError> {
    let private = key.pair.private_key.serialize();
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER)?;
    noise.authenticate(key.pair.public_key.public_key_bytes());
    noise.authenticate(client_ephemeral);
    noise.mix_shared_secret(private, client_ephemeral)?;
    let client_static = noise.decrypt(sealed_static)?;
    noise.mix_shared_secret(private, &client_static)?;
    let payload = noise.decrypt(sealed_payload)?;

    let ephemeral = KeyPair::generate(&mut rand::rng());
    noise.authenticate(ephemeral.public_key.public_key_bytes());
    noise.mix_shared_secret(ephemeral.private_key.serialize(), client_ephemeral)?;
    noise.mix_shared_secret(ephemeral.private_key.serialize(), &client_static)?;
    let sealed_certificate = noise.encrypt(&key.certificate)?;
    let reply = server_hello(&ephemeral, None, sealed_certificate)?;
    let established = establish(Pattern::Ik, noise, &client_static, &payload)?;
    Ok((reply, established))
}

fn greet(
    key: &ServerKey,
    name: &str,
    pattern: Pattern,
    client_ephemeral: &[u8],
) -> Result<Accepted, NoiseError> {
    let mut noise = NoiseHandshake::new(name, &WA_CONN_HEADER)?;
    noise.authenticate(client_ephemeral);
    let ephemeral = KeyPair::generate(&mut rand::rng());
    noise.authenticate(ephemeral.public_key.public_key_bytes());
    noise.mix_shared_secret(ephemeral.private_key.serialize(), client_ephemeral)?;
    let sealed_static = noise.encrypt(key.pair.public_key.public_key_bytes())?;
    noise.mix_shared_secret(key.pair.private_key.serialize(), client_ephemeral)?;
    let sealed_certificate = noise.encrypt(&key.certificate)?;
    let reply = server_hello(&ephemeral, Some(sealed_static), sealed_certificate)?;
    let awaiting = AwaitingFinish { pattern, noise, ephemeral };
    Ok(Accepted::Finish(reply, Box::new(awaiting)))
}

fn server_hello(
    ephemeral: &KeyPair,
    sealed_static: Option<Vec<u8>>,
    sealed_certificate: Vec<u8>,
) -> Result<Vec<u8>, NoiseError> {
    let hello = wa::HandshakeMessage {
        server_hello: MessageField::some(handshake_message::ServerHello {
            ephemeral: Some(ephemeral.public_key.public_key_bytes().to_vec()),
            r#static: sealed_static,
            payload: Some(sealed_certificate),
            ..Default::default()
        }),
        ..Default::default()
    };
    encode_frame(&hello.encode_to_vec(), None).map_err(|e| NoiseError::Frame(e.to_string()))
}

/// A handshake that waits for the client's second frame.
pub(crate) struct AwaitingFinish {
    pattern: Pattern,
    noise: NoiseHandshake,
    ephemeral: KeyPair,
}

impl AwaitingFinish {
    /// Reads the client's second frame.
    pub(crate) fn finish(mut self, frame: &[u8]) -> Result<Established, NoiseError> {
        let message = wa::HandshakeMessage::decode_from_slice(frame)?;
        let finish = message.client_finish.into_option().ok_or(NoiseError::Missing("client_finish"))?;
        let sealed_static = finish.r#static.ok_or(NoiseError::Missing("static"))?;
        let sealed_payload = finish.payload.ok_or(NoiseError::Missing("payload"))?;
        let client_static = self.noise.decrypt(&sealed_static)?;
        self.noise.mix_shared_secret(self.ephemeral.private_key.serialize(), &client_static)?;
        let payload = self.noise.decrypt(&sealed_payload)?;
        establish(self.pattern, self.noise, &client_static, &payload)
    }
}

fn establish(
    pattern: Pattern,
    noise: NoiseHandshake,
    client_static: &[u8],
    payload: &[u8],
) -> Result<Established, NoiseError> {
    let client_static =
        Key32::from_slice(client_static).ok_or(NoiseError::Missing("a 32-byte static key"))?;
    let payload = wa::ClientPayload::decode_from_slice(payload)?;
    // The library names the keys from the initiator's side: it writes what we read.
    let (client_writes, client_reads) = noise.finish()?;
    Ok(Established {
        pattern,
        client_static,
        payload,
        opener: Opener { cipher: client_writes, counter: 0 },
        sealer: Sealer { cipher: client_reads, counter: 0 },
    })
}

/// Turns the client's frames into stanzas.
pub(crate) struct Opener {
    cipher: NoiseCipher,
    counter: u32,
}

impl Opener {
    pub(crate) fn open(&mut self, mut frame: BytesMut) -> Result<Node, NoiseError> {
        self.cipher.decrypt_in_place_with_counter(self.counter, &mut frame)?;
        self.counter = self.counter.checked_add(1).ok_or(NoiseError::Exhausted)?;
        let plain = wacore_binary::util::unpack_bytes(frame)?;
        Ok(OwnedNodeRef::new(plain)?.to_owned_node())
    }
}

/// Turns stanzas into frames for the client.
pub(crate) struct Sealer {
    cipher: NoiseCipher,
    counter: u32,
}

impl Sealer {
    pub(crate) fn seal(&mut self, stanza: &Node) -> Result<Vec<u8>, NoiseError> {
        let plain = wacore_binary::marshal::marshal(stanza)?;
        let sealed = self.cipher.encrypt_with_counter(self.counter, &plain)?;
        self.counter = self.counter.checked_add(1).ok_or(NoiseError::Exhausted)?;
        encode_frame(&sealed, None).map_err(|e| NoiseError::Frame(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, NoiseError> {
        let mut intake = Intake::new();
        let mut out = Vec::new();
        for chunk in chunks {
            intake.feed(chunk)?;
            while let Some(frame) = intake.next_frame() {
                out.push(frame.to_vec());
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() -> Result<(), NoiseError> {
        let stream = [&WA_CONN_HEADER[..], &[0, 0, 2, 7, 8, 0, 0, 1, 9]].concat();
        let expected = vec![vec![7, 8], vec![9]];
        assert_eq!(frames(&[&stream])?, expected);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes)?, expected);
        Ok(())
    }

    #[test]
    fn the_routing_prologue_is_skipped() -> Result<(), NoiseError> {
        let prologue = [b'E', b'D', 0, 1, 0, 0, 3, 1, 2, 3];
        let stream = [&prologue[..], &WA_CONN_HEADER[..], &[0, 0, 1, 5]].concat();
        assert_eq!(frames(&[&stream])?, vec![vec![5]]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes)?, vec![vec![5]]);
        Ok(())
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_bytes() {
        assert!(matches!(frames(&[b"GET / "]), Err(NoiseError::Header)));
        assert!(matches!(frames(&[b"W", b"X"]), Err(NoiseError::Header)));
    }

    #[test]
    fn a_wrong_first_frame_is_an_error_not_a_panic() {
        let key = ServerKey::generate();
        assert!(accept(&key, b"\xff\xff\xff").is_err());
        assert!(accept(&key, b"").is_err());
        let short = wa::HandshakeMessage {
            client_hello: MessageField::some(handshake_message::ClientHello {
                ephemeral: Some(vec![1, 2, 3]),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(accept(&key, &short.encode_to_vec()).is_err());
    }
}
