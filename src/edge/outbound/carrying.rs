//! From a delivery to WhatsApp: what to send, whether to send it, when, and what to do if that fails.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::job::Job;
use super::lookups::{LookUps, Sent, SentAs};
use super::loop_breaker::{LoopBreaker, Verdict};
use super::packing::{Label, Packer};
use super::rate::Limit;
use super::rate_limit::RateLimits;
use super::reports::{Failure, Reporter};
use super::request::{Content, Flaw, Quote};
use super::sending::{Parcel, Sender, Undeliverable};
use crate::bus::{Delivery, Record};
use crate::edge::addressing::offers::Offers;
use crate::edge::addressing::timers::Timers;
use crate::edge::session::{Connection, Groups, Polls, Unknown};
use crate::telemetry::{metrics, spans};
use crate::wire::{ChatToken, id, now_ms};

/// To how many chats the edge sends at once.
const MAX_SENDING: usize = 64;

/// The limits for sending messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Messages to one chat (`SEND_PER_CHAT`). Above the limit they wait.
    pub per_chat: Limit,
    /// Messages in total (`SEND_TOTAL`). Above the limit they wait.
    pub total: Limit,
    /// Answers to one chat, counted by when their messages were written (`LOOP_LIMIT`). Above the limit they are
    /// not sent.
    pub loops: Limit,
}

/// With what messages are carried.
#[derive(Debug)]
pub(crate) struct Means {
    /// Sends them.
    pub sender: Sender,
    /// How fast.
    pub limits: Limits,
    /// Hears what they offer to choose from.
    pub offers: Offers,
    /// The chats' disappearing timers.
    pub timers: Timers,
    /// Which chat a receipt belongs to, if WhatsApp named another address.
    pub sent_as: SentAs,
    /// Keeps what votes are read with.
    pub polls: Polls,
    /// Who may write in groups.
    pub groups: Groups,
}

/// Where a delivery has come to.
#[derive(Debug)]
pub(super) enum Carried {
    /// It is not settled: the process stops.
    Open,
    /// It is settled, and nothing was sent.
    Ended,
    /// WhatsApp has it. This has to be told.
    Accepted(Box<Record>),
}

impl Carried {
    fn ended(settled: bool) -> Self {
        if settled { Self::Ended } else { Self::Open }
    }
}

/// What is wanted, and where.
struct Wanted<'a> {
    content: &'a Content,
    quote: Option<&'a Quote>,
    /// When it was asked for. Milliseconds.
    at_ms: i64,
    to: Result<Jid, Undeliverable>,
}

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Carrier {
    sender: Sender,
    rate_limits: RateLimits,
    loop_breaker: Mutex<LoopBreaker>,
    reporter: Reporter,
    offers: Offers,
    look_ups: LookUps,
    sent_as: SentAs,
    timers: Timers,
    packer: Packer,
    groups: Groups,
    sending: Semaphore,
    /// The stream from which deliveries come.
    stream: String,
    stop: CancellationToken,
}

impl Carrier {
    /// Nothing is sent yet: the buckets are full, and the loop breaker has counted nothing.
    pub(super) fn new(means: Means, reporter: Reporter, stream: String, stop: CancellationToken) -> Self {
        let Means { sender, limits, offers, timers, sent_as, polls, groups } = means;
        Self {
            look_ups: LookUps::new(sender.connection().clone()),
            packer: Packer::new(sender.connection().clone(), polls),
            sent_as,
            groups,
            timers,
            sender,
            rate_limits: RateLimits::new(limits.per_chat, limits.total),
            loop_breaker: Mutex::new(LoopBreaker::new(limits.loops)),
            reporter,
            offers,
            sending: Semaphore::new(MAX_SENDING),
            stream,
            stop,
        }
    }

    /// The state of the link.
    pub(super) fn connection(&self) -> &Connection {
        self.sender.connection()
    }

    /// Forgets the chats that get no more messages.
    pub(super) fn forget_idle(&self) {
        self.rate_limits.forget_idle();
        self.loop_breaker().forget_idle(Instant::now());
    }

