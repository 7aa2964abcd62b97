//! Who wants nothing unasked. What a person writes is noted here until the bus has it, and each request is held against what the
//! bus has in the moment before it is sent.
//!
//! Nothing is read at the start, and only what was asked about lately is in memory: the bus has it all. It is asked about each
//! request; of an answer that comes from a follower, memory knows whether it is old.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{AppendError, Bus, ChangeError, Of, ReadError, StoredOptOut};
use crate::crash;
use crate::recent::Recent;
use crate::telemetry::Seldom;
use crate::wire::opt_out::{self, Words};
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{OptOut, OptOutState};
use crate::wire::{Account, ChatToken, Subjects, id};

/// Of how many chats in which somebody has said something it is in memory what; twice as many at most. Each takes some 500 bytes.
const REMEMBERED: usize = 10_000;
/// What was not asked about for so long is forgotten.
const AGE: Duration = Duration::from_secs(3_600);
/// How soon the bus is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The edge stops before it is known that a word is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Is something unasked wanted?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Nobody has said that it is not.
    Given,
    /// It is not.
    Withdrawn,
    /// The bus does not answer, or a word is on its way to it. Ask again.
    Unknown,
}

/// What this edge knows. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct OptOuts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    /// `None`: nobody opts out.
    words: Option<Words>,
    known: Mutex<Recent<ChatToken, StoredOptOut>>,
    /// The chats whose words the bus does not have yet, and how many those are.
    noted: Mutex<HashMap<ChatToken, usize>>,
    unstored: Seldom,
}

/// A word until the bus has it.
#[derive(Debug)]
pub(crate) struct Noted<'a> {
    shared: &'a Shared,
    chats: &'a [ChatToken],
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut noted = self.shared.noted();
        for chat in self.chats {
            if let Some(count) = noted.get_mut(chat) {
                *count -= 1;
                if *count == 0 {
                    noted.remove(chat);
                }
            }
        }
    }
}

/// A word that a person has written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    /// What it means.
    pub state: OptOutState,
    /// The message's id on the bus.
    pub inbound_id: &'a str,
    /// Its id on WhatsApp.
    pub message_id: &'a str,
    /// When it was written, as WhatsApp says. Milliseconds.
    pub at_ms: i64,
}

impl OptOuts {
    /// Nothing is known but to the bus.
    pub(crate) fn new(bus: Bus, subjects: Subjects, account: Account, words: Option<Words>) -> Self {
        let known = Mutex::new(Recent::new(REMEMBERED, AGE, |_| false, Instant::now()));
        let (noted, unstored) = (Mutex::default(), Seldom::default());
        Self(Arc::new(Shared { bus, subjects, account, words, known, noted, unstored }))
    }

    /// What a person says who writes this.
    pub(crate) fn word(&self, content: &Content) -> Option<OptOutState> {
        self.0.words.as_ref()?.say(opt_out::written(content)?)
    }

    /// Such a word has come in a chat with these tokens. For as long as this is held, nothing unasked is sent there.
    pub(crate) fn note<'a>(&'a self, chats: &'a [ChatToken]) -> Noted<'a> {
        let shared = &*self.0;
        for chat in chats {
            *shared.noted().entry(chat.clone()).or_default() += 1;
        }
        Noted { shared, chats }
    }

    /// Returns when the bus has the word, under each of the person's `addresses`, and word of it, in `chat`.
    pub(crate) async fn heard(
        &self,
        chat: &ChatToken,
        addresses: &[ChatToken],
        said: Said<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let shared = &*self.0;
        crash::point("edge.before-opt-out");
        let chats: Vec<String> = addresses.iter().map(|chat| chat.as_str().to_owned()).collect();
        let mut is_news = false;
        for address in addresses {
            let held = shared.until_stored(address, &chats, said, stop).await?;
            is_news |= held.is_some_and(|held| held.opt_out.message_id == said.message_id);
        }
        crash::point("edge.before-opt-out-event");
        // Also if it was stored before: who stored it may not have come to tell of it. The id tells readers, and the bus.
        if is_news {
            let opt_out = opt_out::said(None, said.state, said.at_ms, said.message_id);
            let opt_out = OptOut { chats, ..opt_out.unwrap_or_default() };
            shared.tell(chat, said, opt_out, stop).await?;
        }
        crash::point("edge.after-opt-out");
        Ok(())
    }

