//! Encrypts records, and decrypts them: AES-256-GCM, with a key of its own for each record.
//!
//! A record's key and nonce are made from the operator's key and 28 random bytes that stand before it. Under one key of
//! the operator's, two records would share key and nonce only if all 224 random bits were the same. So nothing has to be
//! counted or remembered: not by an edge that is killed, nor by two that are restored from one snapshot, whose kernel
//! draws anew. The account and the slot are authenticated with it: a record that was moved to another place is no record.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::key::{Key, SessionKeys};

/// The form of a sealed record. Another one is that of a newer version of this program.
const FORM: u8 = 1;
const ID: usize = 8;
const SALT: usize = 16;
/// What stands before the encrypted part: the form, the key's id, and the random bytes.
const HEAD: usize = 1 + ID + SALT + NONCE_LEN;

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It names a key that is not there.
    #[error("it is encrypted with a key that SESSION_KEY does not have")]
    NoKey,
    /// It is not what was sealed, or was not sealed for this place.
    #[error("it is damaged, or was moved from elsewhere")]
    Damaged,
    /// A newer version of this program has written it.
    #[error("a newer version of this program has written it")]
    Newer,
}

/// There is no randomness, or no key. Neither happens once a process has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session cannot be encrypted")]
pub(super) struct NotSealed;

/// Encrypts a record of `account` for `slot`.
pub(super) fn seal(
    keys: &SessionKeys,
    account: &str,
    slot: u64,
    record: Vec<u8>,
) -> Result<Vec<u8>, NotSealed> {
    let key = keys.first().ok_or(NotSealed)?;
    let mut sealed = Vec::with_capacity(HEAD + record.len() + AES_256_GCM.tag_len());
    sealed.push(FORM);
    sealed.extend(key.id);
    let mut random = [0; SALT + NONCE_LEN];
    getrandom::fill(&mut random).map_err(|_| NotSealed)?;
    sealed.extend(random);
    let (cipher, nonce) = cipher(key, &random).ok_or(NotSealed)?;
    let mut body = record;
    let place = Aad::from(place(&sealed, account, slot));
    cipher.seal_in_place_append_tag(nonce, place, &mut body).map_err(|_| NotSealed)?;
    sealed.append(&mut body);
    Ok(sealed)
}

/// Decrypts what was sealed for this account and slot.
pub(super) fn open(
    keys: &SessionKeys,
    account: &str,
    slot: u64,
    sealed: &[u8],
) -> Result<Vec<u8>, Unreadable> {
    if sealed.first().is_some_and(|form| *form > FORM) {
        return Err(Unreadable::Newer);
    }
    let (head, body) = sealed.split_at_checked(HEAD).ok_or(Unreadable::Damaged)?;
    let (name, random) = head.split_at(1 + ID);
    if name.first() != Some(&FORM) {
        return Err(Unreadable::Damaged);
    }
    let key = keys.named(name.get(1..).unwrap_or_default()).ok_or(Unreadable::NoKey)?;
    let (cipher, nonce) = cipher(key, random).ok_or(Unreadable::Damaged)?;
    let mut body = body.to_vec();
    let place = Aad::from(place(head, account, slot));
    let opened = cipher.open_in_place(nonce, place, &mut body).map_err(|_| Unreadable::Damaged)?.len();
    body.truncate(opened);
    Ok(body)
}

/// Are these bytes a record of this account and slot? For the checks of decoders.
pub fn opens(keys: &SessionKeys, account: &str, slot: u64, bytes: &[u8]) -> Result<(), Unreadable> {
    open(keys, account, slot, bytes).map(drop)
}

/// The cipher and the nonce of the record with these random bytes.
fn cipher(key: &Key, random: &[u8]) -> Option<(LessSafeKey, Nonce)> {
    let (salt, nonce) = random.split_at_checked(SALT)?;
    let mut own = [0; 32];
    key.derive(&[b"record", salt], &mut own);
    let cipher = UnboundKey::new(&AES_256_GCM, &own).ok()?;
    Some((LessSafeKey::new(cipher), Nonce::try_assume_unique_for_key(nonce).ok()?))
}

/// What is authenticated beside the record. An account's name has no NUL.
fn place(head: &[u8], account: &str, slot: u64) -> Vec<u8> {
    [head, account.as_bytes(), &[0], &slot.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn keys(seeds: &[u8]) -> SessionKeys {
        let one = |seed: &u8| base64::engine::general_purpose::STANDARD.encode([*seed; 32]);
        SessionKeys::parse(&seeds.iter().map(one).collect::<Vec<_>>().join(",")).unwrap()
    }

    #[test]
    fn a_record_is_read_with_its_key_in_its_place_only() {
        let sealed = seal(&keys(&[1]), "shop", 7, b"ratchet".to_vec()).unwrap();
        for (which, account, slot, want) in [
            (&[1][..], "shop", 7, Ok(b"ratchet".to_vec())),
            (&[2, 1], "shop", 7, Ok(b"ratchet".to_vec())),
            (&[2], "shop", 7, Err(Unreadable::NoKey)),
            (&[1], "shop", 8, Err(Unreadable::Damaged)),
            (&[1], "shop2", 7, Err(Unreadable::Damaged)),
        ] {
            assert_eq!(open(&keys(which), account, slot, &sealed), want, "{which:?} {account} {slot}");
        }
    }

    #[test]
    fn the_first_key_encrypts() {
        let sealed = seal(&keys(&[2, 1]), "shop", 7, b"ratchet".to_vec()).unwrap();
        assert!(open(&keys(&[2]), "shop", 7, &sealed).is_ok());
        assert_eq!(open(&keys(&[1]), "shop", 7, &sealed), Err(Unreadable::NoKey));
    }

    #[test]
    fn the_same_record_is_never_sealed_the_same() {
        let keys = keys(&[1]);
        let all: std::collections::HashSet<Vec<u8>> =
            (0..100).map(|_| seal(&keys, "shop", 7, b"ratchet".to_vec()).unwrap()[..HEAD].to_vec()).collect();
        assert_eq!(all.len(), 100);
    }

    proptest! {
        #[test]
        fn what_was_changed_on_the_way_is_no_record(record: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let keys = keys(&[1]);
            let mut sealed = seal(&keys, "shop", 7, record.clone()).unwrap();
            prop_assert_eq!(open(&keys, "shop", 7, &sealed), Ok(record));
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(open(&keys, "shop", 7, &sealed).is_err());
            sealed.truncate(at);
            prop_assert!(open(&keys, "shop", 7, &sealed).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(open(&keys(&[1]), "shop", 7, &bytes).is_err());
        }
    }
}
