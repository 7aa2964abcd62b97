//! WhatsApp → bus: the hook that every message passes before WhatsApp is told "received".
//!
//! While the bus is away the hook waits and tries again inside; it gives up only when the process stops.
//! (Refusing instead would let later messages overtake: WhatsApp redelivers only on a reconnect. The one
//! thing that is refused is what has to wait for a message before it, see `missing`.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future;
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::wacore::types::events::InboundMessage as Incoming;
use whatsapp_rust::wacore::types::message::MessageCategory;
use whatsapp_rust::{Client, InboundDurabilityHook, Jid, anyhow};

use super::content::{self, Mapped};
use crate::bus::{AppendError, Appended, Bus, ReadError, Record};
use crate::crash;
use crate::edge::addressing::chats::{Chat, Chats, End};
use crate::edge::addressing::{identity, learn};
use crate::edge::session::Resends;
use crate::telemetry::{metrics, propagation, spans};
use crate::wire::v1::{ChatKind, InboundMessage, inbound_message::Content};
use crate::wire::{Account, ChatToken, Headers, Subjects, header, id, kind, now_ms};

/// How long the bus may say that a subject ends earlier than this edge knows before it is believed: a
/// follower lags by seconds, a stream that was made anew stays behind.
const BELIEVE_AN_EARLIER_END: Duration = Duration::from_secs(15);

/// Why a message is refused; WhatsApp hands it over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The process stops.
    #[error("the edge is stopping")]
    Stopping,
    /// It would pass one of its chat that has to come again.
    #[error("a message before it has to come first")]
    TooEarly,
}

/// (chat, sender, id): what makes a WhatsApp message id unique.
type Key = (String, String, String);

/// The hook. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Inbound(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    chats: Chats,
    resends: Resends,
    /// What is being stored at this moment: a reconnect hands the same messages over again beside the
    /// hooks that still wait.
    under_way: Mutex<HashMap<Key, watch::Receiver<bool>>>,
    stop: CancellationToken,
}

#[async_trait::async_trait]
impl InboundDurabilityHook for Inbound {
    async fn on_messages(&self, client: Arc<Client>, batch: &[Incoming]) -> anyhow::Result<()> {
        // A drain brings many chats at once: they do not wait for each other, each keeps its order.
        let mut lanes: Vec<(String, Vec<&Incoming>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for incoming in batch {
            let source = &incoming.info.source;
            let peer = identity::peer(source, identity::other_address(source));
            let chat = peer.candidates.first().map_or(peer.jid, |token| token.as_str().to_owned());
            let place = *places.entry(chat.clone()).or_insert_with(|| {
                lanes.push((chat, Vec::new()));
                lanes.len() - 1
            });
            if let Some((_, lane)) = lanes.get_mut(place) {
                lane.push(incoming);
            }
        }
        let lanes = lanes.into_iter().map(|(_, lane)| async {
            let mut refused = Ok(());
            for incoming in lane {
                // One that is too early does not keep the next ones from being told the same.
                match self.receive(&client, incoming).await {
                    Err(Refused::Stopping) => return Err(Refused::Stopping),
                    received => refused = refused.and(received),
                }
            }
            refused
        });
        // To the end, all of them: what follows in a chat must find what was begun done.
        let received = future::join_all(lanes).await;
        crash::point("edge.after-puback");
        Ok(received.into_iter().collect::<Result<(), Refused>>()?)
    }
}

impl Inbound {
    /// A hook that publishes for `account` until `stop`.
    pub(crate) fn new(
        bus: Bus,
        subjects: Subjects,
        account: Account,
        resends: Resends,
        stop: CancellationToken,
    ) -> Self {
        let chats = Chats::new(bus.clone(), subjects.clone(), account.clone());
        let under_way = Mutex::default();
        Self(Arc::new(Shared { bus, subjects, account, chats, resends, under_way, stop }))
    }

