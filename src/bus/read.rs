//! Reads the last message of a subject, a consumer's state, and the time at which a stream was created.

use std::time::Duration;

use async_nats::jetstream::{consumer, response::Response, stream, stream::DirectGetErrorKind};
use backon::Retryable as _;
use bytes::Bytes;
use futures::StreamExt;
use serde::de::DeserializeOwned;

use super::isolation::Asked;
use super::{Bus, topology};
use crate::wire::Headers;

/// How soon a request is made again. A frozen replica still gets its share of direct gets and never answers them.
pub(super) const DIRECT_GET_TIMEOUT: Duration = Duration::from_millis(300);
/// How many attempts in all: with the time-out above, about three seconds.
pub(super) const DIRECT_GET_TRIES: usize = 10;

type Get = stream::DirectGetBuilder<stream::WithHeaders>;

/// A message as a stream has it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
    /// When the stream stored it, by the server's clock: milliseconds since the epoch.
    pub stored_at_ms: i64,
}

/// How far a consumer has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConsumerState {
    /// The ack floor: every message up to this stream sequence is acknowledged.
    pub ack_floor: u64,
    /// The last stream sequence that was ever delivered.
    pub delivered: u64,
    /// How many deliveries there were.
    pub delivered_count: u64,
    /// How many messages are in flight: delivered and not acknowledged.
    pub ack_pending: usize,
    /// How many messages are not delivered yet.
    pub not_delivered: u64,
}

impl ConsumerState {
    /// Has everything before message `sequence` ended? It is in flight itself, so if it is the only one, then each message
    /// before it is acknowledged or gone, whatever the ack floor says: nats-server moves that with acks only, so it stays
    /// below a message that went before it was delivered.
    pub fn is_alone(&self, sequence: u64) -> bool {
        self.ack_pending == 1 && self.delivered >= sequence
    }
}

/// The bus did not answer a question.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It may answer the next time.
    #[error("nats-server did not answer: {0}")]
    Unanswered(String),
    /// It refuses to answer this user.
    #[error("nats-server does not answer, because {0}")]
    Forbidden(String),
}

impl ReadError {
    /// The error with these words.
    pub fn new(error: &dyn std::fmt::Display) -> Self {
        Self::Unanswered(error.to_string())
    }
}

