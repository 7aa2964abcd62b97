//! Who may call now: `limiter` says how many, and here the turns wait for their slot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::limiter::{Call, Ended, Limiter};

/// A number of slots that can change while they are taken.
#[derive(Debug)]
struct Resizable {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    slots: usize,
    /// So many of those that are taken do not come back.
    debt: usize,
}

/// A slot, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    of: Arc<Resizable>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut size = self.of.size();
        if size.debt > 0
            && let Some(permit) = self.permit.take()
        {
            size.debt -= 1;
            permit.forget();
        }
    }
}

impl Resizable {
    fn new(slots: usize) -> Arc<Self> {
        let size = Mutex::new(Size { slots, debt: 0 });
        Arc::new(Self { free: Arc::new(Semaphore::new(slots)), size })
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&self, slots: usize) {
        let mut size = self.size();
        if let Some(more) = slots.checked_sub(size.slots) {
            let paid = more.min(size.debt);
            size.debt -= paid;
            self.free.add_permits(more - paid);
        } else {
            let fewer = size.slots - slots;
            size.debt += fewer - self.free.forget_permits(fewer);
        }
        size.slots = slots;
    }

    /// Cancel-safe. `None` if there are no slots any more, which never happens.
    async fn one(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Slot { of: Arc::clone(self), permit: Some(permit) })
    }

    fn one_now(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { of: Arc::clone(self), permit: Some(permit) })
    }
}

/// The slots of a process.
#[derive(Debug)]
pub(super) struct Slots {
    all: Arc<Resizable>,
    /// How many of them retries may have. It is half of them, so that first attempts always get some.
    retries: Arc<Resizable>,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    limiter: Limiter,
    under_way: usize,
}

/// A call that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    slots: &'a Slots,
    call: Call,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.slots.calls().under_way -= 1;
    }
}

impl Slots {
    /// At most `max`, for calls that end after `timeout`.
    pub(super) fn new(max: usize, timeout: Duration) -> Self {
        let limiter = Limiter::new(max, timeout);
        let limit = limiter.limit();
        Self {
            all: Resizable::new(limit),
            retries: Resizable::new((limit / 2).max(1)),
            calls: Mutex::new(Calls { limiter, under_way: 0 }),
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are now.
    pub(super) fn limit(&self) -> usize {
        self.calls().limiter.limit()
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.all.free.available_permits()
    }

    /// The next free slot. Cancel-safe.
    pub(super) async fn one(&self) -> Option<Slot> {
        self.all.one().await
    }

    /// The right to take a slot for a retry. Cancel-safe.
    pub(super) async fn retry(&self) -> Option<Slot> {
        self.retries.one().await
    }

    /// A slot, if one is free.
    pub(super) fn one_now(&self) -> Option<Slot> {
        self.all.one_now()
    }

    /// A call begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        let mut calls = self.calls();
        calls.under_way += 1;
        let (at_once, full) = (calls.under_way, self.free() == 0);
        let call = calls.limiter.begins(at_once, full, Instant::now());
        self.follow(&calls);
        UnderWay { slots: self, call }
    }

    fn follow(&self, calls: &Calls) {
        let limit = calls.limiter.limit();
        self.all.resize(limit);
        self.retries.resize((limit / 2).max(1));
    }
}

impl UnderWay<'_> {
    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.call.began()
    }

    /// The call ended. Returns whether it is the load that ended it, and not the call itself.
    pub(super) fn end(self, ended: Ended) -> bool {
        let mut calls = self.slots.calls();
        let others = calls.under_way - 1;
        let overload = calls.limiter.ended(&self.call, ended, others, Instant::now());
        self.slots.follow(&calls);
        overload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_when_the_limit_falls_is_a_debt() {
        let slots = Resizable::new(4);
        let taken = [slots.one_now(), slots.one_now(), slots.one_now()];
        assert!(taken.iter().all(Option::is_some));
        slots.resize(1);
        assert_eq!((slots.free.available_permits(), slots.size().debt), (0, 2));
        let [first, second, third] = taken;
        drop(first);
        assert_eq!((slots.free.available_permits(), slots.size().debt), (0, 1));
        // The limit rises before the debt is paid.
        slots.resize(3);
        assert_eq!((slots.free.available_permits(), slots.size().debt), (1, 0));
        drop((second, third));
        assert_eq!(slots.free.available_permits(), 3);
    }

    proptest::proptest! {
        /// However it was resized and whoever had slots: in the end there are as many as there should be.
        #[test]
        fn no_slot_is_lost_or_made_up(steps in proptest::collection::vec((0_usize..3, 1_usize..9), 0..60)) {
            let slots = Resizable::new(4);
            let (mut taken, mut size) = (Vec::new(), 4);
            for (what, number) in steps {
                match what {
                    0 => taken.extend(slots.one_now()),
                    1 if !taken.is_empty() => drop(taken.remove(number % taken.len())),
                    _ => {
                        size = number;
                        slots.resize(size);
                    }
                }
                let (free, debt) = (slots.free.available_permits(), slots.size().debt);
                proptest::prop_assert_eq!(free + taken.len(), size + debt);
                proptest::prop_assert!(debt == 0 || free == 0);
            }
            drop(taken);
            proptest::prop_assert_eq!(slots.free.available_permits(), size);
        }
    }
}
