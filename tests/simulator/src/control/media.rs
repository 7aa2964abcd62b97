//! The media server's HTTP: what linked devices download and upload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::{StreamExt as _, stream};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::faults::FaultKind;
use crate::hub::Hub;
use crate::media::{How, PATH};

/// A piece of a slow answer, and the time from one to the next.
const PIECE: usize = 4_096;
const EVERY: Duration = Duration::from_millis(50);

pub(super) async fn download(State(hub): State<Arc<Hub>>, Path(name): Path<String>) -> Response {
    let name = name.trim_end_matches(".enc");
    let (refusal, file) = hub.update(|world| {
        world.counters.media_downloads += 1;
        let fault = world.faults.find(FaultKind::MediaRefused, None, Instant::now());
        (fault.map(|fault| fault.code), world.media.file(name).cloned())
    });
    let refusal = refusal.and_then(|code| StatusCode::from_u16(code).ok());
    let file = match (refusal, file) {
        (Some(status), _) => return status.into_response(),
        (None, None) => return StatusCode::NOT_FOUND.into_response(),
        (None, Some(file)) => file,
    };
    let served = file.served();
    match file.how {
        How::Expired => StatusCode::GONE.into_response(),
        How::Broken => {
            let parts = [Ok(served), Err(std::io::Error::other("broken"))];
            Body::from_stream(stream::iter(parts)).into_response()
        }
        How::Stuck => {
            let (first, stopping) = (stream::iter([Ok::<_, std::io::Error>(served)]), hub.stopping.clone());
            let never =
                stream::once(async move { stopping.cancelled_owned().await }).filter_map(|()| async { None });
            Body::from_stream(first.chain(never)).into_response()
        }
        How::Slow => {
            let pieces: Vec<Bytes> = served.chunks(PIECE).map(Bytes::copy_from_slice).collect();
            let pieces = stream::iter(pieces).then(|piece| async move {
                tokio::time::sleep(EVERY).await;
                Ok::<_, std::io::Error>(piece)
            });
            Body::from_stream(pieces).into_response()
        }
        How::Whole | How::Truncated | How::FlippedMac | How::WrongHash => served.into_response(),
    }
}

pub(super) async fn upload(
    State(hub): State<Arc<Hub>>,
    Path((_, token)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    let name = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes));
    // The token is the hash of what comes.
    if token.trim_end_matches('=') != name {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let host = hub.update(|world| {
        world.counters.media_uploads += 1;
        world.media.take_in(name.clone(), bytes);
        world.media.host.clone()
    });
    let path = format!("{PATH}{name}.enc");
    Json(json!({"url": format!("https://{host}{path}"), "direct_path": path})).into_response()
}
