//! Is the judge blind? Each fault here is planted into the traces of a good round, and has to be seen.

use crate::conduct::Traces;
use crate::judge;
use crate::support::oracle::Evidence;

/// Breaks a good round's traces in one way.
type Plant = fn(&mut Traces);

const PLANTS: &[(&str, Plant)] = &[
    ("a lost message", |traces| drop(traces.evidence.messages.pop())),
    ("a lost outcome", |traces| drop(traces.evidence.outcomes.pop())),
    ("a second outcome", |traces| {
        let again = traces.evidence.outcomes.last().cloned();
        traces.evidence.outcomes.extend(again);
    }),
    ("two messages in the wrong order", |traces| {
        let messages = &mut traces.evidence.messages;
        let pair = messages.iter().enumerate().find_map(|(at, one)| {
            let next = messages.iter().skip(at + 1).position(|other| other.chat() == one.chat())?;
            Some((at, at + 1 + next))
        });
        if let Some((one, other)) = pair {
            messages.swap(one, other);
        }
    }),
    ("a lost reply", |traces| {
        if let Some(inbox) = traces.evidence.inboxes.values_mut().find(|inbox| !inbox.is_empty()) {
            inbox.pop();
        }
    }),
    ("a doubled reply", |traces| {
        if let Some(inbox) = traces.evidence.inboxes.values_mut().find(|inbox| !inbox.is_empty()) {
            let again = inbox.last().cloned();
            inbox.extend(again);
        }
    }),
    ("replies in the wrong order", |traces| {
        if let Some(inbox) = traces.evidence.inboxes.values_mut().find(|inbox| inbox.len() > 1) {
            inbox.reverse();
        }
    }),
    ("a copy that says something else", |traces| {
        if let Some(received) = traces.evidence.inboxes.values_mut().flatten().next() {
            received.altered = 1;
        }
    }),
    ("a receipt that never came", |traces| {
        if let Some(sent) = traces.sent.first_mut() {
            sent.status = "sent".to_owned();
        }
    }),
    ("a lost dead letter", |traces| {
        // A round may do without poison; then an answered message's place is as good.
        if traces.dead_letters.pop().is_none() {
            traces.poison.extend(traces.sent.first().map(|sent| sent.id.clone()));
        }
    }),
    ("a dead letter of a message that was answered", |traces| traces.poison.clear()),
    ("a call out of turn", |traces| {
        for asked in &mut traces.asked {
            asked.at -= 60.0;
        }
    }),
];

/// The names of the faults that the judge does not see.
pub fn unseen(traces: &Traces) -> Vec<&'static str> {
    let poisoned = !traces.poison.is_empty();
    let plants =
        PLANTS.iter().filter(|(name, _)| poisoned || !name.contains("of a message that was answered"));
    plants
        .filter(|(_, plant)| {
            let mut broken = copy(traces);
            plant(&mut broken);
            judge::violations(&mut broken).is_empty()
        })
        .map(|(name, _)| *name)
        .collect()
}

fn copy(traces: &Traces) -> Traces {
    let evidence = &traces.evidence;
    Traces {
        written: traces.written.clone(),
        poison: traces.poison.clone(),
        evidence: Evidence {
            messages: evidence.messages.clone(),
            outcomes: evidence.outcomes.clone(),
            calls: evidence.calls.clone(),
            inboxes: evidence.inboxes.clone(),
        },
        sent: traces.sent.clone(),
        dead_letters: traces.dead_letters.clone(),
        asked: traces.asked.clone(),
        done: traces.done.clone(),
        blows: traces.blows.clone(),
        complaints: traces.complaints.clone(),
        drained: traces.drained,
        dir: traces.dir.clone(),
    }
}
