//! The bucket of files: its stream, and the subjects of an object's parts. As NATS object stores have them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;

use super::Subjects;

/// The longest name of a bucket, in bytes.
const BUCKET: usize = 128;

/// Could there be an object store of this name?
pub fn is_bucket(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=BUCKET).contains(&name.len()) && name.chars().all(is_part)
}

/// The stream behind an object store.
pub fn stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

/// The pieces of one object.
pub fn pieces(bucket: &str, token: &str) -> String {
    format!("$O.{bucket}.C.{token}")
}

/// The description of the object with this name.
pub fn description(bucket: &str, name: &str) -> String {
    format!("$O.{bucket}.M.{}", BASE64_URL_SAFE.encode(name))
}

impl Subjects {
    /// The stream behind [`Self::bucket_media`].
    pub fn stream_media(&self) -> String {
        stream(&self.bucket_media())
    }

    /// All that the bucket holds: pieces and descriptions.
    pub fn all_media(&self) -> [String; 2] {
        ["C", "M"].map(|part| format!("$O.{}.{part}.>", self.bucket_media()))
    }

    /// The pieces of one object.
    pub fn media_pieces(&self, token: &str) -> String {
        pieces(&self.bucket_media(), token)
    }

    /// The description of the object with this name.
    pub fn media_description(&self, name: &str) -> String {
        description(&self.bucket_media(), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_one_token_and_no_wildcard() {
        for (name, legal) in [
            ("WA_MEDIA", true),
            ("menu-2026", true),
            ("", false),
            ("a.b", false),
            ("*", false),
            (">", false),
            ("a b", false),
            ("a\r\nPUB", false),
        ] {
            assert_eq!(is_bucket(name), legal, "{name:?}");
        }
        assert!(is_bucket(&"x".repeat(BUCKET)) && !is_bucket(&"x".repeat(BUCKET + 1)));
    }

    #[test]
    fn the_subjects_are_those_of_an_object_store() {
        let subjects = Subjects::new("wa").unwrap();
        assert_eq!(subjects.stream_media(), "OBJ_WA_MEDIA");
        assert_eq!(subjects.all_media(), ["$O.WA_MEDIA.C.>", "$O.WA_MEDIA.M.>"]);
        assert_eq!(subjects.media_pieces("x"), "$O.WA_MEDIA.C.x");
        assert_eq!(subjects.media_description("a/b?"), "$O.WA_MEDIA.M.YS9iPw==");
        for subject in [subjects.media_pieces("x"), subjects.media_description("a")] {
            assert_eq!(Subjects::stream_of(&subject).as_deref(), Some("OBJ_WA_MEDIA"));
        }
    }
}
