//! What a round's traces say: every broken promise, one a line.

use std::collections::{BTreeMap, BTreeSet};

use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::bursts;
use crate::conduct::Traces;
use crate::goals;
use crate::logs;
use crate::support::Entry;

/// Two clocks of one machine, read a moment apart.
const CLOCKS_S: f64 = 0.005;
/// Why poison is given up on.
const REJECTED: &str = "rejected";

/// Every broken promise.
pub fn violations(traces: &mut Traces) -> Vec<String> {
    let mut broken = traces.complaints.clone();
    told_and_kept(traces, &mut broken);
    one_entry_each(traces, &mut broken);
    bursts::fold(traces, &mut broken);
    broken.extend(traces.evidence.violations(&traces.written));
    asked_in_turn(traces, &mut broken);
    dead_letters(traces, &mut broken);
    broken.extend(traces.beside.violations());
    broken.extend(traces.taken.iter().flat_map(|chat| chat.violations()));
    broken.extend(logs::errors(&traces.dir));
    broken.extend(goals::goals(traces).into_iter().flat_map(|goal| goal.missed));
    broken
}

/// What a phone was told to be delivered is stored and has one outcome; in the end that is everything.
fn told_and_kept(traces: &Traces, broken: &mut Vec<String>) {
    let mut ended: BTreeMap<u64, usize> = BTreeMap::new();
    for outcome in &traces.evidence.outcomes {
        *ended.entry(outcome.sequence_in(header::IN_SEQ)).or_default() += 1;
    }
    let messages = traces.evidence.messages.iter();
    let stored: BTreeMap<String, u64> =
        messages.map(|message| (message.inbound().message_id, message.sequence)).collect();
    let updates = traces.beside.updates.iter();
    let updates: BTreeSet<String> = updates.map(|update| update.inbound().message_id).collect();
    for sent in &traces.sent {
        let outcomes = stored.get(&sent.id).map(|sequence| ended.get(sequence).copied().unwrap_or(0));
        if sent.status == "sent" {
            broken.push(format!("{}: the phone was never told that it was delivered", sent.id));
        }
        match outcomes {
            None if updates.contains(&sent.id) => {}
            None => broken.push(format!("{}: {} and not stored", sent.id, sent.status)),
            Some(1) => {}
            Some(count) => broken.push(format!("{}: {} and {count} outcomes", sent.id, sent.status)),
        }
    }
}

/// Copies of a reply are allowed, as long as they are copies; from here on each counts as one.
fn one_entry_each(traces: &mut Traces, broken: &mut Vec<String>) {
    for received in traces.evidence.inboxes.values_mut().flatten() {
        if received.altered > 0 {
            broken.push(format!("{}: copies of one id say different things", received.id));
        }
        received.copies = 1;
    }
}

/// As the oracle looks at the backend's call log, but with the calls that never reached the backend.
fn asked_in_turn(traces: &Traces, broken: &mut Vec<String>) {
    let mut first: BTreeMap<&str, f64> = BTreeMap::new();
    for asked in &traces.asked {
        first.entry(&asked.message_id).or_insert(asked.at);
    }
    for (before, message) in traces.pairs() {
        let id = message.inbound().message_id;
        let Some(at) = first.get(id.as_str()) else { continue };
        let stored = traces.outcome_of(before).map_or(f64::INFINITY, |outcome| outcome.stored_at);
        if at + CLOCKS_S < stored {
            let early = (stored - at) * 1e3;
            broken.push(format!(
                "{}: out of turn: {id} was asked {early:.0} ms before the outcome of {} was stored",
                message.chat(),
                before.sequence
            ));
        }
    }
}

/// Exactly the poisonous messages are dead, each with one letter and its reason.
fn dead_letters(traces: &Traces, broken: &mut Vec<String>) {
    let poison: BTreeSet<&str> = traces.poison.iter().map(String::as_str).collect();
    let mut letters: BTreeMap<String, usize> = BTreeMap::new();
    for letter in &traces.dead_letters {
        let id = letter.inbound().message_id;
        if letter.header(header::DEAD_REASON) != Some(REJECTED) {
            broken.push(format!("{id}: a dead letter of reason {:?}", letter.header(header::DEAD_REASON)));
        }
        *letters.entry(id).or_default() += 1;
    }
    let ended = || traces.evidence.outcomes.iter().map(|entry| (bursts::into(entry), entry.outcome()));
    let given_up = ended().filter(|(_, outcome)| matches!(outcome.result, Some(Ending::Dead(_))));
    let given_up: BTreeSet<String> = given_up.map(|(_, outcome)| outcome.inbound_id).collect();
    // What was joined into a message has no call but that one's.
    let dead =
        ended().filter(|(into, outcome)| given_up.contains(into.as_ref().unwrap_or(&outcome.inbound_id)));
    let dead: BTreeSet<String> = dead.map(|(_, outcome)| outcome.message_id).collect();
    for id in letters.keys().chain(&dead) {
        if !poison.contains(id.as_str()) {
            broken.push(format!("{id}: given up on without need"));
        }
    }
    for id in poison {
        let count = letters.get(id).copied().unwrap_or(0);
        if count != 1 || !dead.contains(id) {
            let outcome = if dead.contains(id) { "dead" } else { "not dead" };
            broken.push(format!("{id}: rejected, its outcome is {outcome}, and it has {count} dead letters"));
        }
    }
}

impl Traces {
    /// Messages that follow each other in a chat.
    pub fn pairs(&self) -> Vec<(&Entry, &Entry)> {
        let mut chats: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for message in &self.evidence.messages {
            chats.entry(message.chat()).or_default().push(message);
        }
        chats.values().flat_map(|chat| chat.windows(2).map(|pair| (pair[0], pair[1]))).collect()
    }

    /// How a message ended.
    pub fn outcome_of(&self, message: &Entry) -> Option<&Entry> {
        let ends = |outcome: &&Entry| outcome.sequence_in(header::IN_SEQ) == message.sequence;
        self.evidence.outcomes.iter().find(ends)
    }
}
