//! The hub: the one way to the world, and the owner of every task.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery;
use crate::world::{Job, World};

pub(crate) struct Hub {
    world: Mutex<World>,
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Hub {
    pub(crate) fn new(world: World) -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::new(world),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Takes up the work that an earlier run left behind.
    pub(crate) fn resume(self: &Arc<Self>) {
        let numbers: Vec<_> = self.read(|world| {
            let accounts = world.accounts.keys();
            let customers = world.customers.keys();
            accounts.chain(customers).cloned().collect()
        });
        for number in numbers {
            if self.read(|world| world.next_mail(&number)).is_some() {
                self.start(Job::Mail(number));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the world.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the world. When this returns, the change is in the journal; the stanzas it sends
    /// leave after that.
    pub(crate) fn update<R>(self: &Arc<Self>, change: impl FnOnce(&mut World) -> R) -> R {
        let mut world = self.lock();
        let result = change(&mut world);
        let jobs = world.commit();
        drop(world);
        for job in jobs {
            self.start(job);
        }
        result
    }

    /// Puts a job on the pool for work that takes a while.
    pub(crate) fn start(self: &Arc<Self>, job: Job) {
        if self.stopping.is_cancelled() {
            return; // mail stays where it is, and keys are shared at the next login
        }
        let hub = Arc::clone(self);
        match job {
            Job::Mail(number) => {
                let Some(handset) = self.read(|world| world.handset(&number).cloned()) else {
                    return;
                };
                if !handset.called.swap(true, Ordering::AcqRel) {
                    self.tasks.spawn_blocking(move || delivery::empty_mailbox(&hub, &handset));
                }
            }
            Job::ShareKeys(number, device) => {
                self.tasks.spawn_blocking(move || delivery::share_keys(&hub, &number, device));
            }
        }
    }

    /// Runs something with cryptography in it on the pool; `None` if the simulator stops first.
    pub(crate) async fn off_thread<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> R + Send + 'static,
    ) -> Option<R> {
        let hub = Arc::clone(self);
        self.tasks.spawn_blocking(move || work(&hub)).await.ok()
    }
}
