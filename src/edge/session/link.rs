//! The state of the linked number, as a pure machine: an event → the new state, and what to do with the client.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

use super::kept_out::{KeptOut, Kind};
use super::passkey::{Challenge, Passkey};
use crate::wire::header::rfc3339_ms;
use crate::wire::v1::{SessionAction, SessionState};

/// How long an edge stays away after another program has replaced it.
const REPLACED_PAUSE: Duration = Duration::from_secs(45);

/// The states of the link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// The session is being opened.
    #[default]
    Starting,
    /// There is no session: the operator has to scan the QR code.
    Unlinked {
        /// The QR code, once WhatsApp has sent it. It is a secret while it is valid.
        qr: Option<Qr>,
    },
    /// The phone has scanned the code, and WhatsApp wants to see the account's passkey before it links the number.
    Passkey(Passkey),
    /// Another edge holds the account. This one takes over when that one ends.
    Standby,
    /// There is a session, but no connection yet.
    Connecting,
    /// Messages go both ways.
    Online,
    /// The connection is lost. It comes back by itself.
    Offline,
    /// There is a connection, and WhatsApp says nothing on it, not even to a ping. Another one is made.
    Silent,
    /// Another program took the session over. Only the holder of the lease tries again, after a pause.
    Replaced,
    /// WhatsApp keeps the number out for a while: banned or locked.
    KeptOut(KeptOut),
    /// WhatsApp refuses this version of the client.
    Outdated,
    /// The process is stopping.
    Stopped,
}

/// A QR code to scan.
#[derive(Clone, PartialEq, Eq)]
pub struct Qr {
    /// The payload. Anybody who has it can link the number.
    pub code: String,
    /// When WhatsApp stops accepting it.
    pub expires: Instant,
}

impl std::fmt::Debug for Qr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qr").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The events of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Another edge holds the account's lease.
    StandBy,
    /// The client is running, with or without a session in its store.
    Started {
        /// There is a session.
        linked: bool,
    },
    /// A QR code has come.
    Qr(Qr),
    /// All QR codes of this connection have expired.
    QrExhausted {
        /// A pairing code is still valid, on the same connection.
        code_stands: bool,
    },
    /// A pairing code has ended, or the next one may be asked for.
    PairCodeOver,
    /// WhatsApp wants to see the account's passkey.
    PasskeyWanted(Challenge),
    /// WhatsApp has the passkey's answer.
    PasskeyAnswered,
    /// The phone shows this code.
    PasskeyCode(String),
    /// It came to nothing, or a person has given up on it.
    PasskeyOver,
    /// WhatsApp's address answers again, and the client pauses.
    LineIsBack,
    /// The phone has scanned the QR code.
    Paired,
    /// The client is logged in, and the offline queue is drained.
    Connected,
    /// The connection is lost.
    Disconnected,
    /// WhatsApp says nothing on the connection, not even to a ping.
    Silent,
    /// Another program logged in with this session.
    Replaced,
    /// The session is dead for good.
    LoggedOut,
    /// The number may not log in for a while.
    KeptOut(KeptOut),
    /// The client is too old for WhatsApp.
    Outdated,
    /// WhatsApp refused the login for another reason, and the client gave up.
    Refused,
    /// The client's loop ended without an event.
    Ended,
    /// The process is stopping.
    Stopping,
}

/// What to do with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Leave it alone: it reconnects by itself.
    Nothing,
    /// Build a new client on the same session, after a pause.
    Rebuild {
        /// The pause.
        after: Duration,
    },
    /// Build a new client on the same session, and not before this time.
    ComeBack {
        /// In milliseconds since 1970.
        at_ms: i64,
    },
    /// Set the dead session aside and build a new client, which gets a new QR code.
    StartOver,
    /// Leave it stopped: another attempt would make things worse.
    Halt,
}

/// All values of [`State::code`].
pub const CODES: [&str; 15] = [
    "starting",
    "unlinked",
    "qr-ready",
    "passkey-required",
    "passkey-confirm",
    "standby",
    "connecting",
    "online",
    "offline",
    "silent",
    "replaced",
    "banned",
    "locked",
    "outdated",
    "stopped",
];

