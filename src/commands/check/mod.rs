//! `whatsapp-connector check`: says why the connector would not work, in the order in which an operator would look.
//!
//! Each part first collects facts, with I/O, and then judges them, without I/O. A finding says what is so, and what
//! mends it if the operator has to do something. Nothing is changed on the bus, at the backend or on the disk.

mod backend;
mod beside;
mod bus;
mod command;
mod pool;
mod session;

pub use command::{CheckArgs, run};

use serde::Serialize;

use crate::config::{Config, Environment, Remark, remarks};
use crate::forwarder::eligible::Settings as Eligible;
use crate::run::Sides;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, but the operator should know.
    Note,
    /// It would not work.
    Failure,
}

/// Every code. docs/operations.md explains each.
const CODES: &[&str] = &[
    "settings",
    "bad-setting",
    "unknown-setting",
    "quoted-setting",
    "earlier-name",
    "ignored-setting",
    "answers",
    "answers-everybody",
    "nats",
    "nats-private",
    "nats-url-missing",
    "nats-server-missing",
    "nats-login-unusable",
    "nats-unreachable",
    "nats-login-refused",
    "nats-tls",
    "nats-too-old",
    "jetstream",
    "jetstream-off",
    "jetstream-silent",
    "nats-permissions",
    "nats-forbidden",
    "nats-ack-in-a-domain",
    "nats-status-unheard",
    "nats-typing-forbidden",
    "streams",
    "stream-missing",
    "stream-differs",
    "stream-unknown",
    "backend",
    "backend-unreachable",
    "backend-silent",
    "backend-no-endpoint",
    "backend-redirects",
    "backend-unavailable",
    "backend-failing",
    "backend-slow",
    "backend-key",
    "backend-key-refused",
    "backend-key-unproved",
    "backend-signature-refused",
    "backend-signature-clock",
    "backend-client",
    "route-default",
    "route-key-lent",
    "files",
    "files-elsewhere",
    "files-signature-refused",
    "files-unavailable",
    "files-unreachable",
    "voice",
    "voice-key-refused",
    "voice-no-endpoint",
    "voice-redirects",
    "voice-silent",
    "voice-unavailable",
    "voice-unproved",
    "voice-unreachable",
    "http-client",
    "auth-dir",
    "auth-dir-unusable",
    "auth-dir-open",
    "auth-dir-network",
    "auth-dir-taken",
    "store-damaged",
    "session-elsewhere",
    "session-kept",
    "session-none",
    "session-unreadable",
    "session-unsafe",
    "pool",
    "pool-empty",
    "pool-unknown",
    "account-unreadable",
    "account-unknown",
    "linked",
    "unlinked",
    "clock",
    "clock-skew",
];

/// One result of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `settings`, `bus`, `backend`, `files`, `voice`, `session`.
    pub part: &'static str,
    /// Stable, for machines. docs/operations.md lists all codes.
    pub code: &'static str,
    /// How much it matters.
    pub verdict: Verdict,
    /// What is so.
    pub what: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    fn new(
        part: &'static str,
        code: &'static str,
        verdict: Verdict,
        what: String,
        mend: Option<String>,
    ) -> Self {
        debug_assert!(CODES.contains(&code), "{code} is not in the list");
        Self { part, code, verdict, what, mend }
    }

    fn fine(part: &'static str, code: &'static str, what: impl Into<String>) -> Self {
        Self::new(part, code, Verdict::Fine, what.into(), None)
    }

    fn note(
        part: &'static str,
        code: &'static str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(part, code, Verdict::Note, what.into(), Some(mend.into()))
    }

    fn failure(
        part: &'static str,
        code: &'static str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(part, code, Verdict::Failure, what.into(), Some(mend.into()))
    }
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is in the way.
    pub fine: bool,
    /// In the order of the check.
    pub findings: Vec<Finding>,
}

impl Report {
    fn of(findings: Vec<Finding>) -> Self {
        Self { fine: findings.iter().all(|finding| finding.verdict != Verdict::Failure), findings }
    }
}

