//! What an edge does when a service asks for it. Each act is what the console and the commands do, and no more.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::admin::{Link, link_of};
use crate::bus::{Bus, Of};
use crate::edge::{NotDone, PairCode, Seat, Unchecked};
use crate::operator::takeover::{Change, change, chat, is_possible};
use crate::wire::Subjects;
use crate::wire::service::{Act, ChatRequest, LinkRequest, NumberReply, NumberRequest, UnlinkRequest};
use crate::wire::takeover::Lasts;

/// Each act is answered within this time.
const BOUND: Duration = Duration::from_secs(12);
/// WhatsApp may take so long for a code before the answer is that it is on its way.
const CODE: Duration = Duration::from_secs(8);

/// With what an edge acts.
#[derive(Debug)]
pub(super) struct Acts {
    pub(super) bus: Bus,
    pub(super) subjects: Subjects,
    pub(super) seat: Seat,
    pub(super) takeover: Option<Lasts>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// As HTTP has them.
    pub(super) number: u16,
    /// A stable code for programs.
    pub(super) code: &'static str,
    /// Why, and what helps.
    pub(super) why: String,
}

impl Refused {
    /// With these words.
    pub(super) fn new(number: u16, code: &'static str, why: impl Into<String>) -> Self {
        Self { number, code, why: why.into() }
    }
}

impl From<NotDone> for Refused {
    fn from(why: NotDone) -> Self {
        let number = match why {
            NotDone::NoSession => 503,
            NotDone::Linked | NotDone::NotOnline | NotDone::NoPasskey => 409,
            NotDone::NotANumber | NotDone::NotAnAnswer => 422,
            NotDone::TooSoon => 429,
            NotDone::Refused | NotDone::PasskeyRefused => 502,
        };
        Self::new(number, why.code(), why.to_string())
    }
}

impl From<Unchecked> for Refused {
    fn from(why: Unchecked) -> Self {
        let (number, code) = match why {
            Unchecked::NotANumber => (422, "not-a-number"),
            Unchecked::NotOnline => (409, "not-online"),
            Unchecked::TooMany(_) => (429, "too-many"),
            Unchecked::Busy => (429, "busy"),
            Unchecked::Refused(_) => (503, "no-look-ups"),
        };
        Self::new(number, code, why.to_string())
    }
}

#[derive(Serialize)]
struct Linking {
    #[serde(flatten)]
    link: Link,
    code: Option<String>,
    code_expires_in_s: Option<u64>,
}

impl Acts {
    /// Does it, and says what came of it.
    pub(super) async fn act(&self, act: Act, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let done = async {
            match act {
                Act::Link => self.link(read(act, request)?).await,
                Act::Unlink => self.unlink(&read(act, request)?).await,
                Act::CheckNumber => self.check_number(&read(act, request)?).await,
                Act::Takeover => self.take_over(&read(act, request)?).await,
                Act::Resume => self.resume(&read(act, request)?).await,
            }
        };
        let late = "it took too long, and may happen yet: look at the state before you ask again";
        tokio::time::timeout(BOUND, done)
            .await
            .unwrap_or_else(|_elapsed| Err(Refused::new(504, "timeout", late)))
    }

    /// What the page shows; with a phone number, a new code for it.
    async fn link(&self, request: LinkRequest) -> Result<Vec<u8>, Refused> {
        let connection = &self.seat.connection;
        let asked = match request.phone {
            None => connection.pair_code(),
            Some(phone) => {
                tracing::info!("a service asks for a pairing code");
                match tokio::time::timeout(CODE, connection.ask_for_code(phone)).await {
                    Ok(code) => Some(code?),
                    Err(_elapsed) => {
                        let why =
                            "WhatsApp takes its time: ask again in some seconds, without a phone number";
                        return Err(Refused::new(504, "asked", why));
                    }
                }
            }
        };
        let left = |code: &PairCode| code.expires.saturating_duration_since(Instant::now()).as_secs();
        let code_expires_in_s = asked.as_ref().map(left);
        let shown =
            Linking { link: link_of(&self.seat), code: asked.map(|asked| asked.code), code_expires_in_s };
        let mut shown = serde_json::to_value(&shown).unwrap_or_default();
        // What there is not is left out, as in every other reply.
        if let Some(fields) = shown.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        Ok(json(&shown))
    }

