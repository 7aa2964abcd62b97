//! When a person has taken over a chat from the assistant, as pure functions. Edge, forwarders and commands judge alike.
//!
//! Only times of WhatsApp and of the stream are compared, which come with the messages, and never a process's own clock.

use std::time::Duration;

use super::id;
use super::v1::{InboundMessage, Outcome, Takeover, TakeoverCause, TakeoverState};

/// How long a takeover lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasts {
    /// Since the person's last message (`TAKEOVER`).
    pub each: Duration,
    /// Since it began (`TAKEOVER_MAX`).
    pub most: Duration,
}

impl Takeover {
    /// The same with its times, if it counts from when the stream stored it.
    pub fn resolved(self, stored_at_ms: i64) -> Self {
        if self.until_ms != 0 {
            return self;
        }
        let until_ms = stored_at_ms.saturating_add(self.lasts_ms.max(0));
        let times = |ms: i64| if ms == 0 { stored_at_ms } else { ms };
        Self {
            began_at_ms: times(self.began_at_ms),
            last_at_ms: times(self.last_at_ms),
            until_ms,
            lasts_ms: 0,
            ..self
        }
    }

    /// Does what was written at this time get no answer? Also what was written before the takeover began: the person has
    /// seen it.
    pub fn covers(&self, written_ms: i64) -> bool {
        written_ms < self.until_ms
    }

    /// An operator has ended it.
    fn is_resumed(&self) -> bool {
        self.state() == TakeoverState::Ended && self.cause() == TakeoverCause::Operator
    }
}

/// A person has written in the chat at this time. Returns the takeover from then on. `None`: it changes nothing.
pub fn written(before: Option<&Takeover>, at_ms: i64, message_id: &str, lasts: Lasts) -> Option<Takeover> {
    let until = |began: i64| at_ms.saturating_add(ms(lasts.each)).min(began.saturating_add(ms(lasts.most)));
    let said = |state: TakeoverState, began_at_ms, until_ms| Takeover {
        state: state.into(),
        cause: TakeoverCause::Person.into(),
        began_at_ms,
        last_at_ms: at_ms,
        until_ms,
        message_id: message_id.to_owned(),
        ..Takeover::default()
    };
    let begins = || said(TakeoverState::Began, at_ms, until(at_ms));
    let Some(before) = before else { return Some(begins()) };
    if before.is_resumed() {
        // WhatsApp's times are whole seconds, and the person has the benefit of the doubt.
        let is_later = at_ms >= before.until_ms.saturating_sub(before.until_ms.rem_euclid(1_000));
        return is_later.then(begins);
    }
    if !before.covers(at_ms) {
        return Some(begins());
    }
    // What is older than the beginning comes late, and says nothing new.
    let until_ms = until(before.began_at_ms);
    (until_ms > before.until_ms).then(|| said(TakeoverState::Extended, before.began_at_ms, until_ms))
}

/// An operator takes over a chat, from when the stream stores this, for so long.
pub fn asked_for(lasts: Duration) -> Takeover {
    Takeover {
        state: TakeoverState::Began.into(),
        cause: TakeoverCause::Operator.into(),
        lasts_ms: ms(lasts),
        ..Takeover::default()
    }
}

/// An operator gives the chat back to the assistant, from when the stream stores this.
pub fn resumed(before: &Takeover) -> Takeover {
    Takeover {
        state: TakeoverState::Ended.into(),
        cause: TakeoverCause::Operator.into(),
        until_ms: 0,
        lasts_ms: 0,
        message_id: String::new(),
        ..before.clone()
    }
}

/// Its time has passed.
pub fn over(before: &Takeover) -> Takeover {
    Takeover { state: TakeoverState::Ended.into(), cause: TakeoverCause::Time.into(), ..before.clone() }
}

/// When a message was written. One that an operator replays is as old as the replay.
pub fn written_at(message: &InboundMessage) -> i64 {
    let replayed = message.replay.as_ref().map_or(0, |replay| replay.at_ms);
    first_known([replayed, message.sent_at_ms, message.received_at_ms])
}

/// The same of the message that an outcome ends.
pub fn answers_what_was_written_at(outcome: &Outcome) -> i64 {
    let is_replay = id::original(&outcome.inbound_id) != outcome.inbound_id;
    let replayed = if is_replay { outcome.received_at_ms } else { 0 };
    first_known([replayed, outcome.sent_at_ms, outcome.received_at_ms, outcome.decided_at_ms])
}

