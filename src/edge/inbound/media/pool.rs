//! Fetches files into the bucket, many at a time, and says beside the message what became of each.
//!
//! A job is forgotten only after its update is on the bus. Whatever happens before that, it is done again: the object
//! takes the place of the one before, and the update has an id by which the bus knows it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::policy::{self, Progress, Step};
use super::read::is_path;
use super::{Files, failed, update_id};
use crate::bus::{Bus, Object, ObjectError};
use crate::crash;
use crate::edge::inbound::hook::Inbound;
use crate::edge::session::{Answer, Connection, Fetched, Fetcher, Job, Sink, Trouble, ask_phone};
use crate::task::{OnPanic, spawn};
use crate::telemetry::metrics;
use crate::wire::v1::inbound_message::Content;
use crate::wire::v1::{InboundMessage, MediaState};
use crate::wire::{ChatToken, Subjects, now_ms};

/// How many files are downloaded at once. Each holds some hundred KiB.
const DOWNLOADS: usize = 8;
/// How many jobs are looked at at once: most of these wait for a phone, or for their turn to download.
const AT_ONCE: usize = 64;
/// The pause if the session's store does not answer.
const STORE_AWAY_MS: i64 = 5_000;

/// What the pool works with.
#[derive(Debug)]
pub(crate) struct Pool {
    /// What is to be fetched.
    pub files: Files,
    /// Downloads.
    pub fetcher: Fetcher,
    /// Publishes the updates.
    pub inbound: Inbound,
    /// Where the client is.
    pub connection: Connection,
    /// Where the bucket is.
    pub bus: Bus,
    /// Its name.
    pub subjects: Subjects,
    /// Ends the work.
    pub stop: CancellationToken,
}

impl Sink for Object {
    type Error = ObjectError;

    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), ObjectError>> + Send {
        self.write(bytes)
    }
}

impl Pool {
    /// Works until `stop`. What is not done then is done after the next start.
    pub(crate) async fn run(self) {
        let (files, stop) = (self.files.clone(), self.stop.clone());
        let worker = Arc::new(Worker { pool: self, downloads: Semaphore::new(DOWNLOADS) });
        let mut opened = files.jobs.opened();
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((chat, id)) = files.begin()
            {
                let worker = Arc::clone(&worker);
                under_way.push(async move {
                    let job = id.clone();
                    let work =
                        spawn("media file", OnPanic::Log, async move { Box::pin(worker.work(&job)).await });
                    // A panic: once more, and not at once.
                    let again = work.await.unwrap_or_else(|| Some(now_ms() + 60_000));
                    (chat, id, again)
                });
            }
            let is_full = under_way.len() >= AT_ONCE;
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = opened.changed() => files.read_anew().await,
                () = files.came.notified() => {}
                Some((chat, id, again)) = under_way.next() => files.queue().over(&chat, &id, again),
                () = tokio::time::sleep(files.pause()), if !is_full => {}
            }
        }
    }
}

impl Files {
    fn begin(&self) -> Option<(String, String)> {
        self.queue().next(now_ms())
    }

    /// Until the next file may be due.
    fn pause(&self) -> Duration {
        let at_ms = self.queue().next_at_ms();
        let left_ms = at_ms.map_or(3_600_000, |at_ms| at_ms.saturating_sub(now_ms()).max(1));
        Duration::from_millis(u64::try_from(left_ms).unwrap_or_default())
    }

    /// What an earlier process has left, or an earlier client.
    async fn read_anew(&self) {
        match self.jobs.waiting().await {
            Ok(tickets) => {
                let mut queue = self.queue();
                for ticket in tickets {
                    queue.add(&ticket.chat, &ticket.id, ticket.next_at_ms);
                }
            }
            // The store is closed again, and will be opened.
            Err(error) => tracing::debug!(%error, "the files that are to be fetched cannot be read"),
        }
    }
}

/// Works on one job at a time, in many tasks.
struct Worker {
    pool: Pool,
    downloads: Semaphore,
}

