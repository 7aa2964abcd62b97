//! What the product's processes warn of has to be what their test is about. Whatever else they warn of is a
//! defect, or a false alarm, and fails the test at its end.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// The product's own lines begin with it; those of its libraries are for their developers, and off by default.
const OWN: &str = "whatsapp_connector";

/// What it says when, for announcements of several tests.
pub mod warning {
    /// The connection to nats-server is gone.
    pub const BUS_AWAY: &str = "nats-server is away; everything waits for it";
    /// A stream is full.
    pub const FULL: &str = "the stream is full and takes nothing more";
    /// nats-server does not allow what has to be.
    pub const FORBIDDEN: &str = "nats-server refuses something that this role needs";
    /// A process, or a command, ends with an error.
    pub const CANNOT_GO_ON: &str = "cannot go on error=";
    /// The grace is over and calls are under way.
    pub const GIVEN_BACK: &str = "giving back what did not finish in time";
    /// The grace is over and sends are under way.
    pub const SENDS_UNKNOWN: &str = "sends that did not end in time are unknown";
    /// WhatsApp did not say that it has a message.
    pub const SENT_AGAIN: &str = "it is unknown whether a message was sent; it is sent again";
    /// WhatsApp gives no keys for the moment.
    pub const NOT_WRITTEN: &str = "a message could not be encrypted for its recipient; trying again";
    /// WhatsApp said no.
    pub const REFUSED: &str = "WhatsApp refused a message; trying again";
    /// WhatsApp said no too often.
    pub const NOT_TAKEN: &str = "WhatsApp does not take a message; it is given up on";
    /// The client library has lost one.
    pub const LOST: &str = "a message was lost on its way to the disk; its sender is asked for it";
    /// Nobody gets an answer.
    pub const SHADOW: &str = "shadow: nobody gets an answer";

    /// The backend is away, and this is why.
    pub fn held(reason: &str) -> String {
        format!("the backend is unavailable; everything is held until it is back reason={reason}")
    }

    /// A call failed, and this is why.
    pub fn retried(reason: &str) -> String {
        format!("the backend failed; trying again reason={reason}")
    }

    /// A message is a dead letter now, and this is why.
    pub fn given_up(detail: &str) -> String {
        format!("a message is given up on; its copy is in the dead letters detail={detail}")
    }
}

/// What a test said that it would see.
#[derive(Debug, Clone)]
struct Announcement {
    part: String,
    /// It has to be seen; else it may be.
    required: bool,
}

/// The logs of all processes of the product in a directory. Judged when it is dropped, so it has to outlive none of
/// them.
#[derive(Debug)]
pub struct Logs {
    /// `None`: somebody else looks at them.
    dir: Option<PathBuf>,
    announced: Mutex<Vec<Announcement>>,
}

impl Logs {
    /// Of the processes that are started with this directory.
    pub fn of(dir: &Path) -> Self {
        Self { dir: Some(dir.to_owned()), announced: Mutex::default() }
    }

    /// A WARN or an ERROR with these words in it will be there, and is right.
    pub fn expects(&self, part: &str) {
        self.announce(part, true);
    }

    /// It depends on who is faster whether there is one.
    pub fn may_have(&self, part: &str) {
        self.announce(part, false);
    }

    /// The bus goes away: everybody says so, and some what they could not do because of that.
    pub fn expects_an_outage_of_the_bus(&self) {
        self.expects(warning::BUS_AWAY);
        self.may_have_an_outage_of_the_bus();
        self.may_have("the report about an unsent message cannot be stored");
    }

    /// A part of the bus may go away, and somebody may say so.
    pub fn may_have_an_outage_of_the_bus(&self) {
        self.may_have(warning::BUS_AWAY);
        for part in [
            "nats-server does not answer; waiting for it",
            "pulling is interrupted",
            "pulling replies is interrupted",
            "consumer is not available yet",
            "consumer does not answer",
            "the bus did not answer; the message is given back",
            "the lease cannot be renewed",
            "an attempt cannot be counted",
            "a change of the session's state did not get on the bus",
        ] {
            self.may_have(part);
        }
    }

