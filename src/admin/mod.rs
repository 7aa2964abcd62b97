//! The small HTTP server: health, metrics, and the console.

pub mod compat;
mod console;
mod gauges;
mod guard;
mod held;
mod logins;
mod media;
pub mod process_status;
mod server;
pub mod service;
mod terminal;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use console::Console;
use guard::Guard;
use media::Media;
use secrecy::SecretString;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::SetOnce;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::edge::{Passkey, Seat, link};
use crate::forwarder::{Forwarder, HeldRoute, Mode};
use crate::pool::View;
use crate::stdout;
use crate::wire::{Account, FileLinks, Subjects};

/// Why there is no admin server.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on HTTP_ADDR={addr}: {source}. Choose a free address, such as 127.0.0.1:0 for any port"
)]
pub struct AdminError {
    addr: SocketAddr,
    source: std::io::Error,
}

/// The parts that the server reports on. Each is set once it has started.
#[derive(Debug, Default)]
pub struct Status {
    bus: OnceLock<(Bus, Subjects)>,
    /// The edge, where there is one.
    edge: SetOnce<Seat>,
    /// The edges of many accounts, where there are many.
    pool: OnceLock<View>,
    forwarder: OnceLock<Arc<Forwarder>>,
    book: service::Book,
    /// The routes that the gauges have shown.
    routes: Mutex<BTreeSet<String>>,
    /// The accounts that the gauges have shown.
    accounts: Mutex<BTreeSet<String>>,
}

impl Status {
    /// The bus is connected.
    pub fn bus(&self, bus: Bus, subjects: Subjects) {
        let _ = self.bus.set((bus, subjects));
    }

    /// This process has an edge.
    pub fn edge(&self, seat: Seat) {
        let _ = self.edge.set(seat);
    }

    /// This process is one edge of a pool.
    pub fn pool(&self, view: View) {
        let _ = self.pool.set(view);
    }

    /// The accounts that this process works for now.
    fn seats(&self) -> Vec<Seat> {
        let of_pool = self.pool.get().map(|view| view.roster.borrow().values().cloned().collect());
        of_pool.unwrap_or_else(|| self.edge.get().cloned().into_iter().collect())
    }

    /// The account's, if this process works for it now. Without a name: of the one account, where there is one.
    fn seat(&self, account: Option<&Account>) -> Option<Seat> {
        match self.pool.get() {
            Some(view) => view.roster.borrow().get(account?).cloned(),
            None => {
                self.edge.get().filter(|seat| account.is_none_or(|account| *account == seat.account)).cloned()
            }
        }
    }

    /// Does this process work for accounts?
    fn has_edge(&self) -> bool {
        self.edge.get().is_some() || self.pool.get().is_some()
    }

    /// This process has a forwarder.
    pub fn forwarder(&self, forwarder: Arc<Forwarder>) {
        let _ = self.forwarder.set(forwarder);
    }

