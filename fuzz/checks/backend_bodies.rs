//! The assistant's answers: the first two bytes are a status, the rest is a body.

use std::time::Duration;

use prost::Message as _;
use whatsapp_connector::edge::job::Job;
use whatsapp_connector::forwarder::backend::{Answer, Failure, Reply};
use whatsapp_connector::forwarder::policy::{Class, class, probe_delay, retry_delay};
use whatsapp_connector::wire::v1::{self, Outcome, outcome};
use whatsapp_connector::wire::{Envelope, Headers, Subjects, visible};

pub fn check(bytes: &[u8]) {
    if let Some((status, rest)) = bytes.split_first_chunk() {
        refused(u16::from_le_bytes(*status), rest.len());
    }
    let body = bytes.get(2..).unwrap_or_default();
    let Some(reply) = Reply::read(body) else { return bad(body) };
    assert_eq!(body.trim_ascii_start().first(), Some(&b'{'));
    let offers = reply.buttons.all.len() + reply.list_items.all.len();
    let says_something = visible::is_any(&reply.text) || offers > 0;
    match class(Ok(Answer::Reply(Box::new(reply.clone())))) {
        Class::Answered(same) => assert!(says_something && *same == reply),
        class => assert!(!says_something && class == Class::Silent),
    }
    sent(reply);
}

/// No status stops everything for good, and no wait is longer than 30 s.
fn refused(code: u16, seconds: usize) {
    let longest = Duration::from_secs(30);
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).wrapping_mul(u64::MAX / 3));
    for retry_after in [None, Some(seconds)] {
        let class = class(Ok(Answer::Status { code, retry_after }));
        let [name, reason] = class.codes();
        assert!(["unavailable", "failed", "rejected"].contains(&name), "{name}");
        assert_eq!(reason, format!("http-{code}"));
        let probe = probe_delay(code.into(), retry_after);
        assert!((Duration::from_millis(250)..=longest).contains(&probe), "{probe:?}");
    }
    assert!(retry_delay(code.into(), f64::from(code) - 1.0) <= longest);
}

/// A body is refused for a reason: it is no object, or what the contract knows of it is of another kind.
fn bad(body: &[u8]) {
    assert_eq!(class(Err(Failure::NotJson)).codes(), ["failed", "bad-body"]);
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(body) else { return };
    let is_text = |value: &serde_json::Value| value.is_null() || value.is_string();
    let known = ["conversation_id", "response_text", "buttons", "list_title", "list_items"];
    let odd =
        |(name, value): (&String, &serde_json::Value)| known.contains(&name.as_str()) && !is_text(value);
    // Named twice, it is of two kinds, and this reader has kept one of them.
    let text = String::from_utf8_lossy(body);
    let escaped_or_twice = text.contains('\\') || known.iter().any(|name| text.matches(name).count() > 1);
    let lists =
        ["buttons", "list_items"].iter().any(|name| fields.get(*name).is_some_and(|list| !list.is_null()));
    assert!(fields.iter().any(odd) || escaped_or_twice || lists, "{text}");
}

/// What is read is stored and sent as it is.
fn sent(reply: Reply) {
    let text = visible::trimmed(&reply.text).to_owned();
    let choices = [&reply.buttons, &reply.list_items].map(|choices| choices.all.clone()).concat();
    let reply = v1::Reply::from(reply);
    assert_eq!(reply.interactive.is_some(), !choices.is_empty());
    let outcome = Outcome { result: Some(outcome::Result::Reply(reply)), ..Outcome::default() };
    let payload = outcome.encode_to_vec();
    assert_eq!(Outcome::decode(payload.as_slice()).as_ref(), Ok(&outcome));
    let subjects = Subjects::new("wa").unwrap();
    let headers = Headers::cloud_event("a/b/c/d/outcome", "Outcome", "default", 0);
    let envelope = Envelope::open(&subjects, "wa.out.default.reply.5491112345678", headers);
    let job = Job::read(&envelope.expect("a chat's subject"), &payload);
    match job.expect("it is an outcome") {
        Some(job) => {
            assert!(job.words().starts_with(&text) && visible::is_any(job.words()));
            // Nothing that is offered is left out.
            assert!(job.words().lines().count() >= choices.len());
        }
        None => assert!(text.is_empty() && choices.is_empty()),
    }
}
