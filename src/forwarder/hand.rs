//! What this process has in hand: of each chat at most one message at work, and those that wait behind it. Pure.
//!
//! A message that waits is a few words in its chat's queue: no task, no slot, and above a bound of bytes no payload.
//! It is looked at again when the message before it has ended, and never because others wait. If that one is with
//! another process, or nobody knows where, the chat waits *elsewhere*: for the outcome to be heard, and now and then for
//! what the bus has.
//!
//! Chats that are ready stand in a queue for each route, their *lane*: what waits in one costs nothing in another.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::chain::Place;
use super::looks::Elsewhere;
use crate::bus::Claim;
use crate::crash;

/// Up to here a waiting message is reserved for one ack wait at a time: its turn may come soon. Behind that, for more.
const NEAR: usize = 64;
/// So many ack waits.
const FAR: u32 = 4;

/// How long a chat of a held lane is not looked up, unless the outcome that it waits for passes by.
const QUIET: Duration = Duration::from_secs(10);

/// The number of a route's queue.
pub(super) type Lane = u64;

/// Which chats are in which lane: an account's own, or that of all others.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By account.
    pub own: HashMap<String, Lane>,
    /// Of all others.
    pub others: Lane,
}

impl Lanes {
    /// `chat` is the subject of its outcomes: `<prefix>.out.<account>.reply.<chat>`.
    fn of(&self, chat: &str) -> Lane {
        if self.own.is_empty() {
            return self.others;
        }
        let own = chat.split('.').nth(2).and_then(|account| self.own.get(account));
        own.copied().unwrap_or(self.others)
    }
}

/// What waits in a lane.
#[derive(Debug, Default)]
struct Queue {
    /// Its chats with a message that may go or has to look.
    ready: VecDeque<Arc<str>>,
    /// How many of its messages wait.
    waiting: usize,
}

/// A message in hand. `K` is the message itself.
#[derive(Debug)]
pub(super) struct Held<K> {
    /// Its place in its chat.
    pub place: Place,
    /// How to answer for it.
    pub claim: Claim,
    /// The message. `None`: it is too much to keep, and is read again when its turn comes.
    pub kept: Option<K>,
    /// Since when it is in hand.
    pub since: Instant,
    /// Until then the bus gives it to nobody else.
    pub reserved: Instant,
    /// It has waited for another one.
    pub has_waited: bool,
    /// What keeping it costs, in bytes.
    pub weight: usize,
}

/// The right to work at a chat's message. It has to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AtWork {
    /// The subject of the chat's outcomes.
    pub chat: Arc<str>,
    number: u64,
}

/// What to do with a message that arrives.
#[derive(Debug)]
pub(super) enum Arrival<K> {
    /// Begin.
    Begins(AtWork, Held<K>),
    /// It waits for its turn.
    Waits,
    /// It was in hand already.
    Known,
}

/// What a chat waits for elsewhere has to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// The subject of the chat's outcomes.
    pub chat: Arc<str>,
    /// The message that waits.
    pub place: Place,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Its turn has come.
    Turn,
    /// All before it has ended or is gone.
    NothingBefore,
    /// It waits on.
    Nothing,
}

/// A reservation that has to be renewed.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Of which message.
    pub claim: Claim,
    /// For how many ack waits.
    pub ack_waits: u32,
}

#[derive(Debug)]
struct Chat<K> {
    lane: Lane,
    at_work: Option<(u64, u64)>,
    waiting: BTreeMap<u64, Held<K>>,
    is_ready: bool,
    elsewhere: Option<Elsewhere>,
    /// The latest of its outcomes that passed by while nothing of it waited elsewhere: of this message.
    passed: Option<u64>,
}

/// All that is in hand.
#[derive(Debug)]
pub(super) struct Hand<K> {
    chats: HashMap<Arc<str>, Chat<K>>,
    lanes: Lanes,
    queues: HashMap<Lane, Queue>,
    /// Lanes in which a chat has become ready since somebody asked.
    woken: Vec<Lane>,
    due: BTreeSet<(Instant, Arc<str>)>,
    waiting_elsewhere: usize,
    listening_since: Option<Instant>,
    waiting: usize,
    kept: usize,
    /// How many bytes of waiting messages are kept.
    budget: usize,
    number: u64,
    /// Which part of those that arrive has to wait, of late.
    wait_share: f64,
}

