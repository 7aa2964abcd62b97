//! Makes a connection to nats-server, and watches it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{ClientError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError, jetstream};
use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::capacity::Capacity;
use super::isolation::Isolation;
use super::refusals::Refusals;
use super::{Access, AccessError, Bus, REQUEST_TIMEOUT};
use crate::task::{OnPanic, Task, spawn};
use crate::telemetry::{metrics, redact};

/// The oldest nats-server with which a refused publish can be retried safely in a cluster.
const OLDEST: (i64, i64, i64) = (2, 12, 0);

/// The longest pause between two attempts to connect. The end of an outage is noticed this soon.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How long the private nats-server may take to start before the log says that it does not answer.
const STARTING: Duration = Duration::from_secs(10);

/// How often the log of a running process says that it cannot log in.
const COMPLAINT: Duration = Duration::from_secs(60);

/// How to reach the bus.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `nats://host:port`, several separated by commas. May hold a password.
    pub url: SecretString,
    /// The login and TLS.
    pub access: Access,
    /// The connection's name in the server's monitoring.
    pub name: String,
    /// The server is the private one of this process: it may still be starting. It is about to end when this is
    /// cancelled.
    pub private: Option<CancellationToken>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not valid.
    #[error(
        "NATS_URL is not a NATS address: {0}. It takes nats://host:port (or tls://, wss://), several separated by commas"
    )]
    BadUrl(String),
    /// Two logins.
    #[error("NATS_URL holds a login, and another setting holds one, too: remove one of them")]
    TwoLogins,
    /// The file of a setting cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The server refused the credentials.
    #[error(
        "nats-server refused the login: {0}. Check NATS_CREDS, NATS_NKEY, NATS_TOKEN, NATS_USER and NATS_PASSWORD, or \
         user and password in NATS_URL"
    )]
    Unauthorized(String),
    /// One side does not trust the other's certificate.
    #[error(
        "no TLS connection to nats-server: {0}. Check NATS_CA, NATS_CERT and NATS_KEY, and the host in NATS_URL"
    )]
    Untrusted(String),
    /// The server is older than this program can keep its promises on.
    #[error(
        "nats-server {found} is too old: this connector needs 2.12 or newer, because older ones can lose a retried publish in a cluster"
    )]
    TooOld {
        /// The version it said it has.
        found: String,
    },
    /// No server answers at the address.
    #[error("nats-server does not answer: {0}. Check NATS_URL, and that it runs")]
    Unreachable(String),
    /// The process was told to stop while it waited.
    #[error("stopped while waiting for nats-server")]
    Stopped,
}

impl ConnectError {
    /// Is a setting to blame, whatever the server says?
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::BadUrl(_) | Self::TwoLogins | Self::Access(_))
    }
}

impl Settings {
    /// The servers' addresses without secrets, or why there are none. Asks no server.
    pub fn servers(&self) -> Result<Vec<String>, ConnectError> {
        let (servers, _) = addresses(self)?;
        Ok(servers.iter().map(|server| server.as_url_str().to_owned()).collect())
    }
}

