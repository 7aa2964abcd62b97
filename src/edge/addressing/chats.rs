//! The chats of this account: the token of each chat, and the last sequence on its subject.
//!
//! This is a cache of what the bus knows, of the chats that wrote lately. A chat that came first with its hidden id
//! keeps that token when its phone number becomes known, because its messages are found under that token when it is
//! looked up again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::bus::{Bus, ReadError, StreamState};
use crate::crash;
use crate::recent::Recent;
use crate::wire::{Account, ChatToken, Subjects, header};

/// How many addresses are remembered at least; twice as many at most. Each takes some 300 bytes.
const REMEMBERED: usize = 20_000;
/// An address that was not seen for so long, or twice as long, is forgotten.
const AGE: Duration = Duration::from_secs(3600);

/// The chats that came lately.
#[derive(Debug)]
pub(crate) struct Chats {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    /// By every candidate token, so that a person's chat is found by either address.
    seen: Mutex<Recent<ChatToken, Arc<Seen>>>,
    /// The incarnation of `WA_IN`, from before the first end was read.
    incarnation: tokio::sync::Mutex<Option<Arc<str>>>,
}

/// A chat that is being looked up, or was.
#[derive(Debug, Default)]
struct Seen {
    chat: OnceCell<Arc<Chat>>,
    /// How many look for it at this moment.
    looking: AtomicUsize,
}

impl Seen {
    /// A second `Chat` for the same chat would know another end.
    fn is_in_use(this: &Arc<Self>) -> bool {
        this.looking.load(Ordering::Relaxed) > 0
            || this.chat.get().is_some_and(|chat| Arc::strong_count(chat) > 1)
    }
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
    /// The incarnation of the stream that the sequence counts in.
    pub incarnation: Arc<str>,
}

/// Why the bus says that a chat ends earlier than this edge knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// The stream has given out later sequences since: the chat's last messages have expired, or were purged or
    /// deleted. (Or a follower said so that is behind. The compare-and-set of the next append tells.)
    Gone,
    /// The stream was made anew.
    Anew,
    /// The stream itself ends earlier. Its leader is behind, for seconds, or it has lost what it had stored.
    Behind,
}

impl End {
    /// Why this end is not there, if the stream is like this now.
    pub(crate) fn earlier(&self, now: &StreamState) -> Earlier {
        if now.incarnation != *self.incarnation {
            Earlier::Anew
        } else if now.last >= self.sequence {
            Earlier::Gone
        } else {
            Earlier::Behind
        }
    }
}

impl Chats {
    /// No chats yet.
    pub(crate) fn new(bus: Bus, subjects: Subjects, account: Account) -> Self {
        let size = if crash::switched_off("chats") { 1 } else { REMEMBERED };
        let seen = Mutex::new(Recent::new(size, AGE, Seen::is_in_use, Instant::now()));
        Self { bus, subjects, account, seen, incarnation: tokio::sync::Mutex::default() }
    }

