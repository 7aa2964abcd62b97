//! The simulator against the real client library. Each test has a simulator of its own.
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    clippy::disallowed_methods,
    reason = "walls of the product, not of its tests"
)]

mod binary;
mod control;
mod decoders;
mod edge;
mod faults;
mod groups;
mod http;
mod media;
mod messages;
mod restart;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use whatsapp_simulator::{Config, Handle, Simulator};

use edge::{Edge, Manners};

/// The bound of every wait: far more than anything takes, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);
/// The business account of most tests.
pub const SHOP: &str = "5491150000000";
/// The customers of most tests: one by phone number, one by hidden id.
pub const ANA: &str = "5491112345678";
pub const LEO: &str = "5491187654321";

/// A simulator, and a directory for the stores of clients.
pub struct World {
    pub simulator: Handle,
    pub directory: TempDir,
}

impl World {
    /// A simulator that knows the shop, Ana and Leo.
    pub async fn new() -> Result<Self> {
        Self::new_with(json!({})).await
    }

    /// The same, with something else about the account.
    pub async fn new_with(account: Value) -> Result<Self> {
        let simulator = Simulator::start(Config::default()).await?;
        let world = Self { simulator, directory: TempDir::new()? };
        world.people(account).await?;
        Ok(world)
    }

    /// Creates the shop, with something else about it, Ana and Leo.
    pub async fn people(&self, account: Value) -> Result<()> {
        let mut shop = json!({"phone": SHOP, "name": "Shop"});
        for (key, value) in account.as_object().context("an object")? {
            shop[key] = value.clone();
        }
        self.post("/sim/accounts", shop).await?;
        let ana = json!({"phone": ANA, "name": "Ana", "addressing": "pn"});
        self.post("/sim/customers", ana).await?;
        let leo = json!({"phone": LEO, "name": "Leo", "addressing": "lid"});
        self.post("/sim/customers", leo).await?;
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        self.simulator.address()
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("edge.db")
    }

    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        http::good(self.address(), "POST", path, Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        http::good(self.address(), "GET", path, None).await
    }

    pub async fn fault(&self, body: Value) -> Result<Value> {
        self.post("/sim/faults", body).await
    }

    pub async fn clear_faults(&self) -> Result<()> {
        http::good(self.address(), "DELETE", "/sim/faults", None).await?;
        Ok(())
    }

    /// Starts a client on the test's store.
    pub async fn edge(&self, manners: Manners) -> Result<Edge> {
        Edge::start(&self.simulator.ws_url(), &self.store(), manners).await
    }

    /// Links a client to the shop and waits until it is connected.
    pub async fn linked(&self, manners: Manners) -> Result<Edge> {
        let edge = self.edge(manners).await?;
        let qr = edge.qr().await?;
        let path = format!("/sim/accounts/{SHOP}/scan");
        self.post(&path, json!({"qr": qr})).await?;
        edge.connected().await?;
        Ok(edge)
    }

    /// A customer writes to the shop. Returns the id.
    pub async fn writes(&self, customer: &str, text: &str) -> Result<String> {
        let body = json!({"to": SHOP, "text": text});
        let answer = self.post(&format!("/sim/customers/{customer}/messages"), body).await?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    /// What a customer's phone has received after `since`, waiting for the first.
    pub async fn inbox(&self, customer: &str, since: u64) -> Result<Vec<Value>> {
        let path = format!("/sim/customers/{customer}/inbox?since={since}&wait_ms=60000");
        let answer = self.get(&path).await?;
        Ok(answer["messages"].as_array().context("messages")?.clone())
    }

    /// Asks until the answer satisfies, with a bound.
    pub async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
        let search = async {
            loop {
                let answer = self.get(path).await?;
                if good(&answer) {
                    return anyhow::Ok(answer);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(LIMIT, search).await {
            Ok(found) => found,
            Err(_) => anyhow::bail!("never came true at {path}: {}", self.get(path).await?),
        }
    }

    /// Waits until the shop's first device has acknowledged everything.
    pub async fn all_acknowledged(&self) -> Result<Value> {
        self.until("/sim/state", |state| state["accounts"][0]["devices"][0]["queued"] == 0).await
    }

    /// The status of a customer's message, once it is this one.
    pub async fn status(&self, customer: &str, id: &str, status: &str) -> Result<Value> {
        self.until(&format!("/sim/customers/{customer}/sent"), |sent| {
            let messages = sent["messages"].as_array();
            messages.is_some_and(|messages| {
                messages.iter().any(|message| message["id"] == id && message["status"] == status)
            })
        })
        .await
    }
}

/// The JID of a phone number.
pub fn pn(number: &str) -> whatsapp_rust::Jid {
    whatsapp_rust::Jid::pn(number)
}
