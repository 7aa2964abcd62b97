//! In which order outcomes are sent. Pure.
//!
//! After a crash the bus redelivers what was not acknowledged, each message when its own ack wait ends:
//! a chat's second reply may come before its first. An outcome names the one before it
//! (`Wa-Prev-Seq`), so the edge can tell.

use std::collections::BTreeSet;

/// So many finished sequences are remembered above the floor. Beyond that (one message stuck while so many
/// others went out) a chat whose last one is forgotten waits for the floor.
const REMEMBERED: usize = 200_000;

/// What this edge knows of its consumer.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Everything up to here is acknowledged.
    floor: u64,
    /// Everything up to here had been delivered before this edge started.
    inherited: u64,
    /// How many of those were not acknowledged, and come again.
    pending_at_start: usize,
    /// Those that have come again.
    returned: BTreeSet<u64>,
    /// What this edge has finished.
    done: BTreeSet<u64>,
}

impl Progress {
    /// As the consumer stands at the start.
    pub(super) fn new(floor: u64, delivered: u64, ack_pending: usize) -> Self {
        Self { floor, inherited: delivered, pending_at_start: ack_pending, ..Self::default() }
    }

    /// A message was delivered.
    pub(super) fn delivered(&mut self, sequence: u64) {
        if sequence <= self.inherited {
            self.returned.insert(sequence);
        }
    }

    /// A message is finished, and its ack is on the way.
    pub(super) fn finished(&mut self, sequence: u64) {
        self.done.insert(sequence);
        if self.done.len() > REMEMBERED {
            self.done.pop_first();
        }
    }

    /// Was it finished before? Then a redelivery of it needs nothing but its ack.
    pub(super) fn is_done(&self, sequence: u64) -> bool {
        self.done.contains(&sequence)
    }

    /// The consumer's floor has moved.
    pub(super) fn floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.done = self.done.split_off(&(self.floor + 1));
    }

    /// May the outcome be sent whose predecessor in its chat is `previous` (0: none)?
    pub(super) fn may_send(&self, previous: u64) -> bool {
        if previous <= self.floor || self.done.contains(&previous) {
            return true;
        }
        // Delivered to an earlier edge: acknowledged by it, unless it is one of those that come again.
        previous <= self.inherited
            && self.returned.len() >= self.pending_at_start
            && !self.returned.contains(&previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_chat_goes_and_the_second_waits_for_it() {
        let mut progress = Progress::new(0, 0, 0);
        assert!(progress.may_send(0));
        progress.delivered(1);
        assert!(!progress.may_send(1));
        progress.finished(1);
        assert!(progress.may_send(1));
    }

    #[test]
    fn after_a_crash_a_reply_waits_for_an_earlier_one_that_comes_again() {
        // 5 is acknowledged, 6 and 7 are not; 4 of another chat pins the floor at 3.
        let mut progress = Progress::new(3, 7, 3);
        progress.delivered(7);
        assert!(!progress.may_send(6), "6 may yet come again");
        assert!(!progress.may_send(5), "nobody knows yet that 5 will not");
        progress.delivered(6);
        progress.delivered(4);
        assert!(progress.may_send(5), "all three are back, and 5 is none of them");
        assert!(!progress.may_send(6));
        progress.finished(6);
        assert!(progress.may_send(6));
    }

    #[test]
    fn the_floor_settles_every_doubt() {
        let mut progress = Progress::new(3, 7, 9);
        assert!(!progress.may_send(7));
        progress.floor(7);
        assert!(progress.may_send(7));
        progress.floor(2);
        assert!(progress.may_send(7));
    }
}
