//! Whom nobody knows yet is written to slowly: WhatsApp restricts numbers that write to many strangers, and bans some of them. A
//! chat is new if neither its person nor this number has written in it, as far as the bus remembers.
//!
//! What goes over the budget fails at once, with the time from which on there is room: thousands of messages that wait would keep
//! answers out. If WhatsApp itself refuses a message to a new chat, no other new chat is tried for a while. Both are remembered in
//! `WHATSAPP_AUTH_DIR`, so a restart is no way around them.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::crash;
use crate::edge::session::Home;
use crate::telemetry::Seldom;
use crate::wire::header::rfc3339_ms;
use crate::wire::{ChatToken, now_ms};

/// The time that the budget is about.
const HOUR_MS: i64 = 3_600_000;
/// The longest pause, after refusals one after the other.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// What an operator can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// New chats in any hour (`SEND_NEW_CHATS_PER_HOUR`). `None`: as many as there are.
    pub per_hour: Option<NonZeroU32>,
    /// For how long no new chat is tried after WhatsApp has refused one (`SEND_NEW_CHATS_PAUSE`). It doubles with each refusal in
    /// a row.
    pub pause: Duration,
}

/// Why WhatsApp, or the budget, lets nobody write to a new chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Why {
    /// WhatsApp's code 463: this number may not write to strangers for a while.
    #[error("reachout-locked")]
    ReachoutLocked,
    /// WhatsApp's code 475: this number has written to too many strangers.
    #[error("new-chats-capped")]
    NewChatsCapped,
    /// More than `SEND_NEW_CHATS_PER_HOUR`.
    #[error("new-chats")]
    Budget,
}

impl Why {
    /// What WhatsApp's refusal of a message means. `None`: it has nothing to do with new chats.
    pub(super) fn of(code: &str) -> Option<Self> {
        match code {
            "463" => Some(Self::ReachoutLocked),
            "475" => Some(Self::NewChatsCapped),
            _ => None,
        }
    }

    /// A code with few values.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::ReachoutLocked => "reachout-locked",
            Self::NewChatsCapped => "new-chats-capped",
            Self::Budget => "new-chats",
        }
    }
}

/// No message goes to a new chat before a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Closed {
    /// Why.
    pub why: Why,
    /// Milliseconds since 1970.
    pub until_ms: i64,
}

impl Closed {
    /// For people.
    pub(crate) fn detail(&self) -> String {
        let until = rfc3339_ms(self.until_ms);
        let why = self.why;
        format!(
            "WhatsApp takes no messages to new chats ({why}); none is tried until {until}. Everybody else is written to."
        )
    }
}

/// What is remembered. Pure.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Ledger {
    /// The chats that were new within the last hour, and since when: no more than the budget.
    opened: Vec<(String, i64)>,
    pause: Option<Closed>,
    /// How often WhatsApp has refused in a row.
    refusals: u32,
}

impl Ledger {
    fn paused(&self, now_ms: i64) -> Option<Closed> {
        // A clock that was wrong must not close the door for years.
        let longest = now_ms.saturating_add(ms(LONGEST));
        self.pause.filter(|pause| now_ms < pause.until_ms && pause.until_ms <= longest)
    }

    /// May this chat, which is new, be written to? If so, it is counted, once.
    fn open(&mut self, chat: &str, limits: Limits, now_ms: i64) -> Result<(), Closed> {
        if let Some(closed) = self.paused(now_ms) {
            return Err(closed);
        }
        self.opened.retain(|(_, at_ms)| (now_ms - HOUR_MS..=now_ms).contains(at_ms));
        let Some(budget) = limits.per_hour else { return Ok(()) };
        if self.opened.iter().any(|(known, _)| known == chat) {
            return Ok(());
        }
        let budget = usize::try_from(budget.get()).unwrap_or(usize::MAX);
        if self.opened.len() >= budget {
            // The hour of so many has to be over that one fits in. A budget may have become smaller.
            let first = self.opened.len() - budget;
            let at_ms = self.opened.get(first).map_or(now_ms, |(_, at_ms)| *at_ms);
            return Err(Closed { why: Why::Budget, until_ms: at_ms + HOUR_MS + 1 });
        }
        self.opened.push((chat.to_owned(), now_ms));
        Ok(())
    }

    /// WhatsApp has refused a message to a new chat.
    fn refused(&mut self, why: Why, limits: Limits, now_ms: i64) -> Closed {
        // Several were on their way when the first was refused.
        if let Some(closed) = self.paused(now_ms) {
            return closed;
        }
        let pause = limits.pause.saturating_mul(2_u32.saturating_pow(self.refusals)).min(LONGEST);
        self.refusals = self.refusals.saturating_add(1);
        let closed = Closed { why, until_ms: now_ms.saturating_add(ms(pause)) };
        self.pause = Some(closed);
        closed
    }

