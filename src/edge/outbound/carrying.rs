//! From a delivery to WhatsApp: what to send, whether to send it, when, and what to do if that fails.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::courtesies::Courtesies;
use super::file::Ready;
use super::files::{FileMeans, Files};
use super::job::Job;
use super::letters::{Letter, Letters, letters};
use super::lookups::{LookUps, Sent, SentAs};
use super::loop_breaker::{LoopBreaker, Verdict};
use super::native::{Interactive, Native};
use super::new_chats::{self, NewChats, Why};
use super::packing::{Label, Packer, token};
use super::rate::Limit;
use super::rate_limit::RateLimits;
use super::reports::{Failure, Reporter};
use super::request::{Content, Flaw};
use super::sending::{Guard, Parcel, Sender, Undeliverable};
use super::strangers::Strangers;
use crate::bus::{Delivery, Record};
use crate::crash;
use crate::edge::addressing::offers::Offers;
use crate::edge::addressing::opt_outs::{Consent, OptOuts};
use crate::edge::addressing::takeovers::Takeovers;
use crate::edge::addressing::timers::Timers;
use crate::edge::addressing::tokens;
use crate::edge::session::{Connection, Groups, Polls, Unknown};
use crate::telemetry::{metrics, spans};
use crate::wire::{ChatToken, id, now_ms};

/// To how many chats the edge sends at once.
const MAX_SENDING: usize = 64;

/// How soon it is asked again whether somebody wants something unasked.
const ASK_AGAIN: Duration = Duration::from_millis(200);

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
    /// Messages to people who are not known.
    pub new_chats: new_chats::Limits,
    /// How often other services may ask whether a number is on WhatsApp (`SERVICE_CHECKS`).
    pub checks: Limit,
}

/// With what messages are carried.
#[derive(Debug)]
pub(crate) struct Means {
    /// Sends them.
    pub sender: Sender,
    /// How fast.
    pub limits: Limits,
    /// Asks WhatsApp about numbers.
    pub look_ups: LookUps,
    /// Hears what they offer to choose from.
    pub offers: Offers,
    /// The chats' disappearing timers.
    pub timers: Timers,
    /// The chats that a person has taken over.
    pub takeovers: Takeovers,
    /// Who wants nothing unasked.
    pub opt_outs: OptOuts,
    /// Which chat a receipt belongs to, if WhatsApp named another address.
    pub sent_as: SentAs,
    /// Keeps what votes are read with.
    pub polls: Polls,
    /// How many chats may be opened.
    pub new_chats: NewChats,
    /// Takes files to WhatsApp.
    pub files: FileMeans,
    /// Who may write in groups.
    pub groups: Groups,
    /// How options are shown.
    pub interactive: Interactive,
    /// What people see beside messages.
    pub courtesies: Courtesies,
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
    letter: &'a Letter<'a>,
    /// When it was asked for. Milliseconds.
    at_ms: i64,
    /// Where it goes, and the file that it names.
    to: Result<(Jid, Option<Ready>), Undeliverable>,
    /// It is not sent after this time. Milliseconds.
    not_after_ms: Option<i64>,
    /// What its receipts name.
    cause: &'a str,
    /// Nobody has written in this chat before.
    is_new: bool,
    /// An edge may have sent it before.
    again: bool,
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
    strangers: Strangers,
    sent_as: SentAs,
    timers: Timers,
    takeovers: Takeovers,
    opt_outs: OptOuts,
    packer: Packer,
    files: Files,
    groups: Groups,
    native: Native,
    courtesies: Courtesies,
    sending: Semaphore,
    /// The stream from which deliveries come.
    stream: String,
    stop: CancellationToken,
}

