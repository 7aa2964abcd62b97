//! Starts the parts of a process, and stops them in the right order. `routes` reads `ROUTES_FILE` again on SIGHUP.

mod routes;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::compat::Compat;
use crate::admin::service::{EdgeOffer, Offer, serve, serve_pool};
use crate::admin::{self, Admin};
use crate::bus::embedded::{Embedded, EmbeddedError};
use crate::bus::topology::Role;
use crate::bus::{Bus, ConnectError, Settings as BusSettings};
use crate::config::{Config, Environment};
use crate::edge::{self, Edge, EdgeError, Ground, LockError};
use crate::exit::{EX_CONFIG, EX_TEMPFAIL, EX_UNAVAILABLE, Fatal};
use crate::forwarder::{self, Forwarder, ForwarderError};
use crate::pool::{Pool, PoolError};
use crate::process::{Threads, observed, settings, settings_with_routes};
use crate::task::{OnPanic, Task, spawn};

/// The part of `SHUTDOWN_GRACE` that work under way gets. The rest is for what ends after it.
const WORK_PART: f64 = 0.6;

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

impl Sides {
    /// The command that runs them.
    fn command(self) -> &'static str {
        match self {
            Self::Both => "run",
            Self::Edge => "edge",
            Self::Forwarder => "forwarder",
        }
    }

    /// What nats-server lists the connection as.
    fn connection_name(self, config: &Config) -> String {
        match self {
            Self::Both => "whatsapp-connector".to_owned(),
            Self::Edge if config.pool.is_some() => "whatsapp-connector edge of a pool".to_owned(),
            Self::Edge => format!("whatsapp-connector edge {}", config.edge.account),
            Self::Forwarder => "whatsapp-connector forwarder".to_owned(),
        }
    }
}

/// Why a process ended although it was not told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A role needs a bus.
    #[error("NATS_URL is not set, and only `run` starts a private nats-server. Set it to nats://host:port")]
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
    /// The edge of a pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The forwarder.
    #[error(transparent)]
    Forwarder(#[from] ForwarderError),
    /// The admin server.
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    /// The bus is one that this program must not run on, for example after a fail-over.
    #[error("this connector can no longer work with nats-server; see the log")]
    Doomed,
    /// No handler for signals.
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
}

impl Fatal for RunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::NoBus | Self::Embedded(EmbeddedError::Missing { .. }) => EX_CONFIG,
            Self::Connect(error) if error.is_setting() => EX_CONFIG,
            Self::Edge(EdgeError::Lock(LockError::Taken { .. }))
            | Self::Embedded(EmbeddedError::Taken(_)) => EX_TEMPFAIL,
            Self::Edge(EdgeError::Lock(_) | EdgeError::Unsafe { .. })
            | Self::Pool(PoolError::Edge(EdgeError::Unsafe { .. })) => EX_CONFIG,
            _ => EX_UNAVAILABLE,
        }
    }
}

