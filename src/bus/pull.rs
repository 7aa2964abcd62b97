//! The pull loop. It asks for as many messages as can be started, never for more.
//!
//! async-nats' own batches either prefetch or hang after a heartbeat, so requests are made by hand. One request is open
//! at a time, with an idle heartbeat. If the server is silent, a new request is made.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, StatusCode, jetstream::AckKind};
use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::isolation::Asked;
use super::{Bus, Claim, ReadError, read};
use crate::wire::{Envelope, Subjects};

/// The server answers at least this often while a request is open.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Silence for this long means that the request is gone.
const SILENCE: Duration = Duration::from_millis(1250);
/// How often to check whether a server that was away is back.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a request stays open. If the line is cut without a word, nats-server sends what comes into the void for so
/// long, and each of these messages is delivered again only after its ack wait.
pub const EXPIRES: Duration = Duration::from_secs(5);
/// What a delivery takes beside its bytes: itself, its ids and its route; and a header beside its own.
const PER_DELIVERY: usize = 1024;
const PER_HEADER: usize = 64;

/// One delivery of one message. Without an ack, it is delivered again after the ack wait.
#[derive(Debug)]
pub struct Delivery {
    /// The message without its payload: its chat, its place in the chain, its ids.
    pub envelope: Envelope,
    /// Its payload.
    pub payload: Bytes,
    /// Its sequence, its age, and how to answer for it.
    pub claim: Claim,
    pub(super) client: Arc<Client>,
}

impl Deref for Delivery {
    type Target = Claim;

    fn deref(&self) -> &Claim {
        &self.claim
    }
}

impl Delivery {
    /// Done: the outcome is stored. If this ack is lost, the message is delivered again.
    pub async fn ack(&self) {
        self.claim.answer(&self.client, AckKind::Ack).await;
    }

    /// Gives the message back; it is delivered again after `delay`.
    pub async fn nak(&self, delay: Option<Duration>) {
        self.claim.answer(&self.client, AckKind::Nak(delay)).await;
    }

    /// Work goes on: the ack wait starts again.
    pub async fn progress(&self) {
        // Useless while the server is away. When it restarts, its ack waits start again by themselves.
        if self.client.connection_state() == State::Connected {
            self.claim.answer(&self.client, AckKind::Progress).await;
        }
    }

    /// How many bytes of memory it takes, nearly.
    pub fn weight(&self) -> usize {
        let headers: usize =
            self.envelope.headers.iter().map(|(name, value)| name.len() + value.len() + PER_HEADER).sum();
        self.payload.len() + headers + PER_DELIVERY
    }

    /// What it takes to keep it for a while: its payload is a part of all that came with it over the network, which
    /// would be kept as well.
    pub fn compact(&mut self) {
        self.payload = Bytes::copy_from_slice(&self.payload);
    }
}

/// The result of the open request.
#[derive(Debug)]
enum Pulled {
    /// A message.
    Message(Box<Delivery>),
    /// The request is used up or has expired: make another.
    End,
    /// The request is lost, and with it perhaps what was on its way.
    Silence,
    /// The consumer or its stream no longer exists.
    Gone,
    /// The consumer counts from the start again, so it or its stream was made anew meanwhile.
    Anew,
}