impl Worker {
    /// Works on a job. Returns when it has to be tried again, if it has.
    async fn work(&self, id: &str) -> Option<i64> {
        let jobs = &self.pool.files.jobs;
        let job = match jobs.find(id).await {
            Ok(Some(job)) => job,
            Ok(None) => {
                let _ = jobs.over(id).await;
                return None;
            }
            Err(_) => return Some(now_ms() + STORE_AWAY_MS),
        };
        let client = self.pool.connection.client().await;
        let stored = {
            // It is never closed.
            let _permit = self.downloads.acquire().await;
            self.store(&client, &job).await
        };
        match stored {
            Ok(fetched) => self.stored(job, fetched).await,
            Err(trouble) => {
                tracing::debug!(message_id = job.update.message_id, %trouble, "a file did not come");
                match policy::after(&trouble, progress(&job)) {
                    Step::AskPhone => {
                        let answer = ask_phone(&self.pool.connection, &job.update, &job.file).await;
                        self.asked(job, answer).await
                    }
                    step => self.step(job, step).await,
                }
            }
        }
    }

    async fn store(
        &self,
        client: &whatsapp_rust::Client,
        job: &Job,
    ) -> Result<Fetched, Trouble<ObjectError>> {
        let mut object = self.pool.bus.begin_object(&self.pool.subjects);
        let fetched = self.pool.fetcher.fetch(client, &job.file, &mut object).await?;
        crash::point("edge.before-object");
        object.finish(&job.id).await.map_err(Trouble::Sink)?;
        crash::point("edge.after-object");
        Ok(fetched)
    }

    async fn stored(&self, job: Job, fetched: Fetched) -> Option<i64> {
        let (key, sha256) = (job.id.clone(), job.file.sha256.to_vec());
        metrics::FILES.add(1, ["stored", ""]);
        let bucket = self.pool.subjects.bucket_media();
        let Job { id, mut update, .. } = job;
        if let Some(Content::Media(result)) = &mut update.content {
            result.set_state(MediaState::Stored);
            (result.bucket, result.key, result.sha256) = (bucket, key, sha256);
            result.size_bytes = fetched.size;
        }
        self.end(id, update).await
    }

    /// The phone has said something, or nothing.
    async fn asked(&self, mut job: Job, answer: Answer) -> Option<i64> {
        match answer {
            Answer::Here(path) if is_path(&path) => {
                job.file.path = path;
                job.renewals += 1;
                self.put_off(job, Duration::ZERO).await
            }
            Answer::Here(_) => self.step(job, Step::GiveUp("expired")).await,
            answer => {
                let step = policy::after_asking(&answer, progress(&job));
                self.step(job, step).await
            }
        }
    }

    async fn step(&self, mut job: Job, step: Step) -> Option<i64> {
        match step {
            Step::Again(pause) => {
                job.tries = job.tries.saturating_add(1);
                self.put_off(job, pause).await
            }
            Step::GiveUp(code) => {
                metrics::FILES.add(1, ["failed", code]);
                tracing::info!(message_id = job.update.message_id, reason = code, "a file cannot be fetched");
                let Job { id, update, .. } = job;
                self.end(id, failed(update, code)).await
            }
            // Answered by the caller.
            Step::AskPhone => None,
        }
    }

    async fn put_off(&self, mut job: Job, pause: Duration) -> Option<i64> {
        job.next_at_ms = now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        let next_at_ms = job.next_at_ms;
        // If it cannot be written, the job is as it was before: it is tried once more than it would be.
        let _ = self.pool.files.jobs.keep(job).await;
        Some(next_at_ms)
    }

    /// Says on the bus what became of the file, and forgets the job.
    async fn end(&self, id: String, mut update: InboundMessage) -> Option<i64> {
        update.received_at_ms = now_ms();
        if !self.publish(&id, update).await {
            return Some(now_ms());
        }
        crash::point("edge.after-media-update");
        match self.pool.files.jobs.over(&id).await {
            Ok(()) => None,
            // It is done once more, which the bus notices.
            Err(_) => Some(now_ms() + STORE_AWAY_MS),
        }
    }

    /// `false`: the process is stopping.
    async fn publish(&self, id: &str, update: InboundMessage) -> bool {
        match ChatToken::parse(&update.chat) {
            Ok(chat) => self.pool.inbound.update(&chat, &update_id(id), update).await.is_ok(),
            // Nobody has written such a row.
            Err(_) => true,
        }
    }
}

fn progress(job: &Job) -> Progress {
    let left_ms = u64::try_from(job.until_ms.saturating_sub(now_ms())).unwrap_or_default();
    Progress { tries: job.tries, renewals: job.renewals, left: Duration::from_millis(left_ms) }
}
