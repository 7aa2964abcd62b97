//! Questions and answers between running processes, over core NATS. Nothing is stored, because no process needs them
//! later.

use std::time::{Duration, Instant};

use async_nats::Request;
use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, SelectAll};

use super::refusals::Listener;
use super::{Bus, ReadError};
use crate::wire::{Subjects, micro};

/// What would be missing without the permission, in the words of a warning.
#[derive(Debug, Clone, Copy)]
pub struct Courtesy {
    /// Without the subscription.
    pub hears: &'static str,
    /// Without the right to answer.
    pub answers: &'static str,
}

/// Why somebody has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody hears it.
    #[error("nobody answers there")]
    Nobody,
    /// It was refused, and why.
    #[error("{text}")]
    Refused {
        /// The number.
        code: String,
        /// Why, and what helps.
        text: String,
    },
    /// There is no answer.
    #[error(transparent)]
    Bus(#[from] ReadError),
}

impl Bus {
    /// Receives every question on `subjects`; with a `group`, one of its members receives each.
    ///
    /// Nothing depends on it. If the server does not allow it, that is a warning in the log, and the subscription is
    /// tried again with each new connection.
    pub async fn questions(
        &self,
        own: &Subjects,
        what: Courtesy,
        subjects: &[String],
        group: Option<&'static str>,
    ) -> Result<Questions, ReadError> {
        let mut questions = Vec::new();
        for subject in subjects {
            self.refusals.tolerate_too(what.hears, subject);
            let subject = subject.to_owned();
            let heard = match group {
                Some(group) => self.client.queue_subscribe(subject, group.to_owned()).await,
                None => self.client.subscribe(subject).await,
            };
            questions.push(heard.map_err(|error| ReadError::new(&error))?);
        }
        Ok(Questions { own: own.clone(), questions: stream::select_all(questions) })
    }

    /// Answers a question. The server may refuse that as well.
    pub async fn answer(&self, what: Courtesy, reply: String, answer: Vec<u8>) {
        self.refusals.tolerate_lately(what.answers, &reply);
        // The client that asked may be gone by now.
        if let Err(error) = self.client.publish(reply, answer.into()).await {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }

    /// Refuses what was asked, as micro services do.
    pub async fn refuse(&self, what: Courtesy, reply: String, (code, why): (u16, &str), body: Vec<u8>) {
        self.refusals.tolerate_lately(what.answers, &reply);
        // Words of nats-server may be in it, and a header has one line.
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(micro::ERROR, why.as_str());
        headers.insert(micro::ERROR_CODE, code.to_string());
        if let Err(error) = self.client.publish_with_headers(reply, headers, body.into()).await {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }

    /// A name that nobody else has.
    pub fn unique(&self) -> String {
        self.client.new_inbox().rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// Asks whoever answers on `subject` first, for so long.
    pub async fn ask_one(
        &self,
        subject: &str,
        question: Vec<u8>,
        bound: Duration,
    ) -> Result<Bytes, AskError> {
        let mut refusals = self.refusals.listen();
        let request = Request::new().payload(question.into()).timeout(Some(bound));
        let answer = tokio::select! {
            biased;
            answer = self.client.send_request(subject.to_owned(), request) => answer,
            why = refusals.refused(subject) => return Err(ReadError::Forbidden(why).into()),
        };
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => AskError::Nobody,
            _ => ReadError::new(&error).into(),
        })?;
        let said = |name| answer.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        match said(micro::ERROR_CODE) {
            Some(code) => Err(AskError::Refused { code, text: said(micro::ERROR).unwrap_or_default() }),
            None => Ok(answer.payload),
        }
    }

    /// Asks all processes on `subject`. [`Answers::all`] reads their answers.
    pub async fn ask_all(&self, subject: &str) -> Result<Answers, ReadError> {
        let refusals = self.refusals.listen();
        let inbox = self.client.new_inbox();
        let failed = |error: &dyn std::fmt::Display| ReadError::new(error);
        let answers = self.client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        let asked = self.client.publish_with_reply(subject.to_owned(), inbox, Bytes::new());
        asked.await.map_err(|error| failed(&error))?;
        Ok(Answers { refusals, subject: subject.to_owned(), answers, asked: Instant::now() })
    }
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// Where it was asked.
    pub subject: String,
    /// What is asked.
    pub payload: Bytes,
    /// Where the answer goes. Neither to a subject of ours nor to one of nats-server's.
    pub reply: String,
}

/// Core subscriptions to questions.
#[derive(Debug)]
pub struct Questions {
    own: Subjects,
    questions: SelectAll<async_nats::Subscriber>,
}

impl Questions {
    /// The next question; `None` when the connection is closed for good. Cancel-safe.
    ///
    /// Whoever asks chooses where the answer goes. A user that may ask must not be able to make this process write into a
    /// stream, a lease or an ack.
    pub async fn next(&mut self) -> Option<Question> {
        loop {
            let asked = self.questions.next().await?;
            if let Some(reply) = asked.reply.filter(|reply| !self.own.is_reserved(reply)) {
                let (subject, reply) = (asked.subject.to_string(), reply.to_string());
                return Some(Question { subject, payload: asked.payload, reply });
            }
        }
    }
}

/// Answers that arrive, and are kept until they are read.
pub struct Answers {
    /// Subscribed before the question was asked.
    refusals: Listener,
    subject: String,
    answers: async_nats::Subscriber,
    asked: Instant,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Answers {
    /// All answers until no new one has come for `quiet`, or until `bound` after the question.
    pub async fn all(mut self, quiet: Duration, bound: Duration) -> Result<Vec<Bytes>, ReadError> {
        let mut all = Vec::new();
        loop {
            // Answers that are here already are read even after `bound`.
            let left = bound.saturating_sub(self.asked.elapsed()).min(quiet);
            tokio::select! {
                biased;
                answer = tokio::time::timeout(left, self.answers.next()) => match answer {
                    Ok(Some(message)) if message.status.is_none() => all.push(message.payload),
                    // No process listens, or none is left.
                    _ => return Ok(all),
                },
                why = self.refusals.refused(&self.subject) => return Err(ReadError::Forbidden(why)),
            }
        }
    }
}
