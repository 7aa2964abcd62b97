//! What the product's processes warn of has to be what their test is about. Whatever else they warn of is a
//! defect, or a false alarm, and fails the test at its end.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// The product's own lines begin with it; those of its libraries are for their developers, and off by default.
const OWN: &str = "whatsapp_connector";

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
        self.expects("nats-server is away");
        for part in [
            "nats-server does not answer; waiting for it",
            "pulling is interrupted",
            "pulling replies is interrupted",
            "consumer is not to be had yet",
            "consumer does not answer",
            "the bus did not answer; the message is given back",
            "the lease cannot be renewed",
            "an attempt cannot be counted",
            "a change of the session's state did not get on the bus",
            "cannot be reported",
        ] {
            self.may_have(part);
        }
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
    let is_module = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
    let a_library = !module.is_empty() && module.chars().all(is_module);
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