/// Checks all that `sides` need.
pub async fn examine(environment: &Environment, sides: Sides) -> Report {
    let (mut findings, config) = settings(environment, sides);
    if let Some(config) = config {
        findings.extend(bus::check(&config, sides).await);
        if sides != Sides::Edge {
            findings.push(whom(&config.forwarder.eligible));
            findings.extend(backend::check(&config.forwarder.backend).await);
            findings.extend(backend::check_routes(&config.forwarder.routes, &config.forwarder.backend).await);
            if let Some(links) = &config.forwarder.files.links {
                findings.extend(beside::files(links).await);
            }
            if let Some(transcriber) = &config.forwarder.transcriber {
                findings.extend(beside::voice(transcriber).await);
            }
        }
        if sides != Sides::Forwarder {
            findings.extend(session::check(&config.edge));
        }
    }
    Report::of(findings)
}

fn settings(environment: &Environment, sides: Sides) -> (Vec<Finding>, Option<Config>) {
    const PART: &str = "settings";
    let mut findings = Vec::new();
    let read = |config: Config| if sides == Sides::Edge { Ok(config) } else { config.with_routes() };
    let config = match Config::parse(environment).and_then(read) {
        Ok(config) => {
            findings.push(Finding::fine(PART, "settings", "every setting can be used"));
            Some(config)
        }
        Err(error) => {
            findings.extend(error.0.into_iter().map(|bad| {
                let what = format!("{}={} cannot be used", bad.name, bad.got);
                Finding::failure(PART, "bad-setting", what, format!("it takes {}", bad.takes))
            }));
            None
        }
    };
    findings.extend(remarks(environment).into_iter().map(|remark| {
        let (code, mend) = match &remark {
            Remark::Unknown(_) => ("unknown-setting", "`whatsapp-connector config` lists all names"),
            Remark::Earlier(_) => {
                ("earlier-name", "give the setting its own name; `whatsapp-connector config` lists all names")
            }
            Remark::Quoted(_) => ("quoted-setting", "write the value without quotes"),
            Remark::Ignored { .. } => {
                ("ignored-setting", "nothing to do if the rest is enough; it counts as not set")
            }
        };
        Finding::note(PART, code, remark.to_string(), mend)
    }));
    (findings, config)
}

/// Who is answered.
fn whom(eligible: &Eligible) -> Finding {
    let what = format!("the connector answers {}", eligible.whom());
    if eligible.allowed_numbers.is_empty() {
        let mend = "nothing to do if that is what you want; to try things out, set ALLOWED_NUMBERS to your own number";
        return Finding::note("settings", "answers-everybody", what, mend);
    }
    Finding::fine("settings", "answers", what)
}

/// A difference of two clocks up to this, in seconds, is not reported.
const CLOCKS_S: i64 = 5;

/// The finding on a clock that is `ahead_s` seconds ahead of this machine's.
fn clock(part: &'static str, whose: &str, ahead_s: Option<i64>) -> Option<Finding> {
    let ahead_s = ahead_s?;
    let apart = ahead_s.unsigned_abs();
    if apart <= CLOCKS_S.unsigned_abs() {
        let what = format!("the clocks of {whose} and of this machine agree");
        return Some(Finding::fine(part, "clock", what));
    }
    let way = if ahead_s > 0 { "ahead of" } else { "behind" };
    let what = format!("the clock of {whose} is {apart} s {way} this machine's");
    Some(Finding::note(
        part,
        "clock-skew",
        what,
        "keep all clocks in step (NTP): otherwise times in metrics are wrong",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let verdict = |ahead| clock("bus", "nats-server", Some(ahead)).unwrap().verdict;
        assert_eq!([0, 5, -5].map(verdict), [Verdict::Fine; 3]);
        assert_eq!([6, -6, 86_400].map(verdict), [Verdict::Note; 3]);
        assert!(clock("bus", "nats-server", Some(-7)).unwrap().what.contains("7 s behind"));
        assert_eq!(clock("bus", "nats-server", None), None);
    }

    #[test]
    fn the_documentation_has_every_code_and_no_other() {
        let text = include_str!("../../../docs/operations.md");
        let (_, section) = text.split_once("## Check").expect("a section");
        let section = section.split("\n## ").next().expect("its end");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.filter_map(|row| row.split(" | ").next()).flat_map(|cell| cell.split(", "));
        let mut documented: Vec<_> = cells.map(|code| code.trim_matches('`')).collect();
        let mut known = CODES.to_vec();
        documented.sort_unstable();
        known.sort_unstable();
        assert_eq!(documented, known);
    }
}
