//! What a person asks of the session while it runs: a code for a phone number, or to unlink the number. One after the
//! other, and never more often than WhatsApp bears.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use whatsapp_rust::Client;
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::passkey::{Assertion, PasskeyError};

use super::link::{Input, State};
use super::pair_codes::PairCodes;
use super::passkey::{self, Passkey};
use crate::telemetry::redact;

/// So many may wait. A person asks for one thing at a time.
const WAITING: usize = 4;
/// So long may WhatsApp take for a code.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long does a code live: the event that comes with it says so too.
const LIVES: Duration = Duration::from_secs(180);
/// Digits of a phone number with its country code.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A code to type into the phone.
#[derive(Clone, PartialEq, Eq)]
pub struct PairCode {
    /// Eight characters. Whoever types them into the phone of the number links it.
    pub code: String,
    /// When WhatsApp stops accepting it.
    pub expires: Instant,
}

impl std::fmt::Debug for PairCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairCode").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why it was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// This process has no session with WhatsApp at the moment.
    #[error(
        "this process has no session with WhatsApp at the moment: another edge has the number, or it is starting"
    )]
    NoSession,
    /// There is a linked number.
    #[error("a number is linked already: unlink it first")]
    Linked,
    /// There is no connection with a linked number, so WhatsApp would not hear of it.
    #[error(
        "the number is not online, so WhatsApp would not hear of it: remove the device on the phone, under Linked devices"
    )]
    NotOnline,
    /// It is no phone number.
    #[error("this is no phone number: write it with its country code, in digits")]
    NotANumber,
    /// WhatsApp wants to be left alone.
    #[error("too many codes were asked for: wait, or scan the QR code")]
    TooSoon,
    /// WhatsApp does not want to see a passkey, or not yet.
    #[error("WhatsApp asks for no passkey at the moment: scan the QR code first")]
    NoPasskey,
    /// It is not what the browser has printed.
    #[error("this is not what the browser has printed: copy all of it, from the first brace to the last")]
    NotAnAnswer,
    /// WhatsApp does not accept it.
    #[error("WhatsApp does not accept this answer: run the lines in the browser once more, or begin anew")]
    PasskeyRefused,
    /// WhatsApp gave none.
    #[error("WhatsApp gives no code for this number: look whether it is right, or scan the QR code")]
    Refused,
}

impl NotDone {
    /// A stable code for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoSession => "no-session",
            Self::Linked => "linked",
            Self::NotOnline => "not-online",
            Self::NotANumber => "not-a-number",
            Self::TooSoon => "too-soon",
            Self::NoPasskey => "no-passkey",
            Self::NotAnAnswer => "not-an-answer",
            Self::PasskeyRefused => "passkey-refused",
            Self::Refused => "refused",
        }
    }
}

/// What is asked.
pub(super) enum Ask {
    /// A code for this number.
    Code(String, oneshot::Sender<Result<PairCode, NotDone>>),
    /// To unlink the number.
    Unlink(oneshot::Sender<Result<(), NotDone>>),
    /// To show WhatsApp what a browser has answered for the passkey.
    Passkey(String, oneshot::Sender<Result<(), NotDone>>),
    /// The codes are the same: to link the number.
    Confirm(oneshot::Sender<Result<(), NotDone>>),
    /// The codes are not the same, or there is no passkey: to begin anew.
    GiveUp(oneshot::Sender<Result<(), NotDone>>),
}

/// What comes of it.
pub(super) enum Next {
    /// This is asked.
    Asks(Ask),
    /// What was begun is done, and means this for the link.
    Done(Option<Input>),
}

/// Where it is asked.
pub(super) type Asker = mpsc::Sender<Ask>;

/// The digits of a phone number; people write it with spaces, brackets and a plus.
pub(crate) fn digits(phone: &str) -> Option<String> {
    let written = |c: char| c.is_ascii_digit() || " +-().\u{a0}".contains(c);
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    let is_one = phone.chars().all(written) && DIGITS.contains(&digits.len()) && !digits.starts_with('0');
    is_one.then_some(digits)
}

/// What is asked of one client.
pub(super) struct Asked {
    asks: mpsc::Receiver<Ask>,
    doing: Option<BoxFuture<'static, Option<Input>>>,
}

impl Asked {
    /// Nothing yet.
    pub(super) fn channel() -> (Asker, Self) {
        let (asker, asks) = mpsc::channel(WAITING);
        (asker, Self { asks, doing: None })
    }

    /// Does what was begun, and returns what is asked next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Next {
        if let Some(doing) = &mut self.doing {
            let input = doing.await;
            self.doing = None;
            return Next::Done(input);
        }
        match self.asks.recv().await {
            Some(ask) => Next::Asks(ask),
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }

