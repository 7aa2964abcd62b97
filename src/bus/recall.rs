//! What a consumer counts as in flight, and nobody has: it was delivered over a connection that broke, or to a process that
//! is gone. nats-server waits for its acks until the ack wait ends. A consumer with a single taker need not wait: the taker
//! knows what it has, and gives back the rest.

use super::{Bus, ReadError};

/// If more may be in flight, nothing is given back here. It comes by itself, after the ack wait.
const AT_MOST: u64 = 50_000;

impl Bus {
    /// Gives back all that is in flight and that `has` does not know. nats-server delivers it again at once. For a consumer
    /// with one taker only: what another one works on would be done twice. What is acknowledged is not delivered again,
    /// whatever is said of it here.
    pub async fn recall(
        &self,
        stream: &str,
        consumer: &str,
        has: impl Fn(u64) -> bool,
    ) -> Result<(), ReadError> {
        let Some(state) = self.consumer_state_if_any(stream, consumer).await? else {
            return Ok(());
        };
        let range = state.delivered.saturating_sub(state.ack_floor);
        if state.ack_pending == 0 || range > AT_MOST {
            return Ok(());
        }
        let unknown = (state.ack_floor + 1..=state.delivered).filter(|sequence| !has(*sequence));
        for sequence in unknown {
            // An ack's subject, as far as nats-server reads it: it finds the message by its sequence.
            let last = state.delivered_count;
            let subject = format!("$JS.ACK.{stream}.{consumer}.1.{sequence}.{last}.0.0");
            self.client.publish(subject, "-NAK".into()).await.map_err(|error| ReadError::new(&error))?;
        }
        Ok(())
    }
}
