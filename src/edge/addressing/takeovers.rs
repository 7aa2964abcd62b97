//! Which chats a person has taken over. What a person writes is noted here before it is on the bus, and each answer is
//! held against it in the moment before it is sent: so a person who writes is never talked over by an answer that was on its way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::open_takeovers::OpenTakeovers;
use crate::bus::{AppendError, Bus, ChangeError, Of, ReadError, StoredTakeover};
use crate::crash;
use crate::recent::Recent;
use crate::wire::takeover::{self, Lasts};
use crate::wire::v1::{Takeover, TakeoverState};
use crate::wire::{Account, ChatToken, Subjects, id, now_ms};

/// How many chats are in memory at least; twice as many at most. Of the others the bus knows.
const REMEMBERED: usize = 20_000;
/// A chat that was not heard of for so long is forgotten.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// How soon the bus is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is looked whether a takeover is over.
const TICK: Duration = Duration::from_secs(1);
/// How often the bus is asked for takeovers that this edge has not heard of.
const LOOK: Duration = Duration::from_secs(60);
/// So many chats are looked at.
const MOST_LOOKED_AT: usize = 10_000;

/// The edge stops before it is known that a takeover is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// What this edge knows of takeovers. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Takeovers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    /// The takeovers whose end is to be told. `None`: nobody takes over.
    open: Option<OpenTakeovers>,
    known: Mutex<Recent<ChatToken, StoredTakeover>>,
    /// What persons have written and the bus does not know yet: when their takeovers would end.
    noted: Mutex<HashMap<ChatToken, Vec<i64>>>,
}

/// A person's message until the bus has its takeover.
#[derive(Debug)]
pub(crate) struct Noted<'a> {
    shared: &'a Shared,
    chat: &'a ChatToken,
    until_ms: i64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut noted = self.shared.noted();
        if let Some(ends) = noted.get_mut(self.chat) {
            if let Some(at) = ends.iter().position(|until| *until == self.until_ms) {
                ends.swap_remove(at);
            }
            if ends.is_empty() {
                noted.remove(self.chat);
            }
        }
    }
}

/// A person's message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typed<'a> {
    /// Its id on the bus.
    pub inbound_id: &'a str,
    /// Its id on WhatsApp.
    pub message_id: &'a str,
    /// When it was written, as WhatsApp says. Milliseconds.
    pub at_ms: i64,
}

impl Takeovers {
    /// Nothing is known but to the bus.
    pub(crate) fn new(bus: Bus, subjects: Subjects, account: Account, open: Option<OpenTakeovers>) -> Self {
        let known = Mutex::new(Recent::new(REMEMBERED, AGE, |_| false, Instant::now()));
        Self(Arc::new(Shared { bus, subjects, account, open, known, noted: Mutex::default() }))
    }

    /// A person of the number has written in the chat that has one of these tokens. From here on, and for as long as this
    /// is held, no answer to what was written before is sent there.
    pub(crate) fn note<'a>(&'a self, chats: &'a [ChatToken], at_ms: i64) -> Vec<Noted<'a>> {
        let shared = &*self.0;
        let lasts = shared.lasts();
        lasts.iter().flat_map(|lasts| chats.iter().map(|chat| shared.note(chat, at_ms, *lasts))).collect()
    }

    /// The same. Returns when the bus has it.
    pub(crate) async fn heard(
        &self,
        chat: &ChatToken,
        typed: Typed<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let shared = &*self.0;
        let Some(lasts) = shared.lasts() else { return Ok(()) };
        crash::point("edge.before-takeover");
        let next = |before: Option<&StoredTakeover>| {
            takeover::written(before.map(|stored| &stored.takeover), typed.at_ms, typed.message_id, lasts)
        };
        let id = id::takeover(typed.inbound_id);
        loop {
            let asked = shared.bus.take_over(shared.of(chat), &id, next, stop);
            match stop.run_until_cancelled(asked).await {
                Some(Ok(Some(stored))) => {
                    shared.learn(chat, stored);
                    break;
                }
                Some(Ok(None)) => break,
                Some(Err(ChangeError::Append(AppendError::Impossible(why)))) => {
                    tracing::error!(why, "a takeover cannot be stored");
                    break;
                }
                None | Some(Err(ChangeError::Append(AppendError::Stopped))) => return Err(Stopped),
                Some(Err(error)) => {
                    tracing::debug!(%error, "the bus did not take a takeover; trying again");
                    if tokio::time::timeout(AGAIN, stop.cancelled()).await.is_ok() {
                        return Err(Stopped);
                    }
                }
            }
        }
        crash::point("edge.after-takeover");
        Ok(())
    }

