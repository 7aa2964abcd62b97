//! What a refusal means: does it concern everybody, or one chat alone? And who asks next whether the backend is back?
//! Pure: `circuit_breaker` shares it between the turns.
//!
//! Everything is held while nobody is answered. A hold ends with the first answer to a call that began in it. What was
//! refused before that call began was refused *alone*: from then on it fails in its own chat, and holds nobody up. A
//! backend may also return for a moment only. So several such chats that are refused together, with nobody answered in
//! between, are an outage again, until they were seen to be refused alone a second time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::policy;

/// If another chat was answered so lately, one refusal is not enough to hold everything.
const LATELY: Duration = Duration::from_secs(10);
/// For so long after another chat's last answer, what was refused alone still counts as refused alone.
const BELIEVED: Duration = Duration::from_secs(600);
/// A probe that has been under way for longer keeps no other chat from a probe of its own: a refusal is quick, and an
/// answer may take long.
const QUICK: Duration = Duration::from_secs(1);
/// So many turns at most probe, or wait for that, before no more are pulled; and no more probes than that are under way.
pub(super) const ENOUGH: usize = 16;
/// If so many chats are refused one after the other, that concerns all, and so does what the backend asks them to wait.
const EVERYBODY: usize = 3;
/// So many chats are remembered as refused.
const REMEMBERED: usize = 4_096;
/// No connection: that is never one chat's own.
const UNREACHABLE: &str = "unreachable";

/// What a refusal means for the turn that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Everything is held: wait for the end of that.
    Held,
    /// Nobody knows yet. Others go on; try again after a while, which uses nothing up.
    Undecided,
    /// Others are answered: this attempt failed.
    Alone,
}

/// What a turn that wants to call may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Call: nothing is held.
    Free,
    /// Call, and see whether the backend is back.
    Probe,
    /// Ask again then, or after a change.
    At(Instant),
    /// Ask again after a change.
    Later,
}

/// Everything is held.
#[derive(Debug)]
struct Held {
    reason: String,
    since: Instant,
    /// When the last refusal came, and how many probes were refused.
    last: Instant,
    probes: u32,
    retry_after: Option<Duration>,
}

/// A chat that was refused, and nobody knows yet whether alone.
#[derive(Debug)]
struct Suspect {
    reason: String,
    at: Instant,
    not_before: Instant,
    /// How often it was seen to be refused alone.
    seen: u32,
}

/// A turn that waits for the end of the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    /// Those that were refused come after those that were not.
    was_refused: bool,
    order: u64,
}

/// The state of the backend as this process sees it.
#[derive(Debug, Default)]
pub(super) struct Hold {
    held: Option<Held>,
    suspects: HashMap<String, Suspect>,
    /// What was refused alone: why, and how often that was seen.
    alone: HashMap<String, (String, u32)>,
    /// The chat that was answered last, and the one before it.
    answered: [Option<(String, Instant)>; 2],
    waiting: BTreeMap<Ticket, String>,
    probing: BTreeMap<u64, Instant>,
    next: u64,
}

impl Hold {
    /// Why everything is held, if it is.
    pub(super) fn reason(&self) -> Option<&str> {
        self.held.as_ref().map(|held| held.reason.as_str())
    }

    /// How many more turns could be useful. `None`: as many as possible, because nothing is held.
    pub(super) fn wants(&self) -> Option<usize> {
        self.held.as_ref().map(|_| ENOUGH.saturating_sub(self.turns()))
    }

    /// How many turns wait for the end of the hold, or probe.
    pub(super) fn turns(&self) -> usize {
        self.waiting.len() + self.probing.len()
    }

