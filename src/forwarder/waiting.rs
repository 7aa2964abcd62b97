//! What waits in this process, with what that takes: a lock around the hand, the reservations on the bus, and a word to
//! those who begin what is ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::chain::Place;
use super::hand::{Arrival, AtWork, Found, Hand, Held, Lane, Lanes, Look};
use crate::bus::{Bus, Delivery};
use crate::crash;
use crate::telemetry::metrics;

/// So many bytes of waiting messages are kept in memory. The others are read again when their turn comes.
const BUDGET: usize = 16 << 20;

/// A message in hand.
pub(super) type Message = Held<Box<Delivery>>;

/// What is in the hand of this process.
#[derive(Debug)]
pub(super) struct Waiting {
    bus: Bus,
    ack_wait: Duration,
    hand: Mutex<Hand<Box<Delivery>>>,
    /// A word to whoever begins what is ready in a lane.
    ready: Mutex<HashMap<Lane, Arc<Notify>>>,
    elsewhere: Notify,
}

impl Waiting {
    /// Nothing is in hand.
    pub(super) fn new(bus: Bus, ack_wait: Duration) -> Self {
        Self {
            bus,
            ack_wait,
            hand: Mutex::new(Hand::new(if crash::switched_off("kept") { 0 } else { BUDGET })),
            ready: Mutex::default(),
            elsewhere: Notify::new(),
        }
    }

    fn hand(&self) -> MutexGuard<'_, Hand<Box<Delivery>>> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the hand, and says what has become of it.
    fn change<T>(&self, change: impl FnOnce(&mut Hand<Box<Delivery>>) -> T) -> T {
        let mut hand = self.hand();
        let (before, look) = (hand.waiting(), (hand.is_elsewhere(), hand.next_look()));
        let result = change(&mut hand);
        let (now, woken) = (hand.waiting(), hand.woken());
        let is_news = match (look, hand.next_look()) {
            ((_, Some(before)), Some(now)) => now < before,
            ((_, None), Some(_)) => true,
            ((was_elsewhere, _), None) => hand.is_elsewhere() && !was_elsewhere,
        };
        drop(hand);
        if now != before {
            metrics::TURNS.change(difference(now, before), ["chain"]);
        }
        for lane in woken {
            self.bell(lane).notify_one();
        }
        if is_news {
            self.elsewhere.notify_one();
        }
        result
    }

