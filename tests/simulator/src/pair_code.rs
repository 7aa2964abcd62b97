//! Linking a device by the eight characters that it shows, instead of a QR code.
//!
//! The device announces itself with its phone number (`companion_hello`); its owner types the code
//! into the account's phone (`POST /sim/accounts/{phone}/pair-code`), which answers
//! (`primary_hello`); the device sends a key bundle (`companion_finish`), from which both sides
//! derive the secret that a QR code would have carried. Steps as observed with whatsapp-rust 0.7.0.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wacore::crypto::hkdf_sha256_into;
use wacore::libsignal::crypto::aes_256_gcm_decrypt;
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::pair_code::PairCodeUtils;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use crate::faults::FaultKind;
use crate::hub::Hub;
use crate::ids::{Key32, PhoneNumber, random_hex, unix_now};
use crate::pairing::{self, Accepted, PairError};
use crate::party::Handset;
use crate::stanza::{self, attr};
use crate::world::{ConnectionId, Role, World};

/// How long the device has to answer; its key derivation takes seconds in a debug build.
const PATIENCE: Duration = Duration::from_secs(30);
const REG: &str = "link_code_companion_reg";

/// A device that shows a code.
pub(crate) struct Hello {
    phone: PhoneNumber,
    wrapped: Vec<u8>,
    reference: String,
    bundle: Option<oneshot::Sender<Vec<u8>>>,
}

/// The text beside a refusal's code.
fn reason(code: u16) -> &'static str {
    match code {
        400 => "bad-request",
        403 => "forbidden",
        429 => "rate-overlimit",
        452 => "feature-not-available",
        _ => "internal-server-error",
    }
}

/// Handles a request of a device that is not linked; `None` if it is about something else.
pub(crate) fn request(world: &mut World, connection: ConnectionId, iq: &Node) -> Option<Node> {
    let reg = iq.get_optional_child(REG)?;
    let refused = world.faults.find(FaultKind::RefusePairCode, None, Instant::now());
    let refused =
        refused.map(|fault| stanza::iq_refusal(iq, fault.code, reason(fault.code), &fault.attributes));
    let role = &mut world.connections.get_mut(&connection)?.role;
    let Role::Linking(linking) = role else {
        return None;
    };
    match attr(reg, "stage").as_str() {
        "companion_hello" => {
            let jid = stanza::jid(reg, "jid");
            let phone = jid.and_then(|jid| jid.user_base().parse().ok());
            let wrapped = reg
                .get_optional_child("link_code_pairing_wrapped_companion_ephemeral_pub")
                .and_then(stanza::bytes);
            let (Some(phone), Some(wrapped)) = (phone, wrapped) else {
                world.counters.malformed += 1;
                return Some(stanza::iq_error(iq, 400, "bad-request"));
            };
            if let Some(refusal) = refused {
                tracing::info!(account = %phone, "refused a pairing code by a fault");
                return Some(refusal);
            }
            tracing::info!(account = %phone, "a device shows a pairing code");
            let hello = Hello { phone, wrapped: wrapped.to_vec(), reference: random_hex(16), bundle: None };
            let reference =
                NodeBuilder::new("link_code_pairing_ref").bytes(hello.reference.as_bytes()).build();
            let reply = NodeBuilder::new(REG).attr("stage", "companion_hello").children([reference]).build();
            linking.code = Some(hello);
            Some(stanza::iq_result(iq, vec![reply]))
        }
        "companion_finish" => {
            let bundle =
                reg.get_optional_child("link_code_pairing_wrapped_key_bundle").and_then(stanza::bytes);
            let waiting = linking.code.as_mut().and_then(|code| code.bundle.take());
            if let (Some(waiting), Some(bundle)) = (waiting, bundle) {
                // Whoever typed the code may have given up.
                let _ = waiting.send(bundle.to_vec());
            }
            Some(stanza::iq_result(iq, vec![]))
        }
        _ => Some(stanza::iq_error(iq, 400, "bad-request")),
    }
}