impl Carrier {
    /// Nothing is sent yet: the buckets are full, and the loop breaker has counted nothing.
    pub(super) fn new(means: Means, reporter: Reporter, stream: String, stop: CancellationToken) -> Self {
        let Means {
            sender,
            limits,
            look_ups,
            offers,
            timers,
            takeovers,
            opt_outs,
            sent_as,
            polls,
            new_chats,
            files,
            groups,
            interactive,
            courtesies,
        } = means;
        Self {
            look_ups,
            packer: Packer::new(sender.connection().clone(), polls),
            strangers: Strangers::new(new_chats),
            files: Files::new(files),
            sent_as,
            groups,
            native: Native::new(interactive),
            courtesies,
            timers,
            takeovers,
            opt_outs,
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
        self.courtesies.stored(delivery);
        let carried = self.carry_out(chat, delivery).await;
        if !matches!(carried, Carried::Open) {
            self.courtesies.dealt_with(delivery);
        }
        carried
    }

    async fn carry_out(&self, chat: &ChatToken, delivery: &Delivery) -> Carried {
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
        if let Some(written_ms) = job.answers {
            let verdict = self.loop_breaker().judge(chat, delivery.sequence, written_ms, Instant::now());
            if let Verdict::Suppress { first } = verdict {
                self.offers.none(chat);
                return Carried::ended(self.suppress(chat, &job.cause, first).await);
            }
        }
        if let Some(ended) = self.without_consent(chat, &job).await {
            return ended;
        }
        let in_group = job.address().is_some_and(|to| to.is_group());
        let letters = match letters(&job, self.native.is_tried(in_group, Instant::now())) {
            Ok(letters) => letters,
            Err(flaw) => {
                let (why, ids) = (Undeliverable::Invalid(flaw), vec![id::whatsapp(&job.cause)]);
                return Carried::ended(self.given_up(chat, &job, ids, why).await);
            }
        };
        // Before the permit: a look-up may take any time, and nobody else waits for it.
        let Some(to) = self.stop.run_until_cancelled(self.recipient(&job)).await else {
            return Carried::Open;
        };
        let reached = self.stop.run_until_cancelled(self.reach(chat, &job, to)).await;
        let Some((to, is_new)) = reached else { return Carried::Open };
        self.send_all(chat, (&job, delivery), letters, (to, is_new)).await
    }

    /// Does the recipient want nothing unasked? Takes until that is known, and nobody else waits. Then nothing is looked up,
    /// uploaded or counted for it. The last look is right before the send.
    async fn without_consent(&self, chat: &ChatToken, job: &Job) -> Option<Carried> {
        if !job.is_unasked() {
            return None;
        }
        let named = job.address().as_ref().and_then(token).filter(|token| token != chat);
        let recipient: Vec<ChatToken> = std::iter::once(chat.clone()).chain(named).collect();
        let asked = async {
            loop {
                match self.opt_outs.consent(&recipient).await {
                    Consent::Unknown => tokio::time::sleep(ASK_AGAIN).await,
                    known => return known,
                }
            }
        };
        match self.stop.run_until_cancelled(asked).await {
            None => Some(Carried::Open),
            Some(Consent::Withdrawn) => {
                let ids = vec![id::whatsapp(&job.cause)];
                Some(Carried::ended(self.given_up(chat, job, ids, Undeliverable::OptedOut).await))
            }
            Some(_) => None,
        }
    }

    /// Who asks for a message may be the first to write in its chat, which is not always possible. Returns whether it is so.
    async fn reach(
        &self,
        chat: &ChatToken,
        job: &Job,
        to: Result<Jid, Undeliverable>,
    ) -> (Result<Jid, Undeliverable>, bool) {
        match to {
            // Nobody is a stranger in a group that the number is in.
            Ok(to) if job.answers.is_none() && !to.is_group() => {
                match self.strangers.meet(&self.reporter, chat, &to).await {
                    Ok(is_new) => (Ok(to), is_new),
                    Err(closed) => (Err(Undeliverable::NewChat(closed)), false),
                }
            }
            to => (to, false),
        }
    }

    /// Sends its messages one after the other. Nothing else goes to the chat in between; others need not wait.
    async fn send_all(
        &self,
        chat: &ChatToken,
        (job, delivery): (&Job, &Delivery),
        Letters { all, cut_off }: Letters<'_>,
        (to, is_new): (Result<Jid, Undeliverable>, bool),
    ) -> Carried {
        let ids: Vec<String> = all.iter().map(|letter| letter.id.clone()).collect();
        for (number, letter) in all.iter().enumerate() {
            let file = self.file(&letter.content, job, to.is_ok());
            let Some(file) = self.stop.run_until_cancelled(file).await else { return Carried::Open };
            let Some(_permit) = self.stop.run_until_cancelled(self.turn(chat)).await else {
                return Carried::Open;
            };
            let is_last = number + 1 == all.len();
            if is_last && job.ends_offers() {
                // Before it is sent: who is quick chooses before WhatsApp's ack is here.
                self.offers.shown(chat, job.offer.clone(), id::whatsapp(&job.cause));
            }
            let wanted = Wanted {
                letter,
                at_ms: delivery.stored_at_ms,
                to: file.and_then(|file| to.clone().map(|to| (to, file))),
                // What has begun is sent to its end.
                not_after_ms: job.not_after_ms.filter(|_| number == 0),
                // What the phone says of the last one holds for all.
                cause: if is_last { &job.cause } else { "" },
                is_new: is_new && number == 0,
                again: delivery.delivered > 1,
            };
            if let Err(why) = self.hand_over(chat, job, wanted).await {
                if why == Undeliverable::Undecided {
                    return Carried::Open;
                }
                if job.ends_offers() {
                    self.offers.none(chat);
                }
                let missing = ids.get(number..).unwrap_or_default().to_vec();
                return Carried::ended(self.given_up(chat, job, missing, why).await);
            }
        }
        if let Some((decided, received)) = job.times {
            metrics::DELIVER.record_since(decided, now_ms(), []);
            metrics::WHOLE.record_since(received, now_ms(), []);
        }
        if cut_off {
            metrics::UNDELIVERABLE.add(1, ["cut-off"]);
            tracing::warn!(
                messages = ids.len(),
                "an answer is longer than so many messages; its end was not sent"
            );
        }
        let detail = if cut_off { "cut-off" } else { "" };
        Carried::Accepted(Box::new(self.reporter.accepted(chat, &job.cause, &ids, detail)))
    }

    /// Tells that WhatsApp has a message. Returns whether that is settled.
    pub(super) async fn tell(&self, accepted: &Record) -> bool {
        self.reporter.tell(accepted, &self.stop).await
    }

    /// Sends one message.
    async fn hand_over(&self, chat: &ChatToken, job: &Job, wanted: Wanted<'_>) -> Result<(), Undeliverable> {
        let Wanted { letter: Letter { id, content, quote }, at_ms, to, not_after_ms, cause, is_new, again } =
            wanted;
        let span = spans::send(id);
        let _sending = metrics::SENDING.enter([]);
        let sent = async {
            let (to, file) = to?;
            // Its receipts come from there, and belong here.
            let elsewhere = job.is_to_phone() && to.user != job.to;
            let named = elsewhere || to.is_group();
            let sent = Sent { chat: named.then(|| chat.clone()), cause: cause.to_owned() };
            self.sent_as.remember(id, sent);
            let by_lid = to.is_group() && self.groups.known(&to).is_none_or(|group| group.by_lid);
            let disappears_after_s = self.timer(chat, job).await;
            let label = Label { chat, to: &to, id, at_ms, file: file.as_ref(), by_lid };
            let message = &self.packer.pack(content, *quote, label).await;
            let recipient = self.recipients_tokens(chat, job, &to).await;
            let unless = self.guard(chat, job, &recipient);
            let has_substitute = matches!(content, Content::Menu(_));
            let parcel = Parcel {
                message,
                disappears_after_s,
                not_after_ms,
                again,
                to_stranger: is_new,
                has_substitute,
                unless,
            };
            let sent = match (content, self.sender.send(&to, id, parcel).await) {
                (Content::Menu(menu), Err(Undeliverable::Refused(code))) if Why::of(&code).is_none() => {
                    self.native.refused(to.is_group(), &code, Instant::now());
                    crash::point_of("edge.before-text", id);
                    let text = &self.packer.pack(&menu.in_words(), *quote, label).await;
                    // What has begun is sent to its end.
                    let parcel =
                        Parcel { message: text, has_substitute: false, not_after_ms: None, ..parcel };
                    // Under the same id: a phone that has the buttons after all shows them and drops this.
                    self.sender.send(&to, id, parcel).await
                }
                (_, sent) => sent,
            };
            if is_new { self.after_first_word(chat, sent).await } else { sent }
        };
        let sent = sent.instrument(span.clone()).await;
        match &sent {
            Ok(()) => {
                tracing::info!(whatsapp_id = id, "sent");
                metrics::MESSAGES.add(1, ["out", content.name()]);
            }
            Err(why) => spans::failed(&span, &why.to_string()),
        }
        sent
    }

    /// The tokens of whoever gets a request that nobody has asked for.
    async fn recipients_tokens(&self, chat: &ChatToken, job: &Job, to: &Jid) -> Vec<ChatToken> {
        if !job.is_unasked() {
            return Vec::new();
        }
        let mut recipient = tokens(&*self.sender.connection().client().await, to).await;
        if !recipient.contains(chat) {
            recipient.push(chat.clone());
        }
        recipient
    }

    /// What may hold the message back in the moment before it is sent.
    fn guard<'a>(&'a self, chat: &'a ChatToken, job: &Job, recipient: &'a [ChatToken]) -> Option<Guard<'a>> {
        match job.asked_ms {
            Some(asked_ms) => Some(Guard::Answer { takeovers: &self.takeovers, chat, asked_ms }),
            None => job.is_unasked().then_some(Guard::Unasked { opt_outs: &self.opt_outs, recipient }),
        }
    }

    /// What became of the first message in a chat may say something of all new chats.
    async fn after_first_word(
        &self,
        chat: &ChatToken,
        sent: Result<(), Undeliverable>,
    ) -> Result<(), Undeliverable> {
        match sent {
            Ok(()) => self.strangers.met(chat).await,
            Err(Undeliverable::Refused(code)) => {
                let Some(why) = Why::of(&code) else { return Err(Undeliverable::Refused(code)) };
                return Err(Undeliverable::NewChat(self.strangers.refused(why).await));
            }
            Err(_) => {}
        }
        sent
    }

    /// It is reported before it is settled.
    async fn given_up(&self, chat: &ChatToken, job: &Job, ids: Vec<String>, why: Undeliverable) -> bool {
        let (reason, detail) = (why.to_string(), why.detail());
        let (whatsapp_id, mut until_ms) = (ids.first(), 0);
        match why {
            // The caller wants it so, and nobody has to act.
            Undeliverable::Expired => tracing::info!(whatsapp_id, "not sent: it is too late for it"),
            // The person who has taken over answers.
            Undeliverable::Human => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::info!(whatsapp_id, "not sent: a person has taken over the chat");
            }
            Undeliverable::OptedOut => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::info!(whatsapp_id, "not sent: the person wants nothing unasked");
            }
            // The caller is told when to ask again.
            Undeliverable::NewChat(closed) => {
                metrics::UNDELIVERABLE.add(1, [closed.why.code()]);
                tracing::info!(whatsapp_id, %closed, "not sent: it would be the first message in its chat");
                until_ms = closed.until_ms;
                let state = self.sender.connection().state();
                if !self.strangers.tell(&self.reporter, &closed, &state).await {
                    return false;
                }
            }
            why => {
                metrics::UNDELIVERABLE.add(1, [why.reason()]);
                tracing::error!(
                    whatsapp_id, %why, detail, "WhatsApp does not take a message; it is given up on"
                );
            }
        }
        let failure = Failure { detail, until_ms, whatsapp_ids: ids, ..Failure::of(&job.cause, &reason) };
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
    async fn suppress(&self, chat: &ChatToken, cause: &str, first: bool) -> bool {
        let whatsapp_id = id::whatsapp(cause);
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
        let failure = Failure { whatsapp_ids: vec![whatsapp_id], ..Failure::of(cause, "loop-limit") };
        self.reporter.failure(chat, failure).await
    }

    /// The file of a message that names one, once WhatsApp has it. Also before the permit: only the chat waits for its file.
    async fn file(
        &self,
        content: &Content,
        job: &Job,
        is_wanted: bool,
    ) -> Result<Option<Ready>, Undeliverable> {
        let Content::Media { file, .. } = content else { return Ok(None) };
        if !is_wanted {
            return Ok(None);
        }
        let ready = async { self.files.ready(file).await.map(Some).map_err(Undeliverable::File) };
        let Some(not_after_ms) = job.not_after_ms else { return ready.await };
        let left_ms = u64::try_from(not_after_ms.saturating_sub(now_ms())).unwrap_or_default();
        let within = tokio::time::timeout(Duration::from_millis(left_ms), ready).await;
        within.unwrap_or(Err(Undeliverable::Expired))
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
