//! Sends one message until WhatsApp's server has it, or has refused it for good.
//!
//! The library's `Ok` only means "written to the socket". A message counts as sent when the server's ack for its id
//! has come. Everything else is "unknown": the same message is sent again under the same id, and a phone that has
//! it already drops it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use whatsapp_rust::prelude::wa;
use whatsapp_rust::wacore::types::events::ServerAck;
use whatsapp_rust::wacore_binary::JidExt as _;
use whatsapp_rust::{Client, IqError, Jid, SendError, SendOptions};

use super::new_chats::{Closed, Why};
use super::pace::Pace;
use super::request::Flaw;
use super::slots::Slot;
use super::upload_policy::Trouble;
use crate::crash;
use crate::edge::addressing::opt_outs::{Consent, OptOuts};
use crate::edge::addressing::takeovers::Takeovers;
use crate::edge::session::{Connection, is_final};
use crate::telemetry::{metrics, redact, spans};
use crate::wire::{ChatToken, now_ms};

/// How long the library may take to write a message to the socket.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to acknowledge it.
const ACK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait before a message whose fate is unknown, or that was not sent, is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The longest pause before a message is tried again that could not be written, if WhatsApp does not want a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is said if there are no keys of the person's phone.
const NO_KEYS: &str = "no-keys";
/// How often a refused message is tried again.
const REFUSAL_RETRIES: u32 = 3;

/// Why a message was given up. The code goes on the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undeliverable {
    /// The number is not on WhatsApp.
    #[error("unknown-number")]
    UnknownNumber,
    /// WhatsApp's server refused it every time.
    #[error("refused-{0}")]
    Refused(String),
    /// The address or the content cannot be sent.
    #[error("invalid-request")]
    Invalid(Flaw),
    /// WhatsApp does not have its file.
    #[error("{0}")]
    File(Trouble),
    /// The caller did not want it to be sent so late.
    #[error("expired")]
    Expired,
    /// No message goes to a new chat at present.
    #[error("{0}")]
    NewChat(Closed),
    /// A person has taken over the chat.
    #[error("human")]
    Human,
    /// The person wants nothing unasked.
    #[error("opted-out")]
    OptedOut,
    /// It is not known whether the person wants it. This is not the end: it is asked again.
    #[error("undecided")]
    Undecided,
    /// It is for a group in which only admins may write, and the number is none.
    #[error("announce-only")]
    AdminsOnly,
}

impl Undeliverable {
    /// A code with few values, for metrics: it leaves out WhatsApp's own code.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::UnknownNumber => "unknown-number",
            Self::Refused(_) => "refused",
            Self::Invalid(_) => "invalid-request",
            Self::File(trouble) => trouble.code(),
            Self::Expired => "expired",
            Self::NewChat(closed) => closed.why.code(),
            Self::Human => "human",
            Self::OptedOut => "opted-out",
            Self::Undecided => "undecided",
            Self::AdminsOnly => "announce-only",
        }
    }

    /// What is wrong with the request, as a code. Empty: nothing.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Invalid(flaw) => flaw.to_string(),
            _ => String::new(),
        }
    }
}

/// The server's acks, by message id. Only acks of class `message`: the acks of the connector's own receipts carry
/// the id of the inbound message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acks(Arc<Mutex<HashMap<String, oneshot::Sender<Verdict>>>>);

/// Accepted, or refused with this code.
type Verdict = Result<(), String>;

impl Acks {
    /// An ack has come.
    pub(crate) fn heard(&self, ack: &ServerAck) {
        if ack.class.as_deref() != Some("message") {
            return;
        }
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&ack.id);
        if let Some(waiting) = waiting {
            // No task waits any more if that attempt has timed out.
            let _ = waiting.send(ack.error.clone().map_or(Ok(()), Err));
        }
    }

    fn expect(&self, id: &str) -> oneshot::Receiver<Verdict> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), sender);
        receiver
    }

    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// Sends messages. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    connection: Connection,
    acks: Acks,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parcel<'a> {
    /// The message.
    pub message: &'a wa::Message,
    /// The chat's disappearing timer; 0: it has none.
    pub disappears_after_s: u32,
    /// It is not sent after this time. Milliseconds.
    pub not_after_ms: Option<i64>,
    /// An edge may have sent it before.
    pub again: bool,
    /// It goes to a new chat.
    pub to_stranger: bool,
    /// If it is refused, something simpler goes in its place.
    pub has_substitute: bool,
    /// Why it may not be sent after all.
    pub unless: Option<Guard<'a>>,
}

