//! Linking a device to a business account by QR code.
//!
//! The secret of the QR code never crosses the wire, so somebody has to hand the QR text to the
//! simulated phone: `POST /sim/accounts/{phone}/scan`. Steps as observed with whatsapp-rust 0.7.0.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buffa::{Message as _, MessageField};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::oneshot;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp::{self as wa, ADVEncryptionType, client_payload};

use crate::hub::Hub;
use crate::ids::{Blob, Key32, PhoneNumber, random_hex, rfc3339_now, unix_now};
use crate::pair_code::Hello;
use crate::party::{Device, DeviceRecord, Handset};
use crate::passkey::{self, Ceremony};
use crate::records;
use crate::signal::{PhoneError, SignedPreKey};
use crate::stanza;
use crate::world::{ConnectionId, Role, World};

/// How many refs a QR round has; the client shows the first for 60 s and the others for 20 s.
const REFS: usize = 6;
/// How long after the pairing the stream is restarted. Sent at once, the restart overtakes the end
/// of the client's pairing (observed with whatsapp-rust 0.7.0).
const RESTART_AFTER: Duration = Duration::from_millis(250);
/// How long the device has to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What precedes the text of a QR code that is a link.
const LINK_PREFIX: &str = "https://wa.me/settings/linked_devices#";

/// What a device says of itself when it wants to be linked.
pub(crate) struct Registration {
    pub(crate) registration_id: u32,
    pub(crate) identity: Key32,
    pub(crate) signed: SignedPreKey,
}

impl Registration {
    /// Reads it from a client's first payload; the error names the field.
    pub(crate) fn read(data: &client_payload::DevicePairingRegistrationData) -> Result<Self, &'static str> {
        let registration = data.e_regid.as_deref().and_then(big_endian);
        let identity = data.e_ident.as_deref().and_then(Key32::from_slice);
        let id = data.e_skey_id.as_deref().and_then(big_endian);
        let public = data.e_skey_val.as_deref().and_then(Key32::from_slice);
        let signature = data.e_skey_sig.clone().filter(|s| s.len() == 64);
        Ok(Self {
            registration_id: registration.ok_or("e_regid")?,
            identity: identity.ok_or("e_ident")?,
            signed: SignedPreKey {
                id: id.ok_or("e_skey_id")?,
                public: public.ok_or("e_skey_val")?,
                signature: Blob(signature.ok_or("e_skey_sig")?),
            },
        })
    }
}

/// A number of up to 4 bytes.
pub(crate) fn big_endian(bytes: &[u8]) -> Option<u32> {
    (1..=4).contains(&bytes.len()).then(|| bytes.iter().fold(0, |n, byte| (n << 8) | u32::from(*byte)))
}

/// A connection whose device is not linked yet.
pub(crate) struct Linking {
    pub(crate) noise: Key32,
    pub(crate) registration: Registration,
    pub(crate) refs: Vec<String>,
    pub(crate) offer: Option<Offer>,
    /// The code that the device shows, if it asked to be linked by one.
    pub(crate) code: Option<Hello>,
    /// The proof that is wanted of it, if the account has a passkey.
    pub(crate) passkey: Option<Ceremony>,
}

/// How the phone's owner has accepted a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is linked under this number.
    Linked(u16),
    /// It is asked for the account's passkey first.
    Asked,
}

/// A phone has accepted the device, which must now sign.
pub(crate) struct Offer {
    iq: String,
    account: PhoneNumber,
    device: u16,
    done: oneshot::Sender<Result<u16, PairError>>,
}

impl Linking {
    pub(crate) fn new(noise: Key32, registration: Registration) -> Self {
        Self {
            noise,
            registration,
            refs: (0..REFS).map(|_| format!("2@{}", random_hex(16))).collect(),
            offer: None,
            code: None,
            passkey: None,
        }
    }

    /// What the server asks the device to show.
    pub(crate) fn request(&self) -> Node {
        let refs = self.refs.iter().map(|r| NodeBuilder::new("ref").bytes(r.as_bytes()).build());
        let request = NodeBuilder::new("pair-device").children(refs).build();
        stanza::iq_set(&random_hex(8), request)
    }
}

