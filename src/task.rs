//! Tasks. Each has a name, an owner that ends it, and a rule for its panic. This is the only place that spawns:
//! clippy.toml bans `tokio::spawn`.
//!
//! A [`Task`] ends with its handle. [`Tasks`] are many short tasks that their owner waits for. The log has the name
//! of a task that panics, but not the panic's message: that may quote what a customer wrote.
//!
//! Where one process works for many accounts, what is done for each is in a [`Scope`]: all that it starts, too. So the
//! log says whose it is, and a panic ends what is done for that account, and not the process.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{self, FutureExt as _};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::crash;
use crate::exit::EX_UNAVAILABLE;

/// What a panic of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// The owner notices that the task has ended, so an ERROR in the log is enough.
    Log,
    /// Nothing works without the task, and no part would notice. So the process ends with exit code 69, and the
    /// supervisor starts it again. In a [`Scope`], only what is in it ends.
    EndProcess,
}

/// What is done for one of many accounts.
#[derive(Debug, Clone)]
pub struct Scope {
    account: Arc<str>,
    broken: CancellationToken,
}

tokio::task_local! {
    static SCOPE: Option<Scope>;
}

impl Scope {
    /// A scope in which nothing has panicked yet.
    pub fn new(account: &str) -> Self {
        Self { account: account.into(), broken: CancellationToken::new() }
    }

    /// The same work, in this scope, with all tasks that it starts.
    pub fn around<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        SCOPE.scope(Some(self.clone()), work)
    }

    /// Starts a task in this scope.
    pub fn spawn_in<T: Send + 'static>(
        &self,
        name: &'static str,
        on_panic: OnPanic,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        SCOPE.sync_scope(Some(self.clone()), || spawn(name, on_panic, work))
    }

    /// Cancelled when a task has panicked that the rest cannot do without.
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// Work that somebody else starts, in the scope of whoever calls this.
    pub fn kept<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        SCOPE.scope(current(), work)
    }

    /// The account for which the running task works, if it is one of many.
    pub fn account() -> Option<Arc<str>> {
        current().map(|scope| scope.account)
    }
}

fn current() -> Option<Scope> {
    SCOPE.try_with(Clone::clone).ok().flatten()
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
    /// Has it ended?
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

/// Many tasks with one name and one owner. The owner waits until they have ended. A panic is logged.
#[derive(Debug, Clone)]
pub struct Tasks {
    name: &'static str,
    tracker: TaskTracker,
}

impl Tasks {
    /// Without tasks.
    pub fn new(name: &'static str) -> Self {
        Self { name, tracker: TaskTracker::new() }
    }

    /// Starts one more.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Its handle is not needed: the tracker knows of its end.
        #[expect(clippy::disallowed_methods, reason = "the place that spawns")]
        drop(self.tracker.spawn(watched(self.name, OnPanic::Log, work)));
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Does no task run?
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Returns when all tasks have ended. No task may be started any more.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Like [`Tasks`], for an owner that has to know when each task ends. All tasks end with the set.
#[derive(Debug)]
pub struct TaskSet {
    name: &'static str,
    set: JoinSet<Option<()>>,
}

impl TaskSet {
    /// Without tasks.
    pub fn new(name: &'static str) -> Self {
        Self { name, set: JoinSet::new() }
    }

    /// Starts one more. The handle can end it early.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        #[expect(clippy::disallowed_methods, reason = "the place that spawns")]
        self.set.spawn(watched(self.name, OnPanic::Log, work))
    }

    /// Returns when a task ends; `None` if there is none left.
    pub async fn next_end(&mut self) -> Option<()> {
        self.set.join_next().await.map(drop)
    }
}

/// Work whose panic is noticed. Not an async fn: that would hold the work three times over, and thousands may wait.
fn watched<T>(
    name: &'static str,
    on_panic: OnPanic,
    work: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    let work = future::lazy(move |_| crash::panic_of(name, Scope::account().as_deref())).then(move |()| work);
    let watched = AssertUnwindSafe(work).catch_unwind().map(move |ended| {
        if ended.is_err() {
            panicked(name, on_panic);
        }
        ended.ok()
    });
    SCOPE.scope(current(), watched)
}

fn panicked(name: &'static str, on_panic: OnPanic) {
    match (on_panic, current()) {
        (OnPanic::Log, _) => tracing::error!(task = name, "a task panicked; this is a bug, please report it"),
        (OnPanic::EndProcess, Some(scope)) => {
            tracing::error!(
                task = name,
                "a task that the account depends on panicked; its edge begins anew; this is a bug, please report it"
            );
            scope.broken.cancel();
        }
        (OnPanic::EndProcess, None) => {
            tracing::error!(
                task = name,
                "a task that everything depends on panicked; the process ends with exit code 69"
            );
            process::exit(EX_UNAVAILABLE.into());
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
    async fn a_panic_in_a_scope_breaks_the_scope_and_not_the_process() {
        let (scope, other) = (Scope::new("shop"), Scope::new("bar"));
        let work = scope.around(async {
            let inner = spawn("starts another", OnPanic::Log, async {
                let account = Scope::account();
                let panics = spawn("panics", OnPanic::EndProcess, async { panic!("said in a test") });
                assert_eq!(panics.await, None::<()>);
                account
            });
            inner.await.flatten()
        });
        assert_eq!(work.await.as_deref(), Some("shop"));
        assert!(scope.broken().is_cancelled() && !other.broken().is_cancelled());
        assert_eq!(Scope::account(), None);
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
