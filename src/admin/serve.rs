//! Connections to the admin server, bounded in number, size and time: whoever reaches it must not be able to keep
//! anybody else from an answer, or the process from its end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// At once. One more, and the oldest has to go: those that ask and leave, as probes do, always find a place, and
/// those that hold one for nothing lose it.
const CONNECTIONS: usize = 64;
/// For a request's head, and between two requests of a connection.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// A head's size in bytes, and its lines.
const HEAD: usize = 16 << 10;
const HEADERS: usize = 64;
/// No request needs a body; some programs send one all the same. In bytes.
const BODY: u64 = 4 << 10;
/// What is under way when the process ends gets this long.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// After a failed accept (no more file descriptors): it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves until `stop`, and lets what is under way end.
pub async fn serve(listener: TcpListener, app: Router, stop: &CancellationToken) {
    let app = app.layer(from_fn(bounded));
    let mut connections = Connections::default();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => connections.add(connection(stream, peer, app.clone(), stop.clone())),
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot take a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // A client that holds its connection open must not hold the process.
    let _ = tokio::time::timeout(LAST_ANSWERS, connections.all.join_all()).await;
}

/// Those that are open, the oldest first. They end with their owner.
#[derive(Default)]
struct Connections {
    all: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.all.try_join_next().is_some() {}
        self.by_age.retain(|connection| !connection.is_finished());
        if self.by_age.len() >= CONNECTIONS
            && let Some(oldest) = self.by_age.pop_front()
        {
            oldest.abort();
        }
        self.by_age.push_back(self.all.spawn(connection));
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, app: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(app.layer(axum::Extension(Peer(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // What is wrong with a connection is its client's matter.
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// An answer in time, and only to what is small.
async fn bounded(request: Request, next: Next) -> Result<Response, Infallible> {
    if request.body().size_hint().upper().is_none_or(|bytes| bytes > BODY) {
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n").into_response());
    }
    let request = request.map(|_body| Body::empty());
    let answer = tokio::time::timeout(ANSWER_TIME, next.run(request)).await;
    Ok(answer.unwrap_or_else(|_elapsed| StatusCode::SERVICE_UNAVAILABLE.into_response()))
}
