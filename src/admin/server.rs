//! The loop of the admin server: connections and requests, each with its limits. [`super`] has the answers.
//!
//! A connection carries one request and is then closed. Clients ask only now and then, and a connection that does not
//! stay open needs no limit on its age. There are at most [`CONNECTIONS`].
//!
//! When all are in use, a new connection replaces an old one: the oldest one of the address that has the most, but none
//! that is younger than [`TURN`]. So a flood replaces its own connections, and `/livez`, which needs a millisecond, is
//! still answered. If new connections had to wait or were refused, a handful of silent clients could make the platform
//! restart the process. Above some 3,000 connections a second the kernel's queue overflows, and the network has to stop
//! the flood.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::task::TaskSet;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// No connection is replaced before this time. Otherwise a fast flood would push a request out before it is read.
const TURN: Duration = Duration::from_millis(20);
/// The head of the request has to arrive within this time; otherwise the connection is closed.
const HEAD: Duration = Duration::from_secs(5);
/// The most bytes of a head, and the most headers; above that, the answer is 431.
const HEAD_SIZE: usize = 16 << 10;
const HEADERS: usize = 64;
/// The body has to arrive within this time; otherwise the answer is 408.
const BODY: Duration = Duration::from_secs(5);
/// The most bytes of a body; above that, the answer is 413. The forms of the console need a few hundred; what a browser answers for
/// a passkey has one or two thousand.
const BODY_SIZE: usize = 16 << 10;
/// From the start of the connection to the last byte of the answer; then it is closed. The answer itself takes at most
/// three seconds, if nats-server does not answer.
const WHOLE: Duration = Duration::from_secs(15);
/// The same for an answer that goes on for as long as its client reads, and from the client's last reading.
const WHOLE_LONG: Duration = Duration::from_secs(600);
const STALLED: Duration = Duration::from_secs(15);
/// How long, and how many bytes, a client may go on sending after the answer. Closing with unread bytes would reset
/// the connection, and the client would not see why it was refused.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_SIZE: u64 = 256 << 10;
/// At the end of the process, answers under way have this long.
const GRACE: Duration = Duration::from_millis(500);
/// The pause when no connection can be accepted because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves `app` until `stop`. Answers under way get a moment longer.
pub(super) async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let mut open = Open { tasks: TaskSet::new("admin connection"), order: VecDeque::new() };
    loop {
        let full = open.full_until(Instant::now());
        tokio::select! {
            () = stop.cancelled() => break,
            Some(()) = open.tasks.next_end() => {}
            () = sleep_until(full.unwrap_or_else(Instant::now)), if full.is_some() => {}
            accepted = listener.accept(), if full.is_none() => match accepted {
                Ok((stream, peer)) => open.add(peer.ip(), talk(stream, peer, app.clone(), stop.clone())),
                // The client has gone away.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::warn!(%error, "the admin server cannot take a connection");
                    let _ = timeout(ACCEPT_PAUSE, stop.cancelled()).await;
                }
            }
        }
    }
    drop(listener);
    // A client that keeps its connection open must not keep the process. The remaining tasks end with the set.
    let _ = timeout(GRACE, async { while open.tasks.next_end().await.is_some() {} }).await;
}

/// The open connections.
struct Open {
    tasks: TaskSet,
    /// Oldest first.
    order: VecDeque<Entry>,
}

struct Entry {
    from: IpAddr,
    since: Instant,
    task: AbortHandle,
}

impl Open {
    /// Until when no connection can be accepted; `None` if one can be now.
    fn full_until(&mut self, now: Instant) -> Option<Instant> {
        self.order.retain(|entry| !entry.task.is_finished());
        let at = self.victim()?;
        self.order.get(at).map(|entry| entry.since + TURN).filter(|until| *until > now)
    }

    fn add(&mut self, from: IpAddr, talk: impl Future<Output = ()> + Send + 'static) {
        if let Some(entry) = self.victim().and_then(|at| self.order.remove(at)) {
            entry.task.abort();
        }
        self.order.push_back(Entry { from, since: Instant::now(), task: self.tasks.spawn(talk) });
    }