/// Runs `sides` until SIGTERM or SIGINT.
pub fn run(environment: &Environment, sides: Sides) -> ExitCode {
    let config = match sides {
        Sides::Edge => settings(environment),
        _ => settings_with_routes(environment),
    };
    let config = match config {
        Ok(config) => config,
        Err(code) => return code,
    };
    let telemetry = config.telemetry.clone();
    // Of many accounts, one must not keep all others from the only thread.
    let is_much = sides == Sides::Both || (sides == Sides::Edge && config.pool.is_some());
    let threads = if is_much { Threads::PerCore } else { Threads::One };
    observed(&telemetry, environment, threads, async |metrics| {
        Box::pin(until_told(config, sides, metrics)).await.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs the parts until SIGTERM or SIGINT.
async fn until_told(config: Config, sides: Sides, metrics: prometheus::Registry) -> Result<(), RunError> {
    if sides != Sides::Forwarder && matches!(config.edge.store, edge::SessionStore::File) {
        // First, because the edge may have to wait for the bus.
        edge::guarded(&config.edge.auth_dir, &config.edge.account).map_err(EdgeError::from)?;
    }
    who_is_answered(&config.forwarder, sides);
    let routes = routes::Reader::new(config.routes.as_ref().filter(|_| sides != Sides::Edge))?;
    let stop = CancellationToken::new();
    // From here on a signal stops the process in order and does not kill it.
    let signals = signals(stop.clone())?;
    let embedded_stop = CancellationToken::new();
    let (url, embedded) = match (&config.nats_url, sides) {
        (Some(url), _) => (url.clone(), None),
        (None, Sides::Both) => {
            let embedded = Embedded::start(&config.embedded)?;
            let url = embedded.url();
            let supervise = embedded.supervise(embedded_stop.clone());
            (url, Some(spawn("private nats-server", OnPanic::EndProcess, supervise)))
        }
        (None, _) => return Err(RunError::NoBus),
    };
    let _signals = spawn("signals", OnPanic::EndProcess, signals);
    let place = Place { url, private: embedded.is_some().then(|| embedded_stop.clone()) };
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(config.shutdown_grace).await;
    };
    let result = tokio::select! {
        result = Box::pin(work(&config, sides, (place, routes), metrics, stop.clone())) => result,
        () = overdue => {
            tracing::warn!("not all work ended within SHUTDOWN_GRACE; the bus delivers the rest again");
            Ok(())
        }
    };
    embedded_stop.cancel();
    if let Some(embedded) = embedded {
        // It logs its own failures.
        let _ = embedded.await;
    }
    match result {
        // A stop before the bus answered is a stop like any other.
        Err(RunError::Connect(ConnectError::Stopped)) => Ok(()),
        result => result,
    }
}

/// One line, so that nobody is surprised.
fn who_is_answered(settings: &forwarder::Settings, sides: Sides) {
    let whom = settings.eligible.whom();
    match sides {
        Sides::Edge => {
            tracing::info!("forwarders decide who is answered; with the settings of this edge: {whom}")
        }
        _ => tracing::info!("answers {whom}"),
    }
    if sides != Sides::Edge && !settings.routes.is_empty() {
        let routes = settings.routes.len();
        tracing::info!(
            routes,
            "accounts have an assistant of their own (ROUTES_FILE); BACKEND_URL is that of all others"
        );
    }
    if let Some(proxy) = settings.backend.proxy.as_ref().filter(|_| sides != Sides::Edge) {
        tracing::info!(%proxy, "the backend is called through a proxy");
    }
}

/// Cancels `stop` with the first SIGTERM or SIGINT, and ends the process with the second.
fn signals(stop: CancellationToken) -> Result<impl Future<Output = ()>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                // With a second signal the operator says not to wait. Nothing is lost.
                std::process::exit(130);
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    })
}

/// Where the bus is.
struct Place {
    url: SecretString,
    /// It is the private nats-server, which ends when this is cancelled.
    private: Option<CancellationToken>,
}

async fn work(
    config: &Config,
    sides: Sides,
    (place, routes): (Place, Option<routes::Reader>),
    metrics: prometheus::Registry,
    stop: CancellationToken,
) -> Result<(), RunError> {
    // The admin server comes first, because liveness must not depend on the bus.
    let admin = Admin::bind(config.http_addr, config.http_token.as_ref(), metrics).await?;
    let compat = config.compat_status.then(|| Compat::new(config.cors_origin.as_deref()));
    let admin = admin.with_files(config.file_links.clone()).with_compat(compat);
    let status = admin.status();
    let admin_stop = CancellationToken::new();
    let admin = spawn("admin server", OnPanic::EndProcess, admin.serve(admin_stop.clone()));
    let result = Box::pin(sides_on_bus(config, sides, (place, routes), &status, &stop)).await;
    admin_stop.cancel();
    // A failed admin server has been logged.
    let _ = admin.await;
    result
}

