//! What people see beside messages: that the assistant types, and that their messages are read. Nothing waits for it, and
//! nothing fails for it: it is said at most once, over the connection that is there, and takes no token of any rate limit.
//!
//! `typing` and `read_marks` decide, this says it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::wacore_binary::JidExt as _;
use whatsapp_rust::{Client, Jid};

use super::job::address;
use super::read_marks::{ReadMarks, Whose};
use super::typing::{Board, Next, Word};
use crate::bus::{Bus, Delivery};
use crate::edge::session::{Connection, Groups};
use crate::telemetry::metrics;
use crate::wire::v1::Outcome;
use crate::wire::{Account, Subjects, TypingNote, header, now_ms};

/// The shortest time between two words of a kind, so that they leave room for messages.
const PACE: Duration = Duration::from_millis(25);
/// How long one word may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last words may take, when the edge stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// When the subscription is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What is missing without the permission to subscribe.
const HEARS: &str = "that this edge hears when the assistant types";

/// What people see (`TYPING`, `READ_RECEIPTS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    /// That the assistant types.
    pub typing: bool,
    /// That their messages are read.
    pub reads: bool,
}

/// Hears what there is to say. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Courtesies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    shown: Shown,
    board: Mutex<Board>,
    reads: Mutex<ReadMarks>,
    /// There may be something to say.
    moved: Notify,
    has_read: Notify,
}

impl Courtesies {
    /// Nothing to say yet.
    pub(crate) fn new(shown: Shown) -> Self {
        Self(Arc::new(Shared {
            shown,
            board: Mutex::new(Board::new(Instant::now())),
            reads: Mutex::default(),
            moved: Notify::new(),
            has_read: Notify::new(),
        }))
    }

    /// An outcome is stored.
    pub(super) fn stored(&self, delivery: &Delivery) {
        if !self.0.shown.reads || !is_outcome(delivery) {
            return;
        }
        let chat = &delivery.envelope.route.chat;
        let outcome = Outcome::decode(delivery.payload.clone());
        if outcome.is_ok_and(|outcome| self.reads().stored(chat, &outcome)) {
            self.0.has_read.notify_one();
        }
    }

