//! What this replica knows of the chats that it is working on: a cache and an alarm clock, never the truth.
//!
//! A chat is in here only while a turn works on it. It holds the chat's last outcome as far as known, and, when a
//! turn has to wait, a subscription that receives the next outcome as it passes.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::chain::Last;
use crate::bus::{Bus, ReadError};
use crate::crash;
use crate::task::{OnPanic, Task, spawn};

/// A waiting turn asks again when the answer is older than this.
const STALE: Duration = Duration::from_secs(1);
/// How long an outcome may take between passing by and being stored and readable.
const SETTLE: Duration = Duration::from_millis(50);

/// The chats that have a turn in this process.
#[derive(Debug)]
pub(super) struct Chats {
    bus: Bus,
    stream_out: String,
    /// The incarnation of `WA_IN` that the sequences belong to.
    incarnation: watch::Sender<String>,
    open: Mutex<HashMap<String, Arc<Chat>>>,
}

/// One chat.
#[derive(Debug)]
pub(super) struct Chat {
    subject: String,
    known: Mutex<Option<(Last, Instant)>>,
    /// The highest `Wa-In-Seq` that passed by. Its outcome may not be stored yet.
    heard: watch::Sender<u64>,
    listener: tokio::sync::Mutex<Option<Listener>>,
    waiting: std::sync::atomic::AtomicUsize,
}

/// Receives a chat's outcomes as they pass.
#[derive(Debug)]
struct Listener {
    task: Task<()>,
    since: Instant,
}

/// A turn's hold on its chat.
#[derive(Debug)]
pub(super) struct Open {
    chats: Arc<Chats>,
    chat: Arc<Chat>,
}

impl Deref for Open {
    type Target = Chat;

    fn deref(&self) -> &Chat {
        &self.chat
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.chats.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map's reference and this one are left: this is the last turn of the chat.
        if Arc::strong_count(&self.chat) <= 2 {
            open.remove(&self.chat.subject);
        }
    }
}

impl Chats {
    /// No chats yet.
    pub(super) fn new(bus: Bus, stream_out: String, incarnation: String) -> Arc<Self> {
        Arc::new(Self {
            bus,
            stream_out,
            incarnation: watch::Sender::new(incarnation),
            open: Mutex::default(),
        })
    }

    /// `WA_IN` was made anew, so its sequences start again.
    pub(super) fn reincarnate(&self, incarnation: String) {
        self.incarnation.send_replace(incarnation);
        for chat in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            chat.forget();
        }
    }

    /// The incarnation of `WA_IN` that the sequences belong to.
    pub(super) fn incarnation(&self) -> String {
        self.incarnation.borrow().clone()
    }

    /// The chat whose outcomes are on `subject`.
    pub(super) fn open(self: &Arc<Self>, subject: String) -> Open {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let chat = open.entry(subject).or_insert_with_key(|subject| {
            Arc::new(Chat {
                subject: subject.clone(),
                known: Mutex::default(),
                heard: watch::Sender::new(0),
                listener: tokio::sync::Mutex::default(),
                waiting: std::sync::atomic::AtomicUsize::default(),
            })
        });
        Open { chats: Arc::clone(self), chat: Arc::clone(chat) }
    }
}

impl Chat {
    /// The subject of the chat's outcomes.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// This replica has stored the outcome of `last.in_sequence`, so it need not read it.
    pub(super) fn wrote(&self, last: Last) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((last, Instant::now()));
        self.heard.send_modify(|heard| *heard = (*heard).max(last.in_sequence));
    }

    /// What is known has turned out to be old.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn known(&self, at_most: Duration) -> Option<Last> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(_, at)| at.elapsed() <= at_most).map(|(last, _)| last)
    }

    fn is_known_since(&self, time: Instant) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|(_, at)| at >= time)
    }
}

impl Open {
    /// The chat's last outcome: what this replica knows of it, or else what the bus says.
    pub(super) async fn last(&self) -> Result<Last, ReadError> {
        match self.known(Duration::MAX) {
            Some(last) => Ok(last),
            None => self.read().await,
        }
    }

