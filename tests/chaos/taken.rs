//! A person of the business takes over some chats in the middle of a round. From then on the assistant is silent there,
//! whatever breaks.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use whatsapp_connector::wire::header;
use whatsapp_connector::wire::v1::outcome::Result as Ending;
use whatsapp_connector::wire::v1::{NoReplyReason, ReceiptStatus, Takeover, TakeoverState};

use crate::random::Random;
use crate::support::{BUSINESS, Customer, Entry, Received};

/// In so many chats.
pub const CHATS: usize = 2;
/// What is drawn here comes from a seed of its own: rounds stay what they were before.
const TAKEN: u64 = 0x0074_616b_656e;

/// What happens in one of them. Pure.
#[derive(Debug, Clone)]
pub struct Story {
    /// When the customer writes.
    texts: Vec<Duration>,
    /// After so many of these the person writes.
    person_after: usize,
}

/// The stories of a round of this length.
pub fn stories(seed: u64, length: Duration) -> Vec<Story> {
    let mut random = Random::new(seed ^ TAKEN);
    let story = |random: &mut Random| {
        let (mut texts, mut at) = (Vec::new(), random.millis(200, 1_500));
        while at < length {
            texts.push(at);
            at += random.millis(300, 2_500);
        }
        let half = u64::try_from(texts.len() / 2).unwrap_or(1);
        let person_after = usize::try_from(random.between(1, half.max(1))).unwrap_or(1);
        Story { texts, person_after }
    };
    (0..CHATS).map(|_| story(&mut random)).collect()
}

/// What was written in a chat, and what there is of it at the end.
#[derive(Debug, Clone)]
pub struct Chat {
    /// The customer's number.
    pub phone: String,
    /// What the customer wrote, in order: id and text.
    texts: Vec<(String, String)>,
    /// How many of these were written before the person wrote.
    before: usize,
    /// The id of what the person wrote.
    person: String,
    /// What is on the bus of the chat.
    pub messages: Vec<Entry>,
    /// How each of these ended.
    pub outcomes: Vec<Entry>,
    /// Who has the chat, as the bus says.
    pub takeovers: Vec<Takeover>,
    /// The states of what was sent in it.
    pub receipts: Vec<Entry>,
    /// What the phone shows.
    pub inbox: Vec<Received>,
}

impl Chat {
    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.texts.len() + 1
    }
}

/// Plays one of them.
pub async fn play(customer: &Customer, story: &Story, start: Instant) -> Chat {
    let (mut texts, mut person) = (Vec::new(), String::new());
    for (count, at) in story.texts.iter().enumerate() {
        tokio::time::sleep_until(start + *at).await;
        if count == story.person_after {
            person = customer.hears_from_the_owner("Sigo yo.").await;
        }
        let text = format!("{count} de {}", customer.phone());
        texts.push((customer.write(&text).await, text));
    }
    if person.is_empty() {
        person = customer.hears_from_the_owner("Sigo yo.").await;
    }
    Chat {
        phone: customer.phone().to_owned(),
        before: story.person_after.min(texts.len()),
        texts,
        person,
        messages: Vec::new(),
        outcomes: Vec::new(),
        takeovers: Vec::new(),
        receipts: Vec::new(),
        inbox: Vec::new(),
    }
}

impl Chat {
    /// As if the assistant had answered what was written last.
    pub fn answer_the_last(&mut self) {
        let Some((_, text)) = self.texts.last() else { return };
        let text = format!("eco: {text}");
        if let Some(mut answer) = self.inbox.last().cloned() {
            answer.more.insert("from".to_owned(), BUSINESS.into());
            self.inbox.push(Received { text, ..answer });
        }
    }

    /// How many texts come before what the person wrote. Of what both write at the same moment either may be first on the bus.
    fn before(&self) -> usize {
        let place = |id: &str| self.messages.iter().position(|entry| entry.inbound().message_id == id);
        let next = self.texts.get(self.before).and_then(|(id, _)| place(id));
        let is_first = next.zip(place(&self.person)).is_some_and(|(next, person)| next < person);
        self.before + usize::from(is_first)
    }