    /// Returns once the message is stored, or needs no storing.
    async fn receive(&self, client: &Client, incoming: &Incoming) -> Result<(), Refused> {
        let source = &incoming.info.source;
        let (chat, id) = (source.chat.to_string(), incoming.info.id.to_string());
        let received = match content::map(&incoming.message) {
            _ if incoming.info.category == MessageCategory::Peer => Ok(()),
            Mapped::Nothing => Ok(()),
            Mapped::Update(content) => self.once(client, incoming, content, false).await,
            Mapped::Message(_) if !self.0.resends.lets_pass(&chat, &id) => return Err(Refused::TooEarly),
            Mapped::Message(content) => self.once(client, incoming, content, true).await,
        };
        if received.is_ok() {
            self.0.resends.dealt_with(&chat, &id);
        }
        received
    }

    /// Returns once the message is stored, by this call or by another one that has it in hand.
    async fn once(
        &self,
        client: &Client,
        incoming: &Incoming,
        content: Content,
        on_the_chain: bool,
    ) -> Result<(), Refused> {
        let source = &incoming.info.source;
        let key =
            (source.chat.to_non_ad_string(), source.sender.to_non_ad_string(), incoming.info.id.to_string());
        let began = tokio::time::Instant::now();
        loop {
            let mut other = match self.begin(&key) {
                Ok(turn) => {
                    let info = &incoming.info;
                    let span = spans::receive(&self.0.account, &info.id, info.is_offline);
                    let stored = self.store(client, incoming, content, on_the_chain).instrument(span).await;
                    turn.end(stored.is_ok());
                    if stored.is_ok() {
                        metrics::RECEIVE.record(began.elapsed(), []);
                    }
                    return stored;
                }
                Err(other) => other,
            };
            let stored = tokio::select! {
                () = self.0.stop.cancelled() => return Err(Refused::Stopping),
                stored = other.wait_for(|stored| *stored) => stored.is_ok(),
            };
            if stored {
                return Ok(());
            }
        }
    }

    fn begin(&self, key: &Key) -> Result<UnderWay, watch::Receiver<bool>> {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = under_way.get(key) {
            return Err(other.clone());
        }
        let (sender, receiver) = watch::channel(false);
        under_way.insert(key.clone(), receiver);
        Ok(UnderWay { shared: Arc::clone(&self.0), key: key.clone(), sender })
    }

    async fn store(
        &self,
        client: &Client,
        incoming: &Incoming,
        content: Content,
        on_the_chain: bool,
    ) -> Result<(), Refused> {
        let info = &incoming.info;
        let learned = learn(client, &info.source).await;
        let peer = identity::peer(&info.source, learned.as_ref());
        let chat = self.until_answered(|| self.0.chats.find(&peer.candidates)).await?;
        spans::chat(&chat.token);
        let sender_other =
            if info.source.is_group { info.source.sender_alt.as_ref() } else { learned.as_ref() };
        let message = InboundMessage {
            account: self.0.account.to_string(),
            chat: chat.token.as_str().to_owned(),
            chat_jid: peer.jid,
            message_id: info.id.to_string(),
            sender: Some(identity::identity(
                &info.source.sender,
                sender_other.filter(|_| !info.source.is_from_me),
            )),
            push_name: info.push_name.clone(),
            from_me: info.source.is_from_me,
            chat_kind: peer.kind.into(),
            sent_at_ms: info.timestamp.timestamp_millis(),
            received_at_ms: now_ms(),
            quoted_message_id: content::quoted(&incoming.message),
            offline: info.is_offline,
            replay: None,
            content: Some(content),
        };
        let id = self.id(&chat.token, &message, &info.source.sender);
        tracing::info!(offline = info.is_offline, "received");
        let span = spans::publish_in(&self.0.subjects.stream_in(), &info.id);
        async {
            if on_the_chain {
                self.append(&chat, &id, message).await
            } else {
                self.update(&chat.token, &id, message).await
            }
        }
        .instrument(span)
        .await
    }