/// Looks in the moment before a message is sent whether it is still wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard<'a> {
    /// An answer is held back if a person has taken over its chat.
    Answer {
        /// The chats that a person has taken over.
        takeovers: &'a Takeovers,
        /// The answer's.
        chat: &'a ChatToken,
        /// When the message was written that it answers. Milliseconds.
        asked_ms: i64,
    },
    /// A request is held back if its recipient wants nothing unasked.
    Unasked {
        /// Who does not.
        opt_outs: &'a OptOuts,
        /// The recipient, by each address.
        recipient: &'a [ChatToken],
    },
}

impl Guard<'_> {
    async fn lets_pass(&self) -> Result<(), Undeliverable> {
        match self {
            Self::Answer { takeovers, chat, asked_ms } if takeovers.silences(chat, *asked_ms).await => {
                Err(Undeliverable::Human)
            }
            Self::Answer { .. } => Ok(()),
            Self::Unasked { opt_outs, recipient } => match opt_outs.consent(recipient).await {
                Consent::Given => Ok(()),
                Consent::Withdrawn => Err(Undeliverable::OptedOut),
                Consent::Unknown => Err(Undeliverable::Undecided),
            },
        }
    }
}

impl Parcel<'_> {
    /// Would it be refused again?
    fn is_refused_for_good(&self, code: &str, refusals: u32) -> bool {
        let is_about_chat = Why::of(code).is_some();
        refusals >= REFUSAL_RETRIES
            || (self.to_stranger && is_about_chat)
            || (self.has_substitute && !is_about_chat)
    }
}

enum Attempt {
    Sent,
    Refused(String),
    /// WhatsApp may have it.
    Unknown(&'static str),
    /// The library did not come to write it: WhatsApp gives it no keys, say, and may want to be left alone for so long.
    NotWritten {
        why: String,
        backoff: Option<Duration>,
    },
    /// WhatsApp cannot have it.
    NotSent,
    Invalid,
}

impl Sender {
    /// Sends over the client that is online.
    pub(crate) fn new(connection: Connection, acks: Acks) -> Self {
        Self { connection, acks }
    }

