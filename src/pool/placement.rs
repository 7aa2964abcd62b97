//! Which edge takes which account, and when one is given back. Pure: every edge of a pool works out the same from what
//! the others say, without asking anybody. If two are wrong about each other, the lease decides, and `gives_back` mends
//! the rest.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::wire::Account;

/// If the edge that should take a free account has not, the next one may after so long, and so on.
pub(super) const TURN: Duration = Duration::from_secs(2);
/// Whoever can say that it is an edge must not be able to make all others wait for long.
const TURNS_MOST: usize = 3;
/// A difference of one part in so many is not worth a hand-over, in which the account is offline for a moment.
const SMALL: usize = 10;

/// An edge that takes accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// As it is named in leases.
    pub edge: String,
    /// For how many accounts it works at most.
    pub capacity: usize,
    /// For how many it works, or is about to.
    pub accounts: usize,
    /// No account is parked there. If one is, it may be the edge's settings that are wrong.
    pub is_well: bool,
}

impl Peer {
    fn has_room(&self) -> bool {
        self.accounts < self.capacity
    }

    /// Has it, with `more` accounts, a smaller part of what it can take than the other one?
    fn is_emptier(&self, more: usize, other: &Self, fewer: usize) -> bool {
        let (own, others) = (self.accounts + more, other.accounts.saturating_sub(fewer));
        own.saturating_mul(other.capacity) < others.saturating_mul(self.capacity)
    }
}

/// Spreads accounts over edges of equal load, the same way at each of them, and another way for each account.
fn lot(account: &Account, edge: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (account.as_str(), edge).hash(&mut hasher);
    hasher.finish()
}

/// The free accounts that this edge takes now, of all in their order and with the time for which each has been free.
/// `peers` are all edges that take accounts, and the first is this one.
pub(super) fn takes<'a>(
    free: impl IntoIterator<Item = (&'a Account, Duration)>,
    peers: &[Peer],
) -> Vec<&'a Account> {
    let mut peers = peers.to_vec();
    let mut taken = Vec::new();
    for (account, since) in free {
        let mut order: Vec<usize> = (0..peers.len()).filter(|at| peers[*at].has_room()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&peers[*a], &peers[*b]);
            let (one, other) = (a.accounts * b.capacity, b.accounts * a.capacity);
            one.cmp(&other).then_with(|| lot(account, &a.edge).cmp(&lot(account, &b.edge)))
        });
        let turn = order.iter().position(|at| *at == 0);
        let is_due = |turn: usize| since >= TURN * u32::try_from(turn.min(TURNS_MOST)).unwrap_or(u32::MAX);
        if turn.is_some_and(is_due) {
            taken.push(account);
        }
        if let Some(first) = order.first() {
            peers[*first].accounts += 1;
        }
    }
    taken
}

