//! The Signal side of a simulated phone (device 0): identity, signed prekey, sessions.
//!
//! Every peer is a device of a business account, addressed by the account's phone number and
//! device number whichever form of JID the wire used. Phones trust every identity, as WhatsApp's
//! do.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde::{Deserialize, Serialize};
use wacore::libsignal::protocol::CurveError;
use wacore::libsignal::protocol::{
    CiphertextMessage, DeviceId, Direction, GenericSignedPreKey as _, IdentityChange, IdentityKey,
    IdentityKeyPair, IdentityKeyStore, KeyPair, PreKeyBundle, PreKeyId, PreKeySignalMessage, PrivateKey,
    ProtocolAddress, PublicKey, SessionRecord, SessionStore, SignalMessage, SignalProtocolError,
    SignedPreKeyId, SignedPreKeyRecord, SignedPreKeyStore, Timestamp, UsePQRatchet, message_decrypt,
    message_encrypt, process_prekey_bundle,
};

use crate::asking::Asked;
use crate::ids::{Blob, Key32, PhoneNumber};
use crate::own_prekeys::{self, OwnPreKeys};
use crate::sender_keys::{PREFIX, SenderKeys};
use crate::used_keys::UsedKeys;

type Signal<T> = Result<T, SignalProtocolError>;

/// Why a phone could not encrypt or decrypt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PhoneError {
    #[error("the Signal protocol refused: {0}")]
    Signal(#[from] SignalProtocolError),
    #[error("a key is not one: {0}")]
    Key(#[from] CurveError),
    #[error("an `enc` of type `{0}` is not supported; expected pkmsg or msg")]
    EncType(String),
    #[error("the plaintext could not be read: {0}")]
    Plaintext(String),
    #[error("a Signal store answered late")]
    NotReady,
}

/// A signed prekey as the server publishes it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SignedPreKey {
    pub(crate) id: u32,
    pub(crate) public: Key32,
    pub(crate) signature: Blob,
}

/// A one-time prekey as the server publishes it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OneTimePreKey {
    pub(crate) id: u32,
    pub(crate) public: Key32,
}

/// All that is needed to open a session with a device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) registration_id: u32,
    pub(crate) identity: Key32,
    pub(crate) signed: SignedPreKey,
    pub(crate) one_time: Option<OneTimePreKey>,
}

/// What a phone must remember of itself.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    registration_id: u32,
    identity: Key32,
    signed_id: u32,
    signed: Key32,
    signature: Blob,
}

impl Secrets {
    /// A new phone out of the box.
    pub(crate) fn generate() -> Result<Self, PhoneError> {
        let mut rng = rand::rng();
        let identity = KeyPair::generate(&mut rng);
        let signed = KeyPair::generate(&mut rng);
        let signature = identity.private_key.calculate_signature(&signed.public_key.serialize(), &mut rng)?;
        let registration_id = u32::from(rand::random::<u16>() & 0x3FFF) + 1;
        Ok(Self {
            registration_id,
            identity: Key32(*identity.private_key.serialize()),
            signed_id: 1,
            signed: Key32(*signed.private_key.serialize()),
            signature: Blob(signature.to_vec()),
        })
    }
}

fn pair(private: &Key32) -> Result<KeyPair, CurveError> {
    let private = PrivateKey::deserialize(&private.0)?;
    Ok(KeyPair::new(private.public_key()?, private))
}

fn raw(key: &PublicKey) -> Key32 {
    let mut bytes = [0u8; 32];
    bytes.copy_from_slice(key.public_key_bytes());
    Key32(bytes)
}

/// A phone's identity key. It never changes, so it needs no lock.
pub(crate) struct IdentityKeys {
    pair: KeyPair,
}

impl IdentityKeys {
    pub(crate) fn of(secrets: &Secrets) -> Result<Self, PhoneError> {
        Ok(Self { pair: pair(&secrets.identity)? })
    }

    pub(crate) fn public(&self) -> Key32 {
        raw(&self.pair.public_key)
    }