    fn id(&self, token: &ChatToken, message: &InboundMessage, sender: &Jid) -> String {
        // In a direct chat there are two senders, whatever address they come with.
        let sender = match (message.chat_kind(), message.from_me) {
            (_, true) => "me".to_owned(),
            (ChatKind::Direct, false) => token.as_str().to_owned(),
            (_, false) => sender.to_non_ad_string(),
        };
        id::inbound(&self.0.account, token, &sender, &message.message_id)
    }

    fn record(&self, subject: String, id: &str, message: &InboundMessage) -> Record {
        let mut headers =
            Headers::cloud_event(id, "InboundMessage", self.0.account.as_str(), message.received_at_ms);
        headers.set(header::MSG_ID, id);
        propagation::inject(&mut headers);
        Record { subject, headers, payload: Bytes::from(message.encode_to_vec()) }
    }

    /// Appends to the chat's list: one at a time, each expecting the one before it to be the last.
    async fn append(&self, chat: &Chat, id: &str, message: InboundMessage) -> Result<(), Refused> {
        let mut end = tokio::select! {
            () = self.0.stop.cancelled() => return Err(Refused::Stopping),
            end = chat.end.lock() => end,
        };
        let subject = self.0.subjects.message(&self.0.account, &chat.token);
        let mut record = self.record(subject.clone(), id, &message);
        let mut earlier_since = None;
        // Our own id at the end: an earlier attempt was stored, and nobody was there to hear it.
        while end.id.as_deref() != Some(id) {
            record.headers.set(header::PREV_SEQ, &end.sequence.to_string());
            record.headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &end.sequence.to_string());
            crash::point("edge.before-publish");
            match self.0.bus.append_until_known(&record, &self.0.stop).await {
                Ok(stored) => {
                    count(stored, &message);
                    *end = End { sequence: stored.sequence.max(end.sequence), id: Some(id.to_owned()) };
                }
                Err(AppendError::Refused) => {
                    metrics::CONFLICTS.add(1, ["in"]);
                    let found = self.until_answered(|| self.0.chats.end(&chat.token)).await?;
                    if found.sequence >= end.sequence {
                        *end = found;
                        continue;
                    }
                    // Never believe in less than is known, until it cannot be a lagging follower.
                    let since = *earlier_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() > BELIEVE_AN_EARLIER_END {
                        tracing::error!(
                            known = end.sequence,
                            found = found.sequence,
                            "the inbound stream has lost messages that it had stored"
                        );
                        *end = found;
                    }
                    self.pause(Duration::from_millis(100)).await?;
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
        Ok(())
    }

    /// Updates hang on no list: the message id is all they need.
    async fn update(&self, token: &ChatToken, id: &str, message: InboundMessage) -> Result<(), Refused> {
        let subject = self.0.subjects.update(&self.0.account, token);
        let record = self.record(subject, id, &message);
        match self.0.bus.append_until_known(&record, &self.0.stop).await {
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

    async fn until_answered<T, Fut>(&self, ask: impl Fn() -> Fut) -> Result<T, Refused>
    where
        Fut: Future<Output = Result<T, ReadError>>,
    {
        loop {
            let answer = tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return Err(Refused::Stopping),
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
        match tokio::time::timeout(time, self.0.stop.cancelled()).await {
            Ok(()) => Err(Refused::Stopping),
            Err(_elapsed) => Ok(()),
        }
    }
}

/// A message that WhatsApp hands over again is stored once, and counts once.
fn count(stored: Appended, message: &InboundMessage) {
    spans::stored(stored.sequence);
    if !stored.duplicate {
        metrics::MESSAGES.add(1, ["in", kind::content(message.content.as_ref())]);
    }
}

/// The right to store one message; given up on drop, so that a waiting copy takes over.
struct UnderWay {
    shared: Arc<Shared>,
    key: Key,
    sender: watch::Sender<bool>,
}

impl UnderWay {
    fn end(self, stored: bool) {
        self.sender.send_replace(stored);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