    /// Carries one delivery to its end.
    pub(super) async fn carry(&self, chat: &ChatToken, delivery: &Delivery) -> Carried {
        let job = match Job::read(&delivery.envelope, &delivery.payload) {
            Ok(Some(job)) => job,
            Ok(None) => {
                self.offers.none(chat);
                return Carried::Ended;
            }
            Err(why) => {
                tracing::error!(why, "a message for WhatsApp cannot be read; it is given up on");
                let place = format!("{}/{}", self.stream, delivery.sequence);
                let cause = delivery.envelope.any_id().unwrap_or(&place);
                return Carried::ended(self.reporter.failure(chat, Failure::of(cause, why)).await);
            }
        };
        let whatsapp_id = id::whatsapp(&job.cause);
        if let Some(written_ms) = job.answers {
            let verdict = self.loop_breaker().judge(chat, delivery.sequence, written_ms, Instant::now());
            if let Verdict::Suppress { first } = verdict {
                self.offers.none(chat);
                return Carried::ended(self.suppress(chat, &job.cause, whatsapp_id, first).await);
            }
        }
        let (content, quote) = match &job.content {
            Ok(content) => content,
            Err(flaw) => {
                let why = Undeliverable::Invalid(*flaw);
                return Carried::ended(self.given_up(chat, &job, whatsapp_id, why).await);
            }
        };
        // Before the permit: a look-up may take any time, and nobody else waits for it.
        let Some(to) = self.stop.run_until_cancelled(self.recipient(&job)).await else {
            return Carried::Open;
        };
        let Some(_permit) = self.stop.run_until_cancelled(self.turn(chat)).await else {
            return Carried::Open;
        };
        if job.answers.is_some() {
            // Before it is sent: who is quick chooses before WhatsApp's ack is here.
            self.offers.shown(chat, &delivery.envelope.headers, &delivery.payload);
        }
        let parcel = Wanted { content, quote: quote.as_ref(), at_ms: delivery.stored_at_ms, to };
        self.hand_over(chat, &job, parcel, whatsapp_id).await
    }

    /// Tells that WhatsApp has a message. Returns whether that is settled.
    pub(super) async fn tell(&self, accepted: &Record) -> bool {
        self.reporter.tell(accepted, &self.stop).await
    }

    /// Sends it.
    async fn hand_over(
        &self,
        chat: &ChatToken,
        job: &Job,
        wanted: Wanted<'_>,
        whatsapp_id: String,
    ) -> Carried {
        let span = spans::send(&whatsapp_id);
        let _sending = metrics::SENDING.enter([]);
        let Wanted { content, quote, at_ms, to } = wanted;
        let sent = async {
            let to = to?;
            // Its receipts come from there, and belong here.
            let elsewhere = job.is_to_phone() && to.user != job.to;
            let named = elsewhere || to.is_group();
            let sent = Sent { chat: named.then(|| chat.clone()), cause: job.cause.clone() };
            self.sent_as.remember(&whatsapp_id, sent);
            let by_lid = to.is_group() && self.groups.known(&to).is_none_or(|group| group.by_lid);
            let disappears_after_s = self.timer(chat, job).await;
            let label = Label { chat, to: &to, id: &whatsapp_id, at_ms, by_lid };
            let message = &self.packer.pack(content, quote, label).await;
            let not_after_ms = job.not_after_ms;
            self.sender.send(&to, &whatsapp_id, Parcel { message, disappears_after_s, not_after_ms }).await
        };
        match sent.instrument(span.clone()).await {
            Ok(()) => {
                tracing::info!(whatsapp_id, "sent");
                metrics::MESSAGES.add(1, ["out", content.name()]);
                if let Some((decided, received)) = job.times {
                    metrics::DELIVER.record_since(decided, now_ms(), []);
                    metrics::WHOLE.record_since(received, now_ms(), []);
                }
                Carried::Accepted(Box::new(self.reporter.accepted(chat, &job.cause, &whatsapp_id)))
            }
            Err(why) => {
                spans::failed(&span, &why.to_string());
                if job.answers.is_some() {
                    self.offers.none(chat);
                }
                Carried::ended(self.given_up(chat, job, whatsapp_id, why).await)
            }
        }
    }

