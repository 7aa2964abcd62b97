//! Is WhatsApp there, and through which client?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use whatsapp_rust::Client;

use super::announce::News;
use super::link::{Input, State, Then};
use crate::telemetry::metrics;

/// How soon a connection that died without an event is noticed.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The current client and the link's state.
#[derive(Clone, Default)]
struct Now {
    /// The client, while one runs.
    client: Option<Arc<Client>>,
    /// The link.
    state: State,
}

/// Write access to it: the link's state machine is run here. Cheap to clone.
#[derive(Clone)]
pub struct ConnectionWriter {
    now: watch::Sender<Now>,
    news: News,
}

impl std::fmt::Debug for ConnectionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConnectionWriter").field(&self.now.borrow().state).finish()
    }
}

impl ConnectionWriter {
    /// Which client there is.
    pub fn client(&self, client: Option<Arc<Client>>) {
        self.now.send_modify(|now| now.client = client);
    }

    /// Moves the link's state on, tells those who want to know, and says what to do.
    pub fn apply(&self, input: Input) -> Then {
        let mut then = Then::Nothing;
        self.now.send_modify(|now| {
            let (state, next) = now.state.after(input);
            then = next;
            if state != now.state {
                if state.code() != now.state.code() {
                    tracing::info!(state = state.code(), "{}", state.detail());
                    if (&now.state, &state) == (&State::Offline, &State::Online) {
                        metrics::RECONNECTS.add(1, ["whatsapp"]);
                    }
                    self.news.push(state.clone());
                }
                now.state = state;
            }
        });
        then
    }
}

/// Read access to it. Cheap to clone.
#[derive(Clone)]
pub struct Connection(watch::Receiver<Now>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.0.borrow().state).finish()
    }
}

impl Connection {
    /// Who writes it, who reads it, and every new state in order.
    pub fn channel() -> (ConnectionWriter, Self, News) {
        let (now, reader) = watch::channel(Now::default());
        let news = News::default();
        (ConnectionWriter { now, news: news.clone() }, Self(reader), news)
    }

    /// Where the link stands. "Online" only while the connection really is.
    pub fn state(&self) -> State {
        let now = self.0.borrow();
        match (&now.state, &now.client) {
            (State::Online, Some(client)) if is_up(client) => State::Online,
            (State::Online, _) => State::Offline,
            (state, _) => state.clone(),
        }
    }

    /// The linked number in digits, once it is known.
    pub fn phone(&self) -> Option<String> {
        let client = self.0.borrow().client.clone()?;
        Some(client.pn()?.user.to_string())
    }

    /// The client, as soon as messages can go out. Waits as long as it takes.
    pub async fn client(&self) -> Arc<Client> {
        let mut now = self.0.clone();
        loop {
            {
                let now = now.borrow_and_update();
                if let (State::Online, Some(client)) = (&now.state, &now.client)
                    && is_up(client)
                {
                    return Arc::clone(client);
                }
            }
            // Not every end of a connection is told as an event, nor is every return.
            let _ = tokio::time::timeout(CHECK_INTERVAL, now.changed()).await;
        }
    }
}

fn is_up(client: &Client) -> bool {
    client.is_connected() && client.is_logged_in()
}