/// Why a device could not be linked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairError {
    #[error("`qr` is not the text of a linking QR code: {0}")]
    Qr(&'static str),
    #[error("no account {0}; create it with POST /sim/accounts")]
    NoAccount(PhoneNumber),
    #[error(
        "no device shows this QR code now: it has expired, was linked already, or its connection is gone; scan the code that is shown now"
    )]
    NobodyShowsIt,
    #[error("`code`: expected the eight characters that the device shows, such as ABCD-1234")]
    Code,
    #[error(
        "no device shows a pairing code for this number now; ask the client for one with this phone number"
    )]
    NobodyShowsCode,
    #[error("the device did not recognise the code; type the one that it shows now")]
    WrongCode,
    #[error("the device is being linked already")]
    Busy,
    #[error("the device refused: {0}")]
    Refused(String),
    #[error("the device went away before it was linked")]
    Gone,
    #[error(transparent)]
    Phone(#[from] PhoneError),
}

/// What a QR code says.
struct Qr {
    reference: String,
    noise: Key32,
    identity: Key32,
    secret: Vec<u8>,
}

fn parse_qr(text: &str) -> Result<Qr, PairError> {
    let text = text.trim();
    let text = text.strip_prefix(LINK_PREFIX).unwrap_or(text);
    let mut fields = text.split(',');
    let mut next = |what| fields.next().ok_or(PairError::Qr(what));
    let reference = next("it has no ref")?.to_owned();
    let decode = |field: &str, what| BASE64_STANDARD.decode(field).map_err(|_| PairError::Qr(what));
    let noise = decode(next("it has no noise key")?, "its noise key is not base64")?;
    let identity = decode(next("it has no identity")?, "its identity is not base64")?;
    let secret = decode(next("it has no secret")?, "its secret is not base64")?;
    Ok(Qr {
        reference,
        noise: Key32::from_slice(&noise).ok_or(PairError::Qr("its noise key is not 32 bytes"))?,
        identity: Key32::from_slice(&identity).ok_or(PairError::Qr("its identity is not 32 bytes"))?,
        secret,
    })
}

/// The account's phone scans a QR code.
pub(crate) async fn scan(hub: &Arc<Hub>, account: &PhoneNumber, qr: &str) -> Result<Accepted, PairError> {
    let qr = parse_qr(qr)?;
    let connection = hub.read(|world| {
        if !world.accounts.contains_key(account) {
            return Err(PairError::NoAccount(account.clone()));
        }
        find(world, &qr).ok_or(PairError::NobodyShowsIt)
    })?;
    seen(hub, account, connection, &qr.secret).await
}

/// The phone's owner wants the device at the other end of a connection, which has this secret.
pub(crate) async fn seen(
    hub: &Arc<Hub>,
    account: &PhoneNumber,
    connection: ConnectionId,
    secret: &[u8],
) -> Result<Accepted, PairError> {
    let is_asked = hub.update(|world| {
        let wants = world.accounts.get(account).is_some_and(|account| account.record.passkey.is_some());
        if wants {
            passkey::ask(world, account, connection);
        }
        wants
    });
    if is_asked {
        return Ok(Accepted::Asked);
    }
    accept(hub, account, connection, secret).await.map(Accepted::Linked)
}

fn find(world: &World, qr: &Qr) -> Option<ConnectionId> {
    world.connections.iter().find_map(|(id, connection)| {
        let Role::Linking(linking) = &connection.role else {
            return None;
        };
        let shown = linking.noise == qr.noise
            && linking.registration.identity == qr.identity
            && linking.refs.contains(&qr.reference);
        shown.then_some(*id)
    })
}

/// The phone accepts the device at the other end of a connection.
pub(crate) async fn accept(
    hub: &Arc<Hub>,
    account: &PhoneNumber,
    connection: ConnectionId,
    secret: &[u8],
) -> Result<u16, PairError> {
    let finished = hub.update(|world| offer(world, account, connection, secret))?;
    match tokio::time::timeout(PATIENCE, finished).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => Err(PairError::Gone),
    }
}

