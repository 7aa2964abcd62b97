//! The examples for other services do what they say, with nothing but a NATS client and the `.proto` files.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    Layout, PATIENCE, Process, Stage, clean, connector_binary, eventually, python, root, warning,
};

/// The payload types, made of `proto/` as docs/subjects.md says.
async fn types(stage: &Stage) -> PathBuf {
    let made = stage.dir().join("types");
    std::fs::create_dir(&made).expect("a directory");
    let proto = root().join("proto");
    let files = ["identity", "inbound", "outcome", "receipt", "send", "session"];
    let mut command = clean(&python());
    command
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(&proto)
        .arg(format!("--python_out={}", made.display()));
    command.args(files.map(|name| format!("whatsapp/connector/v1/{name}.proto"))).current_dir(&proto);
    let status = Process::start("protoc", &mut command, stage.dir()).end(PATIENCE).await;
    assert!(status.success(), "{status}");
    made
}

fn example(stage: &Stage, types: &Path, name: &str, arguments: &[&str]) -> Process {
    let mut command = clean(&python());
    command.arg(root().join("examples").join(name)).args(arguments).current_dir(stage.dir());
    command.env("NATS_URL", stage.nats.url()).env("PYTHONPATH", types);
    Process::start(name, &mut command, stage.dir())
}

#[tokio::test]
async fn an_archive_keeps_every_message_and_its_file() {
    let stage = Stage::plan().setting("MEDIA", "inbound").set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let types = types(&stage).await;
    customer.write("hola").await;
    stage.streams().await.received(1).await;
    let archive = example(&stage, &types, "archive.py", &[]);
    let file = vec![7; 300_000];
    let media = json!({"bytes": BASE64_STANDARD.encode(&file)});
    customer.write_with(json!({"kind": "voice", "media": media})).await;
    let kept = stage.dir().join("archive");
    let lines = eventually("two messages and the word of the file", PATIENCE, async || {
        let lines = std::fs::read_to_string(kept.join("messages.jsonl")).unwrap_or_default();
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.len() >= 3 { Ok(lines) } else { Err(format!("{lines:?} {}", archive.stderr())) }
    })
    .await;
    assert_eq!(lines[0]["text"]["body"], "hola");
    assert_eq!(
        (&lines[1]["audio"]["voice"], &lines[2]["media"]["state"]),
        (&json!(true), &json!("MEDIA_STATE_STORED"))
    );
    let name: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    eventually("the file", PATIENCE, async || match std::fs::read(kept.join(&name)) {
        Ok(found) if found == file => Ok(()),
        other => Err(format!("{:?}", other.map(|found| found.len()))),
    })
    .await;
}

#[tokio::test]
async fn a_reminder_is_sent_once_and_waited_for() {
    let stage = Stage::plan().set().await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let types = types(&stage).await;
    let arguments = [customer.phone(), "mesa-4711", "Su mesa lo espera a las 21:30."];
    for _ in 0..2 {
        let mut reminder = example(&stage, &types, "reminder.py", &arguments);
        let status = reminder.end(PATIENCE).await;
        assert!(status.success(), "{status}");
        let said = reminder.stdout();
        assert!(said.contains("RECEIPT_STATUS_DELIVERED"), "{said}");
    }
    let inbox = customer.receives(1).await;
    assert_eq!((inbox.len(), inbox[0].text.as_str()), (1, "Su mesa lo espera a las 21:30."));
}

/// A command of a guide, the exit code that it is said to have, and what it is said to print.
struct Shown {
    command: String,
    code: i32,
    prints: Vec<String>,
}

fn shown(page: &str) -> Vec<Shown> {
    let text = std::fs::read_to_string(root().join(page)).expect(page);
    let mut all: Vec<Shown> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match (line.strip_prefix("$ "), all.last_mut()) {
                (Some(command), _) => {
                    let (command, code) = command.split_once(" # ends with ").unwrap_or((command, "0"));
                    let (command, code) = (command.to_owned(), code.parse().expect("a code"));
                    all.push(Shown { command, code, prints: Vec::new() });
                }
                (None, Some(last)) => last.prints.push(line.to_owned()),
                (None, None) => panic!("{page} prints before the first command"),
            }
        }
    }
    all
}

/// Is each field there that the page shows? It leaves out those that a reader does not need.
fn is_printed(shown: &str, said: &str) -> bool {
    let Ok(Value::Object(wanted)) = serde_json::from_str(shown) else {
        return said.lines().any(|line| line.trim_end() == shown);
    };
    let printed = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    printed.into_iter().any(|printed| wanted.iter().all(|(name, value)| printed[name] == *value))
}

/// A fast phone's word may come before that of WhatsApp's server, and then the lower state is not told any more.
fn is_overtaken(shown: &str, said: &str) -> bool {
    shown.trim() == "RECEIPT_STATUS_ACCEPTED" && said.contains("RECEIPT_STATUS_DELIVERED")
}

#[tokio::test]
async fn each_command_of_the_guide_for_senders_does_what_the_guide_says() {
    let stage = Stage::plan().setting("MEDIA", "all").setting("SERVICE", "on").set().await;
    stage.logs.expects(warning::NOT_TAKEN);
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    customer.is_dialled("541112345678").await;
    let types = types(&stage).await;
    let work = stage.dir().join("work");
    std::fs::create_dir_all(&work).expect("a directory");
    std::fs::write(work.join("menu.pdf"), b"%PDF-1.4\n%%EOF\n").expect("a menu");
    std::os::unix::fs::symlink(root().join("examples"), work.join("examples")).expect("the examples");
    // The names that a reader types.
    let bin = stage.dir().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    let connector = bin.join("whatsapp-connector");
    std::os::unix::fs::symlink(connector_binary(), connector).expect("the connector");
    let mut settings = stage.settings().clone();
    settings.remove("RUST_LOG");
    let all = shown("docs/guides/sending-from-a-service.md");
    assert!(all.len() >= 10 && all.iter().all(|one| !one.prints.is_empty()));
    for Shown { command, code, prints } in all {
        let line = command.replace("python3 ", &format!("{} ", python().display()));
        let mut shell = clean(std::path::Path::new("/bin/sh"));
        shell.args(["-c", &line]).current_dir(&work).envs(&settings).env("PYTHONPATH", &types);
        shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        let mut process = Process::start("guide", &mut shell, stage.dir());
        let ended = process.end(PATIENCE).await;
        let (said, error) = (process.stdout(), process.stderr());
        assert_eq!(ended.code(), Some(code), "{command}: {said} {error}");
        for line in &prints {
            assert!(
                is_printed(line, &said) || is_overtaken(line, &said),
                "{command} should print {line}: {said}"
            );
        }
    }
    let inbox = customer.inbox().await;
    assert!(inbox.iter().any(|one| one.text == "Su mesa lo espera a las 22:00."), "{inbox:?}");
    assert!(inbox.iter().any(|one| one.kind == "document"), "{inbox:?}");
}
