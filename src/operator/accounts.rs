//! The accounts of a pool: an operator puts one into the bucket, changes it, and takes it out again.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::pool::{ACCOUNTS_MOST, Change, StoredEntry};
use crate::bus::{Bus, ChangeError, ReadError};
use crate::wire::pool::Entry;
use crate::wire::{Account, Subjects, masked};

/// How long the bus may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// An edge sees within a second or so that an account is removed, and then needs a moment to give it back.
const GIVEN_BACK: Duration = Duration::from_secs(15);
/// An operator is told after so long what is waited for.
const SILENT: Duration = Duration::from_secs(2);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(200);
/// A lease that nobody has renewed for so long is a dead edge's.
const TERM: Duration = Duration::from_secs(30);

/// What is wanted of an account's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It is there, with this. What is `None` stays as it is.
    Set(Wishes),
    /// No edge works for it.
    Pause,
    /// An edge works for it again.
    Resume,
}

/// What an entry says in place of the settings; the inner `None` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The phone that is asked for a code.
    pub pair_phone: Option<Option<String>>,
    /// In place of `SEND_PER_CHAT`.
    pub send_per_chat: Option<Option<String>>,
    /// In place of `SEND_TOTAL`.
    pub send_total: Option<Option<String>>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    /// It was not there before.
    Added,
    /// It was there, and was another way.
    Changed,
    /// It was so already.
    Unchanged,
}

/// What holds for an account now. It has no whole phone number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Its name.
    pub account: String,
    /// What was done.
    pub done: Done,
    /// No edge works for it.
    pub paused: bool,
    /// The end of the phone number that is asked for a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_phone: Option<String>,
    /// In place of `SEND_PER_CHAT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_per_chat: Option<String>,
    /// In place of `SEND_TOTAL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_total: Option<String>,
}

/// What is left of an account that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Its name.
    pub account: String,
    /// It was there.
    pub was_there: bool,
    /// The edge that had not given it back when the wait was over, as it is named in leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub still_held_by: Option<String>,
}

/// Why it is not known that it is done.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// What holds is not known.
    #[error("the accounts cannot be read: {0}. If there is no pool yet, `accounts add` makes it")]
    Unread(#[from] ReadError),
    /// The bus says why.
    #[error("it may not be stored: {0}")]
    NotStored(#[from] ChangeError),
    /// There is no such account.
    #[error(
        "the pool has no account `{0}`: `accounts list` shows which there are, and `accounts add` adds one"
    )]
    NotThere(Account),
    /// There is no room.
    #[error(
        "the pool has {ACCOUNTS_MOST} accounts already: give others a bus of their own, or another NATS_SUBJECT_PREFIX"
    )]
    TooMany,
    /// It says nothing.
    #[error("it may not be stored: nats-server does not answer")]
    Timeout,
}

impl Wanted {
    /// The entry as it is to be. `None`: there is none to change.
    fn of(&self, before: Option<&Entry>) -> Option<Entry> {
        let entry = match self {
            Self::Set(wishes) => {
                let before = before.cloned().unwrap_or_default();
                Entry {
                    pair_phone: wishes.pair_phone.clone().unwrap_or(before.pair_phone),
                    send_per_chat: wishes.send_per_chat.clone().unwrap_or(before.send_per_chat),
                    send_total: wishes.send_total.clone().unwrap_or(before.send_total),
                    paused: before.paused,
                }
            }
            Self::Pause | Self::Resume => Entry { paused: *self == Self::Pause, ..before?.clone() },
        };
        Some(entry)
    }
}

/// What cannot be read is there, and is mended by whatever is written next.
fn entry_of(stored: Option<&StoredEntry>) -> Option<Entry> {
    stored.map(|stored| stored.entry.clone().unwrap_or_default())
}

/// Changes an account's entry, and says what holds then.
pub async fn change(
    bus: &Bus,
    subjects: &Subjects,
    account: &Account,
    wanted: &Wanted,
) -> Result<Holds, NotChanged> {
    let never = CancellationToken::new();
    let changed = async {
        if let Wanted::Set(_) = wanted {
            let all = bus.accounts(subjects).await?;
            // Two who add at the same moment may go a little beyond it, which does no harm.
            if all.len() >= ACCOUNTS_MOST && !all.contains_key(account) {
                return Err(NotChanged::TooMany);
            }
        }
        let next = |before: Option<&StoredEntry>| {
            let wanted = wanted.of(entry_of(before).as_ref())?;
            let is_so = before.and_then(|stored| stored.entry.as_ref()) == Some(&wanted);
            (!is_so).then_some(Change::Set(wanted))
        };
        Ok(bus.change_account(subjects, account, next, &never).await?)
    };
    let (before, done) =
        tokio::time::timeout(PATIENCE, changed).await.map_err(|_elapsed| NotChanged::Timeout)??;
    let (entry, done) = match (&before, done) {
        (Some(_), Some(Change::Set(entry))) => (entry, Done::Changed),
        (None, Some(Change::Set(entry))) => (entry, Done::Added),
        _ => {
            (entry_of(before.as_ref()).ok_or_else(|| NotChanged::NotThere(account.clone()))?, Done::Unchanged)
        }
    };
    let Entry { paused, pair_phone, send_per_chat, send_total } = entry;
    let pair_phone = pair_phone.as_deref().map(masked);
    Ok(Holds { account: account.to_string(), done, paused, pair_phone, send_per_chat, send_total })
}