    /// Is something unasked wanted by the person with these addresses?
    pub(crate) async fn consent(&self, addresses: &[ChatToken]) -> Consent {
        let shared = &*self.0;
        if shared.words.is_none() || crash::switched_off("opt-out") {
            return Consent::Given;
        }
        let held = match try_join_all(addresses.iter().map(|chat| shared.held(chat))).await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(%error, "the bus does not say whether somebody has opted out");
                return Consent::Unknown;
            }
        };
        // Last, because a word may have come while the bus was asked.
        if addresses.iter().any(|chat| shared.noted().contains_key(chat)) {
            return Consent::Unknown;
        }
        if opt_out::is_out(held.iter().flatten().map(|stored| &stored.opt_out)) {
            Consent::Withdrawn
        } else {
            Consent::Given
        }
    }
}

impl Shared {
    fn of<'a>(&'a self, chat: &'a ChatToken) -> Of<'a> {
        Of { subjects: &self.subjects, account: &self.account, chat }
    }

    /// What holds for a chat.
    async fn held(&self, chat: &ChatToken) -> Result<Option<StoredOptOut>, ReadError> {
        let stored = self.bus.opt_out(self.of(chat)).await?;
        Ok(self.newest(chat, stored))
    }

    /// A follower may know an older one.
    fn newest(&self, chat: &ChatToken, stored: Option<StoredOptOut>) -> Option<StoredOptOut> {
        let (now, mut known) = (Instant::now(), self.known());
        let before = known.get(chat, now).cloned();
        match (before, stored) {
            (Some(before), Some(stored)) if stored.sequence < before.sequence => Some(before),
            (_, Some(stored)) => {
                known.insert(chat.clone(), stored.clone(), now);
                Some(stored)
            }
            (before, None) => before,
        }
    }

    async fn until_stored(
        &self,
        chat: &ChatToken,
        chats: &[String],
        said: Said<'_>,
        stop: &CancellationToken,
    ) -> Result<Option<StoredOptOut>, Stopped> {
        let next = |before: Option<&StoredOptOut>| -> Option<OptOut> {
            let before = before.map(|stored| &stored.opt_out);
            let next = opt_out::said(before, said.state, said.at_ms, said.message_id)?;
            Some(OptOut { chats: chats.to_vec(), ..next })
        };
        loop {
            let asked = self.bus.opt(self.of(chat), next, stop);
            match stop.run_until_cancelled(asked).await {
                Some(Ok(stored)) => return Ok(self.newest(chat, stored)),
                None | Some(Err(ChangeError::Append(AppendError::Stopped))) => return Err(Stopped),
                Some(Err(error)) => {
                    if let Some(more) = self.unstored.due() {
                        tracing::warn!(%error, more, "the bus does not take it that somebody has opted out or in; it is tried again until it does");
                    }
                    if tokio::time::timeout(AGAIN, stop.cancelled()).await.is_ok() {
                        return Err(Stopped);
                    }
                }
            }
        }
    }

    async fn tell(
        &self,
        chat: &ChatToken,
        said: Said<'_>,
        opt_out: OptOut,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let id = id::opt_out(said.inbound_id);
        match self.bus.tell_of_opt_out(self.of(chat), &id, opt_out, stop).await {
            Ok(()) => Ok(()),
            Err(AppendError::Impossible(why)) => {
                tracing::error!(why, "nobody can be told that somebody has opted out or in; it holds");
                Ok(())
            }
            Err(_stopped) => Err(Stopped),
        }
    }

    fn known(&self) -> MutexGuard<'_, Recent<ChatToken, StoredOptOut>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<ChatToken, usize>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
