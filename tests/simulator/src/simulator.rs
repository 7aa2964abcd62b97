//! Starting and stopping.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;
use tower::ServiceExt as _;

use crate::control;
use crate::hub::Hub;
use crate::records::{self, LoadError};
use crate::store::{Store, StoreError};

/// How long open connections and running work may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// How to run a simulator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; loopback only. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where to keep state; it is lost at the end when absent.
    pub state: Option<PathBuf>,
}

impl Default for Config {
    /// Any free port, nothing kept.
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), state: None }
    }
}

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is reachable from elsewhere.
    #[error("--listen {0}: the simulator has no authentication and listens on loopback only; use 127.0.0.1:{port} or [::1]:{port}", port = .0.port())]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The saved state cannot be used.
    #[error(transparent)]
    State(#[from] LoadError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}

/// Why a simulator did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// State could not be written.
    #[error("state was not kept: {0}")]
    NotKept(String),
}

/// The simulator; see [`Simulator::start`].
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts a simulator on the current Tokio runtime. It runs until [`Handle::shutdown`], or until
    /// the handle is dropped.
    ///
    /// # Errors
    ///
    /// When the address is not on loopback or taken, or the saved state cannot be used.
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        if !config.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(config.listen));
        }
        let store = match &config.state {
            Some(directory) => Store::open(directory)?,
            None => Store::in_memory(),
        };
        let world = records::load(store)?;
        let bind = |source| StartError::Bind { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let hub = Hub::new(world);
        hub.resume();
        let stopping = hub.stopping.clone();
        // Else an answer's ack waits up to 40 ms for the other side's word that it has the one before.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "a connection may be slow");
            }
        });
        let server = axum::serve(listener, control::router(Arc::clone(&hub)))
            .with_graceful_shutdown(async move { stopping.cancelled().await });
        hub.tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
        let guard = hub.stopping.clone().drop_guard();
        Ok(Handle { address, hub, _guard: guard })
    }
}

/// A running simulator.
pub struct Handle {
    address: SocketAddr,
    hub: Arc<Hub>,
    _guard: DropGuard,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control API is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where clients connect: `ws://127.0.0.1:PORT/ws/chat`.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws/chat", self.address)
    }

    /// One call of the control API, without the network: the status and the body of its answer. `None` if
    /// this is nothing that HTTP could carry.
    pub async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).ok()?;
        let Ok(answer) = control::router(Arc::clone(&self.hub)).oneshot(request).await;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.ok()?;
        Some((status, body.to_vec()))
    }

    /// Closes every connection, ends every task (waiting at most five seconds) and flushes the
    /// state to disk.
    ///
    /// # Errors
    ///
    /// When state could not be kept.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.hub.stopping.cancel();
        self.hub.tasks.close();
        let ended = tokio::time::timeout(GRACE, self.hub.tasks.wait()).await;
        if ended.is_err() {
            // Not lost: all that was answered is in the state.
            tracing::warn!("something still ran after {} s", GRACE.as_secs());
        }
        let failure = self.hub.update(|world| {
            world.store.sync();
            world.store.failure().map(str::to_owned)
        });
        match failure {
            Some(failure) => Err(StopError::NotKept(failure)),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}