impl State {
    /// The transition.
    pub fn after(&self, input: Input) -> (Self, Then) {
        let soon = Then::Rebuild { after: Duration::from_secs(1) };
        match input {
            Input::Stopping => (Self::Stopped, Then::Nothing),
            _ if *self == Self::Stopped => (Self::Stopped, Then::Nothing),
            Input::StandBy => (Self::Standby, Then::Nothing),
            // A new client after an outage: the connection is still gone.
            Input::Started { linked: true } if matches!(self, Self::Offline | Self::Silent) => {
                (self.clone(), Then::Nothing)
            }
            Input::Started { linked: true } => (Self::Connecting, Then::Nothing),
            Input::Started { linked: false } => (Self::Unlinked { qr: None }, Then::Nothing),
            // The library goes on making codes, which nobody needs now.
            Input::Qr(_) | Input::QrExhausted { .. } if matches!(self, Self::Passkey(_)) => {
                (self.clone(), Then::Nothing)
            }
            Input::Qr(qr) => (Self::Unlinked { qr: Some(qr) }, Then::Nothing),
            Input::QrExhausted { code_stands: true } => (Self::Unlinked { qr: None }, Then::Nothing),
            Input::QrExhausted { code_stands: false } => (Self::Unlinked { qr: None }, soon),
            Input::PairCodeOver => match self {
                Self::Unlinked { .. } => (Self::Unlinked { qr: None }, soon),
                other => (other.clone(), Then::Nothing),
            },
            Input::PasskeyWanted(challenge) => match self {
                Self::Unlinked { .. } | Self::Passkey(_) => {
                    (Self::Passkey(Passkey::Wanted(challenge)), Then::Nothing)
                }
                other => (other.clone(), Then::Nothing),
            },
            Input::PasskeyAnswered | Input::PasskeyCode(_) => (self.with_passkey(input), Then::Nothing),
            Input::PasskeyOver => match self {
                Self::Passkey(_) => (Self::Unlinked { qr: None }, soon),
                other => (other.clone(), Then::Nothing),
            },
            Input::LineIsBack => (self.clone(), Then::Rebuild { after: Duration::ZERO }),
            Input::Paired => (Self::Connecting, Then::Nothing),
            Input::Connected => (Self::Online, Then::Nothing),
            // WhatsApp closes the socket while nobody has scanned: this is part of pairing.
            Input::Disconnected => match self {
                Self::Online | Self::Offline => (Self::Offline, Then::Nothing),
                // WhatsApp waits for the answer on this connection only.
                Self::Passkey(_) => (Self::Unlinked { qr: None }, soon),
                other => (other.clone(), Then::Nothing),
            },
            Input::Silent => match self {
                Self::Online => (Self::Silent, Then::Nothing),
                other => (other.clone(), Then::Nothing),
            },
            // Never at once: the two programs would replace each other for ever.
            Input::Replaced => (Self::Replaced, Then::Rebuild { after: REPLACED_PAUSE }),
            Input::LoggedOut => (Self::Unlinked { qr: None }, Then::StartOver),
            Input::KeptOut(kept_out) => {
                let at_ms = kept_out.until_ms;
                (Self::KeptOut(kept_out), Then::ComeBack { at_ms })
            }
            Input::Outdated => (Self::Outdated, Then::Halt),
            Input::Refused => (Self::Offline, Then::Rebuild { after: Duration::from_secs(60) }),
            Input::Ended => match self {
                Self::Replaced => (Self::Replaced, Then::Rebuild { after: REPLACED_PAUSE }),
                Self::Outdated => (Self::Outdated, Then::Halt),
                Self::Unlinked { .. } | Self::Passkey(_) => (Self::Unlinked { qr: None }, soon),
                Self::KeptOut(kept_out) => (self.clone(), Then::ComeBack { at_ms: kept_out.until_ms }),
                _ => (Self::Offline, soon),
            },
        }
    }

    /// The next step with the passkey, if this is one.
    fn with_passkey(&self, input: Input) -> Self {
        match (self, input) {
            (Self::Passkey(Passkey::Wanted(asked)), Input::PasskeyAnswered) => {
                Self::Passkey(Passkey::Answered(asked.expires))
            }
            (Self::Passkey(passkey), Input::PasskeyCode(code)) => {
                Self::Passkey(Passkey::Compare { code, expires: passkey.expires() })
            }
            _ => self.clone(),
        }
    }

