//! `/metrics`: what is promised is there, as Prometheus reads it, and names nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use whatsapp_connector::telemetry::{Definition, Kind, metrics};

use crate::support::{Layout, PATIENCE, Stage, eventually, python, root, warning};

/// A family as Prometheus' own client library reads it.
#[derive(Debug, Deserialize)]
struct Family {
    kind: String,
    help: String,
    /// Labels and value.
    samples: Vec<(BTreeMap<String, String>, f64)>,
}

const PARSER: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families
families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    name = family.name + ("_total" if family.type == "counter" else "")
    samples = [(sample.labels, sample.value) for sample in family.samples]
    families[name] = {"kind": family.type, "help": family.documentation, "samples": samples}
json.dump(families, sys.stdout)
"#;

fn parse(text: &str) -> BTreeMap<String, Family> {
    let answer = piped(Command::new(python()).args(["-c", PARSER]), text);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {answer}"))
}

/// Runs a program that reads `input` and has to end well; returns what it says.
fn piped(command: &mut Command, input: &str) -> String {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("a reader");
    let output = child.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn kind(definition: &Definition) -> &'static str {
    match definition.kind {
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
        Kind::Gauge => "gauge",
    }
}

/// A text that is answered, a sticker that is not, and one that is given up on.
#[tokio::test]
async fn every_promised_metric_is_there_and_names_nobody() {
    let mut stage = Stage::plan().set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    // Some are there only if accounts have assistants of their own.
    let routes = stage.dir().join("routes.toml");
    std::fs::write(&routes, "[acme]\n").expect("a file of routes");
    stage.set("ROUTES_FILE", &routes.display().to_string());
    let product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let mut ids = vec![customer.write("hola").await, customer.write_kind("sticker", "").await];
    customer.receives(1).await;
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "1:422");
    stage.backend.restart().await;
    ids.push(customer.write("esto no").await);
    stage.streams().await.decided(3).await;
    let text = eventually("the dead letter to be seen", PATIENCE, async || {
        let text = product.edge.metrics().await;
        if text.contains("\nwa_dead_letters_stored 1\n") { Ok(text) } else { Err(text) }
    })
    .await;

    let families = parse(&text);
    for definition in metrics::all() {
        let name = definition.prometheus_name();
        if name.starts_with("wa_pool_") {
            // Those of a pool: tests/pool.rs.
            continue;
        }
        let family = families.get(&name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        assert_eq!((family.kind.as_str(), family.help.as_str()), (kind(&definition), definition.description));
        assert!(!family.samples.is_empty(), "{name}");
        for (labels, _) in &family.samples {
            let extra =
                labels.keys().find(|label| *label != "le" && !definition.labels.contains(&label.as_str()));
            assert_eq!(extra, None, "a label of {name} that nobody promised");
        }
    }
    let value = |name: &str, labels: &[(&str, &str)]| {
        let found = families[name].samples.iter().find(|(has, _)| {
            labels.iter().all(|(label, value)| has.get(*label).is_some_and(|has| has == value))
        });
        found.unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{text}")).1
    };
    assert_eq!(value("wa_messages_total", &[("direction", "in"), ("kind", "text")]), 2.0);
    assert_eq!(value("wa_messages_total", &[("direction", "in"), ("kind", "sticker")]), 1.0);
    assert_eq!(value("wa_messages_total", &[("direction", "out")]), 1.0);
    assert_eq!(value("wa_outcomes_total", &[("class", "reply")]), 1.0);
    assert_eq!(value("wa_outcomes_total", &[("class", "none"), ("reason", "not-text")]), 1.0);
    assert_eq!(value("wa_outcomes_total", &[("class", "dead"), ("reason", "rejected")]), 1.0);
    assert_eq!(value("wa_backend_calls_total", &[("class", "rejected"), ("reason", "http-422")]), 1.0);
    assert_eq!(value("wa_link_state", &[("account", "default"), ("state", "online")]), 1.0);
    assert_eq!(value("wa_lease_held", &[("account", "default")]), 1.0);
    assert_eq!(value("wa_turns", &[("state", "calling")]), 0.0);
    for name in ["wa_whole_duration_seconds", "wa_deliver_duration_seconds", "wa_receive_duration_seconds"] {
        assert!(value(name, &[("le", "120")]) >= 1.0, "{name}");
    }
    for secret in ids.iter().map(String::as_str).chain([customer.phone(), "5678", "hola"]) {
        assert!(!text.contains(secret), "`{secret}` in\n{text}");
    }
    piped(Command::new(promtool()).args(["check", "metrics"]), &text);
}

#[test]
fn the_documentation_has_every_metric_as_the_code_has_it() {
    let page = read("docs/operations.md");
    let told: Vec<&str> = page.lines().filter(|line| line.starts_with("| `wa_")).collect();
    let defined: Vec<String> = metrics::all()
        .iter()
        .map(|definition| {
            let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, labels) = (definition.prometheus_name(), labels.join(", "));
            format!("| `{name}` | {} | {labels} | {} |", kind(definition), definition.description)
        })
        .collect();
    assert_eq!(told, defined, "docs/operations.md and src/telemetry/metrics.rs differ");
}

#[test]
fn the_alerts_fire_when_they_should_and_the_documentation_has_them() {
    let rules = root().join("deploy/prometheus");
    piped(Command::new(promtool()).args(["check", "rules", "alerts.yml"]).current_dir(&rules), "");
    piped(Command::new(promtool()).args(["test", "rules", "alerts.test.yml"]).current_dir(&rules), "");
    let text = read("deploy/prometheus/alerts.yml");
    let alerts: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 6, "{alerts:?}");
    let (page, tests) = (read("docs/operations.md"), read("deploy/prometheus/alerts.test.yml"));
    for alert in alerts {
        assert!(page.contains(&format!("| `{alert}` |")), "docs/operations.md does not tell of {alert}");
        assert!(tests.contains(&format!("alertname: {alert}\n")), "nobody has seen {alert} fire");
    }
}

#[test]
fn dashboard_and_alerts_ask_only_for_what_there_is() {
    let mut known = BTreeSet::new();
    for definition in metrics::all() {
        let name = definition.prometheus_name();
        if definition.kind == Kind::Histogram {
            known.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
        } else {
            known.insert(name);
        }
    }
    let dashboard = read("deploy/grafana/whatsapp-connector.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    for text in [dashboard, read("deploy/prometheus/alerts.yml"), read("deploy/prometheus/alerts.test.yml")] {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let asked: BTreeSet<&str> =
            text.split(|c| !is_part(c)).filter(|word| word.starts_with("wa_")).collect();
        assert!(!asked.is_empty());
        for name in asked {
            assert!(known.contains(name), "nobody measures {name}");
        }
    }
}

fn read(path: &str) -> String {
    let path: &Path = &root().join(path);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `PROMTOOL_BIN`, else what `make tools` installs, else the system's.
fn promtool() -> PathBuf {
    if let Some(named) = std::env::var_os("PROMTOOL_BIN") {
        return named.into();
    }
    let installed = root().join(".tools/bin/promtool");
    if installed.exists() { installed } else { "promtool".into() }
}
