//! What became of the requests, for `$SRV.STATS`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wire::micro::Count;

/// The counts of one process, by endpoint. In memory: a restart begins anew, as `started` says.
#[derive(Debug, Default)]
pub struct Book(Mutex<BTreeMap<&'static str, Count>>);

impl Book {
    /// A request was answered, after so long.
    pub fn answered(&self, endpoint: &'static str, took: Duration) {
        self.count(endpoint, took, None);
    }

    /// A request was refused. `why` names nobody: whoever may ask for the counts reads it.
    pub(super) fn refused(&self, endpoint: &'static str, took: Duration, why: String) {
        self.count(endpoint, took, Some(why));
    }

    fn count(&self, endpoint: &'static str, took: Duration, why: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(endpoint).or_default();
        count.requests += 1;
        count.time = count.time.saturating_add(took);
        if let Some(why) = why {
            count.errors += 1;
            count.last_error = why;
        }
    }

    /// The count of one endpoint.
    pub(super) fn of(&self, endpoint: &str) -> Count {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(endpoint).cloned().unwrap_or_default()
    }
}
