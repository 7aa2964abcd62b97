//! Tasks. Each has a name, an owner that ends it, and a word on what its panic means. Nothing else spawns:
//! clippy.toml bans `tokio::spawn`.
//!
//! A [`Task`] ends with its handle. [`Tasks`] are many short ones, which their owner waits for. A panic is logged
//! with the task's name, and not with its words: they may quote what a person wrote.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::exit::EX_UNAVAILABLE;

/// What a panic of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// The task is over, and its owner notices: an ERROR in the log.
    Log,
    /// Nothing works without the task, and nobody would notice: the process ends with exit code 69, for a
    /// supervisor to start it again.
    EndProcess,
}

/// A task that ends when its handle is dropped. Waiting for it gives its value; `None` if it panicked.
#[must_use = "the task ends with its handle"]
#[derive(Debug)]
pub struct Task<T>(AbortOnDropHandle<Option<T>>);

/// Starts a task.
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    on_panic: OnPanic,
    work: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    #[expect(clippy::disallowed_methods, reason = "the place that spawns")]
    Task(AbortOnDropHandle::new(tokio::spawn(watched(name, on_panic, work))))
}

impl<T> Task<T> {
    /// Is it over?
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Ends it at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        // An error says that it was aborted.
        Pin::new(&mut self.0).poll(context).map(|ended| ended.ok().flatten())
    }
}

/// Many tasks of one name and one owner, who waits for their ends. A panic of one is logged.
#[derive(Debug, Clone)]
pub struct Tasks {
    name: &'static str,
    tracker: TaskTracker,
}

impl Tasks {
    /// None so far.
    pub fn new(name: &'static str) -> Self {
        Self { name, tracker: TaskTracker::new() }
    }

    /// Starts one more.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Its handle is not needed: the tracker knows of its end.
        #[expect(clippy::disallowed_methods, reason = "the place that spawns")]
        drop(self.tracker.spawn(watched(self.name, OnPanic::Log, work)));
    }

    /// How many are at work.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Is none at work?
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Returns when all have ended. None may be started any more.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// As [`Tasks`], for an owner that wants to hear of each end, and ends all with itself.
#[derive(Debug)]
pub struct TaskSet {
    name: &'static str,
    set: JoinSet<Option<()>>,
}

impl TaskSet {
    /// None so far.
    pub fn new(name: &'static str) -> Self {
        Self { name, set: JoinSet::new() }
    }

    /// Starts one more; the handle ends it early.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        #[expect(clippy::disallowed_methods, reason = "the place that spawns")]
        self.set.spawn(watched(self.name, OnPanic::Log, work))
    }

    /// Returns with each end; `None` when there is none left.
    pub async fn next_end(&mut self) -> Option<()> {
        self.set.join_next().await.map(drop)
    }
}

async fn watched<T>(name: &'static str, on_panic: OnPanic, work: impl Future<Output = T>) -> Option<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(value) => Some(value),
        Err(_words) => {
            match on_panic {
                OnPanic::Log => {
                    tracing::error!(task = name, "a task panicked; this is a bug, please report it")
                }
                OnPanic::EndProcess => {
                    tracing::error!(
                        task = name,
                        "a task that all depend on panicked; the process ends with 69"
                    );
                    process::exit(EX_UNAVAILABLE.into());
                }
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_task_only() {
        let task = spawn("panics", OnPanic::Log, async { panic!("said in a test") });
        assert_eq!(task.await, None::<()>);
        assert_eq!(spawn("works", OnPanic::Log, async { 7 }).await, Some(7));
        let tasks = Tasks::new("many");
        tasks.spawn(async { panic!("said in a test") });
        tasks.spawn(async {});
        tasks.ended().await;
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn a_task_ends_with_its_handle() {
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let task = spawn("waits", OnPanic::Log, async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(task);
        assert!(ended.await.is_err(), "what it held is dropped");
    }
}
