//! WhatsApp → bus: a customer's message is stored before WhatsApp may mark it "received".
//!
//! Every message passes `hook`. `arrival` reads a message: `content` says where it belongs, `kinds` and `business` what
//! it is, `context` what it says beside that, and `sealed` what was voted, with `peel`, `name` and `bound`, and `named` whom it names (all pure).
//! `append` puts it at the end of its chat's list. `aside` does so with what passes the hook by. `media` fetches the files that messages name. May import: `session`
//! (the messages that must come again, the polls), `addressing`, `bus`, `telemetry`, `wire`. Never `outbound`.

#[cfg(test)]
#[macro_use]
mod parts;

mod append;
mod arrival;
mod aside;
mod bound;
mod business;
mod content;
mod context;
mod decoded;
mod hook;
mod kinds;
mod media;
mod name;
mod named;
mod peel;
mod sealed;
mod under_way;

pub(super) use aside::Latecomers;
pub use decoded::decoded;
pub(super) use hook::{Inbound, Memory};
pub(super) use media::{Files, Pool};