    /// The state of the link.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns when WhatsApp's server has the message, or will never have it. This may take any time. After a
    /// cancel the result is unknown.
    ///
    /// Whoever waits to try again leaves its slot to others.
    pub(crate) async fn send(
        &self,
        to: &Jid,
        id: &str,
        parcel: Parcel<'_>,
        slot: &mut Slot<'_>,
    ) -> Result<(), Undeliverable> {
        let (mut refusals, mut may_have_it, mut is_told) = (0, false, false);
        let mut pace = Pace::at_most(LONGEST_PAUSE);
        loop {
            let client = self.connection.client().await;
            // Of what WhatsApp may have already, the truth is worth more than the time.
            if !may_have_it && parcel.not_after_ms.is_some_and(|time| now_ms() > time) {
                return Err(Undeliverable::Expired);
            }
            if let Some(guard) = parcel.unless.filter(|_| !may_have_it) {
                guard.lets_pass().await?;
            }
            if to.is_group() && (parcel.again || may_have_it) {
                forget_keys(&client, to).await;
            }
            match self.attempt(&client, to, id, parcel).await {
                Attempt::Sent => return Ok(()),
                Attempt::Invalid => return Err(Undeliverable::Invalid(Flaw::Content)),
                Attempt::Refused(code) if parcel.is_refused_for_good(&code, refusals) => {
                    return Err(Undeliverable::Refused(code));
                }
                Attempt::Refused(code) => {
                    metrics::RESENDS.add(1, ["refused"]);
                    spans::event("retry", [("wa.reason", format!("refused-{code}").into())]);
                    tracing::warn!(code, whatsapp_id = id, "WhatsApp refused a message; trying again");
                    slot.pause(Duration::from_secs(1 << refusals)).await;
                    refusals += 1;
                }
                Attempt::Unknown(why) => {
                    may_have_it = true;
                    metrics::RESENDS.add(1, ["unknown"]);
                    spans::event("retry", [("wa.reason", why.into())]);
                    tracing::warn!(
                        why,
                        whatsapp_id = id,
                        "it is unknown whether a message was sent; it is sent again under the same id"
                    );
                    slot.pause(AGAIN_AFTER).await;
                }
                Attempt::NotWritten { why, backoff } => {
                    let pause = pace.failed(backoff);
                    tell_unwritten(id, &why, pause);
                    slot.pause(pause).await;
                }
                Attempt::NotSent => {
                    metrics::RESENDS.add(1, ["not-sent"]);
                    spans::event("retry", [("wa.reason", "not-sent".into())]);
                    if !is_told {
                        is_told = true;
                        tracing::warn!(
                            whatsapp_id = id,
                            "the session with WhatsApp cannot be written; nothing is sent until it can: is the disk full?"
                        );
                    }
                    slot.pause(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn attempt(&self, client: &Client, to: &Jid, id: &str, parcel: Parcel<'_>) -> Attempt {
        crash::point_of("edge.before-send", id);
        if !is_ratchet_on_disk(client).await {
            return Attempt::NotSent;
        }
        let ack = self.acks.expect(id);
        let options = SendOptions::default().with_message_id(id);
        let options = match parcel.disappears_after_s {
            0 => options,
            seconds => options.with_ephemeral_expiration(seconds),
        };
        let gate = self.connection.gate();
        let write = client.send_message_with_options(to.clone(), parcel.message.clone(), options);
        let attempt = match tokio::time::timeout(WRITE_TIMEOUT, gate.sends(write)).await {
            Err(_elapsed) => Attempt::Unknown("not written in time"),
            Ok(None) => Attempt::Unknown("the connection was lost"),
            Ok(Some(Err(SendError::InvalidRequest(_)))) => Attempt::Invalid,
            // It is asked about the group first, and the number may be no member any more.
            Ok(Some(Err(SendError::Iq(IqError::ServerError { code, .. }))))
                if to.is_group() && is_final(code) =>
            {
                Attempt::Refused(code.to_string())
            }
            // Nobody could get it, not even another device of the owner's.
            Ok(Some(Err(SendError::Internal(_)))) if was_left_out(client, to).await => {
                Attempt::Refused(NO_KEYS.to_owned())
            }
            Ok(Some(Err(error))) => {
                tracing::debug!(error = redact::text(&error), "a send failed");
                failed(&error)
            }
            Ok(Some(Ok(_written))) => {
                crash::point_of("edge.after-send", id);
                match tokio::time::timeout(ACK_TIMEOUT, ack).await {
                    Ok(Ok(Ok(()))) if was_left_out(client, to).await => Attempt::Refused(NO_KEYS.to_owned()),
                    Ok(Ok(Ok(()))) => Attempt::Sent,
                    Ok(Ok(Err(code))) => Attempt::Refused(code),
                    Ok(Err(_)) | Err(_) => Attempt::Unknown("the server did not acknowledge it"),
                }
            }
        };
        self.acks.forget(id);
        attempt
    }
}

fn tell_unwritten(id: &str, why: &str, pause: Duration) {
    metrics::RESENDS.add(1, ["not-written"]);
    spans::event("retry", [("wa.reason", "not-written".into())]);
    tracing::warn!(
        why,
        whatsapp_id = id,
        again_after_s = pause.as_secs_f64(),
        "a message could not be encrypted for its recipient; trying again"
    );
}

/// What it means that the library could not send. Before it writes a message, it asks WhatsApp for devices and keys, and it
/// encrypts; these errors come from there.
fn failed(error: &SendError) -> Attempt {
    match error {
        SendError::Iq(IqError::ServerError { code, backoff, .. }) => Attempt::NotWritten {
            why: format!("refused-{code}"),
            backoff: backoff.map(|seconds| Duration::from_secs(seconds.into())),
        },
        SendError::Internal(_) => Attempt::NotWritten { why: "internal".to_owned(), backoff: None },
        _ => Attempt::Unknown("not written"),
    }
}

/// WhatsApp may have given no keys of the person's phone. Then the library sends to the others who get a copy, the owner's own
/// phone among them, and WhatsApp accepts that.
async fn was_left_out(client: &Client, to: &Jid) -> bool {
    !to.is_group()
        && !crash::switched_off("left-out")
        && matches!(client.signal().validate_session(to).await, Ok(false))
}

/// What the other side wrote may have turned the ratchet a moment ago. The library writes that behind, and would
/// encrypt with it meanwhile: after a kill in between, nobody could read the other any more.
async fn is_ratchet_on_disk(client: &Client) -> bool {
    if crash::switched_off("ratchet-first") {
        return true;
    }
    match tokio::time::timeout(WRITE_TIMEOUT, client.flush_pending_signal_state()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(error = redact::text(&error), "the session could not be written before a send");
            false
        }
        Err(_elapsed) => false,
    }
}

/// The library notes who has the group's key as soon as the message that brings it is written to the socket. If that message
/// has not come to WhatsApp, nobody could read the next one. So the key goes along once more; who has it drops it.
async fn forget_keys(client: &Client, group: &Jid) {
    if crash::switched_off("group-keys") {
        return;
    }
    let backend = Arc::clone(&client.persistence_manager().get_device_snapshot().backend);
    if let Err(error) = backend.clear_sender_key_devices(&group.to_string()).await {
        // Then the members ask for the message, and the key goes along with that.
        tracing::debug!(error = redact::text(&error), "it is not forgotten who has a group's key");
    }
}