impl Bus {
    /// The last message on `subject`. It may come from a follower and be some seconds old. That is harmless if the
    /// caller acts on it with a compare-and-set.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ReadError> {
        self.direct_get(stream, |get| get.last_by_subject(subject)).await
    }

    /// The first message on `subject` (which may hold wildcards) from `sequence` on.
    pub async fn next_from(
        &self,
        stream: &str,
        subject: &str,
        sequence: u64,
    ) -> Result<Option<Stored>, ReadError> {
        self.direct_get(stream, |get| get.next_by_subject(subject).sequence(sequence)).await
    }

    async fn direct_get(&self, stream: &str, what: impl Fn(Get) -> Get) -> Result<Option<Stored>, ReadError> {
        let handle =
            self.jetstream.get_stream_no_info(stream).await.map_err(|error| ReadError::new(&error))?;
        let mut failure = String::new();
        for _ in 0..DIRECT_GET_TRIES {
            let get = what(handle.direct_get_builder()).send();
            match tokio::time::timeout(DIRECT_GET_TIMEOUT, get).await {
                Ok(Ok(message)) => {
                    return Ok(Some(Stored {
                        subject: message.subject.to_string(),
                        sequence: message.sequence,
                        headers: headers(&message.headers),
                        payload: message.payload,
                        stored_at_ms: ms(message.time),
                    }));
                }
                Ok(Err(error)) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
                Ok(Err(error)) => {
                    // The error came at once (an election, no leader): pause, so that the loop does not spin.
                    failure = error.to_string();
                    tokio::time::sleep(DIRECT_GET_TIMEOUT / 3).await;
                }
                Err(_elapsed) => failure = "timed out".to_owned(),
            }
        }
        Err(ReadError::Unanswered(failure))
    }

    /// How far the durable `consumer` of `stream` has come.
    pub async fn consumer_state(&self, stream: &str, name: &str) -> Result<ConsumerState, ReadError> {
        let state = self.consumer_state_if_any(stream, name).await?;
        state.ok_or_else(|| ReadError::new(&"the consumer does not exist"))
    }

    /// The same; `None` if the consumer does not exist.
    pub async fn consumer_state_if_any(
        &self,
        stream: &str,
        name: &str,
    ) -> Result<Option<ConsumerState>, ReadError> {
        let info = self.ask::<consumer::Info>(&format!("CONSUMER.INFO.{stream}.{name}")).await?;
        Ok(info.map(|info| ConsumerState {
            ack_floor: info.ack_floor.stream_sequence,
            delivered: info.delivered.stream_sequence,
            delivered_count: info.delivered.consumer_sequence,
            ack_pending: info.num_ack_pending,
            not_delivered: info.num_pending,
        }))
    }

    /// Removes a message from a stream. Returns whether it existed.
    pub async fn remove(&self, stream: &str, sequence: u64) -> Result<bool, ReadError> {
        let handle =
            self.jetstream.get_stream_no_info(stream).await.map_err(|error| ReadError::new(&error))?;
        handle.delete_message(sequence).await.map_err(|error| ReadError::new(&error))
    }

    /// Removes what a subject has up to this sequence. Key-value buckets allow no other removal.
    pub async fn purge(&self, stream: &str, subject: &str, last: u64) -> Result<(), ReadError> {
        let handle =
            self.jetstream.get_stream_no_info(stream).await.map_err(|error| ReadError::new(&error))?;
        let purge = handle.purge().filter(subject).sequence(last + 1);
        let asked = format!("{}.STREAM.PURGE.{stream}", self.api);
        self.unless_refused(&asked, purge.into_future()).await.map(|_purged| ())
    }

    /// When the stream was created, in nanoseconds since the epoch. This identifies its incarnation. A server that does
    /// not answer is asked again, for a while.
    pub async fn stream_created(&self, stream: &str) -> Result<String, ReadError> {
        let state = (|| self.stream_state(stream)).retry(topology::patience()).await?;
        Ok(state.incarnation)
    }

    /// How many messages the stream holds.
    pub async fn count(&self, stream: &str) -> Result<u64, ReadError> {
        Ok(self.stream_info(stream).await?.state.messages)
    }

    /// How many replicas the stream has.
    pub async fn replicas(&self, stream: &str) -> Result<usize, ReadError> {
        let may_change = |error: &ReadError| !matches!(error, ReadError::Forbidden(_));
        let info = (|| self.stream_info(stream)).retry(topology::patience()).when(may_change).await?;
        Ok(info.config.num_replicas)
    }

    pub(super) async fn stream_info(&self, stream: &str) -> Result<stream::Info, ReadError> {
        let answer = self.ask(&format!("STREAM.INFO.{stream}")).await?;
        answer.ok_or_else(|| ReadError::new(&"the stream does not exist"))
    }

    /// Asks JetStream's API. `None` if the stream or consumer does not exist. The payload has to be empty:
    /// async-nats' own `request` would send a JSON `null`, which `CONSUMER.INFO` refuses.
    pub(super) async fn ask<T: DeserializeOwned>(&self, api: &str) -> Result<Option<T>, ReadError> {
        let subject = format!("{}.{api}", self.api);
        let request = self.client.request(subject.clone(), Bytes::new());
        let message = self.unless_refused(&subject, request).await;
        let answer = message.and_then(|message| {
            let read: Result<Response<T>, _> = serde_json::from_slice(&message.payload);
            read.map_err(|error| ReadError::new(&error))
        });
        match &answer {
            Err(ReadError::Unanswered(_)) => self.unanswered(Asked::State, None).await,
            // This node knows of nobody who leads the cluster.
            Ok(Response::Err { error }) if error.code() == 503 => self.unanswered(Asked::State, None).await,
            Ok(_) | Err(ReadError::Forbidden(_)) => self.answered(Asked::State),
        }
        match answer? {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.code() == 404 => Ok(None),
            Response::Err { error } => Err(ReadError::new(&error)),
        }
    }

    /// Waits for the answer to a request on `subject` or below it. A refused request gets none, so refusals are
    /// watched as well.
    pub(super) async fn unless_refused<T, E: std::fmt::Display>(
        &self,
        subject: &str,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ReadError> {
        let mut refusals = self.refusals.listen();
        tokio::select! {
            answer = answer => answer.map_err(|error| ReadError::new(&error)),
            why = refusals.refused(subject) => Err(ReadError::Forbidden(why)),
        }
    }

    /// Receives every message on `subject` as it passes, before it is stored. It is a hint, never a proof.
    pub async fn wakes(&self, subject: &str) -> Result<Wakes, ReadError> {
        let subscriber =
            self.client.subscribe(subject.to_owned()).await.map_err(|error| ReadError::new(&error))?;
        Ok(Wakes(subscriber))
    }
}

/// A core subscription: see [`Bus::wakes`].
#[derive(Debug)]
pub struct Wakes(async_nats::Subscriber);

impl Wakes {
    /// The subject and the headers of the next message; `None` when the connection is closed for good.
    pub async fn next(&mut self) -> Option<(String, Headers)> {
        let message = self.0.next().await?;
        Some((message.subject.to_string(), message.headers.as_ref().map(headers).unwrap_or_default()))
    }
}

pub(super) fn ms(time: time::OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// The first value of each header.
pub(super) fn headers(map: &async_nats::HeaderMap) -> Headers {
    map.iter().filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_alone_if_none_other_is_in_flight_and_all_before_it_were_delivered() {
        for (delivered, ack_pending, alone) in
            [(7, 1, true), (9, 1, true), (6, 1, false), (7, 2, false), (7, 0, false)]
        {
            let state = ConsumerState { ack_floor: 3, delivered, ack_pending, ..ConsumerState::default() };
            assert_eq!(state.is_alone(7), alone, "{state:?}");
        }
    }
}