    /// Tells the bus of each takeover whose time has passed, until `stop`. Silence does not depend on it: everybody else judges
    /// by the times of the messages.
    pub(crate) async fn tell_of_ends(&self, stop: &CancellationToken) {
        let shared = &*self.0;
        let Some(open) = &shared.open else { return };
        let (mut ticks, mut counts) = (tokio::time::interval(TICK), HashMap::new());
        let mut next_look = Instant::now();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                // Of operators' takeovers, and of those that an edge before this one heard of.
                if let Some(Err(error)) = stop.run_until_cancelled(shared.look(&mut counts)).await {
                    tracing::debug!(%error, "the bus does not say which chats are taken over");
                }
            }
            let now_ms = now_ms();
            for chat in open.over(now_ms) {
                stop.run_until_cancelled(shared.end(&chat, now_ms, stop)).await;
            }
        }
    }

    /// Has a person taken over the chat from an answer to what was written at this time? The bus knows it from the edge
    /// before this one, and from operators; if it does not answer, what is in memory has to do.
    pub(crate) async fn silences(&self, chat: &ChatToken, written_ms: i64) -> bool {
        let shared = &*self.0;
        if shared.open.is_none() || crash::switched_off("takeover") {
            return false;
        }
        match shared.bus.takeover(shared.of(chat)).await {
            Ok(Some(stored)) => shared.learn(chat, stored),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the bus does not say whether a person has taken over"),
        }
        // Last, because a person may have written while the bus was asked.
        let noted = shared.noted().get(chat).is_some_and(|ends| ends.iter().any(|until| written_ms < *until));
        let covers = |stored: &StoredTakeover| stored.takeover.covers(written_ms);
        noted || shared.known().get(chat, Instant::now()).is_some_and(covers)
    }
}

impl Shared {
    fn of<'a>(&'a self, chat: &'a ChatToken) -> Of<'a> {
        Of { subjects: &self.subjects, account: &self.account, chat }
    }

    /// How long a takeover lasts. `None`: nobody takes over.
    fn lasts(&self) -> Option<Lasts> {
        self.open.as_ref().map(OpenTakeovers::lasts)
    }

    fn note<'a>(&'a self, chat: &'a ChatToken, at_ms: i64, lasts: Lasts) -> Noted<'a> {
        let known = self.known().get(chat, Instant::now()).map(|stored| stored.takeover.clone());
        let next: Option<Takeover> = takeover::written(known.as_ref(), at_ms, "", lasts);
        let until_ms = next.map_or(i64::MIN, |takeover| takeover.until_ms);
        self.noted().entry(chat.clone()).or_default().push(until_ms);
        Noted { shared: self, chat, until_ms }
    }

    /// Reads the takeovers of chats that the bus has more or fewer of than before.
    async fn look(&self, counts: &mut HashMap<ChatToken, usize>) -> Result<(), ReadError> {
        let found = self.bus.taken_over(&self.subjects, &self.account, MOST_LOOKED_AT).await?;
        for (chat, count) in &found {
            if counts.get(chat) != Some(count)
                && let Some(stored) = self.bus.takeover(self.of(chat)).await?
            {
                self.learn(chat, stored);
            }
        }
        *counts = found.into_iter().collect();
        Ok(())
    }

    /// Tells the end of a takeover, if its time has passed.
    async fn end(&self, chat: &ChatToken, now_ms: i64, stop: &CancellationToken) {
        let known = self.known().get(chat, Instant::now()).map_or(0, |stored| stored.sequence);
        let is_over = |stored: &&StoredTakeover| {
            stored.takeover.state() != TakeoverState::Ended && stored.takeover.until_ms <= now_ms
        };
        let next = |before: Option<&StoredTakeover>| {
            before.filter(is_over).map(|stored| takeover::over(&stored.takeover))
        };
        let id = id::takeover_end(&self.account, chat, known);
        match self.bus.take_over(self.of(chat), &id, next, stop).await {
            Ok(Some(stored)) => self.learn(chat, stored),
            Ok(None) => {
                if let Some(open) = &self.open {
                    open.forget(chat);
                }
            }
            Err(error) => tracing::debug!(%error, "the end of a takeover is not told yet"),
        }
    }

    /// A follower may know an older one.
    fn learn(&self, chat: &ChatToken, stored: StoredTakeover) {
        let (now, mut known) = (Instant::now(), self.known());
        if known.get(chat, now).is_none_or(|before| before.sequence <= stored.sequence) {
            if let Some(open) = &self.open {
                open.learn(chat, &stored.takeover);
            }
            known.insert(chat.clone(), stored, now);
        }
    }

    fn known(&self) -> MutexGuard<'_, Recent<ChatToken, StoredTakeover>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<ChatToken, Vec<i64>>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
