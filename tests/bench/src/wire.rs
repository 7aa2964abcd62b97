//! What is on the bus, out of docs/subjects.md and `proto/` and not out of the connector's code: whoever judges it shares
//! none of its mistakes, and needs not be built anew with it.

use anyhow::Result;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::macros::format_description;

/// The payload types.
#[allow(clippy::all, dead_code, missing_debug_implementations, unreachable_pub, reason = "generated")]
pub mod v1 {
    include!("../../../proto/generated.rs");
}

/// Everything from WhatsApp.
pub const STREAM_IN: &str = "WA_IN";
/// Everything to WhatsApp.
pub const STREAM_OUT: &str = "WA_OUT";
/// The forwarders' consumer.
pub const CONSUMER: &str = "forwarder";
/// The one account.
pub const ACCOUNT: &str = "default";
/// What the forwarders consume.
pub const ALL_MESSAGES: &str = "wa.in.*.message.*";
/// The outcomes.
pub const ALL_OUTCOMES: &str = "wa.out.*.reply.*";

/// The place of the one before it.
pub const PREV_SEQ: &str = "Wa-Prev-Seq";
/// On an outcome: the message that it ends.
pub const IN_SEQ: &str = "Wa-In-Seq";
/// On an outcome: which stream that place counts in.
pub const IN_CREATED: &str = "Wa-In-Created";
/// JetStream's id for its duplicate window.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// JetStream's compare-and-set.
pub const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// A chat's messages.
pub fn message_subject(chat: &str) -> String {
    format!("wa.in.{ACCOUNT}.message.{chat}")
}

/// A chat's outcomes.
pub fn outcome_subject(chat: &str) -> String {
    format!("wa.out.{ACCOUNT}.reply.{chat}")
}

/// A message's `ce-id`, in a chat with one person.
pub fn inbound_id(chat: &str, message_id: &str) -> String {
    format!("{ACCOUNT}/{chat}/{chat}/{message_id}")
}

/// The headers that all have, and these.
pub fn headers(id: &str, kind: &str, at_ms: i64, more: &[(&str, &str)]) -> Result<HeaderMap> {
    let kind = format!("whatsapp.connector.v1.{kind}");
    let source = format!("/whatsapp/{ACCOUNT}");
    let at = rfc3339_ms(at_ms)?;
    let common = [
        ("ce-id", id),
        ("ce-source", &source),
        ("ce-type", &kind),
        ("ce-time", &at),
        ("ce-specversion", "1.0"),
        ("content-type", "application/protobuf"),
        (MSG_ID, id),
    ];
    let mut map = HeaderMap::new();
    for (name, value) in common.iter().chain(more) {
        map.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
    }
    Ok(map)
}

/// UTC with milliseconds, as the backend wants it.
pub fn rfc3339_ms(at_ms: i64) -> Result<String> {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)?.format(form)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_it_is() -> Result<()> {
        let id = inbound_id("54911", "3EB0AB");
        assert_eq!(id, "default/54911/54911/3EB0AB");
        let map = headers(&id, "InboundMessage", 1_736_330_400_123, &[(PREV_SEQ, "7")])?;
        let of = |name: &str| map.get(name).map(HeaderValue::as_str);
        assert_eq!(of("ce-time"), Some("2025-01-08T10:00:00.123Z"));
        assert_eq!(of("ce-type"), Some("whatsapp.connector.v1.InboundMessage"));
        assert_eq!((of(PREV_SEQ), of(MSG_ID)), (Some("7"), Some(id.as_str())));
        Ok(())
    }
}
