//! Is WhatsApp's address answering again? The client library pauses longer and longer between its attempts to
//! connect, up to 15 minutes. Nobody should wait that long after an outage. So, while the client is not connected,
//! this module tries the address itself, and asks for a new client as soon as it answers.
//!
//! An address may answer although WhatsApp lets nobody in. So each new client that does not get in makes the next
//! one wait longer, up to WhatsApp's own 15 minutes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use whatsapp_rust::Client;
use whatsapp_rust::transport::TransportFactory as _;

use super::gate::Gate;
use super::socket::Sockets;

/// The longest pause between two looks at the client.
const EVERY: Duration = Duration::from_secs(5);
/// So much of the pause is left to chance: many edges that lost WhatsApp together do not come back as one.
const JITTER: Duration = Duration::from_millis(1_500);
/// How long the address may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often in a row the client must be found without a connection. Until then the library's own attempts, which
/// begin after one second, are enough.
const LOOKS: u32 = 2;
/// The pause after the first client that did not get in. It doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// How long the library's own pauses are left alone after WhatsApp has asked for fewer attempts.
const SLOW_DOWN: Duration = Duration::from_secs(600);

/// The line to WhatsApp, for all clients of a session.
#[derive(Debug)]
pub(super) struct Line {
    /// The address in simulator builds. `None`: WhatsApp itself.
    url: Option<String>,
    attempts: Mutex<Attempts>,
}

/// What is known of the attempts to connect. Pure.
#[derive(Debug, Default)]
struct Attempts {
    /// Looks in a row that found no connection.
    down: u32,
    /// Looks in a row that found the client logged in.
    up: u32,
    /// The pause after the latest client that this module asked for.
    pause: Option<Duration>,
    /// No new client before.
    not_before: Option<Instant>,
    /// WhatsApp has asked for fewer attempts until then.
    slow_until: Option<Instant>,
}

impl Attempts {
    /// The client was found connected.
    fn connected(&mut self, logged_in: bool) {
        if !logged_in {
            return;
        }
        self.down = 0;
        self.up += 1;
        // One look may have found a login that was thrown out at once.
        if self.up >= LOOKS {
            *self = Self::default();
        }
    }

    /// The client was found without a connection. Returns whether the address is worth a probe.
    fn lost(&mut self) -> bool {
        self.up = 0;
        self.down = self.down.saturating_add(1);
        self.down >= LOOKS
    }

    /// The address was tried. Returns whether a new client should connect now.
    fn probed(&mut self, answers: bool, now: Instant) -> bool {
        if !answers {
            // It is away. When it is back, nothing stands between it and the next client.
            self.pause = None;
            self.not_before = None;
            return false;
        }
        if self.not_before.max(self.slow_until).is_some_and(|time| now < time) {
            return false;
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.not_before = Some(now + pause);
        true
    }
}

impl Line {
    /// The line to `url`, or to WhatsApp itself.
    pub(super) fn new(url: Option<String>) -> Self {
        Self { url, attempts: Mutex::default() }
    }

    /// WhatsApp has closed the connection because of too many attempts.
    pub(super) fn slow_down(&self, now: Instant) {
        self.attempts().slow_until = Some(now + SLOW_DOWN);
    }

    /// Returns when a new client should take the place of this one, which is not connected.
    pub(super) async fn is_back(&self, client: &Client) {
        let mut looked = Instant::now();
        loop {
            // A probe that nobody answers is a part of the pause: each second of it somebody may wait.
            tokio::time::sleep_until(looked + EVERY - JITTER.mul_f64(chance())).await;
            looked = Instant::now();
            if client.is_connected() {
                self.attempts().connected(client.is_logged_in());
                continue;
            }
            if !self.attempts().lost() {
                continue;
            }
            let answers = self.answers().await;
            if client.is_connected() {
                continue;
            }
            if self.attempts().probed(answers, Instant::now()) {
                return;
            }
        }
    }

    /// Does the address answer? Tried on the client's own way: name, TCP, TLS, and the request for a WebSocket. No
    /// proxy is used, because the client uses none.
    async fn answers(&self) -> bool {
        let factory = Sockets::to(self.url.as_deref(), Gate::default());
        let probe: BoxFuture<'_, _> = Box::pin(factory.create_transport());
        match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
            Ok(Ok((transport, _events))) => {
                // The address may be gone again by now.
                let _ = tokio::time::timeout(PROBE_TIMEOUT, transport.disconnect()).await;
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_returns_is_used_at_once_however_often_it_was_lost() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        assert!(!attempts.lost(), "the library tries within a second");
        for _ in 0..3 {
            assert!(attempts.lost());
            assert!(!attempts.probed(false, now));
            assert!(attempts.lost());
            assert!(attempts.probed(true, now), "at once");
        }
    }

    #[test]
    fn clients_that_are_not_let_in_come_less_and_less_often() {
        let (mut attempts, began, mut clients) = (Attempts::default(), Instant::now(), Vec::new());
        for look in 0..1_440 {
            let now = began + EVERY * look;
            // Meanwhile the library gets as far as a connection, and no further.
            attempts.connected(false);
            if attempts.lost() && attempts.probed(true, now) {
                clients.push((now - began).as_secs());
            }
        }
        let pauses: Vec<_> = clients.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900, 900, 900]);
    }

    #[test]
    fn a_login_that_holds_forgets_the_pauses_and_one_that_does_not_keeps_them() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        attempts.lost();
        assert!(attempts.lost() && attempts.probed(true, now));
        attempts.connected(true);
        attempts.lost();
        assert!(attempts.lost() && !attempts.probed(true, now), "it was thrown out");
        attempts.connected(true);
        attempts.connected(true);
        attempts.lost();
        assert!(attempts.lost() && attempts.probed(true, now));
    }

    #[test]
    fn who_is_asked_to_slow_down_does() {
        let (line, now) = (Line::new(None), Instant::now());
        line.slow_down(now);
        for answers in [true, false, true] {
            assert!(!line.attempts().probed(answers, now));
        }
        assert!(line.attempts().probed(true, now + SLOW_DOWN));
    }
}
