//! The state of the linked number, as a pure machine: an event → the new state, and what to do with the client.

use std::time::Duration;

use tokio::time::Instant;

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
    /// Another edge holds the account. This one takes over when that one ends.
    Standby,
    /// There is a session, but no connection yet.
    Connecting,
    /// Messages go both ways.
    Online,
    /// The connection is lost. It comes back by itself.
    Offline,
    /// Another program took the session over. Only the holder of the lease tries again, after a pause.
    Replaced,
    /// WhatsApp refuses the number for a while.
    Banned,
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
    QrExhausted,
    /// The phone has scanned the QR code.
    Paired,
    /// The client is logged in, and the offline queue is drained.
    Connected,
    /// The connection is lost.
    Disconnected,
    /// Another program logged in with this session.
    Replaced,
    /// The session is dead for good.
    LoggedOut,
    /// The number may not log in for this long.
    Banned(Duration),
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
    /// Set the dead session aside and build a new client, which gets a new QR code.
    StartOver,
    /// Leave it stopped: another attempt would make things worse.
    Halt,
}

/// All values of [`State::code`].
pub const CODES: [&str; 11] = [
    "starting",
    "unlinked",
    "qr-ready",
    "standby",
    "connecting",
    "online",
    "offline",
    "replaced",
    "banned",
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
            Input::Started { linked: true } => (Self::Connecting, Then::Nothing),
            Input::Started { linked: false } => (Self::Unlinked { qr: None }, Then::Nothing),
            Input::Qr(qr) => (Self::Unlinked { qr: Some(qr) }, Then::Nothing),
            Input::QrExhausted => (Self::Unlinked { qr: None }, soon),
            Input::Paired => (Self::Connecting, Then::Nothing),
            Input::Connected => (Self::Online, Then::Nothing),
            // WhatsApp closes the socket while nobody has scanned: this is part of pairing.
            Input::Disconnected => match self {
                Self::Online | Self::Offline => (Self::Offline, Then::Nothing),
                other => (other.clone(), Then::Nothing),
            },
            // Never at once: the two programs would replace each other for ever.
            Input::Replaced => (Self::Replaced, Then::Rebuild { after: REPLACED_PAUSE }),
            Input::LoggedOut => (Self::Unlinked { qr: None }, Then::StartOver),
            Input::Banned(time) => (Self::Banned, Then::Rebuild { after: time.max(Duration::from_secs(60)) }),
            Input::Outdated => (Self::Outdated, Then::Halt),
            Input::Refused => (Self::Offline, Then::Rebuild { after: Duration::from_secs(60) }),
            Input::Ended => match self {
                Self::Replaced => (Self::Replaced, Then::Rebuild { after: REPLACED_PAUSE }),
                Self::Outdated => (Self::Outdated, Then::Halt),
                Self::Unlinked { .. } => (Self::Unlinked { qr: None }, soon),
                Self::Banned => (Self::Banned, Then::Rebuild { after: Duration::from_secs(60) }),
                _ => (Self::Offline, soon),
            },
        }
    }

    /// A stable code for programs: in `/link.json`, on the bus, in readiness.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Unlinked { qr: None } => "unlinked",
            Self::Unlinked { qr: Some(_) } => "qr-ready",
            Self::Standby => "standby",
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Replaced => "replaced",
            Self::Banned => "banned",
            Self::Outdated => "outdated",
            Self::Stopped => "stopped",
        }
    }

    /// A short text for operators.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::Starting => "The session is being opened.",
            Self::Unlinked { .. } => {
                "No number is linked: scan the QR code with WhatsApp on the phone, under Linked devices."
            }
            Self::Standby => "Waiting for the account's lease: another edge has it, or nats-server is away.",
            Self::Connecting => "Connecting to WhatsApp.",
            Self::Online => "Linked and online.",
            Self::Offline => "The connection to WhatsApp is gone; it comes back by itself.",
            Self::Replaced => {
                "Another program logged in with this session. Stop it; this edge tries again after 45 seconds."
            }
            Self::Banned => "WhatsApp refuses this number for a while.",
            Self::Outdated => "WhatsApp refuses this version of the client. Upgrade the connector.",
            Self::Stopped => "The edge is stopping.",
        }
    }

    /// What the operator has to do now.
    pub fn action(&self) -> SessionAction {
        match self {
            Self::Starting | Self::Connecting | Self::Online | Self::Stopped => SessionAction::None,
            Self::Unlinked { .. } => SessionAction::ScanQr,
            Self::Offline | Self::Banned | Self::Standby => SessionAction::Wait,
            Self::Replaced => SessionAction::StopOtherEdge,
            Self::Outdated => SessionAction::Upgrade,
        }
    }

    /// The same state in the form that goes on the bus.
    pub fn on_the_wire(&self) -> SessionState {
        match self {
            Self::Starting => SessionState::Starting,
            Self::Unlinked { .. } => SessionState::Unlinked,
            Self::Standby => SessionState::Standby,
            Self::Connecting => SessionState::Connecting,
            Self::Online => SessionState::Online,
            Self::Offline => SessionState::Offline,
            Self::Replaced => SessionState::Replaced,
            Self::Banned => SessionState::Banned,
            Self::Outdated => SessionState::Outdated,
            Self::Stopped => SessionState::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn qr() -> Qr {
        Qr { code: "secret".into(), expires: Instant::now() }
    }

    /// Every state, in the order of [`CODES`].
    fn states() -> [State; 11] {
        [
            State::Starting,
            State::Unlinked { qr: None },
            State::Unlinked { qr: Some(qr()) },
            State::Standby,
            State::Connecting,
            State::Online,
            State::Offline,
            State::Replaced,
            State::Banned,
            State::Outdated,
            State::Stopped,
        ]
    }

    #[test]
    fn every_code_is_in_the_list() {
        assert_eq!(states().each_ref().map(State::code), CODES);
    }

    /// The code on the bus, and what the operator has to do.
    #[test]
    fn every_state_says_what_it_is_and_what_is_to_be_done() {
        use SessionAction::{None, ScanQr, StopOtherEdge, Upgrade, Wait};
        let want = [
            (SessionState::Starting, None),
            (SessionState::Unlinked, ScanQr),
            (SessionState::Unlinked, ScanQr),
            (SessionState::Standby, Wait),
            (SessionState::Connecting, None),
            (SessionState::Online, None),
            (SessionState::Offline, Wait),
            (SessionState::Replaced, StopOtherEdge),
            (SessionState::Banned, Wait),
            (SessionState::Outdated, Upgrade),
            (SessionState::Stopped, None),
        ];
        let states = states();
        assert_eq!(states.each_ref().map(|state| (state.on_the_wire(), state.action())), want);
        // Each state has its own text. Only the two unlinked states share one.
        let details: HashSet<_> = states.iter().map(State::detail).collect();
        assert_eq!(details.len(), states.len() - 1);
        assert!(details.iter().all(|detail| detail.ends_with('.') && detail.contains(' ')));
    }

    const fn rebuilt(seconds: u64) -> Then {
        Then::Rebuild { after: Duration::from_secs(seconds) }
    }

    #[test]
    fn what_happens_counts_more_than_where_the_link_was() {
        let rows = [
            (Input::StandBy, "standby", Then::Nothing),
            (Input::Started { linked: true }, "connecting", Then::Nothing),
            (Input::Started { linked: false }, "unlinked", Then::Nothing),
            (Input::Qr(qr()), "qr-ready", Then::Nothing),
            (Input::QrExhausted, "unlinked", rebuilt(1)),
            (Input::Paired, "connecting", Then::Nothing),
            (Input::Connected, "online", Then::Nothing),
            (Input::Replaced, "replaced", rebuilt(45)),
            (Input::LoggedOut, "unlinked", Then::StartOver),
            // At least a minute, however short the time that WhatsApp names.
            (Input::Banned(Duration::from_secs(3)), "banned", rebuilt(60)),
            (Input::Banned(Duration::from_secs(900)), "banned", rebuilt(900)),
            (Input::Outdated, "outdated", Then::Halt),
            (Input::Refused, "offline", rebuilt(60)),
            (Input::Stopping, "stopped", Then::Nothing),
        ];
        for state in states().into_iter().filter(|state| *state != State::Stopped) {
            for (input, code, then) in &rows {
                let after = state.after(input.clone());
                assert_eq!((after.0.code(), after.1), (*code, *then), "{state:?} after {input:?}");
            }
        }
    }

    #[test]
    fn how_a_connection_ends_depends_on_where_the_link_was() {
        // After a lost connection, and after the client ended without an event.
        let want = [
            ("starting", ("offline", rebuilt(1))),
            ("unlinked", ("unlinked", rebuilt(1))),
            ("qr-ready", ("unlinked", rebuilt(1))),
            ("standby", ("offline", rebuilt(1))),
            ("connecting", ("offline", rebuilt(1))),
            ("offline", ("offline", rebuilt(1))),
            ("offline", ("offline", rebuilt(1))),
            ("replaced", ("replaced", rebuilt(45))),
            ("banned", ("banned", rebuilt(60))),
            ("outdated", ("outdated", Then::Halt)),
            ("stopped", ("stopped", Then::Nothing)),
        ];
        for (state, (broken, ended)) in states().iter().zip(want) {
            let after = |input| {
                let (next, then) = state.after(input);
                (next.code(), then)
            };
            assert_eq!(after(Input::Disconnected), (broken, Then::Nothing), "{state:?}");
            assert_eq!(after(Input::Ended), ended, "{state:?}");
        }
    }

    #[test]
    fn nothing_leads_out_of_stopped() {
        for input in [Input::StandBy, Input::Connected, Input::LoggedOut, Input::Ended, Input::Stopping] {
            assert_eq!(State::Stopped.after(input), (State::Stopped, Then::Nothing));
        }
    }

    #[test]
    fn linking_from_nothing() {
        let mut state = State::Starting;
        for (input, want) in [
            (Input::Started { linked: false }, "unlinked"),
            (Input::Qr(qr()), "qr-ready"),
            (Input::Paired, "connecting"),
            (Input::Disconnected, "connecting"),
            (Input::Connected, "online"),
            (Input::Disconnected, "offline"),
            (Input::Connected, "online"),
        ] {
            let (next, then) = state.after(input);
            assert_eq!((next.code(), then), (want, Then::Nothing));
            state = next;
        }
    }

    #[test]
    fn a_replaced_edge_never_fights() {
        let (state, then) = State::Online.after(Input::Replaced);
        let later = Then::Rebuild { after: REPLACED_PAUSE };
        assert_eq!((state.code(), then), ("replaced", later));
        assert_eq!(state.after(Input::Ended), (State::Replaced, later));
    }

    #[test]
    fn a_logged_out_session_starts_over_with_a_new_qr() {
        let (state, then) = State::Online.after(Input::LoggedOut);
        assert_eq!((state.code(), then), ("unlinked", Then::StartOver));
    }

    #[test]
    fn stopping_is_final_and_no_debug_output_shows_the_qr() {
        let (state, _) = State::Online.after(Input::Stopping);
        assert_eq!(state.after(Input::Ended), (State::Stopped, Then::Nothing));
        let shown = format!("{:?}", State::Unlinked { qr: Some(qr()) });
        assert!(shown.contains("expires") && !shown.contains("secret"), "{shown}");
    }
}