    /// WhatsApp has taken a message to a new chat. Returns whether that is news.
    fn taken(&mut self) -> bool {
        let is_news = self.refusals > 0;
        self.refusals = 0;
        is_news
    }
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The budget of one number. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct NewChats(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    auth: Arc<Home>,
    ledger: Mutex<Ledger>,
    /// Only one writes the file, so that the newest is there in the end.
    writing: tokio::sync::Mutex<()>,
    over: Seldom,
}

impl NewChats {
    /// With what was remembered.
    pub(crate) async fn remembered(limits: Limits, auth: Arc<Home>) -> Self {
        let file = auth.read_new_chats().await.unwrap_or_default();
        let ledger = serde_json::from_slice(&file).unwrap_or_default();
        let (ledger, writing) = (Mutex::new(ledger), tokio::sync::Mutex::default());
        Self(Arc::new(Shared { limits, auth, ledger, writing, over: Seldom::default() }))
    }

    /// A session on the bus is this edge's from now on: what another edge remembered counts.
    pub(crate) async fn recall(&self) {
        if let Home::Bus(_) = &*self.0.auth {
            let file = self.0.auth.read_new_chats().await.unwrap_or_default();
            *self.ledger() = serde_json::from_slice(&file).unwrap_or_default();
        }
    }

    /// Why no new chat is written to at present, in one word, and the same in words.
    pub fn paused(&self) -> Option<(&'static str, String)> {
        let closed = self.ledger().paused(now_ms())?;
        Some((closed.why.code(), closed.detail()))
    }

    /// May this chat, which is new, be written to? If so, that is on the disk when this returns.
    pub(super) async fn open(&self, chat: &ChatToken) -> Result<(), Closed> {
        let Shared { limits, over, .. } = &*self.0;
        let opened = self.ledger().open(&name(chat), *limits, now_ms());
        match &opened {
            Ok(()) if limits.per_hour.is_some() => self.write().await,
            Ok(()) => {}
            Err(closed) if closed.why == Why::Budget => {
                if let Some(more) = over.due() {
                    tracing::warn!(
                        more,
                        "a message to a new chat is not sent: there were more than SEND_NEW_CHATS_PER_HOUR; its receipt says from when on there is room"
                    );
                }
            }
            Err(_) => {}
        }
        opened
    }

    /// WhatsApp has refused a message to a new chat. Until when none is tried is on the disk when this returns.
    pub(super) async fn refused(&self, why: Why) -> Closed {
        let closed = self.ledger().refused(why, self.0.limits, now_ms());
        self.write().await;
        crash::point("edge.after-pause");
        closed
    }

    /// WhatsApp has taken a message to a new chat.
    pub(super) async fn taken(&self) {
        let is_news = self.ledger().taken();
        if is_news {
            self.write().await;
        }
    }

