//! The reference backend, `deploy/backend`, in its echo mode: the answer to *text* is `eco: ` + *text*.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::Http;
use super::port::Port;
use super::process::Process;
use super::{PATIENCE, eventually, root};

/// The setting with which it starts with its gate closed.
pub const GATE: (&str, &str) = ("BACKEND_GATE", "1");

/// One call of the inbound endpoint, as the backend's call log has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    /// `None` for a call that was refused before its body was read.
    pub message_id: Option<String>,
    /// Whom the call says the message is from.
    pub from_number: Option<String>,
    /// Of a message in a group: the group.
    #[serde(default)]
    pub customer_id: Option<String>,
    /// Unix seconds.
    pub started_at: f64,
    /// `None` while it is under way.
    pub ended_at: Option<f64>,
    /// `None` while it is under way.
    pub status: Option<u16>,
    /// The trace context that came with it.
    pub traceparent: Option<String>,
}

/// The backend's process.
#[derive(Debug)]
pub struct Backend {
    process: Process,
    http: Http,
    settings: BTreeMap<String, String>,
    logs: PathBuf,
    port: Port,
}

impl Backend {
    /// Starts it on a free port, with its call log on.
    pub async fn start(settings: BTreeMap<String, String>, logs: PathBuf) -> Self {
        let port = Port::free();
        let mut process = spawn(&settings, port.number(), &logs);
        let url = process.line("listening on ", PATIENCE).await;
        Self { process, http: Http::new(url), settings, logs, port }
    }

    /// What goes into `BACKEND_URL`.
    pub fn url(&self) -> &str {
        self.http.base()
    }

    /// All calls since its start, in the order of their starts.
    pub async fn calls(&self) -> Vec<Call> {
        self.http.read("/calls").await
    }

    /// Waits until calls of so many chats are under way, all at the same time.
    pub async fn under_way(&self, chats: usize) {
        let what = format!("calls of {chats} chats that are under way");
        eventually(what, PATIENCE, async || {
            let calls = self.calls().await;
            let open = calls.iter().filter(|call| call.ended_at.is_none());
            let of: BTreeSet<&str> = open.filter_map(|call| call.from_number.as_deref()).collect();
            if of.len() >= chats { Ok(()) } else { Err(format!("{calls:?}")) }
        })
        .await;
    }

    /// Asks as another service does that has received the same message; the answer.
    pub async fn ask(&self, message_id: &str, from_number: &str, text: &str) -> Value {
        let question = json!({
            "message_id": message_id, "from_number": from_number, "text": text,
            "timestamp_iso": "2025-01-08T10:00:00.000Z",
        });
        self.http.make("/v1/channels/whatsapp/gateway/inbound", &question).await
    }

    /// Opens its gate: with the setting [`GATE`], calls wait there until then.
    pub async fn open(&self) {
        self.http.make("/gate/open", &()).await;
    }

    /// It takes calls and answers none.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    /// It answers again.
    pub fn thaw(&mut self) {
        self.process.thaw();
    }

    /// Ends it. Its call log ends with it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Has it not ended?
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Starts it again after its end, on the same port.
    pub async fn restart(&mut self) {
        self.start_again();
        self.listens().await;
    }

    /// Returns once it listens.
    pub async fn listens(&mut self) {
        self.process.line("listening on ", PATIENCE).await;
    }

    /// The same, without waiting until it listens.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.settings, self.port.number(), &self.logs);
    }

    /// Changes a setting, blank for none; it counts from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }
}

fn spawn(settings: &BTreeMap<String, String>, port: u16, logs: &Path) -> Process {
    let own = [("ASSISTANT_MODE", "echo"), ("BACKEND_CALL_LOG", "1")];
    let mut environment = BTreeMap::from(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment.extend(settings.clone());
    Process::fork("backend", &["--host", "127.0.0.1", "--port", &port.to_string()], &environment, logs)
}

/// `BACKEND_PYTHON`, else what `make tools` installs.
pub fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("BACKEND_PYTHON") {
        return named.into();
    }
    let installed = root().join(".tools/venv/bin/python");
    assert!(
        installed.exists(),
        "the reference backend has no Python environment: run `make tools`, or name an interpreter that \
         has deploy/backend/requirements.txt with BACKEND_PYTHON"
    );
    installed
}
