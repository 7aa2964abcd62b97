//! The backend's HTTP endpoint.

mod calls;
mod full;
mod offered;
mod plain;
mod probe;
mod probe_others;
mod retry_after;
mod transcribe;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub use full::{File, Full, Person, PersonWrote, State};
pub use offered::{Choice, Choices};
pub use probe::{Probed, Said};
pub use probe_others::{Page, page, transcribes};
pub use transcribe::{Settings as TranscriberSettings, Transcriber};

/// The backend's address, and why there is no client for it.
pub use reqwest::{Error as ClientError, Url};

pub use calls::Clients;
use calls::Way;

use crate::proxy::Proxy;
use crate::telemetry::propagation;
use crate::wire::{now_ms, v1, visible};

/// The endpoint, below `BACKEND_URL`.
const PATH: &str = "v1/channels/whatsapp/gateway/inbound";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("x-webhook-signature");

/// How to reach the backend.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http(s)://host:port`, with or without a path.
    pub url: Url,
    /// Every call goes through it.
    pub proxy: Option<Proxy>,
    /// The value of `X-API-Key`.
    pub api_key: Option<SecretString>,
    /// The secret that signs every request.
    pub webhook_secret: Option<SecretString>,
    /// The time limit for a whole call, including the body.
    pub timeout: Duration,
}

/// What a call says (`BACKEND_FIELDS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fields {
    /// Who wrote, when, and the words.
    #[default]
    Basic,
    /// All that the message says.
    Full,
}

/// A call's body.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Question {
    /// WhatsApp's own id. The backend uses it to answer a repeated call only once.
    pub message_id: String,
    /// Digits without `+`.
    pub from_number: String,
    /// What the customer wrote.
    pub text: String,
    /// UTC with milliseconds and `Z`.
    pub timestamp_iso: String,
    /// The sender's profile name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_name: Option<String>,
    /// With [`Fields::Full`]: what the message says beside that.
    #[serde(flatten)]
    pub full: Option<Box<Full>>,
    /// Of a message in a group: the group, which is the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
}

/// What the backend answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A 2xx. Without a body, or with one that is not the contract's where the status is not 200, it is empty.
    Reply(Box<Reply>),
    /// Any other status.
    Status {
        /// The HTTP status.
        code: u16,
        /// What the `Retry-After` header asks for, if there is one: seconds, or a date.
        retry_after: Option<Duration>,
    },
}

/// The body of a 200. Unknown fields are ignored, so that the backend can add fields.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Reply {
    /// The conversation, as the backend names it.
    #[serde(default, deserialize_with = "or_default")]
    pub conversation_id: String,
    /// The text for the customer. Empty: nothing.
    #[serde(default, rename = "response_text", deserialize_with = "or_default")]
    pub text: String,
    /// Buttons to offer.
    #[serde(default, deserialize_with = "or_default")]
    pub buttons: Choices,
    /// The title of the list to offer.
    #[serde(default, deserialize_with = "or_default")]
    pub list_title: String,
    /// The rows of the list to offer.
    #[serde(default, deserialize_with = "or_default")]
    pub list_items: Choices,
}

impl Reply {
    /// Reads a body. An array is not an answer, although serde would read its elements as the fields in order.
    pub fn read(body: &[u8]) -> Option<Self> {
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        if is_object { serde_json::from_slice(body).ok() } else { None }
    }

    /// Whether a person would see nothing of it.
    pub fn is_silent(&self) -> bool {
        !visible::is_any(&self.text) && self.buttons.all.is_empty() && self.list_items.all.is_empty()
    }
}

impl From<Reply> for v1::Reply {
    fn from(reply: Reply) -> Self {
        let (buttons, rows) = (reply.buttons.all, reply.list_items.all);
        let has_choices = !buttons.is_empty() || !rows.is_empty();
        let has_ids = buttons.iter().any(|button| !button.id.is_empty());
        let (ids, buttons): (Vec<_>, _) = buttons.into_iter().map(|button| (button.id, button.title)).unzip();
        let list_items = rows.into_iter().map(|row| {
            let Choice { id, title, description } = row;
            v1::ListItem { id, title, description }
        });
        let interactive = v1::Interactive {
            buttons,
            list_title: reply.list_title,
            list_items: list_items.collect(),
            button_ids: if has_ids { ids } else { Vec::new() },
        };
        Self {
            text: reply.text,
            conversation_id: reply.conversation_id,
            interactive: has_choices.then_some(interactive),
        }
    }
}

