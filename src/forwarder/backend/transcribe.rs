//! Has a voice note written down by a service that speaks OpenAI's form: `POST /v1/audio/transcriptions`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::calls::{failure, general};
use super::{ClientError, Failure, Settings as Backend, Url};
use crate::proxy::Proxy;
use crate::wire::visible;

/// The endpoint, below `TRANSCRIBE_URL`.
const PATH: &str = "v1/audio/transcriptions";
/// The longest answer that is read, and the longest transcript that is taken, in bytes.
const ANSWER: usize = 1 << 20;
const TRANSCRIPT: usize = 64 << 10;

/// How voice notes are written down.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http(s)://host:port`, with or without a path.
    pub url: Url,
    /// Every call goes through it.
    pub proxy: Option<Proxy>,
    /// The key, as a bearer token.
    pub api_key: Option<SecretString>,
    /// The model's name.
    pub model: String,
    /// The time limit for one voice note, with all that it waits for.
    pub timeout: Duration,
}

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transcriber {
    client: reqwest::Client,
    url: Url,
    settings: Settings,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

impl Transcriber {
    /// A client for these settings.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let mut url = settings.url.clone();
        url.set_path(&format!("{}/{PATH}", settings.url.path().trim_end_matches('/')));
        let client = general(&Backend {
            url: settings.url.clone(),
            proxy: settings.proxy.clone(),
            api_key: None,
            webhook_secret: None,
            timeout: settings.timeout,
        })?;
        Ok(Self { client, url, settings })
    }

    /// The time limit for one voice note.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The answer to this voice note.
    pub(super) async fn ask(&self, sound: &[u8], mime_type: &str) -> Result<reqwest::Response, Failure> {
        let (content_type, body) = form(&self.settings.model, sound, mime_type);
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, content_type).body(body);
        if let Some(key) = &self.settings.api_key {
            request = request.bearer_auth(key.expose_secret());
        }
        request.send().await.map_err(|error| failure(&error))
    }

    /// What is said in this voice note. `None`: nothing that a person could read.
    pub async fn transcript(&self, sound: &[u8], mime_type: &str) -> Result<Option<String>, Failure> {
        let mut response = self.ask(sound, mime_type).await?;
        if !response.status().is_success() {
            return Err(Failure::Broken);
        }
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| failure(&error))? {
            if answer.len() + piece.len() > ANSWER {
                return Err(Failure::TooLarge);
            }
            answer.extend_from_slice(&piece);
        }
        heard(&answer)
    }
}

/// The words of an answer.
fn heard(answer: &[u8]) -> Result<Option<String>, Failure> {
    let Answer { text } = serde_json::from_slice(answer).map_err(|_| Failure::NotJson)?;
    let words = visible::trimmed(&text).trim();
    let end = (0..=words.len().min(TRANSCRIPT)).rev().find(|at| words.is_char_boundary(*at)).unwrap_or(0);
    let words = words.get(..end).unwrap_or_default();
    Ok(visible::is_any(words).then(|| words.to_owned()))
}

/// The form and its type. The boundary is made of the sound, so it is not in it.
fn form(model: &str, sound: &[u8], mime_type: &str) -> (String, Bytes) {
    let boundary: String = Sha256::digest(sound).iter().map(|byte| format!("{byte:02x}")).collect();
    let (mime_type, name) = kind(mime_type);
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: {mime_type}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let body = [head.as_bytes(), sound, tail.as_bytes()].concat();
    (format!("multipart/form-data; boundary={boundary}"), body.into())
}

/// The type and a name for a sound of this type. Services look at the name's end. What is not known is what phones record.
fn kind(mime_type: &str) -> (&'static str, &'static str) {
    match mime_type.split(';').next().unwrap_or_default().trim() {
        "audio/mp4" | "audio/aac" => ("audio/mp4", "voice.m4a"),
        "audio/mpeg" => ("audio/mpeg", "voice.mp3"),
        _ => ("audio/ogg", "voice.ogg"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_the_model_and_the_sound_and_one_end() {
        let (content_type, body) = form("whisper-1", b"sound", "audio/ogg; codecs=opus");
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let want = [
            format!("--{boundary}"),
            "Content-Disposition: form-data; name=\"model\"".to_owned(),
            String::new(),
            "whisper-1".to_owned(),
            format!("--{boundary}"),
            "Content-Disposition: form-data; name=\"file\"; filename=\"voice.ogg\"".to_owned(),
            "Content-Type: audio/ogg".to_owned(),
            String::new(),
            "sound".to_owned(),
            format!("--{boundary}--"),
            String::new(),
        ];
        assert_eq!(body.split("\r\n").collect::<Vec<_>>(), want);
        assert_eq!(kind("audio/mp4").1, "voice.m4a");
        assert_eq!(kind("text/html\r\nX: y").0, "audio/ogg");
    }

    #[test]
    fn what_was_not_said_or_cannot_be_seen_is_no_transcript() {
        for (answer, want) in [
            (r#"{"text":" Hola. \n","language":"es"}"#.to_owned(), Ok(Some("Hola.".to_owned()))),
            (r#"{"text":""}"#.to_owned(), Ok(None)),
            (r#"{"text":"\u200b \n"}"#.to_owned(), Ok(None)),
            (r#"{"words":"Hola"}"#.to_owned(), Err(Failure::NotJson)),
            ("Hola".to_owned(), Err(Failure::NotJson)),
            (
                format!(r#"{{"text":"a{}"}}"#, "ñ".repeat(TRANSCRIPT)),
                Ok(Some(format!("a{}", "ñ".repeat(TRANSCRIPT / 2 - 1)))),
            ),
        ] {
            assert_eq!(heard(answer.as_bytes()), want);
        }
    }
}
