//! Every message passes this hook before WhatsApp may mark it "received".
//!
//! While the bus is away, the hook waits and tries again. It gives up only when the process stops. It does not
//! refuse the message, because later messages would then overtake it: WhatsApp redelivers only on a reconnect. The
//! one exception is a message that must wait for an earlier one, see `session::Resends`.

use std::sync::Arc;

use futures::future;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::wacore::types::events::InboundMessage as Incoming;
use whatsapp_rust::wacore::types::message::{MessageInfo, MessageSource};
use whatsapp_rust::wacore_binary::JidExt as _;
use whatsapp_rust::{Client, InboundDurabilityHook, Jid, anyhow};

use super::append::Appender;
use super::arrival::{Arrival, lanes};
use super::bound;
use super::content::{self, Mapped};
use super::media::{Files, Pending};
use super::named;
use super::sealed;
use super::under_way::UnderWay;
use crate::bus::Bus;
use crate::crash;
use crate::edge::addressing::chats::Chats;
use crate::edge::addressing::offers::Offers;
use crate::edge::addressing::opt_outs::{OptOuts, Said};
use crate::edge::addressing::takeovers::{Takeovers, Typed};
use crate::edge::addressing::timers::Timers;
use crate::edge::addressing::{identity, learn};
use crate::edge::session::{Changed, Extra, Groups, Poll, Polls, Resends};
use crate::telemetry::{Seldom, metrics, spans};
use crate::wire::v1::{
    self, ChatKind, GroupAction, Identity, InboundMessage, MissedCall, inbound_message::Content,
};
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
    polls: Polls,
    unkept: Seldom,
    extra: Extra,
    under_way: UnderWay,
    timers: Timers,
    takeovers: Takeovers,
    opt_outs: OptOuts,
    files: Option<Files>,
    groups: Groups,
}

/// What is known of earlier messages.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What was offered last in each chat.
    pub offers: Offers,
    /// The chats' disappearing timers.
    pub timers: Timers,
    /// The chats that a person has taken over.
    pub takeovers: Takeovers,
    /// Who wants nothing unasked.
    pub opt_outs: OptOuts,
    /// The messages that must come again.
    pub resends: Resends,
    /// The polls whose votes can be read.
    pub polls: Polls,
    /// What goes on the bus beside what people write to the number.
    pub extra: Extra,
    /// The files that are to be fetched, if files are.
    pub files: Option<Files>,
    /// What is known of groups.
    pub groups: Groups,
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
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the end of its chat's list.
    Chain,
    /// The same, in place of a message that cannot be read.
    Placeholder,
    /// Beside the list.
    Update,
}

impl Inbound {
    /// A hook that publishes for `account` until `stop`.
    pub(crate) fn new(
        bus: Bus,
        subjects: Subjects,
        account: Account,
        memory: Memory,
        stop: CancellationToken,
    ) -> Self {
        let Memory { offers, timers, takeovers, opt_outs, resends, polls, extra, files, groups } = memory;
        let chats = Arc::new(Chats::new(bus.clone(), subjects.clone(), account.clone()));
        let appender = Appender { bus, subjects, account, chats, offers, stop };
        let under_way = UnderWay::default();
        let unkept = Seldom::default();
        Self(Arc::new(Shared {
            appender,
            resends,
            polls,
            unkept,
            extra,
            under_way,
            timers,
            takeovers,
            opt_outs,
            files,
            groups,
        }))
    }

    /// The chats that messages came from.
    pub(crate) fn chats(&self) -> Arc<Chats> {
        Arc::clone(&self.0.appender.chats)
    }

    /// Stores an update beside its chat's list.
    pub(super) async fn update(
        &self,
        chat: &ChatToken,
        id: &str,
        update: InboundMessage,
    ) -> Result<(), Refused> {
        self.0.appender.update(chat, id, update).await
    }

    /// Returns when the message is stored, or needs no storing.
    async fn receive(&self, client: &Client, mut arrival: Arrival<'_>) -> Result<(), Refused> {
        let Shared { resends, .. } = &*self.0;
        let received = match std::mem::replace(&mut arrival.mapped, Mapped::Nothing) {
            Mapped::Nothing => Ok(()),
            _ if !self.0.extra.wants(&arrival.info.source.chat) => Ok(()),
            Mapped::Update(content) => {
                self.once(client, &arrival, Storing { content, place: Place::Update }).await
            }
            Mapped::Message(_) if !resends.lets_pass(&arrival.waits, &arrival.info.id) => {
                return Err(Refused::TooEarly);
            }
            Mapped::Message(content) => {
                self.once(client, &arrival, Storing { content, place: Place::Chain }).await
            }
        };
        if received.is_ok() {
            resends.dealt_with(&arrival.waits, &arrival.info.id);
        }
        received
    }

