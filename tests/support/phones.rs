//! What people do with their phones beside writing, and what WhatsApp says to a device beside messages.

use serde::Deserialize;
use serde_json::{Value, json};

use super::simulator::{BUSINESS, Customer, Simulator};
use super::{PATIENCE, eventually};

/// What a phone was shown of somebody's typing.
#[derive(Debug, Clone, Deserialize)]
pub struct Typed {
    /// `composing` or `paused`.
    pub state: String,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// In which group.
    pub group: Option<String>,
}

impl Simulator {
    /// Switches a fault on, with all that the control API takes.
    pub async fn fault_as(&self, fault: Value) {
        self.http.make("/sim/faults", &fault).await;
    }

    /// A count of what has happened since its start.
    pub async fn counter(&self, name: &str) -> u64 {
        let state: Value = self.http.read("/sim/state").await;
        state["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {state}"))
    }

    /// What the business's device has said of its presence on its present connection, in order.
    pub async fn presence(&self) -> Vec<String> {
        let state: Value = self.http.read("/sim/state").await;
        let said = state["accounts"][0]["devices"][0]["presence"].as_array().cloned().unwrap_or_default();
        said.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The business's owner changes the name on the phone.
    pub async fn rename(&self, name: &str) {
        self.http.make(&format!("/sim/accounts/{BUSINESS}/rename"), &json!({"name": name})).await;
    }

    /// The owner sends a message to a customer on the business's own phone, given as protobuf in Base64.
    pub async fn owner_sends(&self, customer: &Customer, raw: &str) -> String {
        let message = json!({"to": customer.phone(), "raw": raw});
        let answer = self.http.make(&format!("/sim/accounts/{BUSINESS}/messages"), &message).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// How many devices the business's phone lists as linked.
    pub async fn devices(&self) -> usize {
        let account: Value = self.http.read(&format!("/sim/accounts/{BUSINESS}")).await;
        account["devices"].as_array().map_or(0, Vec::len)
    }

    /// The business's owner types a pairing code into the phone; the refusal, if it is refused.
    pub async fn type_code(&self, code: &str) -> Result<(), String> {
        let path = format!("/sim/accounts/{BUSINESS}/pair-code");
        let (status, answer) = self.http.post(&path, &json!({"code": code})).await?;
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("{status} {answer}")) }
    }
}

impl Simulator {
    /// A group with the business and these customers. `more` are other fields of the simulator's call.
    pub async fn group(&self, id: &str, customers: &[&Customer], more: Value) {
        let mut members = vec![BUSINESS];
        members.extend(customers.iter().map(|customer| customer.phone()));
        let mut group = json!({"id": id, "subject": "Mesa", "members": members});
        for (field, value) in more.as_object().into_iter().flatten() {
            group[field] = value.clone();
        }
        self.http.make("/sim/groups", &group).await;
    }

    /// The owner writes into a group on the business's own phone; returns the message's id.
    pub async fn owner_says(&self, group: &str, text: &str) -> String {
        let message = json!({"to": group, "text": text});
        let answer = self.http.make(&format!("/sim/accounts/{BUSINESS}/messages"), &message).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// Something of a group is changed.
    pub async fn change_group(&self, id: &str, change: Value) {
        self.http.make(&format!("/sim/groups/{id}/change"), &change).await;
    }

    /// The business's hidden id.
    pub async fn lid(&self) -> String {
        let account: Value = self.http.read(&format!("/sim/accounts/{BUSINESS}")).await;
        account["lid"].as_str().unwrap_or_else(|| panic!("no hidden id in {account}")).to_owned()
    }
}

impl Customer {
    /// What this phone was shown of the business's typing, in order.
    pub async fn typed(&self) -> Vec<Typed> {
        #[derive(Deserialize)]
        struct Shown {
            typed: Vec<Typed>,
        }
        self.http.read::<Shown>(&format!("/sim/customers/{}", self.phone())).await.typed
    }

    /// Waits until this phone was shown just these states, or these at the end.
    pub async fn is_shown(&self, states: &[&str]) -> Vec<Typed> {
        eventually(format!("{} to be shown {states:?}", self.phone()), PATIENCE, async || {
            let typed = self.typed().await;
            let seen: Vec<&str> = typed.iter().map(|typed| typed.state.as_str()).collect();
            if seen.ends_with(states) { Ok(typed) } else { Err(format!("{seen:?}")) }
        })
        .await
    }

