//! Reads an object of a bucket, piece by piece, as [`super::objects`] writes it.
//!
//! Only direct gets with their question in the payload: one permission, and no consumer that would stay behind.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Bus, ReadError};
use crate::wire::Subjects;

/// An object that is being read.
#[derive(Debug)]
pub struct StoredObject {
    bus: Bus,
    stream: String,
    /// The subject of its pieces.
    pieces: String,
    size: u64,
    digest: Vec<u8>,
    /// How many pieces are still to come, and from which sequence on.
    left: u64,
    next: u64,
    read: u64,
    hash: Sha256,
}

/// What is read of the description.
#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    nuid: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    chunks: u64,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    deleted: bool,
}

impl Bus {
    /// The object with this name in the bucket of files. `None`: there is none.
    pub async fn object(&self, subjects: &Subjects, name: &str) -> Result<Option<StoredObject>, ReadError> {
        let stream = subjects.stream_media();
        let Some(stored) = self.next_from(&stream, &subjects.media_description(name), 1).await? else {
            return Ok(None);
        };
        let Some(Description { nuid, size, chunks, digest, .. }) = readable(&stored.payload) else {
            return Ok(None);
        };
        let digest = digest.strip_prefix("SHA-256=").unwrap_or_default();
        Ok(Some(StoredObject {
            bus: self.clone(),
            pieces: subjects.media_pieces(&nuid),
            stream,
            size,
            digest: BASE64_URL_SAFE.decode(digest).unwrap_or_default(),
            left: chunks,
            next: 1,
            read: 0,
            hash: Sha256::new(),
        }))
    }
}

/// The description, unless the object was deleted, or names something that could not be its pieces.
fn readable(payload: &[u8]) -> Option<Description> {
    let found: Description = serde_json::from_slice(payload).ok()?;
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    Some(found).filter(|found| !found.deleted && is_token(&found.nuid))
}

impl StoredObject {
    /// Its size in bytes, as its description has it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece. `None`: there is none any more, and what came is whole. The last piece comes only if it is.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.left == 0 {
            return Ok(None);
        }
        let found = self.bus.next_from(&self.stream, &self.pieces, self.next).await?;
        let piece = found.ok_or_else(|| ReadError::new(&"a piece of the object is gone"))?;
        self.left -= 1;
        self.next = piece.sequence + 1;
        self.read += u64::try_from(piece.payload.len()).unwrap_or(u64::MAX);
        self.hash.update(&piece.payload);
        let is_whole = self.left > 0
            || (self.read == self.size && self.hash.clone().finalize().as_slice() == self.digest);
        if self.read > self.size || !is_whole {
            return Err(ReadError::new(&"the object is not what its description says"));
        }
        Ok(Some(piece.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deleted_or_leads_elsewhere_is_not_read() {
        for (payload, want) in [
            (r#"{"nuid":"Ab-1_","size":3,"chunks":1,"digest":"SHA-256=x"}"#, Some("Ab-1_")),
            (r#"{"nuid":"Ab1","deleted":true}"#, None),
            (r#"{"nuid":">"}"#, None),
            (r#"{"nuid":"a.b"}"#, None),
            (r#"{"nuid":""}"#, None),
            ("{}", None),
            ("nothing", None),
        ] {
            assert_eq!(readable(payload.as_bytes()).map(|found| found.nuid).as_deref(), want, "{payload}");
        }
    }
}
