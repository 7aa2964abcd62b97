//! A message on the bus without its payload. It is read once, where it comes off the bus; all other code takes the
//! typed value.

use super::header;
use super::{Headers, Route, Subjects};

/// A message that belongs to a chat, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its subject: account, kind and chat.
    pub route: Route,
    /// The sequence of the message before it on its subject; 0 for the first, and for messages outside of a chain.
    pub previous: u64,
    /// Its id (`ce-id`); `None` if its publisher set none.
    pub id: Option<String>,
    /// The id by which JetStream recognises duplicates (`Nats-Msg-Id`).
    pub dedup_id: Option<String>,
    /// The WhatsApp id of the inbound message that it is about; empty if `id` does not hold one.
    pub message_id: String,
    /// All headers, for its trace and for the copy among the dead letters.
    pub headers: Headers,
}

impl Envelope {
    /// Reads one; `None` if its subject is no chat's.
    pub fn open(subjects: &Subjects, subject: &str, headers: Headers) -> Option<Self> {
        Some(Self {
            route: subjects.route(subject)?,
            previous: headers.sequence(header::PREV_SEQ).unwrap_or(0),
            id: headers.get(header::CE_ID).map(str::to_owned),
            dedup_id: headers.get(header::MSG_ID).map(str::to_owned),
            message_id: headers.message_id().to_owned(),
            headers,
        })
    }

    /// The same, for code that needs only an id for a report.
    pub fn any_id(&self) -> Option<&str> {
        self.dedup_id.as_deref().or(self.id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_says_whose_it_is_what_is_before_it_and_what_it_is_called() {
        let subjects = Subjects::new("wa").unwrap();
        let id = "default/54911/54911/3EB0AB/outcome";
        let headers = [(header::PREV_SEQ, "7"), (header::CE_ID, id), (header::MSG_ID, "other")];
        let open = |subject| Envelope::open(&subjects, subject, Headers::from_iter(headers));
        let envelope = open("wa.out.default.reply.54911").unwrap();
        assert_eq!((envelope.route.kind.as_str(), envelope.route.chat.as_str()), ("reply", "54911"));
        assert_eq!((envelope.previous, envelope.message_id.as_str()), (7, "3EB0AB"));
        assert_eq!((envelope.id.as_deref(), envelope.any_id()), (Some(id), Some("other")));
        for nobodys in ["wa.out.default.reply", "wa.in.default.session", "other"] {
            assert_eq!(open(nobodys), None, "{nobodys}");
        }
    }

    #[test]
    fn what_says_nothing_of_itself_is_the_first_and_nameless() {
        let subjects = Subjects::new("wa").unwrap();
        let headers = Headers::from_iter([(header::PREV_SEQ, "soon")]);
        let envelope = Envelope::open(&subjects, "wa.in.default.message.54911", headers).unwrap();
        assert_eq!((envelope.previous, envelope.any_id(), envelope.message_id.as_str()), (0, None, ""));
    }
}
