//! Checks the backend without asking it a question, for `whatsapp-connector check`.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::calls::{failure, general};
use super::{Backend, ClientError, Failure, Settings, unix_seconds};
use crate::wire::now_ms;

/// How much of an answer is read.
const MAX_ANSWER: usize = 16 << 10;

/// A call with every field empty. By the contract the backend refuses it, after it has accepted the caller. So
/// nothing is answered, and no conversation begins.
#[derive(Serialize)]
struct Nothing {
    message_id: &'static str,
    from_number: &'static str,
    text: &'static str,
    timestamp_iso: &'static str,
}

const NOTHING: Nothing = Nothing { message_id: "", from_number: "", text: "", timestamp_iso: "" };

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The backend's answer to the call.
    pub answer: Result<Said, Failure>,
    /// The answer to `GET /docs`, or else `/health`, at this address: is there a service at all?
    pub page: Option<u16>,
    /// How long the call took.
    pub took: Duration,
    /// By how many seconds its clock is ahead of this machine's clock, if it sends its time.
    pub ahead_s: Option<i64>,
    /// Does it refuse the same call without key and signature? `None`: neither is set.
    pub refuses_strangers: Option<bool>,
}

/// A status, and which proof is wrong if it is 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The HTTP status.
    pub status: u16,
    /// The signature was refused, not the key.
    pub about_signature: bool,
}

impl Backend {
    /// Checks the backend. Takes a few seconds at most for each question, whatever `BACKEND_TIMEOUT` is.
    pub async fn probe(settings: &Settings) -> Result<Probed, ClientError> {
        let hurried = Settings { timeout: settings.timeout.min(Duration::from_secs(10)), ..settings.clone() };
        let (backend, client) = (Self::new(hurried.clone())?, general(&hurried)?);
        let began = Instant::now();
        let called = backend.call_nothing(&client).await;
        let took = began.elapsed();
        let ahead_s = called.as_ref().ok().and_then(|response| ahead_s(response.headers()));
        let answer = match called {
            Ok(response) => Ok(said(response).await),
            Err(error) => Err(failure(&error)),
        };
        let has_login = settings.api_key.is_some() || settings.webhook_secret.is_some();
        let refuses_strangers = if has_login && answer.is_ok() {
            let stranger = Self::new(Settings { api_key: None, webhook_secret: None, ..hurried })?;
            let answer = stranger.call_nothing(&client).await;
            answer.ok().map(|response| response.status() == StatusCode::UNAUTHORIZED)
        } else {
            None
        };
        Ok(Probed { answer, page: backend.page(&client).await, took, ahead_s, refuses_strangers })
    }

    async fn call_nothing(&self, client: &Client) -> Result<Response, ClientError> {
        let body = serde_json::to_vec(&NOTHING).unwrap_or_default();
        let headers = self.headers(&body, "whatsapp-connector-check", unix_seconds());
        client.post(self.url.clone()).headers(headers).body(body).send().await
    }

    /// Sent without the key, because the key is for the endpoint only.
    async fn page(&self, client: &Client) -> Option<u16> {
        let mut status = None;
        for name in ["docs", "health"] {
            let mut url = self.settings.url.clone();
            url.set_path(&format!("{}/{name}", url.path().trim_end_matches('/')));
            if let Ok(response) = client.get(url).send().await {
                status = Some(response.status().as_u16());
                if response.status().is_success() {
                    break;
                }
            }
        }
        status
    }
}

async fn said(mut response: Response) -> Said {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    let about_signature = String::from_utf8_lossy(&body).to_lowercase().contains("signature");
    Said { status, about_signature }
}

/// `Date` has whole seconds.
fn ahead_s(headers: &HeaderMap) -> Option<i64> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let theirs = i64::try_from(theirs.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(theirs - now_ms() / 1000)
}
