//! To how many chats the edge sends at once. A message that waits before it is tried again takes no slot meanwhile, so that
//! however many of them wait, nobody else does.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// To how many chats the edge sends at once.
const AT_ONCE: usize = 64;

/// All slots.
#[derive(Debug)]
pub(super) struct Slots(Semaphore);

impl Slots {
    /// All are free.
    pub(super) fn new() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }

    /// Waits for a free one.
    pub(super) async fn take(&self) -> Slot<'_> {
        Slot { all: &self.0, held: take(&self.0).await }
    }
}

/// A slot that is held, until this is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    all: &'a Semaphore,
    held: Option<SemaphorePermit<'a>>,
}

impl Slot<'_> {
    /// Gives it away for so long, and takes one again.
    pub(super) async fn pause(&mut self, pause: Duration) {
        self.held = None;
        tokio::time::sleep(pause).await;
        self.held = take(self.all).await;
    }
}

/// This fails only when the semaphore is closed, and nothing closes it.
async fn take(all: &Semaphore) -> Option<SemaphorePermit<'_>> {
    all.acquire().await.ok()
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_before_another_try_leaves_the_slots_to_others() {
        let slots = Slots::new();
        let mut taken = join_all((0..AT_ONCE).map(|_| slots.take())).await;
        assert!(timeout(Duration::from_secs(1), slots.take()).await.is_err(), "all are taken");
        let pauses = taken.iter_mut().map(|slot| slot.pause(Duration::from_secs(60)));
        let others = async {
            for _ in 0..3 * AT_ONCE {
                timeout(Duration::from_secs(1), slots.take()).await.expect("a slot");
            }
        };
        tokio::join!(join_all(pauses), others);
        assert!(timeout(Duration::from_secs(1), slots.take()).await.is_err(), "all are taken again");
    }
}
