//! What a place says of a session that has moved away, or is on its way there. Pure.

use serde::{Deserialize, Serialize};

use crate::wire::Account;
use crate::wire::header::rfc3339_ms;

/// What a marker calls the bus.
pub(super) const BUS: &str = "the bus";
/// What a marker calls a file that `session export` has made.
pub(super) const EXPORT: &str = "an export";

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// The session has moved away.
    Away,
    /// It is on its way here, and no edge may use it yet.
    Coming,
}

/// Beside a session, or in its place. An edge that finds one does not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// Which move.
    pub(super) id: String,
    /// Which way.
    pub(super) way: Way,
    /// The other place.
    pub(super) other: String,
    /// Since when, in milliseconds since 1970.
    pub(super) at_ms: i64,
}

/// Where a marker is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Here<'a> {
    /// In a directory.
    Dir(&'a str),
    /// On the bus.
    Bus,
}

impl Marker {
    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Plain data always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads it back. One that cannot be read is one nevertheless.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Self {
            id: String::new(),
            way: Way::Away,
            other: "a place that cannot be read".to_owned(),
            at_ms: 0,
        })
    }

    /// Why no edge can begin, and what to do.
    pub(super) fn says(&self, account: &Account, here: Here<'_>) -> String {
        let (at, other) = (rfc3339_ms(self.at_ms), &self.other);
        let (place, back, elsewhere) = match here {
            Here::Dir(dir) => (dir, "session move --to file", "SESSION_STORE=nats"),
            Here::Bus => (BUS, "session move --to nats", "SESSION_STORE=file there"),
        };
        match self.way {
            Way::Away => format!(
                "the session of account `{account}` is not in {place} any more: it was moved to {other}, at {at}. Set \
                 {elsewhere}. If that move did not end, run the same `session move` again; to move the session back: \
                 `whatsapp-connector {back}`{}",
                self.anew(account, here)
            ),
            Way::Coming if other == EXPORT => format!(
                "an import of the session of account `{account}` into {place} has begun at {at}, and did not end. Run \
                 the same `session import` again{}",
                self.anew(account, here)
            ),
            Way::Coming => format!(
                "the session of account `{account}` is on its way from {other} to {place} since {at}, and the move did \
                 not end. Run it again: `whatsapp-connector {back}`{}",
                self.anew(account, here)
            ),
        }
    }

    /// What the operator may do who wants none of it.
    fn anew(&self, account: &Account, here: Here<'_>) -> String {
        match (self.way, here) {
            (Way::Away, Here::Dir(dir)) => {
                format!(". To link the number anew here instead, remove {dir}/{account}.moved")
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_and_garbage_is_one_too() {
        let marker = Marker {
            id: "7".to_owned(),
            way: Way::Coming,
            other: "a:/b".to_owned(),
            at_ms: 1_736_330_400_000,
        };
        assert_eq!(Marker::decode(&marker.encode()), marker);
        let garbage = Marker::decode(b"what?");
        assert_eq!((garbage.id.as_str(), garbage.way), ("", Way::Away));
    }

    #[test]
    fn it_says_which_command_ends_it() {
        let account = Account::parse("shop").unwrap();
        let says = |way, other: &str, here| {
            let marker = Marker { id: "7".to_owned(), way, other: other.to_owned(), at_ms: 0 };
            marker.says(&account, here)
        };
        for (says, part) in [
            (says(Way::Away, BUS, Here::Dir("/auth")), "SESSION_STORE=nats"),
            (says(Way::Away, BUS, Here::Dir("/auth")), "`whatsapp-connector session move --to file`"),
            (says(Way::Away, BUS, Here::Dir("/auth")), "remove /auth/shop.moved"),
            (says(Way::Coming, BUS, Here::Dir("/auth")), "`whatsapp-connector session move --to file`"),
            (says(Way::Away, "a:/auth", Here::Bus), "moved to a:/auth"),
            (says(Way::Coming, "a:/auth", Here::Bus), "`whatsapp-connector session move --to nats`"),
            (says(Way::Coming, EXPORT, Here::Bus), "session import"),
        ] {
            assert!(says.contains(part), "{says}");
        }
    }
}
