//! Who wants nothing unasked, as the bus says: a bucket with one value for each chat in which somebody has said so. Everybody who
//! changes it does so here, by compare-and-set, and then tells of it.

use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::takeover::{ChangeError, Of};
use super::{AppendError, Bus, ReadError, Record, Start, Stored};
use crate::telemetry::propagation;
use crate::wire::v1::OptOut;
use crate::wire::{Account, ChatToken, Headers, Subjects, header, now_ms};

/// What holds for a chat, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOptOut {
    /// Its sequence in the bucket.
    pub sequence: u64,
    /// With its time.
    pub opt_out: OptOut,
}

impl StoredOptOut {
    fn read(stored: Stored) -> Option<Self> {
        // What somebody has deleted, or what cannot be read, silences nobody.
        let opt_out = OptOut::decode(stored.payload).ok().filter(|one| !one.chat.is_empty())?;
        Some(Self { sequence: stored.sequence, opt_out: opt_out.resolved(stored.stored_at_ms) })
    }
}

impl Bus {
    /// What holds for a chat. `None`: nobody has said anything.
    pub async fn opt_out(&self, of: Of<'_>) -> Result<Option<StoredOptOut>, ReadError> {
        Ok(self.held(of).await?.1)
    }

    /// The last sequence of a chat's key, and what it holds.
    async fn held(&self, of: Of<'_>) -> Result<(u64, Option<StoredOptOut>), ReadError> {
        let Of { subjects, account, chat } = of;
        let last = self.last(&subjects.stream_opt_outs(), &subjects.opt_out_key(account, chat)).await?;
        Ok(last.map_or((0, None), |stored| (stored.sequence, StoredOptOut::read(stored))))
    }

    /// Stores what `next` makes of what holds for a chat. Returns what holds then: as it was, if `next` returns none. Takes until
    /// it is known, or until `stop`.
    pub async fn opt(
        &self,
        of: Of<'_>,
        next: impl Fn(Option<&StoredOptOut>) -> Option<OptOut>,
        stop: &CancellationToken,
    ) -> Result<Option<StoredOptOut>, ChangeError> {
        loop {
            let (sequence, before) = self.held(of).await?;
            let Some(opt_out) = next(before.as_ref()) else { return Ok(before) };
            let mut headers = Headers::default();
            headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &sequence.to_string());
            let subject = of.subjects.opt_out_key(of.account, of.chat);
            let opt_out = named(of, opt_out);
            let record = Record { subject, headers, payload: opt_out.encode_to_vec().into() };
            match self.append_until_known(&record, stop).await {
                // Its own time is a few milliseconds from this one.
                Ok(stored) => {
                    let opt_out = opt_out.resolved(now_ms());
                    return Ok(Some(StoredOptOut { sequence: stored.sequence, opt_out }));
                }
                // Somebody else was faster, or a follower is behind.
                Err(AppendError::Refused) => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells of what holds for a chat from now on. `id` recognises a repetition.
    pub async fn tell_of_opt_out(
        &self,
        of: Of<'_>,
        id: &str,
        opt_out: OptOut,
        stop: &CancellationToken,
    ) -> Result<(), AppendError> {
        let mut headers = Headers::cloud_event(id, "OptOut", of.account.as_str(), now_ms());
        headers.set(header::MSG_ID, id);
        propagation::inject(&mut headers);
        let subject = of.subjects.opt_out(of.account, of.chat);
        let record = Record { subject, headers, payload: named(of, opt_out).encode_to_vec().into() };
        self.append_until_known(&record, stop).await.map(|_stored| ())
    }

    /// A page of what holds: of one account's chats, or of all, from this sequence of the bucket on. The second is where the next
    /// page begins; `None`: this is the last one.
    pub async fn opt_outs(
        &self,
        subjects: &Subjects,
        account: Option<&Account>,
        from: u64,
    ) -> Result<(Vec<(Account, ChatToken, StoredOptOut)>, Option<u64>), ReadError> {
        let keys = subjects.opt_out_keys(account);
        let page = self.batch(&subjects.stream_opt_outs(), &keys, Start::Sequence(from.max(1))).await?;
        let next = page.last().map(|last| last.sequence + 1);
        let read = |stored: Stored| {
            let (account, chat) = subjects.opt_out_of(&stored.subject)?;
            Some((account, chat, StoredOptOut::read(stored)?))
        };
        Ok((page.into_iter().filter_map(read).collect(), next))
    }
}

fn named(of: Of<'_>, opt_out: OptOut) -> OptOut {
    OptOut { account: of.account.to_string(), chat: of.chat.as_str().to_owned(), ..opt_out }
}
