//! Decides how to go on with a message, from the number of deaths that happened while it was being worked on.
//!
//! When a process dies, several messages are in flight, and nothing shows which one caused it. So a message with
//! more deaths takes more of the capacity for suspects, which a process works on in parallel, until it is alone.
//! From then on only the message that kills can get another death.

/// The capacity for suspects in one process.
pub const CAPACITY: u32 = 16;

/// What to do with a message whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try it, with this much of [`CAPACITY`]. 0: it is no suspect, and needs none.
    Try {
        /// How much.
        capacity: u32,
    },
    /// Nine processes have died over it. There must not be a tenth.
    GiveUp,
}

/// The rule. A deployment that restarts, or a machine that is short of memory, may kill an innocent message twice.
/// Such messages stay fully parallel.
pub fn next(deaths: u32) -> Next {
    match deaths {
        0..=2 => Next::Try { capacity: 0 },
        3 => Next::Try { capacity: 1 },
        4 => Next::Try { capacity: 4 },
        5..=8 => Next::Try { capacity: CAPACITY },
        9.. => Next::GiveUp,
    }
}

/// How many deaths a mark on the bus stands for. An unreadable mark stands for none.
pub fn count(mark: &[u8]) -> u32 {
    std::str::from_utf8(mark).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table() {
        let free = Next::Try { capacity: 0 };
        let alone = Next::Try { capacity: CAPACITY };
        let want = [
            free,
            free,
            free,
            Next::Try { capacity: 1 },
            Next::Try { capacity: 4 },
            alone,
            alone,
            alone,
            alone,
        ];
        assert_eq!((0..9).map(next).collect::<Vec<_>>(), want);
        assert_eq!([next(9), next(u32::MAX)], [Next::GiveUp; 2]);
    }

    /// One process after the other, each killed by message 0 as soon as that begins. The other messages are never
    /// faster than a death: they finish only in a life in which message 0 does not get its turn. Returns the deaths
    /// of each message at the end. `limited` off is the control.
    fn deaths_of_all(innocents: usize, orders: &[u64], limited: bool) -> Vec<u32> {
        let mut deaths = vec![0_u32; innocents + 1];
        let mut open: Vec<usize> = (0..=innocents).collect();
        for life in 0..1_000_u64 {
            let order = orders[usize::try_from(life).unwrap() % orders.len()];
            open.sort_by_key(|message| (*message as u64 + 1).wrapping_mul(order | 1).rotate_left(17) ^ life);
            // First come, first served, as with the semaphore.
            let (mut left, mut full) = (CAPACITY, false);
            let begun: Vec<usize> = open
                .iter()
                .copied()
                .filter(|message| match next(deaths[*message]) {
                    Next::GiveUp => false,
                    Next::Try { capacity } if capacity == 0 || !limited => true,
                    Next::Try { capacity } => {
                        full |= capacity > left;
                        left = if full { left } else { left - capacity };
                        !full
                    }
                })
                .collect();
            if begun.contains(&0) {
                begun.iter().for_each(|message| deaths[*message] += 1);
            } else {
                open.retain(|message| !begun.contains(message));
            }
            if next(deaths[0]) == Next::GiveUp {
                return deaths;
            }
        }
        panic!("message 0 goes on killing: {deaths:?}");
    }

    proptest! {
        #[test]
        fn the_one_that_kills_is_given_up_on_and_nobody_else(
            innocents in 0..300_usize, orders in prop::collection::vec(any::<u64>(), 1..20)
        ) {
            let deaths = deaths_of_all(innocents, &orders, true);
            prop_assert_eq!(deaths[0], 9);
            prop_assert!(deaths[1..].iter().all(|deaths| *deaths <= 5), "{:?}", deaths);
        }
    }

    #[test]
    fn without_room_to_share_the_innocent_go_the_same_way() {
        assert_eq!(deaths_of_all(3, &[7], false), [9; 4]);
    }

    #[test]
    fn a_mark_is_a_number_and_anything_else_tells_of_no_death() {
        let rows: [(&[u8], u32); 7] =
            [(b"0", 0), (b"1", 1), (b"9", 9), (b"", 0), (b"nine", 0), (b"-1", 0), (b"\xff", 0)];
        for (mark, want) in rows {
            assert_eq!(count(mark), want, "{mark:?}");
        }
    }
}
