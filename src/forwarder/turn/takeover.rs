//! A person who has taken over the chat from the assistant. The bus is asked at each look, so any forwarder knows it; the
//! edge has the last word, before an answer is sent.

use std::collections::VecDeque;

use super::{Interrupted, Turn};
use crate::bus::Of;
use crate::forwarder::backend::{Person, PersonWrote};
use crate::forwarder::decision::Mode;
use crate::forwarder::eligible;
use crate::wire::takeover::written_at;
use crate::wire::v1::{InboundMessage, Takeover};

/// So many messages of the chat are looked at for what the person wrote.
const LOOKS: usize = 64;

/// What this turn knows of the person who had taken over the chat.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The chat's last takeover. It is over.
    last: Option<Takeover>,
    /// What the person wrote, once it was read.
    wrote: Option<Option<Person>>,
}

impl Turn<'_> {
    /// Is the assistant silent, because a person has taken over? In shadow nobody hears it anyway.
    pub(super) async fn is_silenced(
        &self,
        message: &InboundMessage,
        known: &mut Known,
    ) -> Result<bool, Interrupted> {
        let super::Settings { mode, takeover, .. } = &self.forwarder.settings;
        if !takeover || *mode == Mode::Shadow || message.self_chat {
            return Ok(false);
        }
        let Some(stored) = self.forwarder.bus.takeover(self.of()).await? else { return Ok(false) };
        let silenced = stored.takeover.covers(written_at(message));
        known.last = Some(stored.takeover);
        Ok(silenced)
    }

    /// What the person wrote, if this is the first question since.
    pub(super) async fn what_the_person_wrote(
        &self,
        known: &mut Known,
    ) -> Result<Option<Person>, Interrupted> {
        let Some(last) = &known.last else { return Ok(None) };
        if let Some(read) = &known.wrote {
            return Ok(read.clone());
        }
        let mut found = VecDeque::new();
        let (mut at, mut left) = (self.place.previous, LOOKS);
        while at != 0 && left > 0 {
            let Some((message, before)) = self.forwarder.bus.message_at(self.of(), at).await? else { break };
            let written_ms = written_at(&message);
            // Behind it the assistant was asked, and told.
            if !last.covers(written_ms) || written_ms < last.began_at_ms {
                break;
            }
            if message.from_me {
                found.push_front(PersonWrote::of(&message, eligible::said(&message)));
            }
            (at, left) = (before, left - 1);
        }
        let wrote = Person::of(found, left == 0);
        known.wrote = Some(wrote.clone());
        Ok(wrote)
    }

    fn of(&self) -> Of<'_> {
        let route = &self.delivery.envelope.route;
        Of { subjects: &self.forwarder.subjects, account: &route.account, chat: &route.chat }
    }
}
