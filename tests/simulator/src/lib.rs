//! A WhatsApp server on loopback that the unmodified client library `whatsapp-rust` talks to.
//!
//! It links devices by QR code, keeps their queues, routes messages to simulated customers with
//! real Signal sessions, and can misbehave on request. Everything is driven over HTTP; see the
//! README for the control API. [`Simulator::start`] runs it inside another program, such as a test.
//!
//! It is no WhatsApp: it listens on loopback only, signs with a certificate that only a client with
//! its certificate check off accepts, and knows nothing of policies and limits of the real network.

#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "walls of the product, not of what it is tested with")]

mod asking;
mod connection;
mod content;
mod control;
mod counters;
mod delivery;
mod faults;
mod group_chat;
mod groups;
mod hub;
mod ids;
mod iq;
mod media;
mod noise;
mod own_prekeys;
mod owner;
mod pair_code;
mod pairing;
mod party;
mod passkey;
mod prekeys;
mod queue;
mod records;
mod routing;
mod sender_keys;
mod shape;
mod signal;
mod simulator;
mod stanza;
mod store;
mod timers;
mod used_keys;
mod usync;
mod visits;
mod webauthn;
mod world;

pub use records::LoadError;
pub use simulator::{Config, Handle, Simulator, StartError, StopError};
pub use store::StoreError;
