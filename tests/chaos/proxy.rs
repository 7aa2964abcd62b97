//! Between the forwarders and the backend: passes calls on, notes them, and breaks them on request.
//!
//! It speaks as much HTTP/1.1 as those two do: bodies with a length, one call after the other on a
//! connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::plan::Fault;
use crate::support::heart::unix_seconds;

/// The backend rejects a text with this word in it.
pub const POISON: &str = "veneno";
/// More than any head or body of these two.
const MAX: usize = 1 << 20;

/// A call as the proxy got it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The message's id.
    pub message_id: String,
    /// Unix seconds.
    pub at: f64,
    /// When its answer was written, if it was.
    pub answered: Option<f64>,
}

/// The proxy; it ends with its handle.
#[derive(Debug)]
pub struct Proxy {
    backend: SocketAddr,
    fault: watch::Sender<Option<Fault>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    port: u16,
    /// Keeps the port when nobody listens.
    _place: TcpSocket,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of `backend`, which is `http://host:port`.
    pub fn start(backend: &str) -> Self {
        let backend: SocketAddr =
            backend.trim_start_matches("http://").parse().expect("the backend's address");
        let place = socket(0).expect("a port for the proxy");
        let port = place.local_addr().expect("its port").port();
        let (fault, faults) = watch::channel(None);
        let asked = Arc::default();
        let task = tokio::spawn(serve(port, backend, faults, Arc::clone(&asked)));
        Self { backend, fault, asked, port, _place: place, task }
    }

    /// What goes into `BACKEND_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on, until it is changed again.
    pub fn set(&self, fault: Option<Fault>) {
        self.fault.send_replace(fault);
    }

    /// Mended as soon as the backend listens.
    pub fn mend_when_it_listens(&self) {
        let (backend, fault) = (self.backend, self.fault.clone());
        tokio::spawn(async move {
            while TcpStream::connect(backend).await.is_err() && !fault.is_closed() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            fault.send_replace(None);
        });
    }

    /// All calls so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bound, not listening. Several may share the port.
fn socket(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

async fn serve(
    port: u16,
    backend: SocketAddr,
    mut faults: watch::Receiver<Option<Fault>>,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let listening = faults.wait_for(|fault| *fault != Some(Fault::Refuse)).await.is_ok();
        if !listening {
            return;
        }
        let listener = socket(port)
            .and_then(|socket| socket.listen(1_024))
            .unwrap_or_else(|error| panic!("{port}: {error}"));
        accept(&listener, &mut connections, backend, &mut faults, &asked).await;
        // Those that are open are gone as well.
        connections.shutdown().await;
    }
}

/// Until nobody is to listen any more.
async fn accept(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    backend: SocketAddr,
    faults: &mut watch::Receiver<Option<Fault>>,
    asked: &Arc<Mutex<Vec<Asked>>>,
) {
    let mut own = faults.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = own.wait_for(|fault| *fault == Some(Fault::Refuse)) => return,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        let (faults, asked) = (faults.clone(), Arc::clone(asked));
        connections.spawn(async move {
            // A connection that breaks is what this proxy is for.
            let _ = connection(client, backend, faults, asked).await;
        });
    }
}

async fn connection(
    mut client: TcpStream,
    backend: SocketAddr,
    mut faults: watch::Receiver<Option<Fault>>,
    asked: Arc<Mutex<Vec<Asked>>>,
) -> io::Result<()> {
    loop {
        let request = message(&mut client).await?;
        let at = unix_seconds();
        let (id, poison) = question(&request);
        let number = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(Asked { message_id: id, at, answered: None });
            asked.len() - 1
        };
        let fault = *faults.borrow_and_update();
        match fault {
            Some(Fault::Reset | Fault::Refuse) => return reset(client),
            Some(Fault::Hang) => {
                // The fault's end, or the caller's.
                let mut byte = [0];
                tokio::select! {
                    _ = faults.changed() => {}
                    _ = client.read(&mut byte) => {}
                }
                return reset(client);
            }
            Some(Fault::Status(code)) => answer(&mut client, code, "{}").await?,
            Some(Fault::Garbage) => answer(&mut client, 200, "<html>").await?,
            _ if poison => answer(&mut client, 422, "{}").await?,
            Some(Fault::Lose) => {
                ask(backend, &request).await?;
                return reset(client);
            }
            Some(Fault::Half) => {
                let whole = ask(backend, &request).await?;
                client.write_all(&whole[..whole.len() - 10]).await?;
                return client.shutdown().await;
            }
            Some(Fault::StatusAfter(code)) => {
                ask(backend, &request).await?;
                answer(&mut client, code, "{}").await?;
            }
            Some(Fault::Slow(more)) => {
                tokio::time::sleep(Duration::from_millis(more)).await;
                client.write_all(&ask(backend, &request).await?).await?;
            }
            None => client.write_all(&ask(backend, &request).await?).await?,
        }
        if let Some(call) = asked.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
            call.answered = Some(unix_seconds());
        }
    }
}

/// The end without a goodbye.
fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()
}

async fn answer(client: &mut TcpStream, code: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {code} Fault\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    client.write_all(text.as_bytes()).await
}

/// The backend's answer, as it came.
async fn ask(backend: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(backend).await?;
    stream.write_all(request).await?;
    message(&mut stream).await
}

/// One request or answer: the head, and a body of the length that the head names.
async fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut want = None;
    while want.is_none_or(|want| read.len() < want) {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if want.is_none() {
            want = head(&read).map(|end| end + length(&read[..end]));
        }
        if read.len() > MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(read)
}

/// Where the head ends, if it has.
fn head(read: &[u8]) -> Option<usize> {
    read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    let named = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = named.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// The message's id, and whether it is to be rejected.
fn question(request: &[u8]) -> (String, bool) {
    #[derive(Deserialize)]
    struct Question {
        message_id: String,
        text: String,
    }
    let body = head(request).map_or(&[][..], |end| &request[end..]);
    serde_json::from_slice::<Question>(body)
        .map_or_else(|_| (String::new(), false), |asked| (asked.message_id, asked.text.contains(POISON)))
}
