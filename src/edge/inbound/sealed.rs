//! Votes and answers. They are encrypted once more, with the secret of the poll or the event. Pure.
//!
//! The addresses of the two persons are part of the key, and a phone takes their phone numbers or their hidden ids.
//! Which, nobody tells; so all are tried.

use whatsapp_rust::prelude::wa;
use whatsapp_rust::wacore::event::decrypt_event_response_with_secret;
use whatsapp_rust::wacore::poll::decrypt_poll_vote_with_fallback;
use whatsapp_rust::wacore::poll::{PollVoteAddressing, PollVoteCiphertext, compute_option_hash};

use super::peel::{beside, peel};
use super::{bound, kinds};
use crate::edge::session::Poll;
use crate::wire::v1::{EventAnswer, EventAnswerWord, Identity, PollVote, inbound_message::Content};

/// The poll is not known here.
const UNKNOWN: &str = "unknown";
/// It is, and its secret does not open the vote.
const UNREADABLE: &str = "unreadable";
/// The most options that one vote may pick.
const PICKED: usize = 256;

/// A vote or an answer, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The message that it is about.
    pub about: String,
    payload: Vec<u8>,
    iv: Vec<u8>,
}

/// What is sealed in a message.
pub(super) fn sealed(message: &wa::Message) -> Option<Sealed> {
    let base = peel(message);
    let (key, payload, iv) =
        match (base.poll_update_message.as_option(), base.enc_event_response_message.as_option()) {
            (Some(vote), _) => {
                let sealed = vote.vote.as_option()?;
                (vote.poll_creation_message_key.as_option()?, &sealed.enc_payload, &sealed.enc_iv)
            }
            (None, Some(answer)) => {
                (answer.event_creation_message_key.as_option()?, &answer.enc_payload, &answer.enc_iv)
            }
            (None, None) => return None,
        };
    let (payload, iv) = (payload.clone()?, iv.clone()?);
    Some(Sealed { about: bound::id(key.id.as_deref()), payload, iv })
}

/// What has to be kept of a message for its votes or answers. Its creator is added later.
pub(super) fn kept(message: &wa::Message) -> Option<Poll> {
    let base = peel(message);
    let options = match kinds::polled(base) {
        Some(poll) => bound::list(poll.options.iter().filter_map(|option| option.option_name.as_deref())),
        None => base.event_message.as_option().map(|_| Vec::new())?,
    };
    let secret =
        beside(message, |beside| beside.message_secret.as_ref()).filter(|secret| secret.len() == 32)?;
    Some(Poll { secret: secret.clone(), options, creator: Identity::default() })
}

/// Opens what is sealed. `poll` is what is known of what it is about.
pub(super) fn open(content: &mut Content, sealed: &Sealed, poll: Option<&Poll>, by: &Identity) {
    match content {
        Content::PollVote(vote) => match poll {
            Some(poll) => opened_vote(vote, sealed, poll, by),
            None => vote.reason = UNKNOWN.to_owned(),
        },
        Content::EventAnswer(answer) => match poll {
            Some(event) => opened_answer(answer, sealed, event, by),
            None => answer.reason = UNKNOWN.to_owned(),
        },
        _ => {}
    }
}

fn opened_vote(vote: &mut PollVote, sealed: &Sealed, poll: &Poll, by: &Identity) {
    let hashes = addresses(&poll.creator, by).find_map(|(creator, voter)| {
        let cipher = PollVoteCiphertext { enc_payload: &sealed.payload, enc_iv: &sealed.iv };
        let by = PollVoteAddressing { poll_creator_jid: &creator, voter_jid: &voter };
        decrypt_poll_vote_with_fallback(cipher, &poll.secret, &sealed.about, by, None).ok()
    });
    let Some(hashes) = hashes else {
        vote.reason = UNREADABLE.to_owned();
        return;
    };
    let name = |hash: &Vec<u8>| {
        poll.options.iter().find(|option| compute_option_hash(option).as_slice() == hash.as_slice()).cloned()
    };
    // An option that was added to the poll later is not known.
    let options: Option<Vec<_>> = hashes.iter().take(PICKED).map(name).collect();
    match options {
        Some(options) => (vote.options, vote.decrypted) = (options, true),
        None => vote.reason = UNREADABLE.to_owned(),
    }
}

fn opened_answer(answer: &mut EventAnswer, sealed: &Sealed, event: &Poll, by: &Identity) {
    use wa::message::event_response_message::EventResponseType;
    let said = addresses(&event.creator, by).find_map(|(creator, by)| {
        let Sealed { about, payload, iv } = sealed;
        decrypt_event_response_with_secret(payload, iv, &event.secret, about, &creator, &by).ok()
    });
    let Some(said) = said else {
        answer.reason = UNREADABLE.to_owned();
        return;
    };
    let word = match said.response {
        Some(EventResponseType::Going) => EventAnswerWord::Going,
        Some(EventResponseType::NotGoing) => EventAnswerWord::NotGoing,
        Some(EventResponseType::Maybe) => EventAnswerWord::Maybe,
        _ => EventAnswerWord::Unspecified,
    };
    answer.answer = word.into();
    answer.extra_guests =
        said.extra_guest_count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
    answer.decrypted = true;
}

/// All pairs of addresses of two persons. First those of one sort, as WhatsApp's own clients use them.
fn addresses(one: &Identity, other: &Identity) -> impl Iterator<Item = (String, String)> {
    let lid =
        |person: &Identity| Some(&person.lid).filter(|lid| !lid.is_empty()).map(|lid| format!("{lid}@lid"));
    let phone = |person: &Identity| {
        Some(&person.phone).filter(|phone| !phone.is_empty()).map(|phone| format!("{phone}@s.whatsapp.net"))
    };
    [
        lid(one).zip(lid(other)),
        phone(one).zip(phone(other)),
        lid(one).zip(phone(other)),
        phone(one).zip(lid(other)),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
