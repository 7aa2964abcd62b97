//! One account of a pool, for as long as this edge has its lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Roster;
use super::table::Row;
use crate::edge::{self, Edge, End, Ground};
use crate::task::{OnPanic, Scope, Task};
use crate::wire::Account;

/// An account's edge that was told to end, and has not so long after its grace, is stuck. Nobody would have the account
/// otherwise, for ever.
const OVERDUE: Duration = Duration::from_secs(10);

/// What every account of this edge is started with.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) ground: Ground,
    /// What no entry says otherwise.
    pub(super) settings: edge::Settings,
    /// How this edge is named in leases.
    pub(super) name: String,
    pub(super) roster: watch::Sender<Arc<Roster>>,
    /// How long sends in flight may take at the end.
    pub(super) grace: Duration,
}

/// An account that this edge works for, or is about to.
#[derive(Debug)]
pub(super) struct Member {
    /// The sequence of the entry that it was started with.
    pub(super) sequence: u64,
    since: Instant,
    stop: CancellationToken,
}

/// A member that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) account: Account,
    pub(super) end: End,
}

impl Member {
    /// Starts to work for an account. The second ends with it.
    pub(super) fn start(
        account: &Account,
        row: &Row,
        common: &Common,
    ) -> (Self, impl Future<Output = Ended> + use<>) {
        let stop = CancellationToken::new();
        let member = Self { sequence: row.sequence, since: Instant::now(), stop: stop.clone() };
        let overdue = {
            let (stop, grace) = (stop.clone(), common.grace);
            async move {
                stop.cancelled().await;
                lived_through(grace + OVERDUE).await;
            }
        };
        let settings = settings(&common.settings, account, row);
        let scope = Scope::new(account.as_str());
        let work = run(common.clone(), settings, row.lease.revision, stop, scope.broken());
        let task: Task<End> = scope.spawn_in("account", OnPanic::EndProcess, Box::pin(work));
        let (account, roster) = (account.clone(), common.roster.clone());
        let ended = async move {
            let end = tokio::select! {
                // `None`: it has panicked itself.
                end = task => end.unwrap_or(End::Broken),
                () = overdue => {
                    tracing::error!(%account, "the account's edge does not end; it is given up, and its lease runs out");
                    End::Broken
                }
            };
            roster.send_modify(|roster| drop(Arc::make_mut(roster).remove(&account)));
            Ended { account, end }
        };
        (member, ended)
    }

    /// For how long it has worked.
    pub(super) fn lived(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Ends it in order.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Is it about to end?
    pub(super) fn is_ending(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Waits for so many seconds in which the process runs. One that was frozen has its time still when it wakes up.
async fn lived_through(time: Duration) {
    for _ in 0..time.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The settings of one account.
fn settings(all: &edge::Settings, account: &Account, row: &Row) -> edge::Settings {
    let mut own = edge::Settings { account: account.clone(), ..all.clone() };
    let entry = &row.entry;
    own.session.pair_phone = entry.pair_phone.clone();
    // What cannot be read is as if it were not there; `accounts add` has checked it.
    let limit = |text: &Option<String>| text.as_deref().and_then(edge::rate::limit);
    own.limits.per_chat = limit(&entry.send_per_chat).unwrap_or(own.limits.per_chat);
    own.limits.total = limit(&entry.send_total).unwrap_or(own.limits.total);
    own
}

async fn run(
    common: Common,
    settings: edge::Settings,
    revision: u64,
    stop: CancellationToken,
    broken: CancellationToken,
) -> End {
    let Common { ground, name, roster, grace, .. } = common;
    let account = settings.account.clone();
    let edge = match Edge::start(ground, settings, Some(name), stop).await {
        Ok(edge) => edge,
        Err(error) => {
            if error.may_pass() {
                tracing::warn!(%error, "the account cannot be started yet");
                return End::NoSession;
            }
            tracing::error!(%error, "the account cannot be started");
            return End::Unreadable;
        }
    };
    let seat = edge.seat();
    roster.send_modify(|roster| drop(Arc::make_mut(roster).insert(account, seat)));
    Box::pin(edge.run_once(revision, grace, broken)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_the_process_is_frozen_does_not_count() {
        let began = Instant::now();
        let waits = tokio::spawn(lived_through(Duration::from_secs(25)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        waits.await.expect("an end");
        let took = began.elapsed().as_secs();
        assert!((84..=86).contains(&took), "{took} s");
    }
}
