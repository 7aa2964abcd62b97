//! From a message on the bus to what has to be sent. Pure.

use prost::Message as _;
use whatsapp_rust::Jid;

use super::text;
use crate::wire::v1::{Outcome, SendMessage, send_message};
use crate::wire::{Headers, Subjects, header};

/// What has to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// To whom: digits, or an address as WhatsApp writes it. As it was on the bus, whatever that is.
    pub to: String,
    /// The words; never empty in an answer.
    pub text: String,
    /// What the WhatsApp message id is derived from.
    pub cause: String,
    /// Whoever asked may never have heard of this number.
    pub first_contact: bool,
    /// If it is an answer: when its message was written, in milliseconds since 1970.
    pub answers: Option<i64>,
    /// When its outcome was decided, and when the message that it answers came: in milliseconds.
    pub times: Option<(i64, i64)>,
}

impl Job {
    /// Reads an outcome or a send request. `None`: there is nothing to send. An error says why it is nothing
    /// that this program can read.
    pub fn read(
        subjects: &Subjects,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<Option<Self>, &'static str> {
        let route = subjects.route(subject).ok_or("its subject is none of the design")?;
        let cause = |name| headers.get(name).map(str::to_owned);
        match route.kind.as_str() {
            "reply" => {
                let outcome = Outcome::decode(payload).map_err(|_| "it is no outcome")?;
                let text = text::outcome_text(&outcome)?;
                if text.is_empty() {
                    return Ok(None);
                }
                let cause = cause(header::CE_ID).ok_or("it has no ce-id")?;
                let written_ms = match outcome.sent_at_ms {
                    0 => outcome.decided_at_ms,
                    known => known,
                };
                let answers = Some(written_ms);
                let times = Some((outcome.decided_at_ms, outcome.received_at_ms));
                let times = times.filter(|(_, received)| *received > 0);
                Ok(Some(Self { to: outcome.chat_jid, text, cause, first_contact: false, answers, times }))
            }
            "send" => {
                let request = SendMessage::decode(payload).map_err(|_| "it is no send request")?;
                let Some(send_message::Content::Text(text)) = request.content else {
                    return Err("its content is of an unknown kind");
                };
                let cause = cause(header::MSG_ID).ok_or("it has no Nats-Msg-Id")?;
                Ok(Some(Self {
                    to: request.to,
                    text: text.body,
                    cause,
                    first_contact: true,
                    answers: None,
                    times: None,
                }))
            }
            _ => Err("its subject is none of the design"),
        }
    }

    /// Is it to a phone number, and not to an address?
    pub fn is_to_phone(&self) -> bool {
        !self.to.is_empty() && self.to.chars().all(|c| c.is_ascii_digit())
    }

    /// Where it goes; `None` if that is no address.
    pub fn address(&self) -> Option<Jid> {
        if self.is_to_phone() { Some(Jid::pn(self.to.as_str())) } else { self.to.parse().ok() }
    }
}
