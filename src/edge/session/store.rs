//! The library's session store, with one gap closed.
//!
//! The library advances a Signal ratchet in memory. It writes the ratchet and the decrypted message to disk
//! separately. A flush for another chat may write the ratchet first. If the process is killed between the two
//! writes, WhatsApp redelivers the message, but it cannot be decrypted a second time and has no stored copy. The
//! library then takes it for a message that was handled long ago, and acknowledges it: the message is lost. (Found
//! by killing the edge in the middle of traffic; whatsapp-rust 0.7.0.)
//!
//! Two changes make the loss visible and repair it. First, when the hook has stored a message, an empty copy stays
//! behind. So "no copy" has one meaning only: lost on the way to the disk. Second, such a message is not
//! acknowledged but requested again: its sender encrypts it anew, under the same id.
//!
//! What is written for each message goes through `commits`, in the order in which the library gives it. The library
//! waits for ratchets. The copy, its emptying and what is sent are written with the next ratchet, or a moment later. If
//! the process is killed in that moment, and WhatsApp hands the message over again:
//!
//! - The ratchet is not on the disk either. The message is decrypted once more. If it is on the bus, its id is known
//!   there.
//! - The ratchet is on the disk. So is the copy, which was queued before it, and the hook gets that.
//!
//! What is sent is on the disk before the bus hears that it is sent (`Connection::kept`).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use whatsapp_rust::Jid;
use whatsapp_rust::async_trait;
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::traits::*;
use whatsapp_rust::wacore;
use whatsapp_rust::wacore::appstate::hash::HashState;
use whatsapp_rust::wacore::appstate::processor::AppStateMutationMAC;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::changes::Change;
use super::commits::{Commits, commits};
use super::gate::Gate;
use super::home::Database;
use super::resend::{Resends, waiting_for};
use super::sent;
use super::tokens::Tokens;
use super::unkeyed::Unkeyed;
use crate::crash;

/// A message that WhatsApp redelivers and that cannot be decrypted any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// The chat's JID.
    pub chat: String,
    /// The sender's JID, with its device.
    pub sender: String,
    /// WhatsApp's id of the message.
    pub id: String,
    /// This device's own registration id, by which the sender recognises it.
    pub registration_id: u32,
}

/// How many lost messages may wait to be requested. More are not requested now. They are not acknowledged either,
/// so they come again with the next connection.
pub(super) const LOST_WAITING: usize = 4_096;

/// The store that the library uses.
pub(super) struct Store {
    inner: SqliteStore,
    database: Database,
    commits: Arc<Commits>,
    tokens: Tokens,
    resends: Resends,
    gate: Gate,
    lost: mpsc::Sender<Lost>,
    unkeyed: Unkeyed,
}

impl Store {
    /// `lost` gets every message that must be requested again. Its chat is held until it comes.
    pub(super) fn new(database: Database, resends: Resends, gate: Gate, lost: mpsc::Sender<Lost>) -> Self {
        let commits = Arc::new(commits(database.clone()));
        let inner = database.store().clone();
        Self {
            inner,
            database,
            commits,
            tokens: Tokens::default(),
            resends,
            gate,
            lost,
            unkeyed: Unkeyed::new(),
        }
    }

    /// What writes the changes. Some are written a moment later.
    pub(super) fn commits(&self) -> Arc<Commits> {
        Arc::clone(&self.commits)
    }

    /// What `write` writes is durable when this returns.
    async fn durably<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        let written = write.await?;
        self.database.durable().await?;
        Ok(written)
    }

    async fn written(&self, changes: impl IntoIterator<Item = Change>) -> Result<()> {
        let changes: Vec<_> = changes.into_iter().collect();
        if changes.is_empty() { Ok(()) } else { self.commits.written(changes).await }
    }

    async fn later(&self, changes: impl IntoIterator<Item = Change>) -> Result<()> {
        let changes: Vec<_> = changes.into_iter().collect();
        if changes.is_empty() { Ok(()) } else { self.commits.later(changes).await }
    }
}

