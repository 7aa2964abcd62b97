//! Publishes every new state of the link on the bus, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::link::State;
use crate::bus::{AppendError, Bus, Record};
use crate::wire::v1::SessionEvent;
use crate::wire::{Account, Headers, Subjects, header, now_ms};

/// How many states are kept while the bus is away. More would be old news: the oldest are dropped, the last one
/// never.
const REMEMBERED: usize = 64;

/// New states that are not on the bus yet. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct News(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    states: Mutex<VecDeque<State>>,
    came: Notify,
}

impl News {
    /// Adds one state.
    pub fn push(&self, state: State) {
        let mut states = self.states();
        if states.len() == REMEMBERED {
            states.pop_front();
        }
        states.push_back(state);
        drop(states);
        self.0.came.notify_one();
    }

    fn next(&self) -> Option<State> {
        self.states().pop_front()
    }

    fn states(&self) -> MutexGuard<'_, VecDeque<State>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes states until `over`, then what is left. After `stop` it waits only a short time.
    pub async fn announce(
        &self,
        bus: &Bus,
        subjects: &Subjects,
        account: &Account,
        over: &CancellationToken,
        stop: &CancellationToken,
    ) {
        loop {
            let came = self.0.came.notified();
            while let Some(state) = self.next() {
                tell(bus, subjects, account, &state, stop).await;
            }
            if over.is_cancelled() {
                return;
            }
            over.run_until_cancelled(came).await;
        }
    }
}

async fn tell(bus: &Bus, subjects: &Subjects, account: &Account, state: &State, stop: &CancellationToken) {
    let now = now_ms();
    let event = SessionEvent {
        account: account.to_string(),
        state: state.on_the_wire().into(),
        code: state.code().to_owned(),
        detail: state.detail().into_owned(),
        action: state.action().into(),
        at_ms: now,
        chat: String::new(),
    };
    let id = format!("{account}/session/{}/{now}", state.code());
    let record = session_event(subjects, account, &id, &event);
    let stored = if stop.is_cancelled() {
        tokio::time::timeout(Duration::from_secs(2), bus.append(&record))
            .await
            .unwrap_or(Err(AppendError::Stopped))
    } else {
        bus.append_until_known(&record, stop).await
    };
    if matches!(stored, Err(AppendError::Stopped)) {
        // Nobody is told of the last states of an edge that stops before the bus has answered: readers see its lease end.
        tracing::debug!(
            state = state.code(),
            "a change of the session's state did not get on the bus in time"
        );
    } else if let Err(error) = stored {
        tracing::warn!(%error, state = state.code(), "a change of the session's state did not get on the bus");
    }
}

/// A session event as a record for the bus. `id` identifies it.
pub(crate) fn session_event(
    subjects: &Subjects,
    account: &Account,
    id: &str,
    event: &SessionEvent,
) -> Record {
    let mut headers = Headers::cloud_event(id, "SessionEvent", account.as_str(), event.at_ms);
    headers.set(header::MSG_ID, id);
    Record { subject: subjects.session(account), headers, payload: event.encode_to_vec().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_that_is_away_for_long_hears_the_latest_states() {
        let news = News::default();
        for _ in 0..REMEMBERED {
            news.push(State::Connecting);
        }
        news.push(State::Online);
        let heard: Vec<_> = std::iter::from_fn(|| news.next()).collect();
        assert_eq!((heard.len(), heard.last()), (REMEMBERED, Some(&State::Online)));
    }
}
