//! The bucket of files: its stream, and the subjects of an object's parts. As NATS object stores have them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;

use super::Subjects;

impl Subjects {
    /// The stream behind [`Self::bucket_media`].
    pub fn stream_media(&self) -> String {
        format!("OBJ_{}", self.bucket_media())
    }

    /// All that the bucket holds: pieces and descriptions.
    pub fn all_media(&self) -> [String; 2] {
        ["C", "M"].map(|part| format!("$O.{}.{part}.>", self.bucket_media()))
    }

    /// The pieces of one object.
    pub fn media_pieces(&self, token: &str) -> String {
        format!("$O.{}.C.{token}", self.bucket_media())
    }

    /// The description of the object with this name.
    pub fn media_description(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket_media(), BASE64_URL_SAFE.encode(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
