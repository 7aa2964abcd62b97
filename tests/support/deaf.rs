//! Between a part and nats-server: everything passes but the server's word that it has stored something.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The line to nats-server; it ends with its handle.
#[derive(Debug)]
pub struct Deaf {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stream: Mutex<Option<String>>,
    unheard: AtomicUsize,
}

impl Deaf {
    /// A line to the server at `nats`, which is `nats://host:port`.
    pub async fn start(nats: &str) -> Self {
        let server = nats.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("nats://{}", listener.local_addr().expect("its port"));
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, shared) = (server.clone(), Arc::clone(&serving));
                lines.spawn(async move {
                    let server = TcpStream::connect(server).await?;
                    let ((mut from_client, to_client), (from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        ended = tokio::io::copy(&mut from_client, &mut to_server) => ended.map(|_| ()),
                        ended = listen(BufReader::new(from_server), to_client, &shared) => ended,
                    }
                });
            }
        });
        Self { url, shared, task }
    }

    /// What goes into `NATS_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on no acknowledgement of this stream passes; all do with `None`.
    pub fn to(&self, stream: Option<&str>) {
        *self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream.map(str::to_owned);
    }

    /// How many acknowledgements did not pass.
    pub fn unheard(&self) -> usize {
        self.shared.unheard.load(Ordering::Relaxed)
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes on what the server says, line by line; a message's line ends with the length of what follows.
async fn listen(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let mut said = Vec::new();
        if from.read_until(b'\n', &mut said).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&said).into_owned();
        if line.starts_with("MSG ") || line.starts_with("HMSG ") {
            let length = line.trim_end().rsplit(' ').next().and_then(|length| length.parse::<usize>().ok());
            let mut payload = vec![0; length.ok_or(io::ErrorKind::InvalidData)? + "\r\n".len()];
            from.read_exact(&mut payload).await?;
            if shared.swallows(&payload) {
                continue;
            }
            said.append(&mut payload);
        }
        to.write_all(&said).await?;
    }
}

impl Shared {
    fn swallows(&self, payload: &[u8]) -> bool {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let swallows = stream
            .as_ref()
            .is_some_and(|stream| payload.starts_with(format!("{{\"stream\":\"{stream}\"").as_bytes()));
        self.unheard.fetch_add(usize::from(swallows), Ordering::Relaxed);
        swallows
    }
}
