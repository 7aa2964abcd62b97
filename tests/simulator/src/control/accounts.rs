//! Business accounts.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, Phone, body, message_id, name, number};
use crate::delivery;
use crate::group_chat;
use crate::groups;
use crate::hub::Hub;
use crate::ids::{Blob, PhoneNumber};
use crate::owner;
use crate::pair_code;
use crate::pairing::{self, Accepted};
use crate::party::{Account, AccountRecord};
use crate::records;
use crate::signal::Secrets;
use crate::webauthn::Passkey;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    phone: String,
    name: String,
    #[serde(default = "yes")]
    lid_migrated: bool,
    #[serde(default)]
    passkey: bool,
}

fn yes() -> bool {
    true
}

#[derive(Serialize)]
pub(super) struct AccountView {
    phone: PhoneNumber,
    name: String,
    lid: String,
    lid_migrated: bool,
    passkey: bool,
    devices: Vec<u16>,
    notes: Vec<String>,
}

fn view(account: &Account) -> AccountView {
    AccountView {
        phone: account.record.phone.clone(),
        name: account.record.name.clone(),
        lid: account.record.phone.lid(),
        lid_migrated: account.record.lid_migrated,
        passkey: account.record.passkey.is_some(),
        devices: account.devices.keys().copied().collect(),
        notes: account.notes.clone(),
    }
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<AccountView>), ApiError> {
    let request: Create = body(&bytes)?;
    let phone = number("phone", &request.phone)?;
    let name = name(request.name)?;
    let internal = |error: String| ApiError::internal(error);
    let passkey = request.passkey.then(Passkey::create).transpose();
    let record = AccountRecord {
        phone: phone.clone(),
        name,
        lid_migrated: request.lid_migrated,
        raw_id: rand::random(),
        next_device: 1,
        secrets: Secrets::generate().map_err(|error| internal(error.to_string()))?,
        passkey: passkey.map_err(|error| internal(error.to_string()))?,
    };
    let account = Account::new(record).map_err(|error| internal(error.to_string()))?;
    hub.update(|world| {
        if world.customers.contains_key(&phone) {
            return Err(ApiError::conflict(format!(
                "phone: {phone} is a customer; give the account another number"
            )));
        }
        if let Some(known) = world.accounts.get(&phone) {
            let same = known.record.name == account.record.name
                && known.record.lid_migrated == account.record.lid_migrated
                && known.record.passkey.is_some() == account.record.passkey.is_some();
            return if same {
                Ok((StatusCode::OK, Json(view(known))))
            } else {
                Err(ApiError::conflict(format!(
                    "phone: the account {phone} exists with another name, lid_migrated or passkey; repeat its values or choose another number"
                )))
            };
        }
        world.store.put(records::account_key(&phone), &account.record);
        let view = view(&account);
        world.add_account(account);
        tracing::info!(account = %phone, "account created");
        Ok((StatusCode::CREATED, Json(view)))
    })
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
) -> Result<Json<AccountView>, ApiError> {
    hub.read(|world| world.accounts.get(&phone).map(view)).map(Json).ok_or_else(|| unknown(&phone))
}

pub(super) async fn visits(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
) -> Result<Json<Value>, ApiError> {
    let visits = hub.read(|world| world.accounts.contains_key(&phone).then(|| world.visits.at(&phone)));
    visits.map(|visits| Json(json!({ "visits": visits }))).ok_or_else(|| unknown(&phone))
}

pub(super) fn unknown(phone: &PhoneNumber) -> ApiError {
    ApiError::not_found(format!("no account {phone}; create it with POST /sim/accounts"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scan {
    qr: String,
}

pub(super) async fn scan(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Scan = body(&bytes)?;
    let accepted = tokio::select! {
        () = hub.stopping.cancelled() => return Err(ApiError::stopping()),
        accepted = pairing::scan(&hub, &phone, &request.qr) => accepted?,
    };
    Ok(told(&phone, accepted))
}

fn told(phone: &PhoneNumber, accepted: Accepted) -> Json<Value> {
    Json(match accepted {
        Accepted::Linked(device) => json!({
            "account": phone,
            "device": device,
            "jid": phone.pn_jid(device).to_string(),
        }),
        Accepted::Asked => json!({"account": phone, "passkey": "asked"}),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: String,
}

pub(super) async fn pair_code(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Code = body(&bytes)?;
    let accepted = tokio::select! {
        () = hub.stopping.cancelled() => return Err(ApiError::stopping()),
        accepted = pair_code::enter(&hub, &phone, &request.code) => accepted?,
    };
    Ok(told(&phone, accepted))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandOver {
    customer: String,
    id: String,
}

pub(super) async fn hand_over(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: HandOver = body(&bytes)?;
    let customer = number("customer", &request.customer)?;
    let work = move |hub: &Arc<Hub>| owner::hands_over(hub, &phone, &customer, &request.id);
    hub.off_thread(work).await.ok_or_else(ApiError::stopping)??;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    to: String,
    #[serde(default)]
    text: String,
    id: Option<String>,
    raw: Option<Blob>,
}

pub(super) async fn write(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Write = body(&bytes)?;
    let to = if groups::is_address(&request.to) { None } else { Some(number("to", &request.to)?) };
    let id = message_id(request.id)?;
    let work = move |hub: &Arc<Hub>| {
        let what = (request.text.as_str(), request.raw.as_ref());
        match to {
            Some(to) => delivery::owner_writes(hub, &phone, &to, what, id),
            None => group_chat::owner_writes(hub, &phone, &request.to, what, id),
        }
    };
    let id = hub.off_thread(work).await.ok_or_else(ApiError::stopping)??;
    Ok(Json(json!({"id": id})))
}