    /// Signs (XEdDSA).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PhoneError> {
        let signature = self.pair.private_key.calculate_signature(message, &mut rand::rng())?;
        Ok(signature.to_vec())
    }

    /// The Diffie-Hellman secret with another public key.
    pub(crate) fn agree(&self, public: &Key32) -> Result<[u8; 32], PhoneError> {
        let public = PublicKey::from_djb_public_key_bytes(&public.0)?;
        Ok(self.pair.private_key.calculate_agreement(&public)?)
    }
}

/// The device a session is with.
pub(crate) fn address(number: &PhoneNumber, device: u16) -> ProtocolAddress {
    ProtocolAddress::new(number.as_str(), DeviceId::new(u32::from(device)))
}

/// A padded and encrypted message.
pub(crate) struct Sealed {
    /// `pkmsg` or `msg`.
    pub(crate) kind: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The Signal state of one simulated phone.
pub(crate) struct Phone {
    identity: Identity,
    signed: Signed,
    /// Those that it gave away when it asked for a message.
    pub(crate) prekeys: OwnPreKeys,
    /// What it has asked for.
    pub(crate) asked: Asked,
    sessions: Sessions,
    /// For groups.
    pub(crate) keys: SenderKeys,
    /// Those with which something came.
    pub(crate) used: UsedKeys,
}

impl Phone {
    /// The phone with these secrets and saved sessions (address and record).
    pub(crate) fn restore(
        secrets: &Secrets,
        sessions: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, PhoneError> {
        let identity = pair(&secrets.identity)?;
        let signed = pair(&secrets.signed)?;
        let record = SignedPreKeyRecord::new(
            SignedPreKeyId::from(secrets.signed_id),
            Timestamp::from_epoch_millis(0),
            &signed,
            &secrets.signature.0,
        );
        let mut records = BTreeMap::new();
        let mut keys = SenderKeys::default();
        let mut prekeys = OwnPreKeys::default();
        for (address, bytes) in sessions {
            if address.starts_with(PREFIX) {
                keys.restore(address, &bytes)?;
                continue;
            }
            if address.starts_with(own_prekeys::PREFIX) {
                prekeys.restore(&bytes)?;
                continue;
            }
            records.insert(address, SessionRecord::deserialize(&bytes)?);
        }
        Ok(Self {
            identity: Identity {
                pair: IdentityKeyPair::new(IdentityKey::new(identity.public_key), identity.private_key),
                registration_id: secrets.registration_id,
            },
            signed: Signed {
                record,
                published: SignedPreKey {
                    id: secrets.signed_id,
                    public: raw(&signed.public_key),
                    signature: secrets.signature.clone(),
                },
            },
            prekeys,
            asked: Asked::default(),
            sessions: Sessions { records, dirty: BTreeSet::new() },
            keys,
            used: UsedKeys::default(),
        })
    }

    /// The phone's own bundle: no one-time prekey, which the protocol allows.
    pub(crate) fn bundle(&self) -> Bundle {
        Bundle {
            registration_id: self.identity.registration_id,
            identity: raw(self.identity.pair.public_key()),
            signed: self.signed.published.clone(),
            one_time: None,
        }
    }

    pub(crate) fn has_session(&self, peer: &ProtocolAddress) -> bool {
        self.sessions.records.contains_key(peer.as_str())
    }

    /// Opens a session for sending. One that is there is kept aside: what was sent in it can still be read.
    pub(crate) fn open_session(&mut self, peer: &ProtocolAddress, bundle: &Bundle) -> Result<(), PhoneError> {
        let one_time = match &bundle.one_time {
            Some(key) => Some((PreKeyId::from(key.id), PublicKey::from_djb_public_key_bytes(&key.public.0)?)),
            None => None,
        };
        let bundle = PreKeyBundle::new(
            bundle.registration_id,
            peer.device_id(),
            one_time,
            SignedPreKeyId::from(bundle.signed.id),
            PublicKey::from_djb_public_key_bytes(&bundle.signed.public.0)?,
            bundle.signed.signature.0.clone(),
            IdentityKey::new(PublicKey::from_djb_public_key_bytes(&bundle.identity.0)?),
        )?;
        ready(process_prekey_bundle(
            peer,
            &mut self.sessions,
            &mut self.identity,
            &bundle,
            &mut rand::rng(),
            UsePQRatchet::No,
        ))?;
        Ok(())
    }

    /// Encrypts a padded message in an open session.
    pub(crate) fn seal(&mut self, peer: &ProtocolAddress, padded: &[u8]) -> Result<Sealed, PhoneError> {
        let message = ready(message_encrypt(padded, peer, &mut self.sessions, &mut self.identity))?;
        let kind = match &message {
            CiphertextMessage::PreKeySignalMessage(_) => "pkmsg",
            _ => "msg",
        };
        Ok(Sealed { kind, bytes: message.serialize().to_vec() })
    }

    /// Decrypts and unpads.
    pub(crate) fn open(
        &mut self,
        peer: &ProtocolAddress,
        kind: &str,
        bytes: &[u8],
    ) -> Result<waproto::whatsapp::Message, PhoneError> {
        let message = match kind {
            "pkmsg" => CiphertextMessage::PreKeySignalMessage(PreKeySignalMessage::try_from(bytes)?),
            "msg" => CiphertextMessage::SignalMessage(SignalMessage::try_from(bytes)?),
            other => return Err(PhoneError::EncType(other.to_owned())),
        };
        match &message {
            CiphertextMessage::PreKeySignalMessage(message) => self.used.see(peer, message.message()),
            CiphertextMessage::SignalMessage(message) => self.used.see(peer, message),
            _ => {}
        }
        let opened = ready(message_decrypt(
            &message,
            peer,
            &mut self.sessions,
            &mut self.identity,
            &mut self.prekeys,
            &self.signed,
            &mut rand::rng(),
            UsePQRatchet::No,
        ))?;
        if let Some(used) = opened.consumed_prekey_id {
            self.prekeys.used(used);
        }
        wacore::messages::decode_plaintext(&opened.plaintext, 2)
            .map_err(|error| PhoneError::Plaintext(error.to_string()))
    }

    /// The sessions and the sender keys changed since the last call: address, and the record or `None` if it is gone.
    pub(crate) fn take_changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let sessions = std::mem::take(&mut self.sessions.dirty).into_iter().map(|address| {
            let record = self.sessions.records.get(&address);
            let bytes = record.and_then(|record| record.serialize().ok());
            (address, bytes)
        });
        sessions.chain(self.keys.take_changes()).chain(self.prekeys.take_changes()).collect()
    }
}

/// Runs a future of the Signal library, which never waits with stores in memory.
pub(crate) fn ready<T>(future: impl Future<Output = Signal<T>>) -> Result<T, PhoneError> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => Err(PhoneError::NotReady),
    }
}

