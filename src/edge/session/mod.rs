//! The session with WhatsApp: one linked number, held by one edge at a time.
//!
//! `client` builds the library's client and does what `link`, the state machine, says. `connection` is what the
//! rest of the edge sees of it. `line` notices when WhatsApp can be reached again; `kept_out` remembers for how long
//! it lets nobody in. `socket` is the way to its server, with a `gate` before it that opens when the keys are on the disk, `http` to its web page and its files, on its `hosts` only. `pair_codes` and `presence` say when codes are asked for, and what WhatsApp is told. `ask` is what a person asks of it, and `passkey` what WhatsApp asks of a person; `pace` gives them the time for it. `aside` is what
//! passes the hook by, `calls` among it, and `extra` says what of it is wanted; `groups` is what is known of groups, and `group_changes` reads what changes in one. `store` stores the session: `commits` writes its `changes`, many in one transaction,
//! on the bus, `image` is the store in memory and tells what has changed in it, as `cells`, and `on_bus` keeps that in the journal; `home` is where the session is, `moving` takes it elsewhere. `tokens` keeps the persons' tokens in memory, `sent` finds what a phone asks for again, `unkeyed` says when a group's members get its key anew, `polls` what is needed to read votes. `media` fetches files, and takes those that are sent to WhatsApp. `resend` tracks the messages that must come again.
//! `ourselves` is the linked number. `lock` and `lease` keep other edges off. `inspect` checks the session without changing it. May import: `bus`,
//! `telemetry`, `wire`. Never `inbound` or `outbound`: they pass in the hook and the observer.

mod announce;
mod aside;
mod ask;
mod calls;
mod cells;
mod changes;
mod client;
mod commits;
mod connection;
mod events;
mod extra;
mod gate;
mod group_changes;
mod groups;
mod home;
mod hosts;
mod http;
mod image;
mod inspect;
mod kept_out;
mod lease;
mod line;
pub mod link;
mod lock;
mod media;
pub mod moving;
mod on_bus;
mod ourselves;
mod pace;
mod pair_codes;
mod passkey;
mod polls;
mod presence;
mod reachability;
mod resend;
mod sent;
mod socket;
mod store;
mod tokens;
mod unkeyed;
mod watchdog;

pub use ask::{NotDone, PairCode};
pub use cells::row_again;
pub use client::Settings;
pub use connection::Connection;
pub use extra::Extra;
pub use home::SessionStore;
pub use http::HOST;
pub use inspect::{Flaw, Inspection, inspect};
pub use lease::TERM as LEASE_TERM;
pub use lock::{LockError, guarded};
pub use passkey::{Challenge, Passkey};
pub use presence::Presence;

pub(super) use announce::{News, session_event};
pub(super) use aside::{Aside, Asides};
pub(super) use ask::digits;
pub(super) use client::Session;
pub(super) use connection::ConnectionWriter;
pub(super) use events::OutgoingObserver;
pub(super) use group_changes::Changed;
pub(super) use groups::{Groups, Unknown, is_final};
pub(super) use home::Home;
pub(super) use hosts::Hosts;
pub(super) use http::{Http, client as http_client};
pub(super) use lease::{Held, Lease, LeaseTerm};
pub(super) use lock::AuthDir;
pub(super) use media::{
    Answer, Content, Fetched, Fetcher, File, FileKind, Job, Jobs, NotUploaded, Sealed, Sealing, Sink,
    Trouble, Uploaded, Uploader, Uploads, ask_phone,
};
pub(super) use on_bus::OnBus;
pub(super) use ourselves::Ourselves;
pub(super) use polls::{Poll, Polls};
pub(super) use resend::{Resends, waiting_for_of};
