//! Takes an encrypted file to WhatsApp's media hosts.
//!
//! The library would read the file on a blocking thread that nothing can end, and says why it failed in words. So the edge
//! calls the hosts itself, as it does for downloads, with what the library gives of the protocol: the route, the path, the
//! encryption. What a broken upload has left there is gone on with (`resume`), also by the next process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use reqwest::{Body, Response, StatusCode};
use serde::Deserialize;
use whatsapp_rust::Client;

use super::Uploaded;
use super::seal::{NotSealed, Sealed, Sealing};
use crate::edge::session::http::Http;

/// How many hosts are tried. WhatsApp names two or three.
const HOSTS: usize = 3;
/// How long nothing may move.
const SILENCE: Duration = Duration::from_secs(30);
/// How much is sent at a time.
const PART: usize = 64 * 1024;
/// From this length on a host is asked what it has already. As WhatsApp's own clients do.
const RESUMABLE: u64 = 5 * 1024 * 1024;
/// The longest answer.
const ANSWER: usize = 64 * 1024;
/// The longest path or address in it.
const PLACE: usize = 4_096;

/// Why a file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotUploaded {
    /// No host answers, or none lets this client in, or the connection broke.
    #[error("the media hosts cannot be reached")]
    Away,
    /// A host does not take it.
    #[error("the media hosts do not take the file")]
    Refused,
}

/// What a file that is sent has in it.
pub(crate) trait Content {
    /// Why it cannot be read.
    type Error: std::error::Error + Send + Sync + 'static;
    /// All of it, from its beginning. It is the same each time, or ends with an error.
    fn read(&self) -> impl Stream<Item = Result<Bytes, Self::Error>> + Send + 'static;
}

/// Why one host has not taken it.
enum No {
    /// What WhatsApp has given to be let in is not valid any more.
    Stale,
    Trouble(NotUploaded),
}

/// What a host says.
#[derive(Deserialize)]
struct Said {
    url: Option<String>,
    direct_path: Option<String>,
    /// `complete`, or how many bytes are there.
    resume: Option<String>,
}

/// Uploads files. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Uploader {
    http: Http,
}

impl Uploader {
    /// Over this HTTP, to WhatsApp's hosts only.
    pub(crate) fn new(http: Http) -> Self {
        Self { http }
    }

    /// Uploads one. The caller limits the time.
    pub(crate) async fn upload(
        &self,
        client: &Client,
        sealed: &Sealed,
        content: &impl Content,
    ) -> Result<Uploaded, NotUploaded> {
        let mut trouble = NotUploaded::Away;
        // What WhatsApp has given before may not be valid any more. It is asked for once anew.
        for renew in [false, true] {
            let Ok(route) = client.refresh_media_conn(renew).await else { return Err(NotUploaded::Away) };
            let mut is_stale = false;
            for host in route.hosts.iter().take(HOSTS) {
                match self.to_host((&host.hostname, &route.auth), sealed, content).await {
                    Ok(said) => return placed(sealed, said).ok_or(NotUploaded::Refused),
                    Err(No::Stale) => {
                        is_stale = true;
                        break;
                    }
                    Err(No::Trouble(why)) => trouble = why,
                }
            }
            if !is_stale {
                break;
            }
        }
        Err(trouble)
    }

    async fn to_host(
        &self,
        (host, auth): (&str, &str),
        sealed: &Sealed,
        content: &impl Content,
    ) -> Result<Said, No> {
        let away = No::Trouble(NotUploaded::Away);
        let token = BASE64_URL_SAFE_NO_PAD.encode(sealed.sealed_sha256);
        let path = format!("{}/{token}", sealed.kind.media_type().upload_path());
        let address = |more: &[(&str, &str)]| {
            let query = [&[("auth", auth), ("token", token.as_str())], more].concat();
            // A host that is not WhatsApp's is not called, whoever names it.
            self.http.file(host, &path, &query)
        };
        let mut from = 0;
        if sealed.length >= RESUMABLE {
            let Ok(url) = address(&[("resume", "1")]) else { return Err(away) };
            let asked =
                async { said(self.http.post(url, Body::from(Bytes::new()), 0).await.ok()?).await.ok() };
            // If it cannot say, it gets all of it.
            let known = tokio::time::timeout(SILENCE, asked).await.ok().flatten();
            match known.as_ref().and_then(|known| known.resume.as_deref()) {
                Some("complete") => return known.ok_or(away),
                Some(there) => from = there.parse().ok().filter(|there| *there < sealed.length).unwrap_or(0),
                None => {}
            }
        }
        let offset = from.to_string();
        let more = [("file_offset", offset.as_str())];
        let Ok(url) = address(if from > 0 { &more } else { &[] }) else { return Err(away) };
        let moved = Arc::new(AtomicU64::new(0));
        let body = Body::wrap_stream(body(sealed, content, from, Arc::clone(&moved)));
        let call = async {
            let response = self.http.post(url, body, sealed.length - from).await;
            said(response.map_err(|_| No::Trouble(NotUploaded::Away))?).await
        };
        unless_silent(&moved, call).await.unwrap_or(Err(away))
    }
}