    /// The connection that one more replaces.
    fn victim(&self) -> Option<usize> {
        let sources = self.order.iter().map(|entry| entry.from);
        if self.order.len() < CONNECTIONS { None } else { victim(&sources.collect::<Vec<_>>()) }
    }
}

/// Which of the connections from these addresses (oldest first) a new one replaces.
fn victim(sources: &[IpAddr]) -> Option<usize> {
    let count = |of: &IpAddr| sources.iter().filter(|source| *source == of).count();
    let most = sources.iter().map(count).max()?;
    sources.iter().position(|source| count(source) == most)
}

/// Until when a connection is served. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Deadline {
    latest: Instant,
    at: Arc<Mutex<Instant>>,
}

impl Deadline {
    fn new() -> Self {
        let now = Instant::now();
        Self { latest: now + WHOLE_LONG, at: Arc::new(Mutex::new(now + WHOLE)) }
    }

    /// Of a long answer the client has read a piece.
    pub(super) fn goes_on(&self) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = (*at).max(self.latest.min(Instant::now() + STALLED));
    }

    async fn passed(&self) {
        loop {
            let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }
}

/// One connection, one request.
async fn talk(mut stream: TcpStream, peer: SocketAddr, app: Router, stop: CancellationToken) {
    let app = TowerToHyperService::new(app);
    let deadline = Deadline::new();
    let of_request = deadline.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(of_request.clone());
        app.call(request)
    });
    let answered = async {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_SIZE)
            .max_headers(HEADERS)
            .keep_alive(false)
            .serve_connection(TokioIo::new(&mut stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let answered = tokio::select! {
        answered = answered => Some(answered),
        () = deadline.passed() => None,
    };
    match answered {
        // A client that was too slow gets no second wait.
        None => {}
        Some(Err(error)) if error.is_timeout() => {}
        Some(_) => {
            let rest = async {
                stream.shutdown().await?;
                tokio::io::copy(&mut (&mut stream).take(LINGER_SIZE), &mut sink()).await
            };
            let _ = timeout(LINGER, rest).await;
        }
    }
}

/// Checks that the request's body is small enough and has arrived.
pub(super) async fn bounded(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let said = body.size_hint().lower();
    if said > BODY_SIZE as u64 {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    match timeout(BODY, to_bytes(body, BODY_SIZE)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So long is a client served that takes a piece every `every`; `None` if it takes none.
    async fn served(every: Option<Duration>) -> Duration {
        let (deadline, began) = (Deadline::new(), Instant::now());
        let reads = async {
            let Some(every) = every else { return std::future::pending().await };
            loop {
                tokio::time::sleep(every).await;
                deadline.goes_on();
            }
        };
        tokio::select! { () = deadline.passed() => began.elapsed(), () = reads => Duration::ZERO }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_served_for_as_long_as_it_reads_and_not_for_ever() {
        assert_eq!(served(None).await.as_secs(), WHOLE.as_secs());
        assert_eq!(served(Some(Duration::from_secs(16))).await.as_secs(), WHOLE.as_secs());
        assert_eq!(served(Some(Duration::from_secs(14))).await.as_secs(), WHOLE_LONG.as_secs());
    }

    #[test]
    fn whoever_has_the_most_connections_makes_room_with_his_oldest() {
        let of = |sources: &[&str]| {
            let sources: Vec<IpAddr> = sources.iter().map(|source| source.parse().unwrap()).collect();
            victim(&sources)
        };
        let (a, b, c) = ("198.51.100.1", "198.51.100.2", "::1");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[a]), Some(0));
        assert_eq!(of(&[a, b, c]), Some(0));
        assert_eq!(of(&[a, b, c, b]), Some(1));
        assert_eq!(of(&[c, a, a, b, b, b]), Some(3));
    }
}
