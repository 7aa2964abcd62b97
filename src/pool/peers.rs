//! The other edges of the pool, as they say.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::placement::Peer;
use crate::bus::{Bus, Hearsay};
use crate::wire::pool::Beat;

/// An edge that has said nothing for so long is gone.
const GONE: Duration = Duration::from_secs(5);
/// More edges than anybody runs. Whoever may publish there could fill the memory otherwise.
const MOST: usize = 1_000;
/// What is missing without the permission.
const WHAT: &str = "that the edges of a pool share its accounts evenly";

/// The other edges.
#[derive(Debug)]
pub(super) struct Peers {
    bus: Bus,
    subject: String,
    me: String,
    heard: Option<Hearsay>,
    known: BTreeMap<String, (Beat, Instant)>,
}

impl Peers {
    pub(super) fn new(bus: Bus, subject: String, me: &str) -> Self {
        Self { bus, subject, me: me.to_owned(), heard: None, known: BTreeMap::new() }
    }

    /// Hears from now on.
    pub(super) async fn hear(&mut self) {
        let heard = self.bus.hear(WHAT, &self.subject).await;
        self.heard = heard.inspect_err(|error| tracing::warn!(%error, "the other edges are not heard")).ok();
    }

    /// Says what this edge has.
    pub(super) fn say(&self, (accounts, parked): (usize, usize), capacity: usize, leaving: bool) {
        let beat = Beat { edge: self.me.clone(), capacity, accounts, parked, leaving };
        self.bus.say((WHAT, &self.subject), self.subject.clone(), beat.write());
    }

    /// Takes in what is said next. Returns whether an edge is new.
    pub(super) async fn next(&mut self) -> bool {
        let Some(heard) = &mut self.heard else { return std::future::pending().await };
        let Some((_, payload)) = heard.next().await else {
            self.heard = None;
            return false;
        };
        Beat::read(&payload).is_some_and(|beat| self.note(beat, Instant::now()))
    }

    fn note(&mut self, beat: Beat, now: Instant) -> bool {
        if beat.edge == self.me {
            return false;
        }
        self.known.retain(|_, (_, at)| now < *at + GONE);
        if self.known.len() >= MOST && !self.known.contains_key(&beat.edge) {
            return false;
        }
        self.known.insert(beat.edge.clone(), (beat, now)).is_none()
    }

    /// Those that take accounts.
    pub(super) fn now(&self, now: Instant) -> Vec<Peer> {
        let lives = |(beat, at): &&(Beat, Instant)| !beat.leaving && now < *at + GONE;
        let peer = |(beat, _): &(Beat, Instant)| Peer {
            edge: beat.edge.clone(),
            // More than fits into the arithmetic is nonsense.
            capacity: beat.capacity.min(1_000_000),
            accounts: beat.accounts.min(1_000_000),
            is_well: beat.parked == 0,
        };
        self.known.values().filter(lives).map(peer).collect()
    }
}
