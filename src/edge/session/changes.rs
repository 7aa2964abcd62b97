//! Changes of the session's store, as rows of the library's tables.
//!
//! The library writes each change in a transaction of its own. These are the same rows, for transactions of many
//! (`commits`). The test below reads each back with the library's own calls: a table that changes with the library
//! is seen there.

use std::collections::HashSet;
use std::sync::Arc;

use diesel::dsl::case_when;
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, IntoSql as _, QueryDsl as _, RunQueryDsl as _,
    SqliteConnection,
};
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::traits::MsgSecretEntry;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::media::{self, JobChange};
use crate::wire::now_ms;

/// A change.
#[derive(Debug)]
pub(super) enum Change {
    /// The decrypted copy of a message; empty once the message is on the bus.
    Copy {
        /// The chat's JID.
        chat: String,
        /// The sender's JID, with its device.
        sender: String,
        /// WhatsApp's id of the message.
        id: String,
        /// The message, or nothing.
        message: Vec<u8>,
    },
    /// A sent message, for a phone that asks for it again.
    Sent {
        /// The chat's JID.
        chat: String,
        /// WhatsApp's id of the message.
        id: String,
        /// The message.
        message: Vec<u8>,
    },
    /// The secret of a message, with which its edits and reactions are read.
    Secret(MsgSecretEntry),
    /// A ratchet.
    Session(Arc<str>, Bytes),
    /// The identity key of a device.
    Identity(Arc<str>, [u8; 32]),
    /// A prekey that a session has used up.
    UsedPreKey(u32),
    /// A file that is to be fetched.
    Job(JobChange),
}

impl Change {
    /// What a test calls it that has the process killed there.
    pub(super) fn named(&self) -> &str {
        match self {
            Self::Copy { message, .. } if message.is_empty() => "emptied",
            Self::Copy { id, .. } => id,
            Self::Sent { .. } => "sent",
            Self::Secret(_) => "secret",
            Self::Session(..) => "ratchet",
            Self::Identity(..) => "identity",
            Self::UsedPreKey(_) => "pre-key",
            Self::Job(_) => "job",
        }
    }
}

diesel::table! {
    sessions (address, device_id) {
        address -> Text,
        record -> Binary,
        device_id -> Integer,
    }
}
diesel::table! {
    identities (address, device_id) {
        address -> Text,
        key -> Binary,
        device_id -> Integer,
    }
}
diesel::table! {
    prekeys (id, device_id) {
        id -> Integer,
        device_id -> Integer,
    }
}
diesel::table! {
    sent_messages (chat_jid, message_id, device_id) {
        chat_jid -> Text,
        message_id -> Text,
        payload -> Binary,
        device_id -> Integer,
    }
}
diesel::table! {
    pending_inbound_messages (chat, sender, id, device_id) {
        chat -> Text,
        sender -> Text,
        id -> Text,
        message -> Binary,
        device_id -> Integer,
    }
}
diesel::table! {
    msg_secrets (chat, sender, msg_id, device_id) {
        chat -> Text,
        sender -> Text,
        msg_id -> Text,
        secret -> Binary,
        device_id -> Integer,
        created_at -> BigInt,
        expires_at -> BigInt,
        message_ts -> BigInt,
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// The larger one of two.
    #[sql_name = "MAX"]
    fn larger(one: BigInt, other: BigInt) -> BigInt;
}

/// Writes all changes, or none.
pub(super) fn apply(connection: &mut SqliteConnection, device: i32, changes: &[Arc<[Change]>]) -> Result<()> {
    let changes = lasting(changes.iter().flat_map(|call| call.iter()));
    if changes.is_empty() {
        return Ok(());
    }
    connection
        .immediate_transaction(|connection| {
            changes.iter().try_for_each(|change| put(connection, device, change))
        })
        .map_err(|error: diesel::result::Error| StoreError::Database(Box::new(error)))
}

/// The changes that no later one replaces: a copy is often emptied, and a ratchet moved on, in the same transaction.
fn lasting<'a>(changes: impl DoubleEndedIterator<Item = &'a Change>) -> Vec<&'a Change> {
    let (mut copies, mut ratchets) = (HashSet::new(), HashSet::new());
    let mut lasting: Vec<_> = changes
        .rev()
        .filter(|change| match change {
            Change::Copy { chat, sender, id, .. } => copies.insert((chat, sender, id)),
            Change::Session(address, _) => ratchets.insert(address),
            _ => true,
        })
        .collect();
    lasting.reverse();
    lasting
}

