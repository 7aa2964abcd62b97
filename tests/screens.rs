//! What people read: whole screens of the commands, kept in `tests/snapshots`, so that a change of words is seen
//! in review. `INSTA_UPDATE=always` accepts what is shown now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{Layout, PATIENCE, Stage, eventually, root, spawn_command, warning};

/// All screens but the help: what nobody compares any more must not stay.
const SCREENS: &[&str] = &[
    "check",
    "check_bad_settings",
    "check_in_the_way",
    "check_json",
    "config",
    "config_bad_settings",
    "config_json",
    "dlq_list",
    "dlq_list_json",
    "dlq_list_none",
    "dlq_list_text",
    "dlq_show_none",
    "status_alone",
    "status_json",
    "status_wants",
    "status_well",
    "tap",
    "tap_no_bus",
    "tap_text",
];

/// What is another one each time.
const VARIES: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
    (r"nats-server \d+\.\d+\.\d+", "nats-server [version]"),
    (r"\b[0-9a-f]{32}\b", "[trace id]"),
    (r"\b[0-9A-F]{18,32}\b", "[id]"),
    (r"\b\d+ ms\b", "[n] ms"),
    (r#""pid": \d+"#, r#""pid": [pid]"#),
    // How much the link had to tell before.
    (r#""(sequence|in_seq)": \d+"#, r#""$1": [n]"#),
    // A message that is held is asked about now and then.
    (r"calling 1, waiting 0, held 0", "calling 0, waiting 0, held 1"),
    (r"\[host\]/[0-9a-f]{16}/[0-9a-f]{8}", "[host]/[holder]"),
    (r"\[host\]/\d+", "[host]/[pid]"),
];

/// The commands' settings, and where they run.
struct Desk<'a> {
    settings: BTreeMap<String, String>,
    /// Where the parts listen that run just now.
    parts: Vec<String>,
    dir: &'a Path,
}

impl<'a> Desk<'a> {
    /// Of somebody who has set nothing.
    fn bare(dir: &'a Path) -> Self {
        Self { settings: BTreeMap::new(), parts: Vec::new(), dir }
    }

    /// Of somebody at a running system.
    fn of(stage: &'a Stage) -> Self {
        let mut settings = stage.settings().clone();
        // Its log is for the tests.
        settings.remove("RUST_LOG");
        let urls = settings.values().filter_map(|value| value.split_once("://127.0.0.1:"));
        let parts = urls.map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        Self { settings, parts, dir: stage.dir() }
    }

    fn with(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// What a command shows: both its outputs and its exit code.
    async fn shows(&self, command: &[&str]) -> String {
        let mut process = spawn_command(command, &self.settings, self.dir);
        let code = process.end(PATIENCE).await.code();
        let mut shown = format!("$ whatsapp-connector {}\n{}", command.join(" "), pretty(&process.stdout()));
        if !process.stderr().is_empty() {
            shown.push_str(&format!("-- standard error --\n{}", process.stderr()));
        }
        shown + &format!("-- exit code {} --\n", code.expect("a code"))
    }

    /// The screen is the one that is kept under this name.
    async fn screen(&self, name: &str, command: &[&str]) {
        assert!(SCREENS.contains(&name), "{name} is not in the list");
        keep(name, &self.same(&self.shows(command).await));
    }

    /// The screen of `status` where an edge and a forwarder run. Who is too busy to answer at once is not in it, so it
    /// is asked for until both are.
    async fn screen_of_both(&self, name: &str, command: &[&str]) {
        assert!(SCREENS.contains(&name), "{name} is not in the list");
        let shown = eventually("an edge and a forwarder to answer", PATIENCE, async || {
            let shown = self.shows(command).await;
            let answers = |role: &str| {
                shown.contains(&format!("\n  {role} ")) || shown.contains(&format!("\"role\": \"{role}\""))
            };
            if answers("edge") && answers("forwarder") { Ok(shown) } else { Err(shown) }
        })
        .await;
        keep(name, &self.same(&shown));
    }

    /// Without what is this machine's.
    fn same(&self, shown: &str) -> String {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let host = host.trim();
        let mut shown = shown.replace(&self.dir.display().to_string(), "[dir]");
        for part in &self.parts {
            shown = shown.replace(part, "127.0.0.1:[port]");
        }
        shown = shown.replace(env!("CARGO_PKG_VERSION"), "[version]");
        shown.replace(&format!("{host}/"), "[host]/").replace(&format!("\"{host}\""), "\"[host]\"")
    }
}

/// JSON as people review it.
fn pretty(output: &str) -> String {
    let lines = output.lines().map(|line| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(value @ serde_json::Value::Object(_)) => serde_json::to_string_pretty(&value).expect("JSON"),
        _ => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

fn keep(name: &str, shown: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (varies, same) in VARIES {
        settings.add_filter(varies, *same);
    }
    settings.bind(|| insta::assert_snapshot!(name, shown));
}

/// The commands that a help names.
fn below(shown: &str) -> Vec<String> {
    let lines = shown.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // What a command is about may go on in the next line, further to the right.
    let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

fn kept() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("tests/snapshots")).expect("the screens").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".snap").map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_help_of_each_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let desk = Desk::bare(dir.path());
    let mut compared = BTreeSet::new();
    let mut todo: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = todo.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let shown = desk.shows(&words).await;
        let name =
            ["help"].into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join("_");
        keep(&name, &desk.same(&shown));
        todo.extend(below(&shown).into_iter().map(|name| [&command[..], &[name]].concat()));
        compared.insert(name);
    }
    assert!(compared.contains("help_dlq_list"), "{compared:?}");
    let kept: BTreeSet<_> = kept().into_iter().filter(|name| name.starts_with("help")).collect();
    assert_eq!(kept, compared, "tests/snapshots has what no command shows");
}

