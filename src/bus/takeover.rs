//! Who has taken over a chat, as the bus says: the last message on the chat's subject of `WA_IN` is what holds. Everybody
//! who changes it does so here, by compare-and-set.

use futures::StreamExt as _;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{AppendError, Bus, ReadError, Record};
use crate::telemetry::propagation;
use crate::wire::v1::{InboundMessage, Takeover};
use crate::wire::{Account, ChatToken, Headers, Subjects, header, now_ms};

/// A takeover as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTakeover {
    /// Its sequence in `WA_IN`.
    pub sequence: u64,
    /// With its times.
    pub takeover: Takeover,
}

/// Why what holds for a chat is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What holds is not known.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not known that it is stored.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A chat.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// The subjects.
    pub subjects: &'a Subjects,
    /// The linked number.
    pub account: &'a Account,
    /// The chat.
    pub chat: &'a ChatToken,
}

impl Bus {
    /// The takeover that holds in a chat, or that was the last one.
    pub async fn takeover(&self, of: Of<'_>) -> Result<Option<StoredTakeover>, ReadError> {
        let Of { subjects, account, chat } = of;
        let last = self.last(&subjects.stream_in(), &subjects.takeover(account, chat)).await?;
        Ok(last.and_then(|stored| {
            // What cannot be read silences nobody.
            let takeover = Takeover::decode(stored.payload).ok()?.resolved(stored.stored_at_ms);
            Some(StoredTakeover { sequence: stored.sequence, takeover })
        }))
    }

    /// Stores what `next` makes of the takeover that holds, as its last one. `id` recognises a repetition. Returns what holds
    /// then: as it was, if `next` returns none. Takes until it is known, or until `stop`.
    pub async fn take_over(
        &self,
        of: Of<'_>,
        id: &str,
        next: impl Fn(Option<&StoredTakeover>) -> Option<Takeover>,
        stop: &CancellationToken,
    ) -> Result<Option<StoredTakeover>, ChangeError> {
        loop {
            let before = self.takeover(of).await?;
            let Some(takeover) = next(before.as_ref()) else { return Ok(before) };
            let record = record(of, id, takeover, before.as_ref().map_or(0, |stored| stored.sequence));
            match self.append_until_known(&record, stop).await {
                // It may have been stored long ago: what holds is what the bus has now.
                Ok(_) => return Ok(self.takeover(of).await?),
                // Somebody else was faster, or a follower is behind.
                Err(AppendError::Refused) => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The chats of an account that were taken over, and how many messages tell of each: `most` of them.
    pub async fn taken_over(
        &self,
        subjects: &Subjects,
        account: &Account,
        most: usize,
    ) -> Result<Vec<(ChatToken, usize)>, ReadError> {
        let stream = self.jetstream.get_stream_no_info(subjects.stream_in()).await;
        let stream = stream.map_err(|error| ReadError::new(&error))?;
        let filter = subjects.takeovers_of(Some(account));
        let mut all = stream.info_with_subjects(filter).await.map_err(|error| ReadError::new(&error))?;
        let mut found = Vec::new();
        while let Some(one) = all.next().await {
            let (subject, count) = one.map_err(|error| ReadError::new(&error))?;
            found.extend(subjects.route(&subject).map(|route| (route.chat, count)));
            if found.len() >= most {
                break;
            }
        }
        Ok(found)
    }

    /// The message of a chat's list with this sequence; `None` if it is gone.
    pub async fn message_at(
        &self,
        of: Of<'_>,
        sequence: u64,
    ) -> Result<Option<(InboundMessage, u64)>, ReadError> {
        let Of { subjects, account, chat } = of;
        let subject = subjects.message(account, chat);
        let found = self.next_from(&subjects.stream_in(), &subject, sequence).await?;
        Ok(found.filter(|stored| stored.sequence == sequence).and_then(|stored| {
            let before = stored.headers.sequence(header::PREV_SEQ).unwrap_or(0);
            Some((InboundMessage::decode(stored.payload).ok()?, before))
        }))
    }
}

fn record(of: Of<'_>, id: &str, takeover: Takeover, before: u64) -> Record {
    let Of { subjects, account, chat } = of;
    let takeover = Takeover { account: account.to_string(), chat: chat.as_str().to_owned(), ..takeover };
    let mut headers = Headers::cloud_event(id, "Takeover", account.as_str(), now_ms());
    headers.set(header::MSG_ID, id);
    headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &before.to_string());
    propagation::inject(&mut headers);
    Record { subject: subjects.takeover(account, chat), headers, payload: takeover.encode_to_vec().into() }
}
