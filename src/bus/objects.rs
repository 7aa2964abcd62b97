//! Objects in a bucket: written piece by piece, and there only when they are complete.
//!
//! An object is its pieces, on a subject of their own, and a description that names them and comes last. What reads
//! the bucket finds an object by its description, so one that was begun and never finished is not seen. Its pieces go
//! with the bucket's age. An object that is written again takes the place of the one before.
//!
//! The form is that of NATS object stores (ADR-20), by hand: async-nats wants to read and purge as well, which needs
//! more permissions, and it does not say whether a refused piece may succeed later.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{AppendError, Bus, Record};
use crate::wire::{Headers, Subjects, header, now_ms};

/// The size of a piece, as other clients have it.
const PIECE: usize = 128 * 1024;
/// How often a publish is repeated whose result is unknown, and the pause before that.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);

/// Why an object is not there.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bucket has no room for it now.
    #[error("the bucket is full")]
    Full,
    /// The bucket does not answer, or there is none.
    #[error("the bucket does not take it: {0}")]
    Away(String),
}

/// An object that is being written.
#[derive(Debug)]
pub struct Object {
    bus: Bus,
    subjects: Subjects,
    /// What the pieces' subject ends with.
    token: String,
    waiting: BytesMut,
    pieces: u64,
    size: u64,
    hash: Sha256,
}

/// The description, as object stores write it.
#[derive(Serialize)]
struct Description<'a> {
    name: &'a str,
    headers: Option<()>,
    options: Options,
    bucket: String,
    nuid: &'a str,
    size: u64,
    mtime: String,
    chunks: u64,
    digest: String,
}

#[derive(Serialize)]
struct Options {
    max_chunk_size: usize,
}

impl Bus {
    /// Begins an object in the bucket of files.
    pub fn begin_object(&self, subjects: &Subjects) -> Object {
        let inbox = self.client.new_inbox();
        // The last part of an inbox is made for this one only.
        let token = inbox.rsplit('.').next().unwrap_or(&inbox).to_owned();
        Object {
            bus: self.clone(),
            subjects: subjects.clone(),
            token,
            waiting: BytesMut::new(),
            pieces: 0,
            size: 0,
            hash: Sha256::new(),
        }
    }
}

impl Object {
    /// Adds bytes. Full pieces are stored when this returns.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= PIECE {
            let piece = self.waiting.split_to(PIECE).freeze();
            self.piece(piece).await?;
        }
        Ok(())
    }

    /// Stores the rest, and then the description under this name. From here on the object is there.
    pub async fn finish(mut self, name: &str) -> Result<(), ObjectError> {
        let rest = self.waiting.split().freeze();
        if !rest.is_empty() {
            self.piece(rest).await?;
        }
        let mtime = time::OffsetDateTime::from_unix_timestamp(now_ms() / 1_000)
            .ok()
            .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
        let description = Description {
            name,
            headers: None,
            options: Options { max_chunk_size: PIECE },
            bucket: self.subjects.bucket_media(),
            nuid: &self.token,
            size: self.size,
            mtime: mtime.unwrap_or_default(),
            chunks: self.pieces,
            digest: format!("SHA-256={}", BASE64_URL_SAFE.encode(self.hash.finalize_reset())),
        };
        let payload =
            serde_json::to_vec(&description).map_err(|error| ObjectError::Away(error.to_string()))?;
        let mut headers = Headers::default();
        headers.set(header::ROLLUP, "sub");
        let subject = self.subjects.media_description(name);
        self.store(&Record { subject, headers, payload: payload.into() }).await
    }

    async fn piece(&mut self, payload: Bytes) -> Result<(), ObjectError> {
        self.hash.update(&payload);
        self.size += u64::try_from(payload.len()).unwrap_or_default();
        self.pieces += 1;
        let mut headers = Headers::default();
        // A piece whose PubAck was lost is not stored twice.
        headers.set(header::MSG_ID, &format!("{}/{}", self.token, self.pieces));
        let record = Record { subject: self.subjects.media_pieces(&self.token), headers, payload };
        self.store(&record).await
    }

    async fn store(&self, record: &Record) -> Result<(), ObjectError> {
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.bus.append(record).await {
                Ok(_) => return Ok(()),
                Err(AppendError::Full(_)) => return Err(ObjectError::Full),
                Err(error @ (AppendError::Impossible(_) | AppendError::Refused | AppendError::Stopped)) => {
                    return Err(ObjectError::Away(error.to_string()));
                }
                Err(AppendError::Unknown(error)) => why = error,
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(ObjectError::Away(why))
    }
}
