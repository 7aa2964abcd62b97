//! The lease: of all edges of an account, on all machines, only one is connected to WhatsApp.
//!
//! The lease is one value in a key-value bucket, changed by compare-and-set on its revision. The holder renews it.
//! If no renewal is confirmed within half the term, the holder disconnects. Another edge takes over only after a
//! whole term without a change. Each edge measures this time with its own clock, so the clocks of the machines need
//! not agree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{AppendError, Bus, Record};
use crate::crash;
use crate::task::{OnPanic, Task, spawn};
use crate::wire::{Account, Headers, Subjects, header};

/// After so long without a renewal any edge may take the lease. A shorter term would not survive an election in
/// NATS.
pub const TERM: Duration = Duration::from_secs(30);
/// How often the holder renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often the other edges check the lease. It is read, and not listened to: a user of an edge may read its own lease, and
/// may listen to nobody's.
const LOOK: Duration = Duration::from_millis(250);
/// The pause before a question is repeated that was not answered.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What an edge knows of the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// The revision. 0: there was never one.
    revision: u64,
    /// The edge that holds it. Empty: no edge.
    holder: String,
    /// The number is linked, and the session is on the bus.
    linked: bool,
}

/// Says with the lease that the account's number is linked and its session is on the bus. The lease is in another stream
/// than the session: if that is gone, the account is not taken for one that was never linked.
const LINKED: &str = "Wa-Session-Linked";

/// What the lease says of the session. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark(Arc<AtomicBool>);

impl Mark {
    /// A session of a linked number is on the bus.
    pub(super) fn is_linked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is, or it is not. The lease says so with its next renewal.
    pub(crate) fn linked(&self, linked: bool) {
        self.0.store(linked, Ordering::Relaxed);
    }
}

/// May the edge `me` take the lease, which has been as `seen` for `unchanged`?
fn may_take(seen: &Seen, me: &str, unchanged: Duration) -> bool {
    // If it is this edge's own lease, this edge died and is back. The lock on the auth directory makes sure that it
    // runs only once.
    seen.holder.is_empty() || seen.holder == me || unchanged >= TERM || crash::switched_off("lease-term")
}

/// An account's lease, held or not.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    bus: Bus,
    stream: String,
    subject: String,
    /// The stream in which the holder stores customers' messages.
    inbound: String,
    me: String,
    mark: Mark,
}

