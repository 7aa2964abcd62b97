//! Streams and consumers: made, compared, or left alone.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{
        AckPolicy, Config as ConsumerConfig, DeliverPolicy, Info as ConsumerInfo, PullConsumer, pull,
    },
    kv,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use backon::{ExponentialBuilder, Retryable};

use super::{Bus, ReadError};
use crate::wire::{Account, Subjects};

/// How many replies may be delivered to an edge and not acknowledged.
pub const EDGE_MAX_ACK_PENDING: usize = 10_000;

/// What to do about streams and consumers at the start (`NATS_PROVISION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// Create what is missing; never change what exists.
    Create,
    /// Create nothing; refuse to start on any difference.
    Verify,
    /// Look at nothing.
    Off,
}

/// The numbers of the design that an operator may change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to do.
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
    /// Within what time a message that WhatsApp hands over again is recognised.
    pub duplicate_window: Duration,
    /// After what silence a forwarder's message goes to another one.
    pub forwarder_ack_wait: Duration,
    /// After what silence an edge's message is delivered again.
    pub edge_ack_wait: Duration,
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
    /// A promise does not hold with it.
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
#[derive(Debug, Clone, Copy)]
pub enum Role<'a> {
    /// The shared consumer on `WA_IN`, and the bucket of attempts.
    Forwarder,
    /// The account's consumer on `WA_OUT`, and the bucket of leases.
    Edge(&'a Account),
}

impl Bus {
    /// Makes sure of the streams and of the role's consumer and bucket.
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
        self.ensure_bucket(settings, bucket(subjects, settings, role)).await?;
        let (stream, want) = consumer(subjects, settings, role);
        self.ensure_consumer(settings, &stream, want).await
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

/// Right after a cluster's start its API may not answer yet, and nor does a server that is stuck for a while.
pub(super) fn patience() -> ExponentialBuilder {
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
            "NATS is set up differently from the settings; it stays as it is"
        );
    }
    Ok(())
}

pub(super) fn streams(subjects: &Subjects, settings: &Settings) -> [stream::Config; 3] {
    let short = Duration::from_secs(120);
    let config = |name: String, subject: String, max_age: Duration, max_bytes: Option<u64>| stream::Config {
        name,
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        // Whatever limit it has or gets: a full stream must refuse what is new, never drop what it holds.
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        max_age,
        max_bytes: max_bytes.map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        duplicate_window: short.min(max_age),
        num_replicas: settings.replicas,
        allow_direct: true,
        ..Default::default()
    };
    let inbound = config(subjects.stream_in(), subjects.all_in(), settings.in_max_age, settings.in_max_bytes);
    [
        stream::Config { duplicate_window: settings.duplicate_window.min(settings.in_max_age), ..inbound },
        config(subjects.stream_out(), subjects.all_out(), settings.out_max_age, settings.out_max_bytes),
        config(subjects.stream_dlq(), subjects.all_dlq(), settings.dlq_max_age, settings.dlq_max_bytes),
    ]
}

pub(super) fn bucket(subjects: &Subjects, settings: &Settings, role: Role<'_>) -> kv::Config {
    // Leases do not expire, the edges' own clocks say when one is over. A mark is of use as long as its
    // message.
    let (bucket, max_age) = match role {
        Role::Forwarder => (subjects.bucket_attempts(), settings.in_max_age),
        Role::Edge(_) => (subjects.bucket_leases(), Duration::ZERO),
    };
    kv::Config { bucket, history: 1, max_age, num_replicas: settings.replicas, ..Default::default() }
}

/// A role's consumer, and the stream that it is on.
pub(super) fn consumer(subjects: &Subjects, settings: &Settings, role: Role<'_>) -> (String, pull::Config) {
    match role {
        Role::Forwarder => (subjects.stream_in(), forwarder(subjects, settings)),
        Role::Edge(account) => (subjects.stream_out(), edge(subjects, settings, account)),
    }
}

