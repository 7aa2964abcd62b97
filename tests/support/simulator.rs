//! The WhatsApp simulator, through its control API: the business's phone and the customers' phones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::Http;
use super::port::Port;
use super::process::{Process, clean};
use super::{PATIENCE, eventually};

/// The linked business number.
pub const BUSINESS: &str = "5491100000000";

/// How WhatsApp addresses a customer's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// By phone number.
    Phone,
    /// By the hidden id, with the phone number beside it.
    Lid,
    /// By the hidden id, and nobody is told the phone number.
    Hidden,
}

/// A message on a customer's phone.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// Counts what can be read.
    pub seq: u64,
    /// Where it stands in the chat.
    pub place: u64,
    /// Its WhatsApp id.
    pub id: String,
    /// `text`, ...
    pub kind: String,
    /// What the person reads.
    pub text: String,
    /// When it came first, RFC 3339.
    pub at: String,
    /// How often it arrived; phones show it once.
    pub copies: u32,
    /// How many of the copies said something else.
    pub altered: u32,
    /// The disappearing timer that it carries, in seconds.
    #[serde(default)]
    pub expires_s: Option<u32>,
    /// All else that the simulator's inbox says: `about`, `choices`, `quoted`, ...
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// A message that a customer wrote.
#[derive(Debug, Clone, Deserialize)]
pub struct Sent {
    /// Its WhatsApp id.
    pub id: String,
    /// `sent`, or what the customer's phone was told later: `delivered`, `read`.
    pub status: String,
}

/// The simulator's process.
#[derive(Debug)]
pub struct Simulator {
    pub(super) process: Process,
    pub(super) http: Http,
    dir: PathBuf,
    port: Port,
}

