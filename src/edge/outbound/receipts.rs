//! WhatsApp → bus: the receipts of sent messages.
//!
//! WhatsApp reports a receipt once, and nothing stores it. A receipt that comes while the process dies is lost, and
//! nothing waits for it. So receipts queue in memory, and block nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore::types::events::Receipt as Incoming;
use whatsapp_rust::wacore::types::message::MessageSource;
use whatsapp_rust::wacore::types::presence::ReceiptType;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::lookups::{Sent, SentAs};
use super::reports::State;
use crate::bus::Bus;
use crate::edge::addressing::chats::Chats;
use crate::edge::addressing::{identity, learn};
use crate::edge::session::Connection;
use crate::recent::Recent;
use crate::telemetry::{Seldom, metrics, spans};
use crate::wire::state::rank;
use crate::wire::v1::{ChatKind, ReceiptStatus};
use crate::wire::{Account, Subjects, kind};

/// The longest id of a message, in bytes. WhatsApp's have up to 32.
const ID: usize = 128;

/// How many receipts are put on the bus at once.
const AT_ONCE: usize = 32;

/// How many receipts wait in memory. One takes about 200 bytes. A receipt that comes when the queue is full is
/// lost, as in a crash.
const WAITING: usize = 20_000;
/// Of so many messages in groups it is remembered what members have told, or of twice as many at the most.
const TOLD: usize = 10_000;
/// And for so long. Later, a member's receipt is told once more.
const TOLD_FOR: Duration = Duration::from_secs(24 * 3_600);

/// Takes receipts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Receipts {
    queue: mpsc::Sender<Incoming>,
    lost: Arc<Seldom>,
}

/// Publishes receipts on the bus.
#[derive(Debug)]
pub(crate) struct Announcer {
    heard: mpsc::Receiver<Incoming>,
    teller: Teller,
}

#[derive(Debug)]
struct Teller {
    bus: Bus,
    subjects: Subjects,
    account: Account,
    /// The chats of messages that came lately.
    messages: Arc<Chats>,
    /// The chats of other receipts. Apart from those: a receipt may know only one of a person's addresses, and must not
    /// decide where that person's messages go.
    chats: Chats,
    connection: Connection,
    sent_as: SentAs,
    /// How far messages in groups have come, as members have told.
    told: Told,
    stop: CancellationToken,
}

impl Receipts {
    /// A queue for receipts, and the worker that empties it until `stop`.
    pub(crate) fn channel(
        bus: Bus,
        subjects: Subjects,
        account: Account,
        messages: Arc<Chats>,
        connection: Connection,
        sent_as: SentAs,
        stop: CancellationToken,
    ) -> (Self, Announcer) {
        let (queue, heard) = mpsc::channel(WAITING);
        let chats = Chats::new(bus.clone(), subjects.clone(), account.clone());
        let told = Told::new();
        let teller = Teller { bus, subjects, account, messages, chats, connection, sent_as, told, stop };
        (Self { queue, lost: Arc::default() }, Announcer { heard, teller })
    }

