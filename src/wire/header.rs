//! Message headers: CloudEvents in binary mode, the trace context, and the chain.

use std::collections::BTreeMap;

/// JetStream's id for its duplicate window.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// JetStream's compare-and-set: the subject's last sequence must be this one.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// The sequence of the message before this one on the same subject; 0 for the first. The reader's copy
/// of [`EXPECTED_LAST_SUBJECT_SEQUENCE`].
pub const PREV_SEQ: &str = "Wa-Prev-Seq";
/// On an outcome: the `WA_IN` sequence of the message it ends.
pub const IN_SEQ: &str = "Wa-In-Seq";
/// On an outcome: when `WA_IN` was created. [`IN_SEQ`] counts within one incarnation of the stream only.
pub const IN_CREATED: &str = "Wa-In-Created";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// CloudEvents: the event's id, derived from what it is about, never random.
pub const CE_ID: &str = "ce-id";
/// CloudEvents: the event's type, such as `whatsapp.connector.v1.InboundMessage`.
pub const CE_TYPE: &str = "ce-type";
/// On a dead letter: why, as a code.
pub const DEAD_REASON: &str = "Wa-Dead-Reason";

/// The headers of one bus message. Each has one value: this connector repeats none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The CloudEvents attributes of a message of type `ce_type`, id `ce_id`, from `account`.
    pub fn cloud_event(ce_id: &str, ce_type: &str, account: &str, time_ms: i64) -> Self {
        let mut headers = Self::default();
        headers.set(CE_ID, ce_id);
        headers.set("ce-source", &format!("/whatsapp/{account}"));
        headers.set(CE_TYPE, &format!("whatsapp.connector.v1.{ce_type}"));
        headers.set("ce-time", &rfc3339_ms(time_ms));
        headers.set("ce-specversion", "1.0");
        headers.set("content-type", "application/protobuf");
        headers
    }

    /// Sets one header. Line breaks, which would break the protocol, become spaces.
    pub fn set(&mut self, name: &str, value: &str) {
        let value =
            if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], " ") } else { value.to_owned() };
        self.0.insert(name.to_owned(), value);
    }

    /// Reads one header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Reads one header that is a sequence number.
    pub fn sequence(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// On an outcome: the `WA_IN` sequence that it is about; 0 if that counts in another incarnation of the
    /// stream than this one.
    pub fn in_sequence(&self, incarnation: &str) -> u64 {
        if self.get(IN_CREATED) == Some(incarnation) { self.sequence(IN_SEQ).unwrap_or(0) } else { 0 }
    }

    /// The WhatsApp id of the inbound message that this is about. Empty if this connector did not create [`CE_ID`].
    pub fn message_id(&self) -> &str {
        self.get(CE_ID).and_then(|id| id.split('/').nth(3)).unwrap_or_default()
    }

    /// All headers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Removes one header.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    }
}

/// `2025-01-08T10:00:00.000Z`: UTC with milliseconds, as CloudEvents and the backend want it. A time that this form
/// cannot express becomes the epoch.
pub fn rfc3339_ms(time_ms: i64) -> String {
    const FORM: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    let nanos = i128::from(time_ms) * 1_000_000;
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .format(FORM)
        .unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_z() {
        assert_eq!(rfc3339_ms(1_736_330_400_000), "2025-01-08T10:00:00.000Z");
        assert_eq!(rfc3339_ms(i64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_message_id_is_read_off_an_inbound_id_and_an_outcomes() {
        for id in ["default/54911/54911/3EB0AB", "default/54911/54911/3EB0AB/outcome"] {
            assert_eq!(Headers::from_iter([(CE_ID, id)]).message_id(), "3EB0AB");
        }
        assert_eq!(Headers::from_iter([(CE_ID, "order-77")]).message_id(), "");
        assert_eq!(Headers::default().message_id(), "");
    }

    #[test]
    fn a_value_cannot_smuggle_a_header_in() {
        let mut headers = Headers::default();
        headers.set("a", "b\r\nc: d");
        assert_eq!(headers.get("a"), Some("b  c: d"));
    }

    #[test]
    fn an_event_says_what_it_is_where_it_is_from_and_when_it_was() {
        let want = [
            ("ce-id", "a/b/c/d"),
            ("ce-source", "/whatsapp/default"),
            ("ce-specversion", "1.0"),
            ("ce-time", "2025-01-08T10:00:00.123Z"),
            ("ce-type", "whatsapp.connector.v1.Outcome"),
            ("content-type", "application/protobuf"),
        ];
        let mut headers = Headers::cloud_event("a/b/c/d", "Outcome", "default", 1_736_330_400_123);
        assert_eq!(headers.iter().collect::<Vec<_>>(), want);
        assert_eq!(headers, Headers::from_iter(want));
        headers.remove("ce-type");
        assert_eq!(headers.iter().count(), 5);
        assert_eq!(headers.get("ce-type"), None);
    }

    #[test]
    fn a_sequence_is_a_number_and_counts_in_its_own_incarnation_only() {
        for (value, sequence) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", None),
            ("", None),
        ] {
            let headers = Headers::from_iter([(IN_SEQ, value), (IN_CREATED, "123")]);
            assert_eq!(headers.sequence(IN_SEQ), sequence, "{value}");
            assert_eq!(headers.in_sequence("123"), sequence.unwrap_or(0), "{value}");
            assert_eq!(headers.in_sequence("124"), 0, "{value}");
        }
        assert_eq!(Headers::default().sequence(IN_SEQ), None);
        assert_eq!(Headers::from_iter([(IN_SEQ, "7")]).in_sequence("123"), 0);
        assert_eq!(Headers::from_iter([(IN_CREATED, "123")]).in_sequence("123"), 0);
    }
}
