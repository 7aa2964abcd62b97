//! What WhatsApp is told of the connector's presence. The client library says `available` by itself, after each
//! login and with each new name of the account. While a linked device is available, the owner's phone does not
//! ring. So the edge has the last word.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use whatsapp_rust::{Client, PresenceStatus};

/// What WhatsApp is told (`PRESENCE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody is at it: the owner's phone rings, and customers do not see the number as online.
    #[default]
    Unavailable,
    /// Somebody is at it.
    Available,
}

/// The library speaks on a task of its own when a name changes, and may come second. So the edge says its word
/// again.
const AFTER_A_NAME: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)];
/// How long one word may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Says what has to be said, when it is due.
#[derive(Debug)]
pub(super) struct Speaker {
    wanted: Presence,
    due: VecDeque<Instant>,
}

impl Speaker {
    /// Says that the connector is `wanted`.
    pub(super) fn new(wanted: Presence) -> Self {
        Self { wanted, due: VecDeque::new() }
    }

    /// The client has logged in, and the library has said its word.
    pub(super) fn logged_in(&mut self, now: Instant) {
        self.due = VecDeque::from([now]);
    }

    /// The account has another name. The library says its word about now.
    pub(super) fn renamed(&mut self, now: Instant) {
        self.due = AFTER_A_NAME.map(|after| now + after).into();
    }

    /// Returns when something has to be said. Cancel-safe.
    pub(super) async fn is_due(&self) {
        match self.due.front() {
            Some(at) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }

    /// Says it. What fails is said again after the next login.
    pub(super) async fn speak(&mut self, client: &Client) {
        self.due.pop_front();
        let status = match self.wanted {
            Presence::Unavailable => PresenceStatus::Unavailable,
            Presence::Available => PresenceStatus::Available,
        };
        match tokio::time::timeout(TIMEOUT, client.presence().set(status)).await {
            Ok(Ok(())) => tracing::debug!(presence = status.as_str(), "WhatsApp knows the presence"),
            // The account has no name yet. Then the library has not spoken either.
            Ok(Err(error)) => tracing::debug!(%error, "WhatsApp was not told the presence"),
            Err(_elapsed) => tracing::debug!("WhatsApp was not told the presence in time"),
        }
    }
}
