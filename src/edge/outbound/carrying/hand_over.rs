//! One message to WhatsApp: it is packed, held back if it has to be, and sent; in words, if WhatsApp refuses its buttons.

use std::time::Instant;

use tracing::Instrument as _;
use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

use super::super::file::Ready;
use super::super::job::Job;
use super::super::letters::Letter;
use super::super::lookups::Sent;
use super::super::new_chats::Why;
use super::super::packing::Label;
use super::super::reports::Reporter;
use super::super::request::Content;
use super::super::sending::{Guard, Parcel, Undeliverable};
use super::super::slots::Slot;
use super::Carrier;
use crate::crash;
use crate::edge::addressing::tokens;
use crate::telemetry::{metrics, spans};
use crate::wire::ChatToken;

/// What is wanted, and where.
pub(super) struct Wanted<'a> {
    pub(super) letter: &'a Letter<'a>,
    /// When it was asked for. Milliseconds.
    pub(super) at_ms: i64,
    /// Where it goes, and the file that it names.
    pub(super) to: Result<(Jid, Option<Ready>), Undeliverable>,
    /// It is not sent after this time. Milliseconds.
    pub(super) not_after_ms: Option<i64>,
    /// What its receipts name.
    pub(super) cause: &'a str,
    /// Nobody has written in this chat before.
    pub(super) is_new: bool,
    /// An edge may have sent it before.
    pub(super) again: bool,
}

impl Carrier {
    /// Sends one message.
    pub(super) async fn hand_over(
        &self,
        chat: &ChatToken,
        job: &Job,
        wanted: Wanted<'_>,
        slot: &mut Slot<'_>,
    ) -> Result<(), Undeliverable> {
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
            let sent = match (content, self.sender.send(&to, id, parcel, slot).await) {
                (Content::Menu(menu), Err(Undeliverable::Refused(code))) if Why::of(&code).is_none() => {
                    self.native.refused(to.is_group(), &code, Instant::now());
                    crash::point_of("edge.before-text", id);
                    let text = &self.packer.pack(&menu.in_words(), *quote, label).await;
                    // What has begun is sent to its end.
                    let parcel =
                        Parcel { message: text, has_substitute: false, not_after_ms: None, ..parcel };
                    // Under the same id: a phone that has the buttons after all shows them and drops this.
                    self.sender.send(&to, id, parcel, slot).await
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
}
