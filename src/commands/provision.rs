//! `whatsapp-connector provision`: creates what is missing on the bus, for processes with least privileges.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Provision, Role, TopologyError};
use crate::bus::{Bus, ConnectError, Settings};
use crate::config::Config;
use crate::pool::Which;
use crate::stdout;
use crate::wire::Account;

/// How long a connection may take. An operator or a deployment waits; nats-server may start at the same time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why not everything exists now.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// No address.
    #[error("NATS_URL is not set: `provision` creates streams on a nats-server. Set it to nats://host:port")]
    NoBus,
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A stream, bucket or consumer cannot be created, or breaks a promise.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No answer in time.
    #[error("nats-server does not answer; check NATS_URL")]
    Timeout,
    /// The output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl ProvisionError {
    /// Is a setting to blame, whatever the server says?
    pub fn is_setting(&self) -> bool {
        match self {
            Self::NoBus => true,
            Self::Connect(error) => error.is_setting(),
            Self::Topology(_) | Self::Timeout | Self::Output(_) => false,
        }
    }
}

/// Which accounts.
#[derive(Debug, Clone, Args)]
pub struct ProvisionArgs {
    /// An account whose edge will run; may be given several times. Without it, WHATSAPP_ACCOUNT; with WHATSAPP_ACCOUNTS, the names
    /// there.
    #[arg(long = "account", value_parser = Account::parse)]
    accounts: Vec<Account>,
}

/// Creates all that forwarders and the accounts' edges need, whatever `NATS_PROVISION` says. What exists is compared
/// and stays as it is.
pub async fn run(args: &ProvisionArgs, config: &Config) -> Result<ExitCode, ProvisionError> {
    let url = config.nats_url.clone().ok_or(ProvisionError::NoBus)?;
    let access = config.nats_access.clone();
    let settings = Settings { url, access, name: "whatsapp-connector provision".to_owned(), private: None };
    let never = CancellationToken::new();
    let connect = tokio::time::timeout(PATIENCE, Bus::connect(&settings, &never));
    let bus = connect.await.map_err(|_elapsed| ProvisionError::Timeout)??;
    let topology = topology::Settings { provision: Provision::Create, ..config.topology.clone() };
    bus.ensure(&config.subjects, &topology, Role::Forwarder).await?;
    let mut accounts = args.accounts.clone();
    match &config.pool {
        Some(pool) => {
            bus.ensure(&config.subjects, &topology, Role::Pool).await?;
            let _ = stdout::line("the bus is ready for the edges of a pool")?;
            if let (Which::These(names), true) = (&pool.which, accounts.is_empty()) {
                accounts.extend(names.iter().cloned());
            }
        }
        None if accounts.is_empty() => accounts.push(config.edge.account.clone()),
        None => {}
    }
    for account in &accounts {
        bus.ensure(&config.subjects, &topology, Role::Edge(account)).await?;
        let _ = stdout::line(format_args!("the bus is ready for the edge of `{account}`"))?;
    }
    let _ = stdout::line("the bus is ready for forwarders")?;
    Ok(ExitCode::SUCCESS)
}
