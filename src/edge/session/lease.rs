//! The lease: of all edges of an account, on whatever machines, one is connected to WhatsApp.
//!
//! One value in a key-value bucket, changed by compare-and-set on its revision. The holder renews it; a
//! renewal that is not confirmed within half the term ends the holder's connection, and only after a
//! whole term without a change does another edge take over. Each edge measures with its own clock how long
//! it has seen no change: nobody's clock has to be right.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{AppendError, Bus, Record};
use crate::task::{OnPanic, Task, spawn};
use crate::wire::{Account, Headers, Subjects, header};

/// After so long without a renewal the lease is anybody's. Shorter ones do not ride out an election.
pub(super) const TERM: Duration = Duration::from_secs(30);
/// How often the holder renews.
const RENEW: Duration = Duration::from_secs(5);
/// How often the others look.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// The revision; 0 if there was never one.
    revision: u64,
    /// Who holds it; nobody if empty.
    holder: String,
}

/// May `me` take what has been as `seen` for `unchanged`?
fn may_take(seen: &Seen, me: &str, unchanged: Duration) -> bool {
    // One's own: this edge died and is back. The lock on the auth directory says that it runs once.
    seen.holder.is_empty() || seen.holder == me || unchanged >= TERM
}

/// An account's lease, held or not.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    bus: Bus,
    stream: String,
    subject: String,
    /// Where the holder puts what people write.
    inbound: String,
    me: String,
}

/// The lease, held.
#[derive(Debug)]
pub(crate) struct Held {
    lease: Lease,
    /// Cancelled when the lease is lost, or may be: disconnect first, ask then.
    pub lost: CancellationToken,
    revision: tokio::sync::watch::Receiver<u64>,
    renewing: Task<()>,
}

impl Lease {
    /// `me` names this edge, and is the same after its restart.
    pub(crate) fn new(bus: Bus, subjects: &Subjects, account: &Account, me: String) -> Self {
        let (stream, subject) = (subjects.stream_leases(), subjects.lease(account));
        Self { bus, stream, subject, inbound: subjects.stream_in(), me }
    }

    /// Waits for the lease. `waiting` is called once if somebody else has it.
    pub(crate) async fn acquire(&self, mut waiting: impl FnMut()) -> Held {
        let mut seen: Option<(Seen, Instant)> = None;
        let mut told = false;
        loop {
            // Of no use to an edge that could store nothing: WhatsApp keeps the messages meanwhile.
            if !self.bus.has_room(&self.inbound).await {
                tracing::debug!("not connecting to WhatsApp: the inbound stream is full");
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let now = match self.look().await {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!(%error, "the lease cannot be read; asking again");
                    tokio::time::sleep(LOOK).await;
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
            if !told {
                told = true;
                waiting();
            }
            seen = Some((now, since));
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<Seen, crate::bus::ReadError> {
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

    /// For how long the stream of what people write has been full.
    fn full_for(&self) -> Duration {
        let full = self.bus.full().into_iter().find(|full| full.stream == self.inbound);
        full.map_or(Duration::ZERO, |full| full.since)
    }

    /// One renewal: the new revision, or `None` if somebody else has the lease.
    async fn renew(&self, revision: u64) -> Result<Option<u64>, AppendError> {
        match self.write(revision, &self.me).await {
            Ok(revision) => Ok(Some(revision)),
            Err(AppendError::Refused) => {
                let now = self.look().await.map_err(|error| AppendError::Unknown(error.to_string()))?;
                // An earlier renewal of our own whose answer was lost.
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

    /// Gives the lease back, so that the next edge need not wait for its end.
    pub(crate) async fn release(self) {
        self.renewing.abort();
        // Aborted or ended: no renewal is under way any more.
        let _ = self.renewing.await;
        let revision = *self.revision.borrow();
        if let Err(error) = self.lease.write(revision, "").await {
            tracing::debug!(%error, "the lease is not given back; it ends by itself");
        }
    }
}

/// Renews until the lease is lost. Half a term without a confirmation counts as lost: the other half is
/// the time to get off WhatsApp before somebody else may come.
async fn keep(
    lease: Lease,
    revision: tokio::sync::watch::Sender<u64>,
    mut confirmed: Instant,
    lost: CancellationToken,
) {
    loop {
        tokio::time::sleep(RENEW).await;
        if lease.full_for() >= TERM / 2 {
            // What comes in would pile up in memory.
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
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the lease is not renewed yet");
                    tokio::time::sleep(LOOK.min(left)).await;
                }
                Err(_elapsed) => {
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
