//! A rate, "this many in this time": how an operator writes a limit. Pure.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// The syntax of a limit, for error messages.
pub const TAKES: &str = "so many in so long, such as 20/10s (1 to 100000 in 1s to 24h), or off";
/// The same, for a limit whose time may be left out.
pub const TAKES_PER_MINUTE: &str =
    "so many in so long, such as 30/1m (1 to 100000 in 1s to 24h), a number per minute, or off";

/// The limit is bounded because the loop breaker remembers that many answers of one chat.
const MAX_COUNT: u32 = 100_000;
/// WhatsApp's own times are in whole seconds.
const MIN_WINDOW: Duration = Duration::from_secs(1);
const MAX_WINDOW: Duration = Duration::from_secs(86_400);

/// At most `count` in any `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at most 100 000.
    pub count: NonZeroU32,
    /// In what time; 1 s to 24 h.
    pub window: Duration,
}

/// A rate, or no limit at all.
pub type Limit = Option<Rate>;

/// Reads `20/10s` or `off`. `None`: the text is neither.
pub fn limit(text: &str) -> Option<Limit> {
    if text == "off" {
        return Some(None);
    }
    let (count, window) = text.split_once('/')?;
    let window = humantime::parse_duration(window.trim()).ok()?;
    Rate::new(count.trim().parse().ok()?, window).map(Some)
}

/// Like [`limit`], but a number alone means that number per minute.
pub fn limit_per_minute(text: &str) -> Option<Limit> {
    match text.parse() {
        Ok(count) => Rate::new(count, Duration::from_secs(60)).map(Some),
        Err(_) => limit(text),
    }
}

impl Rate {
    fn new(count: u32, window: Duration) -> Option<Self> {
        let is_sane = count <= MAX_COUNT && (MIN_WINDOW..=MAX_WINDOW).contains(&window);
        let count = NonZeroU32::new(count)?;
        is_sane.then_some(Self { count, window })
    }

    /// The time between two, if they are spread evenly.
    pub fn interval(&self) -> Duration {
        self.window / self.count.get()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, humantime::format_duration(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_people_write_it_and_written_so_again() {
        for (text, seconds) in [("20/10s", 10), ("1/24h", 86_400), ("30 / 1m", 60), ("100000/1s", 1)] {
            let rate = limit(text).flatten().unwrap();
            assert_eq!(rate.window, Duration::from_secs(seconds), "{text}");
            assert_eq!(limit(&rate.to_string()), Some(Some(rate)));
        }
        assert_eq!(limit("off"), Some(None));
        assert_eq!(limit_per_minute("off"), Some(None));
        assert_eq!(limit_per_minute("30"), limit("30/1m"));
        assert_eq!(limit("20/10s").flatten().unwrap().interval(), Duration::from_millis(500));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in
            ["", "30", "0/1s", "-1/1s", "100001/1s", "1/0s", "1/999ms", "1/25h", "1/s", "on", "1/1s/1s"]
        {
            assert_eq!(limit(text), None, "{text}");
        }
        for text in ["0", "100001", "a", "1.5"] {
            assert_eq!(limit_per_minute(text), None, "{text}");
        }
    }
}