    /// Why this process is not ready, as codes.
    async fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        match self.bus.get() {
            None => reasons.push(Reason::new("bus", "connecting", "Waiting for nats-server.")),
            Some((bus, subjects)) if !bus.is_writable(&subjects.stream_in()).await => {
                reasons.push(Reason::new(
                    "bus",
                    "not-writable",
                    "nats-server is away, or stores nothing at present.",
                ));
            }
            Some((bus, subjects)) => {
                let full = bus.full().into_iter().filter(|full| full.stream != subjects.stream_media());
                reasons.extend(full.map(|full| Reason::new("bus", "full", &format!("{full}."))));
            }
        }
        // Of a pool's accounts each is for itself: see `notes`.
        if let Some(Seat { connection, .. }) = self.edge.get() {
            let state = connection.state();
            if state != link::State::Online {
                reasons.push(Reason::new("whatsapp", state.code(), &state.detail()));
            }
        }
        let (held, is_every) = self.held();
        // As long as one assistant can be asked, there is work for this process.
        reasons.extend(held.iter().filter(|_| is_every).map(held::reason));
        if !self.has_edge() && self.forwarder.get().is_none() && reasons.is_empty() {
            reasons.push(Reason::new("process", "starting", "The process is starting."));
        }
        reasons
    }

    /// The routes that are held, and whether all are that are in use.
    fn held(&self) -> (Vec<HeldRoute>, bool) {
        self.forwarder.get().map(|forwarder| forwarder.held()).unwrap_or_default()
    }

    /// What the operator should know although the process is ready.
    fn notes(&self) -> Vec<Reason> {
        let shadow = self.forwarder.get().is_some_and(|forwarder| forwarder.mode() == Mode::Shadow);
        let note = Reason::new("forwarder", "shadow", "No customer gets an answer: BACKEND_MODE=shadow.");
        let mut notes: Vec<_> = shadow.then_some(note).into_iter().collect();
        let (held, is_every) = self.held();
        notes.extend(held.iter().filter(|_| !is_every).map(held::reason));
        // Whoever sends many files must not be able to take an edge out of service: messages go on.
        if let Some((bus, subjects)) = self.bus.get() {
            let full = bus.full().into_iter().filter(|full| full.stream == subjects.stream_media());
            notes.extend(full.map(|full| Reason::new("bus", "full", &format!("{full}."))));
        }
        // Answers go on, so it is no reason to take the edge out of service.
        let paused = self.edge.get().and_then(|seat| seat.new_chats.paused());
        notes.extend(paused.map(|(code, detail)| Reason::new("whatsapp", code, &detail)));
        notes.extend(self.pool.get().into_iter().flat_map(of_pool));
        notes
    }
}

/// What the operator should know of a pool's accounts. One that is not online is no reason to take all others away.
fn of_pool(view: &View) -> Vec<Reason> {
    let (roster, facts) = (Arc::clone(&view.roster.borrow()), Arc::clone(&view.facts.borrow()));
    let state = |seat: &Seat| {
        let state = seat.connection.state();
        let detail = format!("{}: {}", seat.account, state.detail());
        (state != link::State::Online).then(|| Reason::new("whatsapp", state.code(), &detail))
    };
    let parked = facts.parked.iter().map(|account| {
        let detail = format!("{account}: it does not start here, and this edge leaves it alone for a while.");
        Reason::new("pool", "parked", &detail)
    });
    let full = (facts.free > 0 && roster.len() >= facts.capacity).then(|| {
        let detail = format!(
            "{} accounts have no edge, and this one is full: start another one, or raise EDGE_CAPACITY ({}).",
            facts.free, facts.capacity
        );
        Reason::new("pool", "full", &detail)
    });
    full.into_iter().chain(parked).chain(roster.values().filter_map(state)).take(NOTES_MOST).collect()
}

#[derive(Debug, Serialize)]
struct Reason {
    part: &'static str,
    code: String,
    detail: String,
}

impl Reason {
    fn new(part: &'static str, code: &str, detail: &str) -> Self {
        Self { part, code: code.to_owned(), detail: detail.to_owned() }
    }
}

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Reason>,
}

#[derive(Serialize)]
struct Link {
    state: &'static str,
    detail: Cow<'static, str>,
    qr: Option<String>,
    expires_in_s: Option<u64>,
    account: Option<String>,
    phone: Option<String>,
    /// The options that a browser on WhatsApp's page has to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    passkey: Option<String>,
    /// The code that the phone shows, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

/// A bound admin server.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    status: Arc<Status>,
    guard: Arc<Guard>,
    media: Option<Media>,
    compat: Option<compat::Compat>,
    metrics: prometheus::Registry,
}

/// So many accounts are named at most.
const NOTES_MOST: usize = 20;
/// Headers of every answer. An answer is true only now, so it is not cached. It is for the client, not for a hostile
/// page in the client's browser. `console` has a page that loads more than nothing.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

