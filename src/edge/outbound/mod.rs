//! Bus → WhatsApp: outcomes and send requests, and what became of them.
//!
//! `lanes` has a lane for each chat; `job` is what has to be sent, `text` its words, `order` may it go,
//! `loop_breaker` should it, `rate_limit` may it now; `sending` stays with it until WhatsApp has it; `receipts`
//! and `reports` tell the bus. May import: `session` (the client), `addressing`, `bus`, `telemetry`, `wire`.
//! Never `inbound`.

pub mod job;
mod lanes;
mod loop_breaker;
mod order;
pub mod rate;
mod rate_limit;
mod receipts;
mod reports;
mod sending;
mod text;

use whatsapp_rust::wacore::types::events::{Receipt, ServerAck};

pub use lanes::Limits;

pub(super) use lanes::Outbound;
pub(super) use receipts::Receipts;
pub(super) use sending::{Acks, Sender};

use super::session::OutgoingObserver;

/// What WhatsApp says of messages that went out, to those who want to hear it.
#[derive(Debug)]
pub(super) struct Feedback {
    /// Who waits for the server's acks.
    pub acks: Acks,
    /// Who takes receipts.
    pub receipts: Receipts,
}

impl OutgoingObserver for Feedback {
    fn acked(&self, ack: &ServerAck) {
        self.acks.heard(ack);
    }

    fn receipt(&self, receipt: &Receipt) {
        self.receipts.heard(receipt);
    }
}
