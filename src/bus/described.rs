//! Reads objects: what a description says of one, and then its pieces, a few at a time.
//!
//! Direct gets without a consumer, so that one permission for each bucket is enough and nothing is left behind. Whoever
//! wrote the description may say anything in it: who reads the pieces counts and hashes them.

use base64::Engine as _;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::Value;

use super::{Bus, ReadError};
use crate::wire::object;

/// How many pieces one request asks for, and how many bytes. Clients write pieces of 128 KiB; whoever writes larger ones gets
/// them a few at a time.
const AT_ONCE: (usize, usize) = (8, 1 << 20);
/// The longest type of a file that is taken over, in bytes.
const TYPE: usize = 128;

/// An object, as its description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// How long it is, in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: [u8; 32],
    /// What it is, such as `application/pdf`; empty if the description does not say.
    pub mime_type: String,
    /// When it was written, as the writer says. Milliseconds; 0: not known.
    pub written_ms: i64,
    stream: String,
    pieces: String,
}

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// There is none of this name.
    #[error("there is no such object")]
    Missing,
    /// nats-server does not let this user read the bucket.
    #[error("the bucket may not be read: {0}")]
    Forbidden(String),
    /// The bucket does not answer, or there is none.
    #[error("the bucket does not answer: {0}")]
    Away(String),
    /// What is there is no object that can be read: its description is none, or a piece of it is missing.
    #[error("the object is broken")]
    Broken,
}

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Forbidden(why) => Self::Forbidden(why),
            ReadError::Unanswered(why) => Self::Away(why),
        }
    }
}

impl Bus {
    /// What the bucket says of the object with this name. It may come from a follower, and be some seconds old.
    pub async fn described(&self, bucket: &str, name: &str) -> Result<Described, Unreadable> {
        let subject = object::description(bucket, name);
        let found = self.last_of_each(&object::stream(bucket), &subject).await?;
        let description = found.first().ok_or(Unreadable::Missing)?;
        described(bucket, &description.payload)
    }

    /// The next pieces from this place of the stream on, and the place after them. None: there are no more.
    pub async fn pieces(&self, object: &Described, from: u64) -> Result<(Vec<Bytes>, u64), Unreadable> {
        let found = self.up_to(&object.stream, &object.pieces, from, AT_ONCE).await?;
        let next = found.last().map_or(from, |last| last.sequence + 1);
        Ok((found.into_iter().map(|piece| piece.payload).collect(), next))
    }
}

/// Reads a description.
pub(super) fn described(bucket: &str, payload: &[u8]) -> Result<Described, Unreadable> {
    let said: Value = serde_json::from_slice(payload).map_err(|_| Unreadable::Broken)?;
    let text = |field: &str| said.get(field).and_then(Value::as_str).unwrap_or_default();
    if said.get("deleted").and_then(Value::as_bool).unwrap_or_default() {
        return Err(Unreadable::Missing);
    }
    let token = text("nuid");
    let is_token =
        !token.is_empty() && token.len() <= 256 && token.chars().all(|c| c.is_ascii_alphanumeric());
    let sha256 = digest(text("digest")).filter(|_| is_token);
    let (Some(sha256), Some(size)) = (sha256, said.get("size").and_then(Value::as_u64)) else {
        return Err(Unreadable::Broken);
    };
    let written = time::OffsetDateTime::parse(text("mtime"), &time::format_description::well_known::Rfc3339);
    Ok(Described {
        size,
        sha256,
        mime_type: mime_type(&said),
        written_ms: written.map(super::read::ms).unwrap_or_default(),
        stream: object::stream(bucket),
        pieces: object::pieces(bucket, token),
    })
}

/// `SHA-256=` and the hash; some clients leave out the padding.
fn digest(text: &str) -> Option<[u8; 32]> {
    let hash = text.strip_prefix("SHA-256=")?;
    let hash = BASE64_URL_SAFE.decode(hash).or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(hash)).ok()?;
    hash.try_into().ok()
}

/// The header `Content-Type` of the object, or what its metadata has under that name.
fn mime_type(said: &Value) -> String {
    let named = |part: &str| {
        let fields = said.get(part)?.as_object()?;
        let value = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"))?.1;
        value.as_str().or_else(|| value.get(0)?.as_str())
    };
    let found = named("headers").or_else(|| named("metadata")).unwrap_or_default();
    let is_one =
        found.len() <= TYPE && found.contains('/') && found.chars().all(|c| (' '..='~').contains(&c));
    if is_one { found.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(description: &Value) -> Result<Described, String> {
        described("WA_MEDIA", description.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn description() -> Value {
        json!({
            "name": "menu.pdf", "nuid": "NUID", "size": 7, "chunks": 1, "mtime": "1970-01-01T00:00:01Z",
            "digest": format!("SHA-256={}", BASE64_URL_SAFE.encode([9; 32])),
        })
    }

    #[test]
    fn a_description_says_where_an_object_is_and_what() {
        let found = read(&description()).expect("an object");
        assert_eq!((found.size, found.sha256, found.written_ms), (7, [9; 32], 1_000));
        assert_eq!((found.stream.as_str(), found.pieces.as_str()), ("OBJ_WA_MEDIA", "$O.WA_MEDIA.C.NUID"));
        let mut bare = description();
        bare["digest"] = format!("SHA-256={}", BASE64_URL_SAFE_NO_PAD.encode([9; 32])).into();
        assert_eq!(read(&bare).expect("an object").sha256, [9; 32]);
    }

    #[test]
    fn a_type_is_that_of_the_headers_or_the_metadata_and_one_line() {
        for (fields, want) in [
            (json!({}), ""),
            (json!({"headers": {"Content-Type": ["image/png"]}}), "image/png"),
            (json!({"metadata": {"content-type": "image/png"}}), "image/png"),
            (json!({"headers": {"Content-Type": []}, "metadata": {"content-type": "a/b"}}), "a/b"),
            (json!({"headers": {"Content-Type": ["image"]}}), ""),
            (json!({"headers": {"Content-Type": ["image/png\\r\\nX: y".replace("\\r\\n", "\r\n")]}}), ""),
            (json!({"headers": {"Content-Type": [format!("a/{}", "b".repeat(TYPE))]}}), ""),
        ] {
            assert_eq!(mime_type(&fields), want, "{fields}");
        }
    }

    #[test]
    fn what_is_deleted_is_not_there_and_what_names_no_pieces_is_broken() {
        let with = |field: &str, value: Value| {
            let mut description = description();
            description[field] = value;
            read(&description)
        };
        assert_eq!(with("deleted", true.into()), Err("there is no such object".to_owned()));
        for (field, value) in [
            ("nuid", json!("")),
            ("nuid", json!("a.>")),
            ("nuid", json!(7)),
            ("size", json!(-1)),
            ("digest", json!("MD5=abc")),
            ("digest", json!("SHA-256=AAAA")),
        ] {
            assert_eq!(with(field, value.clone()), Err("the object is broken".to_owned()), "{field} {value}");
        }
        assert!(described("WA_MEDIA", b"{").is_err());
    }
}
