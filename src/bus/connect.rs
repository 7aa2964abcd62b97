//! Getting a connection, and keeping watch over it.

use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerError, jetstream};
use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Bus, REQUEST_TIMEOUT};
use crate::telemetry::metrics;

/// The oldest nats-server with which a refused publish may be retried safely in a cluster.
const OLDEST: (i64, i64, i64) = (2, 12, 0);

/// The longest pause between two attempts to connect: so soon the end of an outage is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How to reach the bus.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `nats://host:port`, several separated by commas. May hold a password.
    pub url: SecretString,
    /// The connection's name in the server's monitoring.
    pub name: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error("NATS_URL is not a NATS address: {0}. It takes nats://host:port, several separated by commas")]
    BadUrl(String),
    /// The server refused the credentials.
    #[error(
        "nats-server refused the credentials in NATS_URL: {0}. Put user and password in as nats://user:password@host:port"
    )]
    Unauthorized(String),
    /// The server is older than this program can keep its promises on.
    #[error(
        "nats-server {found} is too old: this connector needs 2.12 or newer, because older ones can lose a retried publish in a cluster"
    )]
    TooOld {
        /// The version it said it has.
        found: String,
    },
    /// The process was told to stop while it waited.
    #[error("stopped while waiting for nats-server")]
    Stopped,
}

impl Bus {
    /// Connects, waiting for the server as long as it takes (containers start in any order) or until
    /// `stop`.
    pub async fn connect(settings: &Settings, stop: &CancellationToken) -> Result<Self, ConnectError> {
        let url = settings.url.expose_secret();
        let servers: Vec<async_nats::ServerAddr> = url
            .split(',')
            .map(|url| url.trim().parse().map_err(|_| ConnectError::BadUrl(without_secrets(url))))
            .collect::<Result<_, _>>()?;
        let (connects, connected) = watch::channel(0_u64);
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            // Jitter may double it. A process that starts in the middle of an outage goes on as soon as others.
            .with_max_delay(LONGEST_WAIT)
            .without_max_times()
            .with_jitter()
            .build();
        let mut warned = false;
        let client = loop {
            let options = with_credentials(options(settings, connects.clone()), &servers);
            let attempt = options.connect(servers.clone());
            let error = tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                result = attempt => match result {
                    Ok(client) => break client,
                    Err(error) => error,
                },
            };
            use async_nats::ConnectErrorKind as Kind;
            match error.kind() {
                Kind::Authentication | Kind::AuthorizationViolation => {
                    return Err(ConnectError::Unauthorized(error.to_string()));
                }
                Kind::ServerParse => return Err(ConnectError::BadUrl(error.to_string())),
                _ if !warned => {
                    warned = true;
                    tracing::warn!(servers = %without_secrets(url), %error, "nats-server does not answer; waiting for it");
                }
                _ => tracing::debug!(%error, "nats-server still does not answer"),
            }
            let wait = waits.next().unwrap_or(LONGEST_WAIT);
            tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
        };
        check_version(&client)?;
        let context = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(Duration::from_secs(5))
            .build(client.clone());
        let bus = Self { client, jetstream: context, doomed: CancellationToken::new() };
        bus.watch_versions(connected);
        Ok(bus)
    }

    /// A fail-over may lead to another server: its version is checked as well. The task ends with the
    /// connection, whose event callback holds the other end of the channel.
    fn watch_versions(&self, mut connected: watch::Receiver<u64>) {
        let (client, doomed) = (self.client.clone(), self.doomed.clone());
        tokio::spawn(async move {
            while connected.changed().await.is_ok() {
                if let Err(error) = check_version(&client) {
                    tracing::error!(%error, "connected to a server that this connector cannot work with");
                    doomed.cancel();
                    return;
                }
            }
        });
    }
}

fn check_version(client: &async_nats::Client) -> Result<(), ConnectError> {
    let (major, minor, patch) = OLDEST;
    if client.is_server_compatible(major, minor, patch) {
        return Ok(());
    }
    Err(ConnectError::TooOld { found: client.server_info().version })
}

/// async-nats does not look at the user and password in an address by itself. A user alone is a token.
fn with_credentials(options: ConnectOptions, servers: &[async_nats::ServerAddr]) -> ConnectOptions {
    let Some((user, server)) = servers.iter().find_map(|server| Some((server.username()?, server))) else {
        return options;
    };
    match server.password() {
        Some(password) => options.user_and_password(user.to_owned(), password.to_owned()),
        None => options.token(user.to_owned()),
    }
}

fn options(settings: &Settings, connects: watch::Sender<u64>) -> ConnectOptions {
    ConnectOptions::new()
        .name(&settings.name)
        // The defaults wait a minute on a frozen node.
        .ping_interval(Duration::from_secs(2))
        .connection_timeout(REQUEST_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis(50 * (1 << attempt.min(4)) as u64).min(LONGEST_WAIT)
        })
        .event_callback(move |event| {
            match &event {
                Event::Connected => {
                    tracing::info!("connected to nats-server");
                    if *connects.borrow() > 0 {
                        metrics::RECONNECTS.add(1, ["nats"]);
                    }
                    connects.send_modify(|count| *count += 1);
                }
                Event::Disconnected => tracing::warn!("nats-server is away; everything waits for it"),
                Event::SlowConsumer(_) => tracing::warn!(
                    "this process reads slower than nats-server writes; what was dropped comes again"
                ),
                Event::ServerError(ServerError::Other(error)) => {
                    tracing::error!(error, "nats-server refuses something this role needs")
                }
                Event::ServerError(error) => {
                    tracing::error!(%error, "nats-server refuses something this role needs")
                }
                other => tracing::debug!(event = %other, "nats connection"),
            }
            std::future::ready(())
        })
}

/// The address without user, password or token.
fn without_secrets(url: &str) -> String {
    url.split(',')
        .map(|one| match (one.find("://"), one.rfind('@')) {
            (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &one[..scheme + 3], &one[at + 1..]),
            (None, Some(at)) => one[at + 1..].to_owned(),
            _ => one.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(without_secrets("nats://me:pass@host:4222,nats://b:1"), "nats://host:4222,nats://b:1");
        assert_eq!(without_secrets("token@host"), "host");
    }
}