/// Implements a trait of the library: each call goes to the inner store, except those that are written out in full.
/// What a call writes is durable when it returns.
macro_rules! handed_on {
    ($trait:ident {
        reads { $(fn $read:ident($($asks:ident: $of:ty),*) -> $found:ty;)* }
        writes { $(fn $write:ident($($arg:ident: $type:ty),*) -> $result:ty;)* }
        $(own { $($own:tt)* })?
    }) => {
        #[async_trait]
        impl $trait for Store {
            $(
                async fn $read(&self, $($asks: $of),*) -> $found {
                    $trait::$read(&self.inner, $($asks),*).await
                }
            )*
            $(
                async fn $write(&self, $($arg: $type),*) -> $result {
                    let written = $trait::$write(&self.inner, $($arg),*).await?;
                    self.database.durable().await?;
                    Ok(written)
                }
            )*
            $($($own)*)?
        }
    };
}

handed_on! {
    SignalStore {
        reads {
            fn load_identity(address: &str) -> Result<Option<[u8; 32]>>;
            fn get_session(address: &str) -> Result<Option<Bytes>>;
            fn has_session(address: &str) -> Result<bool>;
            fn has_signal_state_for_user(user: &str) -> Result<bool>;
            fn load_prekey(id: u32) -> Result<Option<Bytes>>;
            fn load_prekeys_batch(ids: &[u32]) -> Result<Vec<(u32, Bytes)>>;
            fn get_max_prekey_id() -> Result<u32>;
            fn load_signed_prekey(id: u32) -> Result<Option<Vec<u8>>>;
            fn load_all_signed_prekeys() -> Result<Vec<(u32, Vec<u8>)>>;
            fn get_sender_key(address: &str) -> Result<Option<Vec<u8>>>;
        }
        writes {
            fn put_identity(address: &str, key: [u8; 32]) -> Result<()>;
            fn delete_identity(address: &str) -> Result<()>;
            fn put_session(address: &str, session: &[u8]) -> Result<()>;
            fn delete_session(address: &str) -> Result<()>;
            fn store_prekey(id: u32, record: &[u8], uploaded: bool) -> Result<()>;
            fn store_prekeys_batch(keys: &[(u32, Bytes)], uploaded: bool) -> Result<()>;
            fn mark_prekeys_uploaded(ids: &[u32]) -> Result<()>;
            fn store_signed_prekey(id: u32, record: &[u8]) -> Result<()>;
            fn remove_signed_prekey(id: u32) -> Result<()>;
            fn put_sender_key(address: &str, record: &[u8]) -> Result<()>;
            fn put_sender_keys_batch(sender_keys: &[(Arc<str>, Bytes)]) -> Result<()>;
            fn delete_sender_key(address: &str) -> Result<()>;
        }
        own {
            async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
                self.written(sessions.iter().cloned().map(|(address, record)| Change::Session(address, record))).await
            }

            async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
                self.written(identities.iter().cloned().map(|(address, key)| Change::Identity(address, key))).await
            }

            async fn remove_prekey(&self, id: u32) -> Result<()> {
                self.written([Change::UsedPreKey(id)]).await
            }
        }
    }
}

