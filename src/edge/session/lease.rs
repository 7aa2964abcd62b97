//! The lease: of all edges of an account, on all machines, only one is connected to WhatsApp.
//!
//! The lease is one value in a key-value bucket, changed by compare-and-set on its revision. The holder renews it.
//! If no renewal is confirmed within half the term, the holder disconnects. Another edge takes over only after a
//! whole term without a change. Each edge measures this time with its own clock, so the clocks of the machines need
//! not agree.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{AppendError, Bus, Record};
use crate::task::{OnPanic, Task, spawn};
use crate::wire::{Account, Headers, Subjects, header};

/// After so long without a renewal any edge may take the lease. A shorter term would not survive an election in
/// NATS.
pub(super) const TERM: Duration = Duration::from_secs(30);
/// How often the holder renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often the other edges check the lease.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What an edge knows of the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// The revision. 0: there was never one.
    revision: u64,
    /// The edge that holds it. Empty: no edge.
    holder: String,
}

/// May the edge `me` take the lease, which has been as `seen` for `unchanged`?
fn may_take(seen: &Seen, me: &str, unchanged: Duration) -> bool {
    // If it is this edge's own lease, this edge died and is back. The lock on the auth directory makes sure that it
    // runs only once.
    seen.holder.is_empty() || seen.holder == me || unchanged >= TERM
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
}

/// The lease while this edge holds it.
#[derive(Debug)]
pub(crate) struct Held {
    lease: Lease,
    /// Cancelled when the lease is lost, or may be lost: first disconnect, then ask.
    pub lost: CancellationToken,
    revision: tokio::sync::watch::Receiver<u64>,
    renewing: Task<()>,
}

impl Lease {
    /// `me` is this edge's name. It stays the same after a restart.
    pub(crate) fn new(bus: Bus, subjects: &Subjects, account: &Account, me: String) -> Self {
        let (stream, subject) = (subjects.stream_leases(), subjects.lease(account));
        Self { bus, stream, subject, inbound: subjects.stream_in(), me }
    }

    /// Waits for the lease. Calls `waiting` once if another edge holds it.
    pub(crate) async fn acquire(&self, mut waiting: impl FnMut()) -> Held {
        let mut seen: Option<(Seen, Instant)> = None;
        let mut waiting_called = false;
        loop {
            // An edge that cannot store anything must not take the lease. WhatsApp keeps the messages in the
            // meantime.
            if !self.bus.has_room(&self.inbound).await {
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
                let asked = Instant::now();
                if let Ok(revision) = self.write(now.revision, &self.me).await {
                    return Held::new(self.clone(), revision, asked);
                }
                continue;
            }
            if !waiting_called {
                waiting_called = true;
                waiting();
            }
            seen = Some((now, since));
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn read(&self) -> Result<Seen, crate::bus::ReadError> {
        let stored = self.bus.last(&self.stream, &self.subject).await?;
        Ok(stored.map_or_else(Seen::default, |stored| Seen {
            revision: stored.sequence,
            holder: String::from_utf8_lossy(&stored.payload).into_owned(),
        }))
    }

    async fn write(&self, expected: u64, holder: &str) -> Result<u64, AppendError> {
        let mut headers = Headers::default();
        headers.set(header::EXPECTED_LAST_SUBJECT_SEQUENCE, &expected.to_string());
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
        let (sender, receiver) = tokio::sync::watch::channel(revision);
        let work = keep(lease.clone(), sender, confirmed, lost.clone());
        let renewing = spawn("lease renewal", OnPanic::EndProcess, work);
        Self { lease, lost, revision: receiver, renewing }
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
    revision: tokio::sync::watch::Sender<u64>,
    mut confirmed: Instant,
    lost: CancellationToken,
) {
    loop {
        tokio::time::sleep(RENEW).await;
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
            let left = (TERM / 2).saturating_sub(confirmed.elapsed());
            match tokio::time::timeout(left, lease.renew(known)).await {
                Ok(Ok(Some(renewed))) => {
                    revision.send_replace(renewed);
                    confirmed = asked;
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
        let seen = |holder: &str| Seen { revision: 7, holder: holder.to_owned() };
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
