//! A file on this machine → an object in the bucket of files, and what kind of message it makes.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::request::Kind;
use crate::bus::{Bus, ObjectError};
use crate::wire::{Subjects, now_ms};

/// How much is read at a time.
const PART: usize = 128 * 1024;
/// An object of this content that is no older is used again: it stays long enough for its message.
const YOUNG: Duration = Duration::from_secs(3_600);

/// Why a file is not in the bucket.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("--file {path}: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The bucket does not take it.
    #[error("the file cannot be put into the bucket: {0}. It takes files if an edge runs with MEDIA=all")]
    Bucket(#[from] ObjectError),
}

/// Puts the file into the bucket, and returns the object's name, which is made of its content. It is read twice and never
/// held in memory.
pub(super) async fn put(bus: &Bus, subjects: &Subjects, path: &Path) -> Result<String, FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.display().to_string(), error };
    let mut hash = Sha256::new();
    let mut file = File::open(path).await.map_err(unreadable)?;
    let mut part = vec![0; PART];
    loop {
        let length = file.read(&mut part).await.map_err(unreadable)?;
        let Some(read) = part.get(..length).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("sent/{name}");
    // Who may not read puts it there once more.
    let known = bus.described(&subjects.bucket_media(), &key).await.ok();
    let young_ms = now_ms().saturating_sub(i64::try_from(YOUNG.as_millis()).unwrap_or_default());
    if known.is_some_and(|known| known.sha256 == hash && known.written_ms > young_ms) {
        return Ok(key);
    }
    let mut file = File::open(path).await.map_err(unreadable)?;
    let mut object = bus.begin_object(subjects);
    loop {
        let length = file.read(&mut part).await.map_err(unreadable)?;
        let Some(read) = part.get(..length).filter(|read| !read.is_empty()) else { break };
        object.write(read).await?;
    }
    object.finish(&key).await?;
    Ok(key)
}

/// What a file of this name is sent as, and what it is. What phones do not show as something else is a document.
pub(super) fn kind(path: &Path) -> (Kind, &'static str) {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match ending.as_str() {
        "jpg" | "jpeg" => (Kind::Image, "image/jpeg"),
        "png" => (Kind::Image, "image/png"),
        "mp4" => (Kind::Video, "video/mp4"),
        "3gp" => (Kind::Video, "video/3gpp"),
        "ogg" | "opus" => (Kind::Voice, "audio/ogg; codecs=opus"),
        "mp3" => (Kind::Audio, "audio/mpeg"),
        "m4a" => (Kind::Audio, "audio/mp4"),
        "aac" => (Kind::Audio, "audio/aac"),
        "amr" => (Kind::Audio, "audio/amr"),
        "webp" => (Kind::Sticker, "image/webp"),
        "pdf" => (Kind::Document, "application/pdf"),
        "txt" => (Kind::Document, "text/plain"),
        "csv" => (Kind::Document, "text/csv"),
        "zip" => (Kind::Document, "application/zip"),
        "gif" => (Kind::Document, "image/gif"),
        "docx" => (Kind::Document, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        "xlsx" => (Kind::Document, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        _ => (Kind::Document, "application/octet-stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_what_a_file_is() {
        for (path, want) in [
            ("menu.PDF", (Kind::Document, "application/pdf")),
            ("a.b/foto.JPeG", (Kind::Image, "image/jpeg")),
            ("nota.ogg", (Kind::Voice, "audio/ogg; codecs=opus")),
            ("sticker.webp", (Kind::Sticker, "image/webp")),
            ("unknown", (Kind::Document, "application/octet-stream")),
            (".jpg", (Kind::Document, "application/octet-stream")),
        ] {
            assert_eq!(kind(Path::new(path)), want, "{path}");
        }
    }
}
