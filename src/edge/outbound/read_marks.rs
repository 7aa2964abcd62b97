//! Which messages are marked as read, and how many at once. Pure.
//!
//! Read is what the assistant was asked about and has dealt with. What it never looked at stays unread on the owner's
//! phone, and so does what was given up on: a person has to look at that.

use std::collections::VecDeque;

use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::job::address;
use crate::wire::v1::{NoReplyReason, Outcome, outcome};

/// So many marks may wait. With one more, the oldest is given up: WhatsApp is away, or much slower than people write.
pub(super) const WAITING: usize = 10_000;
/// The most ids that one stanza takes.
pub(super) const AT_ONCE: usize = 256;

/// Whose message it is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whose {
    /// The chat.
    pub chat: Jid,
    /// In a group: who has written it.
    pub author: Option<Jid>,
}

/// The marks that wait.
#[derive(Debug, Default)]
pub(super) struct ReadMarks(VecDeque<(Whose, String)>);

impl ReadMarks {
    /// One more.
    pub(super) fn add(&mut self, whose: Whose, id: String) {
        if self.0.len() >= WAITING {
            self.0.pop_front();
        }
        self.0.push_back((whose, id));
    }

    /// None waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest, and what else fits into its stanza.
    pub(super) fn next(&mut self) -> Option<(Whose, Vec<String>)> {
        let (whose, first) = self.0.pop_front()?;
        let mut ids = vec![first];
        self.0.retain_mut(|(other, id)| {
            let fits = *other == whose && ids.len() < AT_ONCE;
            if fits {
                ids.push(std::mem::take(id));
            }
            !fits
        });
        Some((whose, ids))
    }
}

/// The message that an outcome says is read. `None`: it stays unread.
pub(super) fn read(outcome: &Outcome) -> Option<(Whose, String)> {
    let is_read = match outcome.result.as_ref()? {
        outcome::Result::Reply(_) => true,
        outcome::Result::None(none) => none.reason() == NoReplyReason::BackendSilent,
        outcome::Result::Dead(_) => false,
    };
    if !is_read || outcome.message_id.is_empty() {
        return None;
    }
    let chat = address(&outcome.chat_jid)?;
    let author = match chat.is_group() {
        true => Some(address(&outcome.quotes.as_ref()?.author)?),
        false => None,
    };
    Some((Whose { chat, author }, outcome.message_id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Dead, NoReply, Quoting, Reply};

    fn of(chat: &str, author: Option<&str>) -> Whose {
        Whose { chat: address(chat).unwrap(), author: author.and_then(address) }
    }

    #[test]
    fn read_is_what_the_assistant_has_dealt_with() {
        let none = |reason: NoReplyReason| {
            outcome::Result::None(NoReply { reason: reason.into(), ..NoReply::default() })
        };
        let ana = "5491112345678@s.whatsapp.net";
        let leo = Quoting { author: "987@lid".into(), text: String::new() };
        let reply = || outcome::Result::Reply(Reply::default());
        for (chat, quotes, result, want) in [
            (ana, None, reply(), Some(of(ana, None))),
            (ana, None, none(NoReplyReason::BackendSilent), Some(of(ana, None))),
            // The assistant was not asked.
            (ana, None, none(NoReplyReason::NotAllowed), None),
            (ana, None, none(NoReplyReason::NotText), None),
            (ana, None, none(NoReplyReason::FromMe), None),
            (ana, None, none(NoReplyReason::Expired), None),
            // The person hears nothing of it.
            (ana, None, none(NoReplyReason::Shadow), None),
            // A person has to look at it.
            (ana, None, outcome::Result::Dead(Dead::default()), None),
            ("120363@g.us", Some(leo), reply(), Some(of("120363@g.us", Some("987@lid")))),
            ("120363@g.us", None, reply(), None),
            ("no address", None, reply(), None),
        ] {
            let outcome = Outcome {
                chat_jid: chat.into(),
                message_id: "3EB0".into(),
                quotes,
                result: Some(result),
                ..Outcome::default()
            };
            assert_eq!(read(&outcome), want.map(|whose| (whose, "3EB0".to_owned())), "{outcome:?}");
            assert_eq!(read(&Outcome { message_id: String::new(), ..outcome }), None);
        }
    }

    #[test]
    fn marks_of_one_person_go_together_and_no_stanza_is_too_long() {
        let (ana, leo) = (of("5491112345678", None), of("120363@g.us", Some("987@lid")));
        let mut marks = ReadMarks::default();
        for number in 0..600 {
            marks.add(ana.clone(), format!("A{number}"));
            if number % 200 == 0 {
                marks.add(leo.clone(), format!("L{number}"));
            }
        }
        let mut taken = Vec::new();
        while let Some((whose, ids)) = marks.next() {
            taken.push((whose, ids.len()));
            assert_ne!(ids.first().map(String::as_str), Some(""));
        }
        assert_eq!(taken, [(ana.clone(), 256), (leo, 3), (ana.clone(), 256), (ana, 88)]);
    }

    #[test]
    fn no_more_wait_than_have_room() {
        let mut marks = ReadMarks::default();
        for number in 0..=WAITING {
            marks.add(of(&format!("54911{number}"), None), number.to_string());
        }
        assert_eq!(marks.0.len(), WAITING);
        assert_eq!(marks.next().map(|(_, ids)| ids), Some(vec!["1".to_owned()]));
    }
}
