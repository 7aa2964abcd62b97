//! What nats-server does not allow this user.
//!
//! A refused publish or subscription gets no answer. The server reports it as an error of the connection. This module
//! passes that report on to the caller that waits for an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::telemetry::redact;

/// The most different refusals that are logged for one connection. Each chat has a subject of its own, so there may be
/// very many.
const TOLD: usize = 100;

/// So many answers may be on their way. Each goes to a subject of its own.
const LATELY: usize = 256;

/// What the subject of the last of several questions begins with, before an inbox: once it is refused, all refusals are here.
pub(super) const MARK: &str = "check";

/// The refusals. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Refusals {
    /// The prefix of the subjects for answers.
    inbox: Arc<str>,
    heard: broadcast::Sender<Arc<str>>,
    told: Arc<Mutex<BTreeSet<String>>>,
    /// What may not be published on this connection: subjects without their last token, of which each chat has its own.
    unpublished: Arc<Mutex<BTreeSet<String>>>,
    /// Subjects that nothing depends on: what a refusal takes away, and the text that names the subject in a refusal.
    courtesies: Arc<Mutex<BTreeMap<&'static str, VecDeque<String>>>>,
}

impl Refusals {
    pub(super) fn new(inbox: &str) -> Self {
        Self {
            inbox: inbox.into(),
            heard: broadcast::channel(64).0,
            told: Arc::default(),
            unpublished: Arc::default(),
            courtesies: Arc::default(),
        }
    }

    /// The prefix of the subjects for answers.
    pub(super) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// A new connection has been made. What was refused may be allowed now.
    pub(super) fn forget(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.unpublished.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Has the server refused to take a message on this subject or one beside it, over this connection?
    pub(super) fn has_refused(&self, subject: &str) -> bool {
        self.unpublished.lock().unwrap_or_else(PoisonError::into_inner).contains(above(subject))
    }

    /// The server has refused something, in its own words.
    pub(super) fn hear(&self, words: &str) {
        let safe = redact::text(&words);
        if let Some(subject) = unpublished(words) {
            let mut all = self.unpublished.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() < TOLD {
                all.insert(above(subject).to_owned());
            }
        }
        let courtesy = self.courtesy(words);
        // The mark at the end of the questions: it is refused wherever not all is allowed, and says nothing.
        if words.contains(&format!("\"{MARK}.{}.", self.inbox)) {
            let _ = self.heard.send(words.into());
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = courtesy {
            if told.insert(what.to_owned()) {
                tracing::warn!(error = safe, "nats-server refuses {what}; everything else works without it");
            }
        } else if told.len() < TOLD && told.insert(safe.clone()) {
            tracing::error!(error = safe, "nats-server refuses something that this role needs");
        }
        // Fails if no caller waits, and that is fine.
        let _ = self.heard.send(words.into());
    }

    /// Nothing depends on `subject`. If the server refuses it, one warning names `what`.
    pub(super) fn tolerate(&self, what: &'static str, subject: &str) {
        self.courtesies().insert(what, VecDeque::from([quoted(subject)]));
    }

    /// The same, beside the subjects that `what` has already. There are only so many of them.
    pub(super) fn tolerate_too(&self, what: &'static str, subject: &str) {
        let mut courtesies = self.courtesies();
        let (all, subject) = (courtesies.entry(what).or_default(), quoted(subject));
        if !all.contains(&subject) {
            all.push_back(subject);
        }
    }

    /// The same, and the oldest are forgotten.
    pub(super) fn tolerate_lately(&self, what: &'static str, subject: &str) {
        let mut courtesies = self.courtesies();
        let all = courtesies.entry(what).or_default();
        if all.len() >= LATELY {
            all.pop_front();
        }
        all.push_back(quoted(subject));
    }

    /// Nothing depends on the subjects that begin so.
    pub(super) fn tolerate_below(&self, what: &'static str, beginning: &str) {
        self.courtesies().insert(what, VecDeque::from([format!("\"{beginning}")]));
    }

    fn courtesies(&self) -> MutexGuard<'_, BTreeMap<&'static str, VecDeque<String>>> {
        self.courtesies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn courtesy(&self, words: &str) -> Option<&'static str> {
        let courtesies = self.courtesies();
        let named = |quoted: &VecDeque<String>| quoted.iter().any(|quoted| words.contains(quoted.as_str()));
        courtesies.iter().find(|(_, quoted)| named(quoted)).map(|(what, _)| *what)
    }

    /// Listens for refusals from now on.
    pub(super) fn listen(&self) -> Listener {
        Listener { inbox: Arc::clone(&self.inbox), heard: self.heard.subscribe() }
    }
}

/// Receives all refusals since it was created.
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

    /// Returns when the server refuses a publish to `subject` or below it, or the inbox for the answer. Returns what
    /// was refused, in words.
    pub(super) async fn refused(&mut self, subject: &str) -> String {
        loop {
            let words = self.next().await;
            let said = redact::text(&words);
            if is_publish(&words, subject) {
                return format!("this user may not ask: {said}");
            }
            if is_subscription(&words, &self.inbox) {
                return format!(
                    "this user may not receive answers: {said}; set NATS_INBOX_PREFIX to a prefix that it may subscribe to"
                );
            }
        }
    }
}

/// As the server names a subject.
fn quoted(subject: &str) -> String {
    format!("\"{subject}\"")
}

/// The subject on which a message was refused.
fn unpublished(words: &str) -> Option<&str> {
    if !words.to_lowercase().contains("for publish to") {
        return None;
    }
    words.split('"').nth(1)
}

/// The subject without its last token.
fn above(subject: &str) -> &str {
    subject.rsplit_once('.').map_or(subject, |(above, _)| above)
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
            refusals.tolerate_lately("answers", &inbox);
            refusals.hear(&format!("Permissions Violation for Publish to \"{inbox}\""));
        }
        assert_eq!(refusals.told.lock().unwrap().iter().cloned().collect::<Vec<_>>(), ["answers"]);
        refusals.hear("Permissions Violation for Publish to \"wa.in.a.session\"");
        assert_eq!(refusals.told.lock().unwrap().len(), 2, "what is needed is told in the server's words");
    }

    #[test]
    fn what_may_not_be_published_is_known_until_the_next_connection() {
        let refusals = Refusals::new("_INBOX");
        refusals.hear("Permissions Violation for Publish to \"wa.out.default.reply.54911\"");
        refusals.hear("Permissions Violation for Subscription to \"wa.in.default.message.54911\"");
        assert!(refusals.has_refused("wa.out.default.reply.54922"));
        assert!(!refusals.has_refused("wa.out.default.send.54911"));
        assert!(!refusals.has_refused("wa.in.default.message.54911"));
        refusals.forget();
        assert!(!refusals.has_refused("wa.out.default.reply.54911"));
    }

    #[test]
    fn a_phone_number_is_not_told() {
        let refusals = Refusals::new("_INBOX");
        refusals.hear("Permissions Violation for Publish to \"wa.out.default.reply.5491112345678\"");
        let told = refusals.told.lock().unwrap().iter().next().cloned().unwrap();
        assert!(told.contains("…5678") && !told.contains("549111"), "{told}");
    }
}