    /// It is reported before it is settled.
    async fn given_up(&self, chat: &ChatToken, job: &Job, whatsapp_id: String, why: Undeliverable) -> bool {
        let (reason, detail) = (why.to_string(), why.detail());
        match why {
            // The caller wants it so, and nobody has to act.
            Undeliverable::Expired => tracing::info!(whatsapp_id, "not sent: it is too late for it"),
            why => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::error!(
                    whatsapp_id, %why, detail, "WhatsApp does not take a message; it is given up on"
                );
            }
        }
        let failure = Failure { detail, whatsapp_id: Some(whatsapp_id), ..Failure::of(&job.cause, &reason) };
        self.reporter.failure(chat, failure).await
    }

    /// Waits until the chat may be sent to. A message that waits for its own chat delays no other chat. A token of
    /// the common bucket is taken only when it can be used at once.
    async fn turn(&self, chat: &ChatToken) -> Option<SemaphorePermit<'_>> {
        self.rate_limits.of_chat(chat).await;
        // This fails only when the semaphore is closed, and nothing closes it.
        let permit = self.sending.acquire().await.ok();
        self.sender.connection().client().await;
        self.rate_limits.of_all().await;
        permit
    }

    /// An answer that would keep a loop running.
    async fn suppress(&self, chat: &ChatToken, cause: &str, whatsapp_id: String, first: bool) -> bool {
        if first {
            tracing::warn!(
                "a chat writes faster than LOOP_LIMIT, like two bots that answer each other; it gets no answers until it slows down"
            );
            let state = self.sender.connection().state();
            if !self.reporter.loop_broken(chat, cause, &state).await {
                return false;
            }
        }
        tracing::debug!(whatsapp_id, "not sent, because of LOOP_LIMIT");
        metrics::UNDELIVERABLE.add(1, ["loop-limit"]);
        let failure = Failure { whatsapp_id: Some(whatsapp_id), ..Failure::of(cause, "loop-limit") };
        self.reporter.failure(chat, failure).await
    }

    /// Where the message goes: to the address that it names, or that WhatsApp names for its number.
    async fn recipient(&self, job: &Job) -> Result<Jid, Undeliverable> {
        let to = job.address().ok_or(Undeliverable::Invalid(Flaw::Recipient))?;
        if job.first_contact && job.is_to_phone() {
            return self.look_ups.address(&to).await.ok_or(Undeliverable::UnknownNumber);
        }
        if to.is_group() {
            self.may_write_in(&to).await?;
        }
        Ok(to)
    }

    /// May the number write in this group? If WhatsApp does not tell, the message goes out, and WhatsApp's server decides.
    async fn may_write_in(&self, group: &Jid) -> Result<(), Undeliverable> {
        let client = self.sender.connection().client().await;
        if client.lid().is_none() {
            // The library writes in groups under the hidden id only, and would try for ever.
            return Err(Undeliverable::Refused("no-lid".to_owned()));
        }
        match self.groups.ask(&client, group).await {
            Ok(group) if group.is_closed() => Err(Undeliverable::AdminsOnly),
            Err(Unknown::Refused(code)) => Err(Undeliverable::Refused(code.to_string())),
            Ok(_) | Err(Unknown::Silent) => Ok(()),
        }
    }

    /// The chat's disappearing timer. The bus may know a newer one than the answer's message had.
    async fn timer(&self, chat: &ChatToken, job: &Job) -> u32 {
        let Reporter { bus, subjects, account, .. } = &self.reporter;
        let known = match self.timers.of(bus, subjects, account, chat).await {
            Ok(known) => known,
            Err(error) => {
                tracing::debug!(%error, "the bus does not say the chat's disappearing timer");
                None
            }
        };
        known.or(job.disappears_after_s).unwrap_or_default()
    }

    fn loop_breaker(&self) -> MutexGuard<'_, LoopBreaker> {
        self.loop_breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
