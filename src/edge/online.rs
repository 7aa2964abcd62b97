//! Is WhatsApp there, and through which client?

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use whatsapp_rust::Client;

use super::link::State;

/// How soon a connection that died without an event is noticed.
const LOOK: Duration = Duration::from_millis(250);

/// The current client and the link's state.
#[derive(Clone, Default)]
pub struct Now {
    /// The client, while one runs.
    pub client: Option<Arc<Client>>,
    /// The link.
    pub state: State,
}

/// Read access to it. Cheap to clone.
#[derive(Clone)]
pub struct Online(watch::Receiver<Now>);

impl std::fmt::Debug for Online {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Online").field(&self.0.borrow().state).finish()
    }
}

impl Online {
    /// A sender to be told, and readers of it.
    pub fn channel() -> (watch::Sender<Now>, Self) {
        let (sender, receiver) = watch::channel(Now::default());
        (sender, Self(receiver))
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
            let _ = tokio::time::timeout(LOOK, now.changed()).await;
        }
    }
}

fn is_up(client: &Client) -> bool {
    client.is_connected() && client.is_logged_in()
}