    /// Begins it, or says why not. Returns what it means for the link at once.
    pub(super) fn begin(
        &mut self,
        ask: Ask,
        client: &Arc<Client>,
        state: &State,
        codes: &mut PairCodes,
    ) -> Option<Input> {
        let client = Arc::clone(client);
        match ask {
            Ask::Code(phone, answer) => match may_have_a_code(&phone, state, codes, Instant::now()) {
                Ok(phone) => self.doing = Some(code(client, phone, answer).boxed()),
                Err(why) => drop(answer.send(Err(why))),
            },
            // Whoever asked has given up, and thinks that nothing has happened.
            Ask::Unlink(answer) if answer.is_closed() => {}
            Ask::Unlink(answer) if *state == State::Online => {
                tracing::info!("unlinking the number, as asked");
                let _ = answer.send(Ok(()));
                let unlink = async move {
                    client.logout().await;
                    None
                };
                self.doing = Some(unlink.boxed());
            }
            Ask::Unlink(answer) => drop(answer.send(Err(NotDone::NotOnline))),
            Ask::Passkey(said, answer) => match (state, passkey::assertion(&said)) {
                (State::Passkey(Passkey::Wanted(_)), Some(assertion)) => {
                    self.doing = Some(respond(client, assertion, answer).boxed());
                }
                (State::Passkey(Passkey::Wanted(_)), None) => drop(answer.send(Err(NotDone::NotAnAnswer))),
                _ => drop(answer.send(Err(NotDone::NoPasskey))),
            },
            Ask::Confirm(answer) if matches!(state, State::Passkey(Passkey::Compare { .. })) => {
                self.doing = Some(confirm(client, answer).boxed());
            }
            Ask::GiveUp(answer) if matches!(state, State::Passkey(_)) => {
                tracing::info!("linking with the passkey is given up on, as asked");
                let _ = answer.send(Ok(()));
                return Some(Input::PasskeyOver);
            }
            Ask::Confirm(answer) | Ask::GiveUp(answer) => drop(answer.send(Err(NotDone::NoPasskey))),
        }
        None
    }
}

fn may_have_a_code(
    phone: &str,
    state: &State,
    codes: &mut PairCodes,
    now: Instant,
) -> Result<String, NotDone> {
    let phone = digits(phone).ok_or(NotDone::NotANumber)?;
    match state {
        State::Unlinked { .. } => {}
        State::Starting => return Err(NotDone::NoSession),
        _ => return Err(NotDone::Linked),
    }
    if codes.may_ask(now) && codes.may_be_asked_by_hand(now) { Ok(phone) } else { Err(NotDone::TooSoon) }
}

/// The code itself comes as an event, and so does a refusal.
async fn code(
    client: Arc<Client>,
    phone_number: String,
    answer: oneshot::Sender<Result<PairCode, NotDone>>,
) -> Option<Input> {
    // One for another number would be in the way.
    client.cancel_pair_code().await;
    let options = PairCodeOptions { phone_number, ..Default::default() };
    let given = tokio::time::timeout(PATIENCE, client.pair_with_code(options)).await;
    let _ = answer.send(match given {
        Ok(Ok(code)) => Ok(PairCode { code, expires: Instant::now() + LIVES }),
        _ => Err(NotDone::Refused),
    });
    None
}

/// WhatsApp may refuse it, and takes another answer to the same challenge then.
async fn respond(
    client: Arc<Client>,
    assertion: Assertion,
    answer: oneshot::Sender<Result<(), NotDone>>,
) -> Option<Input> {
    let taken = tokio::time::timeout(PATIENCE, client.send_passkey_response(assertion)).await;
    let taken = is_done(taken, "WhatsApp does not accept the passkey's answer");
    let _ = answer.send(if taken { Ok(()) } else { Err(NotDone::PasskeyRefused) });
    taken.then_some(Input::PasskeyAnswered)
}

/// The event of the link comes by itself. After a failure there is no second try on this connection.
async fn confirm(client: Arc<Client>, answer: oneshot::Sender<Result<(), NotDone>>) -> Option<Input> {
    let taken = tokio::time::timeout(PATIENCE, client.send_passkey_confirmation()).await;
    let taken = is_done(taken, "WhatsApp does not link the number after its passkey was seen");
    let _ = answer.send(if taken { Ok(()) } else { Err(NotDone::PasskeyRefused) });
    (!taken).then_some(Input::PasskeyOver)
}

fn is_done(ended: Result<Result<(), PasskeyError>, Elapsed>, trouble: &'static str) -> bool {
    match ended {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::warn!(error = redact::text(&error), "{trouble}"),
        Err(_elapsed) => tracing::warn!(error = "it did not answer", "{trouble}"),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_their_number_as_they_like() {
        let rows = [
            ("+54 9 11 0000-0000", Some("5491100000000")),
            ("(1) 555.123.4567", Some("15551234567")),
            ("5491100000000", Some("5491100000000")),
            ("", None),
            ("+", None),
            ("12345", None),
            ("0049151234567", None),
            ("1234567890123456", None),
            ("54911<script>", None),
            ("١٢٣٤٥٦٧٨", None),
        ];
        for (written, want) in rows {
            assert_eq!(digits(written).as_deref(), want, "{written}");
        }
    }

    #[test]
    fn a_code_is_for_a_number_that_is_not_linked_and_not_too_often() {
        let (now, mut codes) = (Instant::now(), PairCodes::default());
        let unlinked = State::Unlinked { qr: None };
        let mut may = |state: &State, now| may_have_a_code("5491100000000", state, &mut codes, now);
        assert_eq!(may(&State::Online, now), Err(NotDone::Linked));
        assert_eq!(may(&State::Starting, now), Err(NotDone::NoSession));
        assert!(may(&unlinked, now).is_ok());
        assert_eq!(may(&unlinked, now + Duration::from_secs(19)), Err(NotDone::TooSoon));
        assert!(may(&unlinked, now + Duration::from_secs(20)).is_ok());
    }
}