    async fn read(&self) -> Result<Last, ReadError> {
        let stored = self.chats.bus.last(&self.chats.stream_out, &self.subject).await?;
        let read = stored.map_or(Last::default(), |stored| Last {
            in_sequence: stored.headers.in_sequence(&self.chats.incarnation.borrow()),
            out_sequence: stored.sequence,
        });
        let mut known = self.chat.known.lock().unwrap_or_else(PoisonError::into_inner);
        debug_assert!(
            known.is_none_or(|(last, _)| in_order(last, read)),
            "a chat's outcomes are stored in the order of its messages"
        );
        // A follower may answer with less than this replica itself has written in the meantime.
        let newest = match *known {
            Some((last, _)) if last.out_sequence > read.out_sequence => last,
            _ => read,
        };
        *known = Some((newest, Instant::now()));
        Ok(newest)
    }

    /// How many turns of this chat wait here, including this one, until the guard is dropped.
    pub(super) fn waiting(&self) -> (usize, impl Drop + use<>) {
        struct Leave(Arc<Chat>);
        impl Drop for Leave {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = self.chat.waiting.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        (count, Leave(Arc::clone(&self.chat)))
    }

    /// Returns when it is useful to check again whether message `sequence` has its outcome: as soon as it has, or
    /// after a second at the latest. Cancel-safe.
    pub(super) async fn changed(&self, sequence: u64) -> Result<(), ReadError> {
        let mut heard = self.heard.subscribe();
        let listening = self.listen().await?;
        // The subscription would never receive an outcome that was stored before it was ready.
        let last = if self.is_known_since(listening) { self.last().await? } else { self.read().await? };
        if last.in_sequence >= sequence {
            return Ok(());
        }
        // Nor would it receive one that passed before it was ready, and was not stored yet when it was read.
        let settled = listening + SETTLE;
        let wait = if self.is_known_since(settled) {
            STALE
        } else {
            settled.saturating_duration_since(Instant::now())
        };
        let sounded = tokio::time::timeout(wait, heard.wait_for(|heard| *heard >= sequence)).await.is_ok();
        if sounded {
            // The outcome passed by, but the copy on the wire is ahead of the stored one.
            for wait in [0_u64, 2, 4, 8, 16, 32, 64, 128] {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                if self.known(Duration::MAX).is_some_and(|last| last.in_sequence >= sequence)
                    || self.read().await?.in_sequence >= sequence
                {
                    return Ok(());
                }
            }
            // The outcome passed by but was not stored: its append was refused. Only newer ones count from now on.
            self.heard.send_modify(|heard| *heard = 0);
        }
        if !self.is_known_since(settled) || self.known(STALE).is_none() {
            self.read().await?;
        }
        Ok(())
    }

    /// Makes sure that the subscription exists. Returns since when it is ready.
    async fn listen(&self) -> Result<Instant, ReadError> {
        let mut listener = self.chat.listener.lock().await;
        if let Some(listener) = listener.as_ref().filter(|listener| !listener.task.is_finished()) {
            return Ok(listener.since);
        }
        let mut wakes = self.chats.bus.wakes(&self.subject).await?;
        let (heard, incarnation) = (self.chat.heard.clone(), self.chats.incarnation.subscribe());
        let task = spawn("outcome listener", OnPanic::Log, async move {
            while let Some(headers) = wakes.next().await {
                let sequence = headers.in_sequence(&incarnation.borrow());
                heard.send_modify(|heard| *heard = (*heard).max(sequence));
            }
        });
        let since = Instant::now();
        *listener = Some(Listener { task, since });
        Ok(since)
    }
}

/// A later outcome belongs to a later message. This does not hold if its message belongs to another incarnation of
/// the stream, or if a test has removed the chain's check.
fn in_order(earlier: Last, later: Last) -> bool {
    later.out_sequence <= earlier.out_sequence
        || later.in_sequence > earlier.in_sequence
        || later.in_sequence == 0
        || crash::switched_off("chain")
}
