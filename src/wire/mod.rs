//! What is on the bus: subjects, headers, ids and payloads. No I/O here.
//!
//! Everything that another service may rely on is defined in this folder and in `proto/`.

pub mod envelope;
pub mod file_link;
pub mod header;
pub mod id;
pub mod kind;
pub mod micro;
pub mod object;
pub mod opt_out;
pub mod pool;
pub mod process_status;
pub mod service;
pub mod state;
pub mod subject;
pub mod takeover;
pub mod token;
pub mod typing;
pub mod visible;

pub use envelope::Envelope;
pub use file_link::FileLinks;
pub use header::Headers;
pub use subject::{Place, Route, Subjects};
pub use token::{Account, ChatToken, masked};
pub use typing::TypingNote;

/// The generated payload types of `proto/whatsapp/connector/v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!("../../proto/generated.rs");
}

/// Milliseconds since the Unix epoch, as every `*_at_ms` field on the bus has them.
#[expect(clippy::disallowed_methods, reason = "the one clock")]
pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
