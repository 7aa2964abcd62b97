//! A pool of edges: which accounts there are, and what edges tell each other. JSON, so that a person can read it with
//! `nats kv`. Fields are only ever added.

use serde::{Deserialize, Serialize};

/// An account of the pool: a value of the bucket `WA_ACCOUNTS`, under the account's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// No edge works for it, until this is taken away. Its session stays.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// With this phone number the edge asks for a code to link it, as `WHATSAPP_PAIR_PHONE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_phone: Option<String>,
    /// In place of `SEND_PER_CHAT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_per_chat: Option<String>,
    /// In place of `SEND_TOTAL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_total: Option<String>,
}

/// What an edge of a pool says of itself every second, over core NATS. It decides which edge takes an account first, and
/// never which one has it: that does the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beat {
    /// As it is named in leases.
    pub edge: String,
    /// For how many accounts it works at most.
    pub capacity: usize,
    /// For how many it works.
    pub accounts: usize,
    /// How many do not start there, and are left alone for a while.
    #[serde(skip_serializing_if = "is_zero")]
    pub parked: usize,
    /// It is about to end, and takes none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Entry {
    /// `None`: it is none. What a newer version has added is passed over.
    pub fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    /// As it is stored.
    pub fn write(&self) -> Vec<u8> {
        // Plain data always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Beat {
    /// `None`: it is none.
    pub fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok().filter(|beat: &Self| !beat.edge.is_empty())
    }

    /// As it is said.
    pub fn write(&self) -> Vec<u8> {
        // Plain data always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_a_person_would_write_and_newer_fields_are_passed_over() {
        assert_eq!(Entry::read(b"{}"), Some(Entry::default()));
        let paused = Entry { paused: true, ..Entry::default() };
        assert_eq!(Entry::read(br#"{"paused":true,"color":"red"}"#), Some(paused.clone()));
        assert_eq!(paused.write(), br#"{"paused":true}"#);
        assert_eq!((Entry::read(b""), Entry::read(b"on"), Beat::read(b"{}")), (None, None, None));
    }
}