struct Identity {
    pair: IdentityKeyPair,
    registration_id: u32,
}

#[async_trait::async_trait]
impl IdentityKeyStore for Identity {
    async fn get_identity_key_pair(&self) -> Signal<IdentityKeyPair> {
        Ok(self.pair.clone())
    }

    async fn get_local_registration_id(&self) -> Signal<u32> {
        Ok(self.registration_id)
    }

    async fn save_identity(
        &mut self,
        _address: &ProtocolAddress,
        _identity: &IdentityKey,
    ) -> Signal<IdentityChange> {
        Ok(IdentityChange::NewOrUnchanged)
    }

    async fn is_trusted_identity(
        &self,
        _address: &ProtocolAddress,
        _identity: &IdentityKey,
        _direction: Direction,
    ) -> Signal<bool> {
        Ok(true)
    }

    async fn get_identity(&self, _address: &ProtocolAddress) -> Signal<Option<IdentityKey>> {
        Ok(None)
    }
}

struct Signed {
    record: SignedPreKeyRecord,
    published: SignedPreKey,
}

#[async_trait::async_trait]
impl SignedPreKeyStore for Signed {
    async fn get_signed_pre_key(&self, id: SignedPreKeyId) -> Signal<SignedPreKeyRecord> {
        if u32::from(id) == self.published.id {
            Ok(self.record.clone())
        } else {
            Err(SignalProtocolError::InvalidSignedPreKeyId)
        }
    }

