//! What the product's processes logged that they should not have.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::legs::unix;

/// The one error that a round provokes: a poisonous message is given up on.
const PROVOKED: &str = "a message is given up on; its copy is in the dead letters";

/// Who was frozen knows after so many seconds what has happened meanwhile.
const AWAKE_S: f64 = 5.0;

/// What a process says when it begins to work.
const READY: &str = "ready to work";

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    level: String,
    target: String,
    fields: BTreeMap<String, Value>,
}

/// What an edge finds out when it wakes up, after another one has its accounts.
const LOST_ASLEEP: [&str; 2] = [
    "another program logged in with this session; this edge stays away for a while",
    "another edge has taken the session over; disconnecting",
];

/// Did an edge find this out within a few seconds after it woke up? Whether that edge had to, the simulator's visits tell.
pub fn found_out(line: &str, woke_up: &[f64]) -> bool {
    let line = line.split_once(": ").and_then(|(_, line)| serde_json::from_str::<Line>(line).ok());
    line.is_some_and(|line| {
        let said = line.fields.get("message").and_then(Value::as_str);
        let at = unix(&line.timestamp).unwrap_or_default();
        let is_soon = woke_up.iter().any(|woke_up| (*woke_up..woke_up + AWAKE_S).contains(&at));
        is_soon && said.is_some_and(|said| LOST_ASLEEP.contains(&said))
    })
}

/// Every line of level ERROR without a fault that explains it, and every panic, with the file's name.
pub fn errors(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.contains("connector") || !name.ends_with(".err") {
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| is_error(line)) {
            found.push(format!("{name}: {line}"));
        }
    }
    found
}

/// When a process began to work, in unix seconds, by its log.
pub fn ready_at(log: &str) -> Option<f64> {
    let line = log.lines().find(|line| line.contains(READY))?;
    unix(&serde_json::from_str::<Line>(line).ok()?.timestamp)
}

fn is_error(line: &str) -> bool {
    match serde_json::from_str::<Line>(line) {
        Ok(line) => {
            let says = |name: &str, what: &str| line.fields.get(name).and_then(Value::as_str) == Some(what);
            let provoked = says("message", PROVOKED) && says("reason", "rejected");
            // The libraries' own errors are about the connections that a round breaks.
            line.level == "ERROR" && line.target.starts_with("whatsapp_connector") && !provoked
        }
        // A killed process may leave half a line.
        Err(_) => line.contains("panicked at"),
    }
}
