//! One answer for a burst, under fire: what was joined is checked against the streams' own times, and from then on a burst
//! is judged as what it is: several messages and one answer.

use std::collections::{BTreeMap, BTreeSet};

use whatsapp_connector::wire::v1::inbound_message::Content;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{InboundMessage, NoReplyReason};

use crate::conduct::{FALLBACK, Traces};
use crate::plan::{JOIN_MAX, JOIN_WITHIN};
use crate::support::Entry;

/// What is stored in the last moment may not have been seen, and clocks are read to the millisecond.
const MOMENT_S: f64 = 0.12;
/// WhatsApp tells the time of writing in whole seconds.
const WRITTEN_S: f64 = 1.0;
/// So many are joined at most.
const MOST: usize = 64;

/// A message, its text if it may be joined, and what it went into.
struct One<'a> {
    entry: &'a Entry,
    message: InboundMessage,
    text: Option<String>,
    into: Option<String>,
    id: String,
}

impl One<'_> {
    /// How long after that one it was stored or written, whichever is more.
    fn behind(&self, before: &Self) -> f64 {
        let sent = (self.message.sent_at_ms - before.message.sent_at_ms) as f64 / 1e3 - WRITTEN_S;
        (self.entry.stored_at - before.entry.stored_at).max(sent)
    }

    /// Is it joined with what it does not belong to, or not with what it belongs to?
    fn misplaced(&self, burst: &[&Self], follows: bool, may_be_joined: bool) -> Option<String> {
        let (first, before) = (burst.first()?, burst.last()?);
        let (within, at_most) = (JOIN_WITHIN.as_secs_f64(), JOIN_MAX.as_secs_f64());
        let belongs = |moment: f64| {
            self.text.is_some()
                && before.text.is_some()
                && self.message.sender == before.message.sender
                && burst.len() < MOST
                && self.behind(before) <= within + moment
                && self.behind(first) <= at_most + moment
        };
        let id = &self.message.message_id;
        match follows {
            true if !belongs(MOMENT_S) => Some(format!("{id}: joined with what it does not belong to")),
            false if may_be_joined && belongs(-MOMENT_S) => {
                Some(format!("{id}: not joined with what it belongs to"))
            }
            _ => None,
        }
    }
}

/// Folds the bursts of a round: of each, the last message has the one answer. What was joined wrongly is `broken`.
pub fn fold(traces: &mut Traces, broken: &mut Vec<String>) {
    let mut folded = Folded { poison: traces.poison.iter().cloned().collect(), answers: BTreeMap::new() };
    for chat in chats(traces) {
        let mut burst: Vec<&One<'_>> = Vec::new();
        for one in &chat {
            let follows = burst.last().is_some_and(|before| before.into.is_some());
            broken.extend(one.misplaced(&burst, follows, traces.may_be_joined));
            if !follows {
                burst.clear();
            }
            burst.push(one);
            folded.take(&burst, broken);
        }
        if let Some(last) = burst.last().filter(|last| last.into.is_some()) {
            broken.push(format!("{}: joined into nothing", last.message.message_id));
        }
    }
    for written in &mut traces.written {
        if let Some(answer) = folded.answers.get(&written.id) {
            written.answer.clone_from(answer);
        }
    }
    traces.poison = folded.poison.into_iter().collect();
}

/// What is to be expected, now that it is known what was joined.
struct Folded {
    poison: BTreeSet<String>,
    answers: BTreeMap<String, Option<String>>,
}

impl Folded {
    /// Takes the last of a burst, which may not have ended.
    fn take(&mut self, burst: &[&One<'_>], broken: &mut Vec<String>) {
        let Some((one, before)) = burst.split_last() else { return };
        if one.into.is_some() || before.is_empty() {
            let answer = one.into.as_ref().map(|_| (one.message.message_id.clone(), None));
            self.answers.extend(answer);
            return;
        }
        let ids = burst.iter().map(|part| part.message.message_id.clone());
        let is_poison = ids.clone().any(|id| self.poison.contains(&id));
        let texts: Vec<&str> = burst.iter().filter_map(|part| part.text.as_deref()).collect();
        let answer = if is_poison { FALLBACK.to_owned() } else { format!("eco: {}", texts.join("\n")) };
        if is_poison {
            self.poison.extend(ids);
        }
        self.answers.insert(one.message.message_id.clone(), Some(answer));
        let elsewhere = before.iter().filter(|part| part.into.as_ref() != Some(&one.id));
        broken.extend(
            elsewhere.map(|part| format!("{}: joined into {:?}", part.message.message_id, part.into)),
        );
    }
}

/// How many messages were joined into later ones.
pub fn joined(traces: &Traces) -> usize {
    traces.evidence.outcomes.iter().filter(|outcome| into(outcome).is_some()).count()
}

/// The answers to bursts.
pub fn answers(traces: &Traces) -> Vec<String> {
    let names: BTreeSet<String> = traces.evidence.outcomes.iter().filter_map(into).collect();
    let outcomes = traces.evidence.outcomes.iter().map(Entry::outcome);
    let answers = outcomes.filter(|outcome| names.contains(&outcome.inbound_id));
    let replies = answers.filter_map(|outcome| match outcome.result {
        Some(Ending::Reply(reply)) => Some(reply.text),
        _ => None,
    });
    replies.filter(|text| text.contains('\n')).collect()
}

/// What its message was joined into: an `inbound_id`.
pub fn into(outcome: &Entry) -> Option<String> {
    match outcome.outcome().result {
        Some(Ending::None(none)) if none.reason() == NoReplyReason::Joined => Some(none.joined_into),
        _ => None,
    }
}

fn chats(traces: &Traces) -> Vec<Vec<One<'_>>> {
    let mut chats: BTreeMap<&str, Vec<One<'_>>> = BTreeMap::new();
    for entry in &traces.evidence.messages {
        let message = entry.inbound();
        let outcome = traces.outcome_of(entry);
        let text = match &message.content {
            Some(Content::Text(text)) => Some(text.body.clone()),
            _ => None,
        };
        let id = outcome.map(|outcome| outcome.outcome().inbound_id).unwrap_or_default();
        let one = One { entry, message, text, into: outcome.and_then(into), id };
        chats.entry(entry.chat()).or_default().push(one);
    }
    chats.into_values().collect()
}
