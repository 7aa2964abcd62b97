//! What the page shows, collected from the parts of the process.

use std::sync::Arc;

use tokio::time::Instant;

use super::board::Board;
use super::entry::May;
use super::taken::TakenPart;
use super::words::Words;
use crate::admin::Status;
use crate::edge::link::State;
use crate::edge::{Connection, PairCode, Passkey, Seat};
use crate::wire::process_status::Process;
use crate::wire::{Account, masked};

/// The way to link that is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// The QR code.
    #[default]
    Qr,
    /// The code of eight characters.
    Code,
}

impl Way {
    /// As in the address; anything else is the QR code.
    pub(super) fn of(code: &str) -> Self {
        if code == "code" { Self::Code } else { Self::Qr }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Qr => "qr",
            Self::Code => "code",
        }
    }
}

/// What one client sees.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub words: &'static Words,
    pub may: &'a May,
    pub can_log_in: bool,
    pub way: Way,
    pub said: Option<&'static str>,
    pub link: LinkPart,
    pub process: Process,
    /// Is nats-server connected?
    pub connected: bool,
    pub board: Option<Arc<Board>>,
    /// The chats that a person has. `None`: nobody takes over here.
    pub taken: Option<TakenPart>,
    /// The account of a pool that the page is about.
    pub account: Option<Account>,
}

impl View<'_> {
    /// The address of this page, with another way.
    pub(super) fn address(&self, way: Way) -> String {
        let account = self.account.as_ref().map(|account| format!("account={account}&")).unwrap_or_default();
        format!("?{account}way={}", way.code())
    }
}

/// The link of this process. Two that are equal look the same, but for what the countdown shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkPart {
    /// It has none.
    NoEdge,
    /// That is not known yet.
    Starting,
    /// It is one edge of a pool: `wall` shows its accounts.
    Wall,
    /// It does not work for this account now.
    Elsewhere(Account),
    /// It has one.
    Edge(Box<EdgeLink>),
}

/// The link of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EdgeLink {
    pub account: String,
    /// The code of the state.
    pub code: &'static str,
    /// What only the state knows: until when, and why.
    pub detail: Option<String>,
    pub qr: Option<(String, Instant)>,
    pub pair: Option<PairCode>,
    pub passkey: Option<Passkey>,
    /// The last digits of the number.
    pub phone: Option<String>,
    pub linked_ms: Option<i64>,
    pub since_ms: i64,
}

impl EdgeLink {
    pub(super) fn is_unlinked(&self) -> bool {
        ["unlinked", "qr-ready"].contains(&self.code)
    }

    fn of(account: String, connection: &Connection) -> Self {
        let state = connection.state();
        let qr = match &state {
            State::Unlinked { qr: Some(qr) } => Some((qr.code.clone(), qr.expires)),
            _ => None,
        };
        let passkey = match &state {
            State::Passkey(passkey) => Some(passkey.clone()),
            _ => None,
        };
        Self {
            account,
            code: state.code(),
            detail: matches!(state, State::KeptOut(_)).then(|| state.detail().into_owned()),
            qr,
            pair: connection.pair_code(),
            passkey,
            phone: connection.phone().map(|phone| masked(&phone)),
            linked_ms: connection.linked_ms(),
            since_ms: connection.since_ms(),
        }
    }
}

impl LinkPart {
    pub(super) fn of(status: &Status, account: Option<&Account>) -> Self {
        if let Some(Seat { account, connection, .. }) = status.seat(account) {
            return Self::Edge(Box::new(EdgeLink::of(account.to_string(), &connection)));
        }
        match account {
            Some(account) if status.has_edge() => Self::Elsewhere(account.clone()),
            None if status.pool.get().is_some() => Self::Wall,
            _ if status.forwarder.get().is_some() => Self::NoEdge,
            _ => Self::Starting,
        }
    }
}