    /// A call of `chat` was refused.
    pub(super) fn refused(
        &mut self,
        chat: &str,
        reason: &str,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Refusal {
        let seen = self.seen_alone(chat, reason, now);
        if self.held.is_none() && seen > 1 {
            return Refusal::Alone;
        }
        if self.suspects.len() >= REMEMBERED && !self.suspects.contains_key(chat) {
            self.suspects.clear();
        }
        let not_before = now + policy::at_least(Duration::ZERO, retry_after);
        let suspect = Suspect { reason: reason.to_owned(), at: now, not_before, seen };
        self.suspects.insert(chat.to_owned(), suspect);
        if let Some(held) = &mut self.held {
            held.probes += 1;
            (held.last, held.retry_after) = (now, retry_after);
            reason.clone_into(&mut held.reason);
            return Refusal::Held;
        }
        let unexplained = self.suspects.values().filter(|suspect| suspect.seen == 0).count();
        if reason != UNREACHABLE && self.suspects.len() < EVERYBODY && unexplained < 2 {
            if seen > 0 {
                return Refusal::Alone;
            }
            if self.others_answered_within(LATELY, chat, now) {
                return Refusal::Undecided;
            }
        }
        self.held = Some(Held { reason: reason.to_owned(), since: now, last: now, probes: 0, retry_after });
        Refusal::Held
    }

    /// A call of `chat` that began at `began` was answered. Returns whether that ends a hold.
    pub(super) fn answered(&mut self, chat: &str, began: Instant, now: Instant) -> bool {
        self.alone.remove(chat);
        self.suspects.remove(chat);
        match &mut self.answered {
            [Some((last, at)), _] if last == chat => *at = now,
            [last, before] => *before = last.replace((chat.to_owned(), now)),
        }
        let lifted = self.reached(began);
        if self.held.is_none() {
            let explained = self.suspects.extract_if(|_, suspect| suspect.at <= began);
            let explained: Vec<_> = explained.filter(|(_, suspect)| suspect.reason != UNREACHABLE).collect();
            for (chat, suspect) in explained {
                if self.alone.len() >= REMEMBERED {
                    self.alone.clear();
                }
                self.alone.insert(chat, (suspect.reason, suspect.seen + 1));
            }
        }
        lifted
    }

    /// A call that began at `began` reached the backend, and failed there. Returns whether that ends a hold.
    pub(super) fn reached(&mut self, began: Instant) -> bool {
        // What began before the hold says nothing of the time since: a backend that ends finishes what it has.
        self.held.take_if(|held| held.since <= began).is_some()
    }

    /// How often this chat was seen to be refused alone, for this reason.
    fn seen_alone(&self, chat: &str, reason: &str, now: Instant) -> u32 {
        let known = self.alone.get(chat).filter(|(known, _)| known == reason);
        let believed = known.filter(|_| self.others_answered_within(BELIEVED, chat, now));
        believed.map_or(0, |(_, seen)| *seen)
    }

    fn others_answered_within(&self, time: Duration, chat: &str, now: Instant) -> bool {
        let mut answered = self.answered.iter().flatten();
        answered.any(|(other, at)| other != chat && now.saturating_duration_since(*at) <= time)
    }

    /// A turn of `chat` waits for the end of the hold.
    pub(super) fn enter(&mut self, chat: &str) -> Ticket {
        let was_refused = self.suspects.contains_key(chat) || self.alone.contains_key(chat);
        self.next += 1;
        let ticket = Ticket { was_refused, order: self.next };
        self.waiting.insert(ticket, chat.to_owned());
        ticket
    }

    /// It does not wait any more: it goes on, probes, or is over.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.probing.remove(&ticket.order);
    }

    /// What a waiting turn may do now. If that is a probe, it probes from now on, until it leaves.
    pub(super) fn next(&mut self, ticket: Ticket, now: Instant) -> Next {
        let Some(held) = &self.held else { return Next::Free };
        if self.waiting.keys().next() != Some(&ticket) || self.probing.len() >= ENOUGH {
            return Next::Later;
        }
        let is_everybodys = self.suspects.len() >= EVERYBODY;
        let asked = if is_everybodys { held.retry_after } else { None };
        let mut due = held.last + policy::probe_delay(held.probes, asked);
        if let Some(suspect) = self.waiting.get(&ticket).and_then(|chat| self.suspects.get(chat)) {
            due = due.max(suspect.not_before);
        }
        if let Some(last) = self.probing.values().max() {
            due = due.max(*last + QUICK);
        }
        if due > now {
            return Next::At(due);
        }
        self.waiting.remove(&ticket);
        self.probing.insert(ticket.order, now);
        Next::Probe
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