fn forwarder(subjects: &Subjects, settings: &Settings) -> pull::Config {
    pull::Config {
        durable_name: Some(subjects.consumer_forwarder()),
        filter_subject: subjects.all_messages(),
        ack_wait: settings.forwarder_ack_wait,
        max_ack_pending: 100_000,
        max_waiting: 2_048,
        ..common()
    }
}

fn edge(subjects: &Subjects, settings: &Settings, account: &Account) -> pull::Config {
    pull::Config {
        durable_name: Some(subjects.consumer_edge(account)),
        filter_subject: subjects.out_of(account),
        ack_wait: settings.edge_ack_wait,
        max_ack_pending: i64::try_from(EDGE_MAX_ACK_PENDING).unwrap_or(i64::MAX),
        ..common()
    }
}

fn common() -> pull::Config {
    pull::Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        ..Default::default()
    }
}

struct Comparison {
    owner: String,
    differences: Vec<Difference>,
}

impl Comparison {
    fn field<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        want: &T,
        got: &T,
        breaks_a_promise: bool,
    ) {
        if want != got {
            self.differences.push(Difference {
                what: format!("{}.{name}", self.owner),
                want: format!("{want:?}"),
                got: format!("{got:?}"),
                breaks_a_promise,
            });
        }
    }
}

pub(super) fn stream_differences(want: &stream::Config, got: &stream::Config) -> Vec<Difference> {
    let mut c = Comparison { owner: want.name.clone(), differences: Vec::new() };
    c.field("subjects", &want.subjects, &got.subjects, true);
    c.field("retention", &want.retention, &got.retention, true);
    c.field("storage", &want.storage, &got.storage, true);
    c.field("allow_direct", &want.allow_direct, &got.allow_direct, true);
    c.field("no_ack", &want.no_ack, &got.no_ack, true);
    c.field("max_age", &want.max_age, &got.max_age, false);
    // A message that WhatsApp hands over again is recognised for this long, and answered for no longer.
    let shorter = got.duplicate_window < want.duplicate_window;
    c.field("duplicate_window", &want.duplicate_window, &got.duplicate_window, shorter);
    c.field("num_replicas", &want.num_replicas, &got.num_replicas, false);
    c.field("max_bytes", &limit(want.max_bytes), &limit(got.max_bytes), false);
    // Without any limit there is nothing to discard.
    if limit(got.max_bytes) != Limit(None) || limit(got.max_messages) != Limit(None) {
        c.field("discard", &want.discard, &got.discard, true);
    }
    // A subject's old messages go, whatever is discarded of the stream.
    if !got.discard_new_per_subject {
        c.field("max_messages_per_subject", &Limit(None), &limit(got.max_messages_per_subject), true);
    }
    c.differences
}

/// A limit, as people read it.
#[derive(PartialEq)]
struct Limit(Option<i64>);

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("no limit"),
        }
    }
}

/// Servers say of none that it is -1, or 0.
fn limit(limit: i64) -> Limit {
    Limit(Some(limit).filter(|limit| *limit > 0))
}

/// Outcomes have to outlive what they answer. An age of zero is for ever.
pub(super) fn age_differences(subjects: &Subjects, ages: &[Duration]) -> Vec<Difference> {
    let [inbound, outbound, ..] = ages else { return Vec::new() };
    let outlives = outbound.is_zero() || (!inbound.is_zero() && outbound > inbound);
    let difference = Difference {
        what: format!("{}.max_age", subjects.stream_out()),
        want: format!("more than {}'s, {inbound:?}", subjects.stream_in()),
        got: format!("{outbound:?}"),
        breaks_a_promise: true,
    };
    if outlives { Vec::new() } else { vec![difference] }
}

pub(super) fn consumer_differences(
    stream: &str,
    want: &pull::Config,
    got: &ConsumerConfig,
) -> Vec<Difference> {
    let name = want.durable_name.clone().unwrap_or_default();
    let mut c = Comparison { owner: format!("{stream}/{name}"), differences: Vec::new() };
    c.field("filter_subject", &want.filter_subject, &got.filter_subject, true);
    c.field("ack_policy", &want.ack_policy, &got.ack_policy, true);
    c.field("deliver_policy", &want.deliver_policy, &got.deliver_policy, true);
    c.field("max_deliver", &want.max_deliver, &got.max_deliver, true);
    c.field("backoff", &want.backoff, &got.backoff, true);
    c.field("ack_wait", &want.ack_wait, &got.ack_wait, false);
    c.field("max_ack_pending", &want.max_ack_pending, &got.max_ack_pending, false);
    c.differences
}

