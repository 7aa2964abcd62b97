//! What people do with their phones beside writing: timers, asking again, numbers under which they are found, names.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use wacore_binary::builder::NodeBuilder;

use super::accounts;
use super::error::{ApiError, Phone, body, name, number};
use crate::asking::Request;
use crate::content::Kind;
use crate::delivery::{self, Draft};
use crate::group_chat;
use crate::hub::Hub;
use crate::ids::{PhoneNumber, new_message_id, random_hex, unix_now};
use crate::queue::Class;
use crate::routing;
use crate::shape::{self, Shape};
use crate::stanza;

fn unknown(phone: &PhoneNumber) -> ApiError {
    ApiError::not_found(format!("no customer {phone}; create it with POST /sim/customers"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    to: String,
    reason: Option<String>,
    #[serde(default)]
    video: bool,
}

/// The customer calls, and the call ends at once. Devices that are offline hear nothing of it.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Call = body(&bytes)?;
    let to = number("to", &request.to)?;
    let id = new_message_id();
    hub.update(|world| {
        let customer = world.customers.get(&phone).ok_or_else(|| unknown(&phone))?;
        let addressing = customer.record.addressing;
        if !world.accounts.contains_key(&to) {
            return Err(accounts::unknown(&to));
        }
        let call = (id.as_str(), request.reason.as_deref(), request.video);
        routing::customer_calls(world, &phone, addressing, &to, call);
        Ok(())
    })?;
    Ok(Json(json!({"id": id})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timer {
    to: String,
    seconds: u32,
    #[serde(default)]
    silent: bool,
}

/// The customer sets the chat's disappearing timer.
pub(super) async fn timer(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Timer = body(&bytes)?;
    let to = number("to", &request.to)?;
    hub.update(|world| {
        if !world.customers.contains_key(&phone) {
            return Err(unknown(&phone));
        }
        let chat = (phone.clone(), to.clone());
        match request.seconds {
            0 => world.timers.remove(&chat),
            seconds => world.timers.insert(chat, seconds),
        };
        Ok(())
    })?;
    if request.silent {
        return Ok(Json(json!({})));
    }
    let text = request.seconds.to_string();
    let draft = Draft {
        to,
        kind: Kind::Timer,
        text,
        id: None,
        at: None,
        about: None,
        shape: Shape::default(),
        media: None,
    };
    let work = move |hub: &Arc<Hub>| delivery::customer_writes(hub, &phone, draft);
    let id = hub.off_thread(work).await.ok_or_else(ApiError::stopping)??;
    Ok(Json(json!({"id": id})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    from: String,
    id: String,
    through: Option<String>,
}

/// The customer's phone asks for a message again, as after a restore.
pub(super) async fn ask_again(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Again = body(&bytes)?;
    let from = number("from", &request.from)?;
    hub.update(|world| {
        if !world.customers.contains_key(&phone) {
            return Err(unknown(&phone));
        }
        let devices = world.devices_of(&from);
        for device in &devices {
            let of = (&from, *device, request.id.as_str());
            let first = world.handset(&phone).map(|handset| Request::first(handset.bundle.registration_id));
            match &request.through {
                Some(group) => group_chat::ask_again(world, &phone, of, group, first),
                None => delivery::ask_again(world, &phone, of, first),
            }
        }
        Ok(Json(json!({"devices": devices})))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadThrough {
    to: String,
    id: String,
    through: String,
}

/// The customer's phone has read a message in a group or of a list.
pub(super) async fn read_through(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: ReadThrough = body(&bytes)?;
    let to = number("to", &request.to)?;
    let through = request.through.parse().ok().filter(|_| shape::shared(&request.through));
    let through = through.ok_or_else(|| {
        ApiError::bad(
            "`through`: write a group's or a broadcast list's address, such as 120363000000000001@g.us",
        )
    })?;
    hub.update(|world| {
        if !world.customers.contains_key(&phone) {
            return Err(unknown(&phone));
        }
        let devices = world.devices_of(&to);
        for device in &devices {
            let receipt = stanza::receipt_through(&through, &phone, &request.id, "read");
            world.enqueue(&to, *device, Class::Receipt, &request.id, receipt);
        }
        Ok(Json(json!({"devices": devices})))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Played {
    to: String,
    id: String,
}

/// The customer has played a voice note or a video of the business.
pub(super) async fn played(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Played = body(&bytes)?;
    let to = number("to", &request.to)?;
    hub.update(|world| {
        let addressing = world.customers.get(&phone).ok_or_else(|| unknown(&phone))?.record.addressing;
        let devices = world.devices_of(&to);
        for device in &devices {
            let receipt = stanza::receipt(&phone, addressing, &request.id, Some("played")).build();
            world.enqueue(&to, *device, Class::Receipt, &request.id, receipt);
        }
        Ok(Json(json!({"devices": devices})))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aliases {
    numbers: Vec<String>,
}

/// Other forms of the customer's number, under which a look-up finds it.
pub(super) async fn aliases(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Aliases = body(&bytes)?;
    let numbers: Vec<PhoneNumber> =
        request.numbers.iter().map(|text| number("numbers", text)).collect::<Result<_, _>>()?;
    hub.update(|world| {
        if !world.customers.contains_key(&phone) {
            return Err(unknown(&phone));
        }
        for alias in numbers {
            world.aliases.insert(alias, phone.clone());
        }
        Ok(Json(json!({})))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rename {
    name: String,
}

/// The owner changes the account's name on the phone; its devices that are online are told.
pub(super) async fn rename(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Rename = body(&bytes)?;
    let name = name(request.name)?;
    hub.update(|world| {
        let account = world.accounts.get(&phone).ok_or_else(|| accounts::unknown(&phone))?;
        let online: Vec<_> = account.devices.values().filter_map(|device| device.online).collect();
        for connection in &online {
            let notification = NodeBuilder::new("notification")
                .attr("from", stanza::SERVER)
                .attr("type", "account_sync")
                .attr("id", random_hex(8))
                .attr("t", unix_now())
                .attr("pushname", name.as_str())
                .build();
            world.send(*connection, notification);
        }
        Ok(Json(json!({"devices": online.len()})))
    })
}
