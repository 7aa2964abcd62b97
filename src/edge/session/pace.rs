//! The library's clock: Tokio's, with two exceptions. What it starts is in the scope of the account that it is started for.
//!
//! The library ends a connection when its QR codes have run out, after 160 s at the latest. If WhatsApp wants a passkey, the
//! person needs that connection for up to ten minutes. So while one is wanted the last code does not run out.
//!
//! For tests, the library never comes to write its ratchets behind. So a test can see what a kill costs in the moment
//! before it does.

use std::pin::Pin;
use std::time::Duration;

use whatsapp_rust::TokioRuntime;
use whatsapp_rust::wacore::runtime::{AbortHandle, Runtime};

use super::passkey::Ceremony;
use crate::crash;
use crate::task::Scope;

/// How long the first QR code lives, and each of the others (whatsapp-rust 0.7.0, `pair.rs`). It times other things out with
/// these times, too: what they wait for comes as soon as ever, and what never comes is given up on later.
const CODES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];
/// After how long the library writes its ratchets behind (`signal_flush.rs`).
const WRITE_BEHIND: Duration = Duration::from_millis(25);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tokio, with these exceptions.
pub(super) struct Pace(pub(super) Ceremony);

impl Runtime for Pace {
    fn spawn(&self, future: Task) -> AbortHandle {
        TokioRuntime.spawn(Box::pin(Scope::kept(future)))
    }

    fn spawn_detached(&self, future: Task) {
        TokioRuntime.spawn_detached(Box::pin(Scope::kept(future)));
    }

    fn sleep(&self, duration: Duration) -> Task {
        if duration == WRITE_BEHIND && crash::switched_off("write-behind") {
            return Box::pin(std::future::pending());
        }
        let sleep = TokioRuntime.sleep(duration);
        if !CODES.contains(&duration) || crash::switched_off("passkey-pace") {
            return sleep;
        }
        let ceremony = self.0.clone();
        Box::pin(async move {
            sleep.await;
            ceremony.over().await;
        })
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> Task {
        TokioRuntime.spawn_blocking(work)
    }

    fn yield_now(&self) -> Option<Task> {
        TokioRuntime.yield_now()
    }
}