    /// A stable code for programs: in `/link.json`, on the bus, in readiness.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Unlinked { qr: None } => "unlinked",
            Self::Unlinked { qr: Some(_) } => "qr-ready",
            Self::Passkey(Passkey::Wanted(_) | Passkey::Answered(_)) => "passkey-required",
            Self::Passkey(Passkey::Compare { .. }) => "passkey-confirm",
            Self::Standby => "standby",
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::KeptOut(KeptOut { kind: Kind::Banned, .. }) => "banned",
            Self::KeptOut(KeptOut { kind: Kind::Locked, .. }) => "locked",
            Self::Outdated => "outdated",
            Self::Stopped => "stopped",
        }
    }

    /// A short text for operators.
    pub fn detail(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Starting => "The session is being opened.",
            Self::Unlinked { .. } => {
                "No number is linked: scan the QR code with WhatsApp on the phone, under Linked devices."
            }
            Self::Passkey(Passkey::Wanted(_)) => {
                "WhatsApp wants to see the account's passkey: the console at HTTP_ADDR says what to do."
            }
            Self::Passkey(Passkey::Answered(_)) => "WhatsApp has the passkey's answer; the phone comes next.",
            Self::Passkey(Passkey::Compare { .. }) => {
                "Compare the code on the console at HTTP_ADDR with that on the phone, and confirm it there."
            }
            Self::Standby => "Waiting for the account's lease: another edge has it, or nats-server is away.",
            Self::Connecting => "Connecting to WhatsApp.",
            Self::Online => "Linked and online.",
            Self::Offline => "The connection to WhatsApp is gone; it comes back by itself.",
            Self::Silent => "WhatsApp is connected and answers nothing, not even a ping; connecting anew.",
            Self::Replaced => {
                "Another program logged in with this session. Stop it; this edge tries again after 45 seconds."
            }
            Self::KeptOut(kept_out) => return Cow::Owned(kept_out_detail(kept_out)),
            Self::Outdated => "WhatsApp refuses this version of the client. Upgrade the connector.",
            Self::Stopped => "The edge is stopping.",
        })
    }

    /// What the operator has to do now.
    pub fn action(&self) -> SessionAction {
        match self {
            Self::Starting | Self::Connecting | Self::Online | Self::Stopped => SessionAction::None,
            Self::Unlinked { .. } => SessionAction::ScanQr,
            Self::Passkey(Passkey::Compare { .. }) => SessionAction::CompareCodes,
            Self::Passkey(_) => SessionAction::UsePasskey,
            Self::Offline | Self::Silent | Self::Standby => SessionAction::Wait,
            Self::KeptOut(KeptOut { kind: Kind::Banned, .. }) => SessionAction::Wait,
            Self::KeptOut(KeptOut { kind: Kind::Locked, .. }) => SessionAction::OpenPhone,
            Self::Replaced => SessionAction::StopOtherEdge,
            Self::Outdated => SessionAction::Upgrade,
        }
    }

    /// The same state in the form that goes on the bus.
    pub fn on_the_wire(&self) -> SessionState {
        match self {
            Self::Starting => SessionState::Starting,
            Self::Unlinked { .. } => SessionState::Unlinked,
            Self::Passkey(Passkey::Compare { .. }) => SessionState::PasskeyConfirm,
            Self::Passkey(_) => SessionState::PasskeyRequired,
            Self::Standby => SessionState::Standby,
            Self::Connecting => SessionState::Connecting,
            Self::Online => SessionState::Online,
            Self::Offline | Self::Silent => SessionState::Offline,
            Self::Replaced => SessionState::Replaced,
            Self::KeptOut(KeptOut { kind: Kind::Banned, .. }) => SessionState::Banned,
            Self::KeptOut(KeptOut { kind: Kind::Locked, .. }) => SessionState::Locked,
            Self::Outdated => SessionState::Outdated,
            Self::Stopped => SessionState::Stopped,
        }
    }
}

/// Until when, why, and what to do.
fn kept_out_detail(kept_out: &KeptOut) -> String {
    let until = rfc3339_ms(kept_out.until_ms);
    match kept_out.kind {
        Kind::Banned => {
            format!(
                "WhatsApp has banned this number until {until}: {}. No login is tried before.",
                kept_out.why
            )
        }
        Kind::Locked => format!(
            "WhatsApp has locked this account. Open WhatsApp on the phone and do what it asks for. The number stays linked; no login is tried before {until}."
        ),
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