    /// Every broken promise.
    pub fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut say = |what: String| broken.push(format!("{}: {what}", self.phone));
        self.each_is_there_once(&mut say);
        let began = self.takeovers.iter().filter(|one| one.state() == TakeoverState::Began).count();
        if began != 1 || self.takeovers.iter().any(|one| one.state() == TakeoverState::Ended) {
            say(format!("the bus says {} times that a person has the chat: {:?}", began, self.takeovers));
        }
        self.silent_from_then_on(&mut say);
        self.answered_or_held_back_before(&mut say);
        broken
    }

    fn each_is_there_once(&self, say: &mut impl FnMut(String)) {
        let written: Vec<&str> = self.texts.iter().map(|(id, _)| id.as_str()).collect();
        let mut stored: Vec<String> = self.messages.iter().map(|entry| entry.inbound().message_id).collect();
        // The two sides of a chat write by themselves: of what they write at the same moment either may be first.
        let persons = stored.extract_if(.., |id| *id == self.person).count();
        if stored != written || persons != 1 {
            say(format!(
                "was written {written:?}, the bus has {stored:?}, and what the person wrote {persons} times"
            ));
        }
        let sequences: Vec<u64> = self.messages.iter().map(|entry| entry.sequence).collect();
        let ended: Vec<u64> = self.outcomes.iter().map(|entry| entry.sequence_in(header::IN_SEQ)).collect();
        if sequences != ended {
            say(format!("messages {sequences:?} on the bus, outcomes for {ended:?}"));
        }
    }

    /// The texts that the phone shows answers to, in order.
    fn answered(&self) -> Vec<&str> {
        let answers = self.inbox.iter().filter(|one| one.more["from"] == BUSINESS);
        let answers = answers.filter_map(|one| one.text.strip_prefix("eco: "));
        answers.flat_map(str::lines).collect()
    }

    fn silent_from_then_on(&self, say: &mut impl FnMut(String)) {
        let answered: BTreeSet<&str> = self.answered().into_iter().collect();
        for (id, text) in &self.texts[self.before()..] {
            if answered.contains(text.as_str()) {
                say(format!("{id} was written after a person had taken over, and the assistant answered it"));
            }
        }
    }

    fn answered_or_held_back_before(&self, say: &mut impl FnMut(String)) {
        let (answered, texts) = (self.answered(), &self.texts[..self.before()]);
        let in_order: Vec<&str> =
            texts.iter().map(|(_, text)| text.as_str()).filter(|text| answered.contains(text)).collect();
        if answered != in_order {
            say(format!("the phone shows answers to {answered:?}"));
        }
        let receipts = self.receipts.iter().map(Entry::receipt);
        let held_back: BTreeSet<String> = receipts
            .filter(|receipt| receipt.status() == ReceiptStatus::Failed && receipt.reason == "human")
            .map(|receipt| receipt.request_id)
            .collect();
        for (message, outcome) in self.messages.iter().zip(&self.outcomes) {
            let (message, ending) = (message.inbound(), outcome.outcome());
            let text =
                self.texts.iter().find(|(id, _)| *id == message.message_id).map(|(_, text)| text.as_str());
            let is_shown = text.is_some_and(|text| answered.contains(&text));
            let is_held = held_back.iter().any(|id| id.contains(&format!("/{}/", message.message_id)));
            match ending.result {
                // Both, if an edge died over it: the next one does not know that it was sent, and holds it back.
                Some(Ending::Reply(_)) if is_shown || is_held => {}
                Some(Ending::None(none)) if !is_shown => match none.reason() {
                    NoReplyReason::Human | NoReplyReason::Joined | NoReplyReason::FromMe => {}
                    other => say(format!("{}: no answer, because {other:?}", message.message_id)),
                },
                // Its words were asked about with those of a later one.
                Some(Ending::None(none)) if none.reason() == NoReplyReason::Joined => {}
                other => {
                    say(format!("{}: {other:?}, shown: {is_shown}, held back: {is_held}", message.message_id))
                }
            }
        }
    }
}
