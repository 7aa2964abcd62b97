//! A session in one file, encrypted with `SESSION_KEY`.
//!
//! A head says what the file is and whose session is in it. The head is authenticated with the rest: a session cannot be
//! passed off as that of another account.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use prost::Message as _;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use whatsapp_rust::bytes::Bytes;

use super::MoveError;
use super::directory::sync_dir;
use super::rows::Rows;
use crate::edge::journal::{SessionKeys, Size, Unreadable, open_apart, seal_apart};
use crate::edge::session::lock::with_tail;
use crate::wire::Account;

/// What the file begins with, before the number of its form.
const MAGIC: &[u8] = b"whatsapp-connector session ";
/// Its form. Another one is that of a newer version of this program.
const FORM: &[u8] = b"1\n";
/// The longest file that is read: a session, and what its keys and lengths add.
const MOST: u64 = 2 * Size::EDGE.live as u64;

/// Why a file is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnExport {
    /// It is something else.
    #[error("it is no file that `session export` has made")]
    Other,
    /// A newer version of this program has made it.
    #[error("a newer version of this program has made it")]
    Newer,
    /// It belongs to somebody else.
    #[error("the session in it is that of the account `{0}`; give --account, or another file")]
    Account(String),
    /// It is longer than a session can be.
    #[error("it is longer than a session can be")]
    TooLong,
    /// It cannot be decrypted.
    #[error("{0}")]
    Sealed(Unreadable),
}

/// A session, as it was at some time.
#[derive(Debug)]
pub(super) struct Export {
    /// When, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// All of it.
    pub(super) rows: Rows,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Written {
    #[prost(int64, tag = "1")]
    at_ms: i64,
    #[prost(message, repeated, tag = "2")]
    rows: Vec<Row>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Row {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl Export {
    /// The file's bytes. `None`: there is no randomness.
    pub(super) fn seal(&self, keys: &SessionKeys, account: &Account) -> Option<Vec<u8>> {
        let rows = self.rows.iter().map(|(key, value)| Row { key: key.clone(), value: value.clone() });
        let written = Written { at_ms: self.at_ms, rows: rows.collect() };
        let sealed = seal_apart(keys, account, written.encode_to_vec())?;
        Some([MAGIC, FORM, account.as_str().as_bytes(), b"\n", &sealed].concat())
    }

    /// Reads them back.
    pub(super) fn open(bytes: &[u8], keys: &SessionKeys, account: &Account) -> Result<Self, NotAnExport> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(NotAnExport::Other)?;
        let rest = rest.strip_prefix(FORM).ok_or(NotAnExport::Newer)?;
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(NotAnExport::Other)?;
        let (name, sealed) = rest.split_at(end);
        let name = std::str::from_utf8(name).ok().and_then(|name| Account::parse(name).ok());
        let name = name.ok_or(NotAnExport::Other)?;
        if name != *account {
            return Err(NotAnExport::Account(name.to_string()));
        }
        let opened = open_apart(keys, account, sealed.get(1..).unwrap_or_default());
        let written = Written::decode(opened.map_err(NotAnExport::Sealed)?.as_slice());
        let Written { at_ms, rows } = written.map_err(|_| NotAnExport::Sealed(Unreadable::Damaged))?;
        Ok(Self { at_ms, rows: Rows::of(rows.into_iter().map(|Row { key, value }| (key, value))) })
    }
}

/// Reads a file with a session.
pub(super) fn read(path: &Path, keys: &SessionKeys, account: &Account) -> Result<Export, MoveError> {
    let failed = |source| MoveError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    let not_one = |why| MoveError::NotAnExport { path: path.to_owned(), why };
    if bytes.len() as u64 > MOST {
        return Err(not_one(NotAnExport::TooLong));
    }
    Export::open(&bytes, keys, account).map_err(not_one)
}

/// Writes a file, whole or not at all, and over no other. Only its owner may read it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), MoveError> {
    let put = || -> io::Result<()> {
        let new = with_tail(path, &format!(".{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
        let renamed = (|| {
            file.write_all(bytes)?;
            file.sync_all()?;
            match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
                // Some file systems cannot refuse by themselves.
                Err(rustix::io::Errno::INVAL) if !path.exists() => std::fs::rename(&new, path),
                renamed => Ok(renamed?),
            }
        })();
        if renamed.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        renamed?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_dir(dir)
    };
    put().map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => MoveError::Exists(path.to_owned()),
        _ => MoveError::File { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(text: &str) -> SessionKeys {
        SessionKeys::parse(text).unwrap()
    }

    const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    const OTHER: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";

    fn account(name: &str) -> Account {
        Account::parse(name).unwrap()
    }

    fn export() -> Export {
        let rows = [("ta\0key", "secret"), ("fnew-chats", "[]")];
        let rows = rows.map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
        Export { at_ms: 7, rows: Rows::of(rows) }
    }

    #[test]
    fn a_session_is_read_back_with_its_key_by_its_account_only() {
        let sealed = export().seal(&keys(KEY), &account("shop")).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let read = Export::open(&sealed, &keys(&format!("{OTHER},{KEY}")), &account("shop")).unwrap();
        assert_eq!((read.at_ms, read.rows), (7, export().rows));
        let open = |bytes: &[u8], key, name| Export::open(bytes, &keys(key), &account(name)).unwrap_err();
        assert_eq!(open(&sealed, OTHER, "shop"), NotAnExport::Sealed(Unreadable::NoKey));
        assert_eq!(open(&sealed, KEY, "cafe"), NotAnExport::Account("shop".to_owned()));
        let renamed = [MAGIC, FORM, b"cafe", &sealed[MAGIC.len() + FORM.len() + 4..]].concat();
        assert_eq!(open(&renamed, KEY, "cafe"), NotAnExport::Sealed(Unreadable::Damaged));
        assert_eq!(open(b"garbage", KEY, "shop"), NotAnExport::Other);
        assert_eq!(open(&[MAGIC, b"2\n"].concat(), KEY, "shop"), NotAnExport::Newer);
    }

    #[test]
    fn a_file_is_its_owners_alone_and_written_over_no_other() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        write(&path, b"one").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = write(&path, b"two").unwrap_err();
        assert!(matches!(refused, MoveError::Exists(_)), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    proptest! {
        #[test]
        fn what_was_changed_on_the_way_is_no_session(at: prop::sample::Index, bit in 0..8u8) {
            let mut sealed = export().seal(&keys(KEY), &account("shop")).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(Export::open(&sealed, &keys(KEY), &account("shop")).is_err());
            sealed.truncate(at);
            prop_assert!(Export::open(&sealed, &keys(KEY), &account("shop")).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Export::open(&[MAGIC, FORM, b"shop\n", &bytes].concat(), &keys(KEY), &account("shop"));
            let _ = Export::open(&bytes, &keys(KEY), &account("shop"));
        }
    }
}