fn first_known<const N: usize>(times: [i64; N]) -> i64 {
    times.into_iter().find(|ms| *ms != 0).unwrap_or_default()
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::Replay;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000;
    const NOON: i64 = 1_700_000_000_000;
    const LASTS: Lasts = Lasts { each: Duration::from_secs(1_800), most: Duration::from_secs(12 * 3_600) };

    fn at(minutes: i64) -> i64 {
        NOON + minutes * MINUTE
    }

    fn wrote(before: Option<&Takeover>, minutes: i64) -> Option<Takeover> {
        written(before, at(minutes), "3EB0", LASTS)
    }

    #[test]
    fn it_lasts_from_the_persons_last_message_on() {
        let first = wrote(None, 0).unwrap();
        assert_eq!((first.state(), first.until_ms), (TakeoverState::Began, at(30)));
        let second = wrote(Some(&first), 20).unwrap();
        assert_eq!((second.state(), second.until_ms), (TakeoverState::Extended, at(50)));
        assert_eq!((second.began_at_ms, second.last_at_ms), (at(0), at(20)));
        // The same once more, or an older one that comes late.
        assert_eq!(wrote(Some(&second), 20), None);
        assert_eq!(wrote(Some(&second), 10), None);
        assert_eq!(wrote(Some(&second), -90), None);
        let next = wrote(Some(&second), 50).unwrap();
        assert_eq!((next.state(), next.began_at_ms), (TakeoverState::Began, at(50)));
    }

    #[test]
    fn it_covers_what_was_written_before_it_and_within_it() {
        let takeover = wrote(None, 0).unwrap();
        for (minutes, covers) in [(-600, true), (0, true), (29, true), (30, false), (31, false)] {
            assert_eq!(takeover.covers(at(minutes)), covers, "{minutes}");
        }
        assert!(over(&takeover).covers(at(29)) && !over(&takeover).covers(at(30)));
    }

    #[test]
    fn it_ends_at_the_latest_after_its_longest_time() {
        let mut takeover = wrote(None, 0).unwrap();
        for minutes in (20..720).step_by(20) {
            takeover = wrote(Some(&takeover), minutes).unwrap_or(takeover);
        }
        assert_eq!((takeover.began_at_ms, takeover.until_ms), (at(0), at(720)));
        // Who writes after that takes over anew.
        assert_eq!(wrote(Some(&takeover), 721).unwrap().state(), TakeoverState::Began);
    }

    #[test]
    fn an_operators_takeover_counts_from_when_the_stream_has_it() {
        let asked = asked_for(Duration::from_secs(7_200)).resolved(at(0));
        assert_eq!((asked.began_at_ms, asked.until_ms), (at(0), at(120)));
        assert_eq!(wrote(Some(&asked), 10), None, "it lasts longer anyway");
        assert_eq!(wrote(Some(&asked), 100).unwrap().until_ms, at(130));
        let ended = resumed(&asked).resolved(at(5) + 700);
        assert_eq!((ended.began_at_ms, ended.until_ms), (at(0), at(5) + 700));
        assert!(ended.covers(at(5)) && !ended.covers(at(6)));
        assert_eq!(wrote(Some(&ended), 4), None, "the operator has seen it");
        let again = wrote(Some(&ended), 5).unwrap();
        assert_eq!((again.state(), again.began_at_ms), (TakeoverState::Began, at(5)));
        assert_eq!(asked.clone().resolved(at(9)), asked, "once");
    }

    #[test]
    fn a_replay_is_as_old_as_the_replay() {
        let message =
            InboundMessage { sent_at_ms: at(0), received_at_ms: at(1), ..InboundMessage::default() };
        assert_eq!(written_at(&message), at(0));
        let replay = Some(Replay { at_ms: at(50), ..Replay::default() });
        assert_eq!(written_at(&InboundMessage { replay, ..message.clone() }), at(50));
        assert_eq!(written_at(&InboundMessage { sent_at_ms: 0, ..message }), at(1));
        let outcome = |inbound_id: &str| Outcome {
            inbound_id: inbound_id.to_owned(),
            sent_at_ms: at(0),
            received_at_ms: at(50),
            ..Outcome::default()
        };
        assert_eq!(answers_what_was_written_at(&outcome("a/5/5/3EB0")), at(0));
        assert_eq!(answers_what_was_written_at(&outcome("a/5/5/3EB0/replay-7")), at(50));
    }

    proptest! {
        /// Whatever the order in which WhatsApp hands them over, and however often.
        #[test]
        fn nobody_is_answered_within_the_time_of_a_persons_last_message(
            minutes in proptest::collection::vec(-800_i64..800, 1..40),
        ) {
            let mut takeover: Option<Takeover> = None;
            for minute in &minutes {
                takeover = wrote(takeover.as_ref(), *minute).or(takeover);
                let now = takeover.as_ref().unwrap();
                prop_assert!(now.until_ms <= now.began_at_ms + 720 * MINUTE);
                let capped = now.until_ms == now.began_at_ms + 720 * MINUTE;
                prop_assert!(now.covers(at(*minute)) && (capped || now.covers(at(*minute) + 29 * MINUTE)));
            }
            let settled = takeover.clone();
            for minute in &minutes {
                takeover = wrote(takeover.as_ref(), *minute).or(takeover);
            }
            prop_assert_eq!(takeover, settled, "what comes twice changes nothing");
        }
    }
}
