//! What has to be done about a file that did not come. Pure.

use std::time::Duration;

use crate::bus::ObjectError;
use crate::edge::session::{Answer, Trouble};

/// The shortest and the longest pause before another try.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);
/// A phone that is off is not asked more often than this.
const PHONE: Duration = Duration::from_secs(60);
/// How often a file may come damaged, or as another one, and be tried again.
const SPOILT: u32 = 2;
/// How often a phone may upload it again.
const RENEWALS: u32 = 3;
/// How often it is tried, whatever the reason.
const TRIES: u32 = 200;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Try again after a while.
    Again(Duration),
    /// Ask the phone to upload it again.
    AskPhone,
    /// Give up, with this code.
    GiveUp(&'static str),
}

/// How far it is with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// How often it was tried in vain before.
    pub tries: u32,
    /// How often a phone has uploaded it again.
    pub renewals: u32,
    /// How much time is left.
    pub left: Duration,
}

/// After a download that failed.
pub(super) fn after(trouble: &Trouble<ObjectError>, progress: Progress) -> Step {
    let spoilt = |code| match progress.tries {
        0..SPOILT => Step::Again(FIRST),
        _ => Step::GiveUp(code),
    };
    match trouble {
        Trouble::TooLarge => Step::GiveUp("too-large"),
        Trouble::Unusable => Step::GiveUp("unusable"),
        Trouble::Damaged => spoilt("damaged"),
        Trouble::OtherContent => spoilt("wrong-hash"),
        Trouble::Expired if progress.renewals < RENEWALS => Step::AskPhone,
        Trouble::Expired => Step::GiveUp("expired"),
        Trouble::Away => again("unreachable", FIRST, progress),
        Trouble::Sink(ObjectError::Full) => again("bucket-full", FIRST, progress),
        Trouble::Sink(ObjectError::Away(_)) => again("bucket-away", FIRST, progress),
    }
}

/// After a phone was asked. Not for one that has uploaded the file.
pub(super) fn after_asking(answer: &Answer, progress: Progress) -> Step {
    match answer {
        Answer::Gone => Step::GiveUp("expired"),
        // The phone may have answered: it is asked again on the next connection.
        Answer::Unheard => again("expired", FIRST, progress),
        Answer::Here(_) | Answer::Silence => again("expired", PHONE, progress),
    }
}

/// Twice as long each time. If that is more than the time that is left, nothing is gained by waiting.
fn again(code: &'static str, first: Duration, progress: Progress) -> Step {
    let pause = first.saturating_mul(1 << progress.tries.min(20)).min(LONGEST);
    if progress.tries >= TRIES || pause >= progress.left { Step::GiveUp(code) } else { Step::Again(pause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tries: u32, renewals: u32, left_s: u64) -> Progress {
        Progress { tries, renewals, left: Duration::from_secs(left_s) }
    }

    #[test]
    fn each_failure_has_its_step() {
        let seconds = |seconds| Step::Again(Duration::from_secs(seconds));
        let week = 7 * 86_400;
        for (trouble, progress, want) in [
            (Trouble::TooLarge, at(0, 0, week), Step::GiveUp("too-large")),
            (Trouble::Unusable, at(0, 0, week), Step::GiveUp("unusable")),
            (Trouble::Damaged, at(0, 0, week), seconds(1)),
            (Trouble::Damaged, at(2, 0, week), Step::GiveUp("damaged")),
            (Trouble::OtherContent, at(1, 0, week), seconds(1)),
            (Trouble::OtherContent, at(2, 0, week), Step::GiveUp("wrong-hash")),
            (Trouble::Expired, at(9, 2, week), Step::AskPhone),
            (Trouble::Expired, at(9, 3, week), Step::GiveUp("expired")),
            (Trouble::Away, at(0, 0, week), seconds(1)),
            (Trouble::Away, at(4, 0, week), seconds(16)),
            (Trouble::Away, at(99, 0, week), seconds(3_600)),
            (Trouble::Away, at(4, 0, 16), Step::GiveUp("unreachable")),
            (Trouble::Away, at(200, 0, week), Step::GiveUp("unreachable")),
            (Trouble::Sink(ObjectError::Full), at(1, 0, week), seconds(2)),
            (Trouble::Sink(ObjectError::Full), at(1, 0, 1), Step::GiveUp("bucket-full")),
            (Trouble::Sink(ObjectError::Away(String::new())), at(0, 0, 1), Step::GiveUp("bucket-away")),
        ] {
            assert_eq!(after(&trouble, progress), want, "{trouble:?} {progress:?}");
        }
    }

    #[test]
    fn a_phone_that_is_off_is_asked_again_as_long_as_there_is_time() {
        assert_eq!(after_asking(&Answer::Gone, at(0, 0, 9_999)), Step::GiveUp("expired"));
        assert_eq!(after_asking(&Answer::Unheard, at(1, 0, 9_999)), Step::Again(2 * FIRST));
        assert_eq!(after_asking(&Answer::Silence, at(0, 0, 9_999)), Step::Again(PHONE));
        assert_eq!(after_asking(&Answer::Silence, at(1, 0, 9_999)), Step::Again(2 * PHONE));
        assert_eq!(after_asking(&Answer::Silence, at(9, 0, 9_999)), Step::Again(LONGEST));
        assert_eq!(after_asking(&Answer::Silence, at(0, 0, 60)), Step::GiveUp("expired"));
    }
}
