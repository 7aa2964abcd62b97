//! The circuit breaker: holds all messages while the backend is unavailable, and lets one probe through.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::policy;

/// The state of the backend as this replica sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The reason: a code such as `http-401` or `unreachable`.
    pub reason: String,
    probes: u32,
    retry_after: Option<Duration>,
}

/// What all turns of a process share.
#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// How many turns wait for the end of the hold. Without one of them there would be no probe.
    waiting: usize,
}

/// Shared by all turns of a process.
#[derive(Debug, Clone)]
pub(super) struct CircuitBreaker {
    state: watch::Sender<State>,
    probe: Arc<Semaphore>,
}

/// How many turns are useful now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As many as possible.
    Any,
    /// One, to find out whether the backend is back.
    Probe,
}

/// One turn's place among the waiting turns.
#[derive(Debug)]
pub(super) struct Waiting(watch::Sender<State>);

impl Waiting {
    fn new(state: &watch::Sender<State>) -> Self {
        // Nothing that waits for a change depends on this one.
        state.send_if_modified(|state| {
            state.waiting += 1;
            false
        });
        Self(state.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_if_modified(|state| {
            state.waiting -= 1;
            state.waiting == 0
        });
    }
}

/// Permission to call the backend.
#[derive(Debug)]
pub(super) enum Pass {
    /// All turns may call.
    Free,
    /// The backend is held, and this caller is the probe. The permit is the right to probe. It lasts until the
    /// result of the call is recorded.
    Probe {
        /// Held for its drop.
        _permit: OwnedSemaphorePermit,
        /// It still waits for the end of the hold: its call needs no other turn.
        _waiting: Option<Waiting>,
    },
}

impl CircuitBreaker {
    /// At first nothing is held.
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(State::default()), probe: Arc::new(Semaphore::new(1)) }
    }

    /// Why all messages are held, if they are.
    pub(super) fn reason(&self) -> Option<String> {
        self.state.borrow().held.as_ref().map(|held| held.reason.clone())
    }

    /// Returns when a new turn is useful: when nothing is held, or when everything is held and no turn is there to
    /// probe. Returns which of the two.
    pub(super) async fn wants_a_turn(&self) -> Wanted {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| state.held.is_none() || state.waiting == 0).await;
        // The sender lives as long as `self`.
        match state {
            Ok(state) if state.held.is_some() => Wanted::Probe,
            _ => Wanted::Any,
        }
    }

    /// Permission to call at once, if nothing is held.
    pub(super) fn free(&self) -> Option<Pass> {
        self.state.borrow().held.is_none().then_some(Pass::Free)
    }

    /// Returns when the caller may call: at once, when the breaker closes, or as the probe while the breaker is
    /// open.
    pub(super) async fn pass(&self) -> Pass {
        let mut state = self.state.subscribe();
        let mut waiting = None;
        loop {
            let Some(held) = state.borrow_and_update().held.clone() else { return Pass::Free };
            waiting.get_or_insert_with(|| Waiting::new(&self.state));
            let due = Instant::now() + policy::probe_delay(held.probes, held.retry_after);
            tokio::select! {
                _ = state.changed() => {}
                permit = self.probe.clone().acquire_owned() => {
                    let Ok(permit) = permit else { continue };
                    tokio::select! {
                        // This comes first: a probe that was due before the last probe failed is not due after it.
                        biased;
                        _ = state.changed() => {}
                        () = tokio::time::sleep_until(due) => {
                            return Pass::Probe { _permit: permit, _waiting: waiting };
                        }
                    }
                }
            }
        }
    }

    /// A call found the backend unavailable.
    pub(super) fn down(&self, reason: &str, retry_after: Option<Duration>) {
        self.state.send_modify(|state| {
            if state.held.is_none() {
                tracing::warn!(reason, "the backend is unavailable; everything is held until it is back");
            }
            let probes = state.held.as_ref().map_or(0, |held| held.probes + 1);
            state.held = Some(Held { reason: reason.to_owned(), probes, retry_after });
        });
    }

    /// A call reached the backend, whatever the answer was.
    pub(super) fn up(&self) {
        self.state.send_if_modified(|state| {
            let was_held = state.held.take().is_some();
            if was_held {
                tracing::info!("the backend is back; going on");
            }
            was_held
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_and_everybody_goes_when_it_is_back() {
        let breaker = CircuitBreaker::new();
        breaker.down("http-503", None);
        let probe = breaker.pass().await;
        assert!(matches!(probe, Pass::Probe { .. }));
        // While that probe is in flight, no other turn may call, however long it takes.
        let second = tokio::time::timeout(Duration::from_secs(3600), breaker.pass()).await;
        assert!(second.is_err());
        let waiting: Vec<_> = (0..10)
            .map(|_| breaker.clone())
            .map(|breaker| tokio::spawn(async move { breaker.pass().await }))
            .collect();
        tokio::task::yield_now().await;
        let before = Instant::now();
        breaker.up();
        drop(probe);
        for task in waiting {
            assert!(matches!(task.await.unwrap(), Pass::Free));
        }
        assert!(before.elapsed() < Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_without_a_waiting_turn_wants_one_to_probe() {
        let breaker = CircuitBreaker::new();
        assert_eq!(breaker.wants_a_turn().await, Wanted::Any);
        breaker.down("http-503", None);
        assert_eq!(breaker.wants_a_turn().await, Wanted::Probe);
        let probe = tokio::spawn({
            let breaker = breaker.clone();
            async move { breaker.pass().await }
        });
        tokio::task::yield_now().await;
        let nobody = tokio::time::timeout(Duration::from_millis(1), breaker.wants_a_turn()).await;
        assert!(nobody.is_err(), "one is there already");
        let probe = probe.await.unwrap();
        let nobody = tokio::time::timeout(Duration::from_secs(60), breaker.wants_a_turn()).await;
        assert!(nobody.is_err(), "it is calling");
        // It becomes too old and ends without a call: another turn is wanted.
        drop(probe);
        assert_eq!(breaker.wants_a_turn().await, Wanted::Probe);
        breaker.up();
        assert_eq!(breaker.wants_a_turn().await, Wanted::Any);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_hands_over_to_the_next_later() {
        let breaker = CircuitBreaker::new();
        breaker.down("unreachable", None);
        let first = breaker.pass().await;
        breaker.down("unreachable", None);
        drop(first);
        let before = Instant::now();
        assert!(matches!(breaker.pass().await, Pass::Probe { .. }));
        assert_eq!(before.elapsed(), policy::probe_delay(1, None));
    }

    /// An hour without a backend for a hundred chats: one probe at a time, and then all of them within a second.
    #[tokio::test(start_paused = true)]
    async fn an_hour_of_outage_is_one_probe_at_a_time_and_ends_at_once() {
        const CALL: Duration = Duration::from_millis(40);
        let breaker = CircuitBreaker::new();
        let back = Instant::now() + Duration::from_secs(3_600);
        let (calls, under_way, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        breaker.down("http-503", None);
        let chats: Vec<_> = (0..100)
            .map(|_| {
                let (breaker, calls, under_way, most) =
                    (breaker.clone(), Arc::clone(&calls), Arc::clone(&under_way), Arc::clone(&most));
                tokio::spawn(async move {
                    loop {
                        let pass = breaker.pass().await;
                        let begun = Instant::now();
                        if begun < back {
                            calls.fetch_add(1, Ordering::Relaxed);
                            most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        }
                        tokio::time::sleep(CALL).await;
                        if begun >= back {
                            breaker.up();
                            return begun;
                        }
                        under_way.fetch_sub(1, Ordering::Relaxed);
                        breaker.down("http-503", None);
                        drop(pass);
                    }
                })
            })
            .collect();
        for chat in chats {
            let waited = chat.await.unwrap().duration_since(back);
            assert!(waited <= Duration::from_secs(1) + CALL, "it went on after {waited:?}");
        }
        assert_eq!(most.load(Ordering::Relaxed), 1, "probes at once");
        let calls = calls.load(Ordering::Relaxed);
        assert!((3_400..3_500).contains(&calls), "{calls} probes in an hour");
    }
}
