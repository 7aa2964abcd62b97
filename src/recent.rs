//! What was used lately. Pure.
//!
//! Two generations: what is used is young. When there are enough young entries, or when some time has passed, they
//! become the old ones, and those that were old and not used since are forgotten. So a use costs the same however much
//! is remembered, and forgetting is a part of every insertion.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Remembers the `size` entries that were used last, and those that were used within `age`, but never more than twice
/// `size` and what is in use.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    size: usize,
    age: Duration,
    since: Instant,
    /// What is in use is never forgotten.
    in_use: fn(&V) -> bool,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Nothing yet.
    pub fn new(size: usize, age: Duration, in_use: fn(&V) -> bool, now: Instant) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), size, age, since: now, in_use }
    }

    /// An entry, which is young again.
    pub fn get(&mut self, key: &K, now: Instant) -> Option<&V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value, now);
        }
        self.young.get(key)
    }

    /// A new entry, or a new value for one.
    pub fn insert(&mut self, key: K, value: V, now: Instant) {
        if (self.young.len() >= self.size && !self.young.contains_key(&key))
            || now.duration_since(self.since) >= self.age
        {
            let young = std::mem::take(&mut self.young);
            let forgotten = std::mem::replace(&mut self.old, young);
            let in_use = self.in_use;
            self.old.extend(forgotten.into_iter().filter(|(_, value)| in_use(value)));
            self.since = now;
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets an entry.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// How many entries there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const USED: u32 = 7;

    fn is_used(value: &u32) -> bool {
        *value == USED
    }

    #[test]
    fn what_is_not_used_is_forgotten_after_its_time_and_not_before() {
        let start = Instant::now();
        let mut recent = Recent::new(100, HOUR, is_used, start);
        recent.insert("often", 0, start);
        recent.insert("once", 0, start);
        recent.insert("a", 0, start + HOUR);
        assert!(recent.get(&"often", start + HOUR).is_some());
        recent.insert("b", 0, start + HOUR * 2);
        let later = start + HOUR * 2;
        assert!(recent.get(&"often", later).is_some() && recent.get(&"once", later).is_none());
    }

    #[test]
    fn a_new_value_replaces_one_that_was_not_used_lately() {
        let now = Instant::now();
        let mut recent = Recent::new(1, HOUR, is_used, now);
        recent.insert("a", 1, now);
        recent.insert("b", 1, now);
        recent.insert("a", 2, now);
        assert_eq!(recent.get(&"a", now), Some(&2));
    }

    proptest! {
        /// However many come, so many are there at most, and those that were used last all are.
        #[test]
        fn it_is_bounded_and_remembers_the_last_and_what_is_in_use(
            keys in prop::collection::vec(0_u32..60, 1..400),
            size in 1_usize..20,
        ) {
            let now = Instant::now();
            let mut recent = Recent::new(size, HOUR, is_used, now);
            let mut last: Vec<u32> = Vec::new();
            for key in keys {
                if recent.get(&key, now).is_none() {
                    recent.insert(key, key, now);
                }
                last.retain(|other| *other != key);
                last.push(key);
                prop_assert!(recent.len() <= 2 * size + 1, "{} are remembered", recent.len());
            }
            if last.contains(&USED) {
                prop_assert!(recent.get(&USED, now).is_some(), "it is in use");
            }
            for key in last.iter().rev().take(size) {
                let remembered = recent.young.contains_key(key) || recent.old.contains_key(key);
                prop_assert!(remembered || *key == USED, "{key} was used lately");
            }
        }
    }
}