/// Why a command does not get the lease.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFree {
    /// An edge renews it.
    #[error("an edge is at work")]
    Alive,
    /// It is not known whose it is.
    #[error("the lease cannot be read: {0}")]
    Unread(#[from] crate::bus::ReadError),
    /// It cannot be written.
    #[error("the lease cannot be written: {0}")]
    Unwritten(#[from] AppendError),
}

/// The lease while this edge holds it.
#[derive(Debug)]
pub(crate) struct Held {
    lease: Lease,
    /// Cancelled when the lease is lost, or may be lost: first disconnect, then ask.
    pub lost: CancellationToken,
    revision: watch::Receiver<u64>,
    confirmed: watch::Receiver<Instant>,
    renewing: Task<()>,
}

/// Until when nobody else can have the account. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LeaseTerm(watch::Receiver<Instant>);

impl LeaseTerm {
    /// Is it certain that nobody else has it? A process that was frozen knows by this that it may have lost the lease,
    /// before it hears so.
    pub(super) fn holds(&self) -> bool {
        self.0.borrow().elapsed() < TERM / 2 || crash::switched_off("lease-at-the-gate")
    }
}

impl Lease {
    /// `me` is this edge's name. It stays the same after a restart.
    pub(crate) fn new(bus: Bus, subjects: &Subjects, account: &Account, me: String) -> Self {
        let (stream, subject) = (subjects.stream_leases(), subjects.lease(account));
        Self { bus, stream, subject, inbound: subjects.stream_in(), me, mark: Mark::default() }
    }

    /// What it says of the session.
    pub(crate) fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// Waits for the lease. Calls `waiting` once if another edge holds it.
    pub(crate) async fn acquire(&self, mut waiting: impl FnMut()) -> Held {
        let mut seen: Option<(Seen, Instant)> = None;
        let mut waiting_called = false;
        loop {
            // An edge that cannot store anything must not take the lease. WhatsApp keeps the messages in the
            // meantime.
            if !self.has_room().await {
                tracing::debug!("not connecting to WhatsApp: the inbound stream is full");
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            let now = match self.read().await {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!(%error, "the lease cannot be read; asking again");
                    tokio::time::sleep(POLL_INTERVAL).await;
                    continue;
                }
            };
            let since = match &seen {
                Some((before, since)) if *before == now => *since,
                _ => Instant::now(),
            };
            if may_take(&now, &self.me, since.elapsed()) {
                if let Some(held) = self.write_as_mine(&now).await {
                    return held;
                }
                continue;
            }
            if !waiting_called {
                waiting_called = true;
                waiting();
            }
            seen = Some((now, since));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the lease for a command, which needs that no edge is at work. If somebody holds it, `waiting` is called once,
    /// and in so long at most it is known whether the holder is alive.
    pub(super) async fn take_idle(&self, mut waiting: impl FnMut(Duration)) -> Result<Held, NotFree> {
        let mut seen: Option<(Seen, Instant)> = None;
        loop {
            let now = self.read().await?;
            let since = match &seen {
                None => Instant::now(),
                // A replica may know less than the one before.
                Some((before, since)) if now.revision <= before.revision => *since,
                // It was renewed, or another edge has it now.
                Some(_) if !now.holder.is_empty() => return Err(NotFree::Alive),
                Some(_) => Instant::now(),
            };
            if may_take(&now, &self.me, since.elapsed()) {
                let asked = Instant::now();
                match self.write(now.revision, &self.me).await {
                    Ok(revision) => return Ok(Held::new(self.clone(), revision, asked)),
                    Err(AppendError::Refused) => {}
                    Err(error) => return Err(error.into()),
                }
            } else if seen.is_none() {
                waiting(TERM);
            }
            seen = Some((now, since));
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Takes the lease, if it has not changed since this revision of it. `None`: somebody has changed it, or it is not
    /// known.
    pub(crate) async fn take(&self, revision: u64) -> Option<Held> {
        // Who knows the revision does not know what it says of the session.
        let now = self.read().await.ok().filter(|now| now.revision == revision)?;
        self.write_as_mine(&now).await
    }

    async fn write_as_mine(&self, now: &Seen) -> Option<Held> {
        let asked = Instant::now();
        self.mark.linked(now.linked);
        let revision = self.write(now.revision, &self.me).await.ok()?;
        crash::point("lease.written");
        // Who was frozen until now may have had it, and may not any more.
        let is_over = asked.elapsed() >= TERM / 2 && !crash::switched_off("lease-asleep");
        (!is_over).then(|| Held::new(self.clone(), revision, asked))
    }

    /// Can the holder store what comes from WhatsApp?
    pub(crate) async fn has_room(&self) -> bool {
        self.bus.has_room(&self.inbound).await
    }

    async fn read(&self) -> Result<Seen, crate::bus::ReadError> {
        let stored = self.bus.last(&self.stream, &self.subject).await?;
        Ok(stored.map_or_else(Seen::default, |stored| Seen {
            revision: stored.sequence,
            holder: String::from_utf8_lossy(&stored.payload).into_owned(),
            linked: stored.headers.get(LINKED).is_some(),
        }))
    }

    async fn write(&self, expected: u64, holder: &str) -> Result<u64, AppendError> {
        let mut headers = Headers::default();
        headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &expected.to_string());
        if self.mark.is_linked() {
            headers.set(LINKED, "1");
        }
        let payload = holder.to_owned().into();
        let record = Record { subject: self.subject.clone(), headers, payload };
        Ok(self.bus.append(&record).await?.sequence)
    }

    /// How long the inbound stream has been full.
    fn full_for(&self) -> Duration {
        let full = self.bus.full().into_iter().find(|full| full.stream == self.inbound);
        full.map_or(Duration::ZERO, |full| full.since)
    }

    /// One renewal. Returns the new revision, or `None` if another edge has the lease.
    async fn renew(&self, revision: u64) -> Result<Option<u64>, AppendError> {
        match self.write(revision, &self.me).await {
            Ok(revision) => Ok(Some(revision)),
            Err(AppendError::Refused) => {
                let now = self.read().await.map_err(|error| AppendError::Unknown(error.to_string()))?;
                // This is an earlier renewal of this edge, whose answer was lost.
                Ok((now.holder == self.me).then_some(now.revision))
            }
            Err(error) => Err(error),
        }
    }
}

impl Held {
    fn new(lease: Lease, revision: u64, confirmed: Instant) -> Self {
        let lost = CancellationToken::new();
        let (revisions, revision) = watch::channel(revision);
        let (confirms, confirmed) = watch::channel(confirmed);
        let work = keep(lease.clone(), revisions, confirms, lost.clone());
        let renewing = spawn("lease renewal", OnPanic::EndProcess, work);
        Self { lease, lost, revision, confirmed, renewing }
    }

    /// Until when nobody else can have the account, as far as is known now.
    pub(crate) fn term(&self) -> LeaseTerm {
        LeaseTerm(self.confirmed.clone())
    }

    /// Gives the lease back, so that the next edge need not wait until it runs out.
    pub(crate) async fn release(self) {
        self.renewing.abort();
        // Aborted or ended: no renewal is in flight any more.
        let _ = self.renewing.await;
        let revision = *self.revision.borrow();
        if let Err(error) = self.lease.write(revision, "").await {
            tracing::debug!(%error, "the lease could not be given back; it runs out by itself");
        }
    }
}

/// Renews until the lease is lost. Half a term without a confirmation counts as lost: the other half is the time to
/// disconnect from WhatsApp before another edge may connect.
async fn keep(
    lease: Lease,
    revision: watch::Sender<u64>,
    confirmed: watch::Sender<Instant>,
    lost: CancellationToken,
) {
    loop {
        tokio::time::sleep(RENEW).await;
        if crash::switched_off("lease") {
            continue;
        }
        if lease.full_for() >= TERM / 2 {
            // Messages that come in now would pile up in memory.
            tracing::warn!(
                "the inbound stream is full; disconnecting from WhatsApp, which keeps the messages, until there is room"
            );
            lost.cancel();
            return;
        }
        loop {
            let asked = Instant::now();
            let known = *revision.borrow();
            let left = (TERM / 2).saturating_sub(confirmed.borrow().elapsed());
            match tokio::time::timeout(left, lease.renew(known)).await {
                Ok(Ok(Some(renewed))) => {
                    revision.send_replace(renewed);
                    confirmed.send_replace(asked);
                    break;
                }
                Ok(Ok(None)) => {
                    tracing::error!("another edge has taken this account over; disconnecting");
                    lost.cancel();
                    return;
                }
                Ok(Err(error)) if !left.is_zero() => {
                    tracing::debug!(%error, "the lease is not renewed yet");
                    tokio::time::sleep(POLL_INTERVAL.min(left)).await;
                }
                // Also if it fails at once, as it does without a connection.
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(
                        "the lease cannot be renewed; disconnecting from WhatsApp, which keeps the messages, until it can"
                    );
                    lost.cancel();
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_ones_own_or_over() {
        let seen = |holder: &str| Seen { revision: 7, holder: holder.to_owned(), linked: true };
        for (seen, unchanged, want) in [
            (seen(""), Duration::ZERO, true),
            (seen("me"), Duration::ZERO, true),
            (seen("other"), TERM / 2, false),
            (seen("other"), TERM, true),
            (Seen::default(), Duration::ZERO, true),
        ] {
            assert_eq!(may_take(&seen, "me", unchanged), want, "{seen:?} for {unchanged:?}");
        }
    }
}
