//! How a command reaches the bus: the one that `NATS_URL` names, or the private one of a `run` on this machine.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, ConnectError, Settings, embedded};
use crate::config::Config;

/// Why a command has no bus.
#[derive(Debug, thiserror::Error)]
pub enum BusUnavailable {
    /// No address.
    #[error(
        "NATS_URL is not set, and no `run` has its private nats-server in {0}. Set NATS_URL to nats://host:port"
    )]
    NoBus(PathBuf),
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No answer in time.
    #[error("nats-server does not answer; check NATS_URL")]
    Timeout,
}

impl BusUnavailable {
    /// Is a setting to blame, whatever the server says?
    pub fn is_setting(&self) -> bool {
        match self {
            Self::NoBus(_) => true,
            Self::Connect(error) => error.is_setting(),
            Self::Timeout => false,
        }
    }
}

/// How long a connection may take. Short: the operator waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects as `whatsapp-connector <command>`.
pub async fn connect(config: &Config, command: &str) -> Result<Bus, BusUnavailable> {
    let url = match &config.nats_url {
        Some(url) => url.clone(),
        None => embedded::running_url(&config.embedded)
            .ok_or_else(|| BusUnavailable::NoBus(config.embedded.data_dir.clone()))?,
    };
    let access = config.nats_access.clone();
    let settings = Settings { url, access, name: format!("whatsapp-connector {command}"), private: None };
    tokio::time::timeout(PATIENCE, Bus::connect(&settings, &CancellationToken::new()))
        .await
        .map_err(|_elapsed| BusUnavailable::Timeout)?
        .map_err(BusUnavailable::from)
}
