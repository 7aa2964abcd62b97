//! How a running system is, on one screen: from the bus, and from the processes that answer on it.
//!
//! `collect` asks, `report` decides, pure, what of it wants a person.

mod collect;
mod command;
mod report;
mod show;

pub use command::{StatusArgs, StatusError, run};
pub use report::{Report, Want};