impl<K> Hand<K> {
    /// Nothing. Of what waits, `budget` bytes are kept.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            chats: HashMap::new(),
            lanes: Lanes::default(),
            queues: HashMap::new(),
            woken: Vec::new(),
            due: BTreeSet::new(),
            waiting_elsewhere: 0,
            listening_since: None,
            waiting: 0,
            kept: 0,
            budget,
            number: 0,
            wait_share: 0.0,
        }
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of them in this lane.
    pub(super) fn waiting_in(&self, lane: Lane) -> usize {
        self.queues.get(&lane).map_or(0, |queue| queue.waiting)
    }

    /// From now on the chats are in these lanes. What waits in others comes with them, in its order.
    pub(super) fn reroute(&mut self, lanes: Lanes) {
        self.lanes = lanes;
        let before = std::mem::take(&mut self.queues);
        for (key, chat) in &mut self.chats {
            chat.lane = self.lanes.of(key);
            self.queues.entry(chat.lane).or_default().waiting += chat.waiting.len();
        }
        for key in before.into_values().flat_map(|queue| queue.ready) {
            let Some(chat) = self.chats.get(&key).filter(|chat| chat.is_ready) else { continue };
            self.woken.push(chat.lane);
            self.queues.entry(chat.lane).or_default().ready.push_back(key);
        }
        self.woken.dedup();
    }

    /// The lanes in which a chat has become ready since this was asked last.
    pub(super) fn woken(&mut self) -> Vec<Lane> {
        std::mem::take(&mut self.woken)
    }

    /// How many messages to ask for, so that about `free` of them can begin: those that only wait need no slot.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between free and most, which are small whole numbers"
    )]
    pub(super) fn ask(&self, free: usize, most: usize) -> usize {
        let free_part = (1.0 - self.wait_share).max(1.0 / 256.0);
        let ask = f64::from(u32::try_from(free).unwrap_or(u32::MAX)) / free_part;
        (ask as usize).clamp(1, most.max(1))
    }

    /// A message arrives. It begins if none of its chat is in hand, and if there is a slot for it.
    pub(super) fn arrives(&mut self, chat: &str, held: Held<K>, may_begin: bool) -> Arrival<K> {
        let sequence = held.place.sequence;
        if may_begin && crash::switched_off("chain") {
            return Arrival::Begins(AtWork { chat: Arc::from(chat), number: 0 }, held);
        }
        if let Some(known) = self.chats.get_mut(chat) {
            if known.at_work.is_some_and(|(at_work, _)| at_work == sequence) {
                return Arrival::Known;
            }
            if let Some(before) = known.waiting.get_mut(&sequence) {
                // The bus has lost patience, so its count of deliveries is a new one.
                (before.claim, before.reserved) = (held.claim, held.reserved);
                return Arrival::Known;
            }
        }
        let has_to_wait = self.chats.contains_key(chat);
        self.wait_share += (f64::from(u8::from(has_to_wait)) - self.wait_share) / 64.0;
        if !has_to_wait && may_begin {
            let chat: Arc<str> = Arc::from(chat);
            self.number += 1;
            let at_work = AtWork { chat: Arc::clone(&chat), number: self.number };
            let lane = self.lanes.of(&chat);
            self.chats.insert(chat, Chat::new(lane, Some((sequence, self.number))));
            return Arrival::Begins(at_work, held);
        }
        let chat = self.chats.get_key_value(chat).map_or_else(|| Arc::from(chat), |(key, _)| Arc::clone(key));
        self.put(&chat, held);
        self.settle(&chat);
        Arrival::Waits
    }

    /// The next message of this lane that may go or has to look. Whoever gets it has a slot for it.
    pub(super) fn next(&mut self, lane: Lane) -> Option<(AtWork, Held<K>)> {
        loop {
            let key = self.queues.get_mut(&lane)?.ready.pop_front()?;
            let Some(chat) = self.chats.get_mut(&key) else { continue };
            chat.is_ready = false;
            let Some((sequence, held)) = chat.waiting.pop_first() else { continue };
            self.number += 1;
            chat.at_work = Some((sequence, self.number));
            self.taken(lane, &held);
            return Some((AtWork { chat: key, number: self.number }, held));
        }
    }

    /// Is there something for [`Self::next`]?
    pub(super) fn is_ready(&self, lane: Lane) -> bool {
        self.queues.get(&lane).is_some_and(|queue| !queue.ready.is_empty())
    }

    /// Work at a message has ended, however that was.
    pub(super) fn ended(&mut self, at_work: &AtWork) {
        if let Some(chat) = self.chats.get_mut(&at_work.chat)
            && chat.at_work.is_some_and(|(_, number)| number == at_work.number)
        {
            chat.at_work = None;
            self.settle(&at_work.chat);
        }
    }

    /// A message has begun, and has to wait after all: the one before it is not in hand and has no outcome, as read at
    /// `read_at`. Comes back if the hand was cleared in the meantime.
    pub(super) fn waits_elsewhere(
        &mut self,
        at_work: &AtWork,
        mut held: Held<K>,
        read_at: Instant,
    ) -> Option<Held<K>> {
        let is_at_work =
            |chat: &&mut Chat<K>| chat.at_work.is_some_and(|(_, number)| number == at_work.number);
        let Some(chat) = self.chats.get_mut(&at_work.chat).filter(is_at_work) else { return Some(held) };
        chat.at_work = None;
        let Place { sequence, previous } = held.place;
        // It may have passed by after the bus was asked, and before anybody knew that it is waited for.
        let passed = chat.passed.take().is_some_and(|passed| passed >= previous);
        let elsewhere = Elsewhere::new(sequence, held.since, read_at, passed);
        held.has_waited = true;
        self.put(&at_work.chat, held);
        if let Some(chat) = self.chats.get_mut(&at_work.chat)
            && chat.waiting.keys().next() == Some(&sequence)
        {
            chat.elsewhere = Some(elsewhere);
            self.waiting_elsewhere += 1;
            self.schedule(&at_work.chat);
        }
        self.settle(&at_work.chat);
        None
    }

    /// Does a chat wait for what another process does?
    pub(super) fn is_elsewhere(&self) -> bool {
        self.waiting_elsewhere > 0
    }

    /// From this moment on, each outcome that passes by is heard. `None`: no longer.
    pub(super) fn listening(&mut self, since: Option<Instant>) {
        self.listening_since = since;
        let waiting = self.chats.iter().filter(|(_, chat)| chat.elsewhere.is_some());
        for chat in waiting.map(|(key, _)| Arc::clone(key)).collect::<Vec<_>>() {
            self.schedule(&chat);
        }
    }

    /// The outcome of message `sequence` of `chat` passed by. Returns whether somebody has waited for it.
    pub(super) fn heard(&mut self, chat: &str, sequence: u64, now: Instant) -> bool {
        let Some((key, _)) = self.chats.get_key_value(chat) else { return false };
        let key = Arc::clone(key);
        let Some(chat) = self.chats.get_mut(&key) else { return false };
        let wanted = chat.waiting.first_key_value().map(|(_, held)| held.place.previous);
        let Some(elsewhere) = chat.elsewhere.as_mut() else {
            chat.passed = chat.passed.max(Some(sequence));
            return false;
        };
        let waits = wanted.is_some_and(|wanted| sequence >= wanted);
        if waits {
            elsewhere.passed();
            if let Some(due) = elsewhere.due.replace(now) {
                self.due.remove(&(due, Arc::clone(&key)));
            }
            self.due.insert((now, key));
        }
        waits
    }

    /// When something has to be looked up next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// What has to be looked up now. Each look must be told its end. In a lane that is held, only what passed by is of use.
    pub(super) fn look(&mut self, now: Instant, is_held: impl Fn(Lane) -> bool) -> Option<Look> {
        loop {
            let (_, chat) = self.due.first().filter(|(due, _)| *due <= now).cloned()?;
            self.due.pop_first();
            let known = self.chats.get_mut(&chat)?;
            if let Some(elsewhere) = known.elsewhere.as_mut() {
                elsewhere.due = None;
                if !elsewhere.has_passed() && is_held(known.lane) {
                    elsewhere.due = Some(now + QUIET);
                    self.due.insert((now + QUIET, chat));
                    continue;
                }
            }
            let place = known.waiting.first_key_value().map(|(_, held)| held.place)?;
            return Some(Look { chat, place });
        }
    }

    /// A look has ended; what it found was true at `read_at`.
    pub(super) fn looked(&mut self, look: &Look, found: Found, read_at: Instant) {
        let Some(chat) = self.chats.get_mut(&look.chat) else { return };
        let Some(elsewhere) = chat.elsewhere.as_mut().filter(|one| one.sequence == look.place.sequence)
        else {
            return;
        };
        if found == Found::Nothing {
            elsewhere.found_nothing(read_at);
            return self.schedule(&look.chat);
        }
        if found == Found::NothingBefore
            && let Some(mut first) = chat.waiting.first_entry()
        {
            first.get_mut().place = look.place.behind_nothing();
        }
        self.not_elsewhere(&look.chat);
        self.settle(&look.chat);
    }

    /// The reservations that have to be renewed, of those that end within half an ack wait. In a lane that is held, no
    /// turn comes soon.
    pub(super) fn renewals(
        &mut self,
        now: Instant,
        ack_wait: Duration,
        is_held: impl Fn(Lane) -> bool,
    ) -> Vec<Renewal> {
        let mut renewals = Vec::new();
        for chat in self.chats.values_mut().filter(|chat| !chat.waiting.is_empty()) {
            let near = if is_held(chat.lane) { 0 } else { NEAR };
            for (behind, held) in chat.waiting.values_mut().enumerate() {
                if held.reserved <= now + ack_wait / 2 {
                    let ack_waits = if behind < near { 1 } else { FAR };
                    held.reserved = now + ack_wait * ack_waits;
                    renewals.push(Renewal { claim: held.claim.clone(), ack_waits });
                }
            }
        }
        renewals
    }

    /// Everything that waits leaves the hand. What is at work stays at work, and nothing waits for it.
    pub(super) fn clear(&mut self) -> Vec<Claim> {
        let chats = std::mem::take(&mut self.chats);
        self.queues.clear();
        self.due.clear();
        (self.waiting, self.kept, self.waiting_elsewhere) = (0, 0, 0);
        chats.into_values().flat_map(|chat| chat.waiting.into_values()).map(|held| held.claim).collect()
    }

    fn put(&mut self, key: &Arc<str>, mut held: Held<K>) {
        let lanes = &self.lanes;
        let chat = self.chats.entry(Arc::clone(key)).or_insert_with(|| Chat::new(lanes.of(key), None));
        held.has_waited |= chat.at_work.is_some() || !chat.waiting.is_empty();
        if self.kept + held.weight > self.budget {
            held.kept = None;
        }
        let weight = if held.kept.is_some() { held.weight } else { 0 };
        if let Entry::Vacant(place) = chat.waiting.entry(held.place.sequence) {
            place.insert(held);
            self.queues.entry(chat.lane).or_default().waiting += 1;
            self.waiting += 1;
            self.kept += weight;
        }
    }

    fn taken(&mut self, lane: Lane, held: &Held<K>) {
        if let Some(queue) = self.queues.get_mut(&lane) {
            queue.waiting -= 1;
        }
        self.waiting -= 1;
        if held.kept.is_some() {
            self.kept -= held.weight;
        }
    }

    /// The state of a chat after a change: forgotten, at work, elsewhere, or ready.
    fn settle(&mut self, key: &Arc<str>) {
        let Some(chat) = self.chats.get_mut(key) else { return };
        let first = chat.waiting.keys().next().copied();
        if chat.elsewhere.as_ref().is_some_and(|one| Some(one.sequence) != first) {
            self.not_elsewhere(key);
        }
        let Some(chat) = self.chats.get_mut(key) else { return };
        if chat.at_work.is_some() || chat.elsewhere.is_some() {
            return;
        }
        if first.is_none() {
            self.chats.remove(key);
        } else if !std::mem::replace(&mut chat.is_ready, true) {
            let lane = chat.lane;
            self.queues.entry(lane).or_default().ready.push_back(Arc::clone(key));
            self.woken.push(lane);
        }
    }

    fn not_elsewhere(&mut self, key: &Arc<str>) {
        if let Some(elsewhere) = self.chats.get_mut(key).and_then(|chat| chat.elsewhere.take()) {
            self.waiting_elsewhere -= 1;
            if let Some(due) = elsewhere.due {
                self.due.remove(&(due, Arc::clone(key)));
            }
        }
    }

    fn schedule(&mut self, key: &Arc<str>) {
        let Some(since) = self.listening_since else { return };
        let Some(elsewhere) = self.chats.get_mut(key).and_then(|chat| chat.elsewhere.as_mut()) else {
            return;
        };
        let due = elsewhere.next(since);
        if let Some(before) = elsewhere.due.replace(due) {
            self.due.remove(&(before, Arc::clone(key)));
        }
        self.due.insert((due, Arc::clone(key)));
    }
}

impl<K> Chat<K> {
    fn new(lane: Lane, at_work: Option<(u64, u64)>) -> Self {
        Self { lane, at_work, waiting: BTreeMap::new(), is_ready: false, elsewhere: None, passed: None }
    }
}

#[cfg(test)]
#[path = "hand_tests.rs"]
mod tests;
