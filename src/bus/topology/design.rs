//! The design of the streams, buckets and consumers.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    kv,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};

use super::{EDGE_MAX_ACK_PENDING, Role, Settings};
use crate::wire::{Account, Subjects};

pub(in crate::bus) fn streams(subjects: &Subjects, settings: &Settings) -> [stream::Config; 3] {
    let short = Duration::from_secs(120);
    let config = |name: String, subject: String, max_age: Duration, max_bytes: Option<u64>| stream::Config {
        name,
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        // A full stream must refuse new messages and never drop those that it holds, whatever its limit is.
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

pub(in crate::bus) fn buckets(subjects: &Subjects, settings: &Settings, role: Role<'_>) -> Vec<kv::Config> {
    // Leases do not expire: the edges' own clocks say when one is over. A mark is of use only as long as its message is
    // kept. Who wants nothing unasked has not changed their mind because time has passed.
    let of_role = match role {
        Role::Forwarder => (subjects.bucket_attempts(), settings.in_max_age),
        Role::Edge(_) | Role::Pool => (subjects.bucket_leases(), Duration::ZERO),
    };
    let opt_outs =
        (settings.opt_outs && role.is_edge()).then(|| (subjects.bucket_opt_outs(), Duration::ZERO));
    let accounts = (role == Role::Pool).then(|| (subjects.bucket_accounts(), Duration::ZERO));
    let config = |(bucket, max_age)| kv::Config {
        bucket,
        history: 1,
        max_age,
        num_replicas: settings.replicas,
        ..Default::default()
    };
    [of_role].into_iter().chain(opt_outs).chain(accounts).map(config).collect()
}

/// The stream behind the bucket of files, as object stores have it. `None`: the role needs none.
pub(in crate::bus) fn media(
    subjects: &Subjects,
    settings: &Settings,
    role: Role<'_>,
) -> Option<stream::Config> {
    let media = settings.media.filter(|_| role.is_edge())?;
    Some(stream::Config {
        name: subjects.stream_media(),
        subjects: subjects.all_media().into(),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        max_age: settings.in_max_age,
        max_bytes: media.max_bytes.map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        duplicate_window: Duration::from_secs(120).min(settings.in_max_age),
        num_replicas: settings.replicas,
        allow_direct: true,
        // A description takes the place of the one before.
        allow_rollup: true,
        ..Default::default()
    })
}

/// The stream of sessions: the last message of each slot of a ring. `None`: the role needs none.
pub(in crate::bus) fn sessions(
    subjects: &Subjects,
    settings: &Settings,
    role: Role<'_>,
) -> Option<stream::Config> {
    (settings.sessions && role.is_edge()).then(|| stream::Config {
        name: subjects.stream_session(),
        subjects: vec![subjects.all_sessions()],
        retention: RetentionPolicy::Limits,
        // A slot's new record takes the place of the old one. No limit in bytes: on several servers a full stream
        // would refuse even that.
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        allow_direct: true,
        duplicate_window: Duration::from_secs(120),
        // Who removes a record removes a part of a session.
        deny_delete: true,
        deny_purge: true,
        ..Default::default()
    })
}

/// A role's consumer, and its stream. `None`: it needs none.
pub(in crate::bus) fn consumer(
    subjects: &Subjects,
    settings: &Settings,
    role: Role<'_>,
) -> Option<(String, pull::Config)> {
    match role {
        Role::Forwarder => Some((subjects.stream_in(), forwarder(subjects, settings))),
        Role::Edge(account) => Some((subjects.stream_out(), edge(subjects, settings, account))),
        Role::Pool => None,
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
