//! What the owner of an account does with its passkey.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::accounts::unknown;
use super::error::{ApiError, Phone, body};
use crate::hub::Hub;
use crate::ids::PhoneNumber;
use crate::passkey;
use crate::webauthn::{Passkey, RELYING_PARTY};

fn of(hub: &Arc<Hub>, phone: &PhoneNumber) -> Result<(Passkey, Option<String>), ApiError> {
    hub.read(|world| {
        let account = world.accounts.get(phone).ok_or_else(|| unknown(phone))?;
        let passkey = account.record.passkey.clone().ok_or_else(|| {
            ApiError::not_found(format!(
                "the account {phone} has no passkey; create it with \"passkey\": true"
            ))
        })?;
        Ok((passkey, passkey::code(world, phone)))
    })
}

/// The passkey itself, for a browser's virtual authenticator, and the code on the phone while there is one.
pub(super) async fn show(State(hub): State<Arc<Hub>>, Phone(phone): Phone) -> Result<Json<Value>, ApiError> {
    let (passkey, code) = of(&hub, &phone)?;
    Ok(Json(json!({
        "rp_id": RELYING_PARTY,
        "credential_id": BASE64_STANDARD.encode(&passkey.id.0),
        "private_key": BASE64_STANDARD.encode(&passkey.private_key.0),
        "code": code,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    options: Value,
}

/// What a browser on WhatsApp's page would answer.
pub(super) async fn answer(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Ask = body(&bytes)?;
    let (passkey, _) = of(&hub, &phone)?;
    passkey.answer(&request.options).map(Json).map_err(|error| ApiError::bad(error.to_string()))
}