/// What ends an upload in the middle.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The file, encrypted, from this place on. `moved` counts what was taken of it.
fn body(
    sealed: &Sealed,
    content: &impl Content,
    from: u64,
    moved: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    let (plain, sealing) = (Box::pin(content.read()), Sealing::begin(sealed.kind, sealed.key));
    let mut skipped = from;
    stream::try_unfold((plain, Some(sealing)), async |(mut plain, sealing)| {
        let Some(sealing) = sealing else { return Ok(None) };
        let mut sealing = sealing?;
        // Pieces that have come already make no pause.
        tokio::task::yield_now().await;
        Ok::<_, Broken>(Some(match plain.next().await {
            Some(piece) => (sealing.feed(&piece?), (plain, Some(Ok::<_, NotSealed>(sealing)))),
            None => (sealing.end()?.0, (plain, None)),
        }))
    })
    .flat_map(move |part| {
        let parts = match part {
            Err(error) => vec![Err(error)],
            Ok(mut part) => {
                let there = part.len().min(usize::try_from(skipped).unwrap_or(usize::MAX));
                skipped -= there as u64;
                let mut part = part.split_off(there);
                let mut parts = Vec::new();
                while !part.is_empty() {
                    parts.push(Ok(part.split_to(PART.min(part.len()))));
                }
                parts
            }
        };
        // What is read and not sent has moved as well.
        moved.fetch_add(1, Ordering::Relaxed);
        let moved = Arc::clone(&moved);
        stream::iter(parts).inspect(move |_| _ = moved.fetch_add(1, Ordering::Relaxed))
    })
}

/// Gives up when nothing has moved for a while.
async fn unless_silent<T>(moved: &AtomicU64, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        if let Ok(ended) = tokio::time::timeout(SILENCE, &mut work).await {
            return Some(ended);
        }
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return None;
        }
        before = now;
    }
}

/// The answer's words.
async fn said(mut response: Response) -> Result<Said, No> {
    match response.status() {
        StatusCode::OK | StatusCode::CREATED => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(No::Stale),
        status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            return Err(No::Trouble(NotUploaded::Refused));
        }
        _ => return Err(No::Trouble(NotUploaded::Away)),
    }
    let mut words = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|_| No::Trouble(NotUploaded::Away))? {
        if words.len() + part.len() > ANSWER {
            return Err(No::Trouble(NotUploaded::Away));
        }
        words.extend_from_slice(&part);
    }
    serde_json::from_slice(&words).map_err(|_| No::Trouble(NotUploaded::Away))
}

/// Where the file is. `None`: the host does not say it.
fn placed(sealed: &Sealed, said: Said) -> Option<Uploaded> {
    let path = said.direct_path.filter(|path| path.starts_with('/') && path.len() <= PLACE)?;
    Some(Uploaded {
        kind: sealed.kind,
        path,
        url: said.url.filter(|url| url.len() <= PLACE).unwrap_or_default(),
        key: sealed.key,
        sha256: sealed.sha256,
        sealed_sha256: sealed.sealed_sha256,
        size: sealed.size,
        sidecar: sealed.sidecar.clone(),
        is_animated: sealed.is_animated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_moves_has_time_and_one_that_does_not_is_given_up() {
        let moved = AtomicU64::new(0);
        let slow = async {
            for _ in 0..20 {
                tokio::time::sleep(SILENCE / 2).await;
                moved.fetch_add(1, Ordering::Relaxed);
            }
            7
        };
        assert_eq!(unless_silent(&moved, slow).await, Some(7));
        let began = tokio::time::Instant::now();
        assert_eq!(unless_silent(&moved, std::future::pending::<()>()).await, None);
        assert!(began.elapsed() <= SILENCE * 2);
    }
}