fn offer(
    world: &mut World,
    account: &PhoneNumber,
    connection: ConnectionId,
    secret: &[u8],
) -> Result<oneshot::Receiver<Result<u16, PairError>>, PairError> {
    let Some(owner) = world.accounts.get_mut(account) else {
        return Err(PairError::NoAccount(account.clone()));
    };
    let Some(Role::Linking(linking)) = world.connections.get_mut(&connection).map(|c| &mut c.role) else {
        return Err(PairError::NobodyShowsIt);
    };
    if linking.offer.is_some() {
        return Err(PairError::Busy);
    }
    let device = owner.record.next_device;
    owner.record.next_device += 1;
    world.store.put(records::account_key(account), &owner.record);
    let signed = sign_device(&owner.handset, owner.record.raw_id, device, &linking.registration.identity)?;
    let container = seal_identity(signed, secret);
    let iq = random_hex(8);
    let (done, finished) = oneshot::channel();
    linking.offer = Some(Offer { iq: iq.clone(), account: account.clone(), device, done });
    let props = wa::ClientPairingProps {
        is_chat_db_lid_migrated: Some(owner.record.lid_migrated),
        ..Default::default()
    };
    let success = NodeBuilder::new("pair-success")
        .children([
            NodeBuilder::new("device-identity").bytes(container).build(),
            NodeBuilder::new("biz").attr("name", owner.record.name.as_str()).build(),
            NodeBuilder::new("platform").attr("name", "smba").build(),
            NodeBuilder::new("client-props").bytes(props.encode_to_vec()).build(),
            NodeBuilder::new("device")
                .attr("jid", account.pn_jid(device))
                .attr("lid", account.lid_jid(device))
                .build(),
        ])
        .build();
    world.send(connection, stanza::iq_set(&iq, success));
    Ok(finished)
}

/// The account vouches for the device's identity key.
fn sign_device(
    handset: &Handset,
    raw_id: u32,
    device: u16,
    identity: &Key32,
) -> Result<wa::ADVSignedDeviceIdentity, PhoneError> {
    let details = wa::ADVDeviceIdentity {
        raw_id: Some(raw_id),
        timestamp: Some(unix_now()),
        key_index: Some(u32::from(device)),
        account_type: Some(ADVEncryptionType::E2EE),
        device_type: Some(ADVEncryptionType::E2EE),
    }
    .encode_to_vec();
    let message = [&[6, 0], details.as_slice(), &identity.0].concat();
    Ok(wa::ADVSignedDeviceIdentity {
        account_signature: Some(handset.identity.sign(&message)?),
        account_signature_key: Some(handset.identity.public().0.to_vec()),
        details: Some(details),
        ..Default::default()
    })
}

/// Proves to the device that the phone has seen the secret.
fn seal_identity(signed: wa::ADVSignedDeviceIdentity, secret: &[u8]) -> Vec<u8> {
    let signed = signed.encode_to_vec();
    let hmac = Hmac::<Sha256>::new_from_slice(secret).map(|mut mac| {
        mac.update(&signed);
        mac.finalize().into_bytes().to_vec()
    });
    wa::ADVSignedDeviceIdentityHMAC {
        details: Some(signed),
        // Every length of key is good for HMAC.
        hmac: hmac.ok(),
        account_type: Some(ADVEncryptionType::E2EE),
    }
    .encode_to_vec()
}

/// The list of an account's valid devices, which accompanies every list with linked devices in it.
pub(crate) fn key_index_list(handset: &Handset, raw_id: u32, devices: &[u16]) -> Result<Vec<u8>, PhoneError> {
    let indexes = || devices.iter().map(|device| u32::from(*device));
    let details = wa::ADVKeyIndexList {
        raw_id: Some(raw_id),
        timestamp: Some(unix_now()),
        current_index: Some(indexes().max().unwrap_or(0)),
        valid_indexes: std::iter::once(0).chain(indexes()).collect(),
        account_type: Some(ADVEncryptionType::E2EE),
    }
    .encode_to_vec();
    let signature = handset.identity.sign(&[&[6, 2], details.as_slice()].concat())?;
    Ok(wa::ADVSignedKeyIndexList {
        details: Some(details),
        account_signature: Some(signature),
        account_signature_key: Some(handset.identity.public().0.to_vec()),
    }
    .encode_to_vec())
}

/// An IQ answer from a device that is not linked yet: its signature, or its refusal.
pub(crate) fn answered(hub: &Arc<Hub>, connection: ConnectionId, iq: &Node) {
    let linked = hub.update(|world| {
        let (offer, record) = take_offer(world, connection, iq)?;
        let Some(record) = record else {
            let why = refusal(iq);
            tracing::warn!(account = %offer.account, why, "the device refused to be linked");
            let _ = offer.done.send(Err(PairError::Refused(why)));
            return None;
        };
        let number = &offer.account;
        let account = world.accounts.get_mut(number)?;
        world.store.put(records::device_key(number, offer.device), &record);
        account.devices.insert(offer.device, Device::new(record));
        world.counters.pairings += 1;
        tracing::info!(account = %number, device = offer.device, "device linked");
        Some(offer)
    });
    let Some(offer) = linked else { return };
    // Whoever asked may have given up; the device is linked all the same.
    let _ = offer.done.send(Ok(offer.device));
    let restart = Arc::clone(hub);
    hub.tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(RESTART_AFTER) => {}
            () = restart.stopping.cancelled() => {}
        }
        restart.update(|world| {
            world.send(connection, stanza::stream_error(515));
            world.close(connection);
        });
    });
}

