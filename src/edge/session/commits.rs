//! Many changes of the session's store in one transaction.
//!
//! A transaction has its price whatever is in it: a task on another thread, a commit, a write that is forced to the
//! disk. A message and its answer make half a dozen changes. So one transaction at a time is written, and the changes
//! that come meanwhile wait and go into the next one together.
//!
//! A change that is waited for is on the disk when the wait ends, as if it had been written alone. A change that has
//! time goes with the next one that has none, or without it after [`LINGER`]; a `kill -9` before that costs the change.
//! Changes are written in the order in which they came: none is on the disk before those that were queued earlier.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use whatsapp_rust::store::SqliteStore;
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use super::changes::{Change, apply};
use crate::task::{OnPanic, Task, spawn};
use crate::telemetry::Seldom;

/// How long a change that has time may wait for others.
const LINGER: Duration = Duration::from_millis(50);
/// The same, if somebody will wait for it.
const SOON: Duration = Duration::from_millis(20);
/// How many calls may wait for their turn. The library makes at most a few for each of the 64 messages that it works
/// on; one more waits outside.
const WAITING: usize = 1_024;
/// How many calls go into one transaction at most.
const TOGETHER: usize = 256;

/// The changes of one call, and who waits for them.
struct Job {
    changes: Arc<[Change]>,
    /// `None`: nobody waits.
    waits: Option<oneshot::Sender<Result<()>>>,
    /// Until then others may join it.
    by: Instant,
}

/// Writes changes. The writer ends with it.
pub(super) struct Commits {
    jobs: mpsc::Sender<Job>,
    _writer: Task<()>,
}

impl Commits {
    /// Writes to `store`, through its own connection.
    pub(super) fn new(store: &SqliteStore) -> Self {
        let (store, device) = (store.shared(), store.device_id());
        Self::with(move |changes| {
            let store = store.clone();
            async move { store.run(move |connection| apply(connection, device, &changes)).await }
        })
    }

