//! The state of a running system on one screen. It comes from the bus, and from the processes that answer on it.
//!
//! `collect` asks. `report` is pure: it decides what needs a person.

mod collect;
mod command;
mod report;
mod show;

pub use command::{StatusArgs, StatusError, run};
pub use report::{Report, Want};
