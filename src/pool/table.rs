//! What this edge has seen of the pool on the bus: its accounts, their leases, and since when each lease has been as it
//! is. Pure, but for the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::pool::{StoredEntry, StoredLease};
use crate::edge::LEASE_TERM;
use crate::wire::Account;
use crate::wire::pool::Entry;

/// Which accounts of the pool an edge works for (`WHATSAPP_ACCOUNTS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// These.
    These(BTreeSet<Account>),
}

impl Which {
    fn has(&self, account: &Account) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(account),
        }
    }
}

/// An account.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The sequence of its entry.
    pub(super) sequence: u64,
    /// What it is like.
    pub(super) entry: Entry,
    /// Its lease.
    pub(super) lease: StoredLease,
    /// Since when the lease has been so.
    unchanged: Instant,
    /// Since when anybody may take it.
    free: Option<Instant>,
}

impl Row {
    /// For how long the account has been free. `None`: an edge has it.
    pub(super) fn free_for(&self, now: Instant) -> Option<Duration> {
        self.free.map(|since| now.saturating_duration_since(since))
    }
}

/// All accounts that this edge may work for.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<Account, Row>,
    /// The sequences of entries that cannot be read, each of which has been told of.
    odd: BTreeSet<u64>,
}

impl Table {
    /// Takes in what the bus says now. `me` is how this edge is named in leases, `has` which accounts it works for.
    pub(super) fn see(
        &mut self,
        accounts: BTreeMap<Account, StoredEntry>,
        mut leases: BTreeMap<Account, StoredLease>,
        (which, me, now): (&Which, &str, Instant),
        has: impl Fn(&Account) -> bool,
    ) {
        let mut before = std::mem::take(&mut self.rows);
        let mut odd = BTreeSet::new();
        for (account, StoredEntry { sequence, entry }) in accounts {
            if !which.has(&account) {
                continue;
            }
            let old = before.remove(&account);
            let Some((sequence, entry)) = entry.map(|entry| (sequence, entry)).or_else(|| {
                // It stays as it was, until somebody mends it.
                odd.insert(sequence);
                old.as_ref().map(|old| (old.sequence, old.entry.clone()))
            }) else {
                if !self.odd.contains(&sequence) {
                    tracing::warn!(%account, "the bucket of accounts has a value that is none: `accounts add` mends it");
                }
                continue;
            };
            let lease = leases.remove(&account).unwrap_or_default();
            let unchanged = match &old {
                Some(old) if old.lease == lease => old.unchanged,
                _ => now,
            };
            // Its own lease, which it does not work under any more, is as good as given back.
            let is_over = lease.holder.is_empty()
                || lease.holder == me
                || now.saturating_duration_since(unchanged) >= LEASE_TERM;
            let free = (is_over && !has(&account)).then(|| old.and_then(|old| old.free).unwrap_or(now));
            self.rows.insert(account, Row { sequence, entry, lease, unchanged, free });
        }
        self.odd = odd;
    }

    /// An account.
    pub(super) fn row(&self, account: &Account) -> Option<&Row> {
        self.rows.get(account)
    }

    /// All accounts.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Account, &Row)> {
        self.rows.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::parse(name).unwrap()
    }

    fn lease(revision: u64, holder: &str) -> StoredLease {
        StoredLease { revision, holder: holder.to_owned() }
    }

    fn entry(sequence: u64, entry: Option<Entry>) -> StoredEntry {
        StoredEntry { sequence, entry }
    }

    #[test]
    fn an_account_is_free_when_its_lease_is_given_back_or_has_not_changed_for_a_term() {
        let mut table = Table::default();
        let began = Instant::now();
        let shop = account("shop");
        let mut see_own = |held: StoredLease, seconds: u64, is_own: bool| {
            let accounts = [(shop.clone(), entry(1, Some(Entry::default())))].into();
            let now = began + Duration::from_secs(seconds);
            table.see(accounts, [(shop.clone(), held)].into(), (&Which::All, "me", now), |_| is_own);
            table.row(&shop).unwrap().free_for(now)
        };
        let mut see = |held: StoredLease, seconds: u64| see_own(held, seconds, false);
        assert_eq!(see(lease(3, "other"), 0), None);
        assert_eq!(see(lease(3, "other"), 29), None);
        assert_eq!(see(lease(4, "other"), 31), None, "it was renewed");
        assert_eq!(see(lease(4, "other"), 61), Some(Duration::ZERO));
        assert_eq!(see(lease(4, "other"), 63), Some(Duration::from_secs(2)));
        assert_eq!(see(lease(5, "another"), 64), None);
        assert_eq!(see(lease(6, ""), 65), Some(Duration::ZERO));
        assert_eq!(see_own(lease(7, "me"), 66, true), None);
        assert_eq!(
            see_own(lease(7, "me"), 90, false),
            Some(Duration::ZERO),
            "it is not this edge's any more"
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_leaves_the_account_as_it_was() {
        let (mut table, now) = (Table::default(), Instant::now());
        let (shop, bar) = (account("shop"), account("bar"));
        let paused = Entry { paused: true, ..Entry::default() };
        let mut see = |stored: StoredEntry| {
            let accounts = [(shop.clone(), stored), (bar.clone(), entry(9, None))].into();
            table.see(accounts, BTreeMap::new(), (&Which::All, "me", now), |_| false);
            (table.row(&shop).map(|row| row.entry.clone()), table.row(&bar).is_some())
        };
        assert_eq!(see(entry(1, Some(paused.clone()))), (Some(paused.clone()), false));
        assert_eq!(see(entry(2, None)), (Some(paused), false));
    }

    #[test]
    fn a_list_leaves_the_other_accounts_to_other_edges() {
        let mut table = Table::default();
        let accounts = ["bar", "shop"].map(|name| (account(name), entry(1, Some(Entry::default()))));
        let which = Which::These([account("shop")].into());
        table.see(accounts.into(), BTreeMap::new(), (&which, "me", Instant::now()), |_| false);
        assert_eq!(table.rows().map(|(account, _)| account.as_str()).collect::<Vec<_>>(), ["shop"]);
    }
}
