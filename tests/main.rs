//! The promises, each proved on real parts: the connector's binary, a real nats-server, the reference
//! backend, and the unmodified WhatsApp client library against the simulator. One file per promise.
//!
//! `make test` runs them. By hand: `make tools build`, then
//! `cargo test --workspace --features simulator --test promises -- NAME`.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "walls of the product, not of its tests"
)]

mod admin;
mod bus_outage;
mod check;
mod closed_output;
mod crash_loop;
mod dead_letters;
mod decoders;
mod embedded;
mod full;
mod healthcheck;
mod hello;
mod hold;
mod hostile;
mod kill;
mod lease;
mod logs;
mod metrics;
mod nats_accounts;
mod nats_connection;
mod nats_security;
mod offline;
mod operator;
mod order;
mod other_kinds;
mod outage;
mod poisoned_header;
mod production_build;
mod rates;
mod recovery;
mod restart;
mod screens;
mod sending;
mod session_files;
mod settings;
mod shadow;
mod shutdown;
mod spans;
mod status;
mod support;
mod surroundings;
mod tap;
mod trace;
mod unheard;
mod walls;
mod wire_format;
