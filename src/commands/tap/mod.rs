//! The messages on the bus for operators: one line of JSON for each.
//!
//! `tap` reads by sequence. It creates no consumer and removes nothing. `payload` and `mask` are pure: they decide
//! what a line shows and what it hides.

mod command;
mod line;
mod mask;
mod payload;

use std::collections::{BTreeSet, VecDeque};

use clap::ValueEnum;

use crate::bus::{Bus, ReadError, Start, Stored};
use crate::wire::{Account, Subjects};

pub use command::{TapArgs, TapError, run};
pub use line::Line;

/// The kind of a message, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// A customer's message.
    Message,
    /// An edit, a revoke or a reaction.
    Update,
    /// What became of a message that was sent.
    Receipt,
    /// A person has taken over a chat, or the assistant is back.
    Takeover,
    /// A person wants nothing unasked any more, or wants it again.
    OptOut,
    /// The state of the link to WhatsApp.
    Session,
    /// The outcome of a customer's message: a reply, none, or dead.
    Reply,
    /// A request by another service to send a message.
    Send,
    /// A dead letter: a message that was given up on.
    Dead,
}

impl Kind {
    /// The token in subjects.
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Update => "update",
            Self::Receipt => "receipt",
            Self::Takeover => "takeover",
            Self::OptOut => "opt-out",
            Self::Session => "session",
            Self::Reply => "reply",
            Self::Send => "send",
            Self::Dead => "dead",
        }
    }
}

/// One stream, read forwards.
#[derive(Debug)]
struct Cursor {
    stream: String,
    subject: String,
    /// Of all messages on `subject`, only these kinds; all if empty.
    kinds: BTreeSet<&'static str>,
    next: Start,
    read: VecDeque<Stored>,
    /// The last question brought no message.
    dry: bool,
}

impl Cursor {
    /// Reads the next messages if none are left.
    async fn fill(&mut self, bus: &Bus, subjects: &Subjects) -> Result<(), ReadError> {
        while self.read.is_empty() && !self.dry {
            let batch = bus.batch(&self.stream, &self.subject, self.next).await?;
            let Some(last) = batch.last() else {
                self.dry = true;
                return Ok(());
            };
            self.next = Start::Sequence(last.sequence + 1);
            let kinds = &self.kinds;
            let wanted = |stored: &Stored| {
                kinds.is_empty()
                    || subjects
                        .place(&stored.subject)
                        .is_some_and(|place| kinds.contains(place.kind.as_str()))
            };
            self.read.extend(batch.into_iter().filter(wanted));
        }
        Ok(())
    }
}

/// The three streams, read side by side.
#[derive(Debug)]
pub struct Tap {
    bus: Bus,
    subjects: Subjects,
    cursors: Vec<Cursor>,
}

impl Tap {
    /// Reads what was stored at `since_ms` or later: of one account or of all, of these kinds or of all.
    pub fn new(
        bus: Bus,
        subjects: Subjects,
        account: Option<&Account>,
        kinds: &[Kind],
        since_ms: i64,
    ) -> Self {
        let streams: [(String, &[Kind]); 3] = [
            (
                subjects.stream_in(),
                &[Kind::Message, Kind::Update, Kind::Receipt, Kind::Takeover, Kind::OptOut, Kind::Session],
            ),
            (subjects.stream_out(), &[Kind::Reply, Kind::Send]),
            (subjects.stream_dlq(), &[Kind::Dead]),
        ];
        let mut cursors = Vec::new();
        for (stream, of_stream) in streams {
            let wanted: BTreeSet<_> =
                of_stream.iter().filter(|kind| kinds.contains(kind)).map(|kind| kind.name()).collect();
            if wanted.is_empty() && !kinds.is_empty() {
                continue;
            }
            // The server takes one filter only, so several kinds are told apart here.
            let one = wanted.first().copied().filter(|_| wanted.len() == 1);
            let subject = match of_stream {
                [Kind::Dead] => subjects.dead_of(account),
                [Kind::Reply, ..] => subjects.some_out(account, one),
                _ => subjects.some_in(account, one),
            };
            let kinds = if one.is_some() { BTreeSet::new() } else { wanted };
            let next = Start::Time(since_ms);
            cursors.push(Cursor { stream, subject, kinds, next, read: VecDeque::new(), dry: false });
        }
        Self { bus, subjects, cursors }
    }

    /// The next message: across streams by the time at which it was stored, within a stream always by sequence.
    /// `None` if there is none at present. An error concerns one stream; the next call goes on where this one stopped.
    pub async fn next(&mut self) -> Result<Option<(&str, Stored)>, (String, ReadError)> {
        for cursor in &mut self.cursors {
            let filled = cursor.fill(&self.bus, &self.subjects).await;
            filled.map_err(|error| (cursor.stream.clone(), error))?;
        }
        if self.cursors.iter().all(|cursor| cursor.read.is_empty()) {
            // The next call asks again.
            self.cursors.iter_mut().for_each(|cursor| cursor.dry = false);
            return Ok(None);
        }
        let ready = self.cursors.iter_mut().filter(|cursor| !cursor.read.is_empty());
        let earliest = ready.min_by_key(|cursor| cursor.read.front().map(|stored| stored.stored_at_ms));
        Ok(earliest.and_then(|cursor| Some((cursor.stream.as_str(), cursor.read.pop_front()?))))
    }
}
