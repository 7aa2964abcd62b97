//! The console: one page for the person who runs the connector. It shows the link and how to make it, what waits, what is
//! held, which chats a person has, and the last dead letters; it links, unlinks, takes over, replays and drops for whoever has
//! logged in.
//!
//! `entry` says who may do what, `view` collects what is shown, `html` writes it, `words` has all words, `board` looks up
//! what is on the bus, `taken` shows and changes who has a chat, `live` sends newer parts. `passkey` is what WhatsApp may ask for at
//! linking, `wall` the accounts of a pool. Everything works without a script.

mod assets;
mod board;
mod entry;
mod html;
mod live;
mod passkey;
mod taken;
mod view;
mod wall;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Status;
use super::guard::Guard;
use board::Boards;
use entry::{Entry, May, Turned};
use taken::TakenPart;
use view::{LinkPart, View, Way};
use words::Words;

use crate::edge::Seat;
use crate::operator::{Letters, LettersError};
use crate::wire::Account;

/// A page shows what is on the bus as it was at most so long before.
const FRESH: Duration = Duration::from_secs(5);

/// An action answers within this time: well before its connection ends.
const ACTS: Duration = Duration::from_secs(8);

/// The console of one process. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Console {
    status: Arc<Status>,
    guard: Arc<Guard>,
    entry: Arc<Entry>,
    boards: Boards,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

/// What the address of the page says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    way: String,
    said: String,
    /// Which account of a pool.
    account: String,
}

/// Who does something, and for which account of a pool.
#[derive(Debug)]
struct Acting {
    may: May,
    account: Option<Account>,
}

/// An account's name in an address or a form; what is none is no account.
fn named(text: &str) -> Option<Account> {
    Account::parse(text).ok()
}

impl Console {
    /// The console of the process with this status. Its streams end with `stop`.
    pub(super) fn new(status: Arc<Status>, guard: Arc<Guard>, stop: CancellationToken) -> Self {
        let streams = Arc::new(Semaphore::new(live::STREAMS));
        Self { status, guard, entry: Arc::default(), boards: Boards::new(), streams, stop }
    }

    /// Its routes.
    pub(super) fn routes(&self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/link", get(page))
            .route("/console/login", get(login_page).post(login))
            .route("/console/logout", post(logout))
            .route("/console/events", get(live::events))
            .route("/console/code", post(code))
            .route("/console/passkey", post(passkey::post))
            .route("/console/unlink", post(unlink))
            .route("/console/letters", post(letters))
            .route("/console/takeover", post(taken::change))
            .with_state(self.clone())
    }

    /// Looks up what is on the bus, while somebody looks at the page.
    pub(super) async fn keep(&self) {
        self.boards.keep(&self.status).await;
    }

    fn may(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<May, Turned> {
        self.entry.may(&self.guard, peer, headers)
    }

    async fn view<'a>(&self, headers: &HeaderMap, may: &'a May, address: &Address) -> View<'a> {
        let words = Words::of(headers);
        let bus = self.status.bus.get();
        let account = named(&address.account);
        View {
            words,
            may,
            can_log_in: self.guard.has_token(),
            way: Way::of(&address.way),
            said: words.said(&address.said),
            link: LinkPart::of(&self.status, account.as_ref()),
            process: self.status.process("").await,
            connected: bus.is_some_and(|(bus, _)| bus.is_connected()),
            board: None,
            taken: self.status.seat(account.as_ref()).as_ref().and_then(TakenPart::of),
            account: account.filter(|_| self.status.pool.get().is_some()),
        }
    }

    /// May this request change something? If not, the answer.
    fn may_change(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        given: &Given,
    ) -> Result<Acting, Box<Response>> {
        let account = named(&given.account);
        match self.may(peer, headers) {
            Err(Turned::Away(away)) => Err(away),
            Err(Turned::ToLogin) => Err(Box::new(refuse(
                StatusCode::UNAUTHORIZED,
                "log in first, or send HTTP_TOKEN as a Bearer token",
            ))),
            Ok(May::Look) if self.guard.has_token() => Err(Box::new(refuse(
                StatusCode::FORBIDDEN,
                "log in on the page, or send HTTP_TOKEN as a Bearer token: Basic only looks",
            ))),
            Ok(May::Look) => {
                Err(Box::new(refuse(StatusCode::FORBIDDEN, "without HTTP_TOKEN nothing can be changed here")))
            }
            Ok(May::Script) => Ok(Acting { may: May::Script, account }),
            Ok(May::Change(login)) if entry::is_own(headers) && login.is_form(&given.csrf) => {
                Ok(Acting { may: May::Change(login), account })
            }
            Ok(May::Change(_)) => Err(Box::new(see("stale", None, StatusCode::FORBIDDEN, None))),
        }
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({"error": why}))).into_response()
}

