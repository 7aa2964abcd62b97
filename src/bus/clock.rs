//! What time it is for a stream: by the clock of the server that stamps its messages, never by this machine's.
//!
//! The server says its time with the stream's state. From then on a steady clock counts. So what is said is a little less
//! than the server's time, and never more.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::read::ms;
use super::{Bus, ReadError};

/// For so long a clock is counted on before the server is asked again: another one may lead the stream by then.
const STALE: Duration = Duration::from_secs(5);

/// The clock of one stream.
#[derive(Debug)]
pub struct StreamClock {
    bus: Bus,
    stream: String,
    known: Mutex<Option<Reading>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at_ms: i64,
    heard: Instant,
}

#[derive(Debug, Deserialize)]
struct Told {
    ts: String,
}

impl Reading {
    fn now_ms(self, now: Instant) -> Option<i64> {
        let since = now.saturating_duration_since(self.heard);
        (since < STALE).then(|| self.at_ms.saturating_add(i64::try_from(since.as_millis()).unwrap_or(0)))
    }
}

impl StreamClock {
    /// Nobody was asked yet.
    pub fn new(bus: Bus, stream: String) -> Self {
        Self { bus, stream, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Milliseconds since the epoch. It is at least so late.
    pub async fn at_least_ms(&self) -> Result<i64, ReadError> {
        if let Some(now) = self.known() {
            return Ok(now);
        }
        let _one_asks = self.asking.lock().await;
        if let Some(now) = self.known() {
            return Ok(now);
        }
        let told = self.bus.ask::<Told>(&format!("STREAM.INFO.{}", self.stream)).await?;
        let told = told.ok_or_else(|| ReadError::new(&"the stream does not exist"))?;
        let at = OffsetDateTime::parse(&told.ts, &Rfc3339).map_err(|error| ReadError::new(&error))?;
        let reading = Reading { at_ms: ms(at), heard: Instant::now() };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(reading.at_ms)
    }

    fn known(&self) -> Option<i64> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.and_then(|reading| reading.now_ms(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_counts_on_and_is_not_believed_for_long() {
        let heard = Instant::now();
        let reading = Reading { at_ms: 1_000, heard };
        let at = |ms| reading.now_ms(heard + Duration::from_millis(ms));
        assert_eq!([at(0), at(700), at(4_999), at(5_000)], [Some(1_000), Some(1_700), Some(5_999), None]);
    }
}
