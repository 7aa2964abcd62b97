//! Many changes of the session's store in one commit, whatever the store is.
//!
//! A commit has its price whatever is in it: a write that is forced to the disk, or a message to the bus and its
//! answer. A message and its answer make half a dozen changes. So one commit at a time is written, and the changes
//! that come meanwhile wait and go into the next one together.
//!
//! A change that is waited for is stored when the wait ends, as if it had been written alone. A change that has
//! time goes with the next one that has none, or without it after [`LINGER`]; a `kill -9` before that costs the change.
//! Changes are written in the order in which they came: none is stored before those that were queued earlier.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

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

/// Nothing is written any more: the writer is gone, because its owner is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing is written any more")]
pub struct Ended;

/// The changes of one call, and who waits for them.
struct Job<Change, Error> {
    changes: Arc<[Change]>,
    /// `None`: nobody waits.
    waits: Option<oneshot::Sender<Result<(), Error>>>,
    /// Until then others may join it.
    by: Instant,
}

/// Writes changes. The writer ends with it.
pub struct Together<Change, Error> {
    jobs: mpsc::Sender<Job<Change, Error>>,
    _writer: Task<()>,
}

impl<Change, Error> std::fmt::Debug for Together<Change, Error> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl<Change, Error> Together<Change, Error>
where
    Change: Send + Sync + 'static,
    Error: From<Ended> + Display + Send + Sync + 'static,
{
    /// `commit` writes all changes of some calls, in their order, or none of them.
    pub fn with<Written>(commit: impl Fn(Changes<Change>) -> Written + Send + Sync + 'static) -> Self
    where
        Written: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (jobs, waiting) = mpsc::channel(WAITING);
        // Without it no message is received, and the library would only see errors.
        let writer = spawn("session store", OnPanic::EndProcess, write(waiting, commit));
        Self { jobs, _writer: writer }
    }

    /// Returns when the changes are on the disk, together with others perhaps.
    pub async fn written(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.wait(changes, Duration::ZERO).await
    }

    /// The same, for who has time.
    pub async fn written_sometime(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.wait(changes, LINGER).await
    }

    /// Returns at once. The changes follow, or never if the process is killed.
    pub async fn later(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.queue(Job { changes: changes.into(), waits: None, by: Instant::now() + LINGER }).await
    }

    /// The same, for what somebody will wait for.
    pub async fn soon(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.queue(Job { changes: changes.into(), waits: None, by: Instant::now() + SOON }).await
    }

    /// Returns when all that came before is on the disk, or could not be written.
    pub async fn settled(&self) {
        // An error would be that of changes which others wait for.
        let _ = self.written(Vec::new()).await;
    }

    /// The same, for who has time. It hurries nothing.
    pub async fn settled_sometime(&self) {
        let _ = self.wait(Vec::new(), LINGER).await;
    }

    async fn wait(&self, changes: Vec<Change>, time: Duration) -> Result<(), Error> {
        let (waits, done) = oneshot::channel();
        let by = Instant::now() + time;
        self.queue(Job { changes: changes.into(), waits: Some(waits), by }).await?;
        done.await.map_err(|_| Ended)?
    }

    async fn queue(&self, job: Job<Change, Error>) -> Result<(), Error> {
        Ok(self.jobs.send(job).await.map_err(|_| Ended)?)
    }
}

/// The changes of some calls, in their order.
pub type Changes<Change> = Vec<Arc<[Change]>>;

/// Works through the jobs until nobody can send any more.
async fn write<Change, Error, Written>(
    mut jobs: mpsc::Receiver<Job<Change, Error>>,
    commit: impl Fn(Changes<Change>) -> Written,
) where
    Error: From<Ended> + Display,
    Written: Future<Output = Result<(), Error>>,
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
async fn company<Change, Error>(
    jobs: &mut mpsc::Receiver<Job<Change, Error>>,
    batch: &mut Vec<Job<Change, Error>>,
) {
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

/// Writes the jobs in one commit; if that fails, each in one of its own, so that none fails for another's sake.
async fn together<Change, Error, Written>(
    batch: &mut Vec<Job<Change, Error>>,
    commit: &impl Fn(Changes<Change>) -> Written,
    lost: &Seldom,
) where
    Error: From<Ended> + Display,
    Written: Future<Output = Result<(), Error>>,
{
    let all: Changes<Change> = batch.iter().map(|job| Arc::clone(&job.changes)).collect();
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
            _ => written.take().unwrap_or_else(|| Err(Ended.into())),
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
        commits: Together<u32, Ended>,
        written: Arc<Mutex<Vec<Vec<u32>>>>,
        begun: Arc<Semaphore>,
        go_on: Arc<Semaphore>,
    }

    /// The one that cannot be written.
    const BAD: u32 = 666;

    fn paper() -> Paper {
        let written: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let (begun, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let commits = {
            let (written, begun, go_on) = (Arc::clone(&written), Arc::clone(&begun), Arc::clone(&go_on));
            Together::with(move |changes| {
                let (written, begun, go_on) = (Arc::clone(&written), Arc::clone(&begun), Arc::clone(&go_on));
                async move {
                    begun.add_permits(1);
                    go_on.acquire().await.expect("nobody closes it").forget();
                    let numbers: Vec<u32> = changes.iter().flat_map(|call| call.iter().copied()).collect();
                    if numbers.contains(&BAD) {
                        return Err(Ended);
                    }
                    written.lock().expect("no panic").push(numbers);
                    Ok(())
                }
            })
        };
        Paper { commits, written, begun, go_on }
    }

    fn change(number: u32) -> Vec<u32> {
        vec![number]
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