    async fn write(&self) {
        let _turn = self.0.writing.lock().await;
        let ledger = self.ledger().clone();
        let json = serde_json::to_vec(&ledger).unwrap_or_default();
        if let Err(error) = self.0.auth.write_new_chats(&json).await {
            tracing::warn!(%error, "a restart will not remember how many new chats there were");
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chat's name in the file, short and of one length. It is no secret: who tries all numbers finds the one.
fn name(chat: &ChatToken) -> String {
    Sha256::digest(chat.as_str()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::session::AuthDir;

    const MINUTE_MS: i64 = 60_000;
    const NOW: i64 = 1_000 * HOUR_MS;

    fn limits(per_hour: u32) -> Limits {
        Limits { per_hour: NonZeroU32::new(per_hour), pause: Duration::from_secs(3_600) }
    }

    #[test]
    fn so_many_chats_are_opened_in_any_hour_and_each_counts_once() {
        let (mut ledger, limits) = (Ledger::default(), limits(2));
        assert_eq!(ledger.open("a", limits, NOW), Ok(()));
        assert_eq!(ledger.open("b", limits, NOW + MINUTE_MS), Ok(()));
        assert_eq!(ledger.open("a", limits, NOW + 2 * MINUTE_MS), Ok(()));
        let closed = |until_ms| Err(Closed { why: Why::Budget, until_ms });
        let full = ledger.open("c", limits, NOW + 2 * MINUTE_MS);
        assert_eq!(full, closed(NOW + HOUR_MS + 1));
        assert_eq!(ledger.open("c", limits, NOW + HOUR_MS), closed(NOW + HOUR_MS + 1));
        assert_eq!(ledger.open("c", limits, NOW + HOUR_MS + 1), Ok(()), "it keeps its word");
        assert_eq!(ledger.open("d", limits, NOW + HOUR_MS + 1), closed(NOW + MINUTE_MS + HOUR_MS + 1));
        // A clock that was set back does not close it for longer than an hour.
        assert_eq!(ledger.open("d", limits, NOW - HOUR_MS), Ok(()));
        assert!(ledger.opened.len() <= 2);
    }

    #[test]
    fn without_a_budget_nothing_is_counted_and_a_smaller_one_is_kept_to() {
        let mut ledger = Ledger::default();
        for chat in ["a", "b", "c"] {
            assert_eq!(ledger.open(chat, limits(0), NOW), Ok(()));
        }
        assert_eq!(ledger, Ledger::default());
        for (number, chat) in (0..).zip(["a", "b", "c"]) {
            assert_eq!(ledger.open(chat, limits(3), NOW + number), Ok(()));
        }
        let full = ledger.open("d", limits(1), NOW + 3);
        assert_eq!(full, Err(Closed { why: Why::Budget, until_ms: NOW + 2 + HOUR_MS + 1 }));
    }

    #[test]
    fn a_refusal_closes_new_chats_for_a_while_and_the_next_one_for_longer() {
        let (mut ledger, limits) = (Ledger::default(), limits(0));
        let closed = |hours| Closed { why: Why::NewChatsCapped, until_ms: NOW + hours * HOUR_MS };
        assert_eq!(ledger.refused(Why::NewChatsCapped, limits, NOW), closed(1));
        // This one was on its way.
        assert_eq!(ledger.refused(Why::ReachoutLocked, limits, NOW + 1), closed(1));
        assert_eq!(ledger.open("a", limits, NOW + HOUR_MS - 1), Err(closed(1)));
        assert_eq!(ledger.open("a", limits, NOW + HOUR_MS), Ok(()));
        assert_eq!(ledger.refused(Why::NewChatsCapped, limits, NOW + HOUR_MS), closed(3));
        assert!(ledger.taken() && !ledger.taken());
        assert_eq!(ledger.refused(Why::NewChatsCapped, limits, NOW + 3 * HOUR_MS), closed(4));
        for _ in 0..40 {
            ledger.pause = None;
            let Closed { until_ms, .. } = ledger.refused(Why::ReachoutLocked, limits, NOW);
            assert!(until_ms <= NOW + 24 * HOUR_MS);
        }
        // Such a pause is none of ours.
        ledger.pause = Some(closed(25));
        assert_eq!(ledger.paused(NOW), None);
    }

    #[test]
    fn only_two_of_whatsapps_codes_are_about_new_chats() {
        for (code, why) in
            [("463", Some("reachout-locked")), ("475", Some("new-chats-capped")), ("479", None), ("", None)]
        {
            assert_eq!(Why::of(code).map(Why::code), why);
            assert_eq!(Why::of(code).map(|why| why.to_string()).as_deref(), why);
        }
    }

    #[tokio::test]
    async fn what_is_remembered_outlives_the_process_and_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth");
        let account = crate::wire::Account::parse("a").unwrap();
        let chat = |number: &str| ChatToken::phone(number);
        {
            let auth = Arc::new(Home::Dir(AuthDir::lock(&path, &account).unwrap()));
            let chats = NewChats::remembered(limits(1), auth).await;
            assert_eq!(chats.open(&chat("5491112345678")).await, Ok(()));
            chats.refused(Why::NewChatsCapped).await;
        }
        let text = std::fs::read_to_string(path.join("a.new-chats")).unwrap();
        assert!(!text.contains("5678"), "{text}");
        let auth = Arc::new(Home::Dir(AuthDir::lock(&path, &account).unwrap()));
        let chats = NewChats::remembered(limits(1), Arc::clone(&auth)).await;
        let (code, detail) = chats.paused().unwrap();
        assert!(code == "new-chats-capped" && detail.contains("until 20"), "{detail}");
        chats.ledger().pause = None;
        assert_eq!(chats.open(&chat("5491112345678")).await, Ok(()));
        assert_eq!(chats.open(&chat("5491187654321")).await.unwrap_err().why, Why::Budget);
        // A file that is none is as none.
        auth.write_new_chats(b"{").await.unwrap();
        assert_eq!(NewChats::remembered(limits(1), auth).await.paused(), None);
    }
}