handed_on! {
    AppSyncStore {
        reads {
            fn get_sync_key(key_id: &[u8]) -> Result<Option<AppStateSyncKey>>;
            fn get_version(name: &str) -> Result<HashState>;
            fn get_mutation_mac(name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>>;
            fn get_mutation_macs(name: &str, index_macs: &[[u8; 32]]) -> Result<HashMap<[u8; 32], Vec<u8>>>;
            fn get_latest_sync_key_id() -> Result<Option<Vec<u8>>>;
        }
        writes {
            fn set_sync_key(key_id: &[u8], key: AppStateSyncKey) -> Result<()>;
            fn set_version(name: &str, state: HashState) -> Result<()>;
            fn put_mutation_macs(name: &str, version: u64, mutations: &[AppStateMutationMAC]) -> Result<()>;
            fn delete_mutation_macs(name: &str, index_macs: &[Vec<u8>]) -> Result<()>;
            fn clear_mutation_macs(name: &str) -> Result<()>;
        }
    }
}

handed_on! {
    ProtocolStore {
        reads {
            fn get_sender_key_devices(group_jid: &str) -> Result<Vec<(String, bool)>>;
            fn get_lid_mapping(lid: &str) -> Result<Option<LidPnMappingEntry>>;
            fn get_pn_mapping(phone: &str) -> Result<Option<LidPnMappingEntry>>;
            fn get_all_lid_mappings() -> Result<Vec<LidPnMappingEntry>>;
            fn has_same_base_key(address: &str, message_id: &str, current_base_key: &[u8]) -> Result<bool>;
            fn get_devices(user: &str) -> Result<Option<DeviceListRecord>>;
            fn get_group_metadata(group_jid: &str) -> Result<Option<Vec<u8>>>;
            fn get_all_tc_token_jids() -> Result<Vec<String>>;
        }
        writes {
            fn set_sender_key_status(group_jid: &str, entries: &[(&str, bool)]) -> Result<()>;
            fn clear_sender_key_devices(group_jid: &str) -> Result<()>;
            fn delete_sender_key_device_rows(device_jids: &[&str]) -> Result<()>;
            fn clear_all_sender_key_devices() -> Result<()>;
            fn put_lid_mapping(entry: &LidPnMappingEntry) -> Result<()>;
            fn put_lid_mappings(entries: &[LidPnMappingEntry]) -> Result<()>;
            fn save_base_key(address: &str, message_id: &str, base_key: &[u8]) -> Result<()>;
            fn delete_base_key(address: &str, message_id: &str) -> Result<()>;
            fn update_device_list(record: DeviceListRecord) -> Result<()>;
            fn update_device_lists(records: Vec<DeviceListRecord>) -> Result<()>;
            fn delete_devices(user: &str) -> Result<()>;
            fn put_group_metadata(group_jid: &str, blob: &[u8]) -> Result<()>;
            fn delete_group_metadata(group_jid: &str) -> Result<()>;
            fn delete_expired_sent_messages(cutoff_timestamp: i64) -> Result<u32>;
            fn store_pending_inbound(chat: &str, sender: &str, id: &str, message: &[u8]) -> Result<()>;
            fn delete_pending_inbound(chat: &str, sender: &str, id: &str) -> Result<()>;
            fn delete_expired_pending_inbound(cutoff_timestamp: i64) -> Result<u32>;
        }
        own {
            async fn get_tc_token(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
                self.tokens.of(jid, self.inner.get_tc_token(jid)).await
            }

            async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> Result<()> {
                self.tokens.change(Some(jid), self.durably(self.inner.put_tc_token(jid, entry))).await
            }

            async fn delete_tc_token(&self, jid: &str) -> Result<()> {
                self.tokens.change(Some(jid), self.durably(self.inner.delete_tc_token(jid))).await
            }

            async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
                let delete = self.inner.delete_expired_tc_tokens(token_cutoff, sender_cutoff);
                self.tokens.change(None, self.durably(delete)).await
            }

            async fn touch_tc_token_sender_timestamp(&self, jid: &str, sender_timestamp: i64) -> Result<()> {
                let touch = self.inner.touch_tc_token_sender_timestamp(jid, sender_timestamp);
                self.tokens.change(Some(jid), self.durably(touch)).await
            }

            async fn store_received_tc_token(&self, jid: &str, token: &[u8], token_timestamp: i64) -> Result<()> {
                let store = self.inner.store_received_tc_token(jid, token, token_timestamp);
                self.tokens.change(Some(jid), self.durably(store)).await
            }

            async fn get_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<Option<Vec<u8>>> {
                // It may have been emptied a moment ago.
                self.commits.settled().await;
                let copy = self.inner.get_pending_inbound(chat, sender, id).await?;
                if copy.is_none() {
                    // This must happen before the library goes on to the chat's next message.
                    if self.resends.not_there(&who_waits(chat, sender), id) {
                        let device = self.inner.load().await?;
                        // Refused when too many wait, or when the session is ending. The message then comes again.
                        let _ = self.lost.try_send(Lost {
                            chat: chat.to_owned(),
                            sender: sender.to_owned(),
                            id: id.to_owned(),
                            registration_id: device.map_or(0, |device| device.registration_id),
                        });
                    }
                    // This error keeps the library from acknowledging the message.
                    return Err(StoreError::Validation("the message has to come again".to_owned()));
                }
                Ok(copy)
            }

            async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
                let rows = rows.iter().filter(|row| !crash::switched_off_for("copy", row.id));
                self.later(rows.map(|row| copy(row.chat, row.sender, row.id, row.message))).await
            }

            async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
                self.later(keys.iter().map(|key| copy(key.chat, key.sender, key.id, &[]))).await
            }

            async fn store_sent_message(&self, chat_jid: &str, message_id: &str, payload: &[u8]) -> Result<()> {
                let (chat, id, message) = (chat_jid.to_owned(), message_id.to_owned(), payload.to_vec());
                self.commits.soon(vec![Change::Sent { chat, id, message }]).await
            }

            async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
                self.gate.answering();
                // It may have been sent a moment ago.
                self.commits.settled().await;
                let sent = if crash::switched_off("sent-stays") {
                    self.durably(self.inner.take_sent_message(chat_jid, message_id)).await?
                } else {
                    sent::read(&self.inner, chat_jid, message_id).await?
                };
                if sent.is_none() && self.unkeyed.is_due(chat_jid) {
                    // A member's phone asks for what is not here any more. The library passes that over, and would not
                    // give the member the group's key for the next message either. Now everybody gets it with that.
                    self.durably(self.inner.clear_sender_key_devices(chat_jid)).await?;
                }
                Ok(sent)
            }
        }
    }
}

