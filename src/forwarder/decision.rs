//! How a message ends, in the form that goes on the bus. Pure.

use std::time::Duration;

use super::backend::Reply;
use super::markdown;
use crate::wire::v1::{self, Dead, DeadReason, NoReply, NoReplyReason, outcome};
use crate::wire::visible;

/// A decided outcome, not stored yet.
pub(super) type Decision = outcome::Result;

/// What happens to the backend's answers (`BACKEND_MODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Customers get the answers.
    Answer,
    /// Nobody gets an answer. The answer is stored beside an outcome that has none.
    Shadow,
}

/// How the backend writes its answers (`REPLY_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As a phone shows it: nothing is changed.
    Text,
    /// In markdown, which becomes WhatsApp's own marks.
    Markdown,
}

/// The backend has an answer. What goes on the bus is what is sent.
pub(super) fn answered(mode: Mode, format: Format, mut reply: Reply) -> Decision {
    if format == Format::Markdown {
        let shown = markdown::to_whatsapp(&reply.text);
        // Of what only markdown's readers would not see, a person sees all.
        if visible::is_any(&shown) {
            reply.text = shown;
        }
    }
    let reply = v1::Reply::from(reply);
    match mode {
        Mode::Answer => Decision::Reply(reply),
        // This is not a reply with a flag: an edge that does not know the flag would send the reply.
        Mode::Shadow => {
            let reason = NoReplyReason::Shadow.into();
            Decision::None(NoReply { reason, would_be: Some(reply), ..NoReply::default() })
        }
    }
}

/// How long the live service may still ask first about a message that was stored at `stored_at_ms`. A message that has
/// waited on the bus does not wait again. No wait is longer than `delay`, whatever the clocks say.
pub(super) fn head_start(mode: Mode, delay: Duration, stored_at_ms: i64, now_ms: i64) -> Duration {
    match mode {
        Mode::Answer => Duration::ZERO,
        Mode::Shadow => left(delay, stored_at_ms, now_ms),
    }
}

/// What is left of a wait that began when the message was stored.
pub(super) fn left(wait: Duration, stored_at_ms: i64, now_ms: i64) -> Duration {
    let since = u64::try_from(now_ms.saturating_sub(stored_at_ms)).unwrap_or(0);
    wait.saturating_sub(Duration::from_millis(since))
}

/// There is no answer.
pub(super) fn none(reason: NoReplyReason) -> Decision {
    Decision::None(NoReply { reason: reason.into(), ..NoReply::default() })
}

/// It is asked about with the message of this `inbound_id`.
pub(super) fn joined(into: &str) -> Decision {
    Decision::None(NoReply {
        reason: NoReplyReason::Joined.into(),
        joined_into: into.to_owned(),
        ..NoReply::default()
    })
}

/// The message is given up on. The customer gets `fallback` for it.
pub(super) fn dead(mode: Mode, reason: DeadReason, detail: &str, fallback: &str) -> Decision {
    let fallback_text = match mode {
        Mode::Answer => fallback.to_owned(),
        Mode::Shadow => String::new(),
    };
    Decision::Dead(Dead { reason: reason.into(), detail: detail.to_owned(), fallback_text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Reply {
        Reply::read(r#"{"response_text":"¿Cuál?","buttons":["Sí","No"]}"#.as_bytes()).unwrap()
    }

    #[test]
    fn in_shadow_an_answer_is_kept_whole_and_is_none() {
        let Decision::Reply(answer) = answered(Mode::Answer, Format::Text, reply()) else {
            panic!("no reply")
        };
        let Decision::None(none) = answered(Mode::Shadow, Format::Text, reply()) else { panic!("a reply") };
        assert_eq!(none.reason(), NoReplyReason::Shadow);
        assert_eq!(none.would_be.as_ref(), Some(&answer));
        assert_eq!(answer.interactive.unwrap().buttons, ["Sí", "No"]);
    }

    #[test]
    fn markdown_becomes_whatsapps_marks_if_the_backend_writes_it() {
        for (format, want) in [(Format::Text, "**Sí** (`a`)"), (Format::Markdown, "*Sí* (`a`)")] {
            let reply = Reply { text: "**Sí** (`a`)".to_owned(), ..Reply::default() };
            let Decision::Reply(reply) = answered(Mode::Answer, format, reply) else { panic!("no reply") };
            assert_eq!(reply.text, want);
        }
        let unseen = Reply { text: "[a]: https://a.example".to_owned(), ..Reply::default() };
        let Decision::Reply(reply) = answered(Mode::Answer, Format::Markdown, unseen) else {
            panic!("no reply")
        };
        assert_eq!(reply.text, "[a]: https://a.example");
    }

    #[test]
    fn the_live_service_has_its_head_start_once_and_in_shadow_only() {
        let five = Duration::from_secs(5);
        for (mode, delay, stored_at_ms, want_ms) in [
            (Mode::Shadow, five, 100_000, 5_000),
            (Mode::Shadow, five, 98_000, 3_000),
            (Mode::Shadow, five, 95_000, 0),
            (Mode::Shadow, five, 0, 0),
            (Mode::Shadow, five, i64::MIN, 0),
            // The server's clock is ahead of ours.
            (Mode::Shadow, five, 4_000_000, 5_000),
            (Mode::Shadow, five, i64::MAX, 5_000),
            (Mode::Shadow, Duration::ZERO, 100_000, 0),
            (Mode::Answer, five, 100_000, 0),
        ] {
            let got = head_start(mode, delay, stored_at_ms, 100_000);
            assert_eq!(got, Duration::from_millis(want_ms), "{mode:?} {stored_at_ms}");
        }
    }

    #[test]
    fn in_shadow_nobody_gets_a_word_for_a_dead_letter() {
        let fallback = |mode| match dead(mode, DeadReason::Rejected, "http-422", "Perdón.") {
            Decision::Dead(dead) => (dead.reason(), dead.detail, dead.fallback_text),
            other => panic!("{other:?}"),
        };
        let with = |text: &str| (DeadReason::Rejected, "http-422".to_owned(), text.to_owned());
        assert_eq!(fallback(Mode::Answer), with("Perdón."));
        assert_eq!(fallback(Mode::Shadow), with(""));
    }
}