#[cfg(test)]
#[path = "topology_nack_tests.rs"]
mod nack_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(provision: Provision) -> Settings {
        Settings {
            provision,
            replicas: 1,
            in_max_age: Duration::from_secs(7 * 86_400),
            out_max_age: Duration::from_secs(8 * 86_400),
            dlq_max_age: Duration::from_secs(30 * 86_400),
            in_max_bytes: None,
            out_max_bytes: None,
            dlq_max_bytes: None,
            duplicate_window: Duration::from_secs(86_400),
            forwarder_ack_wait: Duration::from_secs(15),
            edge_ack_wait: Duration::from_secs(30),
        }
    }

    #[test]
    fn a_difference_that_breaks_a_promise_is_refused_in_every_mode() {
        let subjects = Subjects::new("wa").unwrap();
        let [want, ..] = streams(&subjects, &settings(Provision::Create));
        let got = stream::Config { retention: RetentionPolicy::WorkQueue, ..want.clone() };
        let differences = stream_differences(&want, &got);
        let error = judge(&settings(Provision::Create), differences).unwrap_err().to_string();
        assert!(error.contains("WA_IN.retention: is WorkQueue, must be Limits"), "{error}");
    }

    #[test]
    fn a_harmless_difference_is_refused_by_verify_only() {
        let subjects = Subjects::new("wa").unwrap();
        let [want, ..] = streams(&subjects, &settings(Provision::Create));
        let got = stream::Config { max_age: Duration::from_secs(1), ..want.clone() };
        assert!(judge(&settings(Provision::Create), stream_differences(&want, &got)).is_ok());
        assert!(judge(&settings(Provision::Verify), stream_differences(&want, &got)).is_err());
    }

    #[test]
    fn a_limit_is_harmless_unless_old_messages_are_dropped_for_it() {
        let subjects = Subjects::new("wa").unwrap();
        let [want, ..] = streams(&subjects, &settings(Provision::Create));
        let breaks = |got: stream::Config| -> Vec<(String, bool)> {
            let found = stream_differences(&want, &got).into_iter();
            found.map(|found| (found.what, found.breaks_a_promise)).collect()
        };
        let old = stream::Config { discard: DiscardPolicy::Old, max_bytes: -1, ..want.clone() };
        assert_eq!(breaks(old.clone()), [], "nothing is ever discarded");
        let max_bytes = || ("WA_IN.max_bytes".to_owned(), false);
        assert_eq!(breaks(stream::Config { max_bytes: 1 << 20, ..want.clone() }), [max_bytes()]);
        let discard = ("WA_IN.discard".to_owned(), true);
        assert_eq!(
            breaks(stream::Config { max_bytes: 1 << 20, ..old.clone() }),
            [max_bytes(), discard.clone()]
        );
        assert_eq!(breaks(stream::Config { max_messages: 1_000, ..old }), [discard]);
        let per_subject = ("WA_IN.max_messages_per_subject".to_owned(), true);
        assert_eq!(breaks(stream::Config { max_messages_per_subject: 1, ..want.clone() }), [per_subject]);
    }

    #[test]
    fn outcomes_outlive_what_they_answer() {
        let subjects = Subjects::new("wa").unwrap();
        let [inbound, outbound, _] = streams(&subjects, &settings(Provision::Create));
        assert!(outbound.max_age > inbound.max_age);
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        for (inbound, outbound, fine) in [(7, 8, true), (8, 8, false), (0, 8, false), (7, 0, true)] {
            let found = age_differences(&subjects, &[hours(inbound), hours(outbound)]);
            assert_eq!(found.is_empty(), fine, "{inbound} {outbound}");
        }
    }
}
