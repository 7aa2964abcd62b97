//! `whatsapp-connector provision`: makes what is missing on the bus, for processes that may not.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::bus::topology::{self, Provision, Role, TopologyError};
use crate::bus::{Bus, ConnectError, Settings};
use crate::config::Config;
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
}

/// Makes all that forwarders and the edges of `accounts` need, whatever `NATS_PROVISION` says. What exists is
/// compared and stays as it is.
pub async fn run(config: &Config, accounts: &[Account]) -> Result<(), ProvisionError> {
    let url = config.nats_url.clone().ok_or(ProvisionError::NoBus)?;
    let access = config.nats_access.clone();
    let settings = Settings { url, access, name: "whatsapp-connector provision".to_owned() };
    let never = CancellationToken::new();
    let connect = tokio::time::timeout(PATIENCE, Bus::connect(&settings, &never));
    let bus = connect.await.map_err(|_elapsed| ProvisionError::Timeout)??;
    let topology = topology::Settings { provision: Provision::Create, ..config.topology.clone() };
    bus.ensure(&config.subjects, &topology, Role::Forwarder).await?;
    let own = std::slice::from_ref(&config.edge.account);
    for account in if accounts.is_empty() { own } else { accounts } {
        bus.ensure(&config.subjects, &topology, Role::Edge(account)).await?;
        println!("the bus is ready for the edge of `{account}`");
    }
    println!("the bus is ready for forwarders");
    Ok(())
}
