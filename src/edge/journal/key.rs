//! The keys that sessions on the bus are encrypted with (`SESSION_KEY`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

/// How many keys there may be. Two are enough to replace one by another.
const MOST: usize = 8;
/// How many bytes a key has.
const LENGTH: usize = 32;

/// Why a text is no list of keys. It never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Nothing is in it.
    #[error("there is no key in it")]
    None,
    /// One is no key.
    #[error("key {0} is not 32 bytes in base64; `openssl rand -base64 32` makes one")]
    Malformed(usize),
    /// The same one twice: one of them was to be another.
    #[error("key {0} is the same as one before it")]
    Twice(usize),
    /// There are too many.
    #[error("there are more than {MOST} keys")]
    TooMany,
}

/// One or several keys. The first one encrypts, all of them decrypt.
#[derive(Clone)]
pub struct SessionKeys(Vec<Key>);

/// One of them.
#[derive(Clone)]
pub(super) struct Key {
    /// By this a record says which key it needs. It tells nothing of the key.
    pub(super) id: [u8; 8],
    /// From this the key of each record is made.
    material: Prk,
}

/// The length of what is derived.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn new(secret: &[u8; LENGTH]) -> Self {
        let material = Salt::new(HKDF_SHA256, b"whatsapp-connector session 1").extract(secret);
        let mut key = Self { id: [0; 8], material };
        let mut id = [0; 8];
        key.derive(&[b"id"], &mut id);
        key.id = id;
        key
    }

    /// Bytes that only who has the key can make, and that follow from `what`.
    pub(super) fn derive(&self, what: &[&[u8]], out: &mut [u8]) {
        let made = self.material.expand(what, Bytes(out.len())).and_then(|made| made.fill(out));
        // Only lengths above 8,160 bytes fail.
        debug_assert!(made.is_ok(), "too much is derived");
    }
}

impl SessionKeys {
    /// Reads keys of 32 bytes in base64, with commas or white space between them.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let mut keys: Vec<Key> = Vec::new();
        for (at, word) in words.enumerate() {
            let place = at + 1;
            if at >= MOST {
                return Err(BadKey::TooMany);
            }
            let secret = STANDARD.decode(word).map_err(|_| BadKey::Malformed(place))?;
            let secret: [u8; LENGTH] = secret.try_into().map_err(|_| BadKey::Malformed(place))?;
            let key = Key::new(&secret);
            if keys.iter().any(|other| other.id == key.id) {
                return Err(BadKey::Twice(place));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(BadKey::None) } else { Ok(Self(keys)) }
    }

    /// Only the one that encrypts.
    pub fn only_first(&self) -> Self {
        Self(self.0.iter().take(1).cloned().collect())
    }

    /// The one that encrypts.
    pub(super) fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    /// The one that a record names.
    pub(super) fn named(&self, id: &[u8]) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_keys_is_read_and_never_shown() {
        let one = STANDARD.encode([1; LENGTH]);
        let two = STANDARD.encode([2; LENGTH]);
        let short = STANDARD.encode([3; 31]);
        for (text, want) in [
            (one.clone(), Ok(1)),
            (format!("{one},{two}"), Ok(2)),
            (format!(" {one}\n{two}\n"), Ok(2)),
            (String::new(), Err(BadKey::None)),
            (" , ".to_owned(), Err(BadKey::None)),
            (format!("{one},{short}"), Err(BadKey::Malformed(2))),
            ("secret!".to_owned(), Err(BadKey::Malformed(1))),
            (format!("{one},{one}"), Err(BadKey::Twice(2))),
            (
                (0..9).map(|n| STANDARD.encode([n; LENGTH])).collect::<Vec<_>>().join(","),
                Err(BadKey::TooMany),
            ),
        ] {
            let read = SessionKeys::parse(&text);
            if let Err(error) = &read {
                assert!(text.is_empty() || !error.to_string().contains(text.as_str()));
            }
            assert_eq!(read.map(|keys| keys.0.len()), want);
        }
        let keys = SessionKeys::parse(&one).unwrap();
        assert_eq!(format!("{keys:?}"), "SessionKeys(1)");
    }

    #[test]
    fn a_record_names_its_key_and_others_are_other_keys() {
        let (one, two) = (STANDARD.encode([1; LENGTH]), STANDARD.encode([2; LENGTH]));
        let both = SessionKeys::parse(&format!("{one},{two}")).unwrap();
        let second = SessionKeys::parse(&two).unwrap().first().unwrap().id;
        assert_ne!(both.first().unwrap().id, second);
        assert_eq!(both.named(&second).unwrap().id, second);
        assert!(SessionKeys::parse(&one).unwrap().named(&second).is_none());
    }
}