impl Bus {
    /// Connects. Waits for the server without limit, because containers start in any order, or until `stop`.
    pub async fn connect(settings: &Settings, stop: &CancellationToken) -> Result<Self, ConnectError> {
        let shown = redact::addresses(settings.url.expose_secret(), "");
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            // Jitter may double it. A process that starts during an outage goes on as soon as the others.
            .with_max_delay(LONGEST_WAIT)
            .without_max_times()
            .with_jitter()
            .build();
        let (mut warned, began) = (false, Instant::now());
        loop {
            let error = tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                result = Self::try_connect(settings) => match result {
                    Err(ConnectError::Unreachable(error)) => error,
                    result => return result,
                },
            };
            if warned || (settings.private.is_some() && began.elapsed() < STARTING) {
                tracing::debug!(error, "nats-server does not answer yet");
            } else {
                warned = true;
                tracing::warn!(servers = shown, error, "nats-server does not answer; waiting for it");
            }
            let wait = waits.next().unwrap_or(LONGEST_WAIT);
            tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Connects with one attempt at each server, or says why not. For commands.
    pub async fn try_connect(settings: &Settings) -> Result<Self, ConnectError> {
        let (servers, access) = addresses(settings)?;
        access.probe()?;
        let refusals = Refusals::new(access.inbox_prefix());
        let (connects, connected) = watch::channel(0_u64);
        let isolation = Isolation::default();
        let options = options(settings, &access, connects, refusals.clone(), isolation.clone());
        let client = options.connect(servers).await.map_err(refusal)?;
        check_version(&client)?;
        let api = access.api_prefix();
        let context = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(Duration::from_secs(5))
            .api_prefix(&api)
            .build(client.clone());
        let doomed = CancellationToken::new();
        Ok(Self {
            jetstream: context,
            api: api.into(),
            refusals,
            capacity: Capacity::default(),
            isolation,
            _watch: Arc::new(watch_versions(&client, &doomed, connected)),
            client: Arc::new(client),
            doomed,
        })
    }

    /// What the server says it is.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }
}

/// Checks the version of each server, because a fail-over may lead to another one. The connection's event callback has
/// the other end of the channel, so this task also notices when the connection ends.
fn watch_versions(
    client: &async_nats::Client,
    doomed: &CancellationToken,
    mut connected: watch::Receiver<u64>,
) -> Task<()> {
    let (client, doomed) = (client.clone(), doomed.clone());
    spawn("connection watch", OnPanic::EndProcess, async move {
        while connected.changed().await.is_ok() {
            if let Err(error) = check_version(&client) {
                tracing::error!(%error, "connected to a server that this connector cannot work with");
                doomed.cancel();
                return;
            }
        }
        // This task holds the client, so the connection was not closed on purpose. The library's own task has died of
        // something that it read, and no message would ever arrive again.
        tracing::error!(
            "the connection to nats-server has ended for good; this process ends, so that its supervisor starts it again"
        );
        doomed.cancel();
    })
}

fn refusal(error: async_nats::ConnectError) -> ConnectError {
    use ConnectErrorKind as Kind;
    if let Some(why) = distrust(&error) {
        return ConnectError::Untrusted(why);
    }
    match error.kind() {
        Kind::Authentication | Kind::AuthorizationViolation => ConnectError::Unauthorized(error.to_string()),
        Kind::ServerParse => ConnectError::BadUrl(error.to_string()),
        _ => ConnectError::Unreachable(error.to_string()),
    }
}

fn check_version(client: &async_nats::Client) -> Result<(), ConnectError> {
    let (major, minor, patch) = OLDEST;
    if client.is_server_compatible(major, minor, patch) {
        return Ok(());
    }
    Err(ConnectError::TooOld { found: client.server_info().version })
}

/// The servers and the login. async-nats shows addresses in its log, so it gets them without secrets.
fn addresses(settings: &Settings) -> Result<(Vec<ServerAddr>, Access), ConnectError> {
    let mut access = settings.access.clone();
    let mut servers: Vec<ServerAddr> = Vec::new();
    let mut login = None;
    let url = settings.url.expose_secret();
    let bad = || ConnectError::BadUrl(redact::addresses(url, ""));
    let parts: Vec<_> = url.split(',').map(str::trim).collect();
    // The first half of such a login would be taken for a host, and shown.
    let is_torn =
        |[first, second]: &[&str; 2]| !first.contains('@') && second.contains('@') && !second.contains("://");
    if parts.array_windows().any(is_torn) {
        let why =
            "a comma in a user or a password is written %2C, and an address with a login begins with nats://";
        return Err(ConnectError::BadUrl(why.to_owned()));
    }
    // The parser would drop these characters and join the parts around them.
    if parts.iter().any(|part| part.contains(|c: char| c.is_whitespace() || c.is_control())) {
        let why = "an address must not hold a space, tab or other invisible character; in a login write %20";
        return Err(ConnectError::BadUrl(why.to_owned()));
    }
    for text in parts {
        let bare = redact::addresses(text, "");
        let server: ServerAddr = text.parse().map_err(|_| bad())?;
        if login.is_none()
            && let Some(user) = server.username()
        {
            login = Some((user.to_owned(), server.password().map(str::to_owned)));
        }
        servers.push(bare.parse().map_err(|_| bad())?);
    }
    if servers.iter().any(ServerAddr::is_websocket) && !servers.iter().all(ServerAddr::is_websocket) {
        return Err(ConnectError::BadUrl("nats:// and wss:// do not go together".to_owned()));
    }
    if let Some((user, password)) = login {
        if access.has_login() {
            return Err(ConnectError::TwoLogins);
        }
        access = access.with_login(&user, password.as_deref());
    }
    Ok((servers, access))
}

/// Why one side does not trust the other's certificate; `None` if the error is another one.
fn distrust(error: &async_nats::ConnectError) -> Option<String> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls @ (rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))) = tls {
            return Some(tls.to_string());
        }
        source = error.source();
    }
    None
}

