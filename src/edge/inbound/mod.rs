//! WhatsApp → bus: what people write is stored before WhatsApp is told "received".
//!
//! `hook` is what every message passes; `arrival` reads one, `content` maps its kinds (both pure); `append` puts it
//! at the end of its chat's list. May import: `session` (what has to come again), `addressing`, `bus`,
//! `telemetry`, `wire`. Never `outbound`.

mod append;
mod arrival;
mod content;
mod hook;
mod under_way;

pub(super) use hook::Inbound;
