//! All parts around the product, wired together, each on a free port and in a directory of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::backend::Backend;
use super::nats::{Nats, Setup};
use super::oracle::Evidence;
use super::simulator::{Addressing, Customer, Simulator};
use serde_json::Value;

use super::{Connector, Logs, PATIENCE, Role, Streams, output, spawn_command};

/// How the product is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `run`.
    OneProcess,
    /// `edge`, and so many times `forwarder`.
    Split {
        /// How many.
        forwarders: usize,
    },
}

/// The product's processes, the edge linked and ready.
#[derive(Debug)]
pub struct Product {
    /// The process that holds the link.
    pub edge: Connector,
    /// The others.
    pub forwarders: Vec<Connector>,
}

/// A stage that is not built yet.
#[derive(Debug, Default)]
pub struct Plan {
    nats: Setup,
    backend: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
}

impl Plan {
    /// How the bus is started.
    pub fn nats(mut self, setup: Setup) -> Self {
        self.nats = setup;
        self
    }

    /// A setting of the backend.
    pub fn backend(mut self, name: &str, value: &str) -> Self {
        self.backend.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A setting of every process of the product.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts nats-server, backend and simulator.
    pub async fn set(self) -> Stage {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = |name: &str| -> PathBuf { dir.path().join(name) };
        let (nats, backend, simulator) = tokio::join!(
            Nats::start_as(path("nats"), self.nats),
            Backend::start(self.backend, dir.path().to_owned()),
            Simulator::start(path("simulator")),
        );
        let mut settings = BTreeMap::from(
            [
                ("NATS_URL", nats.url()),
                ("BACKEND_URL", backend.url().to_owned()),
                ("WHATSAPP_SIMULATOR_URL", simulator.chat_url()),
                ("WHATSAPP_AUTH_DIR", path("auth").display().to_string()),
                ("NATS_DATA_DIR", path("embedded").display().to_string()),
                ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
                // What a killed process had in hand comes again soon.
                ("FORWARDER_ACK_WAIT", "2s".to_owned()),
                ("EDGE_ACK_WAIT", "2s".to_owned()),
                // These customers write faster than people do.
                ("SEND_PER_CHAT", "off".to_owned()),
                ("SEND_TOTAL", "off".to_owned()),
                ("LOOP_LIMIT", "off".to_owned()),
                ("SEND_NEW_CHATS_PER_HOUR", "0".to_owned()),
                // There is no live service that would ask first.
                ("SHADOW_DELAY", "0s".to_owned()),
                ("RUST_LOG", "info,whatsapp_connector=debug".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings.extend(self.settings);
        let logs = Logs::of(dir.path());
        Stage { logs, nats, backend, simulator, settings, dir }
    }
}

/// The parts around the product.
#[derive(Debug)]
pub struct Stage {
    /// What the product may warn of. First, so that it is judged before anything below ends and is missed.
    pub logs: Logs,
    /// The bus.
    pub nats: Nats,
    /// The assistant.
    pub backend: Backend,
    /// WhatsApp and everybody's phones.
    pub simulator: Simulator,
    settings: BTreeMap<String, String>,
    /// Last, so that everything above has ended when it is removed.
    dir: TempDir,
}

impl Stage {
    /// A stage with an echoing backend and the product's default settings, but for short ack waits and
    /// no limits of what is sent.
    pub fn plan() -> Plan {
        Plan::default()
    }

    /// The test's own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory outlives the stage: whoever set it looks at it and at the logs in it, or removes it.
    pub fn keep(&mut self) {
        self.logs.leave();
        self.dir.disable_cleanup(true);
    }

    /// The settings that every process of the product gets.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Changes a setting; it counts for processes started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Starts one process of the product.
    pub async fn start(&self, role: Role) -> Connector {
        self.start_with(role, &[]).await
    }

    /// Starts one process of the product with settings of its own.
    pub async fn start_with(&self, role: Role, own: &[(&str, &str)]) -> Connector {
        let mut settings = self.settings.clone();
        settings.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Connector::start(role, &settings, self.dir()).await
    }

    /// Starts the product and links it.
    pub async fn product(&self, layout: Layout) -> Product {
        let (role, forwarders) = match layout {
            Layout::OneProcess => (Role::Run, 0),
            Layout::Split { forwarders } => (Role::Edge, forwarders),
        };
        let mut product = Product { edge: self.start(role).await, forwarders: Vec::new() };
        for _ in 0..forwarders {
            product.forwarders.push(self.start(Role::Forwarder).await);
        }
        product.edge.link(&self.simulator).await;
        product
    }

    /// Runs a command of the product that ends by itself; returns what it prints.
    pub async fn output(&self, arguments: &[&str]) -> String {
        output(arguments, &self.settings, self.dir()).await
    }

    /// Runs a command of the product; returns the JSON that it prints (nothing, if it prints none) and its exit code.
    pub async fn command(&self, arguments: &[&str]) -> (Value, i32) {
        let mut settings = self.settings.clone();
        settings.remove("RUST_LOG");
        let mut process = spawn_command(arguments, &settings, self.dir());
        let code = process.end(PATIENCE).await.code().expect("a code");
        let said = process.stdout();
        let line = said.lines().find(|line| line.starts_with('{')).map(serde_json::from_str);
        (line.and_then(Result::ok).unwrap_or_default(), code)
    }

    /// Runs `send` with these arguments; returns the JSON that it prints (nothing, if it prints none) and its exit code.
    pub async fn send_command(&self, arguments: &[&str]) -> (Value, i32) {
        self.command(&[&["send"], arguments].concat()).await
    }

    /// The customer of tests that need only one.
    pub async fn customer(&self) -> Customer {
        self.simulator.customer("5491112345678", Addressing::Phone).await
    }

    /// Customers whose numbers begin with `prefix`.
    pub async fn customers(&self, prefix: &str, count: usize) -> Vec<Customer> {
        let mut customers = Vec::new();
        for number in 0..count {
            let phone = format!("{prefix}{number:05}");
            customers.push(self.simulator.customer(&phone, Addressing::Phone).await);
        }
        customers
    }

    /// A look into the streams.
    pub async fn streams(&self) -> Streams {
        self.nats.streams().await
    }

    /// Waits until nothing more can happen to `count` messages, and gathers what they left behind.
    pub async fn evidence<'a>(
        &self,
        count: usize,
        customers: impl IntoIterator<Item = &'a Customer>,
    ) -> Evidence {
        let streams = self.streams().await;
        streams.settled(count).await;
        let mut inboxes = BTreeMap::new();
        for customer in customers {
            inboxes.insert(customer.phone().to_owned(), customer.inbox().await);
        }
        Evidence {
            messages: streams.messages().await,
            outcomes: streams.outcomes().await,
            calls: self.backend.calls().await,
            inboxes,
        }
    }
}