    /// The connection to WhatsApp breaks, with messages on their way in both directions.
    pub fn may_have_broken_traffic(&self) {
        self.may_have(warning::SENT_AGAIN);
        self.may_have(warning::LOST);
        // If the connection is not back by the next looks at it.
        self.may_have("WhatsApp cannot be reached");
    }

    /// Somebody else may take the port that `run` has found free for a nats-server of its own.
    pub fn may_have_a_private_bus(&self) {
        self.may_have("the embedded nats-server ended; starting it again");
    }

    /// Nobody judges them at the end.
    pub fn leave(&mut self) {
        self.dir = None;
    }

    fn announce(&self, part: &str, required: bool) {
        assert!(part.len() > 5, "`{part}` is in too many lines");
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.push(Announcement { part: part.to_owned(), required });
    }

    /// How often a WARN or an ERROR with these words was said so far.
    pub fn count(&self, part: &str) -> usize {
        let logs = self.dir.as_deref().map(read).unwrap_or_default();
        let lines = logs.iter().flat_map(|(_, text)| text.lines());
        lines.filter_map(alarm).filter(|line| line.contains(part)).count()
    }

    /// What is wrong with what they said so far.
    pub fn complaints(&self) -> Vec<String> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        judge(&read(dir), &announced)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // One failure is enough.
        if std::thread::panicking() {
            return;
        }
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "the product's logs:\n  {}", complaints.join("\n  "));
    }
}

