//! The gate before WhatsApp: what is encrypted with a ratchet leaves when the ratchet is on the disk, and not before.
//!
//! The library writes a turned ratchet a moment after it has used it (docs/decisions/0044). The last place where a send can be held is
//! the socket: its frame is encrypted by then, so what is written now is at least what the frame was made with. So while
//! something is being sent, every frame waits until the library has nothing more to write. Without that a message that comes
//! between a write and the encryption after it would turn the ratchet once more.
//!
//! A send does not outlive its connection. When the library makes a new one, it may throw away what it has in memory of the sessions.
//! A send that is encrypting then leaves out the device it could not encrypt for, goes out over the new connection, and
//! WhatsApp accepts it: a message that no phone has. So the way to the server is not opened before every send has ended.
//!
//! And no frame leaves when another edge may have the account. An edge that was frozen wakes up in the middle of its work, with frames that
//! are ready: they go no further than this. Neither do those of a client that does not end in time: its connection is closed under it, before
//! anybody else may have the account.
//!
//! While WhatsApp hands over what has waited, the library writes in batches, and sends receipts while it does: then nothing
//! waits, and nothing is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use whatsapp_rust::transport::Transport;
use whatsapp_rust::{Client, async_trait};

use super::lease::LeaseTerm;
use crate::crash;

/// A write that takes longer has failed. Then the frame does not leave.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Sends end as soon as they are told to. If one does not, the connection is made all the same.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How long closing a connection may take.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);
/// The library answers a phone that asks for a message again within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Is something being sent? Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    client: Mutex<Weak<Client>>,
    /// How many sends are under way.
    sending: watch::Sender<usize>,
    /// How many connections were begun.
    connections: watch::Sender<u64>,
    answering_until: Mutex<Option<Instant>>,
    draining: AtomicBool,
    /// `None`: whoever is connected needs no lease.
    term: Mutex<Option<LeaseTerm>>,
    /// The client that was built last.
    life: Mutex<Life>,
}

/// Something is being sent until this is dropped.
struct Sending<'a>(&'a Shared);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.sending.send_modify(|sending| *sending = sending.saturating_sub(1));
    }
}

impl Gate {
    /// Sends something. `None`: a new connection was begun meanwhile, and WhatsApp may have it or not.
    pub(crate) async fn sends<T>(&self, send: impl Future<Output = T>) -> Option<T> {
        let mut connections = self.0.connections.subscribe();
        self.0.sending.send_modify(|sending| *sending += 1);
        let _until_sent = Sending(&self.0);
        tokio::select! {
            biased;
            _ = connections.changed() => None,
            sent = send => Some(sent),
        }
    }

    /// A new connection is about to be made. Returns when no send is under way any more.
    pub(super) async fn connects(&self) {
        self.0.connections.send_modify(|connections| *connections += 1);
        let mut sending = self.0.sending.subscribe();
        let ended = tokio::time::timeout(ENDS_WITHIN, sending.wait_for(|sending| *sending == 0)).await;
        if ended.is_err() {
            tracing::error!("a send has not ended with its connection; please report it");
        }
    }

    /// A phone has asked for a message again, and the library is about to answer.
    pub(super) fn answering(&self) {
        *lock(&self.0.answering_until) = Some(Instant::now() + ANSWERS_WITHIN);
    }

    /// A term of the lease begins.
    pub(crate) fn term(&self, term: LeaseTerm) {
        *lock(&self.0.term) = Some(term);
    }

    /// A client is about to be built. Its connections are made in this life.
    pub(super) fn begins(&self) -> Life {
        let life = Life::default();
        *lock(&self.0.life) = life.clone();
        life
    }

    /// Whose ratchets they are.
    pub(super) fn serves(&self, client: &Arc<Client>) {
        *lock(&self.0.client) = Arc::downgrade(client);
    }

    /// The client has ended, or should have. When this returns, its connection is closed, and it makes no other one.
    pub(super) async fn hangs_up(&self) {
        let life = lock(&self.0.life).clone();
        let Some(open) = life.ends() else { return };
        let _ = tokio::time::timeout(CLOSES_WITHIN, open.socket.disconnect()).await;
    }

    /// WhatsApp begins to hand over what has waited, or has done so.
    pub(super) fn draining(&self, draining: bool) {
        self.0.draining.store(draining, Ordering::Release);
    }

    fn is_shut(&self) -> bool {
        let is_answering = || lock(&self.0.answering_until).is_some_and(|until| Instant::now() < until);
        !self.0.draining.load(Ordering::Acquire)
            && (*self.0.sending.borrow() > 0 || is_answering())
            && !crash::switched_off("frames-wait")
    }