impl Simulator {
    /// Starts it with its state below `dir`, and opens the business account.
    pub async fn start(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).expect("a directory for the simulator");
        let port = Port::free();
        let mut process = spawn(&dir, port.number());
        let url = process.line("listening on ", PATIENCE).await;
        let http = Http::new(url);
        http.make("/sim/accounts", &json!({"phone": BUSINESS, "name": "Restaurante"})).await;
        Self { process, http, dir, port }
    }

    /// What goes into `WHATSAPP_SIMULATOR_URL`.
    pub fn chat_url(&self) -> String {
        format!("{}/ws/chat", self.http.base().replacen("http://", "ws://", 1))
    }

    /// The business's phone scans a QR code; the refusal, if it is refused.
    pub async fn scan(&self, qr: &str) -> Result<(), String> {
        let (status, answer) =
            self.http.post(&format!("/sim/accounts/{BUSINESS}/scan"), &json!({"qr": qr})).await?;
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Err(format!("the scan was refused: {status} {answer}"))
        }
    }

    /// The owner writes to the own number, on the phone itself.
    pub async fn note_to_self(&self, text: &str) {
        let note = json!({"to": BUSINESS, "text": text});
        self.http.make(&format!("/sim/accounts/{BUSINESS}/messages"), &note).await;
    }

    /// What linked devices have written to the own number.
    pub async fn notes(&self) -> Vec<String> {
        let account: Value = self.http.read(&format!("/sim/accounts/{BUSINESS}")).await;
        let notes = account["notes"].as_array().into_iter().flatten();
        notes.map(|note| note.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A new customer's phone.
    pub async fn customer(&self, phone: &str, addressing: Addressing) -> Customer {
        let addressing = match addressing {
            Addressing::Phone => "pn",
            Addressing::Lid => "lid",
            Addressing::Hidden => "hidden",
        };
        let customer = json!({"phone": phone, "name": "Ana", "addressing": addressing});
        self.http.make("/sim/customers", &customer).await;
        Customer { http: self.http.clone(), phone: phone.to_owned(), to: BUSINESS.to_owned() }
    }

    /// A new customer's phone that tells what its owner has read.
    pub async fn reader(&self, phone: &str) -> Customer {
        let customer = json!({"phone": phone, "name": "Ana", "addressing": "pn", "read_receipts": true});
        self.http.make("/sim/customers", &customer).await;
        Customer { http: self.http.clone(), phone: phone.to_owned(), to: BUSINESS.to_owned() }
    }

    /// The business's own phone hands a customer's message to the linked devices, asked or not.
    pub async fn hands_over(&self, customer: &Customer, id: &str) {
        let what = json!({"customer": customer.phone, "id": id});
        self.http.make(&format!("/sim/accounts/{BUSINESS}/hand-over"), &what).await;
    }

    /// The owner writes to a customer on the business's own phone; returns the message's id.
    pub async fn owner_writes(&self, customer: &Customer, text: &str) -> String {
        customer.hears_from_the_owner(text).await
    }

    /// How many messages the business's devices have not told WhatsApp to have received.
    pub async fn unreceived(&self) -> usize {
        let state: Value = self.http.read("/sim/state").await;
        let devices = state["accounts"].as_array().into_iter().flatten();
        let devices = devices.flat_map(|account| account["devices"].as_array().into_iter().flatten());
        let counts = devices.map(|device| {
            let count = device["queued_messages"].as_u64().and_then(|count| usize::try_from(count).ok());
            count.unwrap_or_else(|| panic!("no count of queued messages in {device}"))
        });
        counts.sum()
    }

    /// Is one of the business's devices connected?
    pub async fn somebody_is_online(&self) -> bool {
        let visits: Value = self.http.read(&format!("/sim/accounts/{BUSINESS}/visits")).await;
        visits["visits"].as_array().into_iter().flatten().any(|visit| visit["until"].is_null())
    }

    /// How many messages WhatsApp has refused.
    pub async fn refused(&self) -> u64 {
        let state: Value = self.http.read("/sim/state").await;
        let count = state["counters"]["nacks"].as_u64();
        count.unwrap_or_else(|| panic!("no count of refusals in {state}"))
    }

    /// Switches a fault on, for the business's connections.
    pub async fn fault(&self, kind: &str, for_ms: Option<u64>) {
        let fault = json!({"kind": kind, "account": BUSINESS, "for_ms": for_ms});
        self.http.make("/sim/faults", &fault).await;
    }

    /// Switches all faults off.
    pub async fn no_faults(&self) {
        self.http.remove("/sim/faults").await;
    }

    /// Ends it as an operator would; its state stays.
    pub async fn stop(&mut self) {
        self.process.terminate();
        self.process.end(PATIENCE).await;
    }

    /// Starts it again after its end: the same port, the same state.
    pub async fn restart(&mut self) {
        self.process = spawn(&self.dir, self.port.number());
        self.process.line("listening on ", PATIENCE).await;
    }
}

/// A customer's phone.
#[derive(Debug, Clone)]
pub struct Customer {
    pub(super) http: Http,
    phone: String,
    /// Whom it writes to.
    to: String,
}

impl Customer {
    /// Its number, digits without `+`: also the chat's token on the bus.
    pub fn phone(&self) -> &str {
        &self.phone
    }

    /// The same phone; it writes to this number.
    pub fn of(self, business: &str) -> Self {
        Self { to: business.to_owned(), ..self }
    }

    /// Writes to the business; returns the message's id.
    pub async fn write(&self, text: &str) -> String {
        self.send(json!({"to": self.to, "text": text})).await
    }

    /// Sends a text under this id.
    pub async fn write_as(&self, id: &str, text: &str) {
        self.send(json!({"to": self.to, "id": id, "text": text})).await;
    }

    /// Sends a message of another kind; returns its id.
    pub async fn write_kind(&self, kind: &str, text: &str) -> String {
        self.send(json!({"to": self.to, "kind": kind, "text": text})).await
    }

    /// Sends a message with these fields of the simulator's call; returns its id.
    pub async fn write_with(&self, mut fields: Value) -> String {
        fields["to"] = self.to.as_str().into();
        self.send(fields).await
    }

    /// Its hidden id.
    pub async fn lid(&self) -> String {
        let customer: Value = self.http.read(&format!("/sim/customers/{}", self.phone)).await;
        customer["lid"].as_str().unwrap_or_else(|| panic!("no hidden id in {customer}")).to_owned()
    }

    async fn send(&self, message: Value) -> String {
        let answer = self.http.make(&format!("/sim/customers/{}/messages", self.phone), &message).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// The owner of the business writes to it, on the business's own phone; returns the message's id.
    pub async fn hears_from_the_owner(&self, text: &str) -> String {
        let message = json!({"to": self.phone, "text": text});
        let answer = self.http.make(&format!("/sim/accounts/{BUSINESS}/messages"), &message).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// All that this phone has sent so far, and what became of it as far as WhatsApp tells.
    pub async fn sent(&self) -> Vec<Sent> {
        #[derive(Deserialize)]
        struct All {
            messages: Vec<Sent>,
        }
        self.http.read::<All>(&format!("/sim/customers/{}/sent", self.phone)).await.messages
    }

    /// All that this phone has received so far, as it stands in the chat.
    pub async fn inbox(&self) -> Vec<Received> {
        in_place(self.after(0, 0).await)
    }

    /// Waits until this phone has received `count` messages.
    pub async fn receives(&self, count: usize) -> Vec<Received> {
        self.receives_within(count, PATIENCE).await
    }

    /// Waits so long at the most.
    pub async fn receives_within(&self, count: usize, bound: Duration) -> Vec<Received> {
        let mut inbox: Vec<Received> = Vec::new();
        let what = format!("{} to receive {count} messages", self.phone);
        eventually(what, bound, async || {
            let seen = inbox.last().map_or(0, |last| last.seq);
            inbox.extend(self.after(seen, 1_000).await);
            let texts: Vec<&str> = inbox.iter().map(|received| received.text.as_str()).collect();
            if texts.len() >= count { Ok(()) } else { Err(format!("{texts:?}")) }
        })
        .await;
        in_place(inbox)
    }

    /// Waits until the first message has come so many times. WhatsApp's ack does not wait for the phone.
    pub async fn receives_copies(&self, copies: u32) -> Vec<Received> {
        let what = format!("{} to receive {copies} copies of a message", self.phone);
        eventually(what, PATIENCE, async || {
            let inbox = self.inbox().await;
            let came = inbox.first().map_or(0, |first| first.copies);
            if came >= copies { Ok(inbox) } else { Err(format!("{inbox:?}")) }
        })
        .await
    }

    /// What came after `since`; waits up to `wait_ms` for the first.
    async fn after(&self, since: u64, wait_ms: u64) -> Vec<Received> {
        #[derive(Deserialize)]
        struct Inbox {
            messages: Vec<Received>,
        }
        let path = format!("/sim/customers/{}/inbox?since={since}&wait_ms={wait_ms}", self.phone);
        self.http.read::<Inbox>(&path).await.messages
    }
}

fn in_place(mut inbox: Vec<Received>) -> Vec<Received> {
    inbox.sort_by_key(|received| received.place);
    inbox
}

fn spawn(dir: &Path, port: u16) -> Process {
    let mut command = clean(&binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--state"]).arg(dir.join("state"));
    command.current_dir(dir);
    Process::start("simulator", &mut command, dir)
}

/// Beside the connector's binary, which cargo names; cargo does not name those of other packages.
fn binary() -> PathBuf {
    let binary = super::connector::binary().with_file_name("whatsapp-simulator");
    assert!(
        binary.exists(),
        "there is no {}: run `make test`, or `cargo build --workspace --features simulator` first",
        binary.display()
    );
    binary
}
