//! The file of a message that is asked about with all its fields. The message is on the bus before its file is in the
//! bucket; an update beside it says what became of that.

use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use super::{Interrupted, Turn};
use crate::forwarder::backend::{Question, State};
use crate::forwarder::decision;
use crate::telemetry::{metrics, spans};
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{InboundMessage, MediaResult, MediaState};
use crate::wire::{header, id, now_ms};

/// How soon the bus is asked again, and how seldom in the end.
const SOON: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(1);
/// A look may take so long, also if nothing is left to wait.
const LOOK: Duration = Duration::from_secs(1);
/// So many updates of the chat are passed over in one look. The next look goes on behind them.
const MOST: usize = 256;

/// The name of the type of an update with what became of a file.
const KIND: &str = "media";

/// What this turn knows of the message's file.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The bus was asked since the last call.
    looked: bool,
    /// What became of it. `None`: nothing is known.
    result: Option<MediaResult>,
    /// The sequence in `WA_IN` from which the next look goes on. 0: there was none.
    from: u64,
}

impl Known {
    /// Does the question have a file that may have come in the meantime?
    pub(super) fn is_awaited(&self, question: &Question) -> bool {
        let file = question.full.as_ref().and_then(|full| full.media.as_ref());
        !self.looked && self.result.is_none() && file.is_some_and(|file| file.state == State::Pending)
    }

    /// What was stored, if it was.
    pub(super) fn stored(&self) -> Option<&MediaResult> {
        self.result.as_ref().filter(|result| result.state() == MediaState::Stored)
    }

    /// The message waits. In this time its file may come.
    pub(super) fn may_change(&mut self) {
        self.looked = false;
    }
}

impl Turn<'_> {
    /// Waits for word of the file, for what is left of `MEDIA_WAIT` since the message was stored. Looks once at least.
    /// The turn must hold nothing in the meantime that others need.
    pub(super) async fn wait_for_file(&self, known: &mut Known) -> Result<(), Interrupted> {
        let wait = self.forwarder.settings.files.wait;
        let until = Instant::now() + decision::left(wait, self.delivery.stored_at_ms, now_ms()).min(wait);
        let _waiting = metrics::TURNS.enter(["file"]);
        let mut pause = SOON;
        known.looked = true;
        loop {
            let end = until.max(Instant::now() + LOOK);
            let looked = tokio::time::timeout_at(end, self.look_for_file(known));
            if matches!(self.or_stop(looked).await?, Ok(Ok(()))) && known.result.is_some() {
                break;
            }
            let next = Instant::now() + pause;
            if next >= until {
                break;
            }
            self.or_stop(tokio::time::sleep_until(next)).await?;
            pause = (pause * 2).min(SELDOM);
        }
        let found = known.result.as_ref().map_or("pending", |result| match result.reason.is_empty() {
            true => "stored",
            false => "failed",
        });
        spans::event("file", [("wa.state", found.into())]);
        Ok(())
    }

    /// Reads the chat's updates behind the message, from where the last look ended.
    async fn look_for_file(&self, known: &mut Known) -> Result<(), crate::bus::ReadError> {
        let Turn { forwarder, delivery, .. } = self;
        let route = &delivery.envelope.route;
        let (stream, updates) =
            (forwarder.subjects.stream_in(), forwarder.subjects.update(&route.account, &route.chat));
        let inbound_id = self.about().inbound_id();
        let original = id::original(&inbound_id);
        let wanted = id::media(original);
        if known.from == 0 {
            // The update of a replay's file may be older than the replay.
            let is_replay = original != inbound_id;
            known.from = if is_replay { 1 } else { self.place.sequence };
        }
        for _ in 0..MOST {
            let Some(update) = forwarder.bus.next_from(&stream, &updates, known.from).await? else { break };
            known.from = update.sequence + 1;
            let is_it = update.headers.get(header::KIND) == Some(KIND)
                && update.headers.get(header::CE_ID) == Some(wanted.as_str());
            if !is_it {
                continue;
            }
            let content = InboundMessage::decode(update.payload).ok().and_then(|update| update.content);
            if let Some(Content::Media(result)) = content {
                known.result = Some(result);
                break;
            }
        }
        Ok(())
    }

    /// Adds to the question where the file is, and how it can be fetched.
    pub(super) fn tell_of_file(&self, question: &mut Question, known: &Known) {
        let Some(file) = question.full.as_mut().and_then(|full| full.media.as_mut()) else { return };
        if file.state != State::Pending {
            return;
        }
        let inbound_id = self.about().inbound_id();
        let bucket = self.forwarder.subjects.bucket_media();
        file.found(&bucket, id::original(&inbound_id), known.result.as_ref());
        if let Some(links) = self.forwarder.settings.files.links.as_ref().filter(|_| !file.key.is_empty()) {
            file.url = links.to(&file.key, &file.mime_type, now_ms());
        }
    }
}