fn or_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// There is no readable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection: refused, no such host, TLS.
    #[error("cannot be reached")]
    Unreachable,
    /// No complete answer in time.
    #[error("did not answer in time")]
    Timeout,
    /// The connection broke in the middle of the answer.
    #[error("broke off its answer")]
    Broken,
    /// A 200 whose body does not follow the contract.
    #[error("answered 200 with a body that is not the contract's JSON")]
    NotJson,
    /// A body over 1 MiB.
    #[error("answered with more than 1 MiB")]
    TooLarge,
}

impl Failure {
    /// A code for logs, readiness and dead letters.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken => "broken-answer",
            Self::NotJson => "bad-body",
            Self::TooLarge => "body-too-large",
        }
    }
}

/// The HTTP client. One per process, because connections are reused.
#[derive(Debug, Clone)]
pub struct Backend {
    way: Way,
    url: Url,
    settings: Settings,
    /// The value of `X-API-Key`.
    api_key: Option<HeaderValue>,
    /// Ready to sign with the secret.
    signer: Option<Hmac<Sha256>>,
    /// It has been told that the proxy may be why nobody is there.
    told: Arc<AtomicBool>,
}

impl Backend {
    /// A client for these settings.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        Self::with(settings, &mut Clients::default())
    }

    /// The same, which may share what is in `clients`.
    pub fn with(settings: Settings, clients: &mut Clients) -> Result<Self, ClientError> {
        let mut url = settings.url.clone();
        url.set_path(&format!("{}/{PATH}", settings.url.path().trim_end_matches('/')));
        let way = Way::to(&url, &settings, clients)?;
        let key = settings.api_key.as_ref().map(|key| HeaderValue::from_str(key.expose_secret()));
        let api_key = key.and_then(Result::ok).map(|mut key| {
            key.set_sensitive(true);
            key
        });
        // HMAC accepts keys of any length.
        let secret = settings.webhook_secret.as_ref().map(|secret| secret.expose_secret().as_bytes());
        let signer = secret.and_then(|secret| Hmac::new_from_slice(secret).ok());
        Ok(Self { way, url, settings, api_key, signer, told: Arc::default() })
    }

    /// Its host and port.
    pub fn server(&self) -> (&str, u16) {
        (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or_default())
    }

    /// Makes one call. Each call is signed anew, because the backend refuses old signatures.
    pub async fn ask(&self, question: &Question, request_id: &str) -> Result<Answer, Failure> {
        let answer = self.call(question, request_id).await;
        let is_unreachable = answer == Err(Failure::Unreachable);
        if let Some(proxy) = &self.settings.proxy
            && is_unreachable != self.told.swap(is_unreachable, Ordering::Relaxed)
            && is_unreachable
        {
            tracing::warn!(%proxy, "the backend cannot be reached through the proxy; name its host in NO_PROXY if it needs none");
        }
        answer
    }

    async fn call(&self, question: &Question, request_id: &str) -> Result<Answer, Failure> {
        let body = serde_json::to_vec(question).map_err(|_| Failure::Broken)?;
        let headers = self.headers(&body, request_id, unix_seconds());
        let answer = self.way.post(headers, body).await?;
        if !answer.status.is_success() {
            return Ok(Answer::Status { code: answer.status.as_u16(), retry_after: answer.retry_after });
        }
        let reply = heard(answer.status == reqwest::StatusCode::OK, &answer.body)?;
        let odd = reply.buttons.odd + reply.list_items.odd;
        if odd > 0 {
            tracing::warn!(odd, "the backend offers options without a title or a text; they are not shown");
        }
        Ok(Answer::Reply(Box::new(reply)))
    }

    fn headers(&self, body: &[u8], request_id: &str, timestamp: u64) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, HeaderValue::from_static(calls::AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(key) = &self.api_key {
            headers.insert(API_KEY, key.clone());
        }
        if let Some(signer) = &self.signer {
            let timestamp = HeaderValue::from(timestamp);
            let signature = signature(signer.clone(), timestamp.as_bytes(), body);
            headers.insert(WEBHOOK_TIMESTAMP, timestamp);
            if let Ok(value) = HeaderValue::try_from(signature) {
                headers.insert(WEBHOOK_SIGNATURE, value);
            }
        }
        for (name, value) in propagation::current().iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// `base64(HMAC_SHA256(secret, timestamp + "." + body))`.
fn signature(mut signer: Hmac<Sha256>, timestamp: &[u8], body: &[u8]) -> String {
    signer.update(timestamp);
    signer.update(b".");
    signer.update(body);
    base64::engine::general_purpose::STANDARD.encode(signer.finalize().into_bytes())
}

/// The body of a 2xx. Without a body there is nothing to say. A 200 promises the contract's JSON; another 2xx, such as
/// 202 with the word `accepted`, says only that the message was heard.
fn heard(is_200: bool, body: &[u8]) -> Result<Reply, Failure> {
    match Reply::read(body) {
        Some(reply) => Ok(reply),
        None if body.trim_ascii().is_empty() || !is_200 => Ok(Reply::default()),
        None => Err(Failure::NotJson),
    }
}

fn unix_seconds() -> u64 {
    u64::try_from(now_ms() / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_contracts() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret -binary | base64
        let signer = Hmac::new_from_slice(b"secret").unwrap();
        let signed = signature(signer, b"1700000000", b"{}");
        assert_eq!(signed, "uFabeHmf+ePL/w/C1jozorV/MoKr0Hw3rl6OfXml8WM=");
    }

    #[test]
    fn nulls_missing_and_unknown_fields_are_all_fine() {
        let reply: Reply = serde_json::from_str(
            r#"{"conversation_id":"c","message_id":"m","response_text":null,"buttons":null,"new":1,
                "list_items":["a",{"title":"b","description":null}]}"#,
        )
        .unwrap();
        assert_eq!(reply.text, "");
        assert_eq!((reply.list_items.all.len(), reply.list_items.odd), (2, 0));
    }

    #[test]
    fn the_ids_of_buttons_are_stored_beside_them_if_there_are_any() {
        let stored = |json: &str| v1::Reply::from(Reply::read(json.as_bytes()).unwrap()).interactive;
        let with =
            stored(r#"{"buttons":[{"id":"y","title":"Sí"},"No"],"list_items":[{"id":4,"text":"Dos"}]}"#);
        let row = v1::ListItem { id: "4".into(), title: "Dos".into(), ..v1::ListItem::default() };
        let want = v1::Interactive {
            buttons: vec!["Sí".into(), "No".into()],
            button_ids: vec!["y".into(), String::new()],
            list_items: vec![row],
            ..v1::Interactive::default()
        };
        assert_eq!(with, Some(want));
        let without = stored(r#"{"buttons":["Sí","No"]}"#).unwrap();
        assert_eq!((without.buttons.len(), without.button_ids.len()), (2, 0));
        assert_eq!(stored(r#"{"response_text":"Hola","list_title":"Mesas","buttons":[null,{}]}"#), None);
    }

    #[test]
    fn every_2xx_is_heard() {
        let text = br#"{"response_text":"Hola"}"#.as_slice();
        let job = br#"{"job_id":"7"}"#.as_slice();
        for (is_200, body, want) in [
            (true, text, Ok("Hola")),
            (true, job, Ok("")),
            (true, b"", Ok("")),
            (true, b" \n", Ok("")),
            (true, b"accepted", Err(Failure::NotJson)),
            (true, b"[]", Err(Failure::NotJson)),
            (false, text, Ok("Hola")),
            (false, job, Ok("")),
            (false, b"", Ok("")),
            (false, b"accepted", Ok("")),
            (false, b"[]", Ok("")),
        ] {
            let heard = heard(is_200, body).map(|reply| reply.text);
            assert_eq!(heard, want.map(str::to_owned), "{is_200} {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn the_endpoint_is_below_the_url_with_or_without_a_path() {
        for (url, want) in [
            ("http://localhost:8000", "http://localhost:8000/v1/channels/whatsapp/gateway/inbound"),
            ("https://h/api/", "https://h/api/v1/channels/whatsapp/gateway/inbound"),
        ] {
            // The provider is the process's; a second installation in the same test run is no error.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let settings = Settings {
                url: url.parse().unwrap(),
                proxy: None,
                api_key: None,
                webhook_secret: None,
                timeout: Duration::from_secs(1),
            };
            assert_eq!(Backend::new(settings).unwrap().url.as_str(), want);
        }
    }
}
