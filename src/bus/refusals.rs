//! What nats-server does not allow this user.
//!
//! A refused publish or subscription is never answered: the server says so in passing, on the connection.
//! Here whoever waits for an answer hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::telemetry::redact;

/// How many different refusals are told in one connection's life: a chat's subject is one of its own.
const TOLD: usize = 100;

/// Refusals as they come. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Refusals {
    /// What the subjects begin with that answers come to.
    inbox: Arc<str>,
    heard: broadcast::Sender<Arc<str>>,
    told: Arc<Mutex<BTreeSet<String>>>,
    /// Of what nothing depends on: what the words of a refusal hold, and what is missed by it.
    courtesies: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Refusals {
    pub(super) fn new(inbox: &str) -> Self {
        Self {
            inbox: inbox.into(),
            heard: broadcast::channel(64).0,
            told: Arc::default(),
            courtesies: Arc::default(),
        }
    }

    /// What the subjects begin with that answers come to.
    pub(super) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// A new connection: what was refused may be allowed now.
    pub(super) fn forget(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The server has refused something, in its own words.
    pub(super) fn hear(&self, words: &str) {
        let safe = redact::text(&words);
        let courtesy = self.courtesy(words);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = courtesy {
            if told.insert(what.to_owned()) {
                tracing::warn!(error = safe, "nats-server refuses {what}; all else goes on without it");
            }
        } else if told.len() < TOLD && told.insert(safe.clone()) {
            tracing::error!(error = safe, "nats-server refuses something that this role needs");
        }
        // Nobody may be waiting.
        let _ = self.heard.send(words.into());
    }

    /// Nothing depends on `subject`: if the server refuses it, that is told once for all of `what`.
    pub(super) fn tolerate(&self, what: &'static str, subject: &str) {
        let mut courtesies = self.courtesies.lock().unwrap_or_else(PoisonError::into_inner);
        courtesies.insert(what, format!("\"{subject}\""));
    }

    fn courtesy(&self, words: &str) -> Option<&'static str> {
        let courtesies = self.courtesies.lock().unwrap_or_else(PoisonError::into_inner);
        courtesies.iter().find(|(_, quoted)| words.contains(quoted.as_str())).map(|(what, _)| *what)
    }

    /// From now on.
    pub(super) fn listen(&self) -> Listener {
        Listener { inbox: Arc::clone(&self.inbox), heard: self.heard.subscribe() }
    }
}

/// Hears what is refused, from its making on.
pub(super) struct Listener {
    inbox: Arc<str>,
    heard: broadcast::Receiver<Arc<str>>,
}

impl Listener {
    /// The next refusal, in the server's words. Cancel-safe.
    pub(super) async fn next(&mut self) -> Arc<str> {
        loop {
            match self.heard.recv().await {
                Ok(words) => return words,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                // The connection is gone for good; the request's own time-out says so.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Ends when a publish to `subject` or below it, or the inbox that the answer has to come to, is refused;
    /// says so.
    pub(super) async fn refused(&mut self, subject: &str) -> String {
        loop {
            let words = self.next().await;
            let said = redact::text(&words);
            if is_publish(&words, subject) {
                return format!("this user must not ask: {said}");
            }
            if is_subscription(&words, &self.inbox) {
                return format!(
                    "this user hears no answers: {said}; set NATS_INBOX_PREFIX to what it may subscribe to"
                );
            }
        }
    }
}

fn is_publish(words: &str, subject: &str) -> bool {
    words.to_lowercase().contains("for publish to")
        && (words.contains(&format!("\"{subject}\"")) || words.contains(&format!("\"{subject}.")))
}

fn is_subscription(words: &str, inbox: &str) -> bool {
    words.to_lowercase().contains("for subscription to") && words.contains(&format!("\"{inbox}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_an_answer_hears_that_none_will_come() {
        let refusals = Refusals::new("_INBOX");
        let mut listener = refusals.listen();
        refusals.hear("Permissions Violation for Publish to \"$JS.API.STREAM.INFO.WA_OUT\"");
        refusals.hear("Permissions Violation for Publish to \"$JS.API.STREAM.INFO.WA_IN\"");
        let said = listener.refused("$JS.API.STREAM.INFO.WA_IN").await;
        assert!(said.contains("WA_IN\"") && !said.contains("NATS_INBOX_PREFIX"), "{said}");
        refusals.hear("Permissions Violation for Subscription to \"_INBOX.abc.*\"");
        let said = listener.refused("$JS.API.STREAM.INFO.WA_IN").await;
        assert!(said.contains("NATS_INBOX_PREFIX"), "{said}");
    }

    #[test]
    fn what_nothing_depends_on_is_told_once_and_as_such() {
        let refusals = Refusals::new("_INBOX");
        for request in 0..3 {
            let inbox = format!("_INBOX_operator.{request}");
            refusals.tolerate("answers", &inbox);
            refusals.hear(&format!("Permissions Violation for Publish to \"{inbox}\""));
        }
        assert_eq!(refusals.told.lock().unwrap().iter().cloned().collect::<Vec<_>>(), ["answers"]);
        refusals.hear("Permissions Violation for Publish to \"wa.in.a.session\"");
        assert_eq!(refusals.told.lock().unwrap().len(), 2, "what is needed is told in the server's words");
    }

    #[test]
    fn a_phone_number_is_not_told() {
        let refusals = Refusals::new("_INBOX");
        refusals.hear("Permissions Violation for Publish to \"wa.out.default.reply.5491112345678\"");
        let told = refusals.told.lock().unwrap().iter().next().cloned().unwrap();
        assert!(told.contains("…5678") && !told.contains("549111"), "{told}");
    }
}
