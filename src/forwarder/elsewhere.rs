//! Looks after the chats that wait for an outcome which another process has to store: hears it as it passes, and asks
//! the bus now and then. One subscription and one task, however many chats wait; neither costs anything while none
//! waits.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Forwarder;
use super::chain::{self, Step};
use super::hand::{Found, Look};
use crate::bus::{ReadError, Wakes};

/// So many looks are under way at once.
const LOOKS: usize = 32;
/// The subscription stays for so long after the last chat that needed it.
const LINGERS: Duration = Duration::from_secs(10);
/// If nothing can be heard, how soon it is tried again.
const AGAIN: Duration = Duration::from_millis(250);

impl Forwarder {
    /// Ends never.
    pub(super) async fn listen(&self) {
        loop {
            self.waiting.elsewhere().await;
            match self.bus.wakes(&self.subjects.all_replies()).await {
                Ok(wakes) => {
                    // The bus takes what one connection sends in its order: once it has answered this, the subscription
                    // before it is in force. If it does not answer, that is found out by the looks.
                    let _ = self.bus.stream_created(&self.subjects.stream_in()).await;
                    self.waiting.listening(Some(Instant::now()));
                    self.look_after(wakes).await;
                    self.waiting.listening(None);
                }
                Err(error) => {
                    tracing::warn!(%error, "outcomes of other processes cannot be heard");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Returns when nobody has waited for a while, or when nothing can be heard any more.
    async fn look_after(&self, mut wakes: Wakes) {
        let mut looks = FuturesUnordered::new();
        let mut needed = Instant::now();
        while needed.elapsed() < LINGERS {
            if self.waiting.is_elsewhere() || !looks.is_empty() {
                needed = Instant::now();
            }
            while looks.len() < LOOKS
                && let Some(look) = self.waiting.look(|lane| self.routes.is_held(lane))
            {
                looks.push(self.look(look));
            }
            let due = if looks.len() < LOOKS { self.waiting.next_look() } else { None };
            let due = due.unwrap_or_else(|| Instant::now() + LINGERS / 8);
            tokio::select! {
                heard = wakes.next() => match heard {
                    Some((chat, headers)) => {
                        let sequence = headers.in_sequence(&self.chats.incarnation());
                        self.waiting.heard(&chat, sequence);
                    }
                    None => return,
                },
                Some(()) = looks.next() => {}
                () = tokio::time::sleep_until(due) => {}
                () = self.waiting.sooner() => {}
            }
        }
    }

    async fn look(&self, look: Look) {
        let read_at = Instant::now();
        let found = self.find(&look).await.unwrap_or_else(|error| {
            // It waits on.
            tracing::debug!(%error, "the bus did not answer");
            Found::Nothing
        });
        self.waiting.looked(&look, found, read_at);
    }

    async fn find(&self, look: &Look) -> Result<Found, ReadError> {
        let incarnation = self.chats.incarnation();
        let last = self.chats.read_last(&look.chat).await?;
        if chain::step(look.place, last, self.ack_floor.known()) != Step::Wait {
            return Ok(Found::Turn);
        }
        let state = self.ack_floor.fresh().await?;
        if chain::step(look.place, last, state.ack_floor) != Step::Wait {
            return Ok(Found::Turn);
        }
        let gone = state.is_alone(look.place.sequence)
            || self.gone.has(&incarnation, look.place.previous).await.unwrap_or(false);
        Ok(if gone { Found::NothingBefore } else { Found::Nothing })
    }
}
