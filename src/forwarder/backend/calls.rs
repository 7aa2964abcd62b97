//! How a call goes out: over plain connections, or with the general client where TLS, a proxy or a login is needed. The
//! result is the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::{HeaderMap, RETRY_AFTER};
use reqwest::StatusCode;

use super::plain::Connections;
use super::{ClientError, Failure, Settings, Url, retry_after};
use crate::wire::now_ms;

/// An idle connection is not used again after this time. Servers close theirs after a while without a word (uvicorn after
/// 5 s, gunicorn after 2 s), and a call that they meet on the way counts as a broken answer.
pub(super) const IDLE: Duration = Duration::from_millis(1_500);
/// The time limit for a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How long a peer may be silent before it is asked whether it is there, and how long it may owe an ack. The peer's system
/// answers, however busy its programs are. Behind a cut line, or a router that has forgotten the connection, nobody does.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);
pub(super) const KEEP_ALIVE_TRIES: u32 = 2;
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// A larger answer does not count as an answer.
pub(super) const MAX_BODY: usize = 1 << 20;

/// What this program calls itself.
pub(super) const AGENT: &str = concat!("whatsapp-connector/", env!("CARGO_PKG_VERSION"));

/// An answer as it came.
pub(super) struct Heard {
    pub(super) status: StatusCode,
    /// The body of a 2xx. Nothing is read of other bodies.
    pub(super) body: Bytes,
    /// What the `Retry-After` header of another status asks for.
    pub(super) retry_after: Option<Duration>,
}

impl Heard {
    pub(super) fn success(status: StatusCode, body: Bytes) -> Self {
        Self { status, body, retry_after: None }
    }

    pub(super) fn refusal(status: StatusCode, headers: &HeaderMap) -> Self {
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = asked.and_then(|value| retry_after::read(value, now_ms()));
        Self { status, body: Bytes::new(), retry_after }
    }
}

/// The way to the backend.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Plain(Arc<Connections>),
    General { client: reqwest::Client, url: Url },
}

/// General clients, for backends that can share one: each has all certificates in memory, and takes a while to make.
#[derive(Default)]
pub struct Clients(HashMap<(Option<String>, Duration), reqwest::Client>);

/// The most that are kept for the next backend.
const KEPT: usize = 64;

impl fmt::Debug for Clients {
    /// A proxy's address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clients").field(&self.0.len()).finish()
    }
}

impl Clients {
    fn of(&mut self, settings: &Settings) -> Result<reqwest::Client, ClientError> {
        let key = (settings.proxy.as_ref().map(|proxy| proxy.url().to_owned()), settings.timeout);
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        let client = general(settings)?;
        self.0.insert(key, client.clone());
        Ok(client)
    }
}

impl Way {
    /// The cheapest way to `url`.
    pub(super) fn to(url: &Url, settings: &Settings, clients: &mut Clients) -> Result<Self, ClientError> {
        let plain = settings.proxy.is_none().then(|| Connections::to(url, settings.timeout)).flatten();
        match plain {
            Some(plain) => Ok(Self::Plain(Arc::new(plain))),
            None => Ok(Self::General { client: clients.of(settings)?, url: url.clone() }),
        }
    }

    pub(super) async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Result<Heard, Failure> {
        let (client, url) = match self {
            Self::Plain(connections) => return connections.post(headers, body.into()).await,
            Self::General { client, url } => (client, url),
        };
        let request = client.post(url.clone()).headers(headers).body(body);
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Ok(Heard::refusal(status, response.headers()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Heard::success(status, body.freeze()))
    }
}

/// A client for every kind of address.
pub(super) fn general(settings: &Settings) -> Result<reqwest::Client, ClientError> {
    let http = reqwest::Client::builder()
        // Which proxy counts is decided in `proxy`, not by the library.
        .no_proxy()
        // After a redirect the key would go to another address.
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEP_ALIVE)
        .tcp_keepalive_interval(KEEP_ALIVE)
        .tcp_keepalive_retries(KEEP_ALIVE_TRIES)
        .connect_timeout(CONNECT.min(settings.timeout))
        .timeout(settings.timeout)
        .user_agent(AGENT);
    #[cfg(target_os = "linux")]
    let http = http.tcp_user_timeout(UNACKNOWLEDGED);
    let http = match &settings.proxy {
        Some(proxy) => http.proxy(reqwest::Proxy::all(proxy.url())?),
        None => http,
    };
    http.build()
}

/// Why the general client has no answer.
pub(super) fn failure(error: &ClientError) -> Failure {
    if error.is_connect() {
        Failure::Unreachable
    } else if error.is_timeout() {
        Failure::Timeout
    } else {
        Failure::Broken
    }
}