    /// A receipt has come. Receipts from the number's own devices and from lists say nothing about whom a chat is with.
    pub(crate) fn heard(&self, receipt: &Incoming) {
        if status(&receipt.r#type).is_some() && counts(&receipt.source) {
            match self.queue.try_send(receipt.clone()) {
                Err(mpsc::error::TrySendError::Full(_)) => {
                    if let Some(more) = self.lost.due() {
                        tracing::warn!(
                            waiting = WAITING,
                            more,
                            "receipts come faster than the bus stores them; one is lost"
                        );
                    }
                }
                // The channel is closed: the edge is stopping.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }
}

/// Can a message have this id? It goes into a header, and a phone may put anything into a receipt.
fn may_be(id: &str) -> bool {
    let legal = !id.is_empty()
        && id.len() <= ID
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
    if !legal {
        tracing::debug!(bytes = id.len(), "a receipt of a message that there cannot be is left out");
    }
    legal
}

/// Is it from the person that the chat is with, or from a member of the group? The library fills in neither `is_group`
/// nor, mostly, `is_from_me`.
fn counts(source: &MessageSource) -> bool {
    let (chat, sender) = (&source.chat, &source.sender);
    if chat.is_group() {
        return sender != chat && !source.is_from_me;
    }
    let alone = chat.is_pn() || chat.is_lid();
    let same = chat.user == sender.user || sender.server != chat.server;
    alone && same && !source.is_from_me
}

/// Is it the number's own? Its other devices tell of messages in groups, too.
fn is_own(sender: &Jid, own: [Option<Jid>; 2]) -> bool {
    own.into_iter().flatten().any(|own| own.user == sender.user && own.server == sender.server)
}

fn status(kind: &ReceiptType) -> Option<ReceiptStatus> {
    match kind {
        ReceiptType::Delivered => Some(ReceiptStatus::Delivered),
        ReceiptType::Read => Some(ReceiptStatus::Read),
        ReceiptType::Played => Some(ReceiptStatus::Played),
        _ => None,
    }
}

/// How far messages in groups have come, as members have told. So that a hundred members make no hundred receipts.
#[derive(Debug)]
struct Told(Mutex<Recent<String, u32>>);

impl Told {
    fn new() -> Self {
        Self(Mutex::new(Recent::new(TOLD, TOLD_FOR, |_| false, Instant::now())))
    }

    /// Has no member told as much of the message? Remembers that one has.
    fn is_news(&self, id: &str, status: ReceiptStatus) -> bool {
        let (rank, now) = (rank(status), Instant::now());
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.get(&id.to_owned(), now).copied().unwrap_or_default();
        if rank > before {
            told.insert(id.to_owned(), rank, now);
        }
        rank > before
    }
}

impl Announcer {
    /// Ends with the session, or with `stop`.
    pub(crate) async fn run(self) {
        let Self { mut heard, teller } = self;
        let stop = &teller.stop;
        stream::poll_fn(|context| heard.poll_recv(context))
            .take_until(stop.cancelled())
            .for_each_concurrent(AT_ONCE, async |receipt| {
                stop.run_until_cancelled(teller.announce(&receipt)).await;
            })
            .await;
    }
}

impl Teller {
    async fn announce(&self, receipt: &Incoming) {
        let Some(status) = status(&receipt.r#type) else { return };
        let source = &receipt.source;
        let client = self.connection.client().await;
        let in_group = source.chat.is_group();
        if in_group && is_own(&source.sender, [client.pn(), client.lid()]) {
            return;
        }
        let learned = learn(&client, source, None).await;
        let peer = identity::peer(source, learned.as_ref());
        if !matches!(peer.kind, ChatKind::Direct | ChatKind::Group) {
            return;
        }
        let found = match self.messages.known(&peer.candidates) {
            Some(chat) => Ok(chat),
            None => self.chats.find(&peer.candidates).await,
        };
        let chat = match found {
            Ok(chat) => chat,
            Err(error) => {
                tracing::debug!(%error, "the chat of a receipt cannot be found");
                return;
            }
        };
        for id in receipt.message_ids.iter().filter(|id| may_be(id)) {
            let code = kind::code(status.as_str_name(), "RECEIPT_STATUS_");
            let sent = self.sent_as.get(id);
            let is_of_another = sent.as_ref().is_some_and(|sent| sent.chat.as_ref() != Some(&chat.token));
            // Of a hundred members' receipts the first one counts.
            if in_group && (is_of_another || !self.told.is_news(id, status)) {
                continue;
            }
            let Sent { chat: asked, cause } = sent.unwrap_or_default();
            let token = asked.unwrap_or_else(|| chat.token.clone());
            let span = spans::receipt(&self.account, &token, id, &code);
            let state = State {
                account: &self.account,
                chat: &token,
                whatsapp_ids: std::slice::from_ref(id),
                request_id: &cause,
                status,
                at_ms: receipt.timestamp.timestamp_millis(),
                detail: "",
            };
            self.store(state, &code).instrument(span).await;
        }
    }

    async fn store(&self, state: State<'_>, code: &str) {
        let record = state.record(&self.subjects);
        match self.bus.append_until_known(&record, &self.stop).await {
            Ok(stored) => {
                spans::stored(stored.sequence);
                metrics::RECEIPTS.add(usize::from(!stored.duplicate), [code]);
            }
            Err(error) => tracing::debug!(%error, "a receipt did not get on the bus"),
        }
    }
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::Jid;

    use super::*;

    #[test]
    fn what_no_message_can_have_is_no_id() {
        let long = "A".repeat(ID + 1);
        for (id, want) in [
            ("3EB0C1D2E3F4A5B60718", true),
            ("false_5491112345678:1_3EB0-A.b", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("A\rB", false),
            ("A/B", false),
            ("é", false),
        ] {
            assert_eq!(may_be(id), want, "{id}");
        }
    }

    #[test]
    fn a_receipt_counts_if_it_is_of_the_person_that_the_chat_is_with_or_of_a_member() {
        let (ana, lid, luis, group) =
            (Jid::pn("54911"), Jid::lid("987"), Jid::pn("54922"), Jid::group("120363"));
        let device = Jid::pn_device("54911", 3);
        let list: Jid = "88@broadcast".parse().unwrap();
        for (chat, sender, want) in [
            (&ana, &ana, true),
            (&ana, &device, true),
            (&lid, &lid, true),
            // By the other of their two addresses.
            (&lid, &ana, true),
            (&ana, &luis, false),
            (&group, &ana, true),
            (&group, &group, false),
            (&list, &ana, false),
            (&Jid::status_broadcast(), &ana, false),
        ] {
            let source =
                MessageSource { chat: chat.clone(), sender: sender.clone(), ..MessageSource::default() };
            assert_eq!(counts(&source), want, "{chat} {sender}");
            let own = MessageSource { is_from_me: true, ..source };
            assert!(!counts(&own));
        }
    }

    #[test]
    fn of_many_members_the_first_one_counts() {
        let told = Told::new();
        use ReceiptStatus::{Delivered, Played, Read};
        for (id, status, want) in [
            ("A", Delivered, true),
            ("A", Delivered, false),
            ("A", Read, true),
            ("A", Read, false),
            // It has been read: that says that a phone has it.
            ("A", Delivered, false),
            ("A", Played, true),
            ("B", Read, true),
            ("B", Delivered, false),
        ] {
            assert_eq!(told.is_news(id, status), want, "{id} {status:?}");
        }
        let own = || [Some(Jid::pn_device("15551", 3)), Some(Jid::lid("77"))];
        assert!(is_own(&Jid::lid("77"), own()) && is_own(&Jid::pn("15551"), own()));
        assert!(!is_own(&Jid::lid("15551"), own()) && !is_own(&Jid::pn("77"), own()));
    }
}
