//! The chats that a person has at this moment, for whoever wants to see them and to change it, whatever term of the lease it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, ChangeError, Of, StoredTakeover};
use crate::wire::takeover::{self, Lasts};
use crate::wire::v1::{Takeover, TakeoverState};
use crate::wire::{Account, ChatToken, Subjects, now_ms};

/// So many takeovers are known, and their ends told. The others end as well, and nobody hears of it.
const MOST: usize = 10_000;

/// The takeovers that have not ended. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct OpenTakeovers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    lasts: Lasts,
    open: Mutex<HashMap<ChatToken, Taken>>,
}

/// A chat that a person has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub chat: ChatToken,
    /// Since when. Milliseconds.
    pub began_ms: i64,
    /// Until when. Milliseconds.
    pub until_ms: i64,
}

impl OpenTakeovers {
    /// None is known yet.
    pub(crate) fn new(bus: Bus, subjects: Subjects, account: Account, lasts: Lasts) -> Self {
        Self(Arc::new(Shared { bus, subjects, account, lasts, open: Mutex::default() }))
    }

    /// How long they last.
    pub fn lasts(&self) -> Lasts {
        self.0.lasts
    }

    /// Those that last still: `most` of them, the last one to end first, and how many there are.
    pub fn list(&self, most: usize) -> (Vec<Taken>, usize) {
        let now_ms = now_ms();
        let mut open: Vec<Taken> =
            self.open().values().filter(|one| one.until_ms > now_ms).cloned().collect();
        open.sort_unstable_by(|a, b| (b.until_ms, a.chat.as_str()).cmp(&(a.until_ms, b.chat.as_str())));
        let count = open.len();
        open.truncate(most);
        (open, count)
    }

    /// An operator takes over a chat.
    pub async fn take_over(&self, chat: &ChatToken, lasts: Duration) -> Result<(), ChangeError> {
        self.change(chat, "takeover", |_before| Some(takeover::asked_for(lasts))).await
    }

    /// An operator gives a chat back to the assistant, if a person has it.
    pub async fn resume(&self, chat: &ChatToken) -> Result<(), ChangeError> {
        let is_on = |stored: &&StoredTakeover| stored.takeover.state() != TakeoverState::Ended;
        self.change(chat, "resume", |before| {
            before.filter(is_on).map(|stored| takeover::resumed(&stored.takeover))
        })
        .await
    }

    async fn change(
        &self,
        chat: &ChatToken,
        what: &str,
        next: impl Fn(Option<&StoredTakeover>) -> Option<Takeover>,
    ) -> Result<(), ChangeError> {
        let Shared { bus, subjects, account, .. } = &*self.0;
        let id = format!("{account}/{}/{what}/{}-page", chat.as_str(), now_ms());
        // Whoever asks has a limit of time, and drops this.
        let never = CancellationToken::new();
        let holds = bus.take_over(Of { subjects, account, chat }, &id, next, &never).await?;
        if let Some(stored) = holds {
            self.learn(chat, &stored.takeover);
        }
        Ok(())
    }

    /// This is a chat's last takeover.
    pub(super) fn learn(&self, chat: &ChatToken, last: &Takeover) {
        let mut open = self.open();
        if last.state() == TakeoverState::Ended {
            open.remove(chat);
        } else if open.len() < MOST || open.contains_key(chat) {
            let taken = Taken { chat: chat.clone(), began_ms: last.began_at_ms, until_ms: last.until_ms };
            open.insert(chat.clone(), taken);
        }
    }

    /// The bus has none of this chat.
    pub(super) fn forget(&self, chat: &ChatToken) {
        self.open().remove(chat);
    }

    /// Those whose time has passed.
    pub(super) fn over(&self, now_ms: i64) -> Vec<ChatToken> {
        let open = self.open();
        open.values().filter(|one| one.until_ms <= now_ms).map(|one| one.chat.clone()).collect()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<ChatToken, Taken>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
