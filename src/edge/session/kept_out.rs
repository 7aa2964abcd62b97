//! WhatsApp keeps the number out for a while: a ban with an end, or a lock that a person has to open. Whoever tries
//! on prolongs it. So the edge remembers it in `WHATSAPP_AUTH_DIR`, and a restart is no reason to try again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use whatsapp_rust::wacore::types::events::{TempBanReason, TemporaryBan};

use super::home::Home;

/// The pause after a lock.
const LOCKED: Duration = Duration::from_secs(6 * 3_600);
/// The pause after a ban whose end WhatsApp did not name.
const BANNED: Duration = Duration::from_secs(3_600);
/// The shortest pause after a ban.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest pause. An end that is further away is not believed: the next login will tell.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// How WhatsApp keeps the number out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// For a while.
    Banned,
    /// Until a person has done something on the phone.
    Locked,
}

/// WhatsApp keeps the number out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOut {
    /// How.
    pub kind: Kind,
    /// No login is tried before. In milliseconds since 1970.
    pub until_ms: i64,
    /// Why, in words of this connector's.
    pub why: String,
}

impl KeptOut {
    /// The account is locked.
    pub(super) fn locked(now_ms: i64) -> Self {
        Self { kind: Kind::Locked, until_ms: after(now_ms, LOCKED), why: String::new() }
    }

    /// The number is banned, for as long as WhatsApp says.
    pub(super) fn banned(ban: &TemporaryBan, now_ms: i64) -> Self {
        Self::banned_for(ban.expire.to_std().unwrap_or_default(), &ban.code, now_ms)
    }

    fn banned_for(time: Duration, reason: &TempBanReason, now_ms: i64) -> Self {
        let why = match reason {
            TempBanReason::Unknown(code) => format!("WhatsApp's code for the reason is {code}"),
            known => known.to_string(),
        };
        Self { kind: Kind::Banned, until_ms: after(now_ms, time.clamp(SHORTEST, LONGEST)), why }
    }

    /// The number is banned, and WhatsApp did not say why or for how long.
    pub(super) fn banned_without_a_word(now_ms: i64) -> Self {
        let why = "WhatsApp did not say why, nor for how long".to_owned();
        Self { kind: Kind::Banned, until_ms: after(now_ms, BANNED), why }
    }

    /// What the edge remembers from before its start, if it is not over.
    pub(super) async fn remembered(auth: &Home, now_ms: i64) -> Option<Self> {
        let kept_out: Self = serde_json::from_slice(&auth.read_kept_out().await?).ok()?;
        (!left(kept_out.until_ms, now_ms).is_zero()).then_some(kept_out)
    }

    /// Remembers it beyond the end of the process.
    pub(super) async fn remember(&self, auth: &Home) {
        let json = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = auth.write_kept_out(&json).await {
            tracing::warn!(%error, "a restart before the end will try to log in too early");
        }
    }
}

/// How long no login is tried.
pub(super) fn left(until_ms: i64, now_ms: i64) -> Duration {
    let left = u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or_default();
    Duration::from_millis(left).min(LONGEST)
}

fn after(now_ms: i64, time: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_cannot_be_is_not_waited_for() {
        for (until_ms, want) in [
            (i64::MIN, Duration::ZERO),
            (999, Duration::ZERO),
            (1_000, Duration::ZERO),
            (3_000, Duration::from_secs(2)),
            (i64::MAX, LONGEST),
        ] {
            assert_eq!(left(until_ms, 1_000), want, "{until_ms}");
        }
    }

    #[test]
    fn a_ban_lasts_as_long_as_whatsapp_says_within_reason() {
        let row = |time| KeptOut::banned_for(time, &TempBanReason::BlockedByUsers, 0).until_ms / 1_000;
        for (seconds, want) in [(0, 60), (61, 61), (86_400, 86_400), (u64::MAX, 2_592_000)] {
            assert_eq!(row(Duration::from_secs(seconds)), want, "{seconds}");
        }
    }
}