/// Who waits for the message of this sender in this chat.
fn who_waits(chat: &str, sender: &str) -> String {
    match (chat.parse::<Jid>(), sender.parse::<Jid>()) {
        (Ok(chat), sender) => waiting_for(&chat, sender.ok().as_ref()),
        (Err(_), _) => chat.to_owned(),
    }
}

fn copy(chat: &str, sender: &str, id: &str, message: &[u8]) -> Change {
    let (chat, sender, id) = (chat.to_owned(), sender.to_owned(), id.to_owned());
    Change::Copy { chat, sender, id, message: message.to_vec() }
}

handed_on! {
    MsgSecretStore {
        reads {
            fn get_msg_secret(chat: &str, sender: &str, msg_id: &str) -> Result<Option<Vec<u8>>>;
            fn get_msg_secret_with_ts(chat: &str, sender: &str, msg_id: &str) -> Result<Option<(Vec<u8>, i64)>>;
        }
        writes {
            fn put_msg_secret(chat: &str, sender: &str, msg_id: &str, secret: &[u8; wacore::reporting_token::MESSAGE_SECRET_SIZE]) -> Result<()>;
            fn delete_expired_msg_secrets(cutoff_timestamp: i64) -> Result<u32>;
        }
        own {
            /// The library itself writes these behind: until they are written it has them in memory, and so they have time.
            async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
                let count = entries.len();
                if count > 0 {
                    self.commits.written_sometime(entries.into_iter().map(Change::Secret).collect()).await?;
                }
                Ok(count)
            }
        }
    }
}

handed_on! {
    DeviceStore {
        reads {
            fn load() -> Result<Option<wacore::store::Device>>;
            fn exists() -> Result<bool>;
            fn resource_report() -> wacore::stats::StorageResourceReport;
        }
        writes {
            fn save(device: &wacore::store::Device) -> Result<()>;
            fn create() -> Result<i32>;
            fn snapshot_db(name: &str, extra_content: Option<&[u8]>) -> Result<()>;
        }
    }
}