#[test]
fn nothing_is_kept_that_nobody_compares() {
    let compared = |name: &String| name.starts_with("help") || SCREENS.contains(&name.as_str());
    let left: Vec<_> = kept().into_iter().filter(|name| !compared(name)).collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn the_settings() {
    let dir = tempfile::tempdir().expect("a directory");
    Desk::bare(dir.path()).screen("config", &["config"]).await;
    Desk::bare(dir.path()).screen("config_json", &["config", "--json"]).await;
    let bad = [
        ("API_KEY", "topsecret"),
        ("BACKEND_TIMEOUT", "soon"),
        ("NATS_URL", "nats://me:topsecret@nats:4222"),
        ("WHATSAPP_AUTHDIR", "x"),
    ];
    Desk::bare(dir.path()).with(&bad).screen("config_bad_settings", &["config"]).await;
    Desk::bare(dir.path()).with(&bad).screen("check_bad_settings", &["check"]).await;
    let nowhere = [("NATS_URL", "nats://127.0.0.1:1"), ("BACKEND_URL", "http://127.0.0.1:1")];
    Desk::bare(dir.path()).with(&nowhere).screen("check_in_the_way", &["check"]).await;
    Desk::bare(dir.path()).screen("tap_no_bus", &["tap"]).await;
}

#[tokio::test]
async fn a_system_that_is_well() {
    let stage = Stage::plan().set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("hola").await;
    customer.receives(1).await;
    stage.streams().await.settled(1).await;
    let desk = Desk::of(&stage);

    desk.screen_of_both("status_well", &["status"]).await;
    desk.screen_of_both("status_json", &["status", "--json"]).await;
    desk.screen("dlq_list_none", &["dlq", "list"]).await;
    desk.screen("dlq_show_none", &["dlq", "show", "7"]).await;
    let what = ["tap", "--kind", "message", "--kind", "reply"];
    desk.screen("tap", &what).await;
    desk.screen("tap_text", &[&what[..], &["--text"]].concat()).await;
    // So that its directory is free.
    product.edge.stop().await;
    desk.screen("check", &["check"]).await;
    desk.screen("check_json", &["check", "--json"]).await;
}

#[tokio::test]
async fn a_system_that_wants_a_person() {
    let mut stage = Stage::plan().backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    stage.logs.expects(&warning::held("unreachable"));
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    customer.write("esto no").await;
    stage.streams().await.settled(1).await;
    let desk = Desk::of(&stage);

    desk.screen("dlq_list", &["dlq", "list"]).await;
    desk.screen("dlq_list_text", &["dlq", "list", "--text"]).await;
    desk.screen("dlq_list_json", &["dlq", "list", "--json"]).await;
    stage.backend.kill();
    customer.write("¿hay alguien?").await;
    product.forwarders[0].not_ready("unreachable").await;
    Desk::of(&stage).screen_of_both("status_wants", &["status"]).await;
    drop(product);
    Desk::of(&stage).screen("status_alone", &["status"]).await;
}
