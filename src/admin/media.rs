//! `GET /media/<name>`: a file of the bucket, for whoever has an address that was signed for it.
//!
//! The signature is the guard. Without a good one nothing is looked up, so whoever guesses learns nothing, and every
//! wrong address has the same answer. A file goes through in pieces: a few hundred KiB of memory for each of
//! [`AT_ONCE`] clients.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Status;
use super::server::Deadline;
use crate::bus::StoredObject;
use crate::wire::file_link::{NOT_GOOD, NOT_THERE};
use crate::wire::{FileLinks, now_ms};

/// Where the files are.
pub(super) const ROUTE: &str = "/media/{name}";
/// So many files are read at once.
const AT_ONCE: usize = 8;

/// What the route needs. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Media {
    links: FileLinks,
    room: Arc<Semaphore>,
}

impl Media {
    pub(super) fn new(links: FileLinks) -> Self {
        Self { links, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

pub(super) async fn file(
    State((status, media)): State<(Arc<Status>, Media)>,
    Extension(deadline): Extension<Deadline>,
    uri: Uri,
) -> Response {
    let now = u64::try_from(now_ms() / 1_000).unwrap_or_default();
    let Some(granted) = media.links.open(uri.path(), uri.query().unwrap_or_default(), now) else {
        return refuse(StatusCode::FORBIDDEN, NOT_GOOD);
    };
    let Ok(room) = media.room.try_acquire_owned() else {
        return later("too many files are read at once: try again\n");
    };
    let Some((bus, subjects)) = status.bus.get() else {
        return later("nats-server does not answer yet: try again\n");
    };
    let object = match bus.object(subjects, &granted.key).await {
        Ok(Some(object)) => object,
        Ok(None) => return refuse(StatusCode::NOT_FOUND, NOT_THERE),
        Err(error) => {
            tracing::debug!(%error, "a file that is asked for cannot be looked up");
            return later("the file cannot be looked up now: try again\n");
        }
    };
    let mime_type = granted.mime_type.as_deref().unwrap_or("application/octet-stream");
    let mime_type = HeaderValue::from_str(mime_type);
    let size = object.size();
    let mut answer = Body::from_stream(pieces(object, room, deadline)).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    // It may be anything: no browser is to show it, or to guess what it is.
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    if let Ok(mime_type) = mime_type {
        headers.insert(header::CONTENT_TYPE, mime_type);
    }
    answer
}

/// The pieces, one when the client has taken the one before. An end before the size is reached breaks the connection.
fn pieces(
    object: StoredObject,
    room: OwnedSemaphorePermit,
    deadline: Deadline,
) -> impl futures::Stream<Item = Result<bytes::Bytes, crate::bus::Unreadable>> {
    futures::stream::try_unfold((object, room, deadline), async |(mut object, room, deadline)| {
        let piece = object.piece().await.inspect_err(|error| {
            tracing::debug!(%error, "a file broke off");
        })?;
        deadline.goes_on();
        Ok(piece.map(|piece| (piece, (object, room, deadline))))
    })
}

fn later(why: &'static str) -> Response {
    let mut answer = refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
    answer
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, why).into_response()
}