fn put(connection: &mut SqliteConnection, device: i32, change: &Change) -> diesel::QueryResult<()> {
    match change {
        Change::Copy { chat, sender, id, message } => {
            use pending_inbound_messages as rows;
            diesel::insert_into(rows::table)
                .values((
                    rows::chat.eq(chat),
                    rows::sender.eq(sender),
                    rows::id.eq(id),
                    rows::message.eq(message),
                    rows::device_id.eq(device),
                ))
                .on_conflict((rows::chat, rows::sender, rows::id, rows::device_id))
                .do_update()
                .set(rows::message.eq(excluded(rows::message)))
                .execute(connection)?;
        }
        Change::Sent { chat, id, message } => {
            use sent_messages as rows;
            diesel::replace_into(rows::table)
                .values((
                    rows::chat_jid.eq(chat),
                    rows::message_id.eq(id),
                    rows::payload.eq(message),
                    rows::device_id.eq(device),
                ))
                .execute(connection)?;
        }
        Change::Secret(entry) => put_secret(connection, device, entry)?,
        Change::Session(address, record) => {
            use sessions as rows;
            let (address, record) = (address.as_ref(), record.as_ref());
            diesel::insert_into(rows::table)
                .values((rows::address.eq(address), rows::record.eq(record), rows::device_id.eq(device)))
                .on_conflict((rows::address, rows::device_id))
                .do_update()
                .set(rows::record.eq(excluded(rows::record)))
                .execute(connection)?;
        }
        Change::Identity(address, key) => {
            use identities as rows;
            let (address, key) = (address.as_ref(), &key[..]);
            diesel::insert_into(rows::table)
                .values((rows::address.eq(address), rows::key.eq(key), rows::device_id.eq(device)))
                .on_conflict((rows::address, rows::device_id))
                .do_update()
                .set(rows::key.eq(excluded(rows::key)))
                .execute(connection)?;
        }
        Change::UsedPreKey(id) => {
            use prekeys as rows;
            // The library keeps these ids as 32 bits with a sign.
            let id = id.cast_signed();
            let row = rows::table.filter(rows::id.eq(id)).filter(rows::device_id.eq(device));
            diesel::delete(row).execute(connection)?;
        }
        Change::Job(change) => media::apply(connection, device, change)?,
    }
    Ok(())
}

