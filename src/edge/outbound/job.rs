//! A message on the bus → what must be sent. Pure.

use prost::Message as _;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::menu::Menu;
use super::request::{self, Content, Flaw, Quote, Target};
use super::text;
use crate::edge::addressing::offer::Offer;
use crate::wire::Envelope;
use crate::wire::takeover::answers_what_was_written_at;
use crate::wire::v1::{Outcome, Quoting, SendMessage, SendText, send_message};

/// What must be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The recipient: digits, or an address as WhatsApp writes it. Exactly as it was on the bus, valid or not.
    pub to: String,
    /// What is sent, and what it quotes; or why it can never be sent. An answer is a text.
    pub content: Result<(Content, Option<Quote>), Flaw>,
    /// How many bytes at the end of the text are its options.
    pub menu: usize,
    /// The options.
    pub(super) offer: Offer,
    /// The same text with WhatsApp's own buttons or list, if it fits.
    pub(super) native: Option<Menu>,
    /// It is not sent after this time, in milliseconds since 1970.
    pub not_after_ms: Option<i64>,
    /// The WhatsApp message id is derived from this.
    pub cause: String,
    /// The caller may never have written to this number before.
    pub first_contact: bool,
    /// For an answer: when its message was written, in milliseconds since 1970.
    pub answers: Option<i64>,
    /// For an answer: the same, or when the message was replayed. A person who takes over after that has the word.
    pub asked_ms: Option<i64>,
    /// When the outcome was decided, and when the message that it answers came, both in milliseconds.
    pub times: Option<(i64, i64)>,
    /// For an answer: the chat's disappearing timer in seconds, as its message had it.
    pub disappears_after_s: Option<u32>,
}

impl Job {
    /// Reads an outcome or a send request. `None`: there is nothing to send. An error says why the edge cannot read
    /// it.
    pub fn read(envelope: &Envelope, payload: &[u8]) -> Result<Option<Self>, &'static str> {
        match envelope.route.kind.as_str() {
            "reply" => {
                let outcome = Outcome::decode(payload).map_err(|_| "it is no outcome")?;
                let text::Shown { text, menu, offer, native } = text::outcome_text(&outcome)?;
                if text.is_empty() {
                    return Ok(None);
                }
                let cause = envelope.id.clone().ok_or("it has no ce-id")?;
                let written_ms = match outcome.sent_at_ms {
                    0 => outcome.decided_at_ms,
                    known => known,
                };
                let answers = Some(written_ms);
                let asked_ms = Some(answers_what_was_written_at(&outcome));
                let times = Some((outcome.decided_at_ms, outcome.received_at_ms));
                let times = times.filter(|(_, received)| *received > 0);
                Ok(Some(Self {
                    to: outcome.chat_jid,
                    content: Ok((Content::text(&text), outcome.quotes.and_then(quote(outcome.message_id)))),
                    menu,
                    offer,
                    native,
                    not_after_ms: None,
                    cause,
                    first_contact: false,
                    answers,
                    asked_ms,
                    times,
                    disappears_after_s: outcome.disappears_after_s,
                }))
            }
            "send" => {
                let request = SendMessage::decode(payload).map_err(|_| "it is no send request")?;
                let content = request.content.as_ref().ok_or("its content is of an unknown kind")?;
                let cause = envelope.dedup_id.clone().ok_or("it has no Nats-Msg-Id")?;
                let mut content = request::checked(&request, content);
                let (menu, offer, native) = options(&request, &mut content);
                Ok(Some(Self {
                    not_after_ms: Some(request.not_after_ms).filter(|time| *time != 0),
                    content,
                    menu,
                    offer,
                    native,
                    to: request.to,
                    cause,
                    first_contact: true,
                    answers: None,
                    asked_ms: None,
                    times: None,
                    disappears_after_s: None,
                }))
            }
            _ => Err("its subject is none of the design"),
        }
    }

    /// Is the recipient a phone number, and not an address?
    pub fn is_to_phone(&self) -> bool {
        is_phone(&self.to)
    }

    /// Does a service ask for it, to one person, without being asked? What is only about an earlier message is not meant.
    pub fn is_unasked(&self) -> bool {
        let is_message = self.content.as_ref().is_ok_and(|(content, _)| !content.is_about_another());
        self.answers.is_none() && is_message && !self.address().is_some_and(|to| to.is_group())
    }

    /// From when it is sent on, what was offered before is not what a person picks from.
    pub fn ends_offers(&self) -> bool {
        self.answers.is_some() || !self.offer.is_empty()
    }

    /// The words of a text; empty if it is none.
    pub fn words(&self) -> &str {
        match &self.content {
            Ok((Content::Text { body, .. }, _)) => body,
            _ => "",
        }
    }

    /// The recipient's address. `None`: it is no valid address.
    pub fn address(&self) -> Option<Jid> {
        address(&self.to)
    }
}