/// File names and what is in them.
fn read(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains("-connector-") && name.ends_with(".err") {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            found.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found.sort_unstable();
    found
}

/// What was not announced, and what was and is not there.
fn judge(logs: &[(String, String)], announced: &[Announcement]) -> Vec<String> {
    let alarms = |text: &str| text.lines().filter_map(alarm).collect::<Vec<_>>();
    let all: Vec<(&str, String)> = logs
        .iter()
        .flat_map(|(name, text)| alarms(text).into_iter().map(move |line| (name.as_str(), line)))
        .collect();
    let is_announced = |line: &str| announced.iter().any(|one| line.contains(&one.part));
    let mut found: Vec<String> = all
        .iter()
        .filter(|(_, line)| !is_announced(line))
        .map(|(name, line)| format!("not announced, in {name}: {line}"))
        .collect();
    let missing = announced.iter().filter(|one| one.required);
    let missing = missing.filter(|one| !all.iter().any(|(_, line)| line.contains(&one.part)));
    found.extend(missing.map(|one| format!("announced, and in no log: {}", one.part)));
    found
}

/// A line that warns, as people read it: the level, what is said, and its fields. Panics warn, too.
fn alarm(line: &str) -> Option<String> {
    if line.contains("panicked at") {
        return Some(line.to_owned());
    }
    if let Ok(Value::Object(event)) = serde_json::from_str::<Value>(line) {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let level = text("level");
        return (warns(level) && text("target").starts_with(OWN)).then(|| {
            let mut said = level.to_owned();
            let fields = event.get("fields").and_then(Value::as_object);
            let message = fields.and_then(|fields| fields.get("message")).map(bare).unwrap_or_default();
            said.push_str(&format!(" {message}"));
            for (name, value) in fields.into_iter().flatten().filter(|(name, _)| *name != "message") {
                said.push_str(&format!(" {name}={}", bare(value)));
            }
            said
        });
    }
    if line.starts_with('{') {
        // Half a line, of somebody who was killed.
        let warns = ["WARN", "ERROR"].iter().any(|level| line.contains(&format!("\"level\":\"{level}\"")));
        return (warns && line.contains(&format!("\"target\":\"{OWN}"))).then(|| line.to_owned());
    }
    for_people(line)
}

/// `LOG_FORMAT=pretty`: a time, a level, and what is said; a library's line names its module before that.
fn for_people(line: &str) -> Option<String> {
    let line = without_colours(line);
    let (time, rest) = line.trim_start().split_once(' ')?;
    let (level, said) = rest.trim_start().split_once(' ')?;
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T') && time.ends_with('Z');
    let module = said.split_once(": ").map_or("", |(module, _)| module);
    let in_a_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
    // A word and a colon may be the beginning of a sentence of ours.
    let a_library = module.contains(['_', ':']) && module.chars().all(in_a_path);
    (is_time && warns(level) && !a_library).then(|| format!("{level} {said}"))
}

fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

fn warns(level: &str) -> bool {
    ["WARN", "ERROR"].contains(&level)
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARNS: &str = r#"{"timestamp":"2026-01-02T03:04:05.678Z","level":"WARN","target":"whatsapp_connector::bus::connect","fields":{"message":"nats-server is \"away\"","servers":"a"}}"#;

    fn complaints(log: &str, announced: &[(&str, bool)]) -> Vec<String> {
        let announced: Vec<_> = announced
            .iter()
            .map(|(part, required)| Announcement { part: (*part).to_owned(), required: *required })
            .collect();
        judge(&[("7-connector-edge.err".to_owned(), log.to_owned())], &announced)
    }

    #[test]
    fn what_warns_and_is_not_announced_is_complained_of() {
        let pretty = "2026-01-02T03:04:05.678Z";
        let lines = [
            WARNS.to_owned(),
            WARNS.replace("WARN", "ERROR"),
            // Killed in the middle of it.
            WARNS[..WARNS.len() - 20].to_owned(),
            format!("{pretty}  WARN nats-server is away servers=a"),
            format!("{pretty}  WARN shadow: nobody gets an answer"),
            format!("\u{1b}[2m{pretty}\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m \u{1b}[1mcannot go on\u{1b}[0m"),
            "thread 'tokio-rt-worker' (7) panicked at src/edge/mod.rs:1:1:".to_owned(),
        ];
        for line in &lines {
            let found = complaints(&format!("something\n{line}\nsomething\n"), &[]);
            assert!(
                matches!(&found[..], [one] if one.contains("not announced, in 7-connector-edge.err")),
                "{line}"
            );
        }
        let found = complaints(WARNS, &[]);
        assert_eq!(found, ["not announced, in 7-connector-edge.err: WARN nats-server is \"away\" servers=a"]);
    }

    #[test]
    fn what_is_announced_or_does_not_warn_or_is_a_librarys_is_not() {
        for announced in [("server is \"away\"", true), ("servers=a", false), ("WARN nats-server", true)] {
            assert_eq!(complaints(WARNS, &[announced]), [""; 0], "{announced:?}");
        }
        let fine = [
            WARNS.replace("WARN", "INFO"),
            WARNS.replace("whatsapp_connector::", "whatsapp_rust::"),
            "2026-01-02T03:04:05.678Z  WARN async_nats::connector: a library's".to_owned(),
            "2026-01-02T03:04:05.678Z  INFO a message of level WARN".to_owned(),
            "whatsapp-connector: NATS_URL is not set".to_owned(),
        ];
        for line in &fine {
            assert_eq!(complaints(line, &[]), [""; 0]);
        }
    }

    #[test]
    fn what_is_announced_and_never_comes_is_complained_of_unless_it_depends() {
        assert_eq!(complaints("", &[("is away", true)]), ["announced, and in no log: is away"]);
        assert_eq!(complaints("", &[("is away", false)]), [""; 0]);
        // An INFO with the same words is no WARN.
        let info = WARNS.replace("WARN", "INFO");
        assert_eq!(complaints(&info, &[("nats-server", true)]), ["announced, and in no log: nats-server"]);
    }
}
