//! The chats' disappearing timers. What is sent into such a chat has to carry the timer, or it stays on the phones
//! and they say so. Each message that is stored says the timer that was known then; so the bus has it after a restart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use crate::bus::{Bus, ReadError};
use crate::recent::Recent;
use crate::wire::v1::InboundMessage;
use crate::wire::{Account, ChatToken, Subjects};

/// How many chats' timers are in memory at least; twice as many at most. Of the others the bus knows.
const REMEMBERED: usize = 20_000;
/// A chat that was not heard of for so long is forgotten.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// A timer, and how new this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timer {
    /// `None`: the bus was asked, and does not know.
    seconds: Option<u32>,
    told_ms: i64,
}

/// All that came since the start. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Timers(Arc<Mutex<Recent<ChatToken, Timer>>>);

impl Default for Timers {
    fn default() -> Self {
        let recent = Recent::new(REMEMBERED, AGE, |_| false, Instant::now());
        Self(Arc::new(Mutex::new(recent)))
    }
}

impl Timers {
    /// A message of `told_ms` told of the chat's timer, or did not. Returns what is known now.
    pub(crate) fn learn(&self, chat: &ChatToken, told: Option<u32>, told_ms: i64) -> Option<u32> {
        let mut timers = self.timers();
        let known = timers.get(chat, Instant::now()).copied();
        let Some(seconds) = told else { return known.and_then(|timer| timer.seconds) };
        // WhatsApp may hand over an old message once more.
        if let Some(newer) = known.filter(|known| known.told_ms > told_ms) {
            return newer.seconds;
        }
        timers.insert(chat.clone(), Timer { seconds: Some(seconds), told_ms }, Instant::now());
        Some(seconds)
    }

    /// The chat's timer: from memory, or else as the last messages on the bus have it.
    pub(crate) async fn of(
        &self,
        bus: &Bus,
        subjects: &Subjects,
        account: &Account,
        chat: &ChatToken,
    ) -> Result<Option<u32>, ReadError> {
        if let Some(known) = self.known(chat) {
            return Ok(known);
        }
        let mut found = Vec::new();
        let (stream, message, update) =
            (subjects.stream_in(), subjects.message(account, chat), subjects.update(account, chat));
        let (message, update) = tokio::try_join!(bus.last(&stream, &message), bus.last(&stream, &update))?;
        for stored in [message, update].into_iter().flatten() {
            // What another service put there is no word of a phone's.
            let Ok(message) = InboundMessage::decode(stored.payload) else { continue };
            let Some(seconds) = message.disappears_after_s else { continue };
            found.push((stored.sequence, seconds, message.sent_at_ms));
        }
        // A message may have come in the meantime.
        let Some((_, seconds, told_ms)) = found.into_iter().max() else {
            let mut timers = self.timers();
            if let Some(known) = timers.get(chat, Instant::now()) {
                return Ok(known.seconds);
            }
            // Most chats have no timer: the bus is not asked again for each answer.
            timers.insert(chat.clone(), Timer { seconds: None, told_ms: 0 }, Instant::now());
            return Ok(None);
        };
        Ok(self.learn(chat, Some(seconds), told_ms))
    }

    fn known(&self, chat: &ChatToken) -> Option<Option<u32>> {
        self.timers().get(chat, Instant::now()).map(|timer| timer.seconds)
    }

    fn timers(&self) -> MutexGuard<'_, Recent<ChatToken, Timer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_counts_and_silence_changes_nothing() {
        let (timers, chat) = (Timers::default(), ChatToken::phone("54911"));
        let rows = [
            (None, 5, None),
            (Some(86_400), 10, Some(86_400)),
            (None, 11, Some(86_400)),
            (Some(0), 9, Some(86_400)),
            (Some(604_800), 10, Some(604_800)),
            (Some(0), 12, Some(0)),
            (None, 13, Some(0)),
        ];
        for (told, told_ms, want) in rows {
            assert_eq!(timers.learn(&chat, told, told_ms), want, "{told:?} at {told_ms}");
        }
        assert_eq!(timers.learn(&ChatToken::phone("54912"), None, 14), None);
    }
}
