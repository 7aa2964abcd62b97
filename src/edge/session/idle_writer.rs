//! For tests: a runtime on which the library never comes to write its ratchets behind. So a test can see what a kill costs
//! in the moment before it does.

use std::pin::Pin;
use std::time::Duration;

use whatsapp_rust::TokioRuntime;
use whatsapp_rust::wacore::runtime::{AbortHandle, Runtime};

use crate::crash;

/// After how long the library writes its ratchets behind (whatsapp-rust 0.7.0, `signal_flush.rs`).
const WRITE_BEHIND: Duration = Duration::from_millis(25);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tokio, with that exception.
pub(super) struct IdleWriter;

impl Runtime for IdleWriter {
    fn spawn(&self, future: Task) -> AbortHandle {
        TokioRuntime.spawn(future)
    }

    fn spawn_detached(&self, future: Task) {
        TokioRuntime.spawn_detached(future);
    }

    fn sleep(&self, duration: Duration) -> Task {
        if duration == WRITE_BEHIND && crash::switched_off("write-behind") {
            return Box::pin(std::future::pending());
        }
        TokioRuntime.sleep(duration)
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> Task {
        TokioRuntime.spawn_blocking(work)
    }

    fn yield_now(&self) -> Option<Task> {
        TokioRuntime.yield_now()
    }
}
