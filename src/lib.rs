//! Connects customers on WhatsApp with an assistant behind HTTP. NATS JetStream is in between.
//!
//! [`wire`] is what is on the bus; [`bus`] is NATS; [`edge`] is WhatsApp ↔ bus; [`forwarder`] is
//! bus ↔ backend; [`pool`] is many accounts on a few edges. Dependencies point downwards. The two sides never import each other. They share only what is on the
//! bus, even when they run in one process.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

pub mod admin;
pub mod bus;
pub mod cli;
pub mod commands;
pub mod config;
pub mod crash;
pub mod edge;
pub mod exit;
pub mod forwarder;
pub mod operator;
pub mod pool;
pub mod process;
pub mod proxy;
pub mod recent;
pub mod run;
pub mod stdout;
pub mod task;
pub mod telemetry;
pub mod wire;
