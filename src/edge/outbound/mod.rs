//! Bus → WhatsApp: sends outcomes and send requests, and publishes their results.
//!
//! `lanes` has one lane for each chat. `carrying` takes a delivery to its end: `job` says what must be sent:
//! `request` checks what is asked for, `text` has an answer's words; `letters` and `parts` make several messages of a long
//! text; `menu` has WhatsApp's own buttons, and `native` says whether they are tried; `packing` and `compose` make WhatsApp's message of each. `order` says whether it may go, `loop_breaker` whether it should, and `rate_limit` when.
//! `strangers` and `new_chats` say who may be written to first. `lookups` asks WhatsApp whose number it is. `files` takes a file to
//! WhatsApp before its message goes; `turns` says whose is next, `upload_policy` what a failure means, and `file` what is asked for and its message. `sending`
//! repeats it until WhatsApp has it: `pace` says how soon, `slots` to how many at once. `courtesies` says what people see beside messages: `typing` and `read_marks` decide what (pure). `receipts` and `reports` publish the results on the bus. May import:
//! `session` (the client), `addressing`, `bus`, `telemetry`, `wire`. Never `inbound`.

mod carrying;
mod compose;
mod courtesies;
mod file;
mod files;
pub mod job;
mod lanes;
mod letters;
mod lookups;
mod loop_breaker;
mod menu;
mod native;
mod new_chats;
mod order;
mod pace;
mod packing;
pub mod parts;
pub mod rate;
mod rate_limit;
mod read_marks;
mod recalls;
mod receipts;
mod reports;
pub mod request;
mod sending;
mod slots;
mod strangers;
mod text;
mod turns;
mod typing;
mod upload_policy;

use whatsapp_rust::wacore::types::events::{Receipt, ServerAck};

pub use carrying::Limits;
pub(super) use carrying::Means;
pub use courtesies::Shown;
pub(super) use courtesies::{Courteous, Courtesies};
pub(super) use files::FileMeans;

pub(super) use lanes::Outbound;
pub(super) use lookups::SentAs;
pub use lookups::{LookUps, Unchecked};
pub use native::Interactive;
pub use new_chats::{Limits as NewChatLimits, NewChats};
pub(super) use receipts::{Announcer, Receipts};
pub(super) use sending::{Acks, Sender};

use super::session::OutgoingObserver;

/// Passes on what WhatsApp reports about sent messages.
#[derive(Debug)]
pub(super) struct Feedback {
    /// Those who wait for the server's acks.
    pub acks: Acks,
    /// The queue for receipts.
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
