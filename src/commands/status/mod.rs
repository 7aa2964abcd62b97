//! The state of a running system on one screen. It comes from the bus, and from the processes that answer on it.
//!
//! [`crate::operator`] asks, and decides what needs a person.

mod command;
mod show;

pub use command::{StatusArgs, StatusError, run};
