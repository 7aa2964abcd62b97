//! Is WhatsApp connected, and through which client?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use whatsapp_rust::Client;

use super::announce::News;
use super::commits::Commits;
use super::link::{Input, State, Then};
use super::ourselves::Ourselves;
use crate::telemetry::metrics;

/// How soon the edge notices a connection that died without an event.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The current client and the state of the link.
#[derive(Clone, Default)]
struct Now {
    /// The client, while one runs.
    client: Option<Arc<Client>>,
    /// What writes its store.
    commits: Option<Arc<Commits>>,
    /// The state of the link.
    state: State,
    /// How often it has been lost.
    losses: u64,
    /// WhatsApp is handing over what has waited for this device. Until that is written, nothing may be sent: the library
    /// writes it in batches, and what it encrypts meanwhile would be ahead of its disk.
    draining: bool,
}

/// Write access to the connection. The link's state machine runs here. Cheap to clone.
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
    /// Sets the current client, and what writes its store.
    pub(super) fn client(&self, client: Option<(Arc<Client>, Arc<Commits>)>) {
        self.now.send_modify(|now| (now.client, now.commits) = client.unzip());
    }

    /// There is a new connection, and WhatsApp hands over what has waited; or it has done so.
    pub(super) fn draining(&self, draining: bool) {
        self.now.send_modify(|now| now.draining = draining);
    }

    /// Moves the link to its next state, informs the readers, and says what to do with the client.
    pub fn apply(&self, input: Input) -> Then {
        let mut then = Then::Nothing;
        self.now.send_modify(|now| {
            let (state, next) = now.state.after(input);
            then = next;
            if state != now.state {
                if state.code() != now.state.code() {
                    tracing::info!(state = state.code(), "{}", state.detail());
                    if matches!(now.state, State::Offline | State::Silent) && state == State::Online {
                        metrics::RECONNECTS.add(1, ["whatsapp"]);
                    }
                    self.news.push(state.clone());
                }
                now.losses += u64::from(now.state == State::Online);
                now.state = state;
            }
        });
        then
    }
}

/// Read access to the connection. Cheap to clone.
#[derive(Clone)]
pub struct Connection(watch::Receiver<Now>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.0.borrow().state).finish()
    }
}

impl Connection {
    /// The writer, the reader, and every new state in order.
    pub fn channel() -> (ConnectionWriter, Self, News) {
        let (now, reader) = watch::channel(Now::default());
        let news = News::default();
        (ConnectionWriter { now, news: news.clone() }, Self(reader), news)
    }

    /// The state of the link. It is "online" only while the connection is really up.
    pub fn state(&self) -> State {
        let now = self.0.borrow();
        match (&now.state, &now.client) {
            (State::Online, Some(client)) if is_up(client) => State::Online,
            (State::Online, _) => State::Offline,
            (state, _) => state.clone(),
        }
    }

    /// Returns when something has changed since this reader last waited for it. Cancel-safe.
    pub async fn changed(&mut self) {
        // Without a writer the process is ending; whoever waits is ended too.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The linked number in digits, as soon as it is known.
    pub fn phone(&self) -> Option<String> {
        let client = self.0.borrow().client.clone()?;
        Some(client.pn()?.user.to_string())
    }

    /// The client, online or not. Waits until there is one.
    pub async fn any_client(&self) -> Arc<Client> {
        let mut now = self.0.clone();
        loop {
            let client = now.borrow_and_update().client.clone();
            match client {
                Some(client) => return client,
                // Without a writer the process is ending; whoever waits is ended too.
                None if now.changed().await.is_err() => std::future::pending().await,
                None => {}
            }
        }
    }

    /// The linked number, and what only its session knows. Waits until there is a client.
    pub(crate) async fn ourselves(&self) -> Ourselves {
        Ourselves::of(&*self.any_client().await)
    }

    /// Returns when all that was sent until now is on the disk, for a phone that asks for it again.
    pub(crate) async fn kept(&self) {
        let commits = self.0.borrow().commits.clone();
        // A client that has ended has written all.
        if let Some(commits) = commits {
            commits.settled_sometime().await;
        }
    }

    /// The client, as soon as messages can go out. Waits without a time limit.
    pub async fn client(&self) -> Arc<Client> {
        let mut now = self.0.clone();
        loop {
            {
                let now = now.borrow_and_update();
                if let (State::Online, Some(client), false) = (&now.state, &now.client, now.draining)
                    && is_up(client)
                {
                    return Arc::clone(client);
                }
            }
            // Not every loss of a connection, and not every return, comes as an event.
            let _ = tokio::time::timeout(CHECK_INTERVAL, now.changed()).await;
        }
    }

    /// Returns when the connection of this client is lost, although there may be another one by then. Cancel-safe.
    pub(crate) async fn lost(&self, client: &Client) {
        let mut now = self.0.clone();
        let losses = now.borrow_and_update().losses;
        while is_up(client) && now.borrow_and_update().losses == losses {
            let _ = tokio::time::timeout(CHECK_INTERVAL, now.changed()).await;
        }
    }
}

fn is_up(client: &Client) -> bool {
    client.is_connected() && client.is_logged_in()
}
