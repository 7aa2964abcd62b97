//! Bus → WhatsApp: outcomes and send requests, and what became of them.
//!
//! `lanes` has one for each chat; `carrying` takes a delivery to its end: `job` is what has to be sent and `text` its
//! words, `order` says whether it may go, `loop_breaker` whether it should, `rate_limit` when; `sending` stays with it
//! until WhatsApp has it. `receipts` and `reports` tell the bus what became of it. May import: `session` (the client),
//! `addressing`, `bus`, `telemetry`, `wire`. Never `inbound`.

mod carrying;
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

pub use carrying::Limits;

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
