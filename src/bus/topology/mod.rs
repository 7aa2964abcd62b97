//! Creates or compares streams and consumers, or leaves them alone. `design` has them as they must be. `differences`
//! says which difference breaks a promise.

mod design;
mod differences;

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{Info as ConsumerInfo, PullConsumer, pull},
    kv, stream,
};
use backon::{ExponentialBuilder, Retryable};
use futures::future::BoxFuture;

use super::{Bus, ReadError};
use crate::wire::{Account, Subjects};
pub(super) use design::{buckets, consumer, media, sessions, streams};
pub(super) use differences::{age_differences, consumer_differences, stream_differences};

/// How many replies may be delivered to an edge and not acknowledged.
pub const EDGE_MAX_ACK_PENDING: usize = 10_000;

/// What to do about streams and consumers at the start (`NATS_PROVISION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// Create what is missing; never change what exists.
    Create,
    /// Create nothing; refuse to start on any difference.
    Verify,
    /// Check nothing.
    Off,
}

/// The numbers of the design that an operator may change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Create, verify, or neither.
    pub provision: Provision,
    /// Copies of each stream and consumer.
    pub replicas: usize,
    /// How long inbound messages are kept.
    pub in_max_age: Duration,
    /// How long outcomes are kept; always longer than inbound messages.
    pub out_max_age: Duration,
    /// How long dead letters are kept.
    pub dlq_max_age: Duration,
    /// How many bytes of inbound messages are kept at most.
    pub in_max_bytes: Option<u64>,
    /// How many bytes of outcomes are kept at most.
    pub out_max_bytes: Option<u64>,
    /// How many bytes of dead letters are kept at most.
    pub dlq_max_bytes: Option<u64>,
    /// The bucket of files; `None`: there is none.
    pub media: Option<Media>,
    /// There is a bucket of who wants nothing unasked.
    pub opt_outs: bool,
    /// There is a stream of sessions.
    pub sessions: bool,
    /// For how long a message that WhatsApp delivers again is recognised.
    pub duplicate_window: Duration,
    /// The ack wait of forwarders: after this silence, another forwarder gets the message.
    pub forwarder_ack_wait: Duration,
    /// The ack wait of edges: after this silence, the message is delivered again.
    pub edge_ack_wait: Duration,
}

/// The bucket of files. They are kept as long as inbound messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media {
    /// How many bytes are kept at most.
    pub max_bytes: Option<u64>,
    /// Files are sent as well: the edge reads the bucket.
    pub sends: bool,
}

/// Why the streams are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Something differs from the design.
    #[error("NATS is not set up as this connector needs it:\n{}", list(.0))]
    Differs(Vec<Difference>),
    /// Something is missing and may not be created.
    #[error(
        "{what} does not exist, and NATS_PROVISION={mode} creates nothing. Run `whatsapp-connector provision`, or start once with NATS_PROVISION=create"
    )]
    Missing {
        /// Which stream or consumer.
        what: String,
        /// The mode in force.
        mode: &'static str,
    },
    /// The server refused or did not answer.
    #[error("{what} cannot be set up: {why}")]
    Failed {
        /// Which stream or consumer.
        what: String,
        /// The server's words.
        why: String,
    },
}

/// One setting that is not as designed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Stream or consumer, and the field.
    pub what: String,
    /// As designed.
    pub want: String,
    /// As found.
    pub got: String,
    /// The difference breaks a promise.
    pub breaks_a_promise: bool,
}

fn list(differences: &[Difference]) -> String {
    differences
        .iter()
        .map(|d| format!("  {}: is {}, must be {}", d.what, d.got, d.want))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Which consumers and buckets a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// The shared consumer on `WA_IN`, and the bucket of attempts.
    Forwarder,
    /// The account's consumer on `WA_OUT`, the bucket of leases, and that of who wants nothing unasked.
    Edge(&'a Account),
    /// The same buckets, and that of the accounts. The consumers come with the accounts.
    Pool,
}

impl Role<'_> {
    /// Does it work for accounts?
    pub(super) fn is_edge(self) -> bool {
        matches!(self, Self::Edge(_) | Self::Pool)
    }
}

impl Bus {
    /// Makes sure of the streams and of the role's consumer and buckets.
    pub async fn ensure(
        &self,
        subjects: &Subjects,
        settings: &Settings,
        role: Role<'_>,
    ) -> Result<(), TopologyError> {
        if settings.provision == Provision::Off {
            return Ok(());
        }
        let mut ages = Vec::new();
        for want in streams(subjects, settings) {
            ages.push(self.ensure_stream(settings, want).await?.max_age);
        }
        judge(settings, age_differences(subjects, &ages))?;
        if let Some(want) = media(subjects, settings, role) {
            self.ensure_stream(settings, want).await?;
        }
        if let Some(want) = sessions(subjects, settings, role) {
            self.ensure_stream(settings, want).await?;
        }
        for want in buckets(subjects, settings, role) {
            self.ensure_bucket(settings, want).await?;
        }
        match consumer(subjects, settings, role) {
            Some((stream, want)) => self.ensure_consumer(settings, &stream, want).await,
            None => Ok(()),
        }
    }

