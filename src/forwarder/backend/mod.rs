//! The backend's HTTP endpoint.

mod offered;
mod probe;
mod retry_after;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub use offered::{Choice, Choices};
pub use probe::{Probed, Said};

/// The backend's address, and why there is no client for it.
pub use reqwest::{Error as ClientError, Url};

use crate::proxy::Proxy;
use crate::telemetry::propagation;
use crate::wire::{now_ms, v1, visible};

/// The endpoint, below `BACKEND_URL`.
const PATH: &str = "v1/channels/whatsapp/gateway/inbound";
/// An idle connection is not used again after this time. Servers close theirs after a while without a word (uvicorn after
/// 5 s, gunicorn after 2 s), and a call that they meet on the way counts as a broken answer.
const IDLE: Duration = Duration::from_millis(1_500);
/// A larger answer does not count as an answer.
const MAX_BODY: usize = 1 << 20;

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

/// A call's body.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
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
    http: reqwest::Client,
    url: Url,
    settings: Settings,
    /// It has been told that the proxy may be why nobody is there.
    told: Arc<AtomicBool>,
}

impl Backend {
    /// A client for these settings.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            // Which proxy counts is decided in `proxy`, not by the library.
            .no_proxy()
            // After a redirect the key would go to another address.
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE)
            .connect_timeout(Duration::from_secs(5).min(settings.timeout))
            .timeout(settings.timeout)
            .user_agent(concat!("whatsapp-connector/", env!("CARGO_PKG_VERSION")));
        let http = match &settings.proxy {
            Some(proxy) => http.proxy(reqwest::Proxy::all(proxy.url())?),
            None => http,
        };
        let http = http.build()?;
        let mut url = settings.url.clone();
        url.set_path(&format!("{}/{PATH}", settings.url.path().trim_end_matches('/')));
        Ok(Self { http, url, settings, told: Arc::default() })
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
        let request = self.http.post(self.url.clone()).headers(headers).body(body);
        let mut response = request.send().await.map_err(failure)?;
        let status = response.status();
        if !status.is_success() {
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = asked.and_then(|value| retry_after::read(value, now_ms()));
            return Ok(Answer::Status { code: status.as_u16(), retry_after });
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let reply = heard(status == reqwest::StatusCode::OK, &body)?;
        let odd = reply.buttons.odd + reply.list_items.odd;
        if odd > 0 {
            tracing::warn!(odd, "the backend offers options without a title or a text; they are not shown");
        }
        Ok(Answer::Reply(Box::new(reply)))
    }

    fn headers(&self, body: &[u8], request_id: &str, timestamp: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-request-id", id);
        }
        if let Some(key) = &self.settings.api_key
            && let Ok(mut value) = HeaderValue::from_str(key.expose_secret())
        {
            value.set_sensitive(true);
            headers.insert("x-api-key", value);
        }
        if let Some(secret) = &self.settings.webhook_secret {
            headers.insert("x-webhook-timestamp", HeaderValue::from(timestamp));
            let signature = sign(secret.expose_secret(), timestamp, body);
            if let Ok(value) = HeaderValue::from_str(&signature) {
                headers.insert("x-webhook-signature", value);
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
fn sign(secret: &str, timestamp: u64, body: &[u8]) -> String {
    // HMAC accepts keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

fn failure(error: ClientError) -> Failure {
    if error.is_connect() {
        Failure::Unreachable
    } else if error.is_timeout() {
        Failure::Timeout
    } else {
        Failure::Broken
    }
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
        assert_eq!(sign("secret", 1_700_000_000, b"{}"), "uFabeHmf+ePL/w/C1jozorV/MoKr0Hw3rl6OfXml8WM=");
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