    /// The chat with one of these tokens. `candidates` is not empty; its first element is the token for a new chat.
    pub(crate) async fn find(&self, candidates: &[ChatToken]) -> Result<Arc<Chat>, ReadError> {
        struct Looking(Arc<Seen>);
        impl Drop for Looking {
            fn drop(&mut self) {
                self.0.looking.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let looking = {
            let (mut seen, now) = (self.seen(), Instant::now());
            let known = candidates.iter().find_map(|token| seen.get(token, now).cloned());
            let found = known.unwrap_or_default();
            // Before the insertions, which forget what is not in use.
            found.looking.fetch_add(1, Ordering::Relaxed);
            for token in candidates {
                if seen.get(token, now).is_none() {
                    seen.insert(token.clone(), Arc::clone(&found), now);
                }
            }
            Looking(found)
        };
        looking.0.chat.get_or_try_init(|| self.look_up(candidates)).await.cloned()
    }

    /// The chat with one of these tokens, if it came lately. Asks nobody.
    pub(crate) fn known(&self, candidates: &[ChatToken]) -> Option<Arc<Chat>> {
        let (mut seen, now) = (self.seen(), Instant::now());
        let seen = candidates.iter().find_map(|token| seen.get(token, now).cloned())?;
        seen.chat.get().cloned()
    }

    async fn look_up(&self, candidates: &[ChatToken]) -> Result<Arc<Chat>, ReadError> {
        let ends = try_join_all(candidates.iter().map(|token| self.end(token))).await?;
        let mut best: Option<(ChatToken, End)> = None;
        for (token, end) in candidates.iter().zip(ends) {
            if best.as_ref().is_none_or(|(_, known)| end.sequence > known.sequence) {
                best = Some((token.clone(), end));
            }
        }
        let (token, end) = best.ok_or_else(|| ReadError::new(&"a chat without an address"))?;
        Ok(Arc::new(Chat { token, end: tokio::sync::Mutex::new(end) }))
    }

    /// The last message that the bus has on a chat's subject.
    pub(crate) async fn end(&self, token: &ChatToken) -> Result<End, ReadError> {
        // First, so that the end is of this incarnation or of a later one, and never of an earlier one.
        let incarnation = self.incarnation().await?;
        let subject = self.subjects.message(&self.account, token);
        let stored = self.bus.last(&self.subjects.stream_in(), &subject).await?;
        Ok(stored.map_or_else(
            || End { incarnation: Arc::clone(&incarnation), ..End::default() },
            |stored| End {
                sequence: stored.sequence,
                id: stored.headers.get(header::CE_ID).map(str::to_owned),
                incarnation: Arc::clone(&incarnation),
            },
        ))
    }

    /// Why the bus says that a chat ends before `end`. Asks the stream's leader.
    pub(crate) async fn earlier(&self, end: &End) -> Result<Earlier, ReadError> {
        let now = self.bus.stream_state(&self.subjects.stream_in()).await?;
        let earlier = end.earlier(&now);
        let mut known = self.incarnation.lock().await;
        if earlier == Earlier::Anew && known.as_deref() != Some(&*now.incarnation) {
            tracing::error!(
                "the inbound stream was made anew; what it held is lost, and its messages are counted from the start"
            );
            *known = Some(now.incarnation.into());
        }
        Ok(earlier)
    }

    async fn incarnation(&self) -> Result<Arc<str>, ReadError> {
        let mut known = self.incarnation.lock().await;
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let now = self.bus.stream_state(&self.subjects.stream_in()).await?;
        Ok(Arc::clone(known.insert(now.incarnation.into())))
    }

    fn seen(&self) -> MutexGuard<'_, Recent<ChatToken, Arc<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_end_is_explained_by_the_stream_or_not_at_all() {
        let end = End { sequence: 7, id: None, incarnation: "1".into() };
        for (incarnation, last, want) in [
            ("1", 7, Earlier::Gone),
            ("1", 9, Earlier::Gone),
            ("1", 6, Earlier::Behind),
            ("1", 0, Earlier::Behind),
            ("2", 0, Earlier::Anew),
            ("2", 9, Earlier::Anew),
        ] {
            let now = StreamState { incarnation: incarnation.to_owned(), first: 1, last };
            assert_eq!(end.earlier(&now), want, "{now:?}");
        }
    }

    #[test]
    fn a_chat_is_in_use_while_somebody_looks_for_it_or_has_it() {
        let seen = Arc::new(Seen::default());
        assert!(!Seen::is_in_use(&seen));
        seen.looking.fetch_add(1, Ordering::Relaxed);
        assert!(Seen::is_in_use(&seen));
        let token = ChatToken::parse("5491").expect("a token");
        let chat = Arc::new(Chat { token, end: tokio::sync::Mutex::default() });
        seen.chat.set(Arc::clone(&chat)).expect("nobody has set it");
        seen.looking.fetch_sub(1, Ordering::Relaxed);
        assert!(Seen::is_in_use(&seen));
        drop(chat);
        assert!(!Seen::is_in_use(&seen));
    }
}
