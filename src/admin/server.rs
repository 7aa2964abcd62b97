//! The loop of the admin server: connections and requests, each with its bounds. What it answers is
//! [`super`]'s matter.
//!
//! A connection carries one request and is closed: whoever asks here asks now and then, and what does not
//! stay open need not be bounded. There are at most [`CONNECTIONS`]. One more gets in all the same, and one
//! that is there goes for it: the oldest of the address that has the most, after [`TURN`] at the earliest. So
//! a flood takes the place of its own connections, and `/livez`, which needs a millisecond, is answered: were
//! the newest to wait or to be refused, a handful of clients that say nothing would have the process
//! restarted. Over some 3,000 connections a second it is the kernel's queue that overflows, and the network
//! that has to stop it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
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

/// At once.
const CONNECTIONS: usize = 64;
/// What every connection has to itself, however many want in: without, a fast flood would have a request go
/// before it is read.
const TURN: Duration = Duration::from_millis(20);
/// Until the head of the request is there; else the connection is closed.
const HEAD: Duration = Duration::from_secs(5);
/// Bytes of a head, and its headers; else 431.
const HEAD_SIZE: usize = 16 << 10;
const HEADERS: usize = 64;
/// Until the body is there; else 408.
const BODY: Duration = Duration::from_secs(5);
/// Bytes of a body; else 413. Nothing here reads one, but some clients send an empty object.
const BODY_SIZE: usize = 4 << 10;
/// From the connection to the last byte of the answer; then it is closed. The answer itself takes three
/// seconds at most, when nats-server does not answer.
const WHOLE: Duration = Duration::from_secs(15);
/// How long, and how much, a client may go on sending after the answer. To close on unread bytes is to reset
/// the connection, and the client would not see why it was refused.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_SIZE: u64 = 256 << 10;
/// For the answers under way, at the end of the process.
const GRACE: Duration = Duration::from_millis(500);
/// When no connection can be accepted, because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves `app` until `stop`, and a moment longer what is under way then.
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
    // A client that holds its connection open must not hold the process: the rest goes with the set.
    let _ = timeout(GRACE, async { while open.tasks.next_end().await.is_some() {} }).await;
}

/// The connections that there are.
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
    /// Until when nobody can be let in, if that is not now.
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

    /// Who has to go for one more.
    fn victim(&self) -> Option<usize> {
        let sources = self.order.iter().map(|entry| entry.from);
        if self.order.len() < CONNECTIONS { None } else { victim(&sources.collect::<Vec<_>>()) }
    }
}

/// Which of the connections from these addresses, oldest first, goes for a new one.
fn victim(sources: &[IpAddr]) -> Option<usize> {
    let count = |of: &IpAddr| sources.iter().filter(|source| *source == of).count();
    let most = sources.iter().map(count).max()?;
    sources.iter().position(|source| count(source) == most)
}

/// One connection, one request.
async fn talk(mut stream: TcpStream, peer: SocketAddr, app: Router, stop: CancellationToken) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
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
    match timeout(WHOLE, answered).await {
        // Whoever was too slow is not waited for once more.
        Err(_) => {}
        Ok(Err(error)) if error.is_timeout() => {}
        Ok(_) => {
            let rest = async {
                stream.shutdown().await?;
                tokio::io::copy(&mut (&mut stream).take(LINGER_SIZE), &mut sink()).await
            };
            let _ = timeout(LINGER, rest).await;
        }
    }
}

/// A request whose body is in bounds, and has arrived.
pub(super) async fn bounded(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let said = body.size_hint().lower();
    if said > BODY_SIZE as u64 {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    match timeout(BODY, to_bytes(body, BODY_SIZE)).await {
        Ok(Ok(_)) => next.run(Request::from_parts(head, Body::empty())).await,
        Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
