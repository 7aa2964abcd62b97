//! Groups: who is in them, and what changes.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, Phone, body, number};
use crate::groups::{self, Change, Group};
use crate::hub::Hub;
use crate::ids::{PhoneNumber, unix_now};
use crate::world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    id: String,
    subject: String,
    members: Vec<String>,
    #[serde(default)]
    admins: Vec<String>,
    #[serde(default)]
    announce: bool,
    addressing: Option<String>,
    #[serde(default)]
    ephemeral_s: u32,
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("no group {id}; create it with POST /sim/groups"))
}

fn people(world: &World, field: &str, texts: &[String]) -> Result<Vec<PhoneNumber>, ApiError> {
    let one = |text: &String| {
        let number = number(field, text)?;
        if world.exists(&number) {
            Ok(number)
        } else {
            Err(ApiError::not_found(format!("{field}: {number} is neither an account nor a customer")))
        }
    };
    texts.iter().map(one).collect()
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Group>), ApiError> {
    let request: Create = body(&bytes)?;
    if !groups::is_address(&request.id) {
        return Err(ApiError::bad("`id`: write a group's address, such as 120363000000000001@g.us"));
    }
    let lid = match request.addressing.as_deref() {
        None | Some("lid") => true,
        Some("pn") => false,
        Some(other) => {
            return Err(ApiError::bad(format!("`addressing`: expected \"lid\" or \"pn\", got {other:?}")));
        }
    };
    hub.update(|world| {
        if world.groups.contains_key(&request.id) {
            return Err(ApiError::conflict(format!("id: the group {} exists", request.id)));
        }
        let members = people(world, "members", &request.members)?.into_iter().map(|one| (one, false));
        let admins = people(world, "admins", &request.admins)?.into_iter().map(|one| (one, true));
        let group = Group {
            id: request.id.clone(),
            subject: request.subject.clone(),
            created: unix_now(),
            members: members.chain(admins).collect(),
            announce: request.announce,
            lid,
            ephemeral_s: request.ephemeral_s,
        };
        world.store.put(group.key(), &group);
        world.groups.insert(group.id.clone(), group.clone());
        Ok((StatusCode::CREATED, Json(group)))
    })
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
) -> Result<Json<Group>, ApiError> {
    hub.read(|world| world.groups.get(&id).cloned()).map(Json).ok_or_else(|| unknown(&id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    by: String,
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    promote: Vec<String>,
    #[serde(default)]
    demote: Vec<String>,
    subject: Option<String>,
    announce: Option<bool>,
    ephemeral_s: Option<u32>,
}

/// Somebody changes the group; its accounts' devices are told of each change.
pub(super) async fn change(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Result<Json<Group>, ApiError> {
    let request: Changes = body(&bytes)?;
    let by = number("by", &request.by)?;
    hub.update(|world| {
        if !world.groups.contains_key(&id) {
            return Err(unknown(&id));
        }
        let mut changes = vec![
            Change::Add(people(world, "add", &request.add)?),
            Change::Remove(people(world, "remove", &request.remove)?),
            Change::Promote(people(world, "promote", &request.promote)?),
            Change::Demote(people(world, "demote", &request.demote)?),
        ];
        changes.retain(|change| !change.is_of_nobody());
        changes.extend(request.subject.clone().map(Change::Subject));
        changes.extend(request.announce.map(Change::Announce));
        changes.extend(request.ephemeral_s.map(Change::Ephemeral));
        for change in &changes {
            groups::change(world, &id, &by, change);
        }
        world.groups.get(&id).cloned().map(Json).ok_or_else(|| unknown(&id))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lose {
    group: String,
}

/// The customer's phone loses the keys that others have given it for a group.
pub(super) async fn lose_keys(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Lose = body(&bytes)?;
    let handset =
        hub.read(|world| world.customers.get(&phone).map(|customer| customer.handset.clone())).ok_or_else(
            || ApiError::not_found(format!("no customer {phone}; create it with POST /sim/customers")),
        )?;
    let work = move |hub: &Arc<Hub>| {
        let mut secrets = handset.lock();
        secrets.keys.lose(&request.group);
        let changes = secrets.take_changes();
        hub.update(|world| world.save_sessions(&phone, changes));
    };
    hub.off_thread(work).await.ok_or_else(ApiError::stopping)?;
    Ok(Json(json!({})))
}
