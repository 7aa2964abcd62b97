//! Customers tap buttons, and rows of lists, of messages that they have received.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, Phone, body, number};
use crate::content::{self, Kind};
use crate::delivery::{self, Draft};
use crate::hub::Hub;
use crate::ids::Blob;
use crate::shape::Shape;
use crate::stanza::Addressing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tap {
    to: String,
    id: String,
    option: String,
}

/// The customer taps what has this label.
pub(super) async fn tap(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Tap = body(&bytes)?;
    let to = number("to", &request.to)?;
    let known = hub.read(|world| {
        let customer = world.customers.get(&phone)?;
        Some((customer.record.addressing, customer.inbox.get(&to, &request.id).cloned()))
    });
    let (addressing, entry) = known.ok_or_else(|| {
        ApiError::not_found(format!("no customer {phone}; create it with POST /sim/customers"))
    })?;
    let entry = entry.filter(|entry| entry.kind == "interactive").ok_or_else(|| {
        let id = &request.id;
        ApiError::not_found(format!("`id`: the customer has received no native flow {id} from {to}"))
    })?;
    let picked = entry
        .choices
        .iter()
        .find(|choice| choice.title == request.option)
        .ok_or_else(|| ApiError::bad(format!("`option`: there is no {:?} to tap", request.option)))?;
    let author = match addressing {
        Addressing::Pn => to.pn_jid(0),
        Addressing::Lid | Addressing::Hidden => to.lid_jid(0),
    };
    let message = content::tapped(&request.id, author.to_string(), picked);
    let raw = Blob(waproto::codec::message_to_vec(&message));
    let draft = Draft {
        shape: Shape { raw: Some(raw), ..Shape::default() },
        to,
        kind: Kind::Text,
        text: String::new(),
        id: None,
        at: None,
        about: None,
        media: None,
    };
    let work = move |hub: &Arc<Hub>| delivery::customer_writes(hub, &phone, draft);
    let id = hub.off_thread(work).await.ok_or_else(ApiError::stopping)??;
    Ok(Json(json!({"id": id})))
}
