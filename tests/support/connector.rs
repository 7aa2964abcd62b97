//! The product: its binary, with a clean environment, watched through its admin server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use super::http::Http;
use super::process::{Process, clean};
use super::simulator::Simulator;
use super::{PATIENCE, eventually};

/// A subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Both sides in one process.
    Run,
    /// WhatsApp ↔ bus.
    Edge,
    /// Bus → backend → bus.
    Forwarder,
}

impl Role {
    fn command(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Edge => "edge",
            Self::Forwarder => "forwarder",
        }
    }
}

/// A process of the product whose admin server answers.
#[derive(Debug)]
pub struct Connector {
    /// The process.
    pub process: Process,
    admin: Http,
}

impl Connector {
    /// Starts one and waits for its admin server.
    pub async fn start(role: Role, settings: &BTreeMap<String, String>, dir: &Path) -> Self {
        let mut process = spawn(role, settings, dir);
        let url = process.line("admin: ", PATIENCE).await;
        Self { process, admin: Http::with_token(url, settings.get("HTTP_TOKEN")) }
    }

    /// `GET /readyz`: the status and the body.
    pub async fn readiness(&self) -> Result<(u16, Value), String> {
        self.admin.get("/readyz").await
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> String {
        self.admin.text("/metrics").await
    }

    /// `GET /link.json`.
    pub async fn link_state(&self) -> Value {
        self.admin.read("/link.json").await
    }

    /// Waits until it shows a QR code.
    #[track_caller]
    pub fn shows_a_code(&self) -> impl Future<Output = ()> {
        eventually("a QR code", PATIENCE, async || {
            let link = self.link_state().await;
            if link["qr"].is_string() { Ok(()) } else { Err(link.to_string()) }
        })
    }

    /// Where its admin server listens, as `HTTP_ADDR` names it.
    pub fn address(&self) -> &str {
        self.admin.base().trim_start_matches("http://")
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn ready(&mut self) -> impl Future<Output = ()> {
        eventually("the connector to be ready", PATIENCE, async || {
            if let Some(status) = self.process.ended() {
                panic!("the connector ended before it was ready, {status}");
            }
            match self.readiness().await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
    }

    /// Waits until it is not ready, with `reason` somewhere in what it says.
    #[track_caller]
    pub fn not_ready(&self, reason: &str) -> impl Future<Output = ()> {
        eventually(format!("a readiness of 503 because of {reason}"), PATIENCE, async move || {
            match self.readiness().await? {
                (503, body) if body.to_string().contains(reason) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
    }

    /// The business's phone scans the QR code that this edge shows; a fresh one, if that has run out.
    pub async fn link(&mut self, simulator: &Simulator) {
        eventually("the edge to be linked", PATIENCE, async || {
            let link = self.link_state().await;
            let qr = link["qr"].as_str().ok_or_else(|| format!("no QR code in {link}"))?;
            simulator.scan(qr).await
        })
        .await;
        self.ready().await;
    }

    /// `SIGTERM`, and waits for the clean end.
    pub async fn stop(mut self) {
        self.process.terminate();
        let status = self.process.end(PATIENCE).await;
        assert!(status.success(), "a clean end is 0, this one was {status}");
    }
}

/// Starts the product without waiting for anything, in a working directory below `dir`.
pub fn spawn(role: Role, settings: &BTreeMap<String, String>, dir: &Path) -> Process {
    spawn_command(&[role.command()], settings, dir)
}

/// Runs a command of the product that ends by itself and well; returns what it prints.
pub async fn output(arguments: &[&str], settings: &BTreeMap<String, String>, dir: &Path) -> String {
    let mut process = spawn_command(arguments, settings, dir);
    let status = process.end(PATIENCE).await;
    assert!(status.success(), "{arguments:?} ended with {status}");
    process.stdout()
}

/// Starts a command of the product without waiting for anything.
pub fn spawn_command(arguments: &[&str], settings: &BTreeMap<String, String>, dir: &Path) -> Process {
    let work = dir.join("work");
    std::fs::create_dir_all(&work).expect("a working directory");
    let mut command = clean(binary());
    command.args(arguments).current_dir(work).envs(settings);
    Process::start(&format!("connector-{}", arguments.join("-").replace('/', "_")), &mut command, dir)
}

/// The product's binary, as built for these tests, or the one that `WHATSAPP_CONNECTOR_BIN` names (a copy, for
/// runs that outlast the next build). The simulator is beside it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let named = std::env::var_os("WHATSAPP_CONNECTOR_BIN");
        named.map_or_else(|| env!("CARGO_BIN_EXE_whatsapp-connector").into(), Into::into)
    })
}