    /// Returns when a frame may leave.
    async fn opens(&self) -> anyhow::Result<()> {
        if self.is_shut()
            && let Some(client) = { lock(&self.0.client).upgrade() }
        {
            tokio::time::timeout(WRITE_TIMEOUT, client.flush_pending_signal_state()).await??;
        }
        // The last thing before the frame leaves: what came before may have taken long.
        anyhow::ensure!(self.has_its_term(), "another edge may have the account");
        Ok(())
    }

    /// Can nobody else have the account?
    pub(super) fn has_its_term(&self) -> bool {
        lock(&self.0.term).as_ref().is_none_or(LeaseTerm::holds)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of one client, from its building until it has ended, or should have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Life(Arc<Mutex<Lived>>);

#[derive(Debug, Default)]
struct Lived {
    is_over: bool,
    /// The connection that was made last.
    open: Weak<Gated>,
}

impl Life {
    /// A connection after the end would be one that nobody closes.
    pub(super) fn goes_on(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!lock(&self.0).is_over, "the connection's client has ended");
        Ok(())
    }

    /// This connection was made. An error: too late, and the caller closes it.
    pub(super) fn opened(&self, connection: &Arc<Gated>) -> anyhow::Result<()> {
        lock(&self.0).open = Arc::downgrade(connection);
        self.goes_on()
    }

    /// Returns the connection that is to be closed.
    fn ends(&self) -> Option<Arc<Gated>> {
        let mut lived = lock(&self.0);
        lived.is_over = true;
        lived.open.upgrade()
    }
}

/// A connection behind the gate.
pub(super) struct Gated {
    gate: Gate,
    life: Life,
    socket: Arc<dyn Transport>,
}

impl std::fmt::Debug for Gated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gated").finish_non_exhaustive()
    }
}

impl Gated {
    /// This connection of this client, behind this gate.
    pub(super) fn new(gate: Gate, life: Life, socket: Arc<dyn Transport>) -> Self {
        Self { gate, life, socket }
    }
}

#[async_trait]
impl Transport for Gated {
    async fn send(&self, frame: Bytes) -> anyhow::Result<()> {
        self.gate.opens().await?;
        self.life.goes_on()?;
        self.socket.send(frame).await
    }

    async fn disconnect(&self) {
        self.socket.disconnect().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_send_ends_before_the_next_connection_is_made() {
        let gate = Gate::default();
        assert_eq!(gate.sends(async { 1 }).await, Some(1));
        let (began, begins) = tokio::sync::oneshot::channel();
        let send = gate.sends(async move {
            let _ = began.send(());
            std::future::pending::<()>().await;
        });
        let connect = async {
            let _ = begins.await;
            gate.connects().await;
            assert_eq!(*gate.0.sending.borrow(), 0);
        };
        assert_eq!(tokio::join!(send, connect).0, None);
        assert_eq!(gate.sends(async { 2 }).await, Some(2), "over the new one");
    }

    /// Says when it is closed.
    struct Socket(tokio::sync::watch::Sender<bool>);

    #[async_trait]
    impl Transport for Socket {
        async fn send(&self, _: Bytes) -> anyhow::Result<()> {
            Ok(())
        }

        async fn disconnect(&self) {
            self.0.send_replace(true);
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_end_has_no_connection_any_more() {
        let (gate, is_closed) = (Gate::default(), tokio::sync::watch::channel(false).0);
        let life = gate.begins();
        let connect = |life: &Life| {
            Arc::new(Gated::new(gate.clone(), life.clone(), Arc::new(Socket(is_closed.clone()))))
        };
        let connection = connect(&life);
        assert!(life.opened(&connection).is_ok() && connection.send(Bytes::new()).await.is_ok());
        gate.hangs_up().await;
        assert!(*is_closed.borrow() && connection.send(Bytes::new()).await.is_err());
        let late = connect(&life);
        assert!(life.opened(&late).is_err() && late.send(Bytes::new()).await.is_err(), "made meanwhile");
        let life = gate.begins();
        let next = connect(&life);
        assert!(life.opened(&next).is_ok() && next.send(Bytes::new()).await.is_ok(), "of the next client");
    }

    #[tokio::test]
    async fn frames_wait_while_something_is_sent_and_nothing_is_handed_over() {
        let gate = Gate::default();
        assert!(!gate.is_shut());
        gate.sends(async {
            assert!(gate.is_shut());
            gate.draining(true);
            assert!(!gate.is_shut());
            gate.draining(false);
            assert!(gate.is_shut());
        })
        .await;
        assert!(!gate.is_shut());
        gate.answering();
        assert!(gate.is_shut());
    }
}
