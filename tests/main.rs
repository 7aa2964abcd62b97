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

mod accounts;
mod admin;
mod asked_again;
mod backlog;
mod bursts;
mod bus_outage;
mod calls;
mod calls_per_chat;
mod check;
mod closed_output;
#[path = "chaos/cluster.rs"]
#[allow(dead_code, reason = "shared with the rounds under fire, and each uses a part")]
mod cluster;
mod compat_status;
mod console;
mod crash_loop;
mod dead_letters;
mod decoders;
mod embedded;
mod every_kind;
mod examples;
mod fields;
mod file_links;
mod forgetful;
mod full;
mod full_disk;
mod group_keys;
mod groups;
mod healthcheck;
mod hello;
mod hold;
mod hostile;
mod idle_connections;
mod journal;
mod kept_out;
mod kill;
mod labels;
mod lease;
mod logs;
mod long_answers;
mod long_ids;
mod lookups;
mod markdown;
mod media;
mod metrics;
mod native;
mod nats_accounts;
mod nats_connection;
mod nats_security;
mod new_chats;
mod offers;
mod offline;
mod one_customer;
mod one_stream_away;
mod operator;
mod opt_out;
mod order;
mod other_kinds;
mod outage;
mod overload;
mod pairing_code;
mod panics;
mod passkey;
mod past_gone;
mod poisoned_header;
mod pool;
mod pool_size;
mod presence;
mod production_build;
mod rates;
mod raw_kinds;
mod read_marks;
mod recall;
mod reconnect;
mod recovery;
mod restart;
mod routes;
mod screens;
mod sending;
mod sends;
mod sends_files;
mod sends_keys;
mod service;
mod session_commits;
mod session_files;
mod session_kills;
mod session_moves;
mod session_on_bus;
mod session_takeover;
mod session_ways;
mod settings;
mod shadow;
mod shutdown;
mod spans;
mod status;
mod support;
mod surroundings;
mod takeover;
mod takeover_bursts;
mod tap;
mod timers;
mod trace;
mod typing;
mod unheard;
mod unreadable;
mod unsupported;
mod voice;
mod votes;
mod walls;
mod wire_format;
