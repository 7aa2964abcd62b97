//! Customers on WhatsApp, an assistant behind HTTP, NATS JetStream in between.
//!
//! [`wire`] is what is on the bus; [`bus`] is NATS; [`edge`] is WhatsApp ↔ bus; [`forwarder`] is
//! bus ↔ backend. Dependencies point downwards: the two sides never import each other, and share
//! nothing in any mode but what is on the bus.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod admin;
pub mod bus;
pub mod check;
pub mod cli;
pub mod config;
pub mod crash;
pub mod dlq;
pub mod edge;
pub mod forwarder;
pub mod provision;
pub mod run;
pub mod status;
pub mod tap;
pub mod telemetry;
pub mod visit;
pub mod wire;
