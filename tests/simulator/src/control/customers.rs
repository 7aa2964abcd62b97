//! Customers: what they write, receive, see and do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::accounts;
use super::error::{ApiError, Phone, body, message_id, name, number};
use crate::content::Kind;
use crate::delivery::{self, Draft};
use crate::hub::Hub;
use crate::ids::{Blob, PhoneNumber, parse_instant, rfc3339_unix};
use crate::media::Attachment;
use crate::party::{Customer, CustomerRecord, InboxEntry, Sent, Status, Typed, Typing};
use crate::records;
use crate::routing;
use crate::shape::{self, Again, Comes, Shape};
use crate::signal::Secrets;
use crate::stanza::Addressing;

/// The longest that a call may wait.
const MAX_WAIT: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    phone: String,
    name: String,
    addressing: Option<String>,
    #[serde(default)]
    read_receipts: bool,
}

fn addressing(text: Option<&str>) -> Result<Addressing, ApiError> {
    match text {
        None | Some("pn") => Ok(Addressing::Pn),
        Some("lid") => Ok(Addressing::Lid),
        Some("hidden") => Ok(Addressing::Hidden),
        Some(other) => {
            Err(ApiError::bad(format!("`addressing`: expected \"pn\", \"lid\" or \"hidden\", got {other:?}")))
        }
    }
}

#[derive(Serialize)]
pub(super) struct CustomerView {
    phone: PhoneNumber,
    name: String,
    addressing: Addressing,
    read_receipts: bool,
    lid: String,
    received: usize,
    sent: usize,
    typing: BTreeMap<PhoneNumber, Typing>,
    typed: Vec<Typed>,
}

fn view(customer: &Customer) -> CustomerView {
    CustomerView {
        phone: customer.record.phone.clone(),
        name: customer.record.name.clone(),
        addressing: customer.record.addressing,
        read_receipts: customer.record.read_receipts,
        lid: customer.record.phone.lid(),
        received: customer.inbox.len(),
        sent: customer.sent.all().len(),
        typing: customer.typing.clone(),
        typed: customer.typed.clone(),
    }
}

fn unknown(phone: &PhoneNumber) -> ApiError {
    ApiError::not_found(format!("no customer {phone}; create it with POST /sim/customers"))
}

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<CustomerView>), ApiError> {
    let request: Create = body(&bytes)?;
    let phone = number("phone", &request.phone)?;
    let record = CustomerRecord {
        phone: phone.clone(),
        name: name(request.name)?,
        addressing: addressing(request.addressing.as_deref())?,
        read_receipts: request.read_receipts,
        secrets: Secrets::generate().map_err(|error| ApiError::internal(error.to_string()))?,
    };
    let customer = Customer::new(record).map_err(|error| ApiError::internal(error.to_string()))?;
    hub.update(|world| {
        if world.accounts.contains_key(&phone) {
            return Err(ApiError::conflict(format!(
                "phone: {phone} is a business account; give the customer another number"
            )));
        }
        if let Some(known) = world.customers.get(&phone) {
            let same = known.record.name == customer.record.name
                && known.record.addressing == customer.record.addressing
                && known.record.read_receipts == customer.record.read_receipts;
            return if same {
                Ok((StatusCode::OK, Json(view(known))))
            } else {
                Err(ApiError::conflict(format!(
                    "phone: the customer {phone} exists with another name, addressing or read_receipts; repeat its values or choose another number"
                )))
            };
        }
        world.store.put(records::customer_key(&phone), &customer.record);
        let view = view(&customer);
        world.add_customer(customer);
        tracing::debug!(customer = %phone, "customer created");
        Ok((StatusCode::CREATED, Json(view)))
    })
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
) -> Result<Json<CustomerView>, ApiError> {
    hub.read(|world| world.customers.get(&phone).map(view)).map(Json).ok_or_else(|| unknown(&phone))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    to: String,
    #[serde(default)]
    text: String,
    id: Option<String>,
    kind: Option<String>,
    at: Option<Value>,
    about: Option<String>,
    raw: Option<Blob>,
    #[serde(default)]
    comes: Comes,
    again: Option<Again>,
    #[serde(default)]
    hide: bool,
    through: Option<String>,
    media: Option<Attachment>,
}

fn kind(text: Option<&str>) -> Result<Kind, ApiError> {
    let Some(text) = text else {
        return Ok(Kind::default());
    };
    Kind::parse(text).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name).join(", ");
        ApiError::bad(format!("`kind`: expected one of {names}; got {text:?}"))
    })
}

fn instant(value: Option<&Value>) -> Result<Option<u64>, ApiError> {
    let wrong =
        || ApiError::bad("`at`: write RFC 3339, such as \"2026-01-31T12:00:00Z\", or seconds since 1970");
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(seconds)) => Ok(Some(seconds.as_u64().ok_or_else(wrong)?)),
        Some(Value::String(text)) => Ok(Some(parse_instant(text).ok_or_else(wrong)?)),
        Some(_) => Err(wrong()),
    }
}

