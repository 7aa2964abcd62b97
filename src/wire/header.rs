//! Message headers: CloudEvents in binary mode, the trace context, and the chain.

use std::borrow::Cow;

/// JetStream's id for its duplicate window.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// JetStream's replacement of what is on a subject: `sub`.
pub const ROLLUP: &str = "Nats-Rollup";
/// JetStream's compare-and-set: the subject's last sequence must be this one.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// The sequence of the message before this one on the same subject; 0 for the first. The reader's copy
/// of [`EXPECTED_LAST_SUBJECT_SEQUENCE`].
pub const PREV_SEQ: &str = "Wa-Prev-Seq";
/// On an outcome: the `WA_IN` sequence of the message it ends.
pub const IN_SEQ: &str = "Wa-In-Seq";
/// On an outcome: when `WA_IN` was created. [`IN_SEQ`] counts within one incarnation of the stream only.
pub const IN_CREATED: &str = "Wa-In-Created";
/// On an outcome: when the chat was last told that only text is read, if that was within the last hour. Milliseconds since
/// the epoch.
pub const TOLD_AT: &str = "Wa-Told-At";
/// On an outcome: its message was joined with others (`JOIN_WITHIN`). The `WA_IN` sequences of the first of these and of the
/// one that is asked about, as `first-last`.
pub const JOINED: &str = "Wa-Joined";
/// On an outcome: when the chat may cause as many calls of the backend again as `CALLS_PER_CHAT` allows, if that is later
/// than the outcome. Milliseconds since the epoch.
pub const CALLS_FULL_AT: &str = "Wa-Calls-Full-At";
/// On an outcome: when the chat was last told `RATE_TEXT`, if that was within the time of `CALLS_PER_CHAT`. Milliseconds since
/// the epoch.
pub const RATE_TOLD_AT: &str = "Wa-Rate-Told-At";
/// On a message or an update: its kind, by the name of its field in the schema. With it a reader skips without decoding.
pub const KIND: &str = "Wa-Kind";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// CloudEvents: the event's id, derived from what it is about, never random.
pub const CE_ID: &str = "ce-id";
/// CloudEvents: the event's type, such as `whatsapp.connector.v1.InboundMessage`.
pub const CE_TYPE: &str = "ce-type";
/// On a dead letter: why, as a code.
pub const DEAD_REASON: &str = "Wa-Dead-Reason";

const CE_SOURCE: &str = "ce-source";
const CE_TIME: &str = "ce-time";
const CE_SPECVERSION: &str = "ce-specversion";
const CONTENT_TYPE: &str = "content-type";

/// The names that most messages have. They need no memory of their own.
const USUAL: [&str; 14] = [
    CE_ID,
    CE_TYPE,
    CE_SOURCE,
    CE_TIME,
    CE_SPECVERSION,
    CONTENT_TYPE,
    TRACEPARENT,
    PREV_SEQ,
    IN_SEQ,
    IN_CREATED,
    MSG_ID,
    EXPECTED_LAST_SUBJECT_SEQUENCE,
    KIND,
    "tracestate",
];

type Header = (Cow<'static, str>, String);

/// The headers of one bus message. Each has one value: this connector repeats none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// The CloudEvents attributes of a message of type `ce_type`, id `ce_id`, from `account`.
    pub fn cloud_event(ce_id: &str, ce_type: &str, account: &str, time_ms: i64) -> Self {
        // With room for what else most messages have.
        let mut headers = Self(Vec::with_capacity(USUAL.len()));
        headers.set(CE_ID, ce_id);
        headers.set(CE_SOURCE, &format!("/whatsapp/{account}"));
        headers.set(CE_TYPE, &format!("whatsapp.connector.v1.{ce_type}"));
        headers.set(CE_TIME, &rfc3339_ms(time_ms));
        headers.set(CE_SPECVERSION, "1.0");
        headers.set(CONTENT_TYPE, "application/protobuf");
        headers
    }

    /// Sets one header. Line breaks, which would break the protocol, become spaces.
    pub fn set(&mut self, name: &str, value: &str) {
        let value = safe(value);
        match self.find(name) {
            Ok(at) => {
                if let Some((_, known)) = self.0.get_mut(at) {
                    *known = value;
                }
            }
            Err(at) => self.0.insert(at, (named(name), value)),
        }
    }

    /// Reads one header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.get(self.find(name).ok()?)?;
        Some(value)
    }

    /// Where the header is, or else belongs.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
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
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// Removes one header.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.0.remove(at);
        }
    }
}

fn named(name: &str) -> Cow<'static, str> {
    match USUAL.into_iter().find(|usual| *usual == name) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(name.to_owned()),
    }
}

fn safe(value: &str) -> String {
    if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], " ") } else { value.to_owned() }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        // Sorted once, however many a stranger sends. Of two with one name the last counts.
        let mut headers: Vec<Header> =
            pairs.into_iter().map(|(name, value)| (named(name), safe(value))).collect();
        headers.sort_by(|(one, _), (other, _)| one.cmp(other));
        headers.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(&mut later.1, &mut earlier.1);
            }
            is_same
        });
        Self(headers)
    }
}

/// `2025-01-08T10:00:00.000Z`: UTC with milliseconds, as CloudEvents and the backend want it. A time that this form
/// cannot express becomes the epoch.
pub fn rfc3339_ms(time_ms: i64) -> String {
    let nanos = i128::from(time_ms) * 1_000_000;
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let time = time.filter(|time| (0..=9999).contains(&time.year()));
    let time = time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let mut text = String::with_capacity(24);
    // Once or twice for each message, and a general formatter takes ten times as long.
    for (number, width, end) in [
        (time.year().unsigned_abs(), 4, '-'),
        (u32::from(u8::from(time.month())), 2, '-'),
        (u32::from(time.day()), 2, 'T'),
        (u32::from(time.hour()), 2, ':'),
        (u32::from(time.minute()), 2, ':'),
        (u32::from(time.second()), 2, '.'),
        (u32::from(time.millisecond()), 3, 'Z'),
    ] {
        for place in (0..width).rev() {
            text.extend(char::from_digit(number / 10_u32.pow(place) % 10, 10));
        }
        text.push(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_z() {
        assert_eq!(rfc3339_ms(1_736_330_400_000), "2025-01-08T10:00:00.000Z");
        assert_eq!(rfc3339_ms(i64::MAX), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(-70_000_000_000_000), "1970-01-01T00:00:00.000Z");
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_827_696_070, "2000-02-29T12:34:56.070Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339_ms(ms), want);
        }
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
    fn a_name_has_one_value_the_last_and_names_are_in_order() {
        let pairs = [("x", "1"), (CE_ID, "a"), ("b", "2"), ("x", "3"), (CE_ID, "b"), ("x", "4")];
        let mut one_by_one = Headers::default();
        for (name, value) in pairs {
            one_by_one.set(name, value);
        }
        let at_once = Headers::from_iter(pairs);
        assert_eq!(at_once.iter().collect::<Vec<_>>(), [("b", "2"), (CE_ID, "b"), ("x", "4")]);
        assert_eq!(at_once, one_by_one);
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
