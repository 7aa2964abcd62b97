//! What this replica knows of the chats it is working on: a cache and an alarm clock, never the truth.
//!
//! A chat is in here only while some turn of it is: its last outcome as far as known, and, once a turn
//! has to wait, a subscription that hears the next outcome pass.

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

/// An answer this old is asked for again while waiting.
const STALE: Duration = Duration::from_secs(1);
/// An outcome may pass by this long before it is stored and can be read.
const SETTLE: Duration = Duration::from_millis(50);

/// The chats that have a turn in this process.
#[derive(Debug)]
pub(super) struct Chats {
    bus: Bus,
    stream_out: String,
    /// Which incarnation of `WA_IN` the sequences count in.
    incarnation: watch::Sender<String>,
    open: Mutex<HashMap<String, Arc<Chat>>>,
}

/// One chat.
#[derive(Debug)]
pub(super) struct Chat {
    subject: String,
    known: Mutex<Option<(Last, Instant)>>,
    /// The highest `Wa-In-Seq` that passed by; its outcome may not be stored yet.
    heard: watch::Sender<u64>,
    listener: tokio::sync::Mutex<Option<Listener>>,
    waiting: std::sync::atomic::AtomicUsize,
}

/// Hears a chat's outcomes pass.
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
        // The map's and this one: the last turn of the chat.
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

    /// `WA_IN` was made anew: other sequences count from now on.
    pub(super) fn reincarnate(&self, incarnation: String) {
        self.incarnation.send_replace(incarnation);
        for chat in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            chat.forget();
        }
    }

    /// The incarnation of `WA_IN` that sequences count in.
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
    /// The chat's outcomes' subject.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// This replica has stored the outcome of `last.in_sequence`: no need to read it.
    pub(super) fn wrote(&self, last: Last) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((last, Instant::now()));
        self.heard.send_modify(|heard| *heard = (*heard).max(last.in_sequence));
    }

    /// What is known turned out to be old.
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
    /// The chat's last outcome: what this replica knows of it, else what the bus says.
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
        // A follower may answer with less than this replica wrote itself in the meantime.
        let newest = match *known {
            Some((last, _)) if last.out_sequence > read.out_sequence => last,
            _ => read,
        };
        *known = Some((newest, Instant::now()));
        Ok(newest)
    }

    /// How many turns of this chat wait here, this one included, until the guard is dropped.
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

    /// Returns when it is worth looking again whether message `sequence` has its outcome: when it has, or
    /// after a second at the latest. Cancel-safe.
    pub(super) async fn changed(&self, sequence: u64) -> Result<(), ReadError> {
        let mut heard = self.heard.subscribe();
        let listening = self.listen().await?;
        // An outcome that was stored before the subscription stood would never be heard.
        let last = if self.is_known_since(listening) { self.last().await? } else { self.read().await? };
        if last.in_sequence >= sequence {
            return Ok(());
        }
        // Nor one that passed by before it stood, and was not stored yet when it was read.
        let settled = listening + SETTLE;
        let wait = if self.is_known_since(settled) {
            STALE
        } else {
            settled.saturating_duration_since(Instant::now())
        };
        let sounded = tokio::time::timeout(wait, heard.wait_for(|heard| *heard >= sequence)).await.is_ok();
        if sounded {
            // It passed by, but the copy on the wire is ahead of the stored one.
            for wait in [0_u64, 2, 4, 8, 16, 32, 64, 128] {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                if self.known(Duration::MAX).is_some_and(|last| last.in_sequence >= sequence)
                    || self.read().await?.in_sequence >= sequence
                {
                    return Ok(());
                }
            }
            // Heard, and not stored: a refused append. Only newer ones count from now on.
            self.heard.send_modify(|heard| *heard = 0);
        }
        if !self.is_known_since(settled) || self.known(STALE).is_none() {
            self.read().await?;
        }
        Ok(())
    }

    /// Makes sure of the subscription; says since when it stands.
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

/// A later outcome is of a later message. Not if its message counts in another incarnation of the stream, or if a
/// test has taken the chain's check out.
fn in_order(earlier: Last, later: Last) -> bool {
    later.out_sequence <= earlier.out_sequence
        || later.in_sequence > earlier.in_sequence
        || later.in_sequence == 0
        || crash::switched_off("chain")
}
