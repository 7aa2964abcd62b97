//! A node of nats-server that is cut off from the others: the connection to it works, and JetStream does not answer there,
//! or answers nothing that counts. The client library stays with it as long as the connection does. So after a while
//! the connection is made anew, to any of the servers that are known, until one answers.
//!
//! An election looks the same for some seconds; a whole cluster without a quorum does for as long as that lasts. A new
//! connection does no harm then. A stream that is gone, and a message that this user may not publish, get no answer
//! either. That is no reason to leave: JetStream says that the one is gone, and nats-server that it refuses the other.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{ReconnectToServer, Server, ServerAddr};
use tokio::time::Instant;

use bytes::Bytes;
use serde::Deserialize;

use super::Bus;
use super::append::ApiError;

/// How long something may be without an answer. Elections take less.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long JetStream may take to say whether something exists.
const PROOF: Duration = Duration::from_secs(1);
/// The stream exists, and all its replicas are away. Whoever knows that is not cut off.
const STREAM_OFFLINE: u64 = 10118;

/// What is waited for. Each by itself: a node that has just been cut off goes on sending the heartbeats of pull requests,
/// and stores nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A message to be stored.
    Publish,
    /// A pull request.
    Pull,
    /// What a stream or a consumer is like.
    State,
}

/// Since when nothing was answered. Pure.
#[derive(Debug, Default)]
struct Waits {
    publish: Option<Instant>,
    pull: Option<Instant>,
    state: Option<Instant>,
}

/// Since when this connection has no answers, and where it goes then. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Isolation(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    waits: Waits,
    next: Move,
}

/// Which server the next connection is made to.
#[derive(Debug, Default, PartialEq, Eq)]
enum Move {
    /// The client library chooses.
    #[default]
    None,
    /// Any other. Which one it is connected to is not known, unless it was chosen here.
    Away { from: Option<ServerAddr> },
    /// To this one, which was chosen here.
    To(ServerAddr),
}

impl Move {
    fn away(&mut self) {
        let from = match std::mem::take(self) {
            Self::To(server) => Some(server),
            Self::Away { from } => from,
            Self::None => None,
        };
        *self = Self::Away { from };
    }

    /// A connection is about to be made to one of these. `None`: to whichever the library chooses.
    fn choose(&mut self, servers: impl Iterator<Item = ServerAddr>, chance: u64) -> Option<ServerAddr> {
        let Self::Away { from } = std::mem::take(self) else { return None };
        let others: Vec<_> = servers.filter(|server| Some(server) != from.as_ref()).collect();
        let chosen = others.get(usize::try_from(chance).ok()?.checked_rem(others.len())?)?.clone();
        *self = Self::To(chosen.clone());
        Some(chosen)
    }
}

impl Isolation {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was made. What the one before it did not answer says nothing of it.
    pub(super) fn connected(&self) {
        self.state().waits = Waits::default();
    }

    /// Where to connect to.
    pub(super) fn choose(&self, servers: Vec<Server>) -> Option<ReconnectToServer> {
        let servers = servers.into_iter().map(|server| server.addr);
        let addr = self.state().next.choose(servers, RandomState::new().hash_one(()) >> 32)?;
        Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) })
    }
}

impl Waits {
    fn since(&mut self, asked: Asked) -> &mut Option<Instant> {
        match asked {
            Asked::Publish => &mut self.publish,
            Asked::Pull => &mut self.pull,
            Asked::State => &mut self.state,
        }
    }

    fn answered(&mut self, asked: Asked) {
        *self.since(asked) = None;
    }

    /// Returns whether this has lasted too long. It counts from the start again then.
    fn unanswered(&mut self, asked: Asked, now: Instant) -> bool {
        let since = *self.since(asked).get_or_insert(now);
        let too_long = now.saturating_duration_since(since) >= PATIENCE;
        if too_long {
            *self = Self::default();
        }
        too_long
    }
}

impl Bus {
    /// JetStream has answered.
    pub(super) fn answered(&self, asked: Asked) {
        self.isolation.state().waits.answered(asked);
    }