/// A second time: the later end counts, and 0 is none at all; of the times of writing the one that is known.
fn put_secret(
    connection: &mut SqliteConnection,
    device: i32,
    entry: &MsgSecretEntry,
) -> diesel::QueryResult<()> {
    use msg_secrets as rows;
    // With text of SQL in it diesel would have the statement compiled for each row again.
    let endless = rows::expires_at.eq(0).or(excluded(rows::expires_at).eq(0));
    let ends = case_when(endless, 0_i64.into_sql::<BigInt>())
        .otherwise(larger(rows::expires_at, excluded(rows::expires_at)));
    let written = larger(rows::message_ts, excluded(rows::message_ts));
    diesel::insert_into(rows::table)
        .values((
            rows::chat.eq(entry.chat.as_ref()),
            rows::sender.eq(entry.sender.as_ref()),
            rows::msg_id.eq(entry.msg_id.as_ref()),
            rows::secret.eq(&entry.secret[..]),
            rows::device_id.eq(device),
            rows::created_at.eq(now_ms() / 1_000),
            rows::expires_at.eq(entry.expires_at),
            rows::message_ts.eq(entry.message_ts),
        ))
        .on_conflict((rows::chat, rows::sender, rows::msg_id, rows::device_id))
        .do_update()
        .set((
            rows::secret.eq(excluded(rows::secret)),
            rows::created_at.eq(excluded(rows::created_at)),
            rows::expires_at.eq(ends),
            rows::message_ts.eq(written),
        ))
        .execute(connection)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::store::SqliteStore;
    use whatsapp_rust::traits::*;

    use super::super::commits::commits;
    use super::*;

    #[tokio::test]
    async fn the_library_reads_each_row_as_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store.db");
        let store = SqliteStore::new(path.to_str().expect("a path")).await.expect("a store");
        let commits = commits(&store);
        let copy = |message: &[u8]| {
            let (chat, sender, id) = ("c@lid".to_owned(), "s@lid".to_owned(), "3EB0".to_owned());
            Change::Copy { chat, sender, id, message: message.to_vec() }
        };
        let secret = |expires_at, message_ts| {
            let (chat, sender, msg_id) = ("c@lid".into(), "s@lid".into(), "3EB0".into());
            Change::Secret(MsgSecretEntry { chat, sender, msg_id, secret: [9; 32], expires_at, message_ts })
        };
        store.store_prekey(7, b"key", true).await.expect("a prekey");
        store.put_session("s.0", b"old").await.expect("a session");
        let changes = vec![
            copy(b"hola"),
            Change::Sent { chat: "c@lid".into(), id: "3EB1".into(), message: b"buenas".to_vec() },
            secret(5, 20),
            secret(0, 10),
            Change::Session("s.0".into(), Bytes::from_static(b"ratchet")),
            Change::Identity("s.0".into(), [7; 32]),
            Change::UsedPreKey(7),
        ];
        commits.written(changes).await.expect("they are written");
        let pending = async || store.get_pending_inbound("c@lid", "s@lid", "3EB0").await.expect("it is read");
        assert_eq!(pending().await.as_deref(), Some(&b"hola"[..]));
        assert_eq!(store.get_session("s.0").await.expect("it is read").as_deref(), Some(&b"ratchet"[..]));
        assert_eq!(store.load_identity("s.0").await.expect("it is read"), Some([7; 32]));
        assert_eq!(store.load_prekey(7).await.expect("it is read"), None);
        let sent = store.take_sent_message("c@lid", "3EB1").await.expect("it is read");
        assert_eq!(sent.as_deref(), Some(&b"buenas"[..]));
        assert_eq!(store.delete_expired_msg_secrets(i64::MAX).await.expect("none goes"), 0, "it has no end");
        let kept = store.get_msg_secret_with_ts("c@lid", "s@lid", "3EB0").await.expect("it is read");
        assert_eq!(kept, Some((vec![9; 32], 20)));

        commits.later(vec![copy(b"adios")]).await.expect("it is queued");
        commits.later(vec![copy(b"")]).await.expect("it is queued");
        commits.settled().await;
        assert_eq!(pending().await.as_deref(), Some(&b""[..]));
        // The library forgets these rows by their age.
        assert_eq!(store.delete_expired_pending_inbound(i64::MAX).await.expect("they go"), 1);
    }

    #[test]
    fn of_several_copies_and_ratchets_the_last_one_is_written() {
        let copy = |id: &str, message: &[u8]| {
            let (chat, sender, id) = ("c@lid".to_owned(), "s@lid".to_owned(), id.to_owned());
            Change::Copy { chat, sender, id, message: message.to_vec() }
        };
        let ratchet = |address: &str, record| Change::Session(address.into(), Bytes::from_static(record));
        let changes = [
            copy("1", b"hola"),
            ratchet("s.0", b"1"),
            copy("2", b"que tal"),
            Change::UsedPreKey(7),
            ratchet("t.0", b"1"),
            copy("1", b""),
            ratchet("s.0", b"2"),
            Change::UsedPreKey(7),
        ];
        let lasting: Vec<_> = lasting(changes.iter()).iter().map(|change| format!("{change:?}")).collect();
        let wanted: Vec<_> = [2, 3, 4, 5, 6, 7].map(|place| format!("{:?}", changes[place])).into();
        assert_eq!(lasting, wanted);
    }
}
