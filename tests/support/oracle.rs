//! What the promises say of the traces that messages leave behind: in the streams, in the backend's call
//! log and on the customers' phones.

use std::collections::{BTreeMap, BTreeSet};

use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::outcome::Result as Ending;

use super::simulator::Received;
use super::{Call, Customer, Entry};

/// The backend's and the bus's clocks are one machine's, and read a moment apart.
const CLOCKS_S: f64 = 0.005;

/// What a customer wrote, and what has to come back.
#[derive(Debug, Clone)]
pub struct Written {
    /// The customer's number.
    pub phone: String,
    /// The message's WhatsApp id.
    pub id: String,
    /// What the phone must show in answer; `None`: nothing.
    pub answer: Option<String>,
}

impl Written {
    /// A text that the backend echoes.
    pub fn echoed(phone: &str, id: String, text: &str) -> Self {
        Self { phone: phone.to_owned(), id, answer: Some(format!("eco: {text}")) }
    }

    /// A message that gets no answer.
    pub fn unanswered(phone: &str, id: String) -> Self {
        Self { phone: phone.to_owned(), id, answer: None }
    }
}

/// Each customer writes its message number `number`.
pub async fn write_each(customers: &[Customer], number: usize) -> Vec<Written> {
    let mut written = Vec::new();
    for customer in customers {
        let text = format!("{number} de {}", customer.phone());
        let id = customer.write(&text).await;
        written.push(Written::echoed(customer.phone(), id, &text));
    }
    written
}

/// Everything that can be seen from outside when all is over.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// `WA_IN`'s user messages.
    pub messages: Vec<Entry>,
    /// `WA_OUT`'s outcomes.
    pub outcomes: Vec<Entry>,
    /// The backend's call log.
    pub calls: Vec<Call>,
    /// What each phone shows.
    pub inboxes: BTreeMap<String, Vec<Received>>,
}

impl Evidence {
    /// `written` in the order in which it came to the bus, for tests in which WhatsApp's side may lose the
    /// order. What never came is last.
    pub fn as_it_came(&self, mut written: Vec<Written>) -> Vec<Written> {
        let ids: Vec<String> = self.messages.iter().map(|entry| entry.inbound().message_id).collect();
        written.sort_by_key(|one| ids.iter().position(|id| *id == one.id).unwrap_or(usize::MAX));
        written
    }

    /// Panics with every broken promise.
    #[track_caller]
    pub fn assert_kept(&self, written: &[Written]) {
        let broken = self.violations(written);
        assert!(broken.is_empty(), "{} broken promises:\n{}", broken.len(), broken.join("\n"));
    }

    /// Every broken promise, one a line. `written` is in the order of writing, per chat.
    pub fn violations(&self, written: &[Written]) -> Vec<String> {
        let mut chats: BTreeMap<&str, Vec<&Written>> = BTreeMap::new();
        for one in written {
            chats.entry(&one.phone).or_default().push(one);
        }
        let mut broken = Vec::new();
        for (phone, written) in &chats {
            let chat = Chat {
                phone,
                written,
                messages: self.messages.iter().filter(|entry| entry.chat() == *phone).collect(),
                outcomes: self.outcomes.iter().filter(|entry| entry.chat() == *phone).collect(),
                calls: self.calls.iter().filter(|call| call.from_number.as_deref() == Some(*phone)).collect(),
                inbox: self.inboxes.get(*phone).map_or(&[], Vec::as_slice),
            };
            chat.judge(&mut broken);
        }
        let known: BTreeSet<&str> = chats.keys().copied().collect();
        for entry in self.messages.iter().chain(&self.outcomes) {
            if !known.contains(entry.chat()) {
                broken.push(format!("{}: a chat that nobody wrote in", entry.subject));
            }
        }
        broken
    }

    /// How many messages were on the bus before the one before them, in their chat, had its outcome: where
    /// there are none, there is no order to keep.
    pub fn chances_to_overtake(&self) -> usize {
        let ended_at =
            |before: &Entry| self.outcome_of(before).map_or(f64::INFINITY, |outcome| outcome.stored_at);
        let mut chats: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.messages {
            chats.entry(entry.chat()).or_default().push(entry);
        }
        let pairs = chats.values().flat_map(|messages| messages.windows(2));
        pairs.filter(|pair| pair[1].stored_at < ended_at(pair[0])).count()
    }