/// Back to the page, which says this. What was refused is no redirection: scripts that have a cookie see it.
fn see(said: &str, way: Option<Way>, status: StatusCode, account: Option<&Account>) -> Response {
    let account = account.map(|account| format!("account={account}&")).unwrap_or_default();
    let way = way.map(|way| format!("way={}&", way.code())).unwrap_or_default();
    let page = format!("../?{account}{way}said={said}");
    if status == StatusCode::SEE_OTHER {
        return (status, [(header::LOCATION, page)]).into_response();
    }
    refuse(status, said)
}

/// How an action has ended, for a script or for a person.
fn ended(acting: &Acting, said: &'static str, why: Option<String>, way: Option<Way>) -> Response {
    match (&acting.may, why) {
        (May::Script, None) => Json(serde_json::json!({"done": said})).into_response(),
        (May::Script, Some(why)) => {
            (StatusCode::CONFLICT, Json(serde_json::json!({"error": why, "code": said}))).into_response()
        }
        _ => see(said, way, StatusCode::SEE_OTHER, acting.account.as_ref()),
    }
}

/// An answer that is a page of the console.
fn document(status: StatusCode, page: String) -> Response {
    let mut answer = (status, Html(page)).into_response();
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&assets::POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    // So that its forms say where they come from, and nobody else is told.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language, Cookie"));
    answer
}

async fn page(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    Query(address): Query<Address>,
    headers: HeaderMap,
) -> Response {
    let may = match console.may(peer, &headers) {
        Ok(may) => may,
        Err(Turned::Away(away)) => return *away,
        // As it has always been there: the browser asks for name and password.
        Err(Turned::ToLogin) if uri.path() == "/link" => {
            return console.guard.refusal(peer, &headers).unwrap_or_else(|| to_log_in(&headers, None));
        }
        Err(Turned::ToLogin) => return to_log_in(&headers, None),
    };
    let mut view = console.view(&headers, &may, &address).await;
    if view.connected {
        let since = if address.said.is_empty() { board::ago(FRESH) } else { Instant::now() };
        view.board = console.boards.since(since).await;
    }
    document(StatusCode::OK, html::page(&view))
}

/// The form, for who is not logged in.
fn to_log_in(headers: &HeaderMap, said: Option<&'static str>) -> Response {
    let mut answer =
        document(StatusCode::UNAUTHORIZED, html::login(Words::of(headers), "console/login", said));
    // Not Basic: the browser would ask before it shows the page.
    let scheme = HeaderValue::from_static("Bearer realm=\"whatsapp-connector\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    answer
}

async fn login_page(State(console): State<Console>, headers: HeaderMap) -> Response {
    if !console.guard.has_token() {
        return see("", None, StatusCode::SEE_OTHER, None);
    }
    document(StatusCode::OK, html::login(Words::of(&headers), "login", None))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Given {
    token: String,
    csrf: String,
    account: String,
    phone: String,
    answer: String,
    sure: String,
    id: u64,
    key: String,
    #[serde(rename = "for")]
    lasts: String,
    #[serde(rename = "do")]
    what: String,
}

async fn login(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    // Another page must not use up this browser's tries.
    if !console.guard.has_token() || !entry::is_own(&headers) {
        return refuse(StatusCode::FORBIDDEN, "this is no login from the page of this server");
    }
    let words = &Words::of(&headers).login;
    let refused =
        |said| document(StatusCode::UNAUTHORIZED, html::login(Words::of(&headers), "login", Some(said)));
    match console.guard.login(peer, given.token.trim().as_bytes()) {
        Ok(()) => {}
        Err(None) => return refused(words.wrong),
        Err(Some(wait)) => {
            let mut answer = refused(words.later);
            *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
            return answer;
        }
    }
    let Some(cookie) = console.entry.begin(&headers) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "there is no randomness");
    };
    let page = HeaderValue::from_static("../");
    (StatusCode::SEE_OTHER, [(header::LOCATION, page), (header::SET_COOKIE, cookie)]).into_response()
}

