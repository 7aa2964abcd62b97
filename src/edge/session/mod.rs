//! The session with WhatsApp: one linked number, held by one edge at a time.
//!
//! `client` builds the library's client and does what `link`, the state machine, says. `connection` is what the
//! rest of the edge sees of it. `store` stores the session. `resend` tracks the messages that must come again.
//! `lock` and `lease` keep other edges off. `inspect` checks the session without changing it. May import: `bus`,
//! `telemetry`, `wire`. Never `inbound` or `outbound`: they pass in the hook and the observer.

mod announce;
mod client;
mod connection;
mod events;
mod http;
mod inspect;
mod lease;
pub mod link;
mod lock;
mod reachability;
mod resend;
mod store;

pub use client::Settings;
pub use connection::Connection;
pub use http::HOST;
pub use inspect::{Flaw, Inspection, inspect};
pub use lock::{LockError, guarded};

pub(super) use announce::{News, session_event};
pub(super) use client::Session;
pub(super) use connection::ConnectionWriter;
pub(super) use events::OutgoingObserver;
pub(super) use lease::Lease;
pub(super) use lock::AuthDir;
pub(super) use resend::Resends;