    /// What an outcome says is sent, or will never be.
    pub(super) fn dealt_with(&self, delivery: &Delivery) {
        let in_seq = delivery.envelope.headers.sequence(header::IN_SEQ);
        if let Some(in_seq) = in_seq.filter(|_| self.0.shown.typing && is_outcome(delivery)) {
            self.board().answered(&delivery.envelope.route.chat, in_seq, Instant::now());
            self.0.moved.notify_one();
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reads(&self) -> MutexGuard<'_, ReadMarks> {
        self.0.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_outcome(delivery: &Delivery) -> bool {
    delivery.envelope.route.kind == "reply"
}

/// Says it to WhatsApp, for one term of the lease.
#[derive(Debug)]
pub(crate) struct Courteous {
    /// What there is to say.
    pub courtesies: Courtesies,
    /// Forwarders say there that the backend works.
    pub bus: Bus,
    /// Where.
    pub subjects: Subjects,
    /// For this number.
    pub account: Account,
    /// The way to WhatsApp.
    pub connection: Connection,
    /// Where the number may not write, it does not type.
    pub groups: Groups,
    /// Take back what is shown, and end.
    pub stop: CancellationToken,
}

impl Courteous {
    /// Works until `stop`; not for a moment longer than the lease, which is `lost`.
    pub(crate) async fn run(self, lost: CancellationToken) {
        let Shown { typing, reads } = self.courtesies.0.shown;
        let types = async {
            if typing {
                tokio::join!(self.hear(), self.type_on());
            }
        };
        let marks = async {
            if reads {
                self.mark().await;
            }
        };
        Box::pin(lost.run_until_cancelled(async { tokio::join!(types, marks) })).await;
    }

    /// Hears the forwarders.
    async fn hear(&self) {
        let subject = self.subjects.all_typing(Some(&self.account));
        let hear = async {
            loop {
                match self.bus.hear(HEARS, &subject).await {
                    Ok(mut heard) => {
                        while let Some((subject, payload)) = heard.next().await {
                            self.note(&subject, &payload);
                        }
                    }
                    Err(error) => tracing::debug!(%error, "this edge does not hear when the assistant types"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        self.stop.run_until_cancelled(hear).await;
    }

    /// What a forwarder says. It may be anything.
    fn note(&self, subject: &str, payload: &[u8]) {
        let Some(chat) = self.subjects.route(subject).map(|route| route.chat) else { return };
        let Some(TypingNote { in_seq, chat_jid, until_ms }) = TypingNote::read(payload) else { return };
        let left_ms = u64::try_from(until_ms.saturating_sub(now_ms())).unwrap_or_default();
        if left_ms == 0 {
            self.courtesies.board().stops(&chat, in_seq);
        } else if let Some(to) = address(&chat_jid).filter(|to| self.may_type_to(to)) {
            let left = Duration::from_millis(left_ms);
            self.courtesies.board().begins(chat, in_seq, to, left, Instant::now());
        }
        self.courtesies.0.moved.notify_one();
    }

    fn may_type_to(&self, to: &Jid) -> bool {
        to.is_pn()
            || to.is_lid()
            || (to.is_group() && !self.groups.known(to).is_some_and(|group| group.is_closed()))
    }

    /// Tells WhatsApp, one word after the other.
    async fn type_on(&self) {
        while !self.stop.is_cancelled() {
            let moved = self.courtesies.0.moved.notified();
            let next = self.courtesies.board().next(Instant::now());
            let wait = async {
                match next {
                    Next::Tell(..) => return Some(self.connection.client().await),
                    Next::At(at) => drop(tokio::time::timeout_at(at, moved).await),
                    Next::Nothing => moved.await,
                }
                None
            };
            // A word that has begun is not cut off.
            if let Some(Some(client)) = self.stop.run_until_cancelled(wait).await {
                self.tell_next(&client).await;
            }
        }
        self.courtesies.board().close();
        let last_words = async {
            let client = self.connection.client().await;
            while self.tell_next(&client).await {}
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    }

    /// Says what is due, if anything is.
    async fn tell_next(&self, client: &Client) -> bool {
        let (chat, to, word) = {
            let (mut board, now) = (self.courtesies.board(), Instant::now());
            let Next::Tell(chat, to, word) = board.next(now) else { return false };
            board.telling(&chat, word, now);
            (chat, to, word)
        };
        let name = match word {
            Word::Composing => "composing",
            Word::Paused => "paused",
        };
        let saying = async {
            let said = match word {
                Word::Composing => client.chatstate().send_composing(&to).await,
                Word::Paused => client.chatstate().send_paused(&to).await,
            };
            said.map_err(|error| error.to_string())
        };
        if !said(name, saying).await && word == Word::Paused {
            self.courtesies.board().owes(chat, to, Instant::now());
        }
        true
    }

    /// Marks messages as read, a stanza after the other.
    async fn mark(&self) {
        while !self.stop.is_cancelled() {
            let has_read = self.courtesies.0.has_read.notified();
            if self.courtesies.reads().is_empty() {
                self.stop.run_until_cancelled(has_read).await;
            } else if let Some(client) = self.stop.run_until_cancelled(self.connection.client()).await {
                self.mark_next(&client).await;
            }
        }
        let last_words = async {
            let client = self.connection.client().await;
            while self.mark_next(&client).await {}
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    }

    async fn mark_next(&self, client: &Client) -> bool {
        let Some((Whose { chat, author }, ids)) = self.courtesies.reads().next() else { return false };
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        said("read", async {
            let marked = client.mark_as_read(&chat, author.as_ref(), &ids).await;
            marked.map_err(|error| error.to_string())
        })
        .await;
        true
    }
}

/// Says one word, within its time, and keeps the pace. Returns whether it has gone out.
async fn said(kind: &'static str, saying: impl Future<Output = Result<(), String>>) -> bool {
    let said = tokio::time::timeout(TIMEOUT, saying).await;
    let has_gone = matches!(said, Ok(Ok(())));
    if has_gone {
        metrics::COURTESIES.add(1, [kind]);
    } else {
        // What the library says may have an address in it.
        tracing::debug!(kind, "WhatsApp was not told");
    }
    tokio::time::sleep(PACE).await;
    has_gone
}
