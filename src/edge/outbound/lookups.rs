//! Whose number is it? Asked before a first contact, because the library sends to unknown numbers without an error.
//! WhatsApp also says the person's real address: some numbers are dialled with a digit more or less.
//!
//! WhatsApp limits how often it may be asked. So one question is asked at a time, and what it refuses holds back the
//! next one as well. Those who wait hold no permit: answers go on.
//!
//! Other services may ask, too, without sending: fewer, never while a send waits for its turn, and beside the turn, so that no
//! send waits for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;
use whatsapp_rust::{Client, ContactError, IqError, Jid};

use super::pace::Pace;
use super::rate::Limit;
use crate::edge::session::link::State;
use crate::edge::session::{Connection, digits};
use crate::telemetry::redact;
use crate::wire::ChatToken;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many addresses are remembered. The oldest are forgotten first.
const REMEMBERED: usize = 10_000;
/// How long one is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Of how many sent messages request and chat are remembered. One takes about 250 bytes.
const REMEMBERED_SENDS: usize = 20_000;

/// A check may wait so long for its turn: behind other checks, and behind sends that ask.
const TURN: Duration = Duration::from_secs(3);
/// And so long for WhatsApp.
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);

/// Asks WhatsApp about numbers. Clones share what they know.
#[derive(Debug, Clone)]
pub struct LookUps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: Connection,
    known: Mutex<Known>,
    /// Held by the one who asks for a send, also during the pause after a refusal.
    turn: tokio::sync::Mutex<Pace>,
    /// Held by the one who asks for another service.
    checks: tokio::sync::Mutex<Checks>,
    budget: Option<DefaultDirectRateLimiter>,
}

/// The questions of other services.
#[derive(Debug, Default)]
struct Checks {
    pace: Pace,
    /// WhatsApp wants to be left alone until then.
    rests_until: Option<Instant>,
}

/// Why it is not known whether a number is on WhatsApp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchecked {
    /// It is no phone number.
    #[error("this is no phone number: write it with its country code, in digits")]
    NotANumber,
    /// WhatsApp cannot be asked.
    #[error("the linked number is not online: look at the status, and ask again then")]
    NotOnline,
    /// It may be asked again then.
    #[error("too many numbers were asked for (SERVICE_CHECKS): ask again in {} s", .0.as_secs().max(1))]
    TooMany(Duration),
    /// Others ask. Sends go first.
    #[error("others are asking, and messages go first: ask again in a few seconds")]
    Busy,
    /// WhatsApp does not answer.
    #[error("WhatsApp answers no look-ups of numbers for the moment: ask again in {} s", .0.as_secs().max(1))]
    Refused(Duration),
}

/// The addresses that WhatsApp named, the oldest first.
#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<String, (Jid, Instant)>,
    order: VecDeque<String>,
}

impl LookUps {
    /// Nothing is known yet. Other services may ask as often as `checks` says.
    pub(crate) fn new(connection: Connection, checks: Limit) -> Self {
        let quota =
            |rate: super::rate::Rate| Some(Quota::with_period(rate.interval())?.allow_burst(rate.count));
        Self(Arc::new(Shared {
            connection,
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            checks: tokio::sync::Mutex::default(),
            budget: checks.and_then(quota).map(RateLimiter::direct),
        }))
    }