    /// Waits until the business has marked this message of the phone as read.
    pub async fn is_read(&self, id: &str) {
        eventually(format!("{id} to be read"), PATIENCE, async || {
            let sent = self.sent().await;
            let status = sent.iter().find(|sent| sent.id == id).map(|sent| sent.status.clone());
            if status.as_deref() == Some("read") { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }

    /// The phone asks for a message of the business in a group again.
    pub async fn asks_again_in(&self, group: &str, id: &str) {
        let again = json!({"from": BUSINESS, "id": id, "through": group});
        self.http.make(&format!("/sim/customers/{}/ask-again", self.phone()), &again).await;
    }

    /// The phone loses the keys with which it reads a group.
    pub async fn loses_keys(&self, group: &str) {
        let lose = json!({"group": group});
        self.http.make(&format!("/sim/customers/{}/lose-keys", self.phone()), &lose).await;
    }

    /// Calls the business; the call ends at once, for this reason. Returns the call's id.
    pub async fn calls(&self, reason: Option<&str>) -> String {
        let call = json!({"to": BUSINESS, "reason": reason, "video": true});
        let answer = self.http.make(&format!("/sim/customers/{}/calls", self.phone()), &call).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// Sets the chat's disappearing timer; 0: off. With `silent` only the next messages tell of it.
    pub async fn sets_timer(&self, seconds: u32, silent: bool) {
        let timer = json!({"to": BUSINESS, "seconds": seconds, "silent": silent});
        self.http.make(&format!("/sim/customers/{}/timer", self.phone()), &timer).await;
    }

    /// The phone asks for a message of the business again.
    pub async fn asks_again(&self, id: &str) {
        let again = json!({"from": BUSINESS, "id": id});
        self.http.make(&format!("/sim/customers/{}/ask-again", self.phone()), &again).await;
    }

    /// The phone says that it has read the message in a group or of a list.
    pub async fn has_read_through(&self, id: &str, through: &str) {
        let read = json!({"to": BUSINESS, "id": id, "through": through});
        self.http.make(&format!("/sim/customers/{}/read-through", self.phone()), &read).await;
    }

    /// The customer has played the message.
    pub async fn plays(&self, id: &str) {
        let played = json!({"to": BUSINESS, "id": id});
        self.http.make(&format!("/sim/customers/{}/played", self.phone()), &played).await;
    }

    /// Look-ups of this number find this customer as well.
    pub async fn is_dialled(&self, number: &str) {
        let aliases = json!({"numbers": [number]});
        self.http.make(&format!("/sim/customers/{}/aliases", self.phone()), &aliases).await;
    }

    /// Votes on a poll of the business; no options take an earlier vote back.
    pub async fn votes(&self, poll: &str, options: &[&str]) {
        let vote = json!({"to": BUSINESS, "poll": poll, "options": options});
        self.http.make(&format!("/sim/customers/{}/votes", self.phone()), &vote).await;
    }
}

impl Customer {
    /// Taps a button, or a row of a list, of a message of the business; returns the id of what that sends.
    pub async fn taps(&self, id: &str, option: &str) -> String {
        let tap = json!({"to": BUSINESS, "id": id, "option": option});
        let answer = self.http.make(&format!("/sim/customers/{}/taps", self.phone()), &tap).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }
}

/// Another number of the business, whose account has a passkey.
pub const PROTECTED: &str = "5491100000077";

impl Simulator {
    /// Opens the account of [`PROTECTED`].
    pub async fn protect(&self) {
        let account = json!({"phone": PROTECTED, "name": "Bar", "passkey": true});
        self.http.make("/sim/accounts", &account).await;
    }

    /// Its phone scans a QR code; the refusal, if it is refused.
    pub async fn protected_scan(&self, qr: &str) -> Result<(), String> {
        let path = format!("/sim/accounts/{PROTECTED}/scan");
        let (status, answer) = self.http.post(&path, &json!({"qr": qr})).await?;
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("{status} {answer}")) }
    }

    /// What its owner's browser answers to these options, on WhatsApp's page.
    pub async fn passkey_answers(&self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).expect("options as JSON");
        let path = format!("/sim/accounts/{PROTECTED}/passkey");
        self.http.make(&path, &json!({"options": options})).await.to_string()
    }

    /// The code that its phone shows.
    pub async fn passkey_code(&self) -> Option<String> {
        let passkey: Value = self.http.read(&format!("/sim/accounts/{PROTECTED}/passkey")).await;
        passkey["code"].as_str().map(str::to_owned)
    }

    /// How many devices its phone lists as linked.
    pub async fn protected_devices(&self) -> usize {
        let account: Value = self.http.read(&format!("/sim/accounts/{PROTECTED}")).await;
        account["devices"].as_array().map_or(0, Vec::len)
    }
}