    fn bells(&self) -> MutexGuard<'_, HashMap<Lane, Arc<Notify>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, lane: Lane) -> Arc<Notify> {
        Arc::clone(self.bells().entry(lane).or_default())
    }

    /// From now on the chats are in these lanes.
    pub(super) fn reroute(&self, lanes: Lanes) {
        let known: Vec<Lane> = lanes.own.values().copied().chain([lanes.others]).collect();
        self.change(|hand| hand.reroute(lanes));
        self.bells().retain(|lane, _| known.contains(lane));
    }

    /// How many messages wait in a lane.
    pub(super) fn waiting_in(&self, lane: Lane) -> usize {
        self.hand().waiting_in(lane)
    }

    /// How many messages to ask the bus for, if `free` can begin.
    pub(super) fn ask(&self, free: usize, most: usize) -> usize {
        self.hand().ask(free, most)
    }

    /// A message has come. Returns it if it can begin.
    pub(super) fn arrives(
        &self,
        chat: &str,
        mut delivery: Box<Delivery>,
        may_begin: bool,
    ) -> Option<(AtWork, Message)> {
        let now = Instant::now();
        let place = Place { sequence: delivery.sequence, previous: delivery.envelope.previous };
        let claim = delivery.claim.clone();
        let weight = delivery.weight();
        delivery.compact();
        let held = Held {
            place,
            claim,
            kept: Some(delivery),
            since: now,
            reserved: now + self.ack_wait,
            has_waited: false,
            weight,
        };
        match self.change(|hand| hand.arrives(chat, held, may_begin)) {
            Arrival::Begins(at_work, held) => Some((at_work, held)),
            Arrival::Waits | Arrival::Known => None,
        }
    }

    /// Returns when there may be something for [`Self::next`]. Cancel-safe.
    pub(super) async fn ready(&self, lane: Lane) {
        let bell = self.bell(lane);
        while !self.hand().is_ready(lane) {
            bell.notified().await;
        }
    }

    /// The next message of this lane that may go or has to look. Whoever takes it has a slot for it.
    pub(super) fn next(&self, lane: Lane) -> Option<(AtWork, Message)> {
        self.change(|hand| hand.next(lane))
    }

    /// Work at a message has ended.
    pub(super) fn ended(&self, at_work: &AtWork) {
        self.change(|hand| hand.ended(at_work));
    }

    /// A message that has begun has to wait for another process. Comes back if nothing is in hand any more.
    pub(super) fn waits_elsewhere(
        &self,
        at_work: &AtWork,
        message: Message,
        read_at: Instant,
    ) -> Option<Message> {
        self.change(|hand| hand.waits_elsewhere(at_work, message, read_at))
    }

    /// Returns when a chat waits for what another process does. Cancel-safe.
    pub(super) async fn elsewhere(&self) {
        while !self.is_elsewhere() {
            self.elsewhere.notified().await;
        }
    }

    /// Returns when something has to be looked up sooner than was known. Cancel-safe.
    pub(super) async fn sooner(&self) {
        self.elsewhere.notified().await;
    }

    /// Does a chat wait for what another process does?
    pub(super) fn is_elsewhere(&self) -> bool {
        self.hand().is_elsewhere()
    }

    /// Since when outcomes that pass by are heard.
    pub(super) fn listening(&self, since: Option<Instant>) {
        self.change(|hand| hand.listening(since));
    }

    /// An outcome passed by.
    pub(super) fn heard(&self, chat: &str, sequence: u64) {
        self.hand().heard(chat, sequence, Instant::now());
    }

    /// When something has to be looked up next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.hand().next_look()
    }

    /// What has to be looked up now.
    pub(super) fn look(&self, is_held: impl Fn(Lane) -> bool) -> Option<Look> {
        self.hand().look(Instant::now(), is_held)
    }

    /// A look has ended.
    pub(super) fn looked(&self, look: &Look, found: Found, read_at: Instant) {
        self.change(|hand| hand.looked(look, found, read_at));
    }

    /// Sees to it that the bus gives nothing of what waits to anybody else. Ends never.
    pub(super) async fn reserve(&self, is_held: impl Fn(Lane) -> bool) {
        let mut ticks = tokio::time::interval(self.ack_wait / 6);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Bound, so that the lock is not held while they are sent.
            let renewals = self.hand().renewals(Instant::now(), self.ack_wait, &is_held);
            for renewal in renewals {
                let time = (renewal.ack_waits > 1).then(|| self.ack_wait * renewal.ack_waits);
                self.bus.reserve(&renewal.claim, time).await;
            }
        }
    }

    /// Gives everything back that waits, as far as that goes within `bound`. The rest comes to others after its
    /// reservation.
    pub(super) async fn give_back(&self, bound: Duration) {
        let all = self.change(Hand::clear);
        let given = async {
            for claim in &all {
                // The client would keep it, and without end if it has kept much already.
                if !self.bus.is_connected() {
                    return;
                }
                self.bus.give_back(claim, None).await;
            }
        };
        let _ = tokio::time::timeout(bound, given).await;
    }

    /// The messages' stream is another one: nothing that waits exists any more.
    pub(super) fn forget(&self) {
        self.change(Hand::clear);
    }
}

fn difference(now: usize, before: usize) -> i64 {
    let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    signed(now) - signed(before)
}

/// Work at a message of a chat, until it is dropped.
#[derive(Debug)]
pub(super) struct Working {
    waiting: Arc<Waiting>,
    pub at_work: AtWork,
}

impl Working {
    /// Begins.
    pub(super) fn new(waiting: &Arc<Waiting>, at_work: AtWork) -> Self {
        Self { waiting: Arc::clone(waiting), at_work }
    }
}

impl Drop for Working {
    // Also when it panics: the next one of its chat must not wait for it here.
    fn drop(&mut self) {
        self.waiting.ended(&self.at_work);
    }
}
