//! Every message passes this hook before WhatsApp may mark it "received".
//!
//! While the bus is away, the hook waits and tries again. It gives up only when the process stops. It does not
//! refuse the message, because later messages would then overtake it: WhatsApp redelivers only on a reconnect. The
//! one exception is a message that must wait for an earlier one, see `session::Resends`.
//! thing that is refused is what has to wait for a message before it, see `session::Resends`.)

use std::sync::Arc;

use futures::future;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::wacore::types::events::InboundMessage as Incoming;
use whatsapp_rust::{Client, InboundDurabilityHook, Jid, anyhow};

use super::append::Appender;
use super::arrival::{Arrival, lanes};
use super::content::Mapped;
use super::under_way::UnderWay;
use crate::bus::Bus;
use crate::crash;
use crate::edge::addressing::chats::Chats;
use crate::edge::addressing::{identity, learn};
use crate::edge::session::Resends;
use crate::telemetry::{metrics, spans};
use crate::wire::v1::{ChatKind, InboundMessage, inbound_message::Content};
use crate::wire::{Account, ChatToken, Subjects, id, now_ms};

/// Why a message is refused. WhatsApp redelivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The process is stopping.
    #[error("the edge is stopping")]
    Stopping,
    /// It would overtake a message of its chat that must come again.
    #[error("a message before it has to come first")]
    TooEarly,
}

/// The hook. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Inbound(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    appender: Appender,
    resends: Resends,
    under_way: UnderWay,
}

#[async_trait::async_trait]
impl InboundDurabilityHook for Inbound {
    async fn on_messages(&self, client: Arc<Client>, batch: &[Incoming]) -> anyhow::Result<()> {
        // A drained queue brings messages of many chats at once. The chats do not wait for each other; each keeps
        // its order.
        let lanes = lanes(batch).into_iter().map(|lane| async {
            let mut refused = Ok(());
            for arrival in lane {
                // If one message is too early, the next ones are still checked, and get the same answer.
                match self.receive(&client, arrival).await {
                    Err(Refused::Stopping) => return Err(Refused::Stopping),
                    received => refused = refused.and(received),
                }
            }
            refused
        });
        // Wait for all of them: the next messages of a chat must find these finished.
        let received = future::join_all(lanes).await;
        crash::point("edge.after-puback");
        Ok(received.into_iter().collect::<Result<(), Refused>>()?)
    }
}

/// What the hook publishes, and how.
#[derive(Debug, Clone)]
struct Storing {
    content: Content,
    on_the_chain: bool,
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
        let appender = Appender { bus, subjects, account, chats, stop };
        Self(Arc::new(Shared { appender, resends, under_way: UnderWay::default() }))
    }

    /// Returns when the message is stored, or needs no storing.
    async fn receive(&self, client: &Client, mut arrival: Arrival<'_>) -> Result<(), Refused> {
        let Shared { resends, .. } = &*self.0;
        let received = match std::mem::replace(&mut arrival.mapped, Mapped::Nothing) {
            Mapped::Nothing => Ok(()),
            Mapped::Update(content) => {
                self.once(client, &arrival, Storing { content, on_the_chain: false }).await
            }
            Mapped::Message(_) if !resends.lets_pass(&arrival.chat, &arrival.id) => {
                return Err(Refused::TooEarly);
            }
            Mapped::Message(content) => {
                self.once(client, &arrival, Storing { content, on_the_chain: true }).await
            }
        };
        if received.is_ok() {
            resends.dealt_with(&arrival.chat, &arrival.id);
        }
        received
    }

    /// Returns when the message is stored, by this call or by another call that has it in flight.
    async fn once(&self, client: &Client, arrival: &Arrival<'_>, storing: Storing) -> Result<(), Refused> {
        let Shared { appender, under_way, .. } = &*self.0;
        let (key, began) = (arrival.key(), tokio::time::Instant::now());
        loop {
            let mut other = match under_way.begin(&key) {
                Ok(turn) => {
                    let span = spans::receive(&appender.account, &arrival.id, arrival.info.is_offline);
                    let stored = self.store(client, arrival, storing).instrument(span).await;
                    turn.end(stored.is_ok());
                    if stored.is_ok() {
                        metrics::RECEIVE.record(began.elapsed(), []);
                    }
                    return stored;
                }
                Err(other) => other,
            };
            let stored = tokio::select! {
                () = appender.stop.cancelled() => return Err(Refused::Stopping),
                stored = other.wait_for(|stored| *stored) => stored.is_ok(),
            };
            if stored {
                return Ok(());
            }
        }
    }

    async fn store(&self, client: &Client, arrival: &Arrival<'_>, storing: Storing) -> Result<(), Refused> {
        let appender = &self.0.appender;
        let Storing { content, on_the_chain } = storing;
        let (info, source) = (arrival.info, &arrival.info.source);
        let learned = learn(client, source).await;
        let peer = identity::peer(source, learned.as_ref());
        let chat = appender.chat(&peer.candidates).await?;
        spans::chat(&chat.token);
        let sender_other = if source.is_group { source.sender_alt.as_ref() } else { learned.as_ref() };
        let self_chat = identity::is_note_to_self(source, [client.pn().as_ref(), client.lid().as_ref()]);
        let sender_other =
            if self_chat { source.sender_alt.as_ref() } else { sender_other.filter(|_| !source.is_from_me) };
        let message = InboundMessage {
            account: appender.account.to_string(),
            chat: chat.token.as_str().to_owned(),
            chat_jid: peer.jid,
            message_id: arrival.id.clone(),
            sender: Some(identity::identity(&source.sender, sender_other)),
            push_name: info.push_name.clone(),
            from_me: source.is_from_me,
            self_chat,
            chat_kind: peer.kind.into(),
            sent_at_ms: info.timestamp.timestamp_millis(),
            received_at_ms: now_ms(),
            quoted_message_id: arrival.quoted.clone(),
            offline: info.is_offline,
            replay: None,
            content: Some(content),
        };
        let id = stored_id(&appender.account, &chat.token, &message, &source.sender);
        tracing::info!(offline = info.is_offline, "received");
        let span = spans::publish_in(&appender.subjects.stream_in(), &arrival.id);
        async {
            if on_the_chain {
                appender.message(&chat, &id, message).await
            } else {
                appender.update(&chat.token, &id, message).await
            }
        }
        .instrument(span)
        .await
    }
}

fn stored_id(account: &Account, token: &ChatToken, message: &InboundMessage, sender: &Jid) -> String {
    // A direct chat has two senders, whatever addresses they use.
    let sender = match (message.chat_kind(), message.from_me) {
        (_, true) => "me".to_owned(),
        (ChatKind::Direct, false) => token.as_str().to_owned(),
        (_, false) => sender.to_non_ad_string(),
    };
    id::inbound(account, token, &sender, &message.message_id)
}
