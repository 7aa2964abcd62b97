//! How a running system is, on one screen: from the bus, and from the processes that answer on it.
//!
//! `look` asks, `report` decides, pure, what of it wants a person.

pub mod command;
mod look;
mod report;
mod show;

pub use report::{Report, Want};