/// The options of a request, which its text shows from here on. As [`Job`] has them.
fn options(
    request: &SendMessage,
    content: &mut Result<(Content, Option<Quote>), Flaw>,
) -> (usize, Offer, Option<Menu>) {
    let Some(send_message::Content::Text(SendText { options: Some(options), .. })) = &request.content else {
        return Default::default();
    };
    let Ok((Content::Text { body, mentions }, _)) = content else { return Default::default() };
    let text::Shown { text, menu, offer, native } = text::with_options(body, Some(options));
    *body = text;
    (menu, offer, native.map(|native| native.mentioning(mentions)))
}

fn is_phone(person: &str) -> bool {
    !person.is_empty() && person.chars().all(|c| c.is_ascii_digit())
}

/// What an answer in a group quotes. One without a valid author is sent without a quote.
fn quote(id: String) -> impl FnOnce(Quoting) -> Option<Quote> {
    move |said| {
        address(&said.author).filter(|_| !id.is_empty())?;
        let target = Target { id, own: false, author: String::new() };
        Some(Quote { target, author: said.author, text: said.text })
    }
}

/// The address of a person who is named by a phone number's digits, or by the address itself.
pub(super) fn address(person: &str) -> Option<Jid> {
    if is_phone(person) { Some(Jid::pn(person)) } else { person.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Dead, NoReply, Reply, outcome};
    use crate::wire::{Subjects, header};

    /// What a payload on `subject` with these headers asks for.
    fn read(subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<Option<Job>, &'static str> {
        let headers = headers.iter().copied().collect();
        Job::read(&Envelope::open(&Subjects::new("wa").unwrap(), subject, headers).unwrap(), payload)
    }

    const REPLY: &str = "wa.out.default.reply.54911";
    const SEND: &str = "wa.out.default.send.54911";
    const OURS: [(&str, &str); 1] = [(header::CE_ID, "a/outcome")];
    const THEIRS: [(&str, &str); 1] = [(header::MSG_ID, "order-77")];

    fn outcome(result: outcome::Result) -> Outcome {
        Outcome {
            chat_jid: "987@lid".into(),
            sent_at_ms: 10,
            received_at_ms: 20,
            decided_at_ms: 30,
            disappears_after_s: Some(86_400),
            result: Some(result),
            ..Outcome::default()
        }
    }

    fn reply() -> Outcome {
        outcome(outcome::Result::Reply(Reply { text: "Hola".into(), ..Reply::default() }))
    }

    fn answer() -> Job {
        Job {
            to: "987@lid".into(),
            content: Ok((Content::text("Hola"), None)),
            menu: 0,
            offer: Offer::default(),
            native: None,
            not_after_ms: None,
            cause: "a/outcome".into(),
            first_contact: false,
            answers: Some(10),
            asked_ms: Some(10),
            times: Some((30, 20)),
            disappears_after_s: Some(86_400),
        }
    }

    #[test]
    fn an_answer_goes_back_to_where_its_message_came_from() {
        let quotes = |author: &str| Some(Quoting { author: author.into(), text: "¿Sí?".into() });
        let target = Target { id: "Q".into(), own: false, author: String::new() };
        let quoted = Quote { target, author: "987@lid".into(), text: "¿Sí?".into() };
        let fallback = Dead { fallback_text: "Perdón.".into(), ..Dead::default() };
        let rows = [
            (reply(), Some(answer())),
            // If the time of writing is not known, the time of the decision is used.
            (
                Outcome { sent_at_ms: 0, ..reply() },
                Some(Job { answers: Some(30), asked_ms: Some(20), ..answer() }),
            ),
            (Outcome { received_at_ms: 0, ..reply() }, Some(Job { times: None, ..answer() })),
            (Outcome { received_at_ms: -1, ..reply() }, Some(Job { times: None, ..answer() })),
            (
                outcome(outcome::Result::Dead(fallback)),
                Some(Job { content: Ok((Content::text("Perdón."), None)), ..answer() }),
            ),
            (
                Outcome { message_id: "Q".into(), quotes: quotes("987@lid"), ..reply() },
                Some(Job { content: Ok((Content::text("Hola"), Some(quoted))), ..answer() }),
            ),
            (Outcome { message_id: "Q".into(), quotes: quotes("nobody"), ..reply() }, Some(answer())),
            (Outcome { quotes: quotes("987@lid"), ..reply() }, Some(answer())),
            (outcome(outcome::Result::Dead(Dead::default())), None),
            (outcome(outcome::Result::None(NoReply::default())), None),
        ];
        for (outcome, want) in rows {
            assert_eq!(read(REPLY, &OURS, &outcome.encode_to_vec()), Ok(want), "{outcome:?}");
        }
    }

    #[test]
    fn a_send_request_is_no_answer_and_may_be_the_first_word_to_somebody() {
        let content =
            Some(send_message::Content::Text(SendText { body: "Hola".into(), ..Default::default() }));
        let request =
            SendMessage { to: "5491112345678".into(), content, not_after_ms: 77, ..Default::default() };
        let want = Job {
            to: "5491112345678".into(),
            content: Ok((Content::text("Hola"), None)),
            menu: 0,
            offer: Offer::default(),
            native: None,
            not_after_ms: Some(77),
            cause: "order-77".into(),
            first_contact: true,
            answers: None,
            asked_ms: None,
            times: None,
            disappears_after_s: None,
        };
        assert_eq!(read(SEND, &THEIRS, &request.encode_to_vec()), Ok(Some(want)));
    }

    #[test]
    fn unasked_is_what_a_service_writes_to_one_person_and_not_what_is_about_an_earlier_message() {
        let target = Target { id: "3EB0".into(), own: true, author: String::new() };
        let reaction = Content::Reaction { target: target.clone(), emoji: "👍".into() };
        let edit = Content::Edit { target: "3EB0".into(), body: "Hola".into() };
        let quote = Quote { target: target.clone(), author: String::new(), text: String::new() };
        let request = |content| Job { answers: None, asked_ms: None, content, ..answer() };
        for (job, want) in [
            (answer(), false),
            (request(Ok((Content::text("Hola"), None))), true),
            (request(Ok((Content::text("Hola"), Some(quote)))), true),
            (request(Ok((reaction, None))), false),
            (request(Ok((edit, None))), false),
            (request(Ok((Content::Revoke { target }, None))), false),
            (request(Err(Flaw::Recipient)), false),
            (Job { to: "120363@g.us".into(), ..request(Ok((Content::text("Hola"), None))) }, false),
        ] {
            assert_eq!(job.is_unasked(), want, "{job:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        let (reply, empty) = (reply().encode_to_vec(), SendMessage::default().encode_to_vec());
        let content = Some(send_message::Content::Text(SendText::default()));
        let request = SendMessage { content, ..SendMessage::default() }.encode_to_vec();
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], &'a str);
        let rows: [Row<'_>; 7] = [
            ("wa.out.default.other.54911", &OURS, &reply, "its subject is none of the design"),
            (REPLY, &OURS, b"\xff", "it is no outcome"),
            (REPLY, &OURS, b"", "its result is of an unknown kind"),
            (REPLY, &THEIRS, &reply, "it has no ce-id"),
            (SEND, &THEIRS, b"\xff", "it is no send request"),
            (SEND, &THEIRS, &empty, "its content is of an unknown kind"),
            (SEND, &OURS, &request, "it has no Nats-Msg-Id"),
        ];
        for (subject, headers, payload, want) in rows {
            assert_eq!(read(subject, headers, payload), Err(want), "{subject}");
        }
    }

    #[test]
    fn digits_are_a_phone_number_and_the_rest_is_an_address_or_nothing() {
        for (to, is_to_phone, address) in [
            ("5491112345678", true, Some("5491112345678@s.whatsapp.net")),
            ("5491112345678@s.whatsapp.net", false, Some("5491112345678@s.whatsapp.net")),
            ("987@lid", false, Some("987@lid")),
            ("120363@g.us", false, Some("120363@g.us")),
            ("+5491112345678", false, None),
            ("Ana", false, None),
            ("", false, None),
        ] {
            let job = Job { to: to.to_owned(), ..answer() };
            assert_eq!(job.is_to_phone(), is_to_phone, "{to}");
            assert_eq!(job.address().map(|jid| jid.to_string()).as_deref(), address, "{to}");
        }
    }
}
