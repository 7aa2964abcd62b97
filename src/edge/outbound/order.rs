//! The order in which outcomes are sent. Pure.
//!
//! After a crash the bus redelivers the unacknowledged messages, mixed with new ones, so a chat's second reply may come
//! before its first. An outcome names its predecessor (`Wa-Prev-Seq`), so the edge can tell. A request of another service names none: it
//! waits until all that an earlier edge had in hand is here again, because any of that may be of its chat.

use std::collections::BTreeSet;

/// How many finished sequences above the ack floor are remembered. If there are more (one message is stuck while so
/// many others were sent), a chat whose last sequence is forgotten waits for the floor.
const REMEMBERED: usize = 200_000;

/// What this edge knows of its consumer.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Everything up to this sequence is acknowledged.
    floor: u64,
    /// Everything up to this sequence had been delivered before this edge started.
    inherited: u64,
    /// How many of those were not acknowledged. They come again.
    pending_at_start: usize,
    /// Those that have come again.
    returned: BTreeSet<u64>,
    /// How many incarnations of the stream this edge has seen before.
    generation: u64,
    /// What this edge has finished, or what is gone.
    done: BTreeSet<u64>,
}

/// A message's place among all that this edge has had: in which incarnation of the stream, and where in it. What a
/// stream held that was deleted comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Counts incarnations.
    pub generation: u64,
    /// The sequence in the stream.
    pub sequence: u64,
}

impl Progress {
    /// The state of the consumer at the start.
    pub(super) fn new(floor: u64, delivered: u64, ack_pending: usize) -> Self {
        Self { floor, inherited: delivered, pending_at_start: ack_pending, ..Self::default() }
    }

    /// The stream was made anew, and its consumer is in this state.
    pub(super) fn anew(&mut self, floor: u64, delivered: u64, ack_pending: usize) {
        let generation = self.generation + 1;
        *self = Self { generation, ..Self::new(floor, delivered, ack_pending) };
    }

    /// A message was delivered.
    pub(super) fn delivered(&mut self, sequence: u64) -> Spot {
        if sequence <= self.inherited {
            self.returned.insert(sequence);
        }
        Spot { generation: self.generation, sequence }
    }

    /// Is it in the stream as it is now? If not, its sequence is another message's.
    pub(super) fn is_current(&self, spot: Spot) -> bool {
        spot.generation == self.generation
    }

    /// A message is finished, and its ack is on its way.
    pub(super) fn finished(&mut self, sequence: u64) {
        self.done.insert(sequence);
        if self.done.len() > REMEMBERED {
            self.done.pop_first();
        }
    }

    /// Was the message finished before? Then it needs only its ack when it comes again: after its ack was lost, or from
    /// a consumer that was made anew and begins at the start.
    pub(super) fn is_done(&self, sequence: u64) -> bool {
        sequence <= self.floor || self.done.contains(&sequence)
    }

