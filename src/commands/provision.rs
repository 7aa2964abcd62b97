//! `whatsapp-connector provision`: makes what is missing on the bus, for processes that may not.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Provision, Role, TopologyError};
use crate::bus::{Bus, ConnectError, Settings};
use crate::config::Config;
use crate::stdout;
use crate::wire::Account;

/// How long nats-server may take to be there: a person, or a deployment, waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why not everything is there.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Nowhere to make it.
    #[error("NATS_URL is not set: `provision` makes streams on a nats-server. Set it to nats://host:port")]
    NoBus,
    /// The bus.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The streams, buckets and consumers.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No answer within bounds.
    #[error("nats-server does not answer; check NATS_URL")]
    Timeout,
    /// What is done cannot be told.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl ProvisionError {
    /// Is it a setting that cannot be used, whatever the server says?
    pub fn is_setting(&self) -> bool {
        match self {
            Self::NoBus => true,
            Self::Connect(error) => error.is_setting(),
            Self::Topology(_) | Self::Timeout | Self::Output(_) => false,
        }
    }
}

/// For whom.
#[derive(Debug, Clone, Args)]
pub struct ProvisionArgs {
    /// The accounts whose edges will run; may be given several times. WHATSAPP_ACCOUNT if none is.
    #[arg(long = "account", value_parser = Account::parse)]
    accounts: Vec<Account>,
}

/// Makes all that forwarders and the edges of the accounts need, whatever `NATS_PROVISION` says. What exists is
/// compared and stays as it is.
pub async fn run(args: &ProvisionArgs, config: &Config) -> Result<ExitCode, ProvisionError> {
    let url = config.nats_url.clone().ok_or(ProvisionError::NoBus)?;
    let access = config.nats_access.clone();
    let settings = Settings { url, access, name: "whatsapp-connector provision".to_owned() };
    let never = CancellationToken::new();
    let connect = tokio::time::timeout(PATIENCE, Bus::connect(&settings, &never));
    let bus = connect.await.map_err(|_elapsed| ProvisionError::Timeout)??;
    let topology = topology::Settings { provision: Provision::Create, ..config.topology.clone() };
    bus.ensure(&config.subjects, &topology, Role::Forwarder).await?;
    let own = std::slice::from_ref(&config.edge.account);
    for account in if args.accounts.is_empty() { own } else { &args.accounts } {
        bus.ensure(&config.subjects, &topology, Role::Edge(account)).await?;
        let _ = stdout::line(format_args!("the bus is ready for the edge of `{account}`"))?;
    }
    let _ = stdout::line("the bus is ready for forwarders")?;
    Ok(ExitCode::SUCCESS)
}
