//! Reads an object piece by piece, and hands out the last piece only if all of it is what its description says.

use std::collections::VecDeque;

use bytes::Bytes;
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
        let (bus, here, hash) = (self.clone(), VecDeque::new(), Sha256::new());
        Ok(Some(StoredObject { bus, object, here, next: 1, read: 0, hash }))
    }
}

impl StoredObject {
    /// Its size in bytes, as its description has it.
    pub fn size(&self) -> u64 {
        self.object.size
    }

    /// The next piece. `None`: there is none any more, and what came is whole.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.read == self.object.size {
            return Ok(None);
        }
        if self.here.is_empty() {
            let asked = self.bus.pieces(&self.object, self.next).await;
            let (found, next) = asked.map_err(|error| ReadError::new(&error))?;
            self.here = found.into();
            self.next = next;
        }
        let piece = self.here.pop_front();
        let piece = piece.ok_or_else(|| ReadError::new(&"a piece of the object is gone"))?;
        self.read += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.hash.update(&piece);
        let is_last = self.read >= self.object.size;
        let is_right = || self.hash.clone().finalize().as_slice() == self.object.sha256;
        if self.read > self.object.size || (is_last && !is_right()) {
            return Err(ReadError::new(&"the object is not what its description says"));
        }
        Ok(Some(piece))
    }
}
