//! The control API over HTTP, on the same port as the WhatsApp server.

mod accounts;
mod customers;
mod error;
mod faults;
mod groups;
mod media;
mod passkeys;
mod phones;
mod state;
mod taps;
mod votes;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, State, WebSocketUpgrade};
use axum::http::header::HOST;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{any, get, post};

use crate::connection;
use crate::hub::Hub;
use error::ApiError;
use serde::Deserialize;

/// What `GET /sim/help` says.
const HELP: &str = include_str!("help.txt");
/// A file of 100 MB in a message, as Base64, and some more.
const MAX_BODY: usize = 160 << 20;

/// All routes.
pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/", get(help))
        .route("/sim/help", get(help))
        .route("/livez", get(alive))
        .route("/ws/chat", any(web_socket))
        .route("/sim/state", get(state::show))
        .route("/sim/accounts", post(accounts::create))
        .route("/sim/accounts/{phone}", get(accounts::show))
        .route("/sim/accounts/{phone}/visits", get(accounts::visits))
        .route("/sim/accounts/{phone}/scan", post(accounts::scan))
        .route("/sim/accounts/{phone}/pair-code", post(accounts::pair_code))
        .route("/sim/accounts/{phone}/passkey", get(passkeys::show).post(passkeys::answer))
        .route("/sim/accounts/{phone}/messages", post(accounts::write))
        .route("/sim/accounts/{phone}/hand-over", post(accounts::hand_over))
        .route("/sim/customers", post(customers::create))
        .route("/sim/customers/{phone}", get(customers::show))
        .route("/sim/customers/{phone}/messages", post(customers::write))
        .route("/sim/customers/{phone}/inbox", get(customers::inbox))
        .route("/sim/customers/{phone}/sent", get(customers::sent))
        .route("/sim/customers/{phone}/typing", post(customers::typing))
        .route("/sim/accounts/{phone}/rename", post(phones::rename))
        .route("/sim/customers/{phone}/calls", post(phones::call))
        .route("/sim/customers/{phone}/timer", post(phones::timer))
        .route("/sim/customers/{phone}/ask-again", post(phones::ask_again))
        .route("/sim/customers/{phone}/read-through", post(phones::read_through))
        .route("/sim/customers/{phone}/played", post(phones::played))
        .route("/sim/customers/{phone}/votes", post(votes::vote))
        .route("/sim/customers/{phone}/taps", post(taps::tap))
        .route("/sim/customers/{phone}/aliases", post(phones::aliases))
        .route("/sim/customers/{phone}/lose-keys", post(groups::lose_keys))
        .route("/sim/groups", post(groups::create))
        .route("/sim/groups/{id}", get(groups::show))
        .route("/sim/groups/{id}/change", post(groups::change))
        .route("/media/{name}", get(media::download))
        .route("/mms/{kind}/{token}", post(media::upload))
        .route("/sim/faults", post(faults::create).get(faults::list).delete(faults::clear))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(hub)
}

async fn help() -> &'static str {
    HELP
}

/// As the connector has it, so that one healthcheck fits both.
async fn alive() -> &'static str {
    "alive\n"
}

/// What a client's address may say.
#[derive(Deserialize)]
struct Address {
    /// How its visits are called.
    #[serde(rename = "as")]
    name: Option<String>,
}

async fn web_socket(
    State(hub): State<Arc<Hub>>,
    Query(Address { name }): Query<Address>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| ApiError::bad(format!("/ws/chat is a WebSocket: {error}")))?;
    // Files are on the same port, under the name by which the client has found it.
    if let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) {
        hub.update(|world| host.clone_into(&mut world.media.host));
    }
    let tasks = hub.tasks.clone();
    Ok(upgrade.on_upgrade(move |socket| tasks.track_future(connection::serve(hub, socket, name))))
}

async fn unknown(method: Method, uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!("no {method} {}; GET /sim/help lists the calls", uri.path()))
}

async fn wrong_method(method: Method, uri: axum::http::Uri) -> ApiError {
    ApiError::wrong_method(format!("{} does not take {method}; GET /sim/help lists the calls", uri.path()))
}
