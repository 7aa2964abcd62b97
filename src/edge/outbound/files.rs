//! Files that are sent: from an object on the bus to WhatsApp's media hosts, before their message goes.
//!
//! It happens in the lane of the message's chat, and before that waits for its turn to be sent: only the chat itself waits for
//! its file. A few files are on their way at once. The same file for many chats is uploaded once: the others wait for the
//! first, and find what it has left in the session's store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::file::{self, Ready};
use super::turns::Turns;
use super::upload_policy::{Trouble, after};
use crate::bus::{Bus, Described, Unreadable};
use crate::crash;
use crate::edge::session::link::State;
use crate::edge::session::{
    Connection, Content, FileKind, NotUploaded, Sealed, Sealing, Uploaded, Uploader, Uploads,
};
use crate::telemetry::metrics;
use crate::wire::Subjects;
use crate::wire::v1::SendMedia;

/// How long one try may take: so much, and so much for each MiB.
const TRY: Duration = Duration::from_secs(60);
const PER_MIB: Duration = Duration::from_secs(8);

/// With what files are sent.
#[derive(Debug)]
pub(crate) struct FileMeans {
    /// Where the objects are.
    pub bus: Bus,
    /// The name of the bucket that is meant if a request names none.
    pub subjects: Subjects,
    /// The client that is online.
    pub connection: Connection,
    /// Uploads.
    pub uploader: Uploader,
    /// What was uploaded before.
    pub uploads: Uploads,
    /// The longest file, in bytes. `None`: none is sent.
    pub most: Option<u64>,
}

/// What is sent as this kind: the hash of its content, and the kind.
type Key = ([u8; 32], FileKind);

/// Who has it works on the file; the others wait. It says when the last try failed, and why.
type Same = tokio::sync::Mutex<Option<(Instant, Trouble)>>;

/// The files of one account.
#[derive(Debug)]
pub(super) struct Files {
    means: FileMeans,
    turns: Turns,
    under_way: Mutex<HashMap<Key, Weak<Same>>>,
}

impl Files {
    /// Nothing is under way.
    pub(super) fn new(means: FileMeans) -> Self {
        Self { means, turns: Turns::new(), under_way: Mutex::default() }
    }

    /// Returns when WhatsApp has the file, or when that was tried often enough. Cancel-safe: what was uploaded of it is gone
    /// on with.
    pub(super) async fn ready(&self, asked: &SendMedia) -> Result<Ready, Trouble> {
        let Some(most) = self.means.most else { return Err(Trouble::Off) };
        let (mut tries, mut spent) = (0, Duration::ZERO);
        loop {
            // However long WhatsApp is away, that is no try.
            self.means.connection.client().await;
            let began = Instant::now();
            let trouble = match self.attempt(asked, most).await {
                Ok(ready) => return Ok(ready),
                Err(trouble) => trouble,
            };
            tries += 1;
            spent += began.elapsed();
            let Some(pause) = after(trouble, tries, spent) else {
                return Err(trouble);
            };
            tracing::debug!(%trouble, tries, "a file is not at WhatsApp yet; trying again");
            sleep(pause).await;
            spent += pause;
        }
    }

    async fn attempt(&self, asked: &SendMedia, most: u64) -> Result<Ready, Trouble> {
        let FileMeans { bus, subjects, .. } = &self.means;
        let bucket = if asked.bucket.is_empty() { subjects.bucket_media() } else { asked.bucket.clone() };
        let object = bus.described(&bucket, &asked.key).await.map_err(unreadable)?;
        if object.size > most {
            return Err(Trouble::TooLarge);
        }
        if object.size == 0 {
            return Err(Trouble::Empty);
        }
        let kind = file::class(asked.kind());
        let mime_type = file::mime_type(asked, &object.mime_type);
        // Those that want the same file wait here, and find it then. If it failed meanwhile, that was their try as well: a
        // hundred chats do not wait for a hundred tries.
        let (same, began) = (self.same((object.sha256, kind)), Instant::now());
        let mut failed = same.lock().await;
        if let Some((_, trouble)) = failed.filter(|(at, _)| *at > began) {
            return Err(trouble);
        }
        let file = match self.known(&object, kind).await {
            Some(file) => Ok(file),
            None => self.bring(&object, kind).await,
        };
        *failed = file.as_ref().err().map(|trouble| (Instant::now(), *trouble));
        Ok(Ready { file: file?, mime_type })
    }

