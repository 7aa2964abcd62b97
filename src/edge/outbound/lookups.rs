//! Whose number is it? Asked before a first contact, because the library sends to unknown numbers without an error.
//! WhatsApp also says the person's real address: some numbers are dialled with a digit more or less.
//!
//! WhatsApp limits how often it may be asked. So one question is asked at a time, and what it refuses holds back the
//! next one as well. Those who wait hold no permit: answers go on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use whatsapp_rust::{ContactError, IqError, Jid};

use crate::edge::session::Connection;
use crate::telemetry::redact;
use crate::wire::ChatToken;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The first pause after a question without an answer. It doubles with each one in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one, whatever WhatsApp asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How many addresses are remembered. The oldest are forgotten first.
const REMEMBERED: usize = 10_000;
/// How long one is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Of how many sent messages request and chat are remembered. One takes about 250 bytes.
const REMEMBERED_SENDS: usize = 20_000;

/// Asks WhatsApp about numbers.
#[derive(Debug)]
pub(super) struct LookUps {
    connection: Connection,
    known: Mutex<Known>,
    /// Held by the one who asks, also during the pause after a refusal.
    turn: tokio::sync::Mutex<Pace>,
}

/// The addresses that WhatsApp named, the oldest first.
#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<String, (Jid, Instant)>,
    order: VecDeque<String>,
}

/// How soon the next question may be asked. Pure.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
}

impl Pace {
    /// A question got no answer. WhatsApp may want to be left alone for `backoff`.
    fn failed(&mut self, backoff: Option<Duration>, chance: f64) -> Duration {
        let doubled = FIRST_PAUSE * 2_u32.pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        let pause = backoff.unwrap_or_default().max(doubled.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 4.0));
        pause.min(LONGEST_PAUSE)
    }
}

impl LookUps {
    /// Nothing is known yet.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The address of the person with this number. `None`: the number is not on WhatsApp. May take any time.
    pub(super) async fn address(&self, number: &Jid) -> Option<Jid> {
        if let Some(known) = self.known().of(&number.user, Instant::now()) {
            return Some(known);
        }
        let mut pace = self.turn.lock().await;
        loop {
            // Somebody before this one may have asked for the same number.
            if let Some(known) = self.known().of(&number.user, Instant::now()) {
                return Some(known);
            }
            let client = self.connection.client().await;
            let contacts = client.contacts();
            let asked = contacts.is_on_whatsapp(std::slice::from_ref(number));
            let backoff = match tokio::time::timeout(TIMEOUT, asked).await {
                Ok(Ok(answers)) => match answers.iter().find_map(|answer| answer.contact_error.as_ref()) {
                    Some(error) => limited(&pace, error.backoff),
                    None => {
                        pace.failures = 0;
                        let found = answers.into_iter().find(|answer| answer.is_registered)?.jid.to_non_ad();
                        self.known().remember(&number.user, &found, Instant::now());
                        return Some(found);
                    }
                },
                Ok(Err(ContactError::Iq(IqError::ServerError { backoff, .. }))) => limited(&pace, backoff),
                Ok(Err(error)) => {
                    let error = redact::text(&error);
                    tracing::debug!(error, "cannot find out whether a number is on WhatsApp");
                    None
                }
                Err(_elapsed) => None,
            };
            let pause = pace.failed(backoff, chance());
            tokio::time::sleep(pause).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// WhatsApp refused to answer. Told once, until it answers again.
fn limited(pace: &Pace, backoff: Option<u32>) -> Option<Duration> {
    if pace.failures == 0 {
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

/// From 0 to 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_no_answer_asks_less_and_less_often() {
        let mut pace = Pace::default();
        let pauses: Vec<_> = (0..12).map(|_| pace.failed(None, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        let seconds = Duration::from_secs;
        assert_eq!(Pace::default().failed(None, 0.0), Duration::from_millis(750));
        assert_eq!(Pace::default().failed(Some(seconds(30)), 1.0), seconds(30));
        assert_eq!(Pace::default().failed(Some(seconds(86_400)), 1.0), LONGEST_PAUSE);
    }

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
