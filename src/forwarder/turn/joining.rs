//! One answer for a burst (`JOIN_WITHIN`): a look at what comes behind a text, and the words that were joined into one.
//! What follows from that is in `burst`.

use prost::Message as _;
use tokio::time::Instant;

use super::{Decided, Interrupted, Turn};
use crate::bus::{ReadError, Stored};
use crate::crash;
use crate::forwarder::backend::Full;
use crate::forwarder::burst::{self, Burst, Line, Share, Walk};
use crate::forwarder::eligible;
use crate::forwarder::records::About;
use crate::telemetry::{metrics, propagation, spans};
use crate::wire::Envelope;
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{InboundMessage, Quoted, Text};

/// So many messages are read at once: each may be large.
const PAGE: usize = 16;

/// What this turn knows of the texts around its message.
#[derive(Debug)]
pub(super) struct Joining {
    /// What the chat's last outcome says.
    said: Share,
    /// What follows for the message.
    share: Share,
    /// How far the burst was seen that begins with it.
    walk: Option<Walk>,
    /// It is asked about; whatever comes is not joined with it.
    settled: bool,
    /// What was joined into it, once that was read.
    before: Option<Before>,
}

/// What was joined into a message.
#[derive(Debug, Default)]
struct Before {
    texts: Vec<String>,
    ids: Vec<String>,
    /// The last message that one of them quotes.
    quoted: Option<(String, Option<Quoted>)>,
}

/// What is seen behind a message.
pub(super) enum Ahead {
    /// It is asked about now.
    Nothing,
    /// It is asked about with a later one.
    Joins(Decided),
    /// That is known at this time.
    Open(Instant),
}

impl Joining {
    pub(super) fn new(share: Share) -> Self {
        Self { said: share, share, walk: None, settled: false, before: None }
    }

    /// Is this what the chat's last outcome says?
    pub(super) fn is_of(&self, said: Share) -> bool {
        self.said == said
    }

    /// The first message whose words belong to the call of message `sequence`.
    pub(super) fn first(&self, sequence: u64) -> u64 {
        self.share.first(sequence)
    }
}

