//! The chats of this account: the token of each chat, and the last sequence on its subject.
//!
//! This is a cache of what the bus knows. A chat that came first with its hidden id keeps that token when its phone
//! number becomes known, because after a restart its messages are found under that token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::bus::{Bus, ReadError};
use crate::wire::{Account, ChatToken, Subjects, header};

/// All chats that came since the start.
#[derive(Debug)]
pub(crate) struct Chats {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    /// By every candidate token, so that a person's chat is found by either address.
    seen: Mutex<HashMap<ChatToken, Arc<OnceCell<Arc<Chat>>>>>,
}

/// One chat.
#[derive(Debug)]
pub(crate) struct Chat {
    /// Its token. It never changes.
    pub token: ChatToken,
    /// The end of its list. Held while a message is appended: one at a time per chat.
    pub end: tokio::sync::Mutex<End>,
}

/// The last message on a chat's subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Its sequence. 0: there is none.
    pub sequence: u64,
    /// Its id.
    pub id: Option<String>,
}

impl Chats {
    /// No chats yet.
    pub(crate) fn new(bus: Bus, subjects: Subjects, account: Account) -> Self {
        Self { bus, subjects, account, seen: Mutex::default() }
    }

    /// The chat with one of these tokens. `candidates` is not empty; its first element is the token for a new chat.
    pub(crate) async fn find(&self, candidates: &[ChatToken]) -> Result<Arc<Chat>, ReadError> {
        let cell = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let cell = candidates.iter().find_map(|token| seen.get(token).cloned()).unwrap_or_default();
            for token in candidates {
                seen.entry(token.clone()).or_insert_with(|| Arc::clone(&cell));
            }
            cell
        };
        cell.get_or_try_init(|| self.look_up(candidates)).await.cloned()
    }

    async fn look_up(&self, candidates: &[ChatToken]) -> Result<Arc<Chat>, ReadError> {
        let mut best: Option<(ChatToken, End)> = None;
        for token in candidates {
            let end = self.end(token).await?;
            if best.as_ref().is_none_or(|(_, known)| end.sequence > known.sequence) {
                best = Some((token.clone(), end));
            }
        }
        let (token, end) = best.ok_or_else(|| ReadError::new(&"a chat without an address"))?;
        Ok(Arc::new(Chat { token, end: tokio::sync::Mutex::new(end) }))
    }

    /// The last message that the bus has on a chat's subject.
    pub(crate) async fn end(&self, token: &ChatToken) -> Result<End, ReadError> {
        let subject = self.subjects.message(&self.account, token);
        let stored = self.bus.last(&self.subjects.stream_in(), &subject).await?;
        Ok(stored.map_or_else(End::default, |stored| End {
            sequence: stored.sequence,
            id: stored.headers.get(header::CE_ID).map(str::to_owned),
        }))
    }
}
