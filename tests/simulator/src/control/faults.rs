//! Switching faults on and off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::accounts;
use super::error::{ApiError, body, number};
use crate::faults::{Fault, FaultKind};
use crate::hub::Hub;
use crate::ids::PhoneNumber;
use crate::stanza;
use crate::world::{Role, World};

/// The code of a nack when none is given: what WhatsApp says to a first message without a token.
const DEFAULT_NACK: u16 = 463;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    kind: String,
    account: Option<String>,
    for_ms: Option<u64>,
    code: Option<u16>,
    delay_ms: Option<u64>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

fn kind(name: &str) -> Result<FaultKind, ApiError> {
    FaultKind::parse(name).ok_or_else(|| {
        let names = FaultKind::ALL.map(FaultKind::name).join(", ");
        ApiError::bad(format!("`kind`: expected one of {names}; got {name:?}"))
    })
}

pub(super) async fn create(State(hub): State<Arc<Hub>>, bytes: Bytes) -> Result<Json<Value>, ApiError> {
    let request: Create = body(&bytes)?;
    let kind = kind(&request.kind)?;
    let account = match &request.account {
        Some(text) => Some(number("account", text)?),
        None => None,
    };
    let delay = request.delay_ms.or(request.code.map(u64::from));
    if kind == FaultKind::Delay && delay.is_none() {
        return Err(ApiError::bad("`delay_ms`: say how late each stanza is to be, in milliseconds"));
    }
    let fault = Fault {
        kind,
        account,
        until: request.for_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms))),
        code: request.code.unwrap_or(match kind {
            FaultKind::RefuseLogin => 403,
            FaultKind::RefusePairCode | FaultKind::RefuseLookups | FaultKind::RefuseKeys => 429,
            FaultKind::FewCodes => 1,
            FaultKind::MediaRefused => 404,
            FaultKind::UploadRefused => 500,
            FaultKind::UploadHalf => 503,
            FaultKind::RefuseNative => 405,
            _ => DEFAULT_NACK,
        }),
        delay: Duration::from_millis(delay.unwrap_or(0)),
        attributes: request.attributes,
    };
    hub.update(|world| {
        if let Some(account) = &fault.account
            && !world.accounts.contains_key(account)
        {
            return Err(accounts::unknown(account));
        }
        let affected = strike(world, &fault);
        tracing::info!(kind = kind.name(), for_ms = request.for_ms, affected, "fault");
        let view = view(&fault, affected);
        if kind.lasts() || (kind == FaultKind::DropConnection && fault.until.is_some()) {
            world.faults.add(fault);
        }
        Ok(Json(view))
    })
}

/// What happens at once. Returns how many connections, devices or stanzas it concerned.
fn strike(world: &mut World, fault: &Fault) -> usize {
    let account = fault.account.as_ref();
    match fault.kind {
        FaultKind::DropConnection => {
            let connections = world.connections_of(account);
            for id in &connections {
                world.close(*id);
            }
            connections.len()
        }
        FaultKind::StreamReplaced => {
            let connections = online(world, account);
            for id in &connections {
                world.send(*id, stanza::stream_replaced());
                world.close(*id);
            }
            connections.len()
        }
        FaultKind::RedeliverUnacked => {
            linked(world, account).iter().map(|(number, device)| world.redeliver(number, *device)).sum()
        }
        FaultKind::LoggedOut => {
            let devices = linked(world, account);
            for (number, device) in &devices {
                world.unlink(number, *device, Some(stanza::stream_logged_out()));
            }
            devices.len()
        }
        FaultKind::RefuseLogin
        | FaultKind::RefusePairCode
        | FaultKind::FewCodes
        | FaultKind::MediaRefused
        | FaultKind::MediaHost
        | FaultKind::MediaRetry
        | FaultKind::UploadRefused
        | FaultKind::UploadSlow
        | FaultKind::UploadHalf
        | FaultKind::RefuseNative
        | FaultKind::NoKeys
        | FaultKind::HideReads
        | FaultKind::LoseMessages
        | FaultKind::TwoAtOnce
        | FaultKind::Silence => 0,
        FaultKind::MuteAcks
        | FaultKind::MuteReceipts
        | FaultKind::Nack
        | FaultKind::Delay
        | FaultKind::RefuseKeys
        | FaultKind::RefuseLookups => online(world, account).len(),
    }
}

/// The connections of linked devices.
fn online(world: &World, account: Option<&PhoneNumber>) -> Vec<crate::world::ConnectionId> {
    let mut connections = world.connections_of(account);
    connections.retain(|id| {
        let role = world.connections.get(id).map(|connection| &connection.role);
        matches!(role, Some(Role::Device(..)))
    });
    connections
}

fn linked(world: &World, account: Option<&PhoneNumber>) -> Vec<(PhoneNumber, u16)> {
    world
        .accounts
        .iter()
        .filter(|(number, _)| account.is_none_or(|account| account == *number))
        .flat_map(|(number, account)| account.devices.keys().map(move |device| (number.clone(), *device)))
        .collect()
}

fn view(fault: &Fault, affected: usize) -> Value {
    json!({
        "kind": fault.kind.name(),
        "account": fault.account,
        "remaining_ms": remaining(fault),
        "affected": affected,
    })
}

fn remaining(fault: &Fault) -> Option<u64> {
    let left = fault.until?.saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis()).ok()
}

pub(super) async fn list(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(json!({"faults": hub.update(active)}))
}

/// The faults that are on, as JSON.
pub(super) fn active(world: &mut World) -> Vec<Value> {
    let faults = world.faults.active(Instant::now()).iter();
    faults
        .map(|fault| {
            let mut shown = json!({
                "kind": fault.kind.name(),
                "account": fault.account,
                "remaining_ms": remaining(fault),
            });
            match fault.kind {
                FaultKind::Nack
                | FaultKind::RefuseLogin
                | FaultKind::RefusePairCode
                | FaultKind::RefuseLookups
                | FaultKind::RefuseKeys
                | FaultKind::FewCodes
                | FaultKind::MediaRefused
                | FaultKind::UploadRefused
                | FaultKind::UploadHalf => shown["code"] = json!(fault.code),
                FaultKind::Delay => {
                    shown["delay_ms"] = json!(u64::try_from(fault.delay.as_millis()).ok());
                }
                _ => {}
            }
            shown
        })
        .collect()
}

pub(super) async fn clear(State(hub): State<Arc<Hub>>) -> Json<Value> {
    let cleared = hub.update(|world| world.faults.clear(Instant::now()));
    Json(json!({"cleared": cleared}))
}
