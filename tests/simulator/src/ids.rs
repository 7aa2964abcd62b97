//! Names of things: phone numbers, hidden ids (LIDs), message ids, keys and bytes, instants.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::RngExt as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wacore_binary::Jid;

/// A phone number: 5 to 15 digits, country code first, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PhoneNumber(String);

/// Why a text is not a [`PhoneNumber`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a phone number: write 5 to 15 digits with the country code, no `+`, spaces or dashes, such as 5491112345678"
)]
pub(crate) struct PhoneNumberError(String);

impl FromStr for PhoneNumber {
    type Err = PhoneNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        if digits && (5..=15).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PhoneNumberError(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = PhoneNumberError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PhoneNumber {
    /// The digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The hidden id that belongs to this number. It is derived, so that it is the same in every
    /// run, and has 15 digits like those of the real network.
    pub(crate) fn lid(&self) -> String {
        let digest = Sha256::digest(format!("lid of {}", self.0));
        let mut head = [0u8; 8];
        head.copy_from_slice(&digest[..8]);
        let number = u64::from_be_bytes(head) % 900_000_000_000_000 + 100_000_000_000_000;
        number.to_string()
    }

    /// Stands for a client that is nobody's device. No phone can have this number.
    pub(crate) fn nobody() -> Self {
        Self(String::from("0"))
    }

    /// The phone-number form of the JID of one device.
    pub(crate) fn pn_jid(&self, device: u16) -> Jid {
        Jid::pn_device(self.as_str(), device)
    }

    /// The hidden form of the JID of one device.
    pub(crate) fn lid_jid(&self, device: u16) -> Jid {
        Jid::lid_device(self.lid(), device)
    }
}

/// A 32-byte key, written as base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key32(pub(crate) [u8; 32]);

impl Key32 {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Bytes, written as base64.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

/// A [`Blob`] for a file, which debug output leaves out.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct BlobText(pub(crate) Blob);

impl std::fmt::Debug for BlobText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.0.len())
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Key32 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Key32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let blob = Blob::deserialize(deserializer)?;
        Self::from_slice(&blob.0).ok_or_else(|| serde::de::Error::custom("expected 32 bytes"))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// A fresh message id as phones make them: `3EB0` and 18 hex digits.
pub(crate) fn new_message_id() -> String {
    format!("3EB0{}", random_hex(9))
}

/// `bytes` random bytes in upper-case hex.
pub(crate) fn random_hex(bytes: usize) -> String {
    let mut rng = rand::rng();
    (0..bytes).map(|_| format!("{:02X}", rng.random::<u8>())).collect()
}

/// Seconds since the epoch.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Now, in milliseconds since the epoch.
pub(crate) fn unix_now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Now, as RFC 3339 in UTC.
pub(crate) fn rfc3339_now() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

/// Seconds since the epoch as RFC 3339 in UTC; a number out of range is the epoch.
pub(crate) fn rfc3339_unix(seconds: u64) -> String {
    let instant = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    rfc3339(instant)
}

fn rfc3339(instant: OffsetDateTime) -> String {
    instant.format(&Rfc3339).unwrap_or_else(|_| String::from("1970-01-01T00:00:00Z"))
}

/// Reads an instant written as RFC 3339 or as seconds since the epoch.
pub(crate) fn parse_instant(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds);
    }
    let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(instant.unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_is_digits_only() {
        assert!("5491112345678".parse::<PhoneNumber>().is_ok());
        for bad in ["", "1234", "+5491112345678", "54 911", "1234567890123456", "54911x2345"] {
            assert!(bad.parse::<PhoneNumber>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lid_is_stable_and_has_15_digits() -> Result<(), PhoneNumberError> {
        let number: PhoneNumber = "5491112345678".parse()?;
        assert_eq!(number.lid(), number.lid());
        assert_eq!(number.lid().len(), 15);
        assert_ne!(number.lid(), "5491112345679".parse::<PhoneNumber>()?.lid());
        Ok(())
    }

    #[test]
    fn an_instant_is_rfc3339_or_unix_seconds() {
        assert_eq!(parse_instant("1700000000"), Some(1_700_000_000));
        assert_eq!(parse_instant("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(rfc3339_unix(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(parse_instant("yesterday"), None);
    }
}
