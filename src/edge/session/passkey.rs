//! The passkey that WhatsApp wants to see before it links a number, and what a person does about it.
//!
//! WhatsApp sends a challenge. Only a browser on WhatsApp's own page may have it signed, so that a person carries it there
//! and brings the answer back. Then the phone and this side show the same eight characters, and the person says so.
//! All of it belongs to one connection: if that ends, it begins anew with the next QR code.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use whatsapp_rust::passkey::{Assertion, build_webauthn_assertion_json, parse_request_options};

/// As long as WhatsApp waits for the answer, if it does not say how long.
const LIVES: Duration = Duration::from_secs(600);
/// A person needs that much at least, whatever WhatsApp says.
const AT_LEAST: Duration = Duration::from_secs(60);
/// A challenge has some two hundred bytes, and an answer some six hundred.
const MAX_BYTES: usize = 16 << 10;

/// What is to be done about the passkey.
#[derive(Clone, PartialEq, Eq)]
pub enum Passkey {
    /// A browser on WhatsApp's page has to answer this.
    Wanted(Challenge),
    /// WhatsApp has the answer. The phone comes next.
    Answered(Instant),
    /// The person compares this code with that on the phone.
    Compare {
        /// Eight characters with a dash.
        code: String,
        /// When WhatsApp gives up.
        expires: Instant,
    },
}

/// What WhatsApp wants signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The options for `navigator.credentials.get`, as JSON.
    pub options: String,
    /// When WhatsApp gives up.
    pub expires: Instant,
}

impl std::fmt::Debug for Passkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passkey").field("expires", &self.expires()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenge").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Passkey {
    /// When WhatsApp gives up.
    pub fn expires(&self) -> Instant {
        match self {
            Self::Wanted(Challenge { expires, .. })
            | Self::Answered(expires)
            | Self::Compare { expires, .. } => *expires,
        }
    }
}

/// Reads what WhatsApp wants; `None` if no browser could answer it.
pub(super) fn challenge(options: &str, now: Instant) -> Option<Challenge> {
    let request = parse_request_options(options).ok().filter(|_| options.len() <= MAX_BYTES)?;
    let lives = request.timeout_ms.map_or(LIVES, Duration::from_millis).clamp(AT_LEAST, LIVES);
    Some(Challenge { options: options.to_owned(), expires: now + lives })
}

/// Reads what a person has brought from the browser: the JSON of a `PublicKeyCredential`, as it is printed there.
pub(super) fn assertion(answer: &str) -> Option<Assertion> {
    let answer = answer.trim().trim_matches(['\'', '"', '`']);
    let answer: Value = serde_json::from_str(answer).ok().filter(|_| answer.len() <= MAX_BYTES)?;
    let bytes = |value: &Value| {
        let text = value.as_str()?.trim_end_matches('=');
        BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty())
    };
    let (response, credential_id) = (&answer["response"], bytes(&answer["rawId"])?);
    // Only what WhatsApp's own page sends goes on.
    let assertion_json = build_webauthn_assertion_json(
        &credential_id,
        &bytes(&response["clientDataJSON"])?,
        &bytes(&response["authenticatorData"])?,
        &bytes(&response["signature"])?,
        bytes(&response["userHandle"]).as_deref(),
    );
    (answer["type"] == "public-key").then_some(Assertion { assertion_json, credential_id })
}

/// Whether a passkey is wanted at the moment, and until when. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ceremony(watch::Sender<Option<Instant>>);

impl Ceremony {
    /// It begins, and lasts at most until then.
    pub(super) fn begins(&self, ends: Instant) {
        self.0.send_replace(Some(ends));
    }

    /// It has ended.
    pub(super) fn ends(&self) {
        self.0.send_replace(None);
    }

    /// Returns when none is under way. Cancel-safe.
    pub(super) async fn over(&self) {
        let mut until = self.0.subscribe();
        loop {
            let Some(ends) = *until.borrow_and_update() else { return };
            let _ = tokio::time::timeout_at(ends, until.changed()).await;
            if Instant::now() >= ends && *until.borrow() == Some(ends) {
                return;
            }
        }
    }

    /// Returns when one has taken too long. Cancel-safe.
    pub(super) async fn times_out(&self) {
        let mut until = self.0.subscribe();
        loop {
            let ends = *until.borrow_and_update();
            match ends {
                Some(ends) if Instant::now() >= ends => return,
                Some(ends) => drop(tokio::time::timeout_at(ends, until.changed()).await),
                None => drop(until.changed().await),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_challenge_lives_as_long_as_whatsapp_says_within_reason() {
        let now = Instant::now();
        let lives = |options: &str| challenge(options, now).map(|it| (it.expires - now).as_secs());
        assert_eq!(lives(r#"{"challenge":"YWJj","rpId":"whatsapp.com","timeout":300000}"#), Some(300));
        assert_eq!(lives(r#"{"challenge":"YWJj"}"#), Some(600));
        assert_eq!(lives(r#"{"challenge":"YWJj","timeout":1}"#), Some(60));
        assert_eq!(lives(r#"{"challenge":"YWJj","timeout":99999999999}"#), Some(600));
        assert_eq!(lives(r#"{"rpId":"whatsapp.com"}"#), None);
        assert_eq!(lives("no JSON"), None);
        let long = json!({"challenge": "YWJj", "more": "x".repeat(MAX_BYTES)}).to_string();
        assert_eq!(lives(&long), None);
    }

    #[test]
    fn an_answer_is_read_as_a_browser_prints_it() {
        let good = json!({
            "id": "AQI", "rawId": "AQI", "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": {"uvm": [[2, 2, 2]]},
            "response": {"clientDataJSON": "e30", "authenticatorData": "AAEC", "signature": "MEU=", "userHandle": null},
        });
        let read = assertion(&good.to_string()).expect("an answer");
        assert_eq!(read.credential_id, [1, 2]);
        let sent: Value = serde_json::from_slice(&read.assertion_json).expect("JSON");
        let want = json!({
            "id": "AQI", "rawId": "AQI", "type": "public-key",
            "response": {"clientDataJSON": "e30", "authenticatorData": "AAEC", "signature": "MEU", "userHandle": null},
        });
        assert_eq!(sent, want);
        // As people copy it out of a console.
        assert!(assertion(&format!("  '{good}'\n")).is_some());
        for bad in [String::new(), "null".into(), "{".into(), good.to_string().replace("MEU=", "*")] {
            assert!(assertion(&bad).is_none(), "{bad}");
        }
        for missing in ["clientDataJSON", "authenticatorData", "signature"] {
            let mut answer = good.clone();
            answer["response"][missing] = Value::Null;
            assert!(assertion(&answer.to_string()).is_none(), "{missing}");
        }
        let other = good.to_string().replace("public-key", "password");
        assert!(assertion(&other).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_of_a_ceremony_waits_no_longer_than_it_may_last() {
        let ceremony = Ceremony::default();
        ceremony.over().await;
        let began = Instant::now();
        ceremony.begins(began + LIVES);
        ceremony.over().await;
        ceremony.times_out().await;
        assert_eq!(began.elapsed(), LIVES);
        ceremony.begins(Instant::now() + LIVES);
        let (waiting, began) = (ceremony.clone(), Instant::now());
        let waits = tokio::spawn(async move { waiting.over().await });
        tokio::task::yield_now().await;
        ceremony.ends();
        waits.await.expect("an end");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
