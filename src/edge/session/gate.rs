//! The gate before WhatsApp: what is encrypted with a ratchet leaves when the ratchet is on the disk, and not before.
//!
//! The library writes a turned ratchet a moment after it has used it (docs/decisions/0044). The last place where a send can be held is
//! the socket: its frame is encrypted by then, so what is written now is at least what the frame was made with. So while
//! something is being sent, every frame waits until the library has nothing more to write. Without that a message that comes
//! between a write and the encryption after it would turn the ratchet once more.
//!
//! While WhatsApp hands over what has waited, the library writes in batches, and sends receipts while it does: then nothing
//! waits, and nothing is sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use whatsapp_rust::transport::Transport;
use whatsapp_rust::{Client, async_trait};

use crate::crash;

/// A write that takes longer has failed. Then the frame does not leave.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The library answers a phone that asks for a message again within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Is something being sent? Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    client: Mutex<Weak<Client>>,
    sending: AtomicUsize,
    answering_until: Mutex<Option<Instant>>,
    draining: AtomicBool,
}

/// Something is being sent until this is dropped.
#[derive(Debug)]
pub(crate) struct Sending(Arc<Shared>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    /// From now on something is being sent.
    pub(crate) fn sending(&self) -> Sending {
        self.0.sending.fetch_add(1, Ordering::AcqRel);
        Sending(Arc::clone(&self.0))
    }

    /// A phone has asked for a message again, and the library is about to answer.
    pub(super) fn answering(&self) {
        *lock(&self.0.answering_until) = Some(Instant::now() + ANSWERS_WITHIN);
    }

    /// Whose ratchets they are.
    pub(super) fn serves(&self, client: &Arc<Client>) {
        *lock(&self.0.client) = Arc::downgrade(client);
    }

    /// WhatsApp begins to hand over what has waited, or has done so.
    pub(super) fn draining(&self, draining: bool) {
        self.0.draining.store(draining, Ordering::Release);
    }

    fn is_shut(&self) -> bool {
        let is_answering = || lock(&self.0.answering_until).is_some_and(|until| Instant::now() < until);
        !self.0.draining.load(Ordering::Acquire)
            && (self.0.sending.load(Ordering::Acquire) > 0 || is_answering())
            && !crash::switched_off("frames-wait")
    }

    /// Returns when a frame may leave.
    async fn opens(&self) -> anyhow::Result<()> {
        if !self.is_shut() {
            return Ok(());
        }
        let Some(client) = lock(&self.0.client).upgrade() else { return Ok(()) };
        tokio::time::timeout(WRITE_TIMEOUT, client.flush_pending_signal_state()).await??;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection behind the gate.
pub(super) struct Gated {
    gate: Gate,
    socket: Arc<dyn Transport>,
}

impl Gated {
    /// This connection, behind this gate.
    pub(super) fn new(gate: Gate, socket: Arc<dyn Transport>) -> Self {
        Self { gate, socket }
    }
}

#[async_trait]
impl Transport for Gated {
    async fn send(&self, frame: Bytes) -> anyhow::Result<()> {
        self.gate.opens().await?;
        self.socket.send(frame).await
    }

    async fn disconnect(&self) {
        self.socket.disconnect().await;
    }
}
