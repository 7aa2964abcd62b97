//! The NACK manifests are what `provision` makes.

use std::path::PathBuf;

use serde::Deserialize as _;
use serde_json::{Value, json};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy, StorageType};

use super::*;

/// The resources in a file of `deploy/nats/nack`.
fn resources(file: &str, kind: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/nats/nack").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let all: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    for resource in &all {
        assert_eq!(resource["apiVersion"], "jetstream.nats.io/v1beta2");
        assert_eq!(resource["kind"], kind);
        assert!(resource["metadata"]["name"].is_string());
    }
    all.into_iter().map(|resource| resource["spec"].clone()).collect()
}

fn defaults() -> (Subjects, Settings, Account) {
    let none = std::iter::empty::<(String, String)>();
    let config = crate::config::Config::parse(&crate::config::Environment::of([], none)).unwrap();
    let settings = Settings { replicas: 3, ..config.topology };
    (config.subjects, settings, config.edge.account)
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{}h", seconds / 3600),
        (_, 0) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// What is left of a configuration when the fields that a manifest names are taken away must be the default: a
/// manifest that leaves out what `provision` sets is not equal.
#[test]
fn the_nack_manifests_are_what_provision_makes() {
    let (subjects, settings, account) = defaults();
    let wanted = streams(&subjects, &settings).map(|want| {
        let named = stream::Config {
            name: want.name.clone(),
            subjects: want.subjects.clone(),
            max_age: want.max_age,
            duplicate_window: want.duplicate_window,
            num_replicas: 3,
            allow_direct: true,
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            ..Default::default()
        };
        assert_eq!(want, named, "a field that the manifests do not name");
        json!({
            "name": want.name, "subjects": want.subjects, "retention": "limits", "discard": "new", "storage": "file",
            "maxAge": duration(want.max_age), "duplicateWindow": duration(want.duplicate_window), "replicas": 3,
            "allowDirect": true, "preventDelete": true,
        })
    });
    assert_eq!(resources("streams.yaml", "Stream"), wanted);

    let settings = Settings { opt_outs: true, ..settings };
    let wanted =
        [Role::Edge(&account), Role::Pool, Role::Forwarder].map(|role| buckets(&subjects, &settings, role));
    let mut named = std::collections::BTreeSet::new();
    let wanted: Vec<_> = wanted
        .into_iter()
        .flatten()
        .filter(|want| named.insert(want.bucket.clone()))
        .map(|want| {
            let mut spec =
                json!({ "bucket": want.bucket, "history": want.history, "storage": "file", "replicas": 3 });
            if !want.max_age.is_zero() {
                spec["ttl"] = duration(want.max_age).into();
            }
            assert_eq!((want.storage, want.num_replicas), (StorageType::File, 3));
            spec
        })
        .collect();
    assert_eq!(resources("buckets.yaml", "KeyValue"), wanted);

    let both =
        [Role::Forwarder, Role::Edge(&account)].map(|role| consumer(&subjects, &settings, role).unwrap());
    let wanted: Vec<Value> = both.iter().map(|(stream, want)| {
        let named = pull::Config {
            durable_name: want.durable_name.clone(),
            filter_subject: want.filter_subject.clone(),
            ack_wait: want.ack_wait,
            max_ack_pending: want.max_ack_pending,
            max_waiting: want.max_waiting,
            max_deliver: -1,
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ..Default::default()
        };
        assert_eq!(want, &named, "a field that the manifests do not name");
        let mut spec = json!({
            "streamName": stream, "durableName": want.durable_name, "filterSubject": want.filter_subject,
            "deliverPolicy": "all", "ackPolicy": "explicit", "ackWait": duration(want.ack_wait), "maxDeliver": -1,
            "maxAckPending": want.max_ack_pending, "replayPolicy": "instant",
        });
        if want.max_waiting != 0 {
            spec["maxWaiting"] = want.max_waiting.into();
        }
        spec
    }).collect();
    assert_eq!(resources("consumers.yaml", "Consumer"), wanted);
}

#[test]
fn the_nack_manifest_of_the_bucket_of_files_is_what_provision_makes() {
    let (subjects, settings, account) = defaults();
    let files = Settings { media: Some(Media { max_bytes: None, sends: true }), ..settings };
    let want = media(&subjects, &files, Role::Edge(&account)).unwrap();
    let named = stream::Config {
        name: want.name.clone(),
        subjects: want.subjects.clone(),
        max_age: want.max_age,
        num_replicas: 3,
        // What every object store has.
        allow_direct: true,
        allow_rollup: true,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(120),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        ..Default::default()
    };
    assert_eq!(want, named, "a field that the manifest does not name");
    let bucket = json!({
        "bucket": subjects.bucket_media(), "ttl": duration(want.max_age), "storage": "file", "replicas": 3,
    });
    assert_eq!(resources("files.yaml", "ObjectStore"), [bucket]);
}

#[test]
fn the_nack_manifest_of_the_stream_of_sessions_is_what_provision_makes() {
    let (subjects, settings, account) = defaults();
    let settings = Settings { sessions: true, ..settings };
    let want = sessions(&subjects, &settings, Role::Edge(&account)).unwrap();
    let named = stream::Config {
        name: want.name.clone(),
        subjects: want.subjects.clone(),
        max_messages_per_subject: 1,
        num_replicas: 3,
        allow_direct: true,
        deny_delete: true,
        deny_purge: true,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(120),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        ..Default::default()
    };
    assert_eq!(want, named, "a field that the manifest does not name");
    let wanted = json!({
        "name": want.name, "subjects": want.subjects, "retention": "limits", "discard": "new", "storage": "file",
        "maxMsgsPerSubject": 1, "duplicateWindow": "2m", "replicas": 3, "allowDirect": true, "denyDelete": true,
        "denyPurge": true, "preventDelete": true,
    });
    assert_eq!(resources("sessions.yaml", "Stream"), [wanted]);
}
