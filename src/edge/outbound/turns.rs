//! Whose file is next on its way to WhatsApp, and when waiting for that is given up.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// How many files are on their way to WhatsApp at once. Each holds some MiB of memory, however long it is.
const AT_ONCE: usize = 4;
/// How often a waiting one looks whether it still gets on.
const LOOK: Duration = Duration::from_secs(5);
/// For how long a file waits while no other gets to WhatsApp either.
const WITHIN: Duration = Duration::from_secs(900);

/// Turns, in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Turns {
    free: Semaphore,
    /// When a file got to WhatsApp last.
    went: Mutex<Instant>,
}

impl Turns {
    /// All are free.
    pub(super) fn new() -> Self {
        Self { free: Semaphore::new(AT_ONCE), went: Mutex::new(Instant::now()) }
    }

    /// Waits for a turn: as long as files get to WhatsApp, and a while longer. The time in which WhatsApp is away does not
    /// count. `None`: it was too long.
    pub(super) async fn next(&self, is_away: impl Fn() -> bool) -> Option<SemaphorePermit<'_>> {
        let (mut began, turn) = (Instant::now(), self.free.acquire());
        tokio::pin!(turn);
        loop {
            if let Ok(turn) = timeout(LOOK, &mut turn).await {
                // It is never closed.
                return turn.ok();
            }
            if is_away() {
                began = Instant::now();
            }
            if began.max(*self.went()).elapsed() >= WITHIN {
                return None;
            }
        }
    }

    /// A file got to WhatsApp.
    pub(super) fn has_gone(&self) {
        *self.went() = Instant::now();
    }

    fn went(&self) -> MutexGuard<'_, Instant> {
        self.went.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_gives_up_only_when_nobody_gets_on_and_whatsapp_is_there() {
        let turns = Turns::new();
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.next(|| false).await.expect("a turn"));
        }
        let began = Instant::now();
        assert!(turns.next(|| false).await.is_none(), "nobody gets on");
        assert!(began.elapsed() >= WITHIN && began.elapsed() <= WITHIN + LOOK);

        let waits = turns.next(|| false);
        let others = async {
            for _ in 0..10 {
                tokio::time::sleep(WITHIN / 2).await;
                turns.has_gone();
            }
            held.pop();
        };
        assert!(tokio::join!(waits, others).0.is_some(), "others got on all the time");

        held.push(turns.next(|| false).await.expect("a turn"));
        let away_until = Instant::now() + WITHIN * 3;
        let looks = Cell::new(0);
        let is_away = || {
            looks.set(looks.get() + 1);
            Instant::now() < away_until
        };
        assert!(turns.next(is_away).await.is_none());
        assert!(Instant::now() >= away_until + WITHIN - LOOK && looks.get() > 0);
    }
}