impl Admin {
    /// Listens on `addr`. A client with `token` may see the QR code; without a token, only clients on this machine may.
    /// `/metrics` shows `metrics`.
    pub async fn bind(
        addr: SocketAddr,
        token: Option<&SecretString>,
        metrics: prometheus::Registry,
    ) -> Result<Self, AdminError> {
        let failed = |source| AdminError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        // On standard output, apart from the log: operators and scripts that chose port 0 need it.
        stdout::notice(format_args!("admin: http://{bound}"));
        let (status, guard) = (Arc::default(), Arc::new(Guard::new(token)));
        Ok(Self { listener, status, guard, media: None, compat: None, metrics })
    }

    /// Serves the files of the bucket too, to whoever has an address that these links have signed.
    pub fn with_files(self, links: Option<FileLinks>) -> Self {
        Self { media: links.map(Media::new), ..self }
    }

    /// Answers `/status` as the service does that this one replaces.
    pub fn with_compat(self, compat: Option<compat::Compat>) -> Self {
        Self { compat, ..self }
    }

    /// The status. The parts set it when they have started.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Serves until `stop`. Meanwhile it shows QR codes in the terminal.
    pub async fn serve(self, stop: CancellationToken) {
        let status = &self.status;
        let console = Console::new(Arc::clone(status), Arc::clone(&self.guard), stop.clone());
        let app = Router::new()
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz).with_state(Arc::clone(status)))
            .route("/link.json", get(link_json))
            .with_state((Arc::clone(status), Arc::clone(&self.guard)))
            .merge(console.routes())
            .route("/metrics", get(gauges::page).with_state((Arc::clone(status), self.metrics)));
        let app = match self.media {
            Some(media) => app.route(media::ROUTE, get(media::file).with_state((Arc::clone(status), media))),
            None => app,
        };
        let app = match self.compat {
            Some(compat) => app.merge(compat::routes(status, &self.guard, compat)),
            None => app,
        };
        let app =
            app.layer(middleware::from_fn(server::bounded)).layer(middleware::map_response(with_headers));
        let shown = stop.run_until_cancelled(async {
            tokio::join!(terminal::show_codes(status), gauges::keep(status), console.keep())
        });
        tokio::join!(server::serve(self.listener, app, stop.clone()), shown);
    }
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        // The console has a policy of its own.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn readyz(State(status): State<Arc<Status>>) -> Response {
    let reasons = status.reasons().await;
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Ready { ready: reasons.is_empty(), reasons, notes: status.notes() })).into_response()
}

async fn link_json(
    State((status, guard)): State<(Arc<Status>, Arc<Guard>)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    guard.refusal(peer, &headers).unwrap_or_else(|| Json(link(&status)).into_response())
}

fn link(status: &Status) -> Link {
    let Some(seat) = status.edge.get() else {
        let (state, detail) = match status.forwarder.get() {
            _ if status.pool.get().is_some() => (
                "pool",
                "This process works for many accounts; `whatsapp-connector link --account NAME` links one.",
            ),
            Some(_) => ("no-edge", "This process is a forwarder; the edge has the link."),
            None => ("starting", "The process is starting."),
        };
        return Link {
            state,
            detail: detail.into(),
            qr: None,
            expires_in_s: None,
            account: None,
            phone: None,
            passkey: None,
            code: None,
        };
    };
    link_of(seat)
}

fn link_of(Seat { account, connection, .. }: &Seat) -> Link {
    let state = connection.state();
    let (qr, passkey, code, ends) = match &state {
        link::State::Unlinked { qr: Some(qr) } => (Some(qr.code.clone()), None, None, Some(qr.expires)),
        link::State::Passkey(passkey) => {
            let ends = Some(passkey.expires());
            match passkey {
                Passkey::Wanted(challenge) => (None, Some(challenge.options.clone()), None, ends),
                Passkey::Answered(_) => (None, None, None, ends),
                Passkey::Compare { code, .. } => (None, None, Some(code.clone()), ends),
            }
        }
        _ => (None, None, None, None),
    };
    Link {
        state: state.code(),
        detail: state.detail(),
        qr,
        expires_in_s: ends.map(|ends| ends.saturating_duration_since(Instant::now()).as_secs()),
        account: Some(account.to_string()),
        phone: connection.phone(),
        passkey,
        code,
    }
}
