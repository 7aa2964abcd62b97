//! What a file that could not be sent means: whether it is tried again, and when. Pure.

use std::time::Duration;

/// The shortest and the longest pause before another try.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);
/// For how long a file is tried, the pauses included, and not the time in which WhatsApp is away.
const WITHIN: Duration = Duration::from_secs(900);

/// Why WhatsApp does not have a file. The code goes on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// `MEDIA` is not `all`.
    #[error("media-off")]
    Off,
    /// There is no such object.
    #[error("no-object")]
    Missing,
    /// The edge may not read the bucket.
    #[error("bucket-forbidden")]
    Forbidden,
    /// The bucket does not answer, or there is none.
    #[error("bucket-away")]
    BucketAway,
    /// What is stored is not what its description says.
    #[error("wrong-hash")]
    OtherContent,
    /// It is longer than `MEDIA_MAX_BYTES`.
    #[error("too-large")]
    TooLarge,
    /// There is nothing in it.
    #[error("empty")]
    Empty,
    /// WhatsApp's media hosts cannot be reached.
    #[error("upload-failed")]
    Away,
    /// WhatsApp's media hosts do not take it.
    #[error("upload-refused")]
    Refused,
}

impl Trouble {
    /// The code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Off => "media-off",
            Self::Missing => "no-object",
            Self::Forbidden => "bucket-forbidden",
            Self::BucketAway => "bucket-away",
            Self::OtherContent => "wrong-hash",
            Self::TooLarge => "too-large",
            Self::Empty => "empty",
            Self::Away => "upload-failed",
            Self::Refused => "upload-refused",
        }
    }

    /// How often it is tried.
    fn tries(self) -> u32 {
        match self {
            Self::Off | Self::Forbidden | Self::TooLarge | Self::Empty => 1,
            // A replica of the bucket may lack what was written a moment ago, and the object may be written anew meanwhile.
            Self::Missing | Self::OtherContent | Self::Refused => 3,
            Self::BucketAway | Self::Away => 5,
        }
    }
}

/// After so many tries, which took so long: the pause before the next one. `None`: there is none.
pub(super) fn after(trouble: Trouble, tries: u32, spent: Duration) -> Option<Duration> {
    if tries >= trouble.tries() || spent >= WITHIN {
        return None;
    }
    Some(FIRST.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Trouble; 9] = [
        Trouble::Off,
        Trouble::Missing,
        Trouble::Forbidden,
        Trouble::BucketAway,
        Trouble::OtherContent,
        Trouble::TooLarge,
        Trouble::Empty,
        Trouble::Away,
        Trouble::Refused,
    ];

    #[test]
    fn what_may_pass_is_tried_again_later_and_later_and_not_for_ever() {
        let pauses = |trouble| -> Vec<u64> {
            let pauses = (1..).map_while(|tries| after(trouble, tries, Duration::ZERO));
            pauses.map(|pause| pause.as_secs()).collect()
        };
        for (trouble, want) in [
            (Trouble::Off, &[][..]),
            (Trouble::Forbidden, &[]),
            (Trouble::TooLarge, &[]),
            (Trouble::Empty, &[]),
            (Trouble::Missing, &[1, 2]),
            (Trouble::OtherContent, &[1, 2]),
            (Trouble::Refused, &[1, 2]),
            (Trouble::BucketAway, &[1, 2, 4, 8]),
            (Trouble::Away, &[1, 2, 4, 8]),
        ] {
            assert_eq!(pauses(trouble), want, "{trouble}");
        }
        assert_eq!(after(Trouble::Away, 2, WITHIN), None);
        assert!(after(Trouble::Away, 2, WITHIN - Duration::from_secs(1)).is_some());
    }

    #[test]
    fn a_code_is_one_word() {
        for trouble in ALL {
            assert_eq!(trouble.code(), trouble.to_string());
        }
    }
}
