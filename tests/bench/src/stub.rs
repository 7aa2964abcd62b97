//! The backend: answers every call after a set time, and keeps a log of all calls.
//!
//! It must never be the limit, so it knows no more of HTTP than its callers need, and takes the message's id out of the
//! body without reading the rest as JSON.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::names;

/// The longest call that it reads.
const MAX_CALL: usize = 1 << 20;

/// So many connections may wait to be accepted, as far as the system lets them. One too many waits a whole second before it is
/// tried again.
const QUEUE: u32 = 65_535;

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The message's chat.
    pub chat: u32,
    /// Which of the chat's messages.
    pub number: u32,
    /// When it had come in full, in nanoseconds since 1970.
    pub began: i64,
    /// When it was answered; 0: not yet.
    pub ended: i64,
}

#[derive(Debug, Default)]
struct Shared {
    think_us: AtomicU64,
    calls: Mutex<Vec<Call>>,
    first: Notify,
}

/// The backend; it ends with its handle.
#[derive(Debug)]
pub struct Stub {
    shared: Arc<Shared>,
    url: String,
    task: JoinHandle<()>,
}

impl Stub {
    /// Starts it on a free port.
    pub async fn start(thinks: Duration) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(QUEUE)?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream, Arc::clone(&serving)));
                while connections.try_join_next().is_some() {}
            }
        });
        let stub = Self { shared, url, task };
        stub.thinks(thinks);
        Ok(stub)
    }

    /// What goes into `BACKEND_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long it takes for an answer from now on.
    pub fn thinks(&self, time: Duration) {
        self.shared.think_us.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// All calls so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls there were.
    pub fn count(&self) -> usize {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets all calls. None may be under way.
    pub fn forget(&self) {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for the first call, or the first since it was told to forget.
    pub async fn first_call(&self) {
        let told = self.shared.first.notified();
        if self.count() == 0 {
            told.await;
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn began(&self, chat: u32, number: u32) -> usize {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(Call { chat, number, began: names::now_ns(), ended: 0 });
        if calls.len() == 1 {
            self.first.notify_waiters();
        }
        calls.len() - 1
    }

    fn ended(&self, index: usize) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(index) {
            call.ended = names::now_ns();
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut read = Vec::with_capacity(2_048);
    let mut answer = Vec::with_capacity(512);
    loop {
        let Some((body, end)) = call(&read) else {
            if read.len() > MAX_CALL || !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
            continue;
        };
        let id = value(&read[body..end], b"\"message_id\"").unwrap_or_default();
        let from = value(&read[body..end], b"\"from_number\"").unwrap_or_default();
        let (chat, number) = names::whose(id);
        let index = shared.began(chat, number);
        answer.clear();
        write_answer(&mut answer, id, from);
        let think = Duration::from_micros(shared.think_us.load(Ordering::Relaxed));
        if !think.is_zero() {
            tokio::time::sleep(think).await;
        }
        // Before it is written: whoever has the answer must find the call ended.
        shared.ended(index);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        read.drain(..end);
    }
}

/// Where the first call's body begins and ends; `None`: it has not come in full.
fn call(read: &[u8]) -> Option<(usize, usize)> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let lines = read[..head].split(|byte| *byte == b'\n');
    let mut lengths = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        let is_length = name.eq_ignore_ascii_case(b"content-length:");
        is_length.then(|| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok()).flatten()
    });
    let end = head + lengths.next_back().unwrap_or(0);
    (read.len() >= end).then_some((head, end))
}

/// The text behind a name in a JSON object whose texts hold no quotes.
fn value<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let at = body.windows(name.len()).position(|part| part == name)? + name.len();
    let begin = at + body[at..].iter().position(|byte| *byte == b'"')? + 1;
    let length = body[begin..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&body[begin..begin + length]).ok()
}

fn write_answer(answer: &mut Vec<u8>, id: &str, from: &str) {
    let body = format!(
        r#"{{"conversation_id":"whatsapp:{from}","message_id":"{id}","response_text":"Su mesa para cuatro personas queda reservada a las nueve ({id}). ¡Gracias!"}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    answer.extend_from_slice(head.as_bytes());
    answer.extend_from_slice(body.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_once_it_is_there_in_full() {
        let text = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyPOST";
        let head = text.len() - 8;
        assert_eq!(call(text), Some((head, head + 4)));
        assert_eq!(call(&text[..head + 3]), None);
        assert_eq!(call(&text[..head - 1]), None);
        let small = b"GET / HTTP/1.1\r\ncontent-length:0\r\n\r\n";
        assert_eq!(call(small), Some((small.len(), small.len())));
    }

    #[test]
    fn a_text_is_found_with_and_without_spaces() {
        for body in [r#"{"a":"1","message_id":"x7"}"#, r#"{ "message_id" : "x7", "a": "1" }"#] {
            assert_eq!(value(body.as_bytes(), b"\"message_id\""), Some("x7"));
            assert_eq!(value(body.as_bytes(), b"\"b\""), None);
        }
    }
}
