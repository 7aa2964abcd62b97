//! In whose hand each message was: what the forwarders tell the bus about it, overheard.
//!
//! A forwarder says at once that it has begun, again and again that it is still at it, and at last that it
//! is done. A delivery of which the last was never said, and that was followed by another, was lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio::task::JoinHandle;

use crate::support::heart::unix_seconds;

/// One delivery of one message.
#[derive(Debug, Clone, Copy)]
pub struct Hand {
    /// The message's sequence in `WA_IN`.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// When the forwarder was first heard of it, in unix seconds.
    pub first: f64,
    /// When it was last heard of it.
    pub last: f64,
    /// It was done with it, or gave it back.
    pub ended: bool,
}

type Seen = Arc<Mutex<BTreeMap<(u64, u64), Hand>>>;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Hands {
    seen: Seen,
    task: JoinHandle<()>,
}

impl Hands {
    /// To what forwarders say on the nats-server at `url`.
    pub async fn watch(url: &str) -> Self {
        let servers: Vec<&str> = url.split(',').collect();
        let client = async_nats::connect(servers).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let mut acks = client.subscribe("$JS.ACK.>").await.expect("a subscription");
        client.flush().await.expect("a subscription that stands");
        let seen = Seen::default();
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Some(ack) = acks.next().await {
                    let Some((sequence, delivered)) = delivery(&ack.subject) else { continue };
                    let now = unix_seconds();
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let hand = seen.entry((sequence, delivered)).or_insert(Hand {
                        sequence,
                        delivered,
                        first: now,
                        last: now,
                        ended: false,
                    });
                    hand.last = now;
                    hand.ended |= !ack.payload.starts_with(b"+WPI");
                }
                // The client ends with its last subscription.
                drop(client);
            }
        });
        Self { seen, task }
    }

    /// All of them, by message and delivery.
    pub fn seen(&self) -> Vec<Hand> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sequence and number of a delivery, from the subject of its acks:
/// `....WA_IN.forwarder.<delivered>.<sequence>....`.
fn delivery(subject: &str) -> Option<(u64, u64)> {
    let (_, rest) = subject.split_once(".WA_IN.forwarder.")?;
    let mut tokens = rest.split('.');
    let delivered = tokens.next()?.parse().ok()?;
    Some((tokens.next()?.parse().ok()?, delivered))
}
