//! The circuit breaker: `hold` says when all messages are held and who probes, and here the turns wait for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::hold::{Hold, Next, Refusal, Ticket};

/// Shared by all turns of a process.
#[derive(Debug, Clone)]
pub(super) struct CircuitBreaker {
    /// The route's name, if it has one.
    route: Option<Arc<str>>,
    hold: watch::Sender<Hold>,
}

/// How many turns are useful now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As many as possible.
    Any,
    /// At most so many, to find out whether the backend is back.
    Probes(usize),
}

/// One turn's place among those that wait or probe.
#[derive(Debug)]
pub(super) struct Place {
    hold: watch::Sender<Hold>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Others come next.
        self.hold.send_modify(|hold| hold.leave(self.ticket));
    }
}

/// Permission to call the backend.
#[derive(Debug)]
pub(super) enum Pass {
    /// All turns may call.
    Free,
    /// The backend is held, and this caller probes, until the result of its call is recorded.
    Probe {
        /// Held for its drop.
        _place: Place,
    },
}

impl CircuitBreaker {
    /// At first nothing is held.
    pub(super) fn new(route: Option<Arc<str>>) -> Self {
        Self { route, hold: watch::Sender::new(Hold::default()) }
    }

    /// Is everything held?
    pub(super) fn is_held(&self) -> bool {
        self.hold.borrow().reason().is_some()
    }

    /// How many turns are useful now, as [`Self::wants_turns`] says it. `Probes(0)`: none.
    pub(super) fn wants(&self) -> Wanted {
        self.hold.borrow().wants().map_or(Wanted::Any, Wanted::Probes)
    }

    /// Why all messages are held, if they are.
    pub(super) fn reason(&self) -> Option<String> {
        self.hold.borrow().reason().map(str::to_owned)
    }

    /// How many turns wait for the end of a hold, or probe.
    pub(super) fn turns(&self) -> usize {
        self.hold.borrow().turns()
    }

    /// Returns when a new turn is useful: when nothing is held, or when everything is held and few turns are there to
    /// probe. Returns which of the two.
    pub(super) async fn wants_turns(&self) -> Wanted {
        let mut hold = self.hold.subscribe();
        let hold = hold.wait_for(|hold| hold.wants() != Some(0)).await;
        // The sender lives as long as `self`.
        match hold.ok().and_then(|hold| hold.wants()) {
            Some(count) => Wanted::Probes(count),
            None => Wanted::Any,
        }
    }

    /// Permission to call at once, if nothing is held.
    pub(super) fn free(&self) -> Option<Pass> {
        (!self.is_held()).then_some(Pass::Free)
    }

    /// Returns when a turn of `chat` may call: at once, when the hold ends, or as a probe. Cancel-safe.
    pub(super) async fn pass(&self, chat: &str) -> Pass {
        let mut changes = self.hold.subscribe();
        let mut place = None;
        loop {
            changes.mark_unchanged();
            let mut next = Next::Free;
            self.hold.send_if_modified(|hold| {
                if hold.reason().is_none() {
                    return false;
                }
                let ticket =
                    place.get_or_insert_with(|| Place { hold: self.hold.clone(), ticket: hold.enter(chat) });
                next = hold.next(ticket.ticket, Instant::now());
                // Another one is the first now.
                next == Next::Probe
            });
            match (next, place.take()) {
                (Next::Probe, Some(place)) => return Pass::Probe { _place: place },
                (Next::Free | Next::Probe, _) => return Pass::Free,
                (Next::At(due), kept) => {
                    place = kept;
                    let _ = tokio::time::timeout_at(due, changes.changed()).await;
                }
                (Next::Later, kept) => {
                    place = kept;
                    let _ = changes.changed().await;
                }
            }
        }
    }

    /// A call of `chat` was refused. Returns what that means.
    pub(super) fn refused(&self, chat: &str, reason: &str, retry_after: Option<Duration>) -> Refusal {
        let mut refusal = Refusal::Held;
        self.hold.send_modify(|hold| {
            let was_held = hold.reason().is_some();
            refusal = hold.refused(chat, reason, retry_after, Instant::now());
            if refusal == Refusal::Held && !was_held {
                match self.route.as_deref() {
                    None => tracing::warn!(
                        reason,
                        "the backend is unavailable; everything is held until it is back"
                    ),
                    Some(route) => tracing::warn!(
                        reason,
                        route,
                        "the backend of a route is unavailable; its messages are held until it is back"
                    ),
                }
            }
        });
        refusal
    }

    /// A call of `chat` that began at `began` was answered.
    pub(super) fn answered(&self, chat: &str, began: Instant) {
        self.up(|hold| hold.answered(chat, began, Instant::now()));
    }

