//! The edge's reports to the bus about messages that it sent, and that it did not send. A report is stored before its
//! cause is acknowledged, so that nothing ends without a trace.

use std::time::Duration;

use prost::Message as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::new_chats::Closed;
use crate::bus::{AppendError, Bus, Record};
use crate::crash;
use crate::edge::session::link;
use crate::edge::session::session_event;
use crate::telemetry::propagation;
use crate::wire::state::rank;
use crate::wire::v1::{Receipt, ReceiptStatus, SessionAction, SessionEvent};
use crate::wire::{Account, ChatToken, Headers, Subjects, header, kind, now_ms};

/// Puts reports on the bus, for one account.
#[derive(Debug)]
pub(super) struct Reporter {
    /// The bus.
    pub bus: Bus,
    /// The subjects.
    pub subjects: Subjects,
    /// The linked number.
    pub account: Account,
    /// Ends the attempts to store.
    pub abandon: CancellationToken,
}

/// How soon a report is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How far a message that was sent has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct State<'a> {
    /// The linked number.
    pub account: &'a Account,
    /// The chat of its request.
    pub chat: &'a ChatToken,
    /// Its ids on WhatsApp; more than one if a long text is sent as several messages. Not empty.
    pub whatsapp_ids: &'a [String],
    /// The outcome or the request; empty: not known.
    pub request_id: &'a str,
    /// What is new.
    pub status: ReceiptStatus,
    /// Since when. Milliseconds.
    pub at_ms: i64,
    /// What else there is to say of it, as a code.
    pub detail: &'a str,
}

impl State<'_> {
    /// The receipt. One for each message and status, so that a repeated one is recognised.
    pub(super) fn record(&self, subjects: &Subjects) -> Record {
        let Self { account, chat, whatsapp_ids, request_id, status, at_ms, detail } = *self;
        let receipt = Receipt {
            account: account.to_string(),
            chat: chat.as_str().to_owned(),
            message_ids: whatsapp_ids.to_vec(),
            status: status.into(),
            at_ms,
            request_id: request_id.to_owned(),
            rank: rank(status),
            detail: detail.to_owned(),
            ..Receipt::default()
        };
        let code = kind::code(status.as_str_name(), "RECEIPT_STATUS_");
        // The last one: when that has come so far, all have.
        let whatsapp_id = whatsapp_ids.last().map(String::as_str).unwrap_or_default();
        let event = format!("{account}/{}/{whatsapp_id}/{code}", chat.as_str());
        let mut headers = Headers::cloud_event(&event, "Receipt", account.as_str(), at_ms);
        headers.set(header::MSG_ID, &event);
        propagation::inject(&mut headers);
        Record { subject: subjects.receipt(account, chat), headers, payload: receipt.encode_to_vec().into() }
    }
}

/// A message that was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure<'a> {
    /// The outcome or the request.
    pub cause: &'a str,
    /// Why, as a code.
    pub reason: &'a str,
    /// What is wrong with the request, as a code.
    pub detail: String,
    /// It would be refused before this time, too. Milliseconds; 0: that is not known.
    pub until_ms: i64,
    /// The ids that it would have had on WhatsApp, or what is missing of it.
    pub whatsapp_ids: Vec<String>,
}

impl<'a> Failure<'a> {
    /// Nothing more is known.
    pub(super) fn of(cause: &'a str, reason: &'a str) -> Self {
        Self { cause, reason, detail: String::new(), until_ms: 0, whatsapp_ids: Vec::new() }
    }
}

impl Reporter {
    /// A message was not sent. The same report again is the same record.
    ///
    /// Returns whether it is settled. It is not settled if the attempts were ended.
    pub(super) async fn failure(
        &self,
        chat: &ChatToken,
        Failure { cause, reason, detail, until_ms, whatsapp_ids }: Failure<'_>,
    ) -> bool {
        let now = now_ms();
        let receipt = Receipt {
            account: self.account.to_string(),
            chat: chat.as_str().to_owned(),
            message_ids: whatsapp_ids,
            status: ReceiptStatus::Failed.into(),
            at_ms: now,
            reason: reason.to_owned(),
            request_id: cause.to_owned(),
            rank: rank(ReceiptStatus::Failed),
            detail,
            until_ms,
        };
        let id = format!("{cause}/failed");
        let mut headers = Headers::cloud_event(&id, "Receipt", self.account.as_str(), now);
        headers.set(header::MSG_ID, &id);
        propagation::inject(&mut headers);
        let subject = self.subjects.receipt(&self.account, chat);
        self.store(Record { subject, headers, payload: receipt.encode_to_vec().into() }).await
    }

    /// The report that WhatsApp's server has the message of `cause`. It continues the current trace.
    pub(super) fn accepted(
        &self,
        chat: &ChatToken,
        cause: &str,
        whatsapp_ids: &[String],
        detail: &str,
    ) -> Record {
        let (account, status, at_ms) = (&self.account, ReceiptStatus::Accepted, now_ms());
        State { account, chat, whatsapp_ids, request_id: cause, status, at_ms, detail }.record(&self.subjects)
    }

    /// Stores a report that nobody waits for: a full stream does without it, and a process that stops leaves it to the
    /// next one, which sends the message again.
    ///
    /// Returns whether it is settled.
    pub(super) async fn tell(&self, record: &Record, stop: &CancellationToken) -> bool {
        loop {
            match self.bus.append(record).await {
                Ok(_) => return true,
                Err(AppendError::Unknown(_) | AppendError::Stopped) => {
                    if stop.run_until_cancelled(sleep(AGAIN)).await.is_none() {
                        return false;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the report about a sent message cannot be stored");
                    return true;
                }
            }
        }
    }

    /// A chat gets no answers for a while, beginning with the answer of `cause`. The link stays in its `state`.
    ///
    /// Returns whether it is settled. It is not settled if the attempts were ended.
    pub(super) async fn loop_broken(&self, chat: &ChatToken, cause: &str, state: &link::State) -> bool {
        let event = SessionEvent {
            account: self.account.to_string(),
            state: state.on_the_wire().into(),
            code: "loop-broken".to_owned(),
            detail: "A chat writes faster than LOOP_LIMIT and is not answered until it has slowed down."
                .to_owned(),
            action: SessionAction::None.into(),
            at_ms: now_ms(),
            chat: chat.as_str().to_owned(),
        };
        let id = format!("{cause}/loop-broken");
        self.store(session_event(&self.subjects, &self.account, &id, &event)).await
    }

    /// No message goes to a new chat for a while. The link stays in its `state`.
    ///
    /// Returns whether it is settled. It is not settled if the attempts were ended.
    pub(super) async fn new_chats_paused(&self, closed: &Closed, state: &link::State) -> bool {
        let event = SessionEvent {
            account: self.account.to_string(),
            state: state.on_the_wire().into(),
            code: "new-chats-paused".to_owned(),
            detail: closed.detail(),
            action: SessionAction::None.into(),
            at_ms: now_ms(),
            chat: String::new(),
        };
        // The same pause, told by whichever edge, is one event.
        let id = format!("{}/new-chats-paused/{}", self.account, closed.until_ms);
        self.store(session_event(&self.subjects, &self.account, &id, &event)).await
    }

    async fn store(&self, record: Record) -> bool {
        match self.bus.append_until_known(&record, &self.abandon).await {
            Ok(_) => {
                crash::point("edge.after-receipt");
                true
            }
            Err(AppendError::Stopped) => false,
            Err(error) => {
                tracing::error!(%error, "the report about an unsent message cannot be stored");
                true
            }
        }
    }
}
