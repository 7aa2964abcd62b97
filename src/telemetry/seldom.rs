//! A line in the log at most once a minute, however often its reason comes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// One line's place in the code.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    at: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened. `Some`: the line is due now, and so often it was left out since the last one.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.at.is_some_and(|at| at.elapsed() < MINUTE) {
            said.unsaid += 1;
            return None;
        }
        said.at = Some(Instant::now());
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_once_a_minute_and_says_how_many_were_left_out() {
        let seldom = Seldom::default();
        assert_eq!([seldom.due(), seldom.due(), seldom.due()], [Some(0), None, None]);
        tokio::time::advance(MINUTE - Duration::from_millis(1)).await;
        assert_eq!(seldom.due(), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!([seldom.due(), seldom.due()], [Some(3), None]);
        tokio::time::advance(MINUTE).await;
        assert_eq!(seldom.due(), Some(1));
    }
}
