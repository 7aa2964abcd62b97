//! The `Retry-After` header: seconds, or a date.

use std::time::{Duration, UNIX_EPOCH};

/// How long the backend asks to wait. A date that is over asks for no time. `None`: it does not say.
pub(super) fn read(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has: for ever. Whoever waits has a bound of its own.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    Some(until.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        // 06:00:00 of that day.
        let now_ms = 1_732_600_800_000;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (value, want) in [
            ("0", seconds(0)),
            (" 7 ", seconds(7)),
            ("99999999999999999999999", seconds(u64::from(u32::MAX))),
            ("Tue, 26 Nov 2024 06:00:09 GMT", seconds(9)),
            ("Tuesday, 26-Nov-24 06:00:09 GMT", seconds(9)),
            ("Tue Nov 26 06:00:09 2024", seconds(9)),
            ("Tue, 26 Nov 2024 06:00:00 GMT", seconds(0)),
            ("Tue, 26 Nov 2024 05:59:59 GMT", seconds(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", seconds(0)),
            ("", None),
            ("-7", None),
            ("+7", None),
            ("7s", None),
            ("7.5", None),
            ("soon", None),
            ("Tue, 26 Nov 2024", None),
        ] {
            assert_eq!(read(value, now_ms), want, "{value}");
        }
    }
}
