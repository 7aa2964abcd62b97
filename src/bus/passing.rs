//! What is said in passing, over core NATS: it is heard now or never, and nobody waits for it.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};

use super::{Bus, ReadError};

impl Bus {
    /// Says something on `subject`, at once or not at all: nothing depends on it. `what` is missing if the server refuses
    /// it below `beginning`; that is one warning for each connection.
    pub fn say(&self, (what, beginning): (&'static str, &str), subject: String, payload: Vec<u8>) {
        if !self.is_connected() || self.refusals.has_refused(&subject) {
            return;
        }
        self.refusals.tolerate_below(what, beginning);
        // It would wait only if much else waits for the connection, and then it is not worth it.
        if let Some(Err(error)) = self.client.publish(subject, payload.into()).now_or_never() {
            tracing::debug!(%error, "something in passing could not be said");
        }
    }

    /// Hears what is said on `subject`. `what` is missing if the server refuses that, which is one warning for each
    /// connection.
    pub async fn hear(&self, what: &'static str, subject: &str) -> Result<Hearsay, ReadError> {
        self.refusals.tolerate(what, subject);
        let heard = self.client.subscribe(subject.to_owned()).await;
        Ok(Hearsay(heard.map_err(|error| ReadError::new(&error))?))
    }
}

/// What is said in passing.
#[derive(Debug)]
pub struct Hearsay(async_nats::Subscriber);

impl Hearsay {
    /// The next subject, and what is said there; `None` when the connection is closed for good. Cancel-safe.
    pub async fn next(&mut self) -> Option<(String, Bytes)> {
        let message = self.0.next().await?;
        Some((message.subject.to_string(), message.payload))
    }
}
