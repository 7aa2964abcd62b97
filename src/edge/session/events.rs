//! The client's events. Some are handled at once: those that decide the order of a chat, and those about sent
//! messages. Events about the link go to the session, one after the other.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use whatsapp_rust::wacore::types::events::{
    ConnectFailureReason, Event, EventHandler, InboundMessage, LoggedOut, PairingCode, Receipt, ServerAck,
};
use whatsapp_rust::wacore_binary::{JidExt as _, OwnedNodeRef};

use super::aside::{Aside, Asides, Unreadable, unreadable};
use super::ask::PairCode;
use super::calls::{self, Calls};
use super::extra::Extra;
use super::gate::Gate;
use super::group_changes;
use super::groups::Groups;
use super::kept_out::KeptOut;
use super::link::{Input, Qr, State};
use super::pair_codes::Refusal;
use super::passkey::{self, Ceremony};
use super::resend::{Resends, waiting_for};
use crate::stdout;
use crate::telemetry::redact;
use crate::wire::header::rfc3339_ms;
use crate::wire::now_ms;

/// How many events of the link may wait for the session. WhatsApp sends a few in a minute, and the session handles
/// each one within the time of one request, so the queue does not fill up. If it does, the next event is dropped
/// with an ERROR, and the next check of the connection finds the true state.
const WAITING: usize = 1_024;

/// Receives what WhatsApp reports about sent messages. It runs on the library's own task, so it must not wait.
pub(crate) trait OutgoingObserver: Send + Sync {
    /// WhatsApp's server has accepted a stanza, or has refused it.
    fn acked(&self, ack: &ServerAck);
    /// A phone has received a message, or has displayed it.
    fn receipt(&self, receipt: &Receipt);
}

/// What the session hears of its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something that may change the link's state.
    Link(Input),
    /// There is a new connection. WhatsApp hands over what has waited, before the link counts as connected.
    LoggedIn,
    /// WhatsApp gave a pairing code.
    PairCode(PairCode),
    /// WhatsApp gave no pairing code.
    NoPairCode(Refusal),
    /// The account has another name.
    Renamed,
    /// There were too many attempts to connect.
    SlowDown,
}

/// Receives a client's events. What it handles at once must be known before the library goes on to the next stanza.
pub(super) struct Listener {
    resends: Resends,
    gate: Gate,
    asides: Asides,
    extra: Extra,
    calls: Calls,
    groups: Groups,
    outgoing: Arc<dyn OutgoingObserver>,
    ceremony: Ceremony,
    link: mpsc::Sender<Heard>,
}

impl Listener {
    /// A listener, and the channel on which the link's state machine receives its events.
    pub(super) fn new(
        (resends, gate): (Resends, Gate),
        (asides, extra, groups): (Asides, Extra, Groups),
        outgoing: Arc<dyn OutgoingObserver>,
        ceremony: Ceremony,
    ) -> (Arc<Self>, mpsc::Receiver<Heard>) {
        let (link, heard) = mpsc::channel(WAITING);
        let calls = Calls::default();
        (Arc::new(Self { resends, gate, asides, extra, calls, groups, outgoing, ceremony, link }), heard)
    }
}

impl EventHandler for Listener {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::RawNode(stanza) => return self.came(stanza),
            Event::ServerAck(ack) => return self.outgoing.acked(ack),
            Event::Receipt(receipt) => return self.outgoing.receipt(receipt),
            Event::UndecryptableMessage(message) => match unreadable(message) {
                Unreadable::Ignore => {}
                Unreadable::Hold => self.resends.unreadable(&message.info),
                Unreadable::Tell(kind) => {
                    self.asides.push(Aside::Missing { info: Arc::clone(&message.info), kind });
                }
            },
            // The owner's phone hands it over, or it is of a newsletter. Nobody has stored it, and WhatsApp does not
            // bring it again.
            Event::Messages(batch) if !batch.hook_committed => {
                let passes_by = |message: &&InboundMessage| {
                    let chat = &message.info.source.chat;
                    let handed_over = message.info.unavailable_request_id.is_some();
                    self.extra.wants(chat) && (handed_over || chat.is_newsletter())
                };
                for message in batch.iter().filter(passes_by) {
                    self.asides.push(Aside::Content(message.clone()));
                }
            }
            Event::IncomingCall(call) => {
                if let Some(missed) = self.calls.heard(call) {
                    self.asides.push(Aside::Call(missed));
                }
            }
            Event::GroupUpdate(update) => {
                self.groups.changed(&update.group_jid);
                self.asides.push(Aside::Group(group_changes::read(update)));
            }
            Event::MissedCall(call) => self.asides.push(Aside::Call(calls::away(call))),
            Event::PairPasskeyRequest(request) => {
                return self.tell(Heard::Link(self.passkey(&request.request_options_json)));
            }
            // The library sends this event once WhatsApp's queue is drained.
            Event::Connected(_) => {
                self.gate.draining(false);
                self.resends.drained();
            }
            _ => {}
        }
        if let Some(heard) = heard(&event) {
            self.tell(heard);
        }
    }
}

impl Listener {
    /// WhatsApp wants the account's passkey. From now on the codes may take their time.
    fn passkey(&self, options: &str) -> Input {
        let Some(challenge) = passkey::challenge(options, Instant::now()) else {
            tracing::error!(
                "WhatsApp asks for a passkey in a way that no browser understands; linking begins anew"
            );
            return Input::PasskeyOver;
        };
        tracing::warn!(
            "WhatsApp wants to see the account's passkey; the console at HTTP_ADDR says what to do"
        );
        self.ceremony.begins(challenge.expires);
        Input::PasskeyWanted(challenge)
    }

