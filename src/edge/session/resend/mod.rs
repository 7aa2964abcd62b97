//! A chat's order over a message that has to come again.
//!
//! A message that was lost on its way to the disk (see `store`), or that cannot be decrypted, is asked for
//! again, and comes behind what its sender wrote in the meantime. So the chat is held: the hook refuses what
//! came after the missing one, WhatsApp keeps it, and hands it over once more on the next connection, which is
//! made as soon as the missing one is stored. What counts is the order in which the stanzas first came: the
//! library collects what it drains from a queue, and the hook sees that later than what is missing from it.
//!
//! `arrivals` numbers the stanzas, `queues` decides (both pure), `request` asks.
//!
//! A phone that is switched off must not hold its chat for long: a message that does not come within
//! [`queues::PATIENCE`] is not waited for any longer, and then comes behind the others.

mod arrivals;
mod queues;
mod request;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use queues::Queues;
pub(super) use request::ask_again;

/// What is missing in which chat. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resends(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Notify,
}

impl Resends {
    /// A message of this chat has come, and nobody has looked at it yet.
    pub(crate) fn came(&self, chat: &str, id: &str) {
        self.queues().arrivals.came(chat, id);
    }

    /// A message of this chat was decrypted once and is not there. Returns whether it is to be asked for.
    pub(crate) fn not_there(&self, chat: &str, id: &str) -> bool {
        let lost = self.queues().not_there(chat, id, Instant::now());
        self.0.changed.notify_one();
        lost
    }

    /// A message of this chat cannot be decrypted, and is being asked for.
    pub(crate) fn unreadable(&self, chat: &str, id: &str) {
        self.queues().hold(chat, id, Instant::now());
        self.0.changed.notify_one();
    }

    /// May this message of this chat be stored now? If not, it has to be refused, and comes again.
    pub(crate) fn lets_pass(&self, chat: &str, id: &str) -> bool {
        self.queues().lets_pass(chat, id, Instant::now())
    }

    /// A message of this chat is stored, or needs no storing.
    pub(crate) fn dealt_with(&self, chat: &str, id: &str) {
        self.queues().dealt_with(chat, id, Instant::now());
        self.0.changed.notify_one();
    }

    /// A new connection: from now on what is not acknowledged is being handed over.
    pub(crate) fn logged_in(&self) {
        self.queues().logged_in();
    }

    /// All of it has been handed over; waiting begins anew.
    pub(crate) fn drained(&self) {
        self.queues().drained(Instant::now());
        self.0.changed.notify_one();
    }

    /// Returns when a new connection has to be made for what was refused and is the next. Gives up waiting
    /// for what does not come. Cancel-safe.
    pub(crate) async fn wants_reconnect(&self) {
        loop {
            let changed = self.0.changed.notified();
            let (due, next) = {
                let mut queues = self.queues();
                (queues.look(Instant::now()), queues.next_look())
            };
            if due {
                return;
            }
            match next {
                // Woken or not: it is looked at.
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