    fn with<Written>(commit: impl Fn(Changes) -> Written + Send + Sync + 'static) -> Self
    where
        Written: Future<Output = Result<()>> + Send + 'static,
    {
        let (jobs, waiting) = mpsc::channel(WAITING);
        // Without it no message is received, and the library would only see errors.
        let writer = spawn("session store", OnPanic::EndProcess, write(waiting, commit));
        Self { jobs, _writer: writer }
    }

    /// Returns when the changes are on the disk, together with others perhaps.
    pub(super) async fn written(&self, changes: Vec<Change>) -> Result<()> {
        self.wait(changes, Duration::ZERO).await
    }

    /// The same, for who has time.
    pub(super) async fn written_sometime(&self, changes: Vec<Change>) -> Result<()> {
        self.wait(changes, LINGER).await
    }

    /// Returns at once. The changes follow, or never if the process is killed.
    pub(super) async fn later(&self, changes: Vec<Change>) -> Result<()> {
        self.queue(Job { changes: changes.into(), waits: None, by: Instant::now() + LINGER }).await
    }

    /// The same, for what somebody will wait for.
    pub(super) async fn soon(&self, changes: Vec<Change>) -> Result<()> {
        self.queue(Job { changes: changes.into(), waits: None, by: Instant::now() + SOON }).await
    }

    /// Returns when all that came before is on the disk, or could not be written.
    pub(super) async fn settled(&self) {
        // An error would be that of changes which others wait for.
        let _ = self.written(Vec::new()).await;
    }

    /// The same, for who has time. It hurries nothing.
    pub(super) async fn settled_sometime(&self) {
        let _ = self.wait(Vec::new(), LINGER).await;
    }

    async fn wait(&self, changes: Vec<Change>, time: Duration) -> Result<()> {
        let (waits, done) = oneshot::channel();
        let by = Instant::now() + time;
        self.queue(Job { changes: changes.into(), waits: Some(waits), by }).await?;
        done.await.map_err(|_| ended())?
    }

    async fn queue(&self, job: Job) -> Result<()> {
        self.jobs.send(job).await.map_err(|_| ended())
    }
}

/// The writer is gone, because the client is ending.
fn ended() -> StoreError {
    StoreError::Validation("the session's store is closed".to_owned())
}

/// The changes of some calls, in their order.
type Changes = Vec<Arc<[Change]>>;

/// Works through the jobs until nobody can send any more.
async fn write<Written>(mut jobs: mpsc::Receiver<Job>, commit: impl Fn(Changes) -> Written)
where
    Written: Future<Output = Result<()>>,
{
    let (mut batch, lost) = (Vec::new(), Seldom::default());
    while jobs.recv_many(&mut batch, TOGETHER).await > 0 {
        company(&mut jobs, &mut batch).await;
        // Who has stopped waiting before it is begun takes it back.
        batch.retain(|job| !job.waits.as_ref().is_some_and(oneshot::Sender::is_closed));
        if !batch.is_empty() {
            together(&mut batch, &commit, &lost).await;
        }
    }
}

/// Lets more jobs come, as long as all of them have time.
async fn company(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>) {
    while let Some(by) = batch.iter().map(|job| job.by).min()
        && by > Instant::now()
        && batch.len() < TOGETHER
    {
        let room = TOGETHER - batch.len();
        let more = jobs.recv_many(batch, room);
        // Nothing: the time is over, or nobody can send any more.
        if !matches!(timeout_at(by, more).await, Ok(1..)) {
            return;
        }
    }
}

/// Writes the jobs in one transaction; if that fails, each in one of its own, so that none fails for another's sake.
async fn together<Written>(batch: &mut Vec<Job>, commit: &impl Fn(Changes) -> Written, lost: &Seldom)
where
    Written: Future<Output = Result<()>>,
{
    let all: Changes = batch.iter().map(|job| Arc::clone(&job.changes)).collect();
    let written = commit(all).await;
    let alone = batch.len() == 1;
    if let Err(error) = &written
        && !alone
    {
        tracing::debug!(%error, calls = batch.len(), "what was to be written together is written one by one");
    }
    let mut written = Some(written);
    for Job { changes, waits, .. } in batch.drain(..) {
        let result = match &written {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) if !alone => commit(vec![changes]).await,
            _ => written.take().unwrap_or_else(|| Err(ended())),
        };
        match waits {
            // Nobody may be there any more to hear it.
            Some(waits) => drop(waits.send(result)),
            None => {
                // A copy that is lost can be asked for again by a phone, in vain.
                if let Err(error) = result
                    && let Some(more) = lost.due()
                {
                    tracing::warn!(%error, more, "a change of the session's store that nobody waits for is lost");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    /// A store that writes one transaction for each permit, and remembers what was in it.
    struct Paper {
        commits: Commits,
        written: Arc<Mutex<Vec<Vec<u32>>>>,
        begun: Arc<Semaphore>,
        go_on: Arc<Semaphore>,
    }

    /// The one that cannot be written.
    const BAD: u32 = 666;

    fn number(change: &Change) -> u32 {
        match change {
            Change::UsedPreKey(number) => *number,
            other => panic!("{other:?}"),
        }
    }

    fn paper() -> Paper {
        let written: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let commits = {
            let (written, begun, go_on) = (Arc::clone(&written), Arc::clone(&begun), Arc::clone(&go_on));
            Commits::with(move |changes| {
                let (written, begun, go_on) = (Arc::clone(&written), Arc::clone(&begun), Arc::clone(&go_on));
                async move {
                    begun.add_permits(1);
                    go_on.acquire().await.expect("nobody closes it").forget();
                    let numbers: Vec<u32> = changes.iter().flat_map(|call| call.iter().map(number)).collect();
                    if numbers.contains(&BAD) {
                        return Err(ended());
                    }
                    written.lock().expect("no panic").push(numbers);
                    Ok(())
                }
            })
        };
        Paper { commits, written, begun, go_on }
    }

    fn change(number: u32) -> Vec<Change> {
        vec![Change::UsedPreKey(number)]
    }

    impl Paper {
        fn written(&self) -> Vec<Vec<u32>> {
            self.written.lock().expect("no panic").clone()
        }

        async fn begun(&self) {
            self.begun.acquire().await.expect("nobody closes it").forget();
        }
    }

    #[tokio::test]
    async fn what_comes_during_a_commit_is_written_with_the_next_one_in_its_order() {
        let paper = paper();
        let rest = async {
            paper.begun().await;
            let calls = async {
                let later = paper.commits.later(change(4));
                tokio::join!(paper.commits.written(change(2)), paper.commits.written(change(3)), later)
            };
            let release = async {
                tokio::task::yield_now().await;
                paper.go_on.add_permits(10);
            };
            tokio::join!(calls, release).0
        };
        let (first, (second, third, fourth)) = tokio::join!(paper.commits.written(change(1)), rest);
        assert!([first, second, third, fourth].iter().all(Result::is_ok));
        assert_eq!(paper.written(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn one_that_cannot_be_written_fails_alone() {
        let paper = paper();
        paper.go_on.add_permits(10);
        let (one, bad, two) = tokio::join!(
            paper.commits.written(change(1)),
            paper.commits.written(change(BAD)),
            paper.commits.written(change(2))
        );
        assert!(one.is_ok() && bad.is_err() && two.is_ok());
        assert_eq!(paper.written().concat(), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_time_waits_for_company_and_not_for_ever() {
        let paper = paper();
        paper.go_on.add_permits(10);
        let began = Instant::now();
        paper.commits.later(change(1)).await.expect("it is queued");
        paper.commits.written_sometime(change(2)).await.expect("it is written");
        assert_eq!((paper.written(), began.elapsed()), (vec![vec![1, 2]], LINGER));
        // And at once if somebody waits for another.
        paper.commits.later(change(3)).await.expect("it is queued");
        let began = Instant::now();
        paper.commits.settled().await;
        assert_eq!((paper.written().concat(), began.elapsed()), (vec![1, 2, 3], Duration::ZERO));
        // And soon if somebody will wait for it.
        let began = Instant::now();
        paper.commits.soon(change(4)).await.expect("it is queued");
        paper.commits.later(change(5)).await.expect("it is queued");
        paper.commits.settled_sometime().await;
        assert_eq!((paper.written().concat(), began.elapsed()), (vec![1, 2, 3, 4, 5], SOON));
    }

    #[tokio::test]
    async fn what_is_taken_back_before_it_is_begun_is_not_written() {
        let paper = paper();
        let rest = async {
            paper.begun().await;
            let taken_back = tokio::time::timeout(Duration::ZERO, paper.commits.written(change(2)));
            assert!(taken_back.await.is_err());
            paper.go_on.add_permits(10);
        };
        let (first, ()) = tokio::join!(paper.commits.written(change(1)), rest);
        assert!(first.is_ok());
        paper.commits.settled().await;
        assert_eq!(paper.written().concat(), [1]);
    }
}
