//! Customers vote on the polls that they have received.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use buffa::MessageField;
use serde::Deserialize;
use serde_json::{Value, json};
use wacore::poll::{compute_option_hash, encrypt_poll_vote_with_secret};
use waproto::whatsapp as wa;

use super::error::{ApiError, Phone, body, number};
use crate::content::Kind;
use crate::delivery::{self, Draft};
use crate::hub::Hub;
use crate::ids::Blob;
use crate::party::InboxEntry;
use crate::shape::Shape;
use crate::stanza::Addressing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vote {
    to: String,
    poll: String,
    options: Vec<String>,
}

/// The customer votes; no options take an earlier vote back.
pub(super) async fn vote(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Vote = body(&bytes)?;
    let to = number("to", &request.to)?;
    let known = hub.read(|world| {
        let customer = world.customers.get(&phone)?;
        Some((customer.record.addressing, customer.inbox.get(&to, &request.poll).cloned()))
    });
    let (addressing, entry) = known.ok_or_else(|| {
        ApiError::not_found(format!("no customer {phone}; create it with POST /sim/customers"))
    })?;
    let entry = entry.filter(|entry| entry.kind == "poll").ok_or_else(|| {
        ApiError::not_found(format!("`poll`: the customer has received no poll {} from {to}", request.poll))
    })?;
    let creator = match addressing {
        Addressing::Pn => (to.pn_jid(0), phone.pn_jid(0)),
        Addressing::Lid | Addressing::Hidden => (to.lid_jid(0), phone.lid_jid(0)),
    };
    let message = sealed(&entry, &request.options, &creator.0.to_string(), &creator.1.to_string())?;
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

fn sealed(poll: &InboxEntry, picked: &[String], creator: &str, voter: &str) -> Result<wa::Message, ApiError> {
    let unknown = |option: &&String| !poll.choices.iter().any(|choice| choice.title == **option);
    if let Some(option) = picked.iter().find(unknown) {
        return Err(ApiError::bad(format!("`options`: the poll has no option {option:?}")));
    }
    let secret = poll.more.secret.as_ref().map(|secret| secret.0.as_slice()).unwrap_or_default();
    let hashes: Vec<_> = picked.iter().map(|option| compute_option_hash(option).to_vec()).collect();
    let (payload, iv) = encrypt_poll_vote_with_secret(&hashes, secret, &poll.id, creator, voter)
        .map_err(|error| ApiError::bad(format!("`poll`: it cannot be voted on: {error}")))?;
    let vote = wa::message::PollEncValue { enc_payload: Some(payload), enc_iv: Some(iv.to_vec()) };
    let key = wa::MessageKey { id: Some(poll.id.clone()), ..Default::default() };
    let update = wa::message::PollUpdateMessage {
        poll_creation_message_key: MessageField::some(key),
        vote: MessageField::some(vote),
        ..Default::default()
    };
    Ok(wa::Message { poll_update_message: MessageField::some(update), ..Default::default() })
}
