//! Waiting for something to become true, with a bound. No test waits in any other way.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

/// How long a test waits before it gives up on something that must happen. Far more than anything
/// takes: a slow machine makes a test slow, not red. What is promised within a time is measured by
/// `heart::Watch` instead.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Asks `probe` again and again until it has an answer; what it says instead of one is shown when
/// `bound` has passed.
#[track_caller]
pub fn eventually<T>(
    what: impl Display,
    bound: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let mut last = "nothing yet".to_owned();
        let asking = async {
            let mut pause = Duration::from_millis(10);
            loop {
                match probe().await {
                    Ok(answer) => break answer,
                    Err(seen) => last = seen,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        };
        match tokio::time::timeout(bound, asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => panic!("{caller} waited {bound:?} for {what}; last seen: {last}"),
        }
    }
}
