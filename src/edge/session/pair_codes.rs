//! Codes for linking with a phone number: how long one lives, and when the next one may be asked for. WhatsApp
//! refuses those who ask too often, and the QR code works all the time.

use std::time::Duration;

use tokio::time::Instant;
use whatsapp_rust::pair_code::PairCodeRejection;

/// After its end a code may still be on its way: the phone has answered, and the link is about to be made.
const GRACE: Duration = Duration::from_secs(10);
/// The first pause after a refusal that may pass. It doubles with each refusal in a row.
const PAUSE: Duration = Duration::from_secs(60);
/// The longest one, and the pause after a refusal that will not pass.
const LONG_PAUSE: Duration = Duration::from_secs(3_600);

/// A person may ask for a code by hand this often.
const BY_HAND: Duration = Duration::from_secs(20);

/// WhatsApp gave no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// WhatsApp's answer. `None`: it did not answer.
    pub rejection: Option<PairCodeRejection>,
    /// How long WhatsApp wants to be left alone.
    pub backoff: Option<Duration>,
}

impl Refusal {
    /// Why, and what to do.
    pub(super) fn why(self) -> &'static str {
        match self.rejection {
            Some(PairCodeRejection::RateOverlimit) => "too many codes were asked for",
            Some(PairCodeRejection::BadRequest) => {
                "too many codes were asked for, or WHATSAPP_PAIR_PHONE is no number on WhatsApp"
            }
            Some(PairCodeRejection::Forbidden) => "it does not allow it for this number: scan the QR code",
            Some(PairCodeRejection::FeatureNotAvailable) => {
                "this number cannot be linked with a code: scan the QR code"
            }
            Some(_) => "it cannot make one at the moment",
            None => "it did not answer",
        }
    }

    /// Will it be the same the next time?
    fn is_for_good(self) -> bool {
        matches!(self.rejection, Some(PairCodeRejection::Forbidden | PairCodeRejection::FeatureNotAvailable))
    }
}

/// The codes of one session.
#[derive(Debug, Default)]
pub(super) struct PairCodes {
    /// When the present code has ended.
    ends: Option<Instant>,
    /// When the next one may be asked for, after a refusal.
    not_before: Option<Instant>,
    /// Refusals in a row.
    refusals: u32,
    /// When a person asked for one last.
    by_hand: Option<Instant>,
}

impl PairCodes {
    /// WhatsApp gave a code that lives until `ends`.
    pub(super) fn came(&mut self, ends: Instant) {
        *self = Self { ends: Some(ends + GRACE), by_hand: self.by_hand, ..Self::default() };
    }

    /// WhatsApp gave none. Returns how long none is asked for.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Instant) -> Duration {
        let doubled = PAUSE * 2_u32.pow(self.refusals.min(6));
        let own = if refusal.is_for_good() { LONG_PAUSE } else { doubled.min(LONG_PAUSE) };
        let pause = refusal.backoff.unwrap_or_default().clamp(own, LONG_PAUSE);
        self.refusals = self.refusals.saturating_add(1);
        self.ends = None;
        self.not_before = Some(now + pause);
        pause
    }

    /// The number is linked, or there is a new connection with codes of its own.
    pub(super) fn over(&mut self) {
        self.ends = None;
    }

    /// May a code be asked for?
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|time| now >= time)
    }

    /// May a person ask for one now? If so, this person has.
    pub(super) fn may_be_asked_by_hand(&mut self, now: Instant) -> bool {
        let may = self.by_hand.is_none_or(|last| now >= last + BY_HAND);
        if may {
            self.by_hand = Some(now);
        }
        may
    }

    /// Returns when a new code should be asked for. Cancel-safe.
    pub(super) async fn next(&self) {
        match self.ends.or(self.not_before) {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// It has been seen to: nothing is due until the next code or refusal.
    pub(super) fn seen_to(&mut self) {
        self.ends = None;
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_make_the_next_code_come_later() {
        use PairCodeRejection::{BadRequest, FeatureNotAvailable, Forbidden, RateOverlimit};
        let seconds = Duration::from_secs;
        let rows = [
            (Some(RateOverlimit), None, 60),
            (None, None, 120),
            (Some(BadRequest), None, 240),
            // WhatsApp's own word, if it is longer, and within reason.
            (Some(RateOverlimit), Some(seconds(1_200)), 1_200),
            (Some(RateOverlimit), Some(seconds(5)), 960),
            (Some(RateOverlimit), Some(seconds(86_400)), 3_600),
            (Some(RateOverlimit), None, 3_600),
        ];
        let (mut codes, now) = (PairCodes::default(), Instant::now());
        assert!(codes.may_ask(now));
        for (rejection, backoff, want) in rows {
            assert_eq!(codes.refused(Refusal { rejection, backoff }, now), seconds(want), "{rejection:?}");
            assert!(!codes.may_ask(now + seconds(want) - seconds(1)));
            assert!(codes.may_ask(now + seconds(want)));
        }
        codes.came(now);
        assert!(codes.may_ask(now));
        for rejection in [Forbidden, FeatureNotAvailable] {
            let refusal = Refusal { rejection: Some(rejection), backoff: None };
            assert_eq!(PairCodes::default().refused(refusal, now), LONG_PAUSE);
        }
    }
}