/// Logs why a running process cannot log in, but not with every attempt.
#[derive(Debug, Clone, Default)]
struct Complaint(Arc<Mutex<Option<Instant>>>);

impl Complaint {
    fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn say(&self, error: &dyn std::fmt::Display) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            *last = Some(Instant::now());
            tracing::error!(
                %error,
                "cannot log in to nats-server; trying again, with credentials and certificates read anew each time"
            );
        }
    }
}

fn options(
    settings: &Settings,
    access: &Access,
    connects: watch::Sender<u64>,
    refusals: Refusals,
    isolation: Isolation,
) -> ConnectOptions {
    let complaint = Complaint::default();
    let ends = settings.private.clone();
    let chooses = isolation.clone();
    let unreadable = {
        let (complaint, connects) = (complaint.clone(), connects.clone());
        move |error: &AccessError| {
            // The first connection's failure ends the process with these words.
            if *connects.borrow() > 0 {
                complaint.say(error);
            }
        }
    };
    access
        .options(unreadable)
        .name(&settings.name)
        // The defaults wait a minute on a frozen node.
        .ping_interval(Duration::from_secs(2))
        .connection_timeout(REQUEST_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis(50 * (1 << attempt.min(4)) as u64).min(LONGEST_WAIT)
        })
        .reconnect_to_server_callback(move |servers, _| std::future::ready(chooses.choose(servers)))
        .event_callback(move |event| {
            match &event {
                Event::Connected => {
                    tracing::info!("connected to nats-server");
                    complaint.over();
                    refusals.forget();
                    isolation.connected();
                    if *connects.borrow() > 0 {
                        metrics::RECONNECTS.add(1, ["nats"]);
                    }
                    connects.send_modify(|count| *count += 1);
                }
                Event::Disconnected if ends.as_ref().is_some_and(CancellationToken::is_cancelled) => {
                    tracing::debug!("the private nats-server has ended");
                }
                Event::Disconnected => tracing::warn!("nats-server is away; everything waits for it"),
                Event::SlowConsumer(_) => tracing::warn!(
                    "this process reads slower than nats-server writes; dropped messages are delivered again"
                ),
                // No permission is missing. If the next login fails, that is told.
                Event::ServerError(error) if ends_the_login(error) => {
                    tracing::info!(
                        error = redact::text(error),
                        "nats-server has ended this login; logging in anew"
                    );
                }
                Event::ServerError(ServerError::Other(words)) => refusals.hear(words),
                Event::ServerError(error) => refusals.hear(&error.to_string()),
                Event::ClientError(ClientError::Other(error)) if is_login(error) => complaint.say(error),
                other => tracing::debug!(event = %other, "nats connection"),
            }
            std::future::ready(())
        })
}

/// Does the server say that this login counts no longer, and not that it may not do something?
fn ends_the_login(error: &ServerError) -> bool {
    match error {
        ServerError::AuthorizationViolation => true,
        ServerError::Other(words) => {
            let words = words.to_lowercase();
            ["authentication revoked", "authentication expired", "authentication timeout"]
                .iter()
                .any(|part| words.contains(part))
        }
        _ => false,
    }
}

/// async-nats gives the result of a reconnect only as text.
fn is_login(error: &str) -> bool {
    [ConnectErrorKind::Authentication, ConnectErrorKind::AuthorizationViolation, ConnectErrorKind::Tls]
        .iter()
        .any(|kind| kind.to_string() == error)
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