impl Bus {
    /// Returns as soon as nats-server is connected. Cancel-safe.
    pub async fn connected(&self) {
        while !self.is_connected() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Pulls from a durable consumer (its stream's name and its own) until `stop`, or until the consumer is gone. It
    /// may have been made anew by then.
    /// `room` returns how many messages could be started now, and waits until that is at least one. It is told whether
    /// deliveries may have been lost on the way since it was asked last: at the start, and after a silence. `take` starts
    /// one message.
    ///
    /// Messages that still arrive after `stop` are given back. After the call of `closed`, a message that is given back
    /// is not delivered here again. A message on a subject that no chat has is skipped with an ERROR.
    pub async fn pull<Room: Future<Output = usize>, Taken: Future<Output = ()>>(
        &self,
        subjects: &Subjects,
        (stream, consumer): (String, String),
        stop: &CancellationToken,
        room: impl Fn(bool) -> Room,
        take: impl Fn(Box<Delivery>) -> Taken,
        closed: impl FnOnce(),
    ) -> Result<(), ReadError> {
        let mut puller = Puller::new(self, subjects, &stream, &consumer).await?;
        let mut may_have_lost = true;
        while let Some(room) = stop.run_until_cancelled(room(may_have_lost)).await {
            may_have_lost = false;
            match stop.run_until_cancelled(puller.request(room)).await {
                Some(requested) => requested?,
                None => break,
            }
            while let Some(pulled) = stop.run_until_cancelled(puller.next()).await {
                match pulled {
                    Pulled::Message(delivery) => take(delivery).await,
                    Pulled::End => break,
                    Pulled::Silence => {
                        may_have_lost = true;
                        break;
                    }
                    Pulled::Gone => return Ok(()),
                    Pulled::Anew => {
                        puller.drain(|| {}).await;
                        return Ok(());
                    }
                }
            }
        }
        puller.drain(closed).await;
        Ok(())
    }
}

/// Pulls from one durable consumer.
#[derive(Debug)]
struct Puller {
    bus: Bus,
    subjects: Subjects,
    subject: String,
    /// The question whether there is such a consumer.
    about: String,
    inbox: String,
    subscriber: async_nats::Subscriber,
    request: u64,
    missing: usize,
    /// The highest sequence that came for the first time.
    newest: u64,
}

impl Puller {
    async fn new(bus: &Bus, subjects: &Subjects, stream: &str, consumer: &str) -> Result<Self, ReadError> {
        let inbox = bus.client.new_inbox();
        let subscriber =
            bus.client.subscribe(format!("{inbox}.*")).await.map_err(|error| ReadError::new(&error))?;
        Ok(Self {
            bus: bus.clone(),
            subjects: subjects.clone(),
            subject: format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", bus.api),
            about: format!("CONSUMER.INFO.{stream}.{consumer}"),
            inbox,
            subscriber,
            request: 0,
            missing: 0,
            newest: 0,
        })
    }

    /// Asks for up to `batch` messages, as soon as the server is connected. Any earlier request counts as ended.
    /// Cancel-safe.
    async fn request(&mut self, batch: usize) -> Result<(), ReadError> {
        // Requests made while it is away would all reach the server at once when it is back.
        self.bus.connected().await;
        self.request += 1;
        self.missing = batch.max(1);
        let body = serde_json::json!({
            "batch": self.missing,
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        let reply = format!("{}.{}", self.inbox, self.request);
        self.bus
            .client
            .publish_with_reply(self.subject.clone(), reply, body.to_string().into())
            .await
            .map_err(|error| ReadError::new(&error))
    }

    /// The next result of the open request. Cancel-safe.
    async fn next(&mut self) -> Pulled {
        while self.missing > 0 {
            let message = match tokio::time::timeout(SILENCE, self.subscriber.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Pulled::Gone,
                Err(_silence) => {
                    self.missing = 0;
                    self.bus.unanswered(Asked::Pull, Some(&self.about)).await;
                    return Pulled::Silence;
                }
            };
            if message.status != Some(StatusCode::NO_RESPONDERS) {
                self.bus.answered(Asked::Pull);
            }
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.missing -= 1;
                    match self.delivery(message).await {
                        Some(delivery) if self.goes_back(&delivery) => {
                            // Whoever takes it has to know first whose sequence it has.
                            delivery.nak(None).await;
                            self.missing = 0;
                            return Pulled::Anew;
                        }
                        Some(delivery) => return Pulled::Message(Box::new(delivery)),
                        None => continue,
                    }
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                // For an earlier request, which counts as ended.
                Some(_) if message.subject.as_str() != format!("{}.{}", self.inbox, self.request) => {}
                Some(status) => {
                    self.missing = 0;
                    let text = message.description.unwrap_or_default().to_lowercase();
                    tracing::trace!(%status, text, "pull request ended");
                    let gone = text.contains("consumer deleted") || text.contains("stream deleted");
                    if status == StatusCode::NO_RESPONDERS {
                        // An election, a restart, or a missing consumer. The next request shows which.
                        self.bus.unanswered(Asked::Pull, Some(&self.about)).await;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        return Pulled::Gone;
                    }
                    return if gone { Pulled::Gone } else { Pulled::End };
                }
            }
        }
        Pulled::End
    }

    /// A consumer hands messages out in order, each for the first time once. If it does not, it was made anew (or, after
    /// a crash of nats-server, has forgotten a little). While no request is open, nothing else tells.
    fn goes_back(&mut self, delivery: &Delivery) -> bool {
        let goes_back = delivery.delivered == 1 && delivery.sequence <= self.newest;
        if delivery.delivered == 1 {
            self.newest = self.newest.max(delivery.sequence);
        }
        goes_back
    }

    /// Stops, calls `closed`, and gives back the messages that are still on their way here.
    async fn drain(mut self, closed: impl FnOnce()) {
        // It is on the connection before anything that is published from now on, so the server reads it first.
        let drained = self.subscriber.drain().await;
        closed();
        if drained.is_err() {
            return;
        }
        while let Ok(Some(message)) = tokio::time::timeout(SILENCE, self.subscriber.next()).await {
            if message.status.is_none()
                && let Some(delivery) = self.delivery(message).await
            {
                delivery.nak(None).await;
            }
        }
    }

    /// Reads a delivery. This is the only place that does; all other code gets the typed value.
    async fn delivery(&self, message: async_nats::Message) -> Option<Delivery> {
        let Some(claim) = message.reply.as_deref().and_then(Claim::read) else {
            tracing::warn!("the pull inbox has got a message that is not a JetStream delivery");
            return None;
        };
        let headers = message.headers.as_ref().map(read::headers).unwrap_or_default();
        let Some(envelope) = Envelope::open(&self.subjects, &message.subject, headers) else {
            // Without a chat it can be neither answered nor sent, and no other message waits for it.
            tracing::error!(
                sequence = claim.sequence,
                "a message on a subject that no chat has; it is skipped"
            );
            claim.answer(&self.bus.client, AckKind::Ack).await;
            return None;
        };
        Some(Delivery { envelope, payload: message.payload, claim, client: Arc::clone(&self.bus.client) })
    }
}
