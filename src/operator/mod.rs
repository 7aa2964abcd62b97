//! What an operator sees and does, over the bus, in a command and on the page alike.
//!
//! `collect` asks the bus and the processes that answer on it; `report` is pure and decides what needs a person. `letters`
//! are the dead letters: list, replay, drop. `takeover` says who has a chat. `accounts` are those of a pool.

pub mod accounts;
mod collect;
mod letters;
mod report;
pub mod takeover;

pub use collect::{Counting, collect, collect_pool};
pub use letters::{Filter, Letter, Letters, LettersError, replayed};
pub use report::{AccountReport, ConsumerReport, DeadLetters, InPool, PoolReport, Report, Want, name};
