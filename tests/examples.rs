//! The examples for other services do what they say, with nothing but a NATS client and the `.proto` files.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Layout, PATIENCE, Process, Stage, clean, eventually, python, root};

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