    /// How an inbound message ended.
    pub fn outcome_of(&self, message: &Entry) -> Option<&Entry> {
        self.outcomes.iter().find(|entry| entry.sequence_in(header::IN_SEQ) == message.sequence)
    }

    /// How often the backend was called for a message.
    pub fn calls_of(&self, id: &str) -> usize {
        self.calls.iter().filter(|call| call.message_id.as_deref() == Some(id)).count()
    }
}

struct Chat<'a> {
    phone: &'a str,
    written: &'a [&'a Written],
    messages: Vec<&'a Entry>,
    outcomes: Vec<&'a Entry>,
    calls: Vec<&'a Call>,
    inbox: &'a [Received],
}

impl Chat<'_> {
    fn judge(&self, broken: &mut Vec<String>) {
        let mut say = |what: String| broken.push(format!("{}: {what}", self.phone));
        self.nothing_lost(&mut say);
        self.one_outcome_each_in_order(&mut say);
        self.a_linked_list(&self.messages, &mut say);
        self.a_linked_list(&self.outcomes, &mut say);
        self.called_in_turn(&mut say);
        self.one_answer_each_in_order(&mut say);
    }

    fn nothing_lost(&self, say: &mut impl FnMut(String)) {
        let written: Vec<&str> = self.written.iter().map(|one| one.id.as_str()).collect();
        let stored: Vec<String> = self.messages.iter().map(|entry| entry.inbound().message_id).collect();
        if stored != written {
            say(format!("wrote {written:?}, the bus has {stored:?}"));
        }
    }

    fn one_outcome_each_in_order(&self, say: &mut impl FnMut(String)) {
        let stored: Vec<u64> = self.messages.iter().map(|entry| entry.sequence).collect();
        let ended: Vec<u64> = self.outcomes.iter().map(|entry| entry.sequence_in(header::IN_SEQ)).collect();
        if ended != stored {
            say(format!("messages {stored:?} on the bus, outcomes for {ended:?}"));
        }
    }

    /// Each names the one before it.
    fn a_linked_list(&self, entries: &[&Entry], say: &mut impl FnMut(String)) {
        let mut before = 0;
        for entry in entries {
            let named = entry.sequence_in(header::PREV_SEQ);
            if named != before {
                say(format!("{} {} comes after {before} and names {named}", entry.subject, entry.sequence));
            }
            before = entry.sequence;
        }
    }

    /// A message is given to the backend only after the outcome of the one before it is stored.
    fn called_in_turn(&self, say: &mut impl FnMut(String)) {
        for pair in self.messages.windows(2) {
            let [before, message] = pair else { continue };
            let inbound = message.inbound();
            if inbound.replay.is_some() {
                continue; // its id is the original's, and so is the first call for it
            }
            let id = inbound.message_id;
            let Some(called) = self.calls.iter().find(|call| call.message_id.as_deref() == Some(&id)) else {
                continue;
            };
            let outcome =
                self.outcomes.iter().find(|entry| entry.sequence_in(header::IN_SEQ) == before.sequence);
            match outcome {
                None => say(format!(
                    "out of turn: the backend was asked {id}, and {} has no outcome",
                    before.sequence
                )),
                Some(outcome) if called.started_at + CLOCKS_S < outcome.stored_at => say(format!(
                    "out of turn: the backend was asked {id} {:.0} ms before the outcome of {} was stored",
                    (outcome.stored_at - called.started_at) * 1e3,
                    before.sequence
                )),
                Some(_) => {}
            }
        }
    }

    fn one_answer_each_in_order(&self, say: &mut impl FnMut(String)) {
        let expected: Vec<&str> = self.written.iter().filter_map(|one| one.answer.as_deref()).collect();
        let shown: Vec<&str> = self.inbox.iter().map(|received| received.text.as_str()).collect();
        if shown != expected {
            say(format!("the phone must show {expected:?} and shows {shown:?}"));
        }
        for received in self.inbox {
            if received.copies > 2 {
                say(format!("{} arrived {} times", received.id, received.copies));
            }
        }
        let replies = self.outcomes.iter().filter(|entry| match entry.outcome().result {
            Some(Ending::Reply(_)) => true,
            Some(Ending::Dead(dead)) => !dead.fallback_text.is_empty(),
            Some(Ending::None(_)) | None => false,
        });
        let replies = replies.count();
        if replies != expected.len() {
            say(format!("{} messages are to be answered, {replies} outcomes are answers", expected.len()));
        }
    }
}