    /// The consumer's ack floor has moved.
    pub(super) fn floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.done = self.done.split_off(&(self.floor + 1));
    }

    /// May the outcome be sent? `previous` is its predecessor in the chat (0: none). What is left of a stream that was
    /// deleted waits for nothing but what is before it in its lane.
    pub(super) fn may_send(&self, spot: Spot, previous: u64) -> bool {
        !self.is_current(spot) || self.has_ended(previous)
    }

    /// May a request be sent, which names no predecessor? Not while something before it may come again.
    pub(super) fn may_send_request(&self, spot: Spot) -> bool {
        !self.is_current(spot) || self.all_are_back() || self.floor >= self.inherited.min(spot.sequence - 1)
    }

    /// Nothing that an earlier edge had in hand comes again, beside what is here.
    pub(super) fn none_comes_again(&mut self) {
        self.pending_at_start = 0;
    }

    fn all_are_back(&self) -> bool {
        self.returned.len() >= self.pending_at_start
    }

    fn has_ended(&self, previous: u64) -> bool {
        if previous <= self.floor || self.done.contains(&previous) {
            return true;
        }
        // The predecessor was delivered to an earlier edge. That edge acknowledged it, unless it comes again.
        previous <= self.inherited && self.all_are_back() && !self.returned.contains(&previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_a_chat_goes_and_the_second_waits_for_it() {
        let mut progress = Progress::new(0, 0, 0);
        assert!(progress.has_ended(0));
        progress.delivered(1);
        assert!(!progress.has_ended(1));
        progress.finished(1);
        assert!(progress.has_ended(1));
    }

    #[test]
    fn after_a_crash_a_reply_waits_for_an_earlier_one_that_comes_again() {
        // 5 is acknowledged, 6 and 7 are not; 4 of another chat pins the floor at 3.
        let mut progress = Progress::new(3, 7, 3);
        progress.delivered(7);
        assert!(!progress.has_ended(6), "6 may yet come again");
        assert!(!progress.has_ended(5), "nobody knows yet that 5 will not");
        progress.delivered(6);
        progress.delivered(4);
        assert!(progress.has_ended(5), "all three are back, and 5 is none of them");
        assert!(!progress.has_ended(6));
        progress.finished(6);
        assert!(progress.has_ended(6));
    }

    #[test]
    fn after_a_crash_a_request_waits_until_all_that_was_in_hand_is_back() {
        // 5 and 6 were in hand; 7 is new.
        let mut progress = Progress::new(4, 6, 2);
        let new = progress.delivered(7);
        let back = progress.delivered(6);
        assert!(
            !progress.may_send_request(new) && !progress.may_send_request(back),
            "5 may be of their chat"
        );
        progress.delivered(5);
        assert!(progress.may_send_request(new) && progress.may_send_request(back));
        // 5 was deleted: it never comes, and the bus has nothing in hand but what is here.
        let mut progress = Progress::new(4, 6, 2);
        let (new, back) = (progress.delivered(7), progress.delivered(6));
        progress.none_comes_again();
        assert!(progress.may_send_request(new) && progress.may_send_request(back));
        // All that was in hand is settled, whoever has done it.
        let mut progress = Progress::new(4, 6, 2);
        let new = progress.delivered(7);
        progress.floor(6);
        assert!(progress.may_send_request(new));
        // An edge that inherits nothing waits for nothing, nor does what is left of a stream that was deleted.
        let mut progress = Progress::new(0, 0, 0);
        let old = progress.delivered(1);
        assert!(progress.may_send_request(old));
        progress.anew(0, 9, 9);
        assert!(progress.may_send_request(old));
    }

    #[test]
    fn the_floor_settles_every_doubt() {
        let mut progress = Progress::new(3, 7, 9);
        assert!(!progress.has_ended(7));
        progress.floor(7);
        assert!(progress.has_ended(7));
        progress.floor(2);
        assert!(progress.has_ended(7));
    }

    #[test]
    fn what_is_finished_is_known_until_the_floor_has_passed_it() {
        let mut progress = Progress::new(0, 0, 0);
        (1..=4).for_each(|sequence| progress.finished(sequence));
        assert_eq!([1, 4, 5].map(|sequence| progress.is_done(sequence)), [true, true, false]);
        progress.floor(2);
        assert_eq!([1, 2, 3, 4].map(|sequence| progress.is_done(sequence)), [true; 4]);
        assert_eq!(progress.done.len(), 2, "what is settled takes up no memory");
    }

    #[test]
    fn so_many_are_remembered_and_the_oldest_is_forgotten_first() {
        let mut progress = Progress::new(0, 0, 0);
        let remembered = u64::try_from(REMEMBERED).unwrap();
        (1..=remembered).for_each(|sequence| progress.finished(sequence));
        assert!(progress.is_done(1) && progress.has_ended(1));
        progress.finished(remembered + 1);
        assert!(!progress.is_done(1) && !progress.has_ended(1), "its chat waits for the floor");
        assert!(progress.is_done(2) && progress.is_done(remembered + 1));
        progress.floor(1);
        assert!(progress.has_ended(1));
    }

    #[test]
    fn in_a_stream_that_was_made_anew_nothing_is_done_and_what_is_left_of_the_old_one_waits_for_nothing() {
        let mut progress = Progress::new(3, 7, 0);
        let old = progress.delivered(9);
        progress.finished(8);
        assert!(!progress.may_send(old, 10));
        progress.anew(0, 0, 0);
        let new = progress.delivered(1);
        assert!((1..=9).all(|sequence| !progress.is_done(sequence)), "{progress:?}");
        assert!(progress.may_send(old, 10) && progress.may_send(new, 0) && !progress.may_send(new, 8));
        assert!(progress.is_current(new) && !progress.is_current(old));
        assert!(old < new, "the old one is sent first");
    }

    proptest! {
        /// An edge died after so many deliveries, some of them acknowledged. The rest comes again in any order,
        /// mixed with new ones, and each may finish at any time. No outcome overtakes its predecessor. Once all are
        /// back, none waits for one that was sent.
        #[test]
        fn nothing_overtakes_and_nothing_waits_in_vain(
            before in prop::collection::vec(any::<bool>(), 1..12),
            events in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..60),
        ) {
            let delivered = u64::try_from(before.len()).unwrap();
            let acked = (1..).zip(&before).filter(|(_, acked)| **acked);
            let mut sent: BTreeSet<u64> = acked.map(|(sequence, _)| sequence).collect();
            let floor = |sent: &BTreeSet<u64>| (1..).take_while(|one| sent.contains(one)).last().unwrap_or(0);
            let mut to_come: Vec<u64> = (1..=delivered).filter(|one| !sent.contains(one)).collect();
            let mut progress = Progress::new(floor(&sent), delivered, to_come.len());
            let (mut here, mut newest) = (Vec::new(), delivered);
            for (which, is_delivery) in events {
                if is_delivery && (to_come.is_empty() || which.index(3) == 0) {
                    newest += 1;
                    progress.delivered(newest);
                    here.push(newest);
                } else if is_delivery {
                    let sequence = to_come.remove(which.index(to_come.len()));
                    progress.delivered(sequence);
                    here.push(sequence);
                } else if !here.is_empty() {
                    let sequence = here.swap_remove(which.index(here.len()));
                    progress.finished(sequence);
                    sent.insert(sequence);
                    if which.index(2) == 0 {
                        progress.floor(floor(&sent));
                    }
                }
                for previous in 1..=newest {
                    let (may, was_sent) = (progress.has_ended(previous), sent.contains(&previous));
                    prop_assert!(!may || was_sent, "{previous} was not sent: {progress:?}");
                    prop_assert!(may || !was_sent || !to_come.is_empty(), "{previous} was sent: {progress:?}");
                }
            }
        }
    }
}