    fn tell(&self, heard: Heard) {
        // If the channel is closed, the session is ending and needs no more events.
        if let Err(mpsc::error::TrySendError::Full(heard)) = self.link.try_send(heard) {
            tracing::error!(
                ?heard,
                "the session does not keep up with the link's events; one event is dropped"
            );
        }
    }

    fn came(&self, stanza: &OwnedNodeRef) {
        match stanza.tag() {
            "message" => {}
            "success" => {
                self.gate.draining(true);
                self.resends.logged_in();
                return self.tell(Heard::LoggedIn);
            }
            // The library makes its own pauses longer, and tells nobody.
            "stream:error" if stanza.attrs().optional_string("code").is_some_and(|code| code == "429") => {
                return self.tell(Heard::SlowDown);
            }
            _ => return,
        }
        let mut attrs = stanza.attrs();
        // A message that the linked number's own phone wrote names the chat as its recipient.
        let Some(chat) = attrs.optional_jid("recipient").or_else(|| attrs.optional_jid("from")) else {
            return;
        };
        if let Some(id) = attrs.optional_string("id") {
            let sender = attrs.optional_jid("participant");
            self.resends.came(&waiting_for(&chat, sender.as_ref()), &id);
        }
    }
}

/// What an event means for the link. Also writes the log line that an operator needs with it.
fn heard(event: &Event) -> Option<Heard> {
    Some(Heard::Link(match event {
        Event::PairingQrCode(qr) => {
            Input::Qr(Qr { code: qr.code.clone(), expires: Instant::now() + qr.timeout })
        }
        Event::PairingCode(pairing) => return Some(show(pairing)),
        Event::PairingCodeError(error) => {
            let refusal = Refusal { rejection: error.rejection, backoff: error.backoff };
            return Some(Heard::NoPairCode(refusal));
        }
        // The code is dead: WhatsApp wants another one, or the phone did not answer.
        Event::PairingCodeRefresh(_) => {
            tracing::info!("the pairing code has ended; another one is asked for");
            Input::PairCodeOver
        }
        Event::SelfPushNameUpdated(_) => return Some(Heard::Renamed),
        Event::PairError(error) => {
            tracing::error!(error = error.error, "linking failed; scan the next QR code");
            return None;
        }
        Event::PairingQrCodesExhausted(codes) => Input::QrExhausted { code_stands: !codes.disconnected },
        Event::PairPasskeyConfirmation(shown) => Input::PasskeyCode(shown.code.clone()),
        Event::PairPasskeyError(error) => {
            let error = redact::text(&error.error);
            tracing::error!(error, "linking with the passkey failed; begin anew with the next QR code");
            Input::PasskeyOver
        }
        Event::PairSuccess(_) => Input::Paired,
        Event::Connected(_) => Input::Connected,
        Event::Disconnected(_) => Input::Disconnected,
        Event::StreamReplaced(_) => {
            tracing::error!("another program logged in with this session; this edge stays away for a while");
            Input::Replaced
        }
        Event::LoggedOut(out) => logged_out(out),
        Event::TemporaryBan(ban) => kept_out(KeptOut::banned(ban, now_ms())),
        Event::ClientOutdated(_) => {
            tracing::error!("WhatsApp refuses this version of the client; upgrade the connector");
            Input::Outdated
        }
        Event::ConnectFailure(failure) if failure.reason == ConnectFailureReason::TempBanned => {
            kept_out(KeptOut::banned_without_a_word(now_ms()))
        }
        Event::ConnectFailure(failure) if failure.reason == ConnectFailureReason::BadUserAgent => {
            tracing::error!("WhatsApp does not know this client; upgrade the connector");
            Input::Outdated
        }
        Event::ConnectFailure(failure) => {
            tracing::error!(reason = ?failure.reason, "WhatsApp refused the login; trying again in a minute");
            Input::Refused
        }
        Event::UndecryptableMessage(message) if message.is_unavailable => {
            tracing::info!(
                message_id = message.info.id,
                "WhatsApp has word of a message, and not the message"
            );
            return None;
        }
        Event::UndecryptableMessage(_) => {
            tracing::warn!("a message could not be decrypted; its sender is asked to send it again");
            return None;
        }
        _ => return None,
    }))
}

/// A pairing code, for the person who links the number.
fn show(pairing: &PairingCode) -> Heard {
    let (now, lives) = (now_ms(), i64::try_from(pairing.timeout.as_millis()).unwrap_or_default());
    stdout::notice(format_args!(
        "Pair code for WhatsApp, under Linked devices → Link with phone number: {} (valid until {})",
        pairing.code,
        rfc3339_ms(now.saturating_add(lives))
    ));
    Heard::PairCode(PairCode { code: pairing.code.clone(), expires: Instant::now() + pairing.timeout })
}

/// The session is dead, or the account is locked: then the session is as good as before.
fn logged_out(out: &LoggedOut) -> Input {
    // The rest of what WhatsApp says is not logged: it has a token for the appeal, which works once.
    if out.reason == ConnectFailureReason::AccountLocked {
        return kept_out(KeptOut::locked(now_ms()));
    }
    if out.raw.is_none() {
        // WhatsApp has said nothing: a person has asked for it.
        tracing::info!("the number is unlinked");
        return Input::LoggedOut;
    }
    tracing::error!("WhatsApp has logged this number out; it has to be linked again");
    Input::LoggedOut
}

fn kept_out(kept_out: KeptOut) -> Input {
    let state = State::KeptOut(kept_out.clone());
    tracing::error!("{}", state.detail());
    Input::KeptOut(kept_out)
}