    /// Makes sure of an account's consumer, where all else is as it must be.
    pub fn ensure_edge<'a>(
        &'a self,
        subjects: &Subjects,
        settings: &'a Settings,
        account: &Account,
    ) -> BoxFuture<'a, Result<(), TopologyError>> {
        let wanted = consumer(subjects, settings, Role::Edge(account));
        Box::pin(async move {
            match wanted {
                Some((stream, want)) if settings.provision != Provision::Off => {
                    self.ensure_consumer(settings, &stream, want).await
                }
                _ => Ok(()),
            }
        })
    }

    async fn ensure_stream(
        &self,
        settings: &Settings,
        want: stream::Config,
    ) -> Result<stream::Config, TopologyError> {
        let what = format!("stream {}", want.name);
        let failed = |why: String| TopologyError::Failed { what: what.clone(), why };
        let api = format!("STREAM.INFO.{}", want.name);
        let ask = || self.ask::<stream::Info>(&api);
        let found = patiently(ask).await.map_err(&failed)?;
        let info = match found {
            Some(info) => info,
            None if settings.provision == Provision::Create => {
                tracing::info!(stream = want.name, "creating the stream");
                let make = || Box::pin(self.making(self.jetstream.get_or_create_stream(want.clone())));
                patiently(make).await.map_err(&failed)?.cached_info().clone()
            }
            None => return Err(TopologyError::Missing { what, mode: "verify" }),
        };
        judge(settings, stream_differences(&want, &info.config))?;
        Ok(info.config)
    }

    /// A key-value bucket of one value a key.
    async fn ensure_bucket(&self, settings: &Settings, want: kv::Config) -> Result<(), TopologyError> {
        let bucket = &want.bucket;
        let what = format!("key-value bucket {bucket}");
        let failed = |why: String| TopologyError::Failed { what: what.clone(), why };
        let api = format!("STREAM.INFO.KV_{bucket}");
        if patiently(|| self.ask::<stream::Info>(&api)).await.map_err(&failed)?.is_some() {
            return Ok(());
        }
        if settings.provision == Provision::Verify {
            return Err(TopologyError::Missing { what, mode: "verify" });
        }
        tracing::info!(bucket, "creating the key-value bucket");
        let make = || Box::pin(self.making(self.jetstream.create_key_value(want.clone())));
        patiently(make).await.map(|_store| ()).map_err(failed)
    }

    async fn ensure_consumer(
        &self,
        settings: &Settings,
        stream: &str,
        want: pull::Config,
    ) -> Result<(), TopologyError> {
        let name = want.durable_name.clone().unwrap_or_default();
        let what = format!("consumer {name} on {stream}");
        let failed = |why: String| TopologyError::Failed { what: what.clone(), why };
        let api = format!("CONSUMER.INFO.{stream}.{name}");
        let ask = || self.ask::<ConsumerInfo>(&api);
        let info = match patiently(ask).await.map_err(&failed)? {
            Some(info) => info,
            None if settings.provision == Provision::Create => {
                tracing::info!(consumer = name, stream, "creating the consumer");
                let make =
                    || Box::pin(self.making(self.jetstream.create_consumer_on_stream(want.clone(), stream)));
                let made: PullConsumer = patiently(make).await.map_err(&failed)?;
                made.cached_info().clone()
            }
            None => return Err(TopologyError::Missing { what, mode: "verify" }),
        };
        judge(settings, consumer_differences(stream, &want, &info.config))
    }
}

impl Bus {
    async fn making<T, E: std::fmt::Display>(
        &self,
        request: impl IntoFuture<Output = Result<T, E>>,
    ) -> Result<T, ReadError> {
        self.unless_refused(&self.api, request.into_future()).await
    }
}

/// Asks again for a while: right after a cluster's start its API may not answer yet, and a server may be stuck.
pub fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(10)
}

async fn patiently<T, F, Fut>(ask: F) -> Result<T, String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ReadError>>,
{
    let may_change = |error: &ReadError| !matches!(error, ReadError::Forbidden(_));
    ask.retry(patience()).when(may_change).await.map_err(|error| error.to_string())
}

fn judge(settings: &Settings, differences: Vec<Difference>) -> Result<(), TopologyError> {
    let refuse = |d: &Difference| d.breaks_a_promise || settings.provision == Provision::Verify;
    if differences.iter().any(refuse) {
        return Err(TopologyError::Differs(differences));
    }
    for d in differences {
        tracing::warn!(
            what = d.what,
            got = d.got,
            want = d.want,
            "NATS is set up differently from the settings; nothing is changed"
        );
    }
    Ok(())
}

#[cfg(test)]
mod nack_tests;
