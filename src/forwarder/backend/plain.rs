//! Calls over plain HTTP, without a proxy: the common way to a backend in the same cluster or on the same machine.
//!
//! They go over hyper itself, which costs half of what a general client costs. A connection has no task: whoever calls
//! drives it, so the answer wakes the turn and nobody else.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::service::Service as _;
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::calls::{CONNECT, Heard, IDLE, KEEP_ALIVE, KEEP_ALIVE_TRIES, MAX_BODY, UNACKNOWLEDGED};
use super::{Failure, Url};
use crate::task::Tasks;

/// The connections to one address.
#[derive(Debug)]
pub(super) struct Connections {
    connector: TowerToHyperService<HttpConnector>,
    /// Where the endpoint is.
    address: Uri,
    /// What a request asks for on a connection to it.
    path: Uri,
    host: HeaderValue,
    timeout: Duration,
    pool: Arc<Pool>,
    sweepers: Tasks,
}

/// Connections that nobody uses, the one that was used last at the end.
#[derive(Debug, Default)]
struct Pool(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<(Connection, Instant)>,
    /// A task sees to it that they are closed in time.
    is_swept: bool,
}

impl Connections {
    /// None yet. `None`: calls of this address need more than plain HTTP.
    pub(super) fn to(url: &Url, timeout: Duration) -> Option<Self> {
        let has_login = !url.username().is_empty() || url.password().is_some();
        if url.scheme() != "http" || has_login {
            return None;
        }
        let host = url.host_str()?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEP_ALIVE));
        connector.set_keepalive_interval(Some(KEEP_ALIVE));
        connector.set_keepalive_retries(Some(KEEP_ALIVE_TRIES));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Some(Self {
            connector: TowerToHyperService::new(connector),
            address: url.as_str().parse().ok()?,
            path: path.parse().ok()?,
            host: HeaderValue::from_str(&host).ok()?,
            timeout,
            pool: Arc::default(),
            sweepers: Tasks::new("idle connections"),
        })
    }

    /// Makes one call.
    pub(super) async fn post(&self, mut headers: HeaderMap, body: Bytes) -> Result<Heard, Failure> {
        headers.insert(HOST, self.host.clone());
        let mut request = Request::new(Whole(Some(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        tokio::time::timeout(self.timeout, self.ask(request)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn ask(&self, mut request: Request<Whole>) -> Result<Heard, Failure> {
        // The server may close an idle connection at any moment. If it has not read the request, another connection has
        // to carry it.
        while let Some(mut used) = self.pool.take() {
            match used.ask(request).await {
                Ok(heard) => return Ok(self.keep(used, heard)),
                Err(Lost::Unsent(unsent)) => request = *unsent,
                Err(Lost::Failed(failure)) => return Err(failure),
            }
        }
        let mut new = self.connect().await?;
        match new.ask(request).await {
            Ok(heard) => Ok(self.keep(new, heard)),
            Err(Lost::Unsent(_)) => Err(Failure::Broken),
            Err(Lost::Failed(failure)) => Err(failure),
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let connecting = self.connector.call(self.address.clone());
        let connected = tokio::time::timeout(CONNECT.min(self.timeout), connecting).await;
        let Ok(Ok(stream)) = connected else { return Err(Failure::Unreachable) };
        let (requests, work) = http1::handshake(stream).await.map_err(|_| Failure::Broken)?;
        Ok(Connection { requests, work: Box::pin(work), is_open: true })
    }

    /// Keeps the connection for the next call, if it is good for one.
    fn keep(&self, mut connection: Connection, heard: Heard) -> Heard {
        if connection.is_good() {
            let mut idle = self.pool.idle();
            idle.connections.push((connection, Instant::now()));
            if !std::mem::replace(&mut idle.is_swept, true) {
                self.sweepers.spawn(Arc::clone(&self.pool).sweep());
            }
        }
        heard
    }
}

impl Pool {
    /// The connection that was used last: the others are closed if nobody needs them.
    fn take(&self) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.idle().connections.pop()?;
            if since.elapsed() < IDLE && connection.is_good() {
                return Some(connection);
            }
        }
    }

    /// Closes what nobody has used for a while. Ends with the last connection.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(IDLE).await;
            let mut idle = self.idle();
            let old = idle.connections.partition_point(|(_, since)| since.elapsed() >= IDLE);
            idle.connections.drain(..old);
            if idle.connections.is_empty() {
                idle.connections = Vec::new();
                idle.is_swept = false;
                return;
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, and the work on it, which goes on only while somebody calls or asks whether it is good.
#[derive(Debug)]
struct Connection {
    requests: http1::SendRequest<Whole>,
    work: Pin<Box<http1::Connection<TokioIo<TcpStream>, Whole>>>,
    is_open: bool,
}

/// There is no answer.
enum Lost {
    /// The request was not sent.
    Unsent(Box<Request<Whole>>),
    Failed(Failure),
}

impl Connection {
    /// Is it open, and free for a request?
    fn is_good(&mut self) -> bool {
        self.is_open = self.is_open && (&mut self.work).now_or_never().is_none();
        self.is_open && self.requests.is_ready()
    }

    async fn ask(&mut self, request: Request<Whole>) -> Result<Heard, Lost> {
        let Self { requests, work, is_open } = self;
        let sent = requests.try_send_request(request);
        let mut exchange = pin!(async {
            let response = sent.await.map_err(|mut error| match error.take_message() {
                Some(unsent) => Lost::Unsent(Box::new(unsent)),
                None => Lost::Failed(Failure::Broken),
            })?;
            read(response).await.map_err(Lost::Failed)
        });
        std::future::poll_fn(|context| {
            if *is_open {
                *is_open = work.poll_unpin(context).is_pending();
            }
            exchange.as_mut().poll(context)
        })
        .await
    }
}

async fn read(response: Response<Incoming>) -> Result<Heard, Failure> {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        return Ok(Heard::refusal(head.status, &head.headers));
    }
    // Most answers come in one piece, which need not be copied.
    let (mut only, mut pieces) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(piece) = frame.map_err(|_| Failure::Broken)?.into_data() else { continue };
        let before = only.len() + pieces.len();
        if before + piece.len() > MAX_BODY {
            return Err(Failure::TooLarge);
        }
        if before == 0 {
            only = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut only));
            pieces.extend_from_slice(&piece);
        }
    }
    let whole = if pieces.is_empty() { only } else { pieces.freeze() };
    Ok(Heard::success(head.status, whole))
}

/// A request's body, in one piece.
#[derive(Debug)]
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|all| Ok(Frame::data(all))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |all| u64::try_from(all.len()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    const BOUND: Duration = Duration::from_secs(20);

    async fn server() -> (TcpListener, Connections) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api?v=1", listener.local_addr().unwrap()).parse().unwrap();
        (listener, Connections::to(&url, BOUND).unwrap())
    }

    /// Reads one request with the body `question`; `None` if the client has closed the connection.
    async fn request(stream: &mut TcpStream) -> Option<String> {
        let mut read = Vec::new();
        while !read.ends_with(b"question") {
            if stream.read_buf(&mut read).await.unwrap() == 0 {
                return None;
            }
        }
        Some(String::from_utf8(read).unwrap())
    }

    async fn answer(stream: &mut TcpStream, head: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    }

    async fn ask(connections: &Connections) -> Result<(StatusCode, Bytes), Failure> {
        let answer = connections.post(HeaderMap::new(), Bytes::from_static(b"question"));
        let heard = tokio::time::timeout(BOUND, answer).await.unwrap()?;
        Ok((heard.status, heard.body))
    }

    #[tokio::test]
    async fn a_connection_carries_one_call_after_the_other_and_is_closed_when_nobody_calls() {
        let (listener, connections) = server().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answered in ["one", "two"] {
                let asked = request(&mut stream).await.unwrap();
                assert!(asked.starts_with("POST /api?v=1 HTTP/1.1\r\n"), "{asked}");
                let host = format!("host: {}\r\n", listener.local_addr().unwrap());
                assert!(asked.contains(&host) && asked.contains("content-length: 8\r\n"), "{asked}");
                answer(&mut stream, "200 OK", answered.as_bytes()).await;
            }
            tokio::time::timeout(BOUND, request(&mut stream)).await.unwrap()
        };
        let calls = async {
            assert_eq!(ask(&connections).await, Ok((StatusCode::OK, "one".into())));
            assert_eq!(ask(&connections).await, Ok((StatusCode::OK, "two".into())));
        };
        assert_eq!(tokio::join!(serve, calls).0, None);
    }

    #[tokio::test]
    async fn a_connection_that_the_server_has_closed_costs_no_call() {
        let (listener, connections) = server().await;
        let (closed, was_closed) = tokio::sync::oneshot::channel();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            answer(&mut stream, "200 OK", b"one").await;
            drop(stream);
            closed.send(()).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await.unwrap();
            answer(&mut stream, "503 No", b"two").await;
        };
        let calls = async {
            assert_eq!(ask(&connections).await, Ok((StatusCode::OK, "one".into())));
            was_closed.await.unwrap();
            assert_eq!(ask(&connections).await, Ok((StatusCode::SERVICE_UNAVAILABLE, Bytes::new())));
        };
        tokio::join!(serve, calls);
    }

    #[tokio::test]
    async fn an_answer_is_whole_or_none_and_has_an_end() {
        let (listener, connections) = server().await;
        let serve = async {
            for (head, body) in [
                ("content-length: 5", b"short".to_vec()),
                ("content-length: 9", b"broken".to_vec()),
                ("content-length: 1048576", vec![b'x'; MAX_BODY]),
                ("content-length: 1048577", vec![b'x'; MAX_BODY + 1]),
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                request(&mut stream).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{head}\r\n\r\n");
                // Whoever has read enough goes away.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        };
        let calls = async {
            assert_eq!(ask(&connections).await, Ok((StatusCode::OK, "short".into())));
            assert_eq!(ask(&connections).await, Err(Failure::Broken));
            assert_eq!(ask(&connections).await.map(|(_, body)| body.len()), Ok(MAX_BODY));
            assert_eq!(ask(&connections).await, Err(Failure::TooLarge));
        };
        tokio::join!(serve, calls);
        drop(listener);
        assert_eq!(ask(&connections).await, Err(Failure::Unreachable));
    }

    #[test]
    fn only_plain_addresses_are_called_over_plain_connections() {
        for (url, is_plain) in [
            ("http://localhost:8000/api", true),
            ("http://[::1]/", true),
            ("https://localhost/", false),
            ("http://somebody:secret@localhost/", false),
        ] {
            assert_eq!(Connections::to(&url.parse().unwrap(), BOUND).is_some(), is_plain, "{url}");
        }
    }
}