    async fn known(&self, object: &Described, kind: FileKind) -> Option<Uploaded> {
        if crash::switched_off("uploads") {
            return None;
        }
        let known = self.means.uploads.find(&object.sha256, kind).await;
        // If the store does not say, it is uploaded once more.
        known.ok().flatten().filter(|file| file.size == object.size)
    }

    /// From the bucket to WhatsApp.
    async fn bring(&self, object: &Described, kind: FileKind) -> Result<Uploaded, Trouble> {
        let is_away = || self.means.connection.state() != State::Online;
        let _turn = self.turns.next(is_away).await.ok_or(Trouble::Away)?;
        let client = self.means.connection.client().await;
        let mib = u32::try_from(object.size >> 20).unwrap_or(u32::MAX);
        let within = TRY + PER_MIB.saturating_mul(mib);
        let bring = async {
            let content = InBucket { bus: self.means.bus.clone(), object: object.clone() };
            let sealed = Box::pin(self.seal(&content, kind)).await?;
            crash::point("edge.before-upload");
            self.means.uploader.upload(&client, &sealed, &content).await.map_err(|error| match error {
                NotUploaded::Away => Trouble::Away,
                NotUploaded::Refused => Trouble::Refused,
            })
        };
        let file = timeout(within, bring).await.unwrap_or(Err(Trouble::Away))?;
        self.turns.has_gone();
        metrics::FILES.add(1, ["uploaded", ""]);
        if let Err(error) = self.means.uploads.keep(file.clone()).await {
            tracing::debug!(%error, "an upload is not remembered; the next chat's is made anew");
        }
        crash::point("edge.after-upload");
        Ok(file)
    }

    /// What is known of the content once it is encrypted. It is read anew when it is uploaded: a slow or a long file takes
    /// no memory, and no disk.
    async fn seal(&self, content: &InBucket, kind: FileKind) -> Result<Sealed, Trouble> {
        let key = self.means.connection.ourselves().await.file_key(&content.object.sha256, kind.name());
        let mut sealing = Sealing::begin(kind, key).map_err(|_| Trouble::Away)?;
        let mut pieces = Box::pin(content.read());
        while let Some(piece) = pieces.next().await {
            sealing.feed(&piece.map_err(unreadable)?);
            // Pieces that have come already make no pause, and each is a millisecond or so.
            tokio::task::yield_now().await;
        }
        Ok(sealing.end().map_err(|_| Trouble::Away)?.1)
    }

    fn same(&self, key: Key) -> Arc<Same> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = under_way.get(&key).and_then(Weak::upgrade) {
            return same;
        }
        // As many as there are lanes, at most.
        under_way.retain(|_, same| same.strong_count() > 0);
        let same = Arc::default();
        under_way.insert(key, Arc::downgrade(&same));
        same
    }
}

/// An object on the bus.
#[derive(Debug)]
struct InBucket {
    bus: Bus,
    object: Described,
}

impl Content for InBucket {
    type Error = Unreadable;

    fn read(&self) -> impl Stream<Item = Result<Bytes, Unreadable>> + Send + 'static {
        self.bus.open(self.object.clone()).pieces()
    }
}

fn unreadable(error: Unreadable) -> Trouble {
    match error {
        Unreadable::Missing => Trouble::Missing,
        Unreadable::Forbidden(_) => Trouble::Forbidden,
        Unreadable::Away(_) => Trouble::BucketAway,
        Unreadable::Broken => Trouble::OtherContent,
    }
}