    async fn unlink(&self, request: &UnlinkRequest) -> Result<Vec<u8>, Refused> {
        let Seat { account, connection, .. } = &self.seat;
        if request.account != account.as_str() {
            let why = "`account` has to name the account once more, because a person with the phone has to link it again";
            return Err(Refused::new(400, "unsure", why));
        }
        connection.unlink().await?;
        Ok(json(&serde_json::json!({"done": "unlinked"})))
    }

    async fn check_number(&self, request: &NumberRequest) -> Result<Vec<u8>, Refused> {
        let found = self.seat.look_ups.check(&request.number).await?;
        Ok(json(&NumberReply { on_whatsapp: found.is_some(), number: found.unwrap_or_default() }))
    }

    async fn take_over(&self, request: &ChatRequest) -> Result<Vec<u8>, Refused> {
        let off =
            || Refused::new(409, "takeover-off", "TAKEOVER is off: set it for the edge and the forwarders");
        let settings = self.takeover.ok_or_else(off)?;
        let lasts = match &request.lasts {
            None => settings.each,
            Some(text) => humantime::parse_duration(text)
                .ok()
                .filter(|lasts| is_possible(*lasts, settings))
                .ok_or_else(|| {
                    Refused::new(400, "bad-request", "`for` takes 1s up to TAKEOVER_MAX, such as 30m")
                })?,
        };
        self.change(request, Change::TakeOver(lasts)).await
    }

    async fn resume(&self, request: &ChatRequest) -> Result<Vec<u8>, Refused> {
        self.change(request, Change::Resume).await
    }

    async fn change(&self, request: &ChatRequest, wanted: Change) -> Result<Vec<u8>, Refused> {
        let account = &self.seat.account;
        let bad = |_| {
            Refused::new(
                400,
                "bad-request",
                "`chat` takes a phone number in digits, a JID, or a chat's token",
            )
        };
        let chat = chat(&request.chat).map_err(bad)?;
        let of = Of { subjects: &self.subjects, account, chat: &chat };
        let holds = change(&self.bus, of, wanted).await;
        let holds = holds.map_err(|error| Refused::new(503, "not-stored", error.to_string()))?;
        tracing::info!(
            chat = chat.masked(),
            state = holds.state,
            "a service has asked for a {}",
            wanted.name()
        );
        Ok(json(&holds))
    }
}

/// Reads a request. Nothing is the same as `{}`.
fn read<T: DeserializeOwned + Default>(act: Act, request: &[u8]) -> Result<T, Refused> {
    if request.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let why = || format!("the request is JSON, such as {}", act.request());
    serde_json::from_slice(request).map_err(|_| Refused::new(400, "bad-request", why()))
}

fn json(document: &impl Serialize) -> Vec<u8> {
    // Plain data always serialises.
    serde_json::to_vec(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_json_or_nothing() {
        let phone = |text: &str| read::<LinkRequest>(Act::Link, text.as_bytes()).map(|request| request.phone);
        assert_eq!(phone(""), Ok(None));
        assert_eq!(phone(" \n"), Ok(None));
        assert_eq!(phone(r#"{"phone":"54911","later":1}"#), Ok(Some("54911".to_owned())));
        for bad in ["54911", "[", "null", r#"{"phone":5}"#] {
            let refused = phone(bad).unwrap_err();
            assert_eq!((refused.number, refused.code), (400, "bad-request"), "{bad}");
            assert!(!refused.why.contains("54911 "), "{refused:?}");
        }
    }
}
