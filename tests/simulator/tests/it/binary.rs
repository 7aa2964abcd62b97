//! The program: its first line, its signals, its state after a violent end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::edge::{Edge, Manners};
use crate::{ANA, LIMIT, SHOP, http};

struct Program {
    child: Child,
    address: SocketAddr,
    _out: BufReader<ChildStdout>,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whatsapp-simulator"));
    command.args(arguments).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Program {
    async fn start(listen: &str, state: &Path) -> Result<Self> {
        let state = state.to_string_lossy();
        let mut child = command(&["--listen", listen, "--state", &state])
            .stderr(Stdio::inherit())
            .env("RUST_LOG", "warn")
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        tokio::time::timeout(LIMIT, out.read_line(&mut line)).await??;
        let address = line
            .trim_end()
            .strip_prefix("listening on http://")
            .with_context(|| format!("the first line was {line:?}"))?;
        Ok(Self { child, address: address.parse()?, _out: out })
    }

    async fn signal(mut self, signal: &str) -> Result<ExitStatus> {
        let pid = self.child.id().context("it has ended already")?;
        let status = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().await?;
        anyhow::ensure!(status.success(), "kill failed");
        Ok(tokio::time::timeout(LIMIT, self.child.wait()).await??)
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> Result<serde_json::Value> {
        http::good(self.address, "POST", path, Some(body)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_even_a_violent_end() -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let state = directory.path().join("state");
    let store = directory.path().join("edge.db");
    let program = Program::start("127.0.0.1:0", &state).await?;
    let address = program.address;
    program.post("/sim/accounts", json!({"phone": SHOP, "name": "Shop"})).await?;
    program.post("/sim/customers", json!({"phone": ANA, "name": "Ana"})).await?;
    let mut edge = Edge::start(&format!("ws://{address}/ws/chat"), &store, Manners::Take).await?;
    let qr = edge.qr().await?;
    program.post(&format!("/sim/accounts/{SHOP}/scan"), json!({"qr": qr})).await?;
    edge.connected().await?;

    let messages = format!("/sim/customers/{ANA}/messages");
    let listen = address.to_string();
    let mut program = program;
    for round in 0..4 {
        let text = format!("pregunta {round}");
        program.post(&messages, json!({"to": SHOP, "text": text})).await?;
        let inbound = edge.message().await?;
        assert_eq!(inbound.text, text);
        edge.send(inbound.chat, &format!("respuesta {round}")).await?;
        // At once: the phone may not even have looked at the answer yet.
        let signal = if round % 2 == 0 { "KILL" } else { "TERM" };
        let status = program.signal(signal).await?;
        assert_eq!(status.success(), signal == "TERM", "{status}");
        program = Program::start(&listen, &state).await?;
        let path = format!("/sim/customers/{ANA}/inbox?since={round}&wait_ms=60000");
        let inbox = http::good(address, "GET", &path, None).await?;
        let entry = &inbox["messages"][0];
        assert_eq!(entry["text"], format!("respuesta {round}"), "{inbox}");
        assert_eq!(entry["seq"], round + 1);
        edge.client.reconnect_immediately().await;
    }
    let state = http::good(address, "GET", "/sim/state", None).await?;
    assert_eq!(state["counters"]["undecryptable"], 0, "{state}");
    edge.stop().await?;
    let status = program.signal("INT").await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let state = directory.path().to_string_lossy().into_owned();
    let running = Program::start("127.0.0.1:0", directory.path()).await?;
    let taken = running.address.to_string();
    let cases = [
        (vec!["--listen", "0.0.0.0:0"], "loopback only"),
        (vec!["--listen", &taken], "cannot listen on"),
        (vec!["--listen", "127.0.0.1:0", "--state", &state], "another simulator"),
        (vec!["--listen", "here"], "--listen"),
    ];
    for (arguments, reason) in cases {
        let mut child = command(&arguments).spawn()?;
        let mut errors = child.stderr.take().context("no stderr")?;
        let mut said = String::new();
        let status = tokio::time::timeout(LIMIT, async {
            errors.read_to_string(&mut said).await?;
            child.wait().await
        })
        .await??;
        assert!(!status.success(), "{arguments:?}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    Ok(())
}
