//! An operator silences the assistant in one chat, or has it answer again: by a command, or through the service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, ChangeError, Of, StoredTakeover};
use crate::wire::header::rfc3339_ms;
use crate::wire::takeover::{self, Lasts};
use crate::wire::v1::{Takeover, TakeoverState};
use crate::wire::{ChatToken, kind, now_ms};

/// How long the bus may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Silence, for so long.
    TakeOver(Duration),
    /// The assistant answers again.
    Resume,
}

impl Change {
    /// Of the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::TakeOver(_) => "takeover",
            Self::Resume => "resume",
        }
    }

    fn after(self, before: Option<&StoredTakeover>) -> Option<Takeover> {
        match self {
            Self::TakeOver(lasts) => Some(takeover::asked_for(lasts)),
            Self::Resume => before
                .filter(|stored| stored.takeover.state() != TakeoverState::Ended)
                .map(|stored| takeover::resumed(&stored.takeover)),
        }
    }
}

/// Why it is not known that it is done.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// The bus says why.
    #[error("it may not be stored: {0}")]
    NotStored(#[from] ChangeError),
    /// It says nothing.
    #[error("it may not be stored: nats-server does not answer")]
    Timeout,
}

/// What holds in a chat. It names nobody.
#[derive(Debug, Serialize)]
pub struct Holds {
    /// `none`, `began`, `extended` or `ended`.
    pub state: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl Holds {
    fn of(stored: Option<&StoredTakeover>) -> Self {
        let Some(StoredTakeover { takeover, .. }) = stored else {
            return Self { state: "none".to_owned(), began_at: None, until: None };
        };
        Self {
            state: kind::code(takeover.state().as_str_name(), "TAKEOVER_STATE_"),
            began_at: Some(rfc3339_ms(takeover.began_at_ms)),
            until: Some(rfc3339_ms(takeover.until_ms)),
        }
    }
}

/// A chat as people write it: a phone number in digits, a JID, or its token on the bus.
pub fn chat(text: &str) -> Result<ChatToken, String> {
    let is_number = |user: &str| !user.is_empty() && user.chars().all(|c| c.is_ascii_digit());
    match text.split_once('@') {
        Some((user, "s.whatsapp.net")) if is_number(user) => Ok(ChatToken::phone(user)),
        Some((user, "lid")) if is_number(user) => Ok(ChatToken::lid(user)),
        Some((user, "g.us")) if !user.is_empty() => Ok(ChatToken::group(user)),
        Some(_) => Err("a phone number in digits, a JID, or a chat's token".to_owned()),
        None => ChatToken::parse(text).map_err(|error| error.to_string()),
    }
}

/// May a takeover last so long?
pub fn is_possible(lasts: Duration, settings: Lasts) -> bool {
    (Duration::from_secs(1)..=settings.most).contains(&lasts)
}

/// Changes it, and says what holds then.
pub async fn change(bus: &Bus, of: Of<'_>, change: Change) -> Result<Holds, NotChanged> {
    /// Two at the same time are two.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let (account, chat, name) = (of.account, of.chat.as_str(), change.name());
    let id = format!("{account}/{chat}/{name}/{}-{}-{count}", now_ms(), std::process::id());
    let never = CancellationToken::new();
    let changed = bus.take_over(of, &id, |before| change.after(before), &never);
    let holds = tokio::time::timeout(PATIENCE, changed).await.map_err(|_elapsed| NotChanged::Timeout)??;
    Ok(Holds::of(holds.as_ref()))
}
