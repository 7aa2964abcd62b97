//! What the backend's answer means, as pure functions: answer → class → next step.

use std::time::Duration;

use super::backend::{Answer, Failure, Reply};

/// The classes of answers, as in the design's table.
#[derive(Debug, Clone, PartialEq)]
pub enum Class {
    /// An answer for the customer.
    Answered(Box<Reply>),
    /// A 2xx without a text that can be seen, and without options: nothing to send.
    Silent,
    /// Refused. As a rule that concerns everybody, and no message is at fault: `hold` decides.
    Unavailable {
        /// A code for logs and readiness.
        reason: String,
        /// How long the backend asked to wait.
        retry_after: Option<Duration>,
    },
    /// This message failed this time.
    Failed {
        /// A code for logs and the dead letter.
        reason: String,
    },
    /// This message will always fail.
    Rejected {
        /// A code for logs and the dead letter.
        reason: String,
    },
}

impl Class {
    /// The class and its reason as codes, for metrics.
    pub fn codes(&self) -> [&str; 2] {
        match self {
            Self::Answered(_) => ["answered", ""],
            Self::Silent => ["silent", ""],
            Self::Unavailable { reason, .. } => ["unavailable", reason],
            Self::Failed { reason } => ["failed", reason],
            Self::Rejected { reason } => ["rejected", reason],
        }
    }
}

/// One row per answer.
pub fn class(answer: Result<Answer, Failure>) -> Class {
    match answer {
        Ok(Answer::Reply(reply)) => {
            if reply.is_silent() {
                Class::Silent
            } else {
                Class::Answered(reply)
            }
        }
        Ok(Answer::Status { code, retry_after }) => {
            let reason = format!("http-{code}");
            match code {
                // The second half: a proxy that has no backend.
                401 | 403 | 404 | 405 | 429 | 503 | 502 | 521 | 522 | 523 | 525 | 526 | 530 => {
                    Class::Unavailable { reason, retry_after }
                }
                400 | 413 | 415 | 422 => Class::Rejected { reason },
                _ => Class::Failed { reason },
            }
        }
        Err(Failure::Unreachable) => {
            Class::Unavailable { reason: "unreachable".to_owned(), retry_after: None }
        }
        Err(failure) => Class::Failed { reason: failure.code().to_owned() },
    }
}

/// No `Retry-After` is honoured for longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long to wait before attempt `attempt + 1` of a failed message. The wait doubles from 0.5 s up to 30 s. A
/// random half of it is used (`jitter` in 0..1), so that many chats do not retry at the same moment.
pub fn retry_delay(attempt: u32, jitter: f64) -> Duration {
    let full = Duration::from_millis(500).saturating_mul(1 << attempt.min(6)).min(Duration::from_secs(30));
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// How long to wait if the backend asked for a time: that long, up to 30 s, and never less than without it.
pub fn at_least(own: Duration, retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(own, |asked| asked.min(MAX_RETRY_AFTER).max(own))
}

/// How long the next probe of an unavailable backend waits. The wait doubles from 0.25 s up to 1 s; if the backend
/// asked for a time, it is that time, up to 30 s. One probe at a time is cheap, and all messages should go on
/// within two seconds of a recovery.
pub fn probe_delay(probes: u32, retry_after: Option<Duration>) -> Duration {
    let own = Duration::from_millis(250).saturating_mul(1 << probes.min(2));
    at_least(own, retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Result<Answer, Failure> {
        Ok(Answer::Status { code, retry_after: None })
    }

    fn reply(text: &str) -> Result<Answer, Failure> {
        Ok(Answer::Reply(Box::new(Reply { text: text.to_owned(), ..Reply::default() })))
    }

    fn offer(text: &str, button: &str) -> Result<Answer, Failure> {
        let body = serde_json::json!({ "response_text": text, "buttons": [button] }).to_string();
        Ok(Answer::Reply(Box::new(Reply::read(body.as_bytes()).expect("a body"))))
    }

    #[test]
    fn a_row_per_answer() {
        let rows = [
            (reply("Hola"), "answered"),
            (reply(""), "silent"),
            (reply(" \n"), "silent"),
            (reply("\u{2060}\u{feff}"), "silent"),
            (reply("\u{2800}"), "silent"),
            (reply("❤\u{fe0f}"), "answered"),
            (offer("", "Sí"), "answered"),
            (offer("\u{200b}", "Sí"), "answered"),
            (status(401), "unavailable"),
            (status(403), "unavailable"),
            (status(404), "unavailable"),
            (status(405), "unavailable"),
            (status(503), "unavailable"),
            (status(429), "unavailable"),
            (status(502), "unavailable"),
            (status(521), "unavailable"),
            (status(522), "unavailable"),
            (status(523), "unavailable"),
            (status(525), "unavailable"),
            (status(526), "unavailable"),
            (status(530), "unavailable"),
            (Err(Failure::Unreachable), "unavailable"),
            (status(500), "failed"),
            (status(504), "failed"),
            (status(520), "failed"),
            (status(524), "failed"),
            (status(408), "failed"),
            (status(301), "failed"),
            (status(418), "failed"),
            (Err(Failure::Timeout), "failed"),
            (Err(Failure::Broken), "failed"),
            (Err(Failure::NotJson), "failed"),
            (Err(Failure::TooLarge), "failed"),
            (status(400), "rejected"),
            (status(413), "rejected"),
            (status(415), "rejected"),
            (status(422), "rejected"),
        ];
        for (answer, want) in rows {
            let shown = format!("{answer:?}");
            assert_eq!(class(answer).codes()[0], want, "{shown}");
        }
    }

    #[test]
    fn retries_back_off_to_thirty_seconds_with_jitter() {
        assert_eq!(retry_delay(0, 1.0), Duration::from_millis(500));
        assert_eq!(retry_delay(0, 0.0), Duration::from_millis(250));
        assert_eq!(retry_delay(40, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn a_time_that_was_asked_for_is_waited_for_up_to_thirty_seconds() {
        let own = Duration::from_millis(250);
        for (asked, want) in [(None, 250), (Some(0), 250), (Some(7_000), 7_000), (Some(700_000), 30_000)] {
            let waits = at_least(own, asked.map(Duration::from_millis));
            assert_eq!(waits, Duration::from_millis(want), "{asked:?}");
        }
    }

    #[test]
    fn a_recovery_is_noticed_within_a_second_unless_the_backend_asked_for_more() {
        assert_eq!(probe_delay(40, None), Duration::from_secs(1));
        assert_eq!(probe_delay(0, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(probe_delay(0, Some(Duration::from_secs(700))), Duration::from_secs(30));
        assert_eq!(probe_delay(5, Some(Duration::ZERO)), Duration::from_secs(1));
    }
}