/// Takes an account out of the pool, and its lease out of the bucket once no edge has it. Its session stays. `tell` hears what
/// is waited for.
pub async fn remove(
    bus: &Bus,
    subjects: &Subjects,
    account: &Account,
    tell: impl FnOnce(&str),
) -> Result<Removed, NotChanged> {
    let never = CancellationToken::new();
    let next = |before: Option<&StoredEntry>| before.map(|_| Change::Remove);
    let changed = bus.change_account(subjects, account, next, &never);
    let (before, _) =
        tokio::time::timeout(PATIENCE, changed).await.map_err(|_elapsed| NotChanged::Timeout)??;
    let (stream, subject) = (subjects.stream_leases(), subjects.lease(account));
    let (began, mut seen, mut tell) = (Instant::now(), Vec::new(), Some(tell));
    let still_held_by = loop {
        let lease = bus.last_of_each(&stream, &subject).await?.pop();
        let Some(lease) = lease else { break None };
        if seen.last().is_none_or(|(sequence, _)| *sequence != lease.sequence) {
            seen.push((lease.sequence, Instant::now()));
        }
        match holder(&lease.payload, &seen, began, Instant::now()) {
            Holder::Nobody => {
                // Up to its sequence: if an edge has taken it again in between, that stays.
                bus.purge(&stream, &subject, lease.sequence).await?;
                break None;
            }
            Holder::Alive => break Some(String::from_utf8_lossy(&lease.payload).into_owned()),
            Holder::NotKnown => {
                if began.elapsed() >= SILENT
                    && let Some(tell) = tell.take()
                {
                    tell("an edge has the account's lease, or has died with it: waiting for at most 30 s");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    Ok(Removed { account: account.to_string(), was_there: before.is_some(), still_held_by })
}

/// Who has a lease.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// It is given back, or a dead edge's.
    Nobody,
    /// An edge that goes on renewing it.
    Alive,
    NotKnown,
}

/// `seen` are the sequences that the lease has had, and since when. Pure. No clock but this machine's steady one counts: what
/// the time is elsewhere does not matter.
fn holder(payload: &[u8], seen: &[(u64, Instant)], began: Instant, now: Instant) -> Holder {
    let unchanged = seen.last().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since));
    if payload.is_empty() || unchanged >= TERM {
        Holder::Nobody
    } else if seen.len() > 1 && now.saturating_duration_since(began) >= GIVEN_BACK {
        Holder::Alive
    } else {
        Holder::NotKnown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wished_stays_as_it_is() {
        let before = Entry {
            paused: true,
            pair_phone: Some("5491112345678".to_owned()),
            send_per_chat: Some("5/1s".to_owned()),
            send_total: None,
        };
        let wishes = |per_chat: Option<Option<&str>>, total: Option<Option<&str>>| {
            let owned = |wish: Option<Option<&str>>| wish.map(|wish| wish.map(str::to_owned));
            let wishes =
                Wishes { pair_phone: None, send_per_chat: owned(per_chat), send_total: owned(total) };
            Wanted::Set(wishes).of(Some(&before)).unwrap()
        };
        assert_eq!(wishes(None, None), before);
        let other = Entry { send_total: Some("off".to_owned()), send_per_chat: None, ..before.clone() };
        assert_eq!(wishes(Some(None), Some(Some("off"))), other);
        assert_eq!(Wanted::Resume.of(Some(&before)), Some(Entry { paused: false, ..before.clone() }));
        assert_eq!(Wanted::Pause.of(Some(&before)), Some(before));
        assert_eq!((Wanted::Pause.of(None), Wanted::Resume.of(None)), (None, None));
        assert_eq!(Wanted::Set(Wishes::default()).of(None), Some(Entry::default()));
    }

    #[test]
    fn a_lease_is_nobodys_when_it_is_given_back_or_not_renewed_for_a_term() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let once = [(7, at(0))];
        let renewed = [(7, at(0)), (8, at(9))];
        for (payload, seen, now, want) in [
            (&b""[..], &once[..], 0, Holder::Nobody),
            (b"edge", &once, 29, Holder::NotKnown),
            (b"edge", &once, 30, Holder::Nobody),
            (b"edge", &renewed, 14, Holder::NotKnown),
            (b"edge", &renewed, 15, Holder::Alive),
        ] {
            assert_eq!(holder(payload, seen, began, at(now)), want, "{payload:?} {now}");
        }
    }
}
