//! From a delivery to WhatsApp: what to send, whether to send it, and when. `hand_over` sends one message, `giving_up` says
//! what becomes of one that is not sent, and `means` is what all this is done with.

mod giving_up;
mod hand_over;
mod means;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::courtesies::Courtesies;
use super::file::Ready;
use super::files::Files;
use super::job::Job;
use super::letters::{Letters, letters};
use super::lookups::{LookUps, SentAs};
use super::loop_breaker::{LoopBreaker, Verdict};
use super::native::Native;
use super::packing::{Packer, token};
use super::rate_limit::RateLimits;
use super::reports::{Failure, Reporter};
use super::request::{Content, Flaw};
use super::sending::{Sender, Undeliverable};
use super::slots::{Slot, Slots};
use super::strangers::Strangers;
use crate::bus::{Delivery, Record};
use crate::edge::addressing::offers::Offers;
use crate::edge::addressing::opt_outs::{Consent, OptOuts};
use crate::edge::addressing::takeovers::Takeovers;
use crate::edge::addressing::timers::Timers;
use crate::edge::session::{Connection, Groups, Unknown};
use crate::telemetry::metrics;
use crate::wire::{ChatToken, id, now_ms};
use hand_over::Wanted;
pub use means::Limits;
pub(crate) use means::Means;

/// How soon it is asked again whether somebody wants something unasked.
const ASK_AGAIN: Duration = Duration::from_millis(200);

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
    slots: Slots,
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
            slots: Slots::new(),
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
        // Before the slot: a look-up may take any time, and nobody else waits for it.
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
            let Some(mut slot) = self.stop.run_until_cancelled(self.turn(chat)).await else {
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
            if let Err(why) = self.hand_over(chat, job, wanted, &mut slot).await {
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

    /// Waits until the chat may be sent to. A message that waits for its own chat delays no other chat. A token of
    /// the common bucket is taken only when it can be used at once.
    async fn turn(&self, chat: &ChatToken) -> Slot<'_> {
        self.rate_limits.of_chat(chat).await;
        let slot = self.slots.take().await;
        self.sender.connection().client().await;
        self.rate_limits.of_all().await;
        slot
    }

    /// The file of a message that names one, once WhatsApp has it. Also before the slot: only the chat waits for its file.
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

    fn loop_breaker(&self) -> MutexGuard<'_, LoopBreaker> {
        self.loop_breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
