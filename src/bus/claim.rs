//! What is left of a delivery when its message is not in memory: enough to answer for it, and to read it again.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::AckKind;

use super::read::{DIRECT_GET_TIMEOUT, headers, ms};
use super::{Bus, Delivery, ReadError};
use crate::wire::{Envelope, Subjects};

/// One delivery of one message, without the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The message's sequence in the stream.
    pub sequence: u64,
    /// How often it was delivered, including this time.
    pub delivered: u64,
    /// When the stream stored it, by the server's clock: milliseconds since the epoch.
    pub stored_at_ms: i64,
    /// Where the server expects the ack.
    reply: Box<str>,
}

impl Claim {
    /// Reads the subject where the server expects the ack, which says all about the delivery:
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer's sequence>.<stored at>.<pending>`; in newer servers
    /// with the domain and the account's hash in front of the stream, and more behind (ADR-15).
    pub(super) fn read(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?.split('.').count();
        let before = if tokens > 7 { 4 } else { 2 };
        let mut numbers = reply.split('.').skip(2 + before).map(str::parse::<i64>);
        let (delivered, sequence) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let stored = numbers.nth(1)?.ok()?;
        let count = |number: i64| u64::try_from(number).ok();
        Some(Self::new(count(sequence)?, count(delivered)?, stored / 1_000_000, reply))
    }

    /// The claim of a delivery that expects its ack at `reply`.
    pub fn new(sequence: u64, delivered: u64, stored_at_ms: i64, reply: &str) -> Self {
        Self { sequence, delivered, stored_at_ms, reply: reply.into() }
    }

    pub(super) async fn answer(&self, client: &Client, kind: AckKind) {
        // Acks are hints to the server. If one is lost, the message is delivered again, and the chain then shows that
        // it is done.
        if let Err(error) = client.publish(self.reply.to_string(), kind.into()).await {
            tracing::debug!(%error, "an ack could not be sent");
        }
    }
}

impl Bus {
    /// Gives a message back that is not in memory; it is delivered again after `delay`.
    pub async fn give_back(&self, claim: &Claim, delay: Option<Duration>) {
        claim.answer(&self.client, AckKind::Nak(delay)).await;
    }

    /// The message is not delivered to anybody else before this time has passed. `None`: the ack wait.
    pub async fn reserve(&self, claim: &Claim, time: Option<Duration>) {
        // Useless while the server is away. When it restarts, its ack waits start again by themselves.
        if self.client.connection_state() == State::Connected {
            // For the server the two differ only in the time.
            let kind = time.map_or(AckKind::Progress, |time| AckKind::Nak(Some(time)));
            claim.answer(&self.client, kind).await;
        }
    }

    /// Reads the message of a claim. Asks once. `None`: this server does not have it, or not yet, or has another one in
    /// its place.
    pub async fn fetch(
        &self,
        subjects: &Subjects,
        stream: &str,
        claim: &Claim,
    ) -> Result<Option<Box<Delivery>>, ReadError> {
        let handle =
            self.jetstream.get_stream_no_info(stream).await.map_err(|error| ReadError::new(&error))?;
        let asked = async {
            let get = handle.direct_get_builder().sequence(claim.sequence).send();
            tokio::time::timeout(DIRECT_GET_TIMEOUT, get).await.map_err(|_elapsed| "timed out".to_owned())
        };
        let message = match self.unless_refused(&format!("{}.DIRECT.GET.{stream}", self.api), asked).await? {
            Ok(message) if ms(message.time) == claim.stored_at_ms => message,
            _ => return Ok(None),
        };
        let envelope = Envelope::open(subjects, &message.subject, headers(&message.headers));
        Ok(envelope.map(|envelope| {
            Box::new(Delivery {
                envelope,
                payload: message.payload,
                claim: claim.clone(),
                client: Arc::clone(&self.client),
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_for_the_ack_says_which_delivery_it_is() {
        let old = "$JS.ACK.WA_IN.forwarder.2.1045.77.1764191234567890123.12";
        let new = "$JS.ACK._.ACCHASH.WA_IN.forwarder.2.1045.77.1764191234567890123.12.aB3x";
        for reply in [old, new] {
            assert_eq!(Claim::read(reply), Some(Claim::new(1045, 2, 1_764_191_234_567, reply)), "{reply}");
        }
        for other in [
            "",
            "_INBOX.abc.1",
            "$JS.ACK.WA_IN.forwarder.2.1045",
            "$JS.ACK.a.b.-1.1.1.1.1",
            "$JS.ACK.a.b.c.d.e.f.g",
        ] {
            assert_eq!(Claim::read(other), None, "{other}");
        }
    }
}