fn take_offer(
    world: &mut World,
    connection: ConnectionId,
    iq: &Node,
) -> Option<(Offer, Option<DeviceRecord>)> {
    let role = &mut world.connections.get_mut(&connection)?.role;
    let Role::Linking(linking) = role else {
        return None;
    };
    let id = stanza::attr(iq, "id");
    if linking.offer.as_ref().is_none_or(|offer| offer.iq != id) {
        return None;
    }
    let offer = linking.offer.take()?;
    let signed = iq.get_optional_child_by_tag(&["pair-device-sign", "device-identity"]);
    let record = signed.and_then(stanza::bytes).map(|adv| DeviceRecord {
        id: offer.device,
        noise: linking.noise,
        identity: linking.registration.identity,
        registration_id: linking.registration.registration_id,
        signed: linking.registration.signed.clone(),
        adv: Blob(adv.to_vec()),
        keys_uploaded: false,
        keys_shared: false,
        linked_at: rfc3339_now(),
    });
    Some((offer, record))
}

fn refusal(iq: &Node) -> String {
    let error = iq.get_optional_child("error");
    error.map_or_else(
        || "its answer had no signature".to_owned(),
        |error| {
            let (code, text) = (stanza::attr(error, "code"), stanza::attr(error, "text"));
            format!("{code} {text}")
        },
    )
}

/// The keys for settings that the phone gives to a new device. Without them the first login takes
/// ten seconds longer (observed with whatsapp-rust 0.7.0).
pub(crate) fn key_share(device: u16) -> wa::Message {
    use wa::message::{
        AppStateSyncKey, AppStateSyncKeyData, AppStateSyncKeyFingerprint, AppStateSyncKeyId,
        AppStateSyncKeyShare, ProtocolMessage, protocol_message,
    };
    let data = AppStateSyncKeyData {
        key_data: Some(rand::random::<[u8; 32]>().to_vec()),
        fingerprint: MessageField::some(AppStateSyncKeyFingerprint {
            raw_id: Some(1),
            current_index: Some(u32::from(device)),
            device_indexes: vec![0, u32::from(device)],
        }),
        timestamp: Some(i64::try_from(unix_now()).unwrap_or(0)),
    };
    let key = AppStateSyncKey {
        key_id: MessageField::some(AppStateSyncKeyId { key_id: Some(rand::random::<[u8; 6]>().to_vec()) }),
        key_data: MessageField::some(data),
    };
    wa::Message {
        protocol_message: MessageField::some(ProtocolMessage {
            r#type: Some(protocol_message::Type::APP_STATE_SYNC_KEY_SHARE),
            app_state_sync_key_share: MessageField::some(AppStateSyncKeyShare { keys: vec![key] }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_text_is_read_with_and_without_its_link() -> Result<(), PairError> {
        let key = |byte| BASE64_STANDARD.encode([byte; 32]);
        let text = format!("2@AB,{},{},{},1", key(1), key(2), key(3));
        for text in [text.clone(), format!("{LINK_PREFIX}{text}\n")] {
            let qr = parse_qr(&text)?;
            assert_eq!(qr.reference, "2@AB");
            assert_eq!(qr.noise.0, [1; 32]);
            assert_eq!(qr.identity.0, [2; 32]);
            assert_eq!(qr.secret, [3; 32]);
        }
        for bad in ["", "hello", "2@AB,x,y,z", "2@AB,AAAA,AAAA,AAAA"] {
            assert!(matches!(parse_qr(bad), Err(PairError::Qr(_))), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn big_endian_numbers_have_one_to_four_bytes() {
        assert_eq!(big_endian(&[1, 2, 3]), Some(0x01_02_03));
        assert_eq!(big_endian(&[255; 4]), Some(u32::MAX));
        assert_eq!(big_endian(&[]), None);
        assert_eq!(big_endian(&[0; 5]), None);
    }
}
