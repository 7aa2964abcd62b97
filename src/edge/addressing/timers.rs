//! The chats' disappearing timers. What is sent into such a chat has to carry the timer, or it stays on the phones
//! and they say so. Each message that is stored says the timer that was known then; so the bus has it after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message as _;

use crate::bus::{Bus, ReadError};
use crate::wire::v1::InboundMessage;
use crate::wire::{Account, ChatToken, Subjects};

/// How many chats' timers are in memory. Of the others the bus knows.
const REMEMBERED: usize = 50_000;

/// A timer, and how new this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timer {
    seconds: u32,
    told_ms: i64,
}

/// All that came since the start. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers(Arc<Mutex<HashMap<ChatToken, Timer>>>);

impl Timers {
    /// A message of `told_ms` told of the chat's timer, or did not. Returns what is known now.
    pub(crate) fn learn(&self, chat: &ChatToken, told: Option<u32>, told_ms: i64) -> Option<u32> {
        let mut timers = self.timers();
        let known = timers.get(chat).copied();
        let Some(seconds) = told else { return known.map(|timer| timer.seconds) };
        // WhatsApp may hand over an old message once more.
        if let Some(newer) = known.filter(|known| known.told_ms > told_ms) {
            return Some(newer.seconds);
        }
        if known.is_none()
            && timers.len() >= REMEMBERED
            && let Some(other) = timers.keys().next().cloned()
        {
            timers.remove(&other);
        }
        timers.insert(chat.clone(), Timer { seconds, told_ms });
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
            return Ok(Some(known));
        }
        let mut found = Vec::new();
        for subject in [subjects.message(account, chat), subjects.update(account, chat)] {
            let Some(stored) = bus.last(&subjects.stream_in(), &subject).await? else { continue };
            // What another service put there is no word of a phone's.
            let Ok(message) = InboundMessage::decode(stored.payload) else { continue };
            let Some(seconds) = message.disappears_after_s else { continue };
            found.push((stored.sequence, seconds, message.sent_at_ms));
        }
        let Some((_, seconds, told_ms)) = found.into_iter().max() else { return Ok(None) };
        // A message may have come in the meantime.
        Ok(self.learn(chat, Some(seconds), told_ms))
    }

    fn known(&self, chat: &ChatToken) -> Option<u32> {
        self.timers().get(chat).map(|timer| timer.seconds)
    }

    fn timers(&self) -> MutexGuard<'_, HashMap<ChatToken, Timer>> {
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

    #[test]
    fn memory_has_a_bound() {
        let timers = Timers::default();
        for number in 0..REMEMBERED + 10 {
            timers.learn(&ChatToken::phone(&number.to_string()), Some(1), 1);
        }
        assert_eq!(timers.timers().len(), REMEMBERED);
    }
}
