//! One client's life: handshake, login or linking, stanzas in and out, the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::faults::FaultKind;
use crate::hub::Hub;
use crate::ids::{Key32, PhoneNumber};
use crate::iq::Asker;
use crate::noise::{self, Accepted, Established, Intake, NoiseError, Opener, Pattern, Sealer};
use crate::pair_code;
use crate::pairing::{self, Linking, Registration};
use crate::passkey;
use crate::routing;
use crate::stanza::{self, attr};
use crate::world::{ConnectionId, Outgoing, Role, World};

/// How long a client may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How long the client may take to close after the server has said its last word. Without waiting,
/// the system could throw that word away (observed with whatsapp-rust 0.7.0).
const LINGER: Duration = Duration::from_secs(2);

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// Why a connection ended, when it was not one side's wish.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error(transparent)]
    Noise(#[from] NoiseError),
    #[error("the connection broke: {0}")]
    Socket(#[from] axum::Error),
    #[error("the client left during the handshake")]
    Left,
    #[error("the handshake took more than {} s", HANDSHAKE.as_secs())]
    Slow,
    #[error("the client's registration lacks `{0}`")]
    Registration(&'static str),
}

/// Serves a client until one side ends it or the simulator stops. `name` is how its address calls it.
pub(crate) async fn serve(hub: Arc<Hub>, socket: WebSocket, name: Option<String>) {
    hub.update(|world| world.counters.connects += 1);
    let (sink, stream) = socket.split();
    if let Err(error) = converse(&hub, sink, stream, name).await {
        if matches!(error, EndError::Noise(_) | EndError::Registration(_)) {
            hub.update(|world| world.counters.malformed += 1);
            tracing::warn!(%error, "a connection ended");
        } else {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

async fn converse(
    hub: &Arc<Hub>,
    mut sink: Sink,
    mut stream: Stream,
    name: Option<String>,
) -> Result<(), EndError> {
    let mut intake = Intake::new();
    let greeting = shake_hands(hub, &mut sink, &mut stream, &mut intake);
    let established = tokio::select! {
        () = hub.stopping.cancelled() => return Ok(()),
        result = tokio::time::timeout(HANDSHAKE, greeting) => result.map_err(|_| EndError::Slow)??,
    };
    let Established { pattern, client_static, payload, opener, sealer } = established;
    let (outbox, inbox) = mpsc::unbounded_channel();
    let id = hub.update(|world| {
        count_handshake(world, pattern);
        let now = Instant::now();
        match payload.device_pairing_data.as_option() {
            // Who is not linked is no account's: only a fault for all keeps it out.
            Some(_) if world.faults.find(FaultKind::DropConnection, None, now).is_some() => Ok(None),
            Some(data) => match Registration::read(data) {
                Ok(registration) => Ok(Some(begin_linking(world, outbox, client_static, registration))),
                Err(field) => Err(EndError::Registration(field)),
            },
            None => {
                let number = payload.username.map(|user| user.to_string());
                let device = payload.device.and_then(|device| u16::try_from(device).ok());
                Ok(log_in(world, outbox, client_static, (number, device), name))
            }
        }
    })?;
    let Some(id) = id else {
        return Ok(()); // kept out by a fault
    };
    let outcome = tokio::select! {
        () = hub.stopping.cancelled() => Ok(()),
        result = write(&mut sink, inbox, sealer) => match result {
            Ok(()) => {
                linger(&mut stream).await;
                Ok(())
            }
            Err(error) => Err(error),
        },
        result = read(hub, id, &mut stream, intake, opener) => result,
    };
    hub.update(|world| world.disconnect(id));
    // Best effort: the client may be gone.
    let _ = tokio::time::timeout(LINGER, sink.close()).await;
    outcome
}

fn count_handshake(world: &mut World, pattern: Pattern) {
    let counts = &mut world.counters.handshakes;
    match pattern {
        Pattern::Xx => counts.xx += 1,
        Pattern::Ik => counts.ik += 1,
        Pattern::XxFallback => counts.xxfallback += 1,
    }
}

async fn shake_hands(
    hub: &Arc<Hub>,
    sink: &mut Sink,
    stream: &mut Stream,
    intake: &mut Intake,
) -> Result<Established, EndError> {
    let key = hub.read(|world| Arc::clone(&world.key));
    let hello = next_frame(stream, intake).await?.ok_or(EndError::Left)?;
    match noise::accept(&key, &hello)? {
        Accepted::Done(reply, established) => {
            sink.send(Message::Binary(reply.into())).await?;
            Ok(*established)
        }
        Accepted::Finish(reply, awaiting) => {
            sink.send(Message::Binary(reply.into())).await?;
            let finish = next_frame(stream, intake).await?.ok_or(EndError::Left)?;
            Ok(awaiting.finish(&finish)?)
        }
    }
}

/// The next frame, or `None` when the client has closed.
async fn next_frame(stream: &mut Stream, intake: &mut Intake) -> Result<Option<bytes::BytesMut>, EndError> {
    loop {
        if let Some(frame) = intake.next_frame() {
            return Ok(Some(frame));
        }
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => intake.feed(&bytes)?,
            Some(Ok(Message::Close(_))) | None => return Ok(None),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

fn begin_linking(
    world: &mut World,
    outbox: UnboundedSender<Outgoing>,
    noise: Key32,
    registration: Registration,
) -> ConnectionId {
    let mut linking = Linking::new(noise, registration);
    if let Some(few) = world.faults.find(FaultKind::FewCodes, None, Instant::now()) {
        linking.refs.truncate(few.code.into());
    }
    let request = linking.request();
    let id = world.connect(outbox, Role::Linking(Box::new(linking)));
    world.send(id, request);
    tracing::info!("a device wants to be linked; scan its QR code");
    id
}

/// Lets a device in, or refuses it. `None` if a fault keeps everybody out.
fn log_in(
    world: &mut World,
    outbox: UnboundedSender<Outgoing>,
    noise: Key32,
    (number, device): (Option<String>, Option<u16>),
    name: Option<String>,
) -> Option<ConnectionId> {
    let number: Option<PhoneNumber> = number.and_then(|number| number.parse().ok());
    let known = number.zip(device).filter(|(number, device)| {
        world.device(number, *device).is_some_and(|known| known.record.noise == noise)
    });
    let Some((number, device)) = known else {
        world.counters.logins_refused += 1;
        tracing::info!("refused a login: the device is not linked, or no longer");
        // The role does not matter: the connection ends with the refusal.
        let nobody = PhoneNumber::nobody();
        let id = world.connect(outbox, Role::Device(nobody, 0));
        world.send(id, stanza::failure(401));
        world.close(id);
        return Some(id);
    };
    let kept_out = world.faults.find(FaultKind::DropConnection, Some(&number), Instant::now());
    if kept_out.is_some() {
        return None;
    }
    let refusal = world.faults.find(FaultKind::RefuseLogin, Some(&number), Instant::now());
    if let Some(refusal) = refusal.map(|fault| stanza::refused_login(fault.code, &fault.attributes)) {
        world.counters.logins_refused += 1;
        tracing::info!(account = %number, device, "refused a login by a fault");
        let id = world.connect(outbox, Role::Device(PhoneNumber::nobody(), 0));
        world.send(id, refusal);
        world.close(id);
        return Some(id);
    }
    let id = world.connect(outbox, Role::Device(number.clone(), device));
    let before = world.device_mut(&number, device).and_then(|state| {
        state.active = false;
        state.presence.clear();
        state.queue.disconnected();
        state.online.replace(id)
    });
    let spared = world.faults.find(FaultKind::TwoAtOnce, Some(&number), Instant::now()).is_some();
    if let Some(before) = before.filter(|_| !spared) {
        world.visits.replaced(before);
        world.send(before, stanza::stream_replaced());
        world.close(before);
    }
    world.counters.logins += 1;
    world.visits.begin(id, number.clone(), device, name);
    world.send(id, stanza::success(number.lid_jid(device)));
    tracing::info!(account = %number, device, "device online");
    Some(id)
}

async fn write(
    sink: &mut Sink,
    mut inbox: UnboundedReceiver<Outgoing>,
    mut sealer: Sealer,
) -> Result<(), EndError> {
    while let Some(outgoing) = inbox.recv().await {
        match outgoing {
            Outgoing::Stanza(stanza, due) => {
                if let Some(due) = due {
                    tokio::time::sleep_until(due.into()).await;
                }
                if tracing::enabled!(tracing::Level::TRACE) {
                    tracing::trace!("out {}", wacore::xml::DisplayableNode(&stanza));
                }
                let frame = sealer.seal(&stanza)?;
                sink.send(Message::Binary(frame.into())).await?;
            }
            Outgoing::Close => {
                // The client may close first; either way it is the end.
                let _ = sink.send(Message::Close(None)).await;
                break;
            }
        }
    }
    Ok(())
}

/// Waits for the client to close, and ignores what it still says.
async fn linger(stream: &mut Stream) {
    let gone = async { while let Some(Ok(_)) = stream.next().await {} };
    // Whether it closed or not, the connection is over.
    let _ = tokio::time::timeout(LINGER, gone).await;
}

async fn read(
    hub: &Arc<Hub>,
    id: ConnectionId,
    stream: &mut Stream,
    mut intake: Intake,
    mut opener: Opener,
) -> Result<(), EndError> {
    while let Some(frame) = next_frame(stream, &mut intake).await? {
        let node = opener.open(frame)?;
        if tracing::enabled!(tracing::Level::TRACE) {
            tracing::trace!("in {}", wacore::xml::DisplayableNode(&node));
        }
        let linking = hub.read(|world| {
            matches!(world.connections.get(&id).map(|connection| &connection.role), Some(Role::Linking(_)))
        });
        if linking {
            while_linking(hub, id, &node);
        } else {
            hub.update(|world| {
                let Some((number, device)) = linked_at(world, id) else {
                    return; // unlinked or replaced; the connection is about to end
                };
                world.visits.heard(id);
                let sender = Asker { number: &number, device, connection: id };
                routing::handle(world, &sender, &node);
            });
        }
    }
    Ok(())
}

/// The device at the other end, if the connection is its present one.
fn linked_at(world: &World, id: ConnectionId) -> Option<(PhoneNumber, u16)> {
    let Role::Device(number, device) = &world.connections.get(&id)?.role else {
        return None;
    };
    let state = world.device(number, *device)?;
    (state.online == Some(id)).then(|| (number.clone(), *device))
}

fn while_linking(hub: &Arc<Hub>, id: ConnectionId, node: &wacore_binary::Node) {
    if node.tag != "iq" {
        return;
    }
    match attr(node, "type").as_str() {
        "result" | "error" => pairing::answered(hub, id, node),
        _ if passkey::request(hub, id, node) => {}
        _ => hub.update(|world| {
            let reply = pair_code::request(world, id, node);
            let reply = reply.unwrap_or_else(|| stanza::iq_result(node, vec![]));
            world.send(id, reply);
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Blob;
    use crate::noise::ServerKey;
    use crate::party::{Account, AccountRecord, Device, DeviceRecord};
    use crate::signal::{Secrets, SignedPreKey};
    use crate::store::Store;

    const KEY: Key32 = Key32([7; 32]);

    fn world(number: &PhoneNumber) -> Result<World, Box<dyn std::error::Error>> {
        let mut world = World::new(ServerKey::generate(), Store::in_memory());
        let mut account = Account::new(AccountRecord {
            phone: number.clone(),
            name: "Shop".to_owned(),
            lid_migrated: true,
            raw_id: 1,
            next_device: 2,
            secrets: Secrets::generate()?,
            passkey: None,
        })?;
        let device = DeviceRecord {
            id: 1,
            noise: KEY,
            identity: KEY,
            registration_id: 1,
            signed: SignedPreKey { id: 1, public: KEY, signature: Blob(vec![0; 64]) },
            adv: Blob::default(),
            keys_uploaded: false,
            keys_shared: false,
            linked_at: String::new(),
        };
        account.devices.insert(1, Device::new(device));
        world.add_account(account);
        Ok(world)
    }

    #[test]
    fn only_the_linked_key_of_a_known_device_may_log_in() -> Result<(), Box<dyn std::error::Error>> {
        let shop: PhoneNumber = "5491150000000".parse()?;
        let cases = [
            (KEY, Some(shop.to_string()), Some(1), true),
            (Key32([8; 32]), Some(shop.to_string()), Some(1), false),
            (KEY, Some(shop.to_string()), Some(2), false),
            (KEY, Some(shop.to_string()), None, false),
            (KEY, Some("5491150000001".to_owned()), Some(1), false),
            (KEY, None, Some(1), false),
        ];
        for (key, number, device, welcome) in cases {
            let case = format!("{number:?} {device:?}");
            let mut world = world(&shop)?;
            let (outbox, mut said) = mpsc::unbounded_channel();
            assert!(log_in(&mut world, outbox, key, (number, device), None).is_some());
            world.commit();
            let Some(Outgoing::Stanza(first, _)) = said.blocking_recv() else {
                return Err("nothing was said".into());
            };
            assert_eq!(first.tag, if welcome { "success" } else { "failure" }, "{case}");
            let online = world.device(&shop, 1).and_then(|device| device.online);
            assert_eq!(online.is_some(), welcome, "{case}");
            let refused = u64::from(!welcome);
            assert_eq!(world.counters.logins_refused, refused, "{case}");
        }
        Ok(())
    }
}