async fn sides_on_bus(
    config: &Config,
    sides: Sides,
    (place, routes): (Place, Option<routes::Reader>),
    status: &Arc<admin::Status>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let name = sides.connection_name(config);
    let Place { url, private } = place;
    let settings = BusSettings { url, access: config.nats_access.clone(), name, private };
    let bus = Bus::connect(&settings, stop).await?;
    status.bus(bus.clone(), config.subjects.clone());
    let answers = admin::process_status::answer(
        bus.clone(),
        config.subjects.clone(),
        Arc::clone(status),
        sides.command(),
    );
    // Until the end, so that the operator sees what a stopping process still has in hand.
    let _answers = spawn("status answers", OnPanic::Log, answers);
    let started = Box::pin(stop.run_until_cancelled(Started::start(config, sides, &bus, stop))).await;
    let Some(started) = started else { return Ok(()) };
    let started = started?;
    if let Some(edge) = &started.edge {
        status.edge(edge.seat());
    }
    if let Some(pool) = &started.pool {
        status.pool(pool.view());
    }
    if let Some(forwarder) = &started.forwarder {
        status.forwarder(Arc::clone(forwarder));
    }
    let _services = started.services(config, sides, (&bus, status), stop);
    let _routes = routes
        .zip(started.forwarder.clone())
        .map(|(reader, forwarder)| spawn("routes", OnPanic::EndProcess, reader.read_again(forwarder)));
    tracing::info!(?sides, "ready to work");
    let mut running = Box::pin(started.run(config.shutdown_grace.mul_f64(WORK_PART)));
    let result = tokio::select! {
        () = &mut running => Ok(()),
        () = bus.doomed() => {
            stop.cancel();
            running.await;
            Err(RunError::Doomed)
        }
    };
    bus.flush(Duration::from_secs(2)).await;
    result
}

/// The sides of this process, ready to work.
struct Started {
    edge: Option<Edge>,
    pool: Option<Pool>,
    forwarder: Option<Arc<Forwarder>>,
}

impl Started {
    /// One after the other, so that the second finds the streams that the first has created.
    async fn start(
        config: &Config,
        sides: Sides,
        bus: &Bus,
        stop: &CancellationToken,
    ) -> Result<Self, RunError> {
        let (subjects, topology) = (&config.subjects, &config.topology);
        let mut started = Self { edge: None, pool: None, forwarder: None };
        if sides != Sides::Forwarder {
            let (settings, place) = (config.edge.clone(), (subjects.clone(), topology.clone()));
            if let Some(pool) = config.pool.clone() {
                let grace = config.shutdown_grace.mul_f64(WORK_PART);
                let pool = Pool::start(bus.clone(), place, pool, settings, grace, stop.clone());
                started.pool = Some(Box::pin(pool).await?);
            } else {
                let role = Role::Edge(&config.edge.account);
                let ground = Ground::prepare(bus.clone(), place.0, place.1, &settings, role);
                let ground = Box::pin(ground).await?;
                started.edge = Some(Edge::start(ground, settings, None, stop.clone()).await?);
            }
        }
        if sides != Sides::Edge {
            let settings = config.forwarder.clone();
            let forwarder =
                Forwarder::start(bus.clone(), subjects.clone(), topology.clone(), settings, stop.clone());
            started.forwarder = Some(forwarder.await?);
        }
        Ok(started)
    }

    /// What others can ask of it. Nobody can ask a process that is about to end for anything but its status.
    fn services(
        &self,
        config: &Config,
        sides: Sides,
        (bus, status): (&Bus, &Arc<admin::Status>),
        stop: &CancellationToken,
    ) -> Vec<Task<Option<()>>> {
        if !config.service {
            return Vec::new();
        }
        let takeover = config.edge.takeover;
        let (place, status) = ((bus.clone(), config.subjects.clone()), Arc::clone(status));
        let edge = self.edge.as_ref().map(|edge| EdgeOffer { seat: edge.seat(), takeover });
        let own = serve(
            place.0.clone(),
            place.1.clone(),
            Arc::clone(&status),
            Offer { role: sides.command(), edge },
        );
        let until_stop = stop.clone();
        let mut services =
            vec![spawn("service", OnPanic::Log, async move { until_stop.run_until_cancelled(own).await })];
        if let Some(pool) = &self.pool {
            let all = serve_pool(place.0, place.1, status, (pool.view(), takeover));
            let until_stop = stop.clone();
            services.push(spawn("services", OnPanic::Log, async move {
                until_stop.run_until_cancelled(all).await
            }));
        }
        services
    }

    /// Runs until both have ended.
    async fn run(self, grace: Duration) {
        let edge = async {
            if let Some(edge) = self.edge {
                Box::pin(edge.run(grace)).await;
            }
            if let Some(pool) = self.pool {
                Box::pin(pool.run()).await;
            }
        };
        let forwarder = async {
            if let Some(forwarder) = self.forwarder {
                forwarder.run(grace).await;
            }
        };
        tokio::join!(edge, forwarder);
    }
}
