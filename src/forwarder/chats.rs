//! What this replica knows of the chats: the last outcome of each that it has seen lately. A cache, never the truth. An
//! old entry costs a refused compare-and-set or one more look at the bus, and does no harm.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::burst::Burst;
use super::calls_per_chat::Counted;
use super::chain::Last;
use super::notice;
use crate::bus::{Bus, ReadError};
use crate::crash;
use crate::recent::Recent;

/// So many chats are remembered, and up to twice as many: about 4 MB.
const REMEMBERED: usize = 10_000;
/// And for so long at least.
const AGE: Duration = Duration::from_secs(600);
/// No follower is behind its leader for longer.
const LAG: Duration = Duration::from_secs(10);

/// What is known, and since when.
type Known = Recent<Arc<str>, (Last, Instant)>;

/// The chats' last outcomes.
#[derive(Debug)]
pub(super) struct Chats {
    bus: Bus,
    stream_out: String,
    /// The incarnation of `WA_IN` that the sequences belong to.
    incarnation: watch::Sender<Arc<str>>,
    known: Mutex<Known>,
}

impl Chats {
    /// No chats yet.
    pub(super) fn new(bus: Bus, stream_out: String, incarnation: String) -> Self {
        let known = Mutex::new(remembered());
        Self { bus, stream_out, incarnation: watch::Sender::new(incarnation.into()), known }
    }

    /// `WA_IN` was made anew, so its sequences start again.
    pub(super) fn reincarnate(&self, incarnation: String) {
        self.incarnation.send_replace(incarnation.into());
        *self.known() = remembered();
    }

    /// The incarnation of `WA_IN` that the sequences belong to.
    pub(super) fn incarnation(&self) -> Arc<str> {
        Arc::clone(&self.incarnation.borrow())
    }

    /// The last outcome of the chat whose outcomes are on this subject, as far as known.
    pub(super) fn known_last(&self, chat: &Arc<str>) -> Option<Last> {
        self.known().get(chat, Instant::now()).map(|(last, _)| *last)
    }

    /// What is known has turned out to be old.
    pub(super) fn forget(&self, chat: &Arc<str>) {
        self.known().remove(chat);
    }

    /// This replica has stored the outcome of `last.in_sequence`, so it need not read it.
    pub(super) fn wrote(&self, chat: &Arc<str>, last: Last) {
        let now = Instant::now();
        self.known().insert(Arc::clone(chat), (last, now), now);
    }

    /// The chat's last outcome, as the bus says.
    pub(super) async fn read_last(&self, chat: &Arc<str>) -> Result<Last, ReadError> {
        let incarnation = self.incarnation();
        let stored = self.bus.last(&self.stream_out, chat).await?;
        let read = stored.map_or(Last::default(), |stored| {
            let in_sequence = stored.headers.in_sequence(&incarnation);
            Last {
                in_sequence,
                out_sequence: stored.sequence,
                told_at_ms: notice::told_at_ms(&stored.headers),
                calls: Counted::of(&stored.headers),
                // Its sequences count in its own incarnation of the stream only.
                burst: Burst::read(&stored.headers).filter(|_| in_sequence > 0),
            }
        });
        let (now, mut known) = (Instant::now(), self.known());
        let before = known.get(chat, now).copied();
        debug_assert!(
            before.is_none_or(|(last, _)| in_order(last, read)),
            "a chat's outcomes are stored in the order of its messages"
        );
        // A follower may answer with less than this replica itself has written in the meantime.
        let is_newer =
            |(last, at): &(Last, Instant)| last.out_sequence > read.out_sequence && at.elapsed() < LAG;
        let (newest, since) = before.filter(is_newer).unwrap_or((read, now));
        if incarnation == *self.incarnation.borrow() {
            known.insert(Arc::clone(chat), (newest, since), now);
        }
        Ok(newest)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remembered() -> Known {
    Recent::new(REMEMBERED, AGE, |_| false, Instant::now())
}

/// A later outcome belongs to a later message. This does not hold if its message belongs to another incarnation of
/// the stream, or if a test has removed the chain's check.
fn in_order(earlier: Last, later: Last) -> bool {
    later.out_sequence <= earlier.out_sequence
        || later.in_sequence > earlier.in_sequence
        || later.in_sequence == 0
        || crash::switched_off("chain")
}
