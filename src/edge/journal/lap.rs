//! Is what was read of a ring all of it? Pure.
//!
//! Slots are read one by one, while somebody may write, and from replicas that may be behind. What was read is one state
//! of the log only if its numbers are consecutive. It may still lack the newest records: nobody can know that by reading,
//! so who takes over finds out with a compare-and-set.

/// The slots that have to be read again. `found` is the number of the record that was read in each slot.
pub(super) fn to_read_again(found: &[Option<u64>]) -> Vec<u64> {
    let slots = found.len() as u64;
    let Some(newest) = found.iter().flatten().max().copied() else { return Vec::new() };
    let due = |slot: u64| {
        // The last number up to the newest one that belongs here; 0 belongs nowhere.
        let back = (newest % slots + slots - slot) % slots;
        newest.checked_sub(back).filter(|number| *number > 0)
    };
    (0..slots).zip(found).filter(|(slot, found)| due(*slot) != **found).map(|(slot, _)| slot).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ring of so many slots after so many records.
    fn after(newest: u64, slots: u64) -> Vec<Option<u64>> {
        (0..slots).map(|slot| (1..=newest).rev().find(|number| number % slots == slot)).collect()
    }

    #[test]
    fn holes_and_what_is_a_lap_behind_are_read_again() {
        for (found, again) in [
            (vec![None, None, None, None], vec![]),
            (vec![None, Some(1), None, None], vec![]),
            (vec![None, Some(1), None, Some(3)], vec![2]),
            (vec![Some(4), Some(1), Some(2), Some(3)], vec![]),
            (vec![Some(4), Some(5), Some(2), Some(3)], vec![]),
            // Slot 0 was read before it was written again.
            (vec![None, Some(5), Some(2), Some(3)], vec![0]),
            // Slots 2 and 3 were read before a whole lap.
            (vec![Some(8), Some(9), Some(2), Some(3)], vec![2, 3]),
        ] {
            assert_eq!(to_read_again(&found), again, "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn a_state_of_the_log_is_whole_and_two_states_are_not(
            slots in 1..9_u64, newest in 0..40_u64, later in 0..20_u64, old in any::<[bool; 9]>(),
        ) {
            let (before, now) = (after(newest, slots), after(newest + later, slots));
            prop_assert_eq!(to_read_again(&now), Vec::<u64>::new());
            // Some slots were read before, and some after.
            let mixed: Vec<_> = before.iter().zip(&now).zip(old).map(|((b, n), old)| if old { *b } else { *n }).collect();
            let seen = mixed.iter().flatten().max().copied().unwrap_or(0);
            let whole = after(seen, slots);
            let wrong: Vec<u64> = (0..slots).filter(|slot| mixed[*slot as usize] != whole[*slot as usize]).collect();
            prop_assert_eq!(to_read_again(&mixed), wrong);
        }
    }
}
