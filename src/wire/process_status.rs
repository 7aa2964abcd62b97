//! The status that running processes send when they are asked on `<prefix>.live.status`. It is JSON over core NATS
//! and is not stored. Nothing in it names a person. Fields are only ever added.

use serde::{Deserialize, Serialize};

/// The status of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// `run`, `edge` or `forwarder`.
    pub role: String,
    /// The program's version.
    pub version: String,
    /// The machine's name.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The answer of `/readyz`.
    pub ready: bool,
    /// Why it is not ready.
    pub reasons: Vec<Reason>,
    /// Its edge, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeSide>,
    /// Its accounts, if it is one edge of a pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolSide>,
    /// Its forwarder, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<ForwarderSide>,
}

/// A reason not to be ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// `bus`, `whatsapp`, `backend` or `process`.
    pub part: String,
    /// A stable code for machines.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
}

/// The status of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EdgeSide {
    /// The linked number's name.
    pub account: String,
    /// The state of the link, as in the `code` of session events.
    pub state: String,
    /// What the operator has to do now, as a code: `none`, `wait`, `scan-qr`, ...
    pub action: String,
    /// Messages on their way to WhatsApp's server.
    pub sending: u64,
    /// Of an account of a pool that is not online: one sentence for people. Of another edge, the reasons say it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The status of an edge of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolSide {
    /// For how many accounts it works at most.
    pub capacity: usize,
    /// The accounts that it works for.
    pub accounts: Vec<EdgeSide>,
    /// The accounts that do not start here, and that it leaves alone for a while.
    pub parked: Vec<String>,
    /// Messages on their way to WhatsApp's server, of all accounts.
    pub sending: u64,
}

/// The status of a forwarder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwarderSide {
    /// Why everything is held, if it is: a code. With `ROUTES_FILE`: if every route is held that is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Messages about which the backend is being asked.
    pub calling: u64,
    /// Messages that wait for the one before them in their chat.
    pub waiting: u64,
    /// Messages held until the backend is back.
    pub held: u64,
    /// Messages that wait for their next attempt.
    pub retrying: u64,
    /// The routes that are held, with `ROUTES_FILE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<HeldRoute>,
}

/// A route that is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldRoute {
    /// Its account, or `BACKEND_URL`: all that have no route of their own.
    pub route: String,
    /// Why: a code.
    pub hold: String,
    /// Messages held until its backend is back.
    pub held: u64,
    /// One sentence for people.
    pub detail: String,
}