    /// The address of the person with this number. `None`: the number is not on WhatsApp. May take any time.
    pub(super) async fn address(&self, number: &Jid) -> Option<Jid> {
        if let Some(known) = self.known().of(&number.user, Instant::now()) {
            return Some(known);
        }
        let mut pace = self.0.turn.lock().await;
        loop {
            // Somebody before this one may have asked for the same number.
            if let Some(known) = self.known().of(&number.user, Instant::now()) {
                return Some(known);
            }
            let client = self.0.connection.client().await;
            match self.ask(&client, number, TIMEOUT).await {
                Ok(found) => {
                    pace.answered();
                    return found;
                }
                Err(silence) => {
                    let backoff = silence.backoff(&pace);
                    let pause = pace.failed(backoff);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The number as WhatsApp has it, for another service that asks. `None`: nobody has it there. Never in the way of a send.
    pub async fn check(&self, number: &str) -> Result<Option<String>, Unchecked> {
        let number = Jid::pn(digits(number).ok_or(Unchecked::NotANumber)?);
        let known =
            || self.known().of(&number.user, Instant::now()).map(|found| Some(found.user.to_string()));
        if let Some(known) = known() {
            return Ok(known);
        }
        if self.0.connection.state() != State::Online {
            return Err(Unchecked::NotOnline);
        }
        let busy = |_elapsed| Unchecked::Busy;
        let mut checks = tokio::time::timeout(TURN, self.0.checks.lock()).await.map_err(busy)?;
        // Sends that wait go first. Whoever comes later does not wait for this one.
        drop(tokio::time::timeout(TURN, self.0.turn.lock()).await.map_err(busy)?);
        if let Some(known) = known() {
            return Ok(known);
        }
        let now = Instant::now();
        if let Some(until) = checks.rests_until.filter(|until| *until > now) {
            return Err(Unchecked::Refused(until - now));
        }
        let client = tokio::time::timeout(TURN, self.0.connection.client()).await;
        let client = client.map_err(|_elapsed| Unchecked::NotOnline)?;
        if let Some(Err(not_yet)) = self.0.budget.as_ref().map(|budget| budget.check()) {
            return Err(Unchecked::TooMany(not_yet.wait_time_from(DefaultClock::default().now())));
        }
        match self.ask(&client, &number, CHECK_TIMEOUT).await {
            Ok(found) => {
                checks.pace.answered();
                Ok(found.map(|found| found.user.to_string()))
            }
            Err(silence) => {
                let backoff = silence.backoff(&checks.pace);
                let pause = checks.pace.failed(backoff);
                checks.rests_until = Some(Instant::now() + pause);
                Err(Unchecked::Refused(pause))
            }
        }
    }

    /// Asks once, and remembers who was found.
    async fn ask(&self, client: &Client, number: &Jid, bound: Duration) -> Result<Option<Jid>, Silence> {
        let asked = async {
            let answers = client.contacts().is_on_whatsapp(std::slice::from_ref(number)).await;
            let answers = match answers {
                Ok(answers) => answers,
                Err(ContactError::Iq(IqError::ServerError { backoff, .. })) => {
                    return Err(Silence::Limited(backoff));
                }
                Err(error) => {
                    let error = redact::text(&error);
                    tracing::debug!(error, "cannot find out whether a number is on WhatsApp");
                    return Err(Silence::Unknown);
                }
            };
            if let Some(error) = answers.iter().find_map(|answer| answer.contact_error.as_ref()) {
                return Err(Silence::Limited(error.backoff));
            }
            let found = answers.into_iter().find(|answer| answer.is_registered);
            Ok(found.map(|found| found.jid.to_non_ad()))
        };
        let found = tokio::time::timeout(bound, asked).await.unwrap_or(Err(Silence::Unknown))?;
        if let Some(found) = &found {
            self.known().remember(&number.user, found, Instant::now());
        }
        Ok(found)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no answer.
enum Silence {
    /// WhatsApp wants to be left alone, for so many seconds.
    Limited(Option<u32>),
    /// Who knows.
    Unknown,
}

impl Silence {
    fn backoff(&self, pace: &Pace) -> Option<Duration> {
        match self {
            Self::Limited(backoff) => limited(*pace, *backoff),
            Self::Unknown => None,
        }
    }
}

/// WhatsApp refused to answer. Told once, until it answers again.
fn limited(pace: Pace, backoff: Option<u32>) -> Option<Duration> {
    if pace.is_fresh() {
        tracing::warn!(
            "WhatsApp answers no look-ups of numbers for the moment; messages to new numbers wait, answers do not"
        );
    }
    backoff.map(|seconds| Duration::from_secs(seconds.into()))
}

impl Known {
    fn of(&self, number: &str, now: Instant) -> Option<Jid> {
        let (address, since) = self.addresses.get(number)?;
        (now.saturating_duration_since(*since) < REMEMBERED_FOR).then(|| address.clone())
    }

    fn remember(&mut self, number: &str, address: &Jid, now: Instant) {
        if self.addresses.insert(number.to_owned(), (address.clone(), now)).is_none() {
            self.order.push_back(number.to_owned());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.addresses.remove(&oldest);
        }
    }
}

/// What was sent lately, for its receipts: with which request, and in which chat, if the receipts come from another address
/// than the one that was asked for. In memory only: after a restart, receipts of earlier messages name no request, and are in
/// the chat of the real address. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentAs(Arc<Mutex<SentIds>>);

#[derive(Debug, Default)]
struct SentIds {
    sent: HashMap<String, Sent>,
    order: VecDeque<String>,
}

/// A message that was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// The chat of its request, if it is not the one of its address.
    pub chat: Option<ChatToken>,
    /// The outcome or the request.
    pub cause: String,
}

impl SentAs {
    /// A message is being sent.
    pub(super) fn remember(&self, whatsapp_id: &str, what: Sent) {
        let mut sent = self.sent();
        if sent.sent.insert(whatsapp_id.to_owned(), what).is_none() {
            sent.order.push_back(whatsapp_id.to_owned());
        }
        if sent.order.len() > REMEMBERED_SENDS
            && let Some(oldest) = sent.order.pop_front()
        {
            sent.sent.remove(&oldest);
        }
    }

    /// What is known of a message.
    pub(super) fn get(&self, whatsapp_id: &str) -> Option<Sent> {
        self.sent().sent.get(whatsapp_id).cloned()
    }

    fn sent(&self) -> MutexGuard<'_, SentIds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_has_a_bound_and_an_end() {
        let (mut known, now) = (Known::default(), Instant::now());
        for number in 0..=REMEMBERED {
            known.remember(&number.to_string(), &Jid::pn("54911"), now);
        }
        assert_eq!(known.addresses.len(), REMEMBERED);
        assert_eq!((known.of("0", now), known.of("1", now)), (None, Some(Jid::pn("54911"))));
        assert_eq!(known.of("1", now + REMEMBERED_FOR), None);

        let what = Sent { chat: Some(ChatToken::phone("54911")), cause: "order-77".to_owned() };
        let sent = SentAs::default();
        for number in 0..=REMEMBERED_SENDS {
            sent.remember(&number.to_string(), what.clone());
        }
        assert_eq!((sent.get("0"), sent.get("1")), (None, Some(what)));
        assert_eq!(sent.sent().order.len(), REMEMBERED_SENDS);
    }
}
