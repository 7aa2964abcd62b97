//! `TRANSCRIBE_URL`: what is said in a voice note is its text, and a service that cannot say it holds nobody up.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Addressing, Answer, Customer, Layout, PATIENCE, Role, Stage, Unwell, eventually};

const KEY: &str = "key-of-the-tests";
const WARNING: &str = "a voice note cannot be transcribed";
const TEXT: &str = "Por ahora solo leo texto.";

/// Head and body of each call.
type Calls = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A service that writes down what is said, as it is told.
pub(crate) struct Scribe {
    pub(crate) url: String,
    asked: Calls,
    task: JoinHandle<()>,
}

impl Scribe {
    /// `answer` is status and body; `None`: it says nothing.
    pub(crate) async fn start(answer: Option<(u16, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/api", listener.local_addr().expect("its port"));
        let asked = Calls::default();
        let serving = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, answer, Arc::clone(&serving)));
            }
        });
        Self { url, asked, task }
    }

    pub(crate) fn asked(&self) -> Vec<(String, Vec<u8>)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, answer: Option<(u16, &'static str)>, asked: Calls) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        asked.lock().unwrap_or_else(PoisonError::into_inner).push((head, body));
        let Some((status, body)) = answer else {
            // Until the other side has had enough.
            let _ = stream.read(&mut [0; 1]).await;
            return None;
        };
        let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn stage(backend: &Unwell, scribe: &Scribe, settings: &[(&str, &str)]) -> Stage {
    let all = [
        ("BACKEND_URL", backend.url()),
        ("MEDIA", "inbound"),
        ("MEDIA_WAIT", "1m"),
        ("TRANSCRIBE_URL", scribe.url.as_str()),
        ("TRANSCRIBE_API_KEY", KEY),
    ];
    let all = all.iter().chain(settings);
    all.fold(Stage::plan(), |plan, (name, value)| plan.setting(name, value)).set().await
}

async fn backend() -> Unwell {
    Unwell::start(|question| Answer::text(&format!("eco: {}", question.text))).await
}

async fn speak(customer: &Customer, kind: &str) -> String {
    let media = json!({"bytes": BASE64_STANDARD.encode("sound of a voice")});
    customer.write_with(json!({"kind": kind, "media": media})).await
}

/// What the backend was told, in order.
fn told(backend: &Unwell) -> Vec<Value> {
    backend.asked().into_iter().map(|asked| serde_json::from_str(&asked.body).expect("JSON")).collect()
}

#[tokio::test]
async fn what_is_said_in_a_voice_note_is_its_text() {
    let (backend, scribe) =
        (backend().await, Scribe::start(Some((200, r#"{"text":" Hola, ¿hay mesa? "}"#))).await);
    let stage = stage(&backend, &scribe, &[]).await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    let voice = speak(&customer, "voice").await;
    // Sound that was not spoken in the chat may be anything.
    speak(&customer, "audio").await;
    customer.write("¿y?").await;
    let inbox = customer.receives(2).await;
    assert_eq!((inbox[0].text.as_str(), inbox[1].text.as_str()), ("eco: Hola, ¿hay mesa?", "eco: ¿y?"));
    stage.streams().await.settled(3).await;
    let told = told(&backend);
    assert_eq!((&told[0]["message_id"], &told[0]["text"]), (&json!(voice), &json!("Hola, ¿hay mesa?")));
    assert_eq!(told[0].as_object().expect("an object").len(), 5, "no more than the contract: {}", told[0]);
    let asked = scribe.asked();
    assert_eq!((asked.len(), told.len()), (1, 2));
    let (head, body) = &asked[0];
    assert!(head.starts_with("POST /api/v1/audio/transcriptions HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains(&format!("authorization: bearer {KEY}\r\n")), "{head}");
    let body = String::from_utf8_lossy(body);
    for part in
        ["name=\"model\"\r\n\r\nwhisper-1\r\n", "filename=\"voice.ogg\"", "\r\n\r\nsound of a voice\r\n--"]
    {
        assert!(body.contains(part), "no {part:?} in {body}");
    }
}

#[tokio::test]
async fn with_all_fields_a_transcript_is_marked_as_one() {
    let (backend, scribe) = (backend().await, Scribe::start(Some((200, r#"{"text":"Hola"}"#))).await);
    let stage = stage(&backend, &scribe, &[("BACKEND_FIELDS", "full")]).await;
    let _product = stage.product(Layout::OneProcess).await;
    let customer = stage.customer().await;
    speak(&customer, "voice").await;
    customer.write("chau").await;
    customer.receives(2).await;
    let told = told(&backend);
    let voice = (&told[0]["kind"], &told[0]["text"], &told[0]["transcribed"], &told[0]["media"]["state"]);
    assert_eq!(voice, (&json!("audio"), &json!("Hola"), &json!(true), &json!("stored")));
    assert_eq!(told[1].get("transcribed"), None);
}

/// One call at a time. The voice note is one without words in the end, and nobody has waited for it but its own chat.
#[tokio::test]
async fn a_service_that_fails_or_says_nothing_holds_up_no_other_chat() {
    for answer in [None, Some((500, "")), Some((200, "no JSON")), Some((200, r#"{"text":""}"#))] {
        let (backend, scribe) = (backend().await, Scribe::start(answer).await);
        let settings =
            [("TRANSCRIBE_TIMEOUT", "4s"), ("BACKEND_CONCURRENCY", "1"), ("UNSUPPORTED_TEXT", TEXT)];
        let stage = stage(&backend, &scribe, &settings).await;
        stage.logs.may_have(WARNING);
        let _product = stage.product(Layout::Split { forwarders: 1 }).await;
        let speaker = stage.customer().await;
        speak(&speaker, "voice").await;
        eventually("a call of the service", PATIENCE, async || match scribe.asked().len() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        })
        .await;
        let other = stage.simulator.customer("5491112345679", Addressing::Phone).await;
        other.write("hola").await;
        other.receives(1).await;
        if answer.is_none() {
            assert_eq!(
                speaker.inbox().await.len(),
                0,
                "the other one was answered only when the wait was over"
            );
        }
        speaker.write("¿y?").await;
        let texts: Vec<_> = speaker.receives(2).await.into_iter().map(|received| received.text).collect();
        assert_eq!(texts, [TEXT, "eco: ¿y?"], "{answer:?}");
    }
}

#[tokio::test]
async fn a_forwarder_killed_while_it_listens_costs_nothing() {
    let (backend, silent) = (backend().await, Scribe::start(None).await);
    let scribe = Scribe::start(Some((200, r#"{"text":"Hola"}"#))).await;
    let stage = stage(&backend, &silent, &[("TRANSCRIBE_TIMEOUT", "1m")]).await;
    let mut product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    speak(&customer, "voice").await;
    eventually("a call of the service", PATIENCE, async || match silent.asked().len() {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    product.forwarders.remove(0).process.kill();
    let _successor = stage.start_with(Role::Forwarder, &[("TRANSCRIBE_URL", &scribe.url)]).await;
    assert_eq!(customer.receives(1).await[0].text, "eco: Hola");
    stage.streams().await.settled(1).await;
    assert_eq!((backend.asked().len(), customer.inbox().await.len()), (1, 1));
}