    /// JetStream has not answered, over a connection that works. `about`, in the words of its API, is what should have
    /// answered: `STREAM.INFO.WA_OUT`.
    pub(super) async fn unanswered(&self, asked: Asked, about: Option<&str>) {
        if !self.is_connected() {
            return;
        }
        let too_long = self.isolation.state().waits.unanswered(asked, Instant::now());
        if too_long && !self.is_known_to_be_gone(about).await {
            self.isolation.state().next.away();
            let server = self.client.server_info().server_name;
            tracing::info!(
                server,
                "JetStream does not answer there; connecting anew, to another server if there is one"
            );
            // An error means that the connection has ended for good, which others see to.
            let _ = self.client.force_reconnect().await;
        }
    }

    /// Does JetStream answer, and say that there is none? Then it is no wonder that nothing else is answered.
    async fn is_known_to_be_gone(&self, about: Option<&str>) -> bool {
        let Some(about) = about else { return false };
        let asked = self.client.request(format!("{}.{about}", self.api), Bytes::new());
        match tokio::time::timeout(PROOF, asked).await {
            Ok(Ok(answer)) => {
                let is_gone = is_gone(&answer.payload);
                tracing::debug!(about, is_gone, "nothing is answered there for a while, but this");
                is_gone
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

/// Is this the answer of somebody who knows the whole cluster, and has no such thing? A leader that was cut off a moment
/// ago still says what its stream was like; a node without a leader says that it does not know.
fn is_gone(answer: &[u8]) -> bool {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        error: Option<ApiError>,
    }
    let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
    answer.error.is_some_and(|error| error.code == 404 || error.err_code == STREAM_OFFLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_patience_and_after_a_move_all_begins_anew() {
        let (mut waits, start) = (Waits::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(!waits.unanswered(Asked::Publish, start));
        // Heartbeats still come.
        waits.answered(Asked::Pull);
        assert!(!waits.unanswered(Asked::Publish, start + PATIENCE - second));
        assert!(waits.unanswered(Asked::Publish, start + PATIENCE));
        assert!(
            !waits.unanswered(Asked::Publish, start + PATIENCE + second),
            "the next server has as much time"
        );
        waits.answered(Asked::Publish);
        assert!(!waits.unanswered(Asked::Publish, start + PATIENCE * 3), "an answer in between");
        assert!(!waits.unanswered(Asked::Pull, start + PATIENCE * 3));
        assert!(waits.unanswered(Asked::Pull, start + PATIENCE * 4));
    }

    #[test]
    fn only_who_knows_the_cluster_can_say_that_something_is_gone() {
        let error = |code, err_code| {
            serde_json::json!({"error": {"code": code, "err_code": err_code, "description": "words"}})
                .to_string()
        };
        for (answer, gone) in [
            (error(404, 10059), true),
            (error(404, 10014), true),
            (error(500, STREAM_OFFLINE), true),
            // It has no leader.
            (error(503, 10008), false),
            (r#"{"config": {}, "state": {}}"#.to_owned(), false),
            ("null".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_gone(answer.as_bytes()), gone, "{answer}");
        }
    }

    #[test]
    fn the_second_move_leads_to_another_server_than_the_first() {
        let servers = || {
            (1..4).map(|number| format!("nats://n{number}:4222").parse::<ServerAddr>().expect("an address"))
        };
        let mut next = Move::None;
        assert_eq!(next.choose(servers(), 0), None, "the library chooses");
        for chance in 0..3 {
            next.away();
            let first = next.choose(servers(), chance).expect("a server");
            next.away();
            let second = next.choose(servers(), chance).expect("a server");
            assert_ne!(first, second);
            // That one could not be reached.
            assert_eq!(next.choose(servers(), chance), None);
        }
        next.away();
        let only = next.choose(servers().take(1), 7).expect("a server");
        next.away();
        assert_eq!(
            next.choose(std::iter::once(only), 7),
            None,
            "there is no other: the library connects to it again"
        );
    }
}