    /// Stores a message that nobody would bring again: in its place if its chat waits for it, else as the last one.
    pub(super) async fn late(&self, client: &Client, incoming: &Incoming) {
        let Shared { resends, appender, .. } = &*self.0;
        loop {
            let arrival = Arrival::read(incoming);
            let turn = resends.its_turn(&arrival.waits, &arrival.info.id);
            if appender.stop.run_until_cancelled(turn).await.is_none() {
                return;
            }
            if self.receive(client, arrival).await != Err(Refused::TooEarly) {
                return;
            }
        }
    }

    /// Stores word of a message that nobody can read.
    pub(super) async fn placeholder(&self, client: &Client, info: &MessageInfo, kind: &str) {
        let content = content::unsupported(kind.to_owned());
        self.aside(client, info, Storing { content, place: Place::Placeholder }).await;
    }

    /// Stores word of a call that nobody took.
    pub(super) async fn missed_call(&self, client: &Client, info: &MessageInfo, video: bool) {
        let content = Content::MissedCall(MissedCall { video });
        self.aside(client, info, Storing { content, place: Place::Update }).await;
    }

    /// Stores word of a changed group.
    pub(super) async fn group_change(&self, client: &Client, changed: Changed) {
        let Changed { info, change } = changed;
        let timer = (change.action() == GroupAction::Timer).then_some(change.seconds);
        let arrival = Arrival { timer, ..Arrival::unread(&info) };
        let storing = Storing { content: Content::GroupChange(change), place: Place::Update };
        self.store_aside(client, &arrival, storing).await;
    }

    async fn aside(&self, client: &Client, info: &MessageInfo, storing: Storing) {
        self.store_aside(client, &Arrival::unread(info), storing).await;
    }

    async fn store_aside(&self, client: &Client, arrival: &Arrival<'_>, storing: Storing) {
        let info = arrival.info;
        let span = spans::receive(&self.0.appender.account, &arrival.id, info.is_offline);
        // An error says that the process is stopping.
        let _ = Box::pin(self.store(client, arrival, storing)).instrument(span).await;
    }

