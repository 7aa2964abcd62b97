//! Groups whose members get the key anew. Pure, but for the clock.
//!
//! That costs a message for each device of each member, and any member can ask for it. So it happens in a group once in
//! a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::recent::Recent;

/// How often a group's members get the key anew, at the most.
const EVERY: Duration = Duration::from_secs(600);
/// So many groups are remembered, or twice as many at the most.
const REMEMBERED: usize = 1_000;

/// When each group's members got the key anew.
#[derive(Debug)]
pub(super) struct Unkeyed(Mutex<Recent<String, Instant>>);

impl Unkeyed {
    /// In no group yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent::new(REMEMBERED, EVERY, |_| false, Instant::now())))
    }

    /// Is it time for this chat? Only groups have keys.
    pub(super) fn is_due(&self, chat: &str) -> bool {
        if !chat.ends_with("@g.us") {
            return false;
        }
        let now = Instant::now();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = recent.get(&chat.to_owned(), now).copied();
        let is_due = before.is_none_or(|before| now.saturating_duration_since(before) >= EVERY);
        if is_due {
            recent.insert(chat.to_owned(), now, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_group_gets_its_key_anew_once_in_a_while_and_a_person_never() {
        let unkeyed = Unkeyed::new();
        let (one, two) = ("120363@g.us", "120364@g.us");
        assert!(unkeyed.is_due(one) && unkeyed.is_due(two));
        assert!(!unkeyed.is_due(one) && !unkeyed.is_due(two));
        tokio::time::advance(EVERY.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert!(!unkeyed.is_due(one));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(unkeyed.is_due(one));
        assert!(!unkeyed.is_due("54911@s.whatsapp.net"));
    }
}
