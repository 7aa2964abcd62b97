//! Each message's way in three legs, with their times.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use crate::conduct::Traces;

/// What takes longer than this is worth a line.
const LATE_S: f64 = 1.0;

/// Which part of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the customer's phone into `WA_IN`.
    In,
    /// From the message's turn to its stored outcome.
    Turn,
    /// From the stored reply to the customer's phone.
    Out,
}

/// One leg of one message.
#[derive(Debug, Clone)]
pub struct Leg {
    /// The message's id.
    pub id: String,
    /// Which.
    pub way: Way,
    /// Unix seconds.
    pub from: f64,
    /// Unix seconds.
    pub to: f64,
    /// How much of it was the backend's, in seconds.
    pub backend: f64,
}

impl Leg {
    /// Without what the backend took.
    pub fn took(&self) -> f64 {
        (self.to - self.from - self.backend).max(0.0)
    }
}

/// The legs that were gone to their end.
pub fn legs(traces: &Traces) -> Vec<Leg> {
    let ready = ready(traces);
    let mut backend: BTreeMap<&str, f64> = BTreeMap::new();
    for asked in &traces.asked {
        let took = asked.answered.map_or(0.0, |answered| answered - asked.at);
        *backend.entry(&asked.message_id).or_default() += took;
    }
    let mut legs = Vec::new();
    for message in &traces.evidence.messages {
        let id = message.inbound().message_id;
        let mut leg = |way, from, to, backend| legs.push(Leg { id: id.clone(), way, from, to, backend });
        if let Some(written) = traces.written_at.get(&id) {
            leg(Way::In, *written, message.stored_at, 0.0);
        }
        if let (Some(ready), Some(outcome)) = (ready.get(&message.sequence), traces.outcome_of(message)) {
            leg(Way::Turn, *ready, outcome.stored_at, backend.get(id.as_str()).copied().unwrap_or(0.0));
        }
    }
    legs.extend(replies(traces));
    legs
}

/// What was done, and what took longer than a second without the backend, by time: for whoever reads the logs.
pub fn late(traces: &Traces) -> String {
    let time = |unix: f64| {
        let time = OffsetDateTime::from_unix_timestamp_nanos((unix * 1e9) as i128);
        time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
    };
    let blows = traces.blows.iter().map(|blow| (blow.at, format!("{} {:?}\n", time(blow.at), blow.deed)));
    let late = legs(traces).into_iter().filter(|leg| leg.took() > LATE_S);
    let late = late.map(|leg| {
        let (from, to, took) = (time(leg.from), time(leg.to), leg.took());
        (leg.from, format!("{from} - {to} {took:.3} s {:?} {}\n", leg.way, leg.id))
    });
    let mut lines: Vec<(f64, String)> = blows.chain(late).collect();
    lines.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    lines.into_iter().map(|(_, line)| line).collect()
}

/// A chat's replies arrive in the order of their outcomes; that they do is checked elsewhere.
fn replies(traces: &Traces) -> Vec<Leg> {
    let mut legs = Vec::new();
    for (phone, inbox) in &traces.evidence.inboxes {
        let outcomes = traces.evidence.outcomes.iter().filter(|outcome| outcome.chat() == phone);
        let replies = outcomes.filter_map(|entry| {
            let outcome = entry.outcome();
            let is_one = match outcome.result? {
                Ending::Reply(_) => true,
                Ending::Dead(dead) => !dead.fallback_text.is_empty(),
                Ending::None(_) => false,
            };
            is_one.then_some((outcome.message_id, entry.stored_at))
        });
        for ((id, from), received) in replies.zip(inbox) {
            if let Some(to) = unix(&received.at) {
                legs.push(Leg { id, way: Way::Out, from, to, backend: 0.0 });
            }
        }
    }
    legs
}

/// When each message's turn began, by sequence: once it was stored, and the outcome of the one before it.
pub fn ready(traces: &Traces) -> BTreeMap<u64, f64> {
    let messages = traces.evidence.messages.iter();
    let mut ready: BTreeMap<u64, f64> =
        messages.map(|message| (message.sequence, message.stored_at)).collect();
    for (before, message) in traces.pairs() {
        let outcome = traces.outcome_of(before).map_or(f64::INFINITY, |outcome| outcome.stored_at);
        if let Some(at) = ready.get_mut(&message.sequence) {
            *at = at.max(outcome);
        }
    }
    ready
}

/// A time as the parts write it.
pub fn unix(rfc3339: &str) -> Option<f64> {
    let at = OffsetDateTime::parse(rfc3339, &Rfc3339).ok()?;
    Some(at.unix_timestamp_nanos() as f64 / 1e9)
}