    async fn save_signed_pre_key(&mut self, _id: SignedPreKeyId, _record: &SignedPreKeyRecord) -> Signal<()> {
        Ok(())
    }
}

struct Sessions {
    records: BTreeMap<String, SessionRecord>,
    dirty: BTreeSet<String>,
}

#[async_trait::async_trait]
impl SessionStore for Sessions {
    async fn load_session(&self, address: &ProtocolAddress) -> Signal<Option<SessionRecord>> {
        // Sessions are journalled before a ciphertext leaves, so no counters need to be leased.
        Ok(self.records.get(address.as_str()).cloned().map(|mut record| {
            record.waive_counter_lease();
            record
        }))
    }

    async fn has_session(&self, address: &ProtocolAddress) -> Signal<bool> {
        Ok(self.records.contains_key(address.as_str()))
    }

    async fn store_session(&mut self, address: &ProtocolAddress, record: SessionRecord) -> Signal<()> {
        self.records.insert(address.as_str().to_owned(), record);
        self.dirty.insert(address.as_str().to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore::messages::MessageUtils;
    use waproto::whatsapp as wa;

    fn text(text: &str) -> Vec<u8> {
        MessageUtils::encode_and_pad(&wa::Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        })
    }

    #[test]
    fn two_phones_talk_and_survive_a_restart() -> Result<(), Box<dyn std::error::Error>> {
        let (ana, bot) = ("5491111".parse()?, "5492222".parse()?);
        let (ana, bot) = (address(&ana, 0), address(&bot, 0));
        let secrets = Secrets::generate()?;
        let mut a = Phone::restore(&secrets, [])?;
        let mut b = Phone::restore(&Secrets::generate()?, [])?;

        a.open_session(&bot, &b.bundle())?;
        let first = a.seal(&bot, &text("hola"))?;
        assert_eq!(first.kind, "pkmsg");
        let opened = b.open(&ana, first.kind, &first.bytes)?;
        assert_eq!(opened.conversation.as_deref(), Some("hola"));
        let answer = b.seal(&ana, &text("buenas"))?;
        assert_eq!(answer.kind, "msg");
        a.open(&bot, answer.kind, &answer.bytes)?;

        let saved = a.take_changes();
        let saved = saved.into_iter().filter_map(|(address, record)| Some((address, record?)));
        let mut a = Phone::restore(&secrets, saved)?;
        let again = a.seal(&bot, &text("otra"))?;
        assert_eq!(again.kind, "msg");
        let opened = b.open(&ana, again.kind, &again.bytes)?;
        assert_eq!(opened.conversation.as_deref(), Some("otra"));
        assert!(b.open(&ana, again.kind, &again.bytes).is_err());
        assert_eq!(b.used.take_twice(), 0, "a copy is no second use");
        Ok(())
    }

    #[test]
    fn a_phone_that_goes_back_in_time_uses_a_key_twice() -> Result<(), Box<dyn std::error::Error>> {
        let (ana, bot) = (address(&"5491111".parse()?, 0), address(&"5492222".parse()?, 0));
        let secrets = Secrets::generate()?;
        let mut a = Phone::restore(&secrets, [])?;
        let mut b = Phone::restore(&Secrets::generate()?, [])?;
        a.open_session(&bot, &b.bundle())?;
        let saved: Vec<_> =
            a.take_changes().into_iter().filter_map(|(at, record)| Some((at, record?))).collect();
        let mut again = Phone::restore(&secrets, saved)?;
        let first = a.seal(&bot, &text("hola"))?;
        b.open(&ana, first.kind, &first.bytes)?;
        let second = again.seal(&bot, &text("chau"))?;
        assert!(b.open(&ana, second.kind, &second.bytes).is_err(), "nobody can read it");
        assert_eq!(b.used.take_twice(), 1);
        Ok(())
    }
}
