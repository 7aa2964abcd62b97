//! WhatsApp → bus: the receipts of sent messages.
//!
//! WhatsApp reports a receipt once, and nothing stores it. A receipt that comes while the process dies is lost, and
//! nothing waits for it. So receipts queue in memory, and block nothing else.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::wacore::types::events::Receipt as Incoming;
use whatsapp_rust::wacore::types::message::MessageSource;
use whatsapp_rust::wacore::types::presence::ReceiptType;

use super::lookups::{Sent, SentAs};
use super::reports::State;
use crate::bus::Bus;
use crate::edge::addressing::chats::Chats;
use crate::edge::addressing::{identity, learn};
use crate::edge::session::Connection;
use crate::telemetry::{Seldom, metrics, spans};
use crate::wire::v1::{ChatKind, ReceiptStatus};
use crate::wire::{Account, Subjects, kind};

/// The longest id of a message, in bytes. WhatsApp's have up to 32.
const ID: usize = 128;

/// How many receipts are put on the bus at once.
const AT_ONCE: usize = 32;

/// How many receipts wait in memory. One takes about 200 bytes. A receipt that comes when the queue is full is
/// lost, as in a crash.
const WAITING: usize = 20_000;

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
        let teller = Teller { bus, subjects, account, messages, chats, connection, sent_as, stop };
        (Self { queue, lost: Arc::default() }, Announcer { heard, teller })
    }

    /// A receipt has come. Receipts from the number's own devices, from groups and from lists say nothing about the
    /// person that a chat is with.
    pub(crate) fn heard(&self, receipt: &Incoming) {
        if status(&receipt.r#type).is_some() && of_a_person(&receipt.source) {
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

/// Is it from the person that the chat is with? The library fills in neither `is_group` nor, mostly, `is_from_me`.
fn of_a_person(source: &MessageSource) -> bool {
    let (chat, sender) = (&source.chat, &source.sender);
    let alone = chat.is_pn() || chat.is_lid();
    let same = chat.user == sender.user || sender.server != chat.server;
    alone && same && !source.is_from_me
}

fn status(kind: &ReceiptType) -> Option<ReceiptStatus> {
    match kind {
        ReceiptType::Delivered => Some(ReceiptStatus::Delivered),
        ReceiptType::Read => Some(ReceiptStatus::Read),
        ReceiptType::Played => Some(ReceiptStatus::Played),
        _ => None,
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
        let learned = learn(&*self.connection.client().await, source, None).await;
        let peer = identity::peer(source, learned.as_ref());
        if peer.kind != ChatKind::Direct {
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
            let Sent { chat: asked, cause } = self.sent_as.get(id).unwrap_or_default();
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
    fn a_receipt_counts_if_it_is_of_the_person_that_the_chat_is_with() {
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
            (&group, &ana, false),
            (&group, &group, false),
            (&list, &ana, false),
            (&Jid::status_broadcast(), &ana, false),
        ] {
            let source =
                MessageSource { chat: chat.clone(), sender: sender.clone(), ..MessageSource::default() };
            assert_eq!(of_a_person(&source), want, "{chat} {sender}");
            let own = MessageSource { is_from_me: true, ..source };
            assert!(!of_a_person(&own));
        }
    }
}
