//! Keeps a chat in order when one of its messages must come again.
//!
//! Some messages must be requested again: those that were lost on the way to the disk (see `store`), and those that
//! cannot be decrypted. Such a message comes behind what its sender wrote in the meantime. So the chat is held: the
//! hook refuses what came after the missing message, and WhatsApp keeps it and redelivers it on the next
//! connection. The edge makes that connection as soon as the missing message is stored. What counts is the order in
//! which the stanzas first came. The library collects what it drains from a queue, so the hook sees those messages
//! later than it learns what is missing.
//!
//! `arrivals` numbers the stanzas and `queues` decides (both pure); `request` sends the request.
//!
//! In a group only the member waits whose message is missing: what the others write goes on.
//!
//! A phone that is switched off must not hold its chat for long. A message that does not come within
//! [`queues::PATIENCE`] is no longer waited for, and may then come behind the others.

mod arrivals;
mod queues;
mod request;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore::types::message::{MessageInfo, MessageSource};
use whatsapp_rust::wacore_binary::JidExt as _;

use super::aside::{Aside, WAITING_FOR_IT};
use queues::Queues;
pub(super) use request::ask_again;

/// Who waits for a message that is missing: its chat, and in a group only the member who wrote it.
pub(crate) fn waiting_for(chat: &Jid, sender: Option<&Jid>) -> String {
    match sender {
        Some(member) if chat.is_group() => format!("{}/{}", chat.to_non_ad(), member.user),
        _ => chat.to_non_ad().to_string(),
    }
}

/// The same, for what is known of a message.
pub(crate) fn waiting_for_of(source: &MessageSource) -> String {
    waiting_for(&source.chat, Some(&source.sender))
}

/// Which messages are missing, by chat. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resends(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Notify,
    /// A message was waited for in vain.
    given_up: Notify,
}

impl Resends {
    /// A message of this chat has arrived and is not handled yet.
    pub(crate) fn came(&self, chat: &str, id: &str) {
        self.queues().arrivals.came(chat, id);
    }

    /// A message of this chat was decrypted once, but there is no copy. Returns whether to request it.
    pub(crate) fn not_there(&self, chat: &str, id: &str) -> bool {
        let lost = self.queues().not_there(chat, id, Instant::now());
        self.0.changed.notify_waiters();
        lost
    }

    /// A message of this chat cannot be decrypted, and is being requested.
    pub(crate) fn unreadable(&self, info: &Arc<MessageInfo>) {
        let (chat, id) = (waiting_for_of(&info.source), &info.id);
        self.queues().hold(&chat, id, Some(Arc::clone(info)), Instant::now());
        self.0.changed.notify_waiters();
    }

    /// Returns when nothing in this chat has to be stored before this message. Cancel-safe.
    pub(crate) async fn its_turn(&self, chat: &str, id: &str) {
        loop {
            let (changed, given_up) = (self.0.changed.notified(), self.0.given_up.notified());
            if self.queues().is_its_turn(chat, id) {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = given_up => {}
            }
        }
    }

    /// The next message that was waited for in vain. It may still come. Cancel-safe.
    pub(crate) async fn abandoned(&self) -> Aside {
        loop {
            let given_up = self.0.given_up.notified();
            if let Some(info) = self.queues().abandoned.pop_front() {
                return Aside::Missing { info, kind: WAITING_FOR_IT };
            }
            given_up.await;
        }
    }

    /// May this message of this chat be stored now? If not, it must be refused, and comes again.
    pub(crate) fn lets_pass(&self, chat: &str, id: &str) -> bool {
        self.queues().lets_pass(chat, id, Instant::now())
    }

    /// A message of this chat is stored, or needs no storing.
    pub(crate) fn dealt_with(&self, chat: &str, id: &str) {
        self.queues().dealt_with(chat, id, Instant::now());
        self.0.changed.notify_waiters();
    }

    /// A new connection: WhatsApp now redelivers what is not acknowledged.
    pub(crate) fn logged_in(&self) {
        self.queues().logged_in();
    }

    /// WhatsApp has redelivered everything. Waiting times start again.
    pub(crate) fn drained(&self) {
        self.queues().drained(Instant::now());
        self.0.changed.notify_waiters();
    }

    /// Returns when a new connection is needed for a refused message whose turn it is. Stops waiting for messages
    /// that do not come. Cancel-safe.
    pub(crate) async fn wants_reconnect(&self) {
        loop {
            let changed = self.0.changed.notified();
            let (due, next) = {
                let mut queues = self.queues();
                (queues.check(Instant::now()), queues.next_check())
            };
            self.0.given_up.notify_waiters();
            if due {
                return;
            }
            match next {
                // Woken or not, the loop checks again.
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
