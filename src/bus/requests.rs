//! Questions and answers between running processes, over core NATS. Nothing is stored, because no process needs them
//! later.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;

use super::refusals::Listener;
use super::{Bus, ReadError};

impl Bus {
    /// Receives every question on `subject`.
    ///
    /// Nothing depends on it. If the server does not allow it, that is a warning in the log, and the subscription is
    /// tried again with each new connection.
    pub async fn questions(&self, subject: &str) -> Result<Questions, ReadError> {
        self.refusals.tolerate("that this process hears what `whatsapp-connector status` asks", subject);
        let questions = self.client.subscribe(subject.to_owned()).await;
        let questions = questions.map_err(|error| ReadError::new(&error))?;
        Ok(Questions { bus: self.clone(), questions })
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

/// A core subscription to questions.
#[derive(Debug)]
pub struct Questions {
    bus: Bus,
    questions: async_nats::Subscriber,
}

impl Questions {
    /// The subject for the answer to the next question; `None` when the connection is closed for good.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(reply) = self.questions.next().await?.reply {
                return Some(reply.to_string());
            }
        }
    }

    /// Answers a question. The server may refuse that as well.
    pub async fn answer(&self, reply: String, answer: Vec<u8>) {
        self.bus.refusals.tolerate("that this process answers `whatsapp-connector status`", &reply);
        // The client that asked may be gone by now.
        if let Err(error) = self.bus.client.publish(reply, answer.into()).await {
            tracing::debug!(%error, "an answer could not be sent");
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
