//! Who may be written to first. Answers never come here: whoever asked is no stranger.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use whatsapp_rust::Jid;

use super::new_chats::{Closed, NewChats, Why};
use super::packing::token;
use super::reports::Reporter;
use crate::edge::addressing::acquaintances::Acquaintances;
use crate::edge::session::link;
use crate::wire::ChatToken;

/// How soon the bus is asked again whether a chat is new.
const AGAIN: Duration = Duration::from_secs(1);

/// Knows which chats are new, and whether they may be opened.
#[derive(Debug)]
pub(super) struct Strangers {
    acquaintances: Acquaintances,
    new_chats: NewChats,
    /// The end of the pause that was told last.
    told_ms: AtomicI64,
}

impl Strangers {
    /// Nobody is known but to the bus.
    pub(super) fn new(new_chats: NewChats) -> Self {
        Self { acquaintances: Acquaintances::default(), new_chats, told_ms: AtomicI64::new(0) }
    }

    /// May the chat be written to? Returns whether it is new. Takes until the bus says so: nobody else waits.
    pub(super) async fn meet(&self, reporter: &Reporter, chat: &ChatToken, to: &Jid) -> Result<bool, Closed> {
        // Groups are no strangers.
        let Some(own) = token(to) else { return Ok(false) };
        let Reporter { bus, subjects, account, .. } = reporter;
        // The chat of the request may be another one than that of the address which WhatsApp names.
        for chat in [Some(chat), Some(&own).filter(|own| *own != chat)].into_iter().flatten() {
            loop {
                match self.acquaintances.has(bus, subjects, account, chat).await {
                    Ok(true) => return Ok(false),
                    Ok(false) => break,
                    Err(error) => {
                        tracing::debug!(%error, "the bus does not say whether a chat is new");
                        sleep(AGAIN).await;
                    }
                }
            }
        }
        self.new_chats.open(chat).await.map(|()| true)
    }

    /// WhatsApp has a message to this chat, which was new.
    pub(super) async fn met(&self, chat: &ChatToken) {
        self.acquaintances.met(chat);
        self.new_chats.taken().await;
    }

    /// WhatsApp refused a message to a new chat.
    pub(super) async fn refused(&self, why: Why) -> Closed {
        self.new_chats.refused(why).await
    }

    /// Tells operators that new chats pause: once for each pause, whichever message of many comes upon it.
    ///
    /// Returns whether it is settled. It is not settled if the attempts were ended.
    pub(super) async fn tell(&self, reporter: &Reporter, closed: &Closed, state: &link::State) -> bool {
        if closed.why == Why::Budget
            || self.told_ms.swap(closed.until_ms, Ordering::Relaxed) == closed.until_ms
        {
            return true;
        }
        tracing::warn!(code = closed.why.code(), "{}", closed.detail());
        let settled = reporter.new_chats_paused(closed, state).await;
        if !settled {
            self.told_ms.store(0, Ordering::Relaxed);
        }
        settled
    }
}
