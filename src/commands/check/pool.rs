//! The accounts of a pool.

use std::collections::BTreeMap;

use super::Finding;
use crate::bus::pool::StoredEntry;
use crate::bus::{Bus, ReadError};
use crate::config::Config;
use crate::pool::{Settings, Which};
use crate::wire::Account;

const PART: &str = "pool";
/// Of so many accounts the consumer and the session are looked at. An operator waits, and the others have the same key.
const LOOKED_AT: usize = 5;

/// What was found.
pub(super) struct Pool {
    /// Those that are looked at more closely.
    pub(super) accounts: Vec<Account>,
    pub(super) findings: Vec<Finding>,
}

/// Reads which accounts there are.
pub(super) async fn look(bus: &Bus, config: &Config, pool: &Settings) -> Pool {
    judge(&config.subjects.bucket_accounts(), pool, bus.accounts(&config.subjects).await)
}

fn judge(bucket: &str, pool: &Settings, found: Result<BTreeMap<Account, StoredEntry>, ReadError>) -> Pool {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            // A bucket that is missing, or a permission, is a finding already.
            let what = format!("the accounts of the bucket {bucket} cannot be read: {error}");
            let mend = "nothing to do if the bucket does not exist yet: the start makes it, or `whatsapp-connector provision`";
            return Pool {
                accounts: Vec::new(),
                findings: vec![Finding::note(PART, "pool-unknown", what, mend)],
            };
        }
    };
    let mut findings = Vec::new();
    let unreadable = found.iter().filter(|(_, stored)| stored.entry.is_none());
    findings.extend(unreadable.map(|(account, _)| {
        let what = format!("the entry of account `{account}` in the bucket {bucket} cannot be read: no edge begins to work for it");
        Finding::failure(PART, "account-unreadable", what, format!("`whatsapp-connector accounts add {account}` mends it"))
    }));
    let mine: Vec<Account> = match &pool.which {
        Which::All => found.keys().cloned().collect(),
        Which::These(names) => {
            findings.extend(names.iter().filter(|name| !found.contains_key(*name)).map(|name| {
                let what = format!("account `{name}` of WHATSAPP_ACCOUNTS is not in the bucket {bucket}");
                Finding::note(PART, "account-unknown", what, "nothing to do: the start adds it")
            }));
            names.iter().filter(|name| found.contains_key(*name)).cloned().collect()
        }
    };
    let paused = |account: &&Account| {
        found.get(*account).and_then(|stored| stored.entry.as_ref()).is_some_and(|entry| entry.paused)
    };
    let (all, paused) = (mine.len(), mine.iter().filter(paused).count());
    if all == 0 {
        let what = format!("there is no account in the bucket {bucket} that this edge would work for");
        findings.push(Finding::note(
            PART,
            "pool-empty",
            what,
            "`whatsapp-connector accounts add NAME` adds one",
        ));
    } else {
        let what = format!(
            "the bucket {bucket} has {all} accounts for this edge, {paused} of them paused; it works for {} at most",
            pool.capacity
        );
        findings.push(Finding::fine(PART, "pool", what));
    }
    Pool { accounts: mine.into_iter().take(LOOKED_AT).collect(), findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pool::Entry;

    fn account(name: &str) -> Account {
        Account::parse(name).unwrap()
    }

    fn codes(which: Which, entries: &[(&str, Option<Entry>)]) -> (Vec<&'static str>, usize) {
        let stored = |entry: &Option<Entry>| StoredEntry { sequence: 1, entry: entry.clone() };
        let found = entries.iter().map(|(name, entry)| (account(name), stored(entry))).collect();
        let pool = judge("WA_ACCOUNTS", &Settings { which, capacity: 3 }, Ok(found));
        (pool.findings.iter().map(|finding| finding.code).collect(), pool.accounts.len())
    }

    #[test]
    fn each_state_of_a_pool_has_its_code() {
        let fine = Some(Entry::default());
        assert_eq!(codes(Which::All, &[]), (vec!["pool-empty"], 0));
        assert_eq!(codes(Which::All, &[("bar", fine.clone())]), (vec!["pool"], 1));
        assert_eq!(codes(Which::All, &[("bar", None)]), (vec!["account-unreadable", "pool"], 1));
        let these = Which::These([account("shop"), account("bar")].into());
        assert_eq!(
            codes(these, &[("bar", fine.clone()), ("other", fine)]),
            (vec!["account-unknown", "pool"], 1)
        );
        let away =
            judge("WA_ACCOUNTS", &Settings { which: Which::All, capacity: 3 }, Err(ReadError::new(&"away")));
        assert_eq!(away.findings[0].code, "pool-unknown");
    }
}
