//! What the product's processes logged that they should not have.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// The one error that a round provokes: a poisonous message is given up on.
const PROVOKED: &str = "a message is given up on; its copy is in the dead letters";

#[derive(Deserialize)]
struct Line {
    level: String,
    target: String,
    fields: BTreeMap<String, Value>,
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
