//! Tells a connection that is silent from one on which nobody says anything. A line can be dead for an hour without a word
//! from the operating system, if a router forgets it or the other side hangs.
//!
//! The client library pings too, and gives such a connection up after 35 to 65 s, without a word to its user. This asks
//! sooner, and says what is the matter.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use whatsapp_rust::Client;
use whatsapp_rust::wacore::iq::keepalive::KeepaliveSpec;

/// After so long without a word from WhatsApp, it is pinged.
const QUIET: Duration = Duration::from_secs(20);
/// So long an answer may take. Anything that comes counts.
const PING: Duration = Duration::from_secs(12);
/// How often the count of what has come is looked at.
const CHECK: Duration = Duration::from_secs(1);
/// How long the end of a silent connection may take.
const END: Duration = Duration::from_secs(10);

/// Returns when the client's connection is silent: nothing comes, and no ping is answered. Cancel-safe.
pub(super) async fn silence(client: &Client) {
    let mut heard = Heard::new(Instant::now());
    let mut checks = tokio::time::interval(CHECK);
    loop {
        checks.tick().await;
        if !heard.is_quiet(is_up(client).then(|| frames(client)), Instant::now()) {
            continue;
        }
        let ping = client.execute(KeepaliveSpec::with_timeout(PING));
        let answer = tokio::time::timeout(PING, ping).await;
        // A refusal is a word as well, and so is anything else that comes in the meantime.
        let is_answered = matches!(answer, Ok(Ok(())));
        if !is_answered && !heard.has_come(is_up(client).then(|| frames(client)), Instant::now()) {
            return;
        }
    }
}

/// Gives up the connection; the library makes another one.
pub(super) async fn give_up(client: &Arc<Client>) {
    tracing::warn!("WhatsApp is connected and says nothing, not even to a ping; connecting anew");
    // A flush may wait for an answer as well.
    if tokio::time::timeout(END, client.reconnect_immediately()).await.is_err() {
        tracing::debug!("the silent connection does not end");
    }
}

/// Also one over which the login is not answered. Before a number is linked, WhatsApp may have nothing to say for a while.
fn is_up(client: &Client) -> bool {
    client.is_connected() && client.pn().is_some()
}

fn frames(client: &Client) -> u64 {
    client.stats().frames_received
}

/// When something has come last.
#[derive(Debug)]
struct Heard {
    at: Instant,
    /// How much had come by then. `None`: there was no connection.
    frames: Option<u64>,
}

impl Heard {
    fn new(now: Instant) -> Self {
        Self { at: now, frames: None }
    }

    /// Has something come since the last look, or is there no connection?
    fn has_come(&mut self, frames: Option<u64>, now: Instant) -> bool {
        let has_come = frames.is_none() || frames != self.frames;
        if has_come {
            *self = Self { at: now, frames };
        }
        has_come
    }

    /// Has nothing come for long, on a connection?
    fn is_quiet(&mut self, frames: Option<u64>, now: Instant) -> bool {
        !self.has_come(frames, now) && now.duration_since(self.at) >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn quiet_is_a_connection_on_which_nothing_comes() {
        let start = Instant::now();
        let mut heard = Heard::new(start);
        for (after_s, frames, is_quiet) in [
            (0, Some(5), false),
            (19, Some(5), false),
            (20, Some(5), true),
            (21, Some(6), false),
            (40, Some(6), false),
            (41, Some(6), true),
            // There is no connection, and then another one.
            (42, None, false),
            (90, None, false),
            (91, Some(6), false),
            (110, Some(6), false),
            (111, Some(6), true),
        ] {
            let now = start + Duration::from_secs(after_s);
            assert_eq!(heard.is_quiet(frames, now), is_quiet, "{after_s} s");
        }
    }
}
