//! Is WhatsApp connected, and through which client?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use whatsapp_rust::Client;

use super::announce::News;
use super::ask::{Ask, Asker, NotDone, PairCode};
use super::commits::Commits;
use super::gate::Gate;
use super::link::{Input, State, Then};
use super::ourselves::Ourselves;
use crate::telemetry::metrics;
use crate::wire::now_ms;

/// How soon the edge notices a connection that died without an event.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The current client and the state of the link.
#[derive(Clone, Default)]
struct Now {
    /// The client, while one runs.
    client: Option<Arc<Client>>,
    /// What writes its store.
    commits: Option<Arc<Commits>>,
    /// What frames wait at. The same one for all clients.
    gate: Gate,
    /// The state of the link.
    state: State,
    /// How often it has been lost.
    losses: u64,
    /// WhatsApp is handing over what has waited for this device. Until that is written, nothing may be sent: the library
    /// writes it in batches, and what it encrypts meanwhile would be ahead of its disk.
    draining: bool,
    /// When the present state began. Milliseconds since 1970.
    since_ms: i64,
    /// When the number was linked, if that is known.
    linked_ms: Option<i64>,
    /// The code that can be typed into the phone.
    code: Option<PairCode>,
    /// Where a person asks something of the session.
    asker: Option<Asker>,
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

    /// What frames wait at.
    pub(super) fn gate(&self) -> Gate {
        self.now.borrow().gate.clone()
    }

    /// The state of the link, as the machine has it.
    pub(super) fn state(&self) -> State {
        self.now.borrow().state.clone()
    }

    /// Where people ask something of the session; `None` when it ends.
    pub(super) fn asker(&self, asker: Option<Asker>) {
        self.now.send_modify(|now| now.asker = asker);
    }

    /// When the number was linked, if that is known.
    pub(super) fn linked(&self, at_ms: Option<i64>) {
        self.now.send_modify(|now| now.linked_ms = at_ms);
    }

    /// The code that can be typed into the phone from now on.
    pub(super) fn code(&self, code: Option<PairCode>) {
        self.now.send_modify(|now| now.code = code);
    }

    /// Moves the link to its next state, informs the readers, and says what to do with the client.
    pub fn apply(&self, input: Input) -> Then {
        let mut then = Then::Nothing;
        self.now.send_modify(|now| {
            let (state, next) = now.state.after(input);
            then = next;
            if state != now.state {
                if !matches!(state, State::Unlinked { .. } | State::Passkey(_)) {
                    now.code = None;
                }
                if state.code() != now.state.code() {
                    now.since_ms = now_ms();
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

    /// What frames wait at while something is being sent.
    pub(crate) fn gate(&self) -> Gate {
        self.0.borrow().gate.clone()
    }

    /// When the present state began, in milliseconds since 1970; 0 before the first.
    pub fn since_ms(&self) -> i64 {
        self.0.borrow().since_ms
    }

    /// When the number was linked, if that is known. In milliseconds since 1970.
    pub fn linked_ms(&self) -> Option<i64> {
        self.0.borrow().linked_ms
    }

    /// The code that can be typed into the phone, while it is good.
    pub fn pair_code(&self) -> Option<PairCode> {
        self.0.borrow().code.clone().filter(|code| code.expires > tokio::time::Instant::now())
    }

    /// Asks WhatsApp for a code to type into the phone of this number. [`Self::pair_code`] has it then.
    pub async fn ask_for_code(&self, phone: String) -> Result<PairCode, NotDone> {
        self.ask(|answer| Ask::Code(phone, answer)).await
    }

    /// Unlinks the number. Returns when it has begun.
    pub async fn unlink(&self) -> Result<(), NotDone> {
        self.ask(Ask::Unlink).await
    }

    /// Shows WhatsApp what a browser has answered for the passkey. Returns when WhatsApp has taken it.
    pub async fn answer_passkey(&self, answer: String) -> Result<(), NotDone> {
        self.ask(|told| Ask::Passkey(answer, told)).await
    }

    /// The codes are the same: links the number. Returns when WhatsApp has been told.
    pub async fn confirm_passkey(&self) -> Result<(), NotDone> {
        self.ask(Ask::Confirm).await
    }

    /// Begins anew, with the next QR code.
    pub async fn give_up_on_passkey(&self) -> Result<(), NotDone> {
        self.ask(Ask::GiveUp).await
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, NotDone>>) -> Ask,
    ) -> Result<T, NotDone> {
        let asker = self.0.borrow().asker.clone().ok_or(NotDone::NoSession)?;
        let (answer, answered) = oneshot::channel();
        // Too many ask at once, or the session has just ended.
        asker.try_send(ask(answer)).map_err(|_| NotDone::NoSession)?;
        answered.await.unwrap_or(Err(NotDone::NoSession))
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
