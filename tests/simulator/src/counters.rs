//! What happened since the simulator started.

use serde::Serialize;

/// Counts since the start; they do not survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// WebSocket connections accepted.
    pub(crate) connects: u64,
    /// Handshakes finished, by pattern.
    pub(crate) handshakes: Handshakes,
    /// Logins accepted and refused.
    pub(crate) logins: u64,
    pub(crate) logins_refused: u64,
    /// Devices linked.
    pub(crate) pairings: u64,
    /// Messages that customers wrote.
    pub(crate) messages_in: u64,
    /// Messages of clients that were accepted and routed.
    pub(crate) messages_out: u64,
    /// Messages of clients that a customer's phone had received before, by id.
    pub(crate) duplicate_ids: u64,
    /// Messages to nobody on this WhatsApp.
    pub(crate) unroutable: u64,
    /// Pings that were answered.
    pub(crate) pings: u64,
    /// Receipts that clients sent.
    pub(crate) receipts: u64,
    /// Requests of clients to send a message again.
    pub(crate) retry_requests: u64,
    /// Messages that a phone could not decrypt.
    pub(crate) undecryptable: u64,
    /// Messages of clients with a Signal key that had come before for another message.
    pub(crate) keys_used_twice: u64,
    /// Stanzas sent again by a fault.
    pub(crate) redelivered: u64,
    /// What faults held back.
    pub(crate) nacks: u64,
    pub(crate) acks_muted: u64,
    pub(crate) receipts_muted: u64,
    /// Prekey bundles handed out for clients' devices without a one-time key.
    pub(crate) bundles_without_one_time_key: u64,
    /// Stanzas and frames that made no sense.
    pub(crate) malformed: u64,
    /// Look-ups of numbers, and those that a fault refused.
    pub(crate) lookups: u64,
    pub(crate) lookups_refused: u64,
    /// Files that clients have asked for, files that they have uploaded, and requests to a phone to upload one again.
    pub(crate) media_downloads: u64,
    pub(crate) media_uploads: u64,
    pub(crate) media_upload_bytes: u64,
    pub(crate) media_retries: u64,
    /// Keys of groups that clients have given to devices, requests of members' phones to send a message again, and
    /// messages that clients have sent again to one member.
    pub(crate) sender_keys: u64,
    pub(crate) group_retries: u64,
    pub(crate) group_resends: u64,
    /// IQs answered with an empty result because nothing better is known.
    pub(crate) unknown_iqs: u64,
}

/// Finished handshakes by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Handshakes {
    pub(crate) xx: u64,
    pub(crate) ik: u64,
    pub(crate) xxfallback: u64,
}
