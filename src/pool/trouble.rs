//! Accounts that do not start here. Pure, but for the time.
//!
//! An account whose session cannot be read, or makes a task panic, is tried three times. Then this edge leaves it alone
//! for a while, and says so. The other edges try for themselves: what is wrong may be this edge's settings.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::edge::End;
use crate::wire::Account;

/// So many failures in a row, and the account is parked.
const TRIES: u32 = 3;
/// For so long.
pub(super) const PARKED: Duration = Duration::from_secs(600);
/// Who works for so long has started.
const STARTED: Duration = Duration::from_secs(60);
/// The pause after the first failure; after the second one twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after another edge has written the session. It has the lease, or will have lost it.
const ANOTHER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Trouble {
    failures: u32,
    until: Instant,
    /// The entry's sequence. Who changes the entry wants it tried again.
    sequence: u64,
}

/// Which accounts are in trouble here.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Account, Trouble>);

impl Troubles {
    /// An account's edge has ended after it `lived` for so long. Returns whether the account is parked from now on.
    pub(super) fn ended(
        &mut self,
        (account, sequence): (&Account, u64),
        end: End,
        lived: Duration,
        now: Instant,
    ) -> bool {
        let before = self.0.remove(account).filter(|trouble| trouble.sequence == sequence && lived < STARTED);
        let before = before.map_or(0, |trouble| trouble.failures);
        let (failures, pause) = match end {
            End::NotTaken => (before, Duration::ZERO),
            End::Stopped | End::Lost => (0, Duration::ZERO),
            End::NoSession => (before, ANOTHER),
            End::Unreadable | End::Broken => (before + 1, PAUSE * (before + 1)),
        };
        let is_parked = failures >= TRIES;
        let until = now + if is_parked { PARKED } else { pause };
        // After the time it gets one more try.
        let failures = failures.min(TRIES);
        if failures > 0 || until > now {
            self.0.insert(account.clone(), Trouble { failures, until, sequence });
        }
        is_parked
    }

    /// May this edge take the account?
    pub(super) fn allow(&self, (account, sequence): (&Account, u64), now: Instant) -> bool {
        self.0.get(account).is_none_or(|trouble| trouble.sequence != sequence || trouble.until <= now)
    }

    /// The accounts that are parked here.
    pub(super) fn parked(&self, now: Instant) -> impl Iterator<Item = &Account> {
        self.0
            .iter()
            .filter(move |(_, trouble)| trouble.failures >= TRIES && trouble.until > now)
            .map(|(account, _)| account)
    }

    /// Forgets accounts that are no more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&Account) -> bool) {
        self.0.retain(|account, _| is_there(account));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_park_an_account_and_nothing_else_does() {
        let (mut troubles, began) = (Troubles::default(), Instant::now());
        let shop = Account::parse("shop").unwrap();
        let soon = Duration::from_secs(1);
        let at = |seconds| began + Duration::from_secs(seconds);
        let parked = |troubles: &Troubles, now| troubles.parked(now).count();
        assert!(!troubles.ended((&shop, 1), End::Broken, soon, at(0)));
        assert!(!troubles.allow((&shop, 1), at(0)) && troubles.allow((&shop, 1), at(1)));
        assert!(!troubles.ended((&shop, 1), End::NotTaken, soon, at(1)), "it did not begin");
        assert!(!troubles.ended((&shop, 1), End::Unreadable, soon, at(2)));
        assert!(troubles.ended((&shop, 1), End::Broken, soon, at(5)));
        assert_eq!(parked(&troubles, at(6)), 1);
        assert!(!troubles.allow((&shop, 1), at(600)) && troubles.allow((&shop, 1), at(605)));
        // One more try, and it is parked again.
        assert!(troubles.ended((&shop, 1), End::Broken, soon, at(606)));
        // Somebody has changed the entry.
        assert!(troubles.allow((&shop, 2), at(607)));
        assert!(!troubles.ended((&shop, 2), End::Broken, soon, at(608)));
        // It worked for a while.
        assert!(!troubles.ended((&shop, 2), End::Broken, STARTED, at(700)));
        assert!(!troubles.ended((&shop, 2), End::Lost, soon, at(701)));
        assert!(troubles.allow((&shop, 2), at(701)), "an outage of the bus is nobody's fault");
        assert!(!troubles.ended((&shop, 2), End::NoSession, soon, at(702)));
        assert!(!troubles.allow((&shop, 2), at(703)) && parked(&troubles, at(703)) == 0);
    }
}
