//! Puts the parts together, and takes them apart in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::bus::embedded::{Embedded, EmbeddedError};
use crate::bus::{Bus, ConnectError, Settings as BusSettings};
use crate::config::{Config, Environment};
use crate::edge::{self, Edge, EdgeError, LockError};
use crate::forwarder::{Forwarder, ForwarderError};
use crate::process::{EX_CONFIG, EX_TEMPFAIL, EX_UNAVAILABLE, Fatal, observed, settings};
use crate::task::{OnPanic, spawn};

/// Which sides run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Both.
    Both,
    /// WhatsApp ↔ bus.
    Edge,
    /// Bus ↔ backend.
    Forwarder,
}

/// Why a process ended without having been told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A role needs a bus.
    #[error(
        "NATS_URL is not set, and only `run` starts a nats-server of its own. Set it to nats://host:port"
    )]
    NoBus,
    /// The private nats-server.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The bus.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The edge.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// The forwarder.
    #[error(transparent)]
    Forwarder(#[from] ForwarderError),
    /// The admin server.
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    /// The bus became one that this program must not run on.
    #[error("nats-server is not one that this connector can work with any more; see the log")]
    Doomed,
    /// No signal handler.
    #[error("signals cannot be heard: {0}")]
    Signals(std::io::Error),
}

impl Fatal for RunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoBus | Self::Embedded(EmbeddedError::Missing { .. }) => EX_CONFIG,
            Self::Connect(error) if error.is_setting() => EX_CONFIG,
            Self::Edge(EdgeError::Lock(LockError::Taken { .. }))
            | Self::Embedded(EmbeddedError::Taken(_)) => EX_TEMPFAIL,
            Self::Edge(EdgeError::Lock(_)) => EX_CONFIG,
            _ => EX_UNAVAILABLE,
        }
    }
}

/// Runs `sides` until SIGTERM or SIGINT.
pub fn run(environment: &Environment, sides: Sides) -> ExitCode {
    let config = match settings(environment) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let telemetry = config.telemetry.clone();
    observed(&telemetry, environment, async |metrics| {
        until_told(config, sides, metrics).await.map(|()| ExitCode::SUCCESS)
    })
}

/// Until SIGTERM or SIGINT.
async fn until_told(config: Config, sides: Sides, metrics: prometheus::Registry) -> Result<(), RunError> {
    if sides != Sides::Forwarder {
        // Before the bus, for which the edge may have to wait.
        edge::guarded(&config.edge.auth_dir, &config.edge.account).map_err(EdgeError::from)?;
    }
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let told = {
        let stop = stop.clone();
        async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stop.is_cancelled() {
                    // Told twice: whoever does that does not want to wait. Nothing is lost by it.
                    std::process::exit(130);
                }
                tracing::info!("stopping");
                stop.cancel();
            }
        }
    };
    let embedded_stop = CancellationToken::new();
    let (url, embedded) = match (&config.nats_url, sides) {
        (Some(url), _) => (url.clone(), None),
        (None, Sides::Both) => {
            let embedded = Embedded::start(&config.embedded)?;
            (
                embedded.url(),
                Some(spawn(
                    "private nats-server",
                    OnPanic::EndProcess,
                    embedded.supervise(embedded_stop.clone()),
                )),
            )
        }
        (None, _) => return Err(RunError::NoBus),
    };
    let told = spawn("signals", OnPanic::EndProcess, told);
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(config.shutdown_grace).await;
    };
    let result = tokio::select! {
        result = work(&config, sides, url, metrics, stop.clone()) => result,
        () = overdue => {
            tracing::warn!("not everything ended within SHUTDOWN_GRACE; what did not comes again");
            Ok(())
        }
    };
    told.abort();
    embedded_stop.cancel();
    if let Some(embedded) = embedded {
        // It logs its own failures.
        let _ = embedded.await;
    }
    match result {
        // Told to stop before the bus was there: that is a stop like any other.
        Err(RunError::Connect(ConnectError::Stopped)) => Ok(()),
        result => result,
    }
}

async fn work(
    config: &Config,
    sides: Sides,
    url: SecretString,
    metrics: prometheus::Registry,
    stop: CancellationToken,
) -> Result<(), RunError> {
    // Liveness must not depend on the bus: the admin server comes first.
    let admin = Admin::bind(config.http_addr, config.http_token.as_ref(), metrics).await?;
    let status = admin.status();
    let admin_stop = CancellationToken::new();
    let admin = spawn("admin server", OnPanic::EndProcess, admin.serve(admin_stop.clone()));
    let result = sides_on_bus(config, sides, url, &status, &stop).await;
    admin_stop.cancel();
    // A failed admin server has been logged.
    let _ = admin.await;
    result
}

async fn sides_on_bus(
    config: &Config,
    sides: Sides,
    url: SecretString,
    status: &Arc<admin::Status>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let name = match sides {
        Sides::Both => "whatsapp-connector".to_owned(),
        Sides::Edge => format!("whatsapp-connector edge {}", config.edge.account),
        Sides::Forwarder => "whatsapp-connector forwarder".to_owned(),
    };
    let bus = Bus::connect(&BusSettings { url, access: config.nats_access.clone(), name }, stop).await?;
    status.bus(bus.clone(), config.subjects.clone());
    let role = match sides {
        Sides::Both => "run",
        Sides::Edge => "edge",
        Sides::Forwarder => "forwarder",
    };
    let answering =
        admin::process_status::answer(bus.clone(), config.subjects.clone(), Arc::clone(status), role);
    // To the end, so that it can be seen what a process that stops still has in hand.
    let _answering = spawn("status answers", OnPanic::Log, answering);
    // Of the grace, the last part is for the library's flush and the server's.
    let grace = config.shutdown_grace.mul_f64(0.6);
    let (subjects, topology) = (config.subjects.clone(), config.topology.clone());
    let started = async {
        // One after the other: the second finds the streams that the first has made.
        let edge = if sides == Sides::Forwarder {
            None
        } else {
            let (subjects, topology) = (subjects.clone(), topology.clone());
            Some(Edge::start(bus.clone(), subjects, topology, config.edge.clone(), stop.clone()).await?)
        };
        let forwarder = if sides == Sides::Edge {
            None
        } else {
            let settings = config.forwarder.clone();
            Some(Forwarder::start(bus.clone(), subjects, topology, settings, stop.clone()).await?)
        };
        Ok::<_, RunError>((edge, forwarder))
    };
    let Some(started) = stop.run_until_cancelled(started).await else { return Ok(()) };
    let (edge, forwarder) = started?;
    if let Some(edge) = &edge {
        status.edge(config.edge.account.clone(), edge.connection());
    }
    if let Some(forwarder) = &forwarder {
        status.forwarder(Arc::clone(forwarder));
    }
    tracing::info!(?sides, "ready to work");
    let edge = async {
        if let Some(edge) = edge {
            edge.run(grace).await;
        }
    };
    let forwarder = async {
        if let Some(forwarder) = forwarder {
            forwarder.run(grace).await;
        }
    };
    let all = async { tokio::join!(edge, forwarder) };
    tokio::pin!(all);
    let result = tokio::select! {
        _ = &mut all => Ok(()),
        () = bus.doomed() => {
            stop.cancel();
            all.await;
            Err(RunError::Doomed)
        }
    };
    bus.flush(Duration::from_secs(2)).await;
    result
}