pub(super) async fn write(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Write = body(&bytes)?;
    if request.through.as_deref().is_some_and(|through| !shape::shared(through)) {
        return Err(ApiError::bad(
            "`through`: write a group's, a broadcast list's or a newsletter's address, such as 120363000000000001@g.us",
        ));
    }
    // What is unavailable is with the account's own phone, or nowhere.
    let natural = match request.comes {
        Comes::Whole | Comes::Unreadable => Again::Sender,
        Comes::Unavailable => Again::Owner,
        Comes::ViewOnce | Comes::Hosted | Comes::Bot => Again::Nobody,
    };
    let shape = Shape {
        raw: request.raw,
        comes: request.comes,
        again: request.again.unwrap_or(natural),
        hide: request.hide,
        through: request.through,
    };
    let draft = Draft {
        shape,
        to: number("to", &request.to)?,
        kind: kind(request.kind.as_deref())?,
        text: request.text,
        id: message_id(request.id)?,
        at: instant(request.at.as_ref())?,
        about: request.about,
        media: request.media,
    };
    if draft.kind.needs_a_file() && draft.media.is_none() && draft.shape.raw.is_none() {
        return Err(ApiError::bad(format!(
            "`media`: a message of the kind {} needs a file",
            draft.kind.name()
        )));
    }
    if draft.kind == Kind::Text && draft.text.is_empty() && draft.shape.raw.is_none() {
        return Err(ApiError::bad("`text`: a text message needs a text"));
    }
    let work = move |hub: &Arc<Hub>| delivery::customer_writes(hub, &phone, draft);
    let id = hub.off_thread(work).await.ok_or_else(ApiError::stopping)??;
    Ok(Json(json!({"id": id})))
}

/// Reads `since` and `wait_ms` from the query.
fn window(query: Option<&str>) -> Result<(u64, Duration), ApiError> {
    let (mut since, mut wait_ms) = (0, 0);
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let target = match key {
            "since" => &mut since,
            "wait_ms" => &mut wait_ms,
            _ => {
                return Err(ApiError::bad(format!("`{key}`: the inbox takes `since` and `wait_ms`")));
            }
        };
        *target =
            value.parse().map_err(|_| ApiError::bad(format!("`{key}`: expected a number, got {value:?}")))?;
    }
    Ok((since, Duration::from_millis(wait_ms).min(MAX_WAIT)))
}

#[derive(Serialize)]
pub(super) struct InboxView {
    messages: Vec<InboxEntry>,
}

pub(super) async fn inbox(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    RawQuery(query): RawQuery,
) -> Result<Json<InboxView>, ApiError> {
    let (since, wait) = window(query.as_deref())?;
    let arrived = hub
        .read(|world| world.customers.get(&phone).map(|c| c.arrived.clone()))
        .ok_or_else(|| unknown(&phone))?;
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let mut signal = std::pin::pin!(arrived.notified());
        signal.as_mut().enable(); // before looking, so that nothing is missed
        let messages = hub.read(|world| {
            let inbox = world.customers.get(&phone).map(|c| c.inbox.since(since));
            inbox.unwrap_or_default().to_vec()
        });
        if !messages.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(Json(InboxView { messages }));
        }
        tokio::select! {
            () = signal => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = hub.stopping.cancelled() => return Err(ApiError::stopping()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct SentView {
    id: String,
    to: PhoneNumber,
    kind: &'static str,
    text: String,
    status: Status,
    at: String,
    status_at: String,
    copies: u64,
}

fn sent_view(sent: &Sent) -> SentView {
    SentView {
        id: sent.id.clone(),
        to: sent.to.clone(),
        kind: sent.kind.name(),
        text: sent.text.clone(),
        status: sent.status,
        at: rfc3339_unix(sent.at),
        status_at: sent.status_at.clone(),
        copies: sent.copies,
    }
}

pub(super) async fn sent(State(hub): State<Arc<Hub>>, Phone(phone): Phone) -> Result<Json<Value>, ApiError> {
    let messages: Vec<SentView> = hub
        .read(|world| {
            let customer = world.customers.get(&phone)?;
            Some(customer.sent.all().iter().map(sent_view).collect())
        })
        .ok_or_else(|| unknown(&phone))?;
    Ok(Json(json!({"messages": messages})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Types {
    to: String,
    #[serde(default = "composing")]
    state: String,
}

fn composing() -> String {
    String::from("composing")
}

pub(super) async fn typing(
    State(hub): State<Arc<Hub>>,
    Phone(phone): Phone,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let request: Types = body(&bytes)?;
    let to = number("to", &request.to)?;
    let composing = match request.state.as_str() {
        "composing" => true,
        "paused" => false,
        other => {
            return Err(ApiError::bad(format!(
                "`state`: expected \"composing\" or \"paused\", got {other:?}"
            )));
        }
    };
    hub.update(|world| {
        let customer = world.customers.get(&phone).ok_or_else(|| unknown(&phone))?;
        let addressing = customer.record.addressing;
        if !world.accounts.contains_key(&to) {
            return Err(accounts::unknown(&to));
        }
        routing::customer_types(world, &phone, addressing, &to, composing);
        Ok(Json(json!({})))
    })
}