/// Does this edge give an account back, so that an emptier one takes it? `peers` are as above.
pub(super) fn gives_back(peers: &[Peer]) -> bool {
    let Some((own, others)) = peers.split_first() else { return false };
    others.iter().filter(|peer| peer.has_room() && peer.is_well).any(|peer| {
        // What is too many by an equal share of all, for edges of different sizes.
        let all = (own.accounts + peer.accounts) * own.capacity;
        let share = all.div_ceil((own.capacity + peer.capacity).max(1));
        let too_many = own.accounts.saturating_sub(share);
        too_many > own.accounts / (2 * SMALL) && peer.is_emptier(1, own, 0)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(edge: &str, accounts: usize, capacity: usize) -> Peer {
        Peer { edge: edge.to_owned(), capacity, accounts, is_well: true }
    }

    fn names(count: usize) -> Vec<Account> {
        (0..count).map(|number| Account::parse(&format!("shop-{number:03}")).unwrap()).collect()
    }

    /// What each of these edges takes of the accounts, which have been free for so long.
    fn all(accounts: &[Account], peers: &[Peer], since: Duration) -> Vec<Vec<Account>> {
        let mut taken = Vec::new();
        for at in 0..peers.len() {
            let mut seen = peers.to_vec();
            seen.swap(0, at);
            let free = accounts.iter().map(|account| (account, since));
            taken.push(takes(free, &seen).into_iter().cloned().collect());
        }
        taken
    }

    #[test]
    fn the_emptier_edge_takes_an_account_and_the_others_in_turn_if_it_does_not() {
        let accounts = names(1);
        let peers = [peer("a", 5, 10), peer("b", 4, 10), peer("c", 60, 100)];
        let first = |since| all(&accounts, &peers, since).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(first(Duration::ZERO), [0, 1, 0]);
        assert_eq!(first(TURN), [1, 1, 0]);
        assert_eq!(first(2 * TURN), [1, 1, 1]);
    }

    #[test]
    fn edges_that_are_none_delay_nobody_for_long() {
        let false_ones = (0..500).map(|number| peer(&format!("x{number}"), 0, 1_000_000));
        let peers: Vec<_> = std::iter::once(peer("a", 5, 10)).chain(false_ones).collect();
        let accounts = names(1);
        let at = |since| takes(accounts.iter().map(|account| (account, since)), &peers).len();
        assert_eq!((at(Duration::from_secs(5)), at(Duration::from_secs(6))), (0, 1));
    }

    #[test]
    fn a_full_edge_takes_none() {
        let accounts = names(3);
        assert_eq!(all(&accounts, &[peer("a", 8, 10)], Duration::ZERO)[0].len(), 2);
        assert_eq!(all(&accounts, &[peer("a", 10, 10)], 100 * TURN)[0].len(), 0);
        assert!(all(&accounts, &[peer("a", 0, 0)], 100 * TURN)[0].is_empty());
    }

    #[test]
    fn an_account_is_given_back_only_if_that_makes_a_difference() {
        for (own, other, want) in [
            ((2, 10), (0, 10), true),
            ((1, 10), (0, 10), false),
            ((2, 10), (1, 10), false),
            ((3, 10), (1, 10), true),
            ((0, 10), (0, 10), false),
            ((100, 100), (95, 100), false),
            ((100, 100), (80, 100), true),
            ((10, 10), (10, 10), false),
            // Of different sizes.
            ((10, 100), (1, 10), false),
            ((60, 100), (1, 10), true),
        ] {
            let peers = [peer("a", own.0, own.1), peer("b", other.0, other.1)];
            assert_eq!(gives_back(&peers), want, "{own:?} {other:?}");
        }
        let unwell = Peer { is_well: false, ..peer("b", 0, 10) };
        assert!(!gives_back(&[peer("a", 9, 10), unwell]), "it would come back");
        assert!(!gives_back(&[peer("a", 9, 10)]));
        assert!(!gives_back(&[]));
    }

    proptest! {
        /// Edges that know the same agree, and share evenly.
        #[test]
        fn each_account_is_taken_by_one_edge_and_the_loads_are_even(
            edges in 1_usize..8, count in 0_usize..60, before in 0_usize..5,
        ) {
            let peers: Vec<_> =
                (0..edges).map(|edge| peer(&format!("edge{edge}"), before, 100)).collect();
            let accounts = names(count);
            let taken = all(&accounts, &peers, Duration::ZERO);
            let mut every: Vec<_> = taken.concat();
            every.sort();
            prop_assert_eq!(every, accounts);
            let loads = taken.iter().map(Vec::len);
            prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
        }

        /// One after the other gives back until none does, and nobody gives back what would come again.
        #[test]
        fn giving_back_ends(loads in proptest::collection::vec((0_usize..50, 1_usize..60), 1..6)) {
            let mut peers: Vec<_> = loads
                .iter()
                .enumerate()
                .map(|(at, (accounts, capacity))| peer(&format!("edge{at}"), *accounts.min(capacity), *capacity))
                .collect();
            let mut moved = 0;
            while let Some(at) = (0..peers.len()).find(|at| {
                let mut seen = peers.clone();
                seen.swap(0, *at);
                gives_back(&seen)
            }) {
                peers[at].accounts -= 1;
                let account = names(1);
                let taken = all(&account, &peers, Duration::ZERO);
                let to = taken.iter().position(|taken| !taken.is_empty());
                prop_assert!(to.is_some() && to != Some(at), "it comes again");
                peers[to.unwrap()].accounts += 1;
                moved += 1;
                prop_assert!(moved <= 500, "it goes round and round");
            }
        }
    }
}
