//! Reads an object piece by piece, and hands out the last piece only if all of it is what its description says.
//!
//! Who wants it again opens it again: nothing of it is kept.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::Stream;
use sha2::{Digest as _, Sha256};

use super::{Bus, Described, ReadError, Unreadable};
use crate::wire::Subjects;

/// An object that is being read.
#[derive(Debug)]
pub struct StoredObject {
    bus: Bus,
    object: Described,
    /// Pieces that have come, and where the next ones are.
    here: VecDeque<Bytes>,
    next: u64,
    read: u64,
    hash: Sha256,
}

impl Bus {
    /// The object with this name in the bucket of files. `None`: there is none that can be read.
    pub async fn object(&self, subjects: &Subjects, name: &str) -> Result<Option<StoredObject>, ReadError> {
        let object = match self.described(&subjects.bucket_media(), name).await {
            Ok(object) => object,
            Err(Unreadable::Missing | Unreadable::Broken) => return Ok(None),
            Err(Unreadable::Forbidden(why)) => return Err(ReadError::Forbidden(why)),
            Err(Unreadable::Away(why)) => return Err(ReadError::Unanswered(why)),
        };
        Ok(Some(self.open(object)))
    }

    /// The object with this description, from its beginning.
    pub fn open(&self, object: Described) -> StoredObject {
        let (bus, here, hash) = (self.clone(), VecDeque::new(), Sha256::new());
        StoredObject { bus, object, here, next: 1, read: 0, hash }
    }
}

impl StoredObject {
    /// Its size in bytes, as its description has it.
    pub fn size(&self) -> u64 {
        self.object.size
    }

    /// The next piece. `None`: there is none any more, and what came is whole.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Unreadable> {
        if self.read == self.object.size {
            return Ok(None);
        }
        if self.here.is_empty() {
            let (found, next) = self.bus.pieces(&self.object, self.next).await?;
            self.here = found.into();
            self.next = next;
        }
        // A piece is gone, or a replica does not have it yet.
        let piece = self.here.pop_front().ok_or(Unreadable::Broken)?;
        self.read += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.hash.update(&piece);
        let is_last = self.read >= self.object.size;
        let is_right = || self.hash.clone().finalize().as_slice() == self.object.sha256;
        if self.read > self.object.size || (is_last && !is_right()) {
            return Err(Unreadable::Broken);
        }
        Ok(Some(piece))
    }

    /// All its pieces, each read when it is asked for.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, Unreadable>> {
        futures::stream::try_unfold(self, async |mut object| {
            let piece = object.piece().await?;
            Ok(piece.map(|piece| (piece, object)))
        })
    }
}