    /// A call that began at `began` reached the backend, and failed there.
    pub(super) fn reached(&self, began: Instant) {
        self.up(|hold| hold.reached(began));
    }

    fn up(&self, lifts: impl FnOnce(&mut Hold) -> bool) {
        self.hold.send_if_modified(|hold| {
            let lifted = lifts(hold);
            if lifted {
                match self.route.as_deref() {
                    None => tracing::info!("the backend is back; going on"),
                    Some(route) => tracing::info!(route, "the backend of a route is back; going on"),
                }
            }
            lifted
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::forwarder::hold::ENOUGH;
    use crate::forwarder::policy;

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_and_everybody_goes_when_it_is_back() {
        let breaker = CircuitBreaker::new(None);
        breaker.refused("a", "http-503", None);
        let probe = breaker.pass("a").await;
        assert!(matches!(probe, Pass::Probe { .. }));
        // A refusal is quick: until a second has passed, no other turn may call.
        let second = tokio::time::timeout(Duration::from_millis(999), breaker.pass("b")).await;
        assert!(second.is_err());
        let second = breaker.pass("b").await;
        assert!(matches!(second, Pass::Probe { .. }), "an answer may take long");
        let waiting: Vec<_> = (0..10)
            .map(|_| breaker.clone())
            .map(|breaker| tokio::spawn(async move { breaker.pass("c").await }))
            .collect();
        tokio::task::yield_now().await;
        let before = Instant::now();
        breaker.answered("a", Instant::now());
        drop(probe);
        for task in waiting {
            assert!(matches!(task.await.unwrap(), Pass::Free));
        }
        assert!(before.elapsed() < Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_wants_a_few_turns_to_probe() {
        let breaker = CircuitBreaker::new(None);
        assert_eq!(breaker.wants_turns().await, Wanted::Any);
        breaker.refused("a", "http-503", None);
        assert_eq!(breaker.wants_turns().await, Wanted::Probes(ENOUGH));
        let turns: Vec<_> = (0..ENOUGH)
            .map(|number| (breaker.clone(), number.to_string()))
            .map(|(breaker, chat)| tokio::spawn(async move { breaker.pass(&chat).await }))
            .collect();
        tokio::task::yield_now().await;
        let nobody = tokio::time::timeout(Duration::from_millis(1), breaker.wants_turns()).await;
        assert!(nobody.is_err(), "enough are there already");
        let probes = futures::future::join_all(turns).await;
        let nobody = tokio::time::timeout(Duration::from_secs(60), breaker.wants_turns()).await;
        assert!(nobody.is_err(), "they are calling");
        // They become too old and end without a call: other turns are wanted.
        drop(probes);
        assert_eq!(breaker.wants_turns().await, Wanted::Probes(ENOUGH));
        breaker.reached(Instant::now());
        assert_eq!(breaker.wants_turns().await, Wanted::Any);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_hands_over_to_the_next_later() {
        let breaker = CircuitBreaker::new(None);
        breaker.refused("a", "unreachable", None);
        let first = breaker.pass("a").await;
        breaker.refused("a", "unreachable", None);
        drop(first);
        let before = Instant::now();
        assert!(matches!(breaker.pass("a").await, Pass::Probe { .. }));
        assert_eq!(before.elapsed(), policy::probe_delay(1, None));
    }

    /// An hour without a backend for a hundred chats: one probe at a time, and then all of them within a second.
    #[tokio::test(start_paused = true)]
    async fn an_hour_of_outage_is_one_probe_at_a_time_and_ends_at_once() {
        const CALL: Duration = Duration::from_millis(40);
        let breaker = CircuitBreaker::new(None);
        let back = Instant::now() + Duration::from_secs(3_600);
        let (calls, under_way, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        breaker.refused("a", "http-503", None);
        let chats: Vec<_> = (0..100)
            .map(|number: u32| {
                let chat = number.to_string();
                let (breaker, calls, under_way, most) =
                    (breaker.clone(), Arc::clone(&calls), Arc::clone(&under_way), Arc::clone(&most));
                tokio::spawn(async move {
                    loop {
                        let pass = breaker.pass(&chat).await;
                        let begun = Instant::now();
                        if begun < back {
                            calls.fetch_add(1, Ordering::Relaxed);
                            most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        }
                        tokio::time::sleep(CALL).await;
                        if begun >= back {
                            breaker.answered(&chat, begun);
                            return begun;
                        }
                        under_way.fetch_sub(1, Ordering::Relaxed);
                        breaker.refused(&chat, "http-503", None);
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
