//! Is the judge blind? Each fault here is planted into the traces of a good round, and has to be seen.

use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::inbound_message::Content;

use crate::bursts;
use crate::cast::Life;
use crate::conduct::Traces;
use crate::hands::Hand;
use crate::judge;
use crate::plan::{Deed, Menu};
use crate::proxy::Asked;
use crate::support::Entry;

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
    ("a file that is another one", |traces| {
        traces.beside.objects.values_mut().for_each(|sha256| sha256[0] ^= 1);
    }),
    ("a file that nothing tells of", |traces| {
        traces.beside.updates.retain(|entry| !matches!(entry.inbound().content, Some(Content::Media(_))));
    }),
    ("a vote that is read twice", |traces| {
        let is_vote = |entry: &&Entry| matches!(entry.inbound().content, Some(Content::PollVote(_)));
        let again = traces.beside.updates.iter().find(is_vote).cloned();
        traces.beside.updates.extend(again);
    }),
    ("a request that never came", |traces| {
        if let Some(shown) = traces.beside.shown.values_mut().find(|shown| !shown.is_empty()) {
            shown.pop();
        }
    }),
    ("a request that came twice", |traces| {
        if let Some(shown) = traces.beside.shown.values_mut().find(|shown| !shown.is_empty()) {
            let again = shown.last().cloned();
            shown.extend(again);
        }
    }),
    ("a request whose picture nobody can open", |traces| {
        let shown = traces.beside.shown.values_mut().flatten();
        shown.filter(|one| one.kind == "image").for_each(|one| drop(one.more.remove("file")));
    }),
    ("an answer in the group that one member cannot read", |traces| {
        traces.beside.groups.last_mut().map(Vec::pop);
    }),
    ("a request without a state", |traces| traces.beside.receipts.clear()),
    ("a joined text whose words were not asked about", |traces| {
        let burst = bursts::answers(traces).into_iter().next();
        for received in traces.evidence.inboxes.values_mut().flatten() {
            if burst.as_ref() == Some(&received.text) {
                received.text = received.text.lines().last().unwrap_or_default().to_owned();
            }
        }
    }),
    ("an answer in a chat that a person has taken over", |traces| {
        if let Some(chat) = traces.taken.first_mut() {
            chat.answer_the_last();
        }
    }),
    ("a takeover that nothing tells of", |traces| {
        traces.taken.iter_mut().for_each(|chat| chat.takeovers.clear());
    }),
    ("a call out of turn", |traces| {
        for asked in &mut traces.asked {
            asked.at -= 60.0;
        }
    }),
];

/// A message that is late; what else there is to see of it stays as it was.
const LATE: &[(&str, Menu, Plant)] = &[
    ("a message that waited while forwarders came and went", Menu::Scale, |traces| {
        if let Some(outcome) = traces.evidence.outcomes.last_mut() {
            outcome.stored_at += 60.0;
        }
    }),
    ("a message that a killed forwarder held for too long", Menu::Kills, |traces| {
        let Some((at, sequence, call)) = last_call(traces) else { return };
        let hand = Hand { sequence, delivered: 1, first: call.at, last: call.at, ended: false };
        traces.hands.retain(|hand| hand.sequence != sequence);
        // A repeated call would have been soon enough.
        traces.asked.retain(|asked| asked.message_id != call.message_id || asked.at <= call.at);
        traces.hands.extend([hand, Hand { delivered: 2, ended: true, ..hand }]);
        traces.asked.push(Asked { at: call.at + 60.0, ..call });
        traces.evidence.outcomes[at].stored_at += 61.0;
    }),
    ("a message that waited for no reason when a forwarder was killed", Menu::Kills, |traces| {
        let Some((at, sequence, call)) = last_call(traces) else { return };
        traces.lives.push(Life { from: 0.0, to: f64::INFINITY });
        traces.hands.retain(|hand| hand.sequence != sequence);
        for asked in traces.asked.iter_mut().filter(|asked| asked.message_id == call.message_id) {
            asked.at += 60.0;
        }
        traces.evidence.outcomes[at].stored_at += 61.0;
    }),
    ("a message that waited for too long for a leader", Menu::Bus, |traces| {
        let is_loss = |deed| matches!(deed, Deed::KillBus | Deed::FreezeBus);
        let lost = traces.blows.iter().rfind(|blow| is_loss(blow.deed)).map(|blow| blow.at);
        let id = traces.evidence.messages.last().map(|message| message.inbound().message_id);
        if let (Some(lost), Some(id), Some(last)) = (lost, id, traces.evidence.messages.last_mut()) {
            traces.written_at.insert(id, lost);
            last.stored_at = lost + 60.0;
        }
    }),
];

/// Of the messages that were asked about, the one with the last outcome: where that is, its sequence, and its
/// first call.
fn last_call(traces: &Traces) -> Option<(usize, u64, Asked)> {
    traces.evidence.outcomes.iter().enumerate().rev().find_map(|(at, outcome)| {
        let id = outcome.outcome().message_id;
        let call = traces.asked.iter().find(|asked| asked.message_id == id)?;
        Some((at, outcome.sequence_in(header::IN_SEQ), call.clone()))
    })
}

/// The names of the faults that the judge does not see.
pub fn unseen(traces: &Traces) -> Vec<&'static str> {
    // What a round does without cannot be broken in it.
    let lacks = [
        ("of a message that was answered", traces.poison.is_empty()),
        ("in the group", traces.beside.groups.iter().all(Vec::is_empty)),
        ("a file", traces.beside.files.is_empty()),
        ("a vote", traces.beside.votes.is_empty()),
        ("a request", traces.beside.wanted.is_empty()),
        ("taken over", traces.taken.is_empty()),
        ("a takeover", traces.taken.is_empty()),
        ("a joined text", bursts::answers(traces).is_empty()),
        ("picture", !traces.beside.wanted.iter().any(|wanted| wanted.kind == "image")),
    ];
    let lacking = |name: &str| lacks.iter().any(|(part, lacks)| *lacks && name.contains(part));
    let plants = PLANTS.iter().filter(|(name, _)| !lacking(name));
    let planted = |plant: &Plant| {
        let mut broken = traces.clone();
        plant(&mut broken);
        judge::violations(&mut broken)
    };
    let unseen = plants.filter(|(_, plant)| planted(plant).is_empty()).map(|(name, _)| *name);
    let late = LATE.iter().filter(|(_, menu, _)| is_timed(traces, *menu));
    let missed = |line: &String| line.starts_with("goal missed");
    let unmissed = late.filter(|(_, _, plant)| !planted(plant).iter().any(missed)).map(|(name, _, _)| *name);
    unseen.chain(unmissed).collect()
}

/// Rounds of this kind have goals, and this one had what they are about.
fn is_timed(traces: &Traces, menu: Menu) -> bool {
    let answered = last_call(traces).is_some();
    let hit = menu == Menu::Scale || !traces.blows.is_empty();
    traces.menu == menu && traces.cluster == (menu == Menu::Bus) && answered && hit
}
