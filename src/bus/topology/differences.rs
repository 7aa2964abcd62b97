//! Compares what exists with the design, and says which differences break a promise. Pure.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{Config as ConsumerConfig, pull},
    stream,
};

use super::{Difference, EDGE_MAX_ACK_PENDING};
use crate::wire::Subjects;

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

pub(in crate::bus) fn stream_differences(want: &stream::Config, got: &stream::Config) -> Vec<Difference> {
    let mut c = Comparison { owner: want.name.clone(), differences: Vec::new() };
    c.field("subjects", &want.subjects, &got.subjects, true);
    c.field("retention", &want.retention, &got.retention, true);
    c.field("storage", &want.storage, &got.storage, true);
    c.field("allow_direct", &want.allow_direct, &got.allow_direct, true);
    if want.allow_rollup {
        c.field("allow_rollup_hdrs", &want.allow_rollup, &got.allow_rollup, true);
    }
    c.field("no_ack", &want.no_ack, &got.no_ack, true);
    c.field("max_age", &want.max_age, &got.max_age, false);
    // A message that WhatsApp delivers again is recognised for this long, and is not answered after that.
    let shorter = got.duplicate_window < want.duplicate_window;
    c.field("duplicate_window", &want.duplicate_window, &got.duplicate_window, shorter);
    c.field("num_replicas", &want.num_replicas, &got.num_replicas, false);
    c.field("max_bytes", &limit(want.max_bytes), &limit(got.max_bytes), false);
    if want.deny_purge {
        c.field("deny_delete", &want.deny_delete, &got.deny_delete, false);
        c.field("deny_purge", &want.deny_purge, &got.deny_purge, false);
    }
    // Without any limit there is nothing to discard.
    if limit(got.max_bytes) != Limit(None) || limit(got.max_messages) != Limit(None) {
        c.field("discard", &want.discard, &got.discard, true);
    }
    if want.max_messages_per_subject > 0 {
        let (want, got) = (limit(want.max_messages_per_subject), limit(got.max_messages_per_subject));
        c.field("max_messages_per_subject", &want, &got, true);
    } else if !got.discard_new_per_subject {
        // This limit removes a subject's old messages, whatever the stream's discard policy is.
        c.field("max_messages_per_subject", &Limit(None), &limit(got.max_messages_per_subject), true);
    }
    c.differences
}

/// A limit, for people.
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

/// For "no limit", servers say -1 or 0.
fn limit(limit: i64) -> Limit {
    Limit(Some(limit).filter(|limit| *limit > 0))
}

/// Outcomes have to be kept longer than the messages that they answer. An age of zero means for ever.
pub(in crate::bus) fn age_differences(subjects: &Subjects, ages: &[Duration]) -> Vec<Difference> {
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

pub(in crate::bus) fn consumer_differences(
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
    // Of the forwarders' an operator may raise it (-1: no limit), and then more can wait. An edge counts on its own.
    let is_edges = want.max_ack_pending == i64::try_from(EDGE_MAX_ACK_PENDING).unwrap_or(i64::MAX);
    if is_edges || (0..want.max_ack_pending).contains(&got.max_ack_pending) {
        c.field("max_ack_pending", &want.max_ack_pending, &got.max_ack_pending, false);
    }
    c.differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::topology::design::{consumer, streams};
    use crate::bus::topology::{Provision, Role, Settings, judge};
    use crate::wire::Account;
    use async_nats::jetstream::consumer::IntoConsumerConfig as _;
    use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy};

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
            media: None,
            opt_outs: false,
            sessions: false,
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
    fn more_may_be_in_flight_than_designed_with_forwarders_only() {
        let subjects = Subjects::new("wa").unwrap();
        let edge = Account::parse("default").unwrap();
        let found = |role: Role<'_>, max_ack_pending: i64| {
            let (stream, want) = consumer(&subjects, &settings(Provision::Create), role).unwrap();
            let got = pull::Config { max_ack_pending, ..want.clone() };
            consumer_differences(&stream, &want, &got.into_consumer_config()).len()
        };
        for (more, forwarders, edges) in
            [(100_000, 0, 1), (1_000_000, 0, 1), (-1, 0, 1), (10_000, 1, 0), (1_000, 1, 1)]
        {
            assert_eq!(found(Role::Forwarder, more), forwarders, "{more}");
            assert_eq!(found(Role::Edge(&edge), more), edges, "{more}");
        }
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
