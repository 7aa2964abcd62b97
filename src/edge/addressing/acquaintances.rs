//! In which chats somebody has written before: the person, or the linked number. Of the others the bus is asked, which remembers
//! for as long as `NATS_IN_MAX_AGE`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use crate::bus::{Bus, ReadError};
use crate::recent::Recent;
use crate::wire::v1::{Receipt, ReceiptStatus};
use crate::wire::{Account, ChatToken, Subjects};

/// How many chats are in memory at least; twice as many at most.
const REMEMBERED: usize = 20_000;
/// A chat that was not asked about for so long is forgotten; the bus still knows it.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// The chats that are known not to be new. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Acquaintances(Arc<Mutex<Recent<ChatToken, ()>>>);

impl Default for Acquaintances {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Recent::new(REMEMBERED, AGE, |()| false, Instant::now()))))
    }
}

impl Acquaintances {
    /// Something was written in this chat.
    pub(crate) fn met(&self, chat: &ChatToken) {
        self.chats().insert(chat.clone(), (), Instant::now());
    }

    /// Has anybody written in this chat? What was not sent does not count.
    pub(crate) async fn has(
        &self,
        bus: &Bus,
        subjects: &Subjects,
        account: &Account,
        chat: &ChatToken,
    ) -> Result<bool, ReadError> {
        if self.chats().get(chat, Instant::now()).is_some() {
            return Ok(true);
        }
        let (stream, message, receipt) =
            (subjects.stream_in(), subjects.message(account, chat), subjects.receipt(account, chat));
        let (message, receipt) = tokio::try_join!(bus.last(&stream, &message), bus.last(&stream, &receipt))?;
        let known = message.is_some() || receipt.is_some_and(|stored| tells_of_a_message(&stored.payload));
        if known {
            self.met(chat);
        }
        Ok(known)
    }

    fn chats(&self) -> MutexGuard<'_, Recent<ChatToken, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is it the receipt of a message that WhatsApp has?
fn tells_of_a_message(receipt: &[u8]) -> bool {
    Receipt::decode(receipt)
        .is_ok_and(|receipt| !matches!(receipt.status(), ReceiptStatus::Failed | ReceiptStatus::Unspecified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_makes_nobody_known() {
        for (status, known) in [
            (ReceiptStatus::Accepted, true),
            (ReceiptStatus::Delivered, true),
            (ReceiptStatus::Read, true),
            (ReceiptStatus::Failed, false),
            (ReceiptStatus::Unspecified, false),
        ] {
            let receipt = Receipt { status: status.into(), ..Receipt::default() };
            assert_eq!(tells_of_a_message(&receipt.encode_to_vec()), known, "{status:?}");
        }
        assert!(!tells_of_a_message(b"\xff"));
    }
}