async fn logout(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let login = match console.may_change(peer, &headers, &given) {
        Ok(Acting { may: May::Change(login), .. }) => login,
        Ok(_) => return refuse(StatusCode::BAD_REQUEST, "there is no login to end"),
        Err(away) => return *away,
    };
    let page = HeaderValue::from_static("../");
    let mut answer = (StatusCode::SEE_OTHER, [(header::LOCATION, page)]).into_response();
    if let Some(cookie) = console.entry.end(&login, &headers) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

async fn code(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let may = match console.may_change(peer, &headers, &given) {
        Ok(may) => may,
        Err(away) => return *away,
    };
    let Some(Seat { connection, .. }) = console.status.seat(may.account.as_ref()) else {
        return ended(&may, "no-session", Some("this process has no edge".to_owned()), None);
    };
    let Ok(asked) = tokio::time::timeout(ACTS, connection.ask_for_code(given.phone)).await else {
        // The session goes on asking, and the page shows the code when it is there.
        return ended(&may, "asked", None, Some(Way::Code));
    };
    match asked {
        Ok(code) if may.may == May::Script => {
            let left = code.expires.saturating_duration_since(Instant::now()).as_secs();
            Json(serde_json::json!({"done": "code", "code": code.code, "expires_in_s": left})).into_response()
        }
        Ok(_) => ended(&may, "code", None, Some(Way::Code)),
        Err(why) => ended(&may, why.code(), Some(why.to_string()), Some(Way::Code)),
    }
}

async fn unlink(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let may = match console.may_change(peer, &headers, &given) {
        Ok(may) => may,
        Err(away) => return *away,
    };
    if given.sure != "yes" {
        return ended(&may, "unsure", Some("send sure=yes".to_owned()), None);
    }
    let Some(Seat { connection, .. }) = console.status.seat(may.account.as_ref()) else {
        return ended(&may, "no-session", Some("this process has no edge".to_owned()), None);
    };
    match connection.unlink().await {
        Ok(()) => ended(&may, "unlinked", None, None),
        Err(why) => ended(&may, why.code(), Some(why.to_string()), None),
    }
}

async fn letters(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Response {
    let may = match console.may_change(peer, &headers, &given) {
        Ok(may) => may,
        Err(away) => return *away,
    };
    if !["replay", "drop"].contains(&given.what.as_str()) {
        return refuse(StatusCode::BAD_REQUEST, "`do` is replay or drop");
    }
    let why = |why: &str| Some(why.to_owned());
    let Some((bus, subjects)) = console.status.bus.get().filter(|(bus, _)| bus.is_connected()) else {
        return ended(&may, "no-bus", why("nats-server does not answer"), None);
    };
    let allowed = console.boards.since(board::ago(FRESH)).await;
    if allowed.is_some_and(|board| !board.may_change) {
        return ended(&may, "not-allowed", why("this process's NATS user may not do that"), None);
    }
    let letters = Letters::new(bus.clone(), subjects.clone());
    let done = async {
        let letter = letters.get(given.id).await?;
        match given.what.as_str() {
            "replay" => letters.replay(&letter).await.map(|()| "replayed"),
            _ => letters.discard(&letter).await.map(|()| "dropped"),
        }
    };
    // Short of the time that a connection has. What is not known then is looked at again, and no replay counts twice.
    match tokio::time::timeout(ACTS, done).await {
        Ok(Ok(done)) => {
            tracing::info!(dead_letter = given.id, done, "a dead letter was seen to on the page");
            ended(&may, done, None, None)
        }
        Ok(Err(error @ LettersError::NotFound(_))) => ended(&may, "gone", why(&error.to_string()), None),
        Ok(Err(error @ LettersError::NotReplayable { .. })) => {
            ended(&may, "not-replayable", why(&error.to_string()), None)
        }
        Ok(Err(error)) => ended(&may, "no-bus", why(&error.to_string()), None),
        Err(_elapsed) => ended(&may, "no-bus", why("nats-server does not answer"), None),
    }
}
