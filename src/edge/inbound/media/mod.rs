//! Files by claim check: a message goes on the bus at once, its file follows.
//!
//! `read` sees what a message says of its file, and `policy` what a failure means (both pure). `queue` says whose file
//! is next (pure). `pool` fetches: into the bucket, and then an update beside the message says where it is.

mod policy;
mod pool;
mod queue;
mod read;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use whatsapp_rust::wacore::store::error::StoreError;

pub(crate) use pool::Pool;
pub(super) use read::{Attached, attached};

use self::queue::Queue;
use super::hook::{Inbound, Refused};
use crate::edge::session::{File, Job, Jobs};
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{InboundMessage, Media, MediaResult, MediaState};
use crate::wire::{ChatToken, id, now_ms};

/// For how long a file is tried to be fetched, whatever the bucket's age.
const TRY_FOR: Duration = Duration::from_secs(14 * 86_400);

/// A file that is announced, and not on the disk yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// The file.
    pub file: File,
    /// What can be shown of it at once.
    pub attached: Box<Attached>,
    /// Its message.
    pub message: InboundMessage,
}

/// The files of one account: what is to be fetched, and whose is next. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    jobs: Jobs,
    queue: Arc<Mutex<Queue>>,
    came: Arc<Notify>,
    try_for: Duration,
}

impl Files {
    /// Files that are kept for `age` on the bus.
    pub(crate) fn new(jobs: Jobs, age: Duration) -> Self {
        Self { jobs, queue: Arc::default(), came: Arc::default(), try_for: age.min(TRY_FOR) }
    }

    /// Says of the message whether its file will be fetched. Returns the file if it will.
    pub(super) fn announce(&self, attached: &Attached, message: &mut InboundMessage) -> Option<File> {
        let media = media(message.content.as_mut()?)?;
        let state = if attached.file.is_ok() { MediaState::Pending } else { MediaState::Failed };
        media.set_state(state);
        media.reason = attached.file.as_ref().err().copied().unwrap_or_default().to_owned();
        attached.file.as_ref().ok().cloned()
    }

    /// Takes the job on. When this returns, it is on the disk, or an update says that it will not be done.
    pub(super) async fn take_on(
        &self,
        inbound: &Inbound,
        (chat, id): (&ChatToken, &str),
        pending: Box<Pending>,
    ) -> Result<(), Refused> {
        let Pending { file, attached, message } = *pending;
        let result = MediaResult {
            target_message_id: message.message_id.clone(),
            mime_type: media_of(message.content.as_ref())
                .map(|media| media.mime_type.clone())
                .unwrap_or_default(),
            seconds: media_of(message.content.as_ref()).map(|media| media.seconds).unwrap_or_default(),
            thumbnail: attached.thumbnail,
            waveform: attached.waveform,
            ..MediaResult::default()
        };
        let now = now_ms();
        let update = InboundMessage { content: Some(Content::Media(result)), context: None, ..message };
        let until_ms = now.saturating_add(i64::try_from(self.try_for.as_millis()).unwrap_or(i64::MAX));
        let job = Job {
            id: id.to_owned(),
            update: update.clone(),
            file,
            tries: 0,
            renewals: 0,
            next_at_ms: now,
            until_ms,
        };
        if !self.queue().takes(chat.as_str(), id) {
            return inbound.update(chat, &update_id(id), failed(update, "too-many")).await;
        }
        match self.jobs.keep(job).await {
            Ok(()) => {
                self.queue().add(chat.as_str(), id, now);
                self.came.notify_one();
                Ok(())
            }
            // The client has ended. The message comes again, and with it its file.
            Err(StoreError::Validation(_)) => Err(Refused::Stopping),
            Err(error) => {
                tracing::warn!(%error, "a file that is to be fetched cannot be noted, and will not be");
                inbound.update(chat, &update_id(id), failed(update, "edge-disk")).await
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file that a message or an update is about.
fn media(content: &mut Content) -> Option<&mut Media> {
    match content {
        Content::Image(media)
        | Content::Video(media)
        | Content::Audio(media)
        | Content::Document(media)
        | Content::Sticker(media) => Some(media),
        Content::BetterCopy(copy) => copy.file.as_mut(),
        _ => None,
    }
}

fn media_of(content: Option<&Content>) -> Option<&Media> {
    match content? {
        Content::Image(media)
        | Content::Video(media)
        | Content::Audio(media)
        | Content::Document(media)
        | Content::Sticker(media) => Some(media),
        Content::BetterCopy(copy) => copy.file.as_ref(),
        _ => None,
    }
}

fn failed(mut update: InboundMessage, reason: &str) -> InboundMessage {
    if let Some(Content::Media(result)) = &mut update.content {
        result.set_state(MediaState::Failed);
        reason.clone_into(&mut result.reason);
    }
    update
}

/// The id of the update that says what became of a message's file.
fn update_id(message_id: &str) -> String {
    id::media(message_id)
}
