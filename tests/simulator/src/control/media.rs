//! The media server's HTTP: what linked devices download and upload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::faults::FaultKind;
use crate::hub::Hub;
use crate::media::{How, PATH};
use crate::world::World;

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

/// What a client says beside the file.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    /// With what it wants to be let in.
    auth: Option<String>,
    /// It asks how much is here.
    resume: Option<String>,
    /// What comes begins there.
    file_offset: Option<usize>,
}

pub(super) async fn upload(
    State(hub): State<Arc<Hub>>,
    Path((_, token)): Path<(String, String)>,
    Query(said): Query<Said>,
    bytes: Bytes,
) -> Response {
    let name = token.trim_end_matches('=').to_owned();
    if said.resume.is_some() {
        return hub.update(|world| known(world, &name));
    }
    let refused = hub.update(|world| {
        world.counters.media_uploads += 1;
        world.faults.take(FaultKind::UploadRefused, Instant::now())
    });
    if let Some(fault) = refused {
        if fault.code == 401 {
            hub.update(|world| world.media.lets_nobody_in());
        }
        return status(fault.code).into_response();
    }
    if !hub.update(|world| world.media.lets_in(said.auth.as_deref())) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let is_slow = || {
        hub.update(|world| {
            let slow = world.faults.find(FaultKind::UploadSlow, None, Instant::now());
            slow.is_some_and(|fault| bytes.len() >= fault.number("from_bytes"))
        })
    };
    while is_slow() && !hub.stopping.is_cancelled() {
        tokio::time::sleep(EVERY).await;
    }
    hub.update(|world| take_in(world, &name, said.file_offset.unwrap_or(0), &bytes))
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// How much of a file is here.
fn known(world: &mut World, name: &str) -> Response {
    if world.media.file(name).is_some() {
        let mut place = place(world, name);
        place["resume"] = json!("complete");
        return Json(place).into_response();
    }
    match world.media.half(name) {
        Some(half) => Json(json!({"resume": half.len().to_string()})).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn take_in(world: &mut World, name: &str, from: usize, bytes: &Bytes) -> Response {
    let half = world.media.half(name).and_then(|half| half.get(..from));
    let mut whole = half.unwrap_or_default().to_vec();
    whole.extend_from_slice(bytes);
    if let Some(fault) = world.faults.take(FaultKind::UploadHalf, Instant::now()) {
        whole.truncate(whole.len() / 2);
        world.media.keep_half(name.to_owned(), whole.into());
        return status(fault.code).into_response();
    }
    // The token is the hash of what comes.
    if BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&whole)) != name {
        return StatusCode::BAD_REQUEST.into_response();
    }
    world.counters.media_upload_bytes += u64::try_from(bytes.len()).unwrap_or_default();
    world.media.take_in(name.to_owned(), whole.into());
    Json(place(world, name)).into_response()
}

fn place(world: &World, name: &str) -> Value {
    let path = format!("{PATH}{name}.enc");
    json!({"url": format!("https://{}{path}", world.media.host), "direct_path": path})
}