    /// Returns when the message is stored, by this call or by another call that has it in flight.
    async fn once(&self, client: &Client, arrival: &Arrival<'_>, storing: Storing) -> Result<(), Refused> {
        let Shared { appender, under_way, .. } = &*self.0;
        let (key, began) = (arrival.key(), tokio::time::Instant::now());
        loop {
            let mut other = match under_way.begin(&key) {
                Ok(turn) => {
                    let span = spans::receive(&appender.account, &arrival.id, arrival.info.is_offline);
                    let stored = Box::pin(self.store(client, arrival, storing)).instrument(span).await;
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
        let (info, source) = (arrival.info, &arrival.info.source);
        let (is_typed, at_ms) = (Self::is_typed(client, info, &storing), info.timestamp.timestamp_millis());
        let Storing { mut content, place } = storing;
        let learned = learn(client, source, info.peer_recipient_pn.as_ref()).await;
        let peer = identity::peer(source, learned.as_ref());
        // Before anything is awaited of the bus, so that no answer overtakes it.
        let _noted = self.0.takeovers.note(if is_typed { &peer.candidates } else { &[] }, at_ms);
        // In a group nobody speaks of the whole group, and what only changes an earlier message says nothing anew.
        let may_opt = peer.kind == ChatKind::Direct && !source.is_from_me && place == Place::Chain;
        let word = self.0.opt_outs.word(&content).filter(|_| may_opt);
        let _heard = word.map(|_| self.0.opt_outs.note(&peer.candidates));
        let chat = appender.chat(&peer.candidates).await?;
        spans::chat(&chat.token);
        let self_chat = identity::is_note_to_self(source, [client.pn().as_ref(), client.lid().as_ref()]);
        let sender =
            identity::identity(&source.sender, sender_other(peer.kind, self_chat, source, learned.as_ref()));
        let mut context = arrival.context.clone();
        let known = [identity::own(client.pn().as_ref(), client.lid().as_ref()), sender.clone()];
        named::complete(&mut content, context.as_mut(), &known);
        self.votes(arrival, &chat.token, &mut content, named::with_both(&sender, &known)).await;
        let disappears_after_s = self.0.timers.learn(&chat.token, arrival.timer, at_ms);
        let mut message = InboundMessage {
            account: appender.account.to_string(),
            chat: chat.token.as_str().to_owned(),
            chat_jid: peer.jid,
            message_id: arrival.id.clone(),
            sender: Some(sender),
            push_name: bound::line(Some(&info.push_name)),
            from_me: source.is_from_me,
            self_chat,
            chat_kind: peer.kind.into(),
            sent_at_ms: at_ms,
            received_at_ms: now_ms(),
            quoted_message_id: arrival.quoted.clone(),
            offline: info.is_offline,
            replay: None,
            disappears_after_s,
            content: Some(content),
            context,
            group: self.group(source),
        };
        let mut id = stored_id(&appender.account, &chat.token, &message, &source.sender);
        if is_typed {
            self.taken_over(&chat.token, Typed { inbound_id: &id, message_id: &arrival.id, at_ms }).await?;
        }
        if place == Place::Placeholder {
            id = id::placeholder(&id);
        }
        let pending = self.announced(arrival, &mut message);
        tracing::info!(offline = info.is_offline, "received");
        let span = spans::publish_in(&appender.subjects.stream_in(), &arrival.id);
        let picked = async {
            match place {
                Place::Chain | Place::Placeholder => appender.message(&chat, &id, message).await,
                Place::Update => appender.update(&chat.token, &id, message).await.map(|()| None),
            }
        }
        .instrument(span)
        .await?;
        // Who writes an option's number has picked what it says.
        if let Some(state) = word.or_else(|| self.0.opt_outs.word(picked.as_ref().filter(|_| may_opt)?)) {
            let said = Said { state, inbound_id: &id, message_id: &arrival.id, at_ms };
            let heard = self.0.opt_outs.heard(&chat.token, &peer.candidates, said, &appender.stop);
            Box::pin(heard).await.map_err(|_stopped| Refused::Stopping)?;
        }
        crash::point("edge.before-job");
        match pending {
            Some((files, pending)) => Box::pin(files.take_on(self, (&chat.token, &id), pending)).await,
            None => Ok(()),
        }
    }

    /// The file in the message, if it is to be fetched. The message says that it will come.
    fn announced(
        &self,
        arrival: &Arrival<'_>,
        message: &mut InboundMessage,
    ) -> Option<(&Files, Box<Pending>)> {
        let (files, attached) = self.0.files.as_ref().zip(arrival.attached.as_ref())?;
        let file = files.announce(attached, message)?;
        Some((files, Box::new(Pending { file, attached: attached.clone(), message: message.clone() })))
    }

    /// Has a person of the number written it, by hand and to somebody? What is only about an earlier message does not count.
    fn is_typed(client: &Client, info: &MessageInfo, storing: &Storing) -> bool {
        let own = [client.pn(), client.lid()];
        let by_hand = match (storing.place, &storing.content) {
            (Place::Update, _) => false,
            (Place::Chain, Content::Unsupported(other)) => !other.kind.starts_with("protocolMessage"),
            (Place::Chain | Place::Placeholder, _) => true,
        };
        by_hand && identity::is_typed_by_a_person(&info.source, own.each_ref().map(Option::as_ref))
    }

    /// Returns when the bus has it that a person has the chat.
    async fn taken_over(&self, chat: &ChatToken, typed: Typed<'_>) -> Result<(), Refused> {
        let Shared { takeovers, appender, .. } = &*self.0;
        takeovers.heard(chat, typed, &appender.stop).await.map_err(|_stopped| Refused::Stopping)
    }

    /// What is known of the group that the message is in. Never waits.
    fn group(&self, source: &MessageSource) -> Option<v1::Group> {
        let group = self.0.groups.known(Some(&source.chat).filter(|chat| chat.is_group())?)?;
        Some(v1::Group { announce: group.announce, admin: group.admin, subject: group.subject })
    }

    /// Keeps a poll or an event before it is on the bus; opens a vote or an answer.
    async fn votes(&self, arrival: &Arrival<'_>, chat: &ChatToken, content: &mut Content, by: Identity) {
        let polls = &self.0.polls;
        if let Some(kept) = &arrival.kept {
            let poll = Poll { creator: by, ..kept.clone() };
            if let Err(error) = polls.keep(chat, &arrival.id, poll).await
                && let Some(more) = self.0.unkept.due()
            {
                tracing::warn!(%error, more, "a poll or an event cannot be kept; its votes will not be readable");
            }
        } else if let Some(sealed) = &arrival.sealed {
            let poll = polls.find(chat, &sealed.about).await.unwrap_or_else(|error| {
                if let Some(more) = self.0.unkept.due() {
                    tracing::warn!(%error, more, "the session's store cannot be read; a vote stays unread");
                }
                None
            });
            sealed::open(content, sealed, poll.as_ref(), &by);
        }
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

/// The other address of the sender.
fn sender_other<'a>(
    kind: ChatKind,
    self_chat: bool,
    source: &'a MessageSource,
    learned: Option<&'a Jid>,
) -> Option<&'a Jid> {
    match kind {
        _ if self_chat => source.sender_alt.as_ref(),
        _ if source.is_from_me => None,
        ChatKind::Direct => learned,
        _ => source.sender_alt.as_ref(),
    }
}