impl Turn<'_> {
    /// What becomes of a message that the burst of the chat's last outcome holds, if it is not the one that is asked
    /// about. No one need look at it for that.
    pub(super) async fn joined(&self, joining: &mut Joining) -> Result<Option<Decided>, Interrupted> {
        let Share::Joins(burst) = joining.share else { return Ok(None) };
        let subject = self.messages();
        let last = self.page(&subject, burst.into, 1).await?;
        if let Some(into) = last.iter().find(|stored| stored.sequence == burst.into) {
            return Ok(Some(Decided::joined(burst, &self.id_of(into))));
        }
        // Somebody has deleted it. What is left of the burst goes into what is left of it.
        let (mut from, mut left) = (self.place.sequence + 1, None);
        while from < burst.into {
            let page = self.page(&subject, from, PAGE).await?;
            let inside = page.into_iter().filter(|stored| stored.sequence < burst.into);
            let Some(found) = inside.last() else { break };
            from = found.sequence + 1;
            left = Some(found);
        }
        if left.is_none() {
            joining.share = Share::Ends { first: burst.first };
        }
        Ok(left.map(|left| Decided::joined(Burst { into: left.sequence, ..burst }, &self.id_of(&left))))
    }

    /// Looks at what comes behind the message, if that may be joined with it.
    pub(super) async fn look_ahead(
        &self,
        message: &InboundMessage,
        joining: &mut Joining,
    ) -> Result<Ahead, Interrupted> {
        let settings = self.forwarder.settings.join;
        if joining.settled || settings.within.is_zero() || joining.share != Share::Open {
            return Ok(Ahead::Nothing);
        }
        let id = self.about().inbound_id();
        let own = self.line(message, self.place.sequence, self.delivery.stored_at_ms, id);
        let Some(own) = own else {
            joining.settled = true;
            return Ok(Ahead::Nothing);
        };
        crash::point("forwarder.before-burst");
        let walk = joining.walk.get_or_insert_with(|| Walk::new(settings, own));
        if let Some(until) = self.walk(walk).await? {
            return Ok(Ahead::Open(until));
        }
        Ok(match walk.burst() {
            Some((burst, into)) => Ahead::Joins(Decided::joined(burst, into)),
            None => {
                joining.settled = true;
                Ahead::Nothing
            }
        })
    }

    /// The person may go on writing. The turn must hold nothing in the meantime that others need.
    pub(super) async fn wait_for_more(&self, until: Instant) -> Result<(), Interrupted> {
        let _waiting = metrics::TURNS.enter(["joining"]);
        self.or_stop(tokio::time::sleep_until(until)).await
    }

    /// Goes on to the end of the burst. If that is not known yet, returns when to look again.
    async fn walk(&self, walk: &mut Walk) -> Result<Option<Instant>, Interrupted> {
        let subject = self.messages();
        loop {
            // First: what is stored after the look is later than this.
            let now_ms = self.forwarder.clock.at_least_ms().await?;
            let read_at = Instant::now();
            let page = self.page(&subject, walk.next(), PAGE).await?;
            let is_all = page.len() < PAGE;
            for stored in page {
                let message = InboundMessage::decode(stored.payload.clone()).ok();
                let line = message.and_then(|message| {
                    self.line(&message, stored.sequence, stored.stored_at_ms, self.id_of(&stored))
                });
                if !walk.takes(line) {
                    return Ok(None);
                }
            }
            if is_all {
                return Ok(walk.wait(now_ms).map(|wait| read_at + wait));
            }
        }
    }

    /// The message with all the words that belong to its call.
    pub(super) async fn whole(
        &self,
        message: InboundMessage,
        joining: &mut Joining,
    ) -> Result<InboundMessage, Interrupted> {
        let Share::Ends { first } = joining.share else { return Ok(message) };
        let settings = &self.forwarder.settings.eligible;
        let Some((own, sender)) = eligible::joinable(&message, settings) else { return Ok(message) };
        let own = own.to_owned();
        if joining.before.is_none() {
            joining.before = Some(self.before(first, &sender).await?);
        }
        let Some(before) = &joining.before else { return Ok(message) };
        let mut texts = before.texts.clone();
        texts.push(own);
        let mut whole =
            InboundMessage { content: Some(Content::Text(Text { body: texts.join("\n") })), ..message };
        if let Some((id, quoted)) = before.quoted.clone().filter(|_| whole.quoted_message_id.is_empty()) {
            whole.quoted_message_id = id;
            whole.context.get_or_insert_default().quoted = quoted;
        }
        Ok(whole)
    }

    /// Reads what was joined into the message since `first`.
    async fn before(&self, first: u64, sender: &str) -> Result<Before, Interrupted> {
        let settings = &self.forwarder.settings.eligible;
        crash::point("forwarder.before-words");
        let mut before = Before::default();
        for stored in self.burst_since(first).await? {
            let Ok(message) = InboundMessage::decode(stored.payload.clone()) else { continue };
            let joined = eligible::joinable(&message, settings).filter(|(_, author)| author == sender);
            let Some((text, _)) = joined else { continue };
            before.texts.push(text.to_owned());
            before.ids.push(message.message_id.clone());
            if !message.quoted_message_id.is_empty() {
                let quoted = message.context.and_then(|context| context.quoted);
                before.quoted = Some((message.quoted_message_id, quoted));
            }
            propagation::link_to(&stored.headers);
        }
        let count = i64::try_from(before.ids.len()).unwrap_or(i64::MAX);
        spans::event("joined", [("wa.messages", count.into())]);
        Ok(before)
    }

    /// The messages of the burst that this one ends, without itself.
    pub(super) async fn burst_since(&self, first: u64) -> Result<Vec<Stored>, ReadError> {
        let (subject, end) = (self.messages(), self.place.sequence);
        let (mut from, mut found) = (first, Vec::new());
        while from < end && found.len() < burst::MOST {
            let page = self.page(&subject, from, PAGE).await?;
            let before = found.len();
            found.extend(page.into_iter().filter(|stored| stored.sequence < end));
            match found.last() {
                Some(last) if found.len() > before => from = last.sequence + 1,
                _ => break,
            }
        }
        Ok(found)
    }

    /// Says which messages' words are in the call.
    pub(super) fn tell_of_joined(full: Option<&mut Full>, joining: &Joining) {
        if let (Some(full), Some(before)) = (full, &joining.before) {
            full.joined.clone_from(&before.ids);
        }
    }

    fn line(&self, message: &InboundMessage, sequence: u64, stored_at_ms: i64, id: String) -> Option<Line> {
        let (text, sender) = eligible::joinable(message, &self.forwarder.settings.eligible)?;
        // A replay is as old as the replay.
        let sent_at_ms = message.replay.as_ref().map_or(message.sent_at_ms, |replay| replay.at_ms);
        Some(Line { sequence, stored_at_ms, sent_at_ms, sender, bytes: text.len(), id })
    }

    /// The subject of the chat's messages.
    fn messages(&self) -> String {
        let route = &self.delivery.envelope.route;
        self.forwarder.subjects.message(&route.account, &route.chat)
    }

    async fn page(&self, subject: &str, from: u64, most: usize) -> Result<Vec<Stored>, ReadError> {
        self.forwarder.bus.few(&self.forwarder.subjects.stream_in(), subject, from, most).await
    }

    fn id_of(&self, stored: &Stored) -> String {
        let envelope = Envelope::open(&self.forwarder.subjects, &stored.subject, stored.headers.clone());
        let (incarnation, sequence) = (self.incarnation.as_ref(), stored.sequence);
        envelope.map_or_else(String::new, |envelope| {
            About { envelope: &envelope, incarnation, sequence, payload: &[] }.inbound_id()
        })
    }
}
