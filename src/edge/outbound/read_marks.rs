//! Which messages are marked as read, and how many at once. Pure.
//!
//! Read is what the assistant was asked about and has dealt with. What it never looked at stays unread on the owner's
//! phone, and so does what was given up on: a person has to look at that.

use std::collections::{HashMap, VecDeque};

use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::job::address;
use crate::wire::ChatToken;
use crate::wire::v1::{NoReplyReason, Outcome, outcome};

/// So many marks may wait. With one more, the oldest is given up: WhatsApp is away, or much slower than people write.
pub(super) const WAITING: usize = 10_000;
/// The most ids that one stanza takes.
pub(super) const AT_ONCE: usize = 256;

/// So many messages of a burst wait for its last one. No burst has more.
const OF_A_BURST: usize = 64;

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
pub(super) struct ReadMarks {
    due: VecDeque<(Whose, String)>,
    /// The messages of each chat that were joined with a later one (`JOIN_WITHIN`). What becomes of that one, becomes of them.
    joined: HashMap<ChatToken, Vec<String>>,
}

impl ReadMarks {
    /// An outcome of this chat is stored. Returns whether something is read.
    pub(super) fn stored(&mut self, chat: &ChatToken, outcome: &Outcome) -> bool {
        if is_joined(outcome) {
            let has_room = self.joined.len() < WAITING || self.joined.contains_key(chat);
            if has_room {
                let ids = self.joined.entry(chat.clone()).or_default();
                // It may come again.
                if ids.len() < OF_A_BURST && !ids.contains(&outcome.message_id) {
                    ids.push(outcome.message_id.clone());
                }
            }
            return false;
        }
        let joined = self.joined.remove(chat).unwrap_or_default();
        let Some((whose, id)) = read(outcome) else { return false };
        for id in joined.into_iter().chain([id]) {
            self.add(whose.clone(), id);
        }
        true
    }

    /// One more.
    fn add(&mut self, whose: Whose, id: String) {
        if self.due.len() >= WAITING {
            self.due.pop_front();
        }
        self.due.push_back((whose, id));
    }

    /// None waits.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// The oldest, and what else fits into its stanza.
    pub(super) fn next(&mut self) -> Option<(Whose, Vec<String>)> {
        let (whose, first) = self.due.pop_front()?;
        let mut ids = vec![first];
        self.due.retain_mut(|(other, id)| {
            let fits = *other == whose && ids.len() < AT_ONCE;
            if fits {
                ids.push(std::mem::take(id));
            }
            !fits
        });
        Some((whose, ids))
    }
}

fn is_joined(outcome: &Outcome) -> bool {
    let is = matches!(&outcome.result, Some(outcome::Result::None(none)) if none.reason() == NoReplyReason::Joined);
    is && !outcome.message_id.is_empty()
}

/// The message that an outcome says is read. `None`: it stays unread.
fn read(outcome: &Outcome) -> Option<(Whose, String)> {
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
        assert_eq!(marks.due.len(), WAITING);
        assert_eq!(marks.next().map(|(_, ids)| ids), Some(vec!["1".to_owned()]));
    }

    #[test]
    fn what_is_joined_is_read_with_the_one_that_is_asked_about_or_stays_unread_with_it() {
        let (ana, leo) = (ChatToken::phone("5491112345678"), ChatToken::phone("5491112345679"));
        let outcome = |chat: &ChatToken, id: &str, result| Outcome {
            chat_jid: format!("{}@s.whatsapp.net", chat.as_str()),
            message_id: id.into(),
            result: Some(result),
            ..Outcome::default()
        };
        let none = |reason: NoReplyReason| {
            outcome::Result::None(NoReply { reason: reason.into(), ..NoReply::default() })
        };
        let joined = || none(NoReplyReason::Joined);
        let reply = || outcome::Result::Reply(Reply::default());
        let mut marks = ReadMarks::default();
        for id in ["A1", "A2", "A1"] {
            assert!(!marks.stored(&ana, &outcome(&ana, id, joined())));
        }
        assert!(marks.stored(&leo, &outcome(&leo, "L1", reply())));
        assert_eq!(marks.next().map(|(_, ids)| ids), Some(vec!["L1".to_owned()]));
        assert!(marks.stored(&ana, &outcome(&ana, "A3", reply())));
        let read = marks.next().map(|(_, ids)| ids);
        assert_eq!(read, Some(["A1", "A2", "A3"].map(str::to_owned).to_vec()));
        // Nobody was asked, or a person has to look at it: that goes for all.
        for end in [outcome::Result::Dead(Dead::default()), none(NoReplyReason::Human)] {
            marks.stored(&ana, &outcome(&ana, "A4", joined()));
            assert!(!marks.stored(&ana, &outcome(&ana, "A5", end)));
            assert!(marks.stored(&ana, &outcome(&ana, "A6", reply())));
            assert_eq!(marks.next().map(|(_, ids)| ids), Some(vec!["A6".to_owned()]));
        }
        for number in 0..200 {
            marks.stored(&ana, &outcome(&ana, &number.to_string(), joined()));
        }
        assert_eq!(marks.joined.values().map(Vec::len).sum::<usize>(), OF_A_BURST);
        for number in 0..=WAITING {
            let chat = ChatToken::phone(&number.to_string());
            marks.stored(&chat, &outcome(&chat, "X", joined()));
        }
        assert_eq!(marks.joined.len(), WAITING);
    }
}
