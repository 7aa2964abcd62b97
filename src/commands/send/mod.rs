//! Has one message sent, as any service would, and says what became of it.
//!
//! `command` reads the arguments and prints; `request` makes the request of them (pure). `file` puts a file where the edge
//! finds it.

mod command;
mod file;
mod request;

pub use command::{SendArgs, SendError, run};
