//! The harness: starts real parts as child processes and reads, from outside, what became of the
//! messages.
//!
//! A test sets a [`Stage`], starts the product on it ([`Layout`]), lets customers write, and has the
//! [`oracle`] look at everything that is left behind.
#![allow(dead_code, unused_imports, reason = "two test programs share it, and each uses a part")]

mod backend;
pub mod collector;
mod connector;
mod deaf;
mod eventually;
pub mod heart;
pub mod http;
mod killed;
mod logs;
mod nats;
pub mod oracle;
mod phones;
mod port;
mod process;
pub mod shops;
mod simulator;
mod stage;
mod streams;
mod unwell;
mod warm;

pub use backend::{Call, GATE, python};
pub use collector::Collector;
pub use connector::{Connector, Role, binary as connector_binary, output, spawn, spawn_command};
pub use deaf::Deaf;
pub use eventually::{PATIENCE, eventually};
pub use http::http_client;
pub(crate) use killed::killed_at;
pub use logs::{Logs, warning};
pub use nats::{Nats, Setup, binary as nats_server};
pub use phones::{PROTECTED, Typed};
pub use port::Port;
pub use process::{Process, clean};
pub use simulator::{Addressing, BUSINESS, Customer, Received, Sent};
pub use stage::{Layout, Plan, Product, Stage};
pub use streams::{Entry, Streams, trace_id};
pub use unwell::{Answer, Asked, Question, Unwell};

use std::path::Path;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
