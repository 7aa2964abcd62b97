//! Linking a device to an account that has a passkey: after the QR code or the typed code the server wants proof from the
//! device, and device and phone then agree on a secret of their own.
//!
//! The server asks (`passkey_prologue_request`); the device answers with what a browser has signed, and with a key of its
//! own, which it cannot change any more (`passkey_prologue`); the phone shows its key (`crsc_continuation`); the device
//! opens its nonce (`companion_nonce`), and both show the same eight characters; when their owner has compared them, the
//! device sends the secret, sealed (`encrypted_pairing_request`). Steps as in whatsapp-rust 0.7.0 (`passkey::flow`).

use std::sync::Arc;
use std::time::Duration;

use buffa::Message as _;
use wacore::libsignal::crypto::aes_256_gcm_decrypt;
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::shortcake::ShortcakeUtils;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::hub::Hub;
use crate::ids::{PhoneNumber, random_hex, unix_now};
use crate::pairing;
use crate::stanza::{self, bytes};
use crate::webauthn::{self, Passkey};
use crate::world::{ConnectionId, Role, World};

/// How long after an answer of the server the phone's next step comes. At once, the two would overtake each other in the
/// client, which gives up then (observed with whatsapp-rust 0.7.0). People and phones are never so quick.
const PHONE_TAKES: Duration = Duration::from_millis(250);

/// The proof that is wanted of one device.
pub(crate) struct Ceremony {
    account: PhoneNumber,
    challenge: String,
    reference: String,
    step: Step,
}

enum Step {
    /// The device has to answer.
    Asked,
    /// The device has to open its nonce.
    Greeted(Box<Greeted>),
    /// Its owner compares the codes.
    Shown { code: String, key: [u8; 32] },
    /// The device is about to be linked.
    Done,
}

struct Greeted {
    /// What the device has said of itself, which its nonce has to fit.
    identity: Vec<u8>,
    hash: Vec<u8>,
    keys: KeyPair,
    nonce: [u8; 32],
}

/// Asks the device at the other end for the proof.
pub(crate) fn ask(world: &mut World, account: &PhoneNumber, connection: ConnectionId) {
    let challenge = webauthn::challenge();
    let options = webauthn::options(&challenge).to_string();
    let Some(Role::Linking(linking)) = world.connections.get_mut(&connection).map(|c| &mut c.role) else {
        return;
    };
    let (account, reference) = (account.clone(), random_hex(16));
    linking.passkey = Some(Ceremony { account, challenge, reference, step: Step::Asked });
    let child = NodeBuilder::new("passkey_request_options").bytes(options.into_bytes()).build();
    world.send(connection, notification("passkey_prologue_request", child));
}

fn notification(kind: &'static str, child: Node) -> Node {
    NodeBuilder::new("notification")
        .attr("from", stanza::SERVER)
        .attr("type", kind)
        .attr("id", random_hex(8))
        .attr("t", unix_now())
        .children([child])
        .build()
}

/// The code that the account's phone shows.
pub(crate) fn code(world: &World, account: &PhoneNumber) -> Option<String> {
    world.connections.values().find_map(|connection| match &connection.role {
        Role::Linking(linking) => match linking.passkey.as_ref() {
            Some(Ceremony { account: of, step: Step::Shown { code, .. }, .. }) if of == account => {
                Some(code.clone())
            }
            _ => None,
        },
        _ => None,
    })
}

/// What comes from the phone after the server's reply.
enum Then {
    Nothing,
    /// It shows its key.
    Greets(Node),
    /// It has the secret.
    Links(PhoneNumber, Vec<u8>),
}

/// Handles a request of a device that is not linked; false if it is about something else.
pub(crate) fn request(hub: &Arc<Hub>, connection: ConnectionId, iq: &Node) -> bool {
    let then = hub.update(|world| {
        let (reply, then) = answer(world, connection, iq)?;
        world.send(connection, reply);
        Some(then)
    });
    match then {
        None => return false,
        Some(Then::Nothing) => {}
        Some(then) => {
            let hub = Arc::clone(hub);
            hub.tasks.clone().spawn(async move { goes_on(&hub, connection, then).await });
        }
    }
    true
}

async fn goes_on(hub: &Arc<Hub>, connection: ConnectionId, then: Then) {
    tokio::select! {
        () = tokio::time::sleep(PHONE_TAKES) => {}
        () = hub.stopping.cancelled() => return,
    }
    match then {
        Then::Nothing => {}
        Then::Greets(hello) => hub.update(|world| world.send(connection, hello)),
        Then::Links(account, secret) => {
            if let Err(error) = pairing::accept(hub, &account, connection, &secret).await {
                tracing::warn!(%account, %error, "a device with a passkey was not linked");
            }
        }
    }
}

