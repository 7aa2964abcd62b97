//! A backend of the test's own: answers each call as it is told, down to the byte.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// What a call says.
#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    /// Who asks.
    pub from_number: String,
    /// What.
    pub text: String,
}

/// A call that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who asks.
    pub from_number: String,
    /// When it had come in full.
    pub at: Instant,
    /// How many calls were under way then, this one included.
    pub at_once: usize,
    /// The call's body, to the byte.
    pub body: String,
}

/// What the backend writes to the connection.
#[derive(Debug, Clone)]
pub struct Answer {
    after: Duration,
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone)]
enum Then {
    /// Wait for the next call.
    Next,
    /// Close the connection.
    Close,
    /// Keep it open, and say no more.
    Hang,
    /// Write this over and over.
    Repeat(Vec<u8>, Duration),
}

impl Answer {
    /// A well-formed answer with this status and body.
    pub fn new(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::head(status, &[("Content-Length", &body.as_ref().len().to_string())]).and(body)
    }

    /// What the contract asks for.
    pub fn text(text: &str) -> Self {
        Self::new(200, json!({ "response_text": text }).to_string())
    }

    /// The head of an answer and nothing else.
    pub fn head(status: u16, headers: &[(&str, &str)]) -> Self {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Self::raw(format!("HTTP/1.1 {status} Whatever\r\n{lines}\r\n"))
    }

    /// These bytes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { after: Duration::ZERO, bytes: bytes.as_ref().to_vec(), then: Then::Next }
    }

    /// And these.
    pub fn and(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// The backend thinks for so long first.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Then the connection is closed.
    pub fn then_close(mut self) -> Self {
        self.then = Then::Close;
        self
    }

    /// Then nothing more comes.
    pub fn then_hang(mut self) -> Self {
        self.then = Then::Hang;
        self
    }

    /// Then this comes without end.
    pub fn then_repeat(mut self, bytes: impl AsRef<[u8]>, every: Duration) -> Self {
        self.then = Then::Repeat(bytes.as_ref().to_vec(), every);
        self
    }
}

type Rule = Box<dyn Fn(&Question) -> Answer + Send>;

/// The backend; it ends with its handle.
pub struct Unwell {
    shared: Arc<Shared>,
    url: String,
    task: JoinHandle<()>,
}

struct Shared {
    rule: Mutex<Rule>,
    /// A connection that was idle for longer is closed under whatever comes then.
    idle: Duration,
    asked: Mutex<Vec<Asked>>,
    under_way: AtomicUsize,
}

impl Unwell {
    /// Starts it on a free port.
    pub async fn start(rule: impl Fn(&Question) -> Answer + Send + 'static) -> Self {
        Self::start_with(Duration::MAX, rule).await
    }

    /// The same, and it gives idle connections up after `idle`. Each call that comes later than that is one that
    /// crosses the end of its connection.
    pub async fn start_with(idle: Duration, rule: impl Fn(&Question) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its port"));
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(rule)),
            idle,
            asked: Mutex::default(),
            under_way: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { shared, url, task }
    }

    /// What goes into `BACKEND_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on it answers like this.
    pub fn set(&self, rule: impl Fn(&Question) -> Answer + Send + 'static) {
        *self.shared.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// All calls so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of them came from this number.
    pub fn asked_by(&self, number: &str) -> usize {
        self.asked().iter().filter(|asked| asked.from_number == number).count()
    }
}

impl Drop for Unwell {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One call as under way, until it is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut last = Instant::now();
    while let Some((question, body)) = read(&mut stream).await {
        if last.elapsed() > shared.idle {
            return;
        }
        let at_once = shared.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let _under_way = UnderWay(&shared.under_way);
        let answer = {
            let (from_number, at) = (question.from_number.clone(), Instant::now());
            let asked = Asked { from_number, at, at_once, body };
            shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            let rule = shared.rule.lock().unwrap_or_else(PoisonError::into_inner);
            rule(&question)
        };
        tokio::time::sleep(answer.after).await;
        if stream.write_all(&answer.bytes).await.is_err() {
            return;
        }
        match answer.then {
            Then::Next => last = Instant::now(),
            Then::Close => return,
            Then::Hang => {
                // Until the other side has had enough.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Then::Repeat(bytes, every) => {
                while stream.write_all(&bytes).await.is_ok() {
                    tokio::time::sleep(every).await;
                }
                return;
            }
        }
    }
}

/// One call with a body of a known length; `None` at the connection's end.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<(Question, String)> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).ok()?;
    Some((serde_json::from_str(&body).ok()?, body))
}
