//! Checks what stands beside the backend, for `whatsapp-connector check`: who serves files, and who writes voice notes down.

use std::time::Duration;

use reqwest::Response;

use super::calls::{failure, general};
use super::transcribe::Transcriber;
use super::{ClientError, Failure, Settings, TranscriberSettings, Url};

/// How much of an answer is read.
const MAX_ANSWER: usize = 16 << 10;
/// The time limit for each question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A status, and how the answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The text.
    pub text: String,
}

/// What is at this address, without a proxy. `Err`, inside: nobody answers.
pub async fn page(url: Url) -> Result<Result<Page, Failure>, ClientError> {
    let nobody =
        Settings { url: url.clone(), proxy: None, api_key: None, webhook_secret: None, timeout: PATIENCE };
    Ok(match general(&nobody)?.get(url).send().await {
        Ok(response) => Ok(read(response).await),
        Err(error) => Err(failure(&error)),
    })
}

/// What the service says to a voice note of no length. It refuses that, but only after it has accepted the key.
pub async fn transcribes(settings: &TranscriberSettings) -> Result<Result<Page, Failure>, ClientError> {
    let hurried = TranscriberSettings { timeout: settings.timeout.min(PATIENCE), ..settings.clone() };
    let asked = Transcriber::new(hurried)?.ask(b"", "audio/ogg").await;
    Ok(match asked {
        Ok(response) => Ok(read(response).await),
        Err(failure) => Err(failure),
    })
}

async fn read(mut response: Response) -> Page {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    Page { status, text: String::from_utf8_lossy(&body).into_owned() }
}