/// The account's owner types the code.
pub(crate) async fn enter(hub: &Arc<Hub>, account: &PhoneNumber, code: &str) -> Result<Accepted, PairError> {
    let code: String = code.trim().replace('-', "").to_uppercase();
    if !PairCodeUtils::validate_code(&code) {
        return Err(PairError::Code);
    }
    let (handset, connection, wrapped) = hub.read(|world| -> Result<_, PairError> {
        let owner = world.accounts.get(account);
        let owner = owner.ok_or_else(|| PairError::NoAccount(account.clone()))?;
        let (connection, wrapped) = find(world, account).ok_or(PairError::NobodyShowsCode)?;
        Ok((Arc::clone(&owner.handset), connection, wrapped))
    })?;
    let derive = move |_: &Arc<Hub>| answer_hello(&wrapped, &code);
    let (keys, device_public, mine) = hub.off_thread(derive).await.ok_or(PairError::Gone)??;
    let bundle = hub.update(|world| greet(world, connection, &handset, &mine))?;
    let bundle = match tokio::time::timeout(PATIENCE, bundle).await {
        Ok(Ok(bundle)) => bundle,
        // With a wrong code the device cannot make sense of the answer, and says nothing.
        Ok(Err(_)) | Err(_) => return Err(PairError::WrongCode),
    };
    let secret = open_bundle(&bundle, &keys, &device_public, &handset).ok_or(PairError::WrongCode)?;
    pairing::seen(hub, account, connection, &secret).await
}

fn find(world: &World, account: &PhoneNumber) -> Option<(ConnectionId, Vec<u8>)> {
    // The newest, if several show one.
    world.connections.iter().rev().find_map(|(id, connection)| {
        let Role::Linking(linking) = &connection.role else {
            return None;
        };
        let code = linking.code.as_ref()?;
        (&code.phone == account).then(|| (*id, code.wrapped.clone()))
    })
}

type Answer = (KeyPair, Key32, Vec<u8>);

/// The phone's side of the code: a key of its own for this pairing, wrapped with the code.
fn answer_hello(wrapped: &[u8], code: &str) -> Result<Answer, PairError> {
    let device_public = PairCodeUtils::decrypt_primary_ephemeral_pub(wrapped, code)
        .map_err(|error| PairError::Refused(error.to_string()))?;
    let keys = KeyPair::generate(&mut rand::rng());
    let mut public = [0u8; 32];
    public.copy_from_slice(keys.public_key.public_key_bytes());
    let mine = PairCodeUtils::encrypt_ephemeral_pub(&public, code);
    Ok((keys, Key32(device_public), mine.to_vec()))
}

fn greet(
    world: &mut World,
    connection: ConnectionId,
    handset: &Handset,
    mine: &[u8],
) -> Result<oneshot::Receiver<Vec<u8>>, PairError> {
    let role = world.connections.get_mut(&connection).map(|c| &mut c.role);
    let Some(Role::Linking(linking)) = role else {
        return Err(PairError::Gone);
    };
    let hello = linking.code.as_mut().ok_or(PairError::NobodyShowsCode)?;
    let (sender, receiver) = oneshot::channel();
    hello.bundle = Some(sender);
    let child = |tag, bytes: &[u8]| NodeBuilder::new(tag).bytes(bytes).build();
    let reg = NodeBuilder::new(REG)
        .attr("stage", "primary_hello")
        .children([
            child("link_code_pairing_wrapped_primary_ephemeral_pub", mine),
            child("primary_identity_pub", &handset.identity.public().0),
            child("link_code_pairing_ref", hello.reference.as_bytes()),
        ])
        .build();
    let notification = NodeBuilder::new("notification")
        .attr("from", stanza::SERVER)
        .attr("type", REG)
        .attr("id", random_hex(8))
        .attr("t", unix_now())
        .children([reg])
        .build();
    world.send(connection, notification);
    Ok(receiver)
}

/// The secret that both sides now share; `None` if the bundle was not made with the same code.
fn open_bundle(bundle: &[u8], keys: &KeyPair, device_public: &Key32, handset: &Handset) -> Option<[u8; 32]> {
    let (salt, rest) = bundle.split_at_checked(32)?;
    let (nonce, sealed) = rest.split_at_checked(12)?;
    let device_public = PublicKey::from_djb_public_key_bytes(&device_public.0).ok()?;
    let shared = keys.private_key.calculate_agreement(&device_public).ok()?;
    let mut key = [0u8; 32];
    let info = b"link_code_pairing_key_bundle_encryption_key";
    hkdf_sha256_into(&shared, Some(salt), info, &mut key).ok()?;
    let mut plain = Vec::new();
    aes_256_gcm_decrypt(&key, nonce.try_into().ok()?, b"", sealed, &mut plain).ok()?;
    let identity = Key32::from_slice(plain.get(..32)?)?;
    let random = plain.get(64..96)?;
    let identity_shared = handset.identity.agree(&identity).ok()?;
    let mut secret = [0u8; 32];
    let material = [&shared[..], &identity_shared[..], random].concat();
    hkdf_sha256_into(&material, None, b"adv_secret", &mut secret).ok()?;
    Some(secret)
}
