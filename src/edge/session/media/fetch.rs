//! Downloads a file: from WhatsApp's media hosts, decrypted on the way, into a sink, a piece at a time.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::{Response, StatusCode};
use whatsapp_rust::Client;

use super::File;
use super::cipher::Opener;
use crate::edge::session::http::Http;

/// How long one download may take. A silence ends it much earlier.
const WHOLE: Duration = Duration::from_secs(900);
/// How many hosts are tried. WhatsApp names two or three.
const HOSTS: usize = 3;

/// Where the content goes.
pub(crate) trait Sink {
    /// Why it takes nothing more.
    type Error;
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A file that came whole, and is the one that the message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// In bytes.
    pub size: u64,
}

/// Why a file did not come. No part of an address is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble<E> {
    /// No host answers, or none lets this client in, or the connection broke.
    #[error("the media hosts cannot be reached")]
    Away,
    /// It is no longer where the message says.
    #[error("the file has expired")]
    Expired,
    /// It is longer than may be.
    #[error("the file is too large")]
    TooLarge,
    /// What came is not what was sent.
    #[error("the file is damaged")]
    Damaged,
    /// It is another file than the one that the message names.
    #[error("the file is another one")]
    OtherContent,
    /// The message names nothing that can be fetched.
    #[error("the message names no file")]
    Unusable,
    /// The sink took no more.
    #[error("the file could not be stored")]
    Sink(E),
}

/// Downloads files. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    http: Http,
    most: u64,
}

impl Fetcher {
    /// Files of at most so many bytes.
    pub(crate) fn new(http: Http, most: u64) -> Self {
        Self { http, most }
    }

    /// Downloads one. What the sink has got is the file only if this says so.
    pub(crate) async fn fetch<S: Sink>(
        &self,
        client: &Client,
        file: &File,
        sink: &mut S,
    ) -> Result<Fetched, Trouble<S::Error>> {
        let fetch = async {
            let response = self.find(client, file).await?;
            self.read(response, file, sink).await
        };
        tokio::time::timeout(WHOLE, fetch).await.unwrap_or(Err(Trouble::Away))
    }

    /// The answer of the first host that has it.
    async fn find<E>(&self, client: &Client, file: &File) -> Result<Response, Trouble<E>> {
        let mut trouble = Trouble::Away;
        // What WhatsApp has given before may not be valid any more. It is asked for once anew.
        for renew in [false, true] {
            let Ok(route) = client.refresh_media_conn(renew).await else { return Err(Trouble::Away) };
            let token = BASE64_URL_SAFE_NO_PAD.encode(file.sealed_sha256);
            let query = [("auth", route.auth.as_str()), ("token", token.as_str())];
            let mut is_stale = false;
            for host in route.hosts.iter().take(HOSTS) {
                // A host that is not WhatsApp's is not called, whoever names it.
                let Ok(url) = self.http.file(&host.hostname, &file.path, &query) else { continue };
                let Ok(response) = self.http.get(url).await else { continue };
                match response.status() {
                    StatusCode::OK => return Ok(response),
                    StatusCode::UNAUTHORIZED => is_stale = true,
                    StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
                        trouble = Trouble::Expired;
                        is_stale = true;
                    }
                    _ => {}
                }
            }
            if !is_stale {
                break;
            }
        }
        Err(trouble)
    }

    async fn read<S: Sink>(
        &self,
        mut response: Response,
        file: &File,
        sink: &mut S,
    ) -> Result<Fetched, Trouble<S::Error>> {
        let mut opener = Opener::new(file).ok_or(Trouble::Unusable)?;
        while let Some(sealed) = response.chunk().await.map_err(|_| Trouble::Away)? {
            let plain = opener.feed(&sealed);
            if opener.size() > self.most {
                return Err(Trouble::TooLarge);
            }
            sink.write(&plain).await.map_err(Trouble::Sink)?;
        }
        let (rest, opened) = opener.end().map_err(|_| Trouble::Damaged)?;
        if opened.size > self.most {
            return Err(Trouble::TooLarge);
        }
        // The MAC's key is the sender's to choose: it says that the file is whole, and not that it is this one.
        if opened.sha256 != file.sha256 {
            return Err(Trouble::OtherContent);
        }
        sink.write(&rest).await.map_err(Trouble::Sink)?;
        Ok(Fetched { size: opened.size })
    }
}
