//! WhatsApp → bus: a customer's message is stored before WhatsApp may mark it "received".
//!
//! Every message passes `hook`. `arrival` reads a message and `content` maps its kinds (both pure). `append` puts
//! it at the end of its chat's list. May import: `session` (the messages that must come again), `addressing`,
//! `bus`, `telemetry`, `wire`. Never `outbound`.

mod append;
mod arrival;
mod content;
mod hook;
mod under_way;

pub(super) use hook::Inbound;
