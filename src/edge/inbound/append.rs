//! Puts a message on the bus, at the end of its chat's list or as an update, and waits until it is known to be
//! stored.
//!
//! While the bus is away it waits and tries again. It gives up only when the process stops.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::content;
use super::hook::Refused;
use crate::bus::{AppendError, Appended, Bus, ReadError, Record};
use crate::crash;
use crate::edge::addressing::chats::{Chat, Chats, Earlier, End};
use crate::edge::addressing::offers::Offers;
use crate::telemetry::{metrics, propagation, spans};
use crate::wire::v1::InboundMessage;
use crate::wire::v1::inbound_message::Content;
use crate::wire::{Account, ChatToken, Headers, Subjects, header, kind};

/// How long the stream's leader must keep saying that the whole stream ends earlier than this edge knows, before the
/// edge believes it. A leader that was just elected is behind for seconds; a stream that was restored from an older copy
/// stays behind.
const BELIEVE_AN_EARLIER_END: Duration = Duration::from_secs(15);
/// The pause before a refused append is tried again that may be refused for the same reason.
const AGAIN: Duration = Duration::from_millis(50);

/// Appends for one account.
#[derive(Debug)]
pub(super) struct Appender {
    pub bus: Bus,
    pub subjects: Subjects,
    pub account: Account,
    pub chats: Arc<Chats>,
    pub offers: Offers,
    /// Ends all waiting.
    pub stop: CancellationToken,
}

impl Appender {
    /// The chat with one of these tokens, as soon as the bus can tell.
    pub(super) async fn chat(&self, candidates: &[ChatToken]) -> Result<Arc<Chat>, Refused> {
        self.until_answered(|| self.chats.find(candidates)).await
    }

    /// Appends to the chat's list, one at a time. Each append expects the previous one to be the last on the
    /// subject. Returns what its text picks, if it picks an option.
    pub(super) async fn message(
        &self,
        chat: &Chat,
        id: &str,
        message: InboundMessage,
    ) -> Result<Option<Content>, Refused> {
        let mut end = tokio::select! {
            () = self.stop.cancelled() => return Err(Refused::Stopping),
            end = chat.end.lock() => end,
        };
        // Here, because from here on the chat's messages come one at a time.
        let picked = self.picked(chat, &message).await?;
        let message = InboundMessage { content: picked.clone().or(message.content), ..message };
        let subject = self.subjects.message(&self.account, &chat.token);
        let mut record = self.record(subject.clone(), id, &message);
        let mut behind_since = None;
        // This message's id is already at the end: an earlier attempt was stored, but its answer was lost.
        while end.id.as_deref() != Some(id) {
            record.headers.set(header::PREV_SEQ, &end.sequence.to_string());
            record.headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &end.sequence.to_string());
            crash::point("edge.before-publish");
            match self.bus.append_until_known(&record, &self.stop).await {
                Ok(stored) => {
                    count(stored, &message);
                    *end = behind(&end, stored, id);
                }
                Err(AppendError::Refused) => {
                    metrics::CONFLICTS.add(1, ["in"]);
                    *end = self.end_after(&end, chat, &mut behind_since).await?;
                }
                Err(AppendError::Impossible(why)) => {
                    tracing::error!(why, "a message cannot be stored as it is; its content is left out");
                    record = self.record(subject.clone(), id, &content::too_large(message.clone()));
                }
                Err(AppendError::Stopped | AppendError::Unknown(_) | AppendError::Full(_)) => {
                    return Err(Refused::Stopping);
                }
            }
        }
        Ok(picked)
    }

    /// The option that the message picks, if it picks one.
    async fn picked(&self, chat: &Chat, message: &InboundMessage) -> Result<Option<Content>, Refused> {
        let picked = self.stop.run_until_cancelled(self.offers.picked(&chat.token, message)).await;
        picked.ok_or(Refused::Stopping)
    }

    /// The end to expect next, after `known` was refused. If it is wrong, because a follower told it, the next append is
    /// refused too.
    async fn end_after(
        &self,
        known: &End,
        chat: &Chat,
        behind_since: &mut Option<Instant>,
    ) -> Result<End, Refused> {
        let found = self.until_answered(|| self.chats.end(&chat.token)).await?;
        match found.sequence.cmp(&known.sequence) {
            Ordering::Greater => return Ok(found),
            // A follower is behind, or the refusal was none of the chat's (that happens in a cluster).
            Ordering::Equal => {
                self.pause(AGAIN).await?;
                return Ok(found);
            }
            Ordering::Less => {}
        }
        match self.until_answered(|| self.chats.earlier(known)).await? {
            Earlier::Gone => {
                tracing::debug!("the chat's last messages are gone from the bus");
                Ok(found)
            }
            // It may have been read as one of the stream before.
            Earlier::Anew => self.until_answered(|| self.chats.end(&chat.token)).await,
            Earlier::Behind => {
                let since = *behind_since.get_or_insert_with(Instant::now);
                if since.elapsed() <= BELIEVE_AN_EARLIER_END {
                    self.pause(AGAIN).await?;
                    return Ok(known.clone());
                }
                tracing::error!(
                    known = known.sequence,
                    found = found.sequence,
                    "the inbound stream has lost messages that it had stored"
                );
                Ok(found)
            }
        }
    }

    /// Updates are not part of a list. The message id is enough for them.
    pub(super) async fn update(
        &self,
        token: &ChatToken,
        id: &str,
        message: InboundMessage,
    ) -> Result<(), Refused> {
        let subject = self.subjects.update(&self.account, token);
        let record = self.record(subject, id, &message);
        match self.bus.append_until_known(&record, &self.stop).await {
            Ok(stored) => {
                count(stored, &message);
                Ok(())
            }
            Err(AppendError::Impossible(why)) => {
                tracing::error!(why, "an update cannot be stored; it is left out");
                Ok(())
            }
            Err(_) => Err(Refused::Stopping),
        }
    }

    fn record(&self, subject: String, id: &str, message: &InboundMessage) -> Record {
        let mut headers =
            Headers::cloud_event(id, "InboundMessage", self.account.as_str(), message.received_at_ms);
        headers.set(header::MSG_ID, id);
        if let Some(content) = &message.content {
            headers.set(header::KIND, kind::field(content));
        }
        propagation::inject(&mut headers);
        Record { subject, headers, payload: Bytes::from(message.encode_to_vec()) }
    }

    async fn until_answered<T, Fut>(&self, ask: impl Fn() -> Fut) -> Result<T, Refused>
    where
        Fut: Future<Output = Result<T, ReadError>>,
    {
        loop {
            let answer = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Refused::Stopping),
                answer = ask() => answer,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, "the bus did not answer; asking again"),
            }
            self.pause(Duration::from_millis(200)).await?;
        }
    }

    async fn pause(&self, time: Duration) -> Result<(), Refused> {
        match tokio::time::timeout(time, self.stop.cancelled()).await {
            Ok(()) => Err(Refused::Stopping),
            Err(_elapsed) => Ok(()),
        }
    }
}

/// The list's end once `stored` is known. A duplicate's position is where it was stored first, which may be further
/// back.
fn behind(end: &End, stored: Appended, id: &str) -> End {
    let incarnation = Arc::clone(&end.incarnation);
    End { sequence: stored.sequence.max(end.sequence), id: Some(id.to_owned()), incarnation }
}

/// A message that WhatsApp redelivers is stored once, and counts once.
fn count(stored: Appended, message: &InboundMessage) {
    spans::stored(stored.sequence);
    if !stored.duplicate {
        metrics::MESSAGES.add(1, ["in", kind::content(message.content.as_ref())]);
    }
}