/// The reply, and what comes then.
fn answer(world: &mut World, connection: ConnectionId, iq: &Node) -> Option<(Node, Then)> {
    let child = iq.children().and_then(<[Node]>::first)?;
    let role = &mut world.connections.get_mut(&connection)?.role;
    let Role::Linking(linking) = role else { return None };
    let keys = (linking.noise.0, linking.registration.identity.0);
    let ceremony = linking.passkey.as_mut()?;
    let account = ceremony.account.clone();
    let passkey = world.accounts.get(&account)?.record.passkey.clone()?;
    let content = bytes(child).unwrap_or_default();
    let done = |content, then| Some((stanza::iq_result(iq, content), then));
    let refused = |code, text| Some((stanza::iq_error(iq, code, text), Then::Nothing));
    match child.tag.as_ref() {
        "ref" => {
            let reference = NodeBuilder::new("ref").bytes(ceremony.reference.as_bytes()).build();
            done(vec![reference], Then::Nothing)
        }
        "passkey_request_options" => {
            let options = webauthn::options(&ceremony.challenge).to_string().into_bytes();
            done(vec![NodeBuilder::new("passkey_request_options").bytes(options).build()], Then::Nothing)
        }
        "passkey_prologue" => match prologue(ceremony, &passkey, child) {
            Ok((greeted, identity)) => {
                ceremony.step = Step::Greeted(Box::new(greeted));
                let child = NodeBuilder::new("primary_ephemeral_identity").bytes(identity).build();
                done(vec![], Then::Greets(notification("crsc_continuation", child)))
            }
            Err(why) => {
                tracing::warn!(%account, why, "a passkey's answer is refused");
                refused(401, "not-authorized")
            }
        },
        "companion_nonce" => match shown(ceremony, content) {
            Some(shown) => {
                ceremony.step = shown;
                done(vec![], Then::Nothing)
            }
            None => refused(400, "bad-request"),
        },
        "encrypted_pairing_request" => match opened(ceremony, content, keys) {
            Some(secret) => {
                ceremony.step = Step::Done;
                done(vec![], Then::Links(account, secret))
            }
            None => refused(400, "bad-request"),
        },
        _ => None,
    }
}

/// Is it the passkey's answer, and what does the device say of itself?
fn prologue(ceremony: &Ceremony, passkey: &Passkey, said: &Node) -> Result<(Greeted, Vec<u8>), String> {
    let part = |tag| said.get_optional_child(tag).and_then(bytes).unwrap_or_default();
    let (id, answer) = (part("credential_id"), part("webauthn_assertion"));
    passkey.check(&ceremony.challenge, id, answer).map_err(|error| error.to_string())?;
    greet(part("prologue_payload"))
}

/// The phone's side: it keeps what the device has said, and shows a key of its own.
fn greet(payload: &[u8]) -> Result<(Greeted, Vec<u8>), String> {
    let bad = |what: &str| what.to_owned();
    let payload = wa::ProloguePayload::decode_from_slice(payload).map_err(|_| bad("prologue_payload"))?;
    let identity = payload.companion_ephemeral_identity.ok_or_else(|| bad("no identity"))?;
    let hash = payload.commitment.into_option().and_then(|c| c.hash).ok_or_else(|| bad("no commitment"))?;
    let keys = KeyPair::generate(&mut rand::rng());
    let nonce: [u8; 32] = rand::random();
    let mine = wa::PrimaryEphemeralIdentity {
        public_key: Some(keys.public_key.public_key_bytes().to_vec()),
        nonce: Some(nonce.to_vec()),
    };
    Ok((Greeted { identity, hash, keys, nonce }, mine.encode_to_vec()))
}

/// What both show, if the nonce is the one to which the device is bound.
fn shown(ceremony: &Ceremony, nonce: &[u8]) -> Option<Step> {
    let Step::Greeted(greeted) = &ceremony.step else { return None };
    let nonce: [u8; 32] = nonce.try_into().ok()?;
    if ShortcakeUtils::commitment_hash(&greeted.identity, &nonce).as_slice() != greeted.hash {
        return None;
    }
    let device = wa::CompanionEphemeralIdentity::decode_from_slice(&greeted.identity).ok()?;
    if device.r#ref.as_deref() != Some(ceremony.reference.as_str()) {
        return None;
    }
    let public = PublicKey::from_djb_public_key_bytes(&device.public_key?).ok()?;
    let shared = greeted.keys.private_key.calculate_agreement(&public).ok()?;
    let key = ShortcakeUtils::derive_encryption_key_from_shared_secret(
        &shared.as_ref().try_into().ok()?,
        device.device_type?,
        &ceremony.reference,
    );
    let mine: [u8; 32] = greeted.keys.public_key.public_key_bytes().try_into().ok()?;
    let code = ShortcakeUtils::derive_verification_code(&nonce, &mine, &greeted.nonce);
    Some(Step::Shown { code: format!("{}-{}", code.get(..4)?, code.get(4..)?), key: key.ok()? })
}

/// The secret, if it comes from the device with these keys.
fn opened(ceremony: &Ceremony, sealed: &[u8], (noise, identity): ([u8; 32], [u8; 32])) -> Option<Vec<u8>> {
    let Step::Shown { key, .. } = &ceremony.step else { return None };
    let sealed = wa::EncryptedPairingRequest::decode_from_slice(sealed).ok()?;
    let nonce: [u8; 12] = sealed.iv?.as_slice().try_into().ok()?;
    let mut plain = Vec::new();
    aes_256_gcm_decrypt(key, &nonce, b"", &sealed.encrypted_payload?, &mut plain).ok()?;
    let request = wa::PairingRequest::decode_from_slice(&plain).ok()?;
    let is_its_own = request.companion_public_key.as_deref() == Some(&noise)
        && request.companion_identity_key.as_deref() == Some(&identity);
    request.adv_secret.filter(|_| is_its_own)
}
