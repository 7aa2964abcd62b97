//! What an edge can be asked over core NATS, on `<prefix>.svc.<account>.<act>`: requests and replies are JSON. Fields are
//! only ever added.

use serde::{Deserialize, Serialize};

/// Of several edges of an account, one answers: the one with the lease.
pub const GROUP: &str = "edge";
/// The longest request, in bytes.
pub const LONGEST: usize = 4_096;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// How to link the number, or that it is linked.
    Link,
    /// To unlink it.
    Unlink,
    /// Whether a number is on WhatsApp.
    CheckNumber,
    /// To silence the assistant in a chat.
    Takeover,
    /// To have it answer there again.
    Resume,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Link, Self::Unlink, Self::CheckNumber, Self::Takeover, Self::Resume];

    /// The last token of its subject.
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::CheckNumber => "check-number",
            Self::Takeover => "takeover",
            Self::Resume => "resume",
        }
    }

    /// What is asked on this subject.
    pub fn of(subject: &str) -> Option<Self> {
        let name = subject.rsplit('.').next()?;
        Self::ALL.into_iter().find(|act| act.name() == name)
    }

    /// A request, for people who look with `nats micro info`.
    pub fn request(self) -> &'static str {
        match self {
            Self::Link => r#"{} or {"phone": "5491112345678"}"#,
            Self::Unlink => r#"{"account": "default"}"#,
            Self::CheckNumber => r#"{"number": "5491112345678"}"#,
            Self::Takeover => r#"{"chat": "5491112345678", "for": "2h"}"#,
            Self::Resume => r#"{"chat": "5491112345678"}"#,
        }
    }

    /// A reply.
    pub fn reply(self) -> &'static str {
        match self {
            Self::Link => {
                r#"{"state": "qr-ready", "detail": "...", "qr": "2@...", "expires_in_s": 20, "code": "ABCD1234", "code_expires_in_s": 170}"#
            }
            Self::Unlink => r#"{"done": "unlinked"}"#,
            Self::CheckNumber => r#"{"on_whatsapp": true, "number": "5491112345678"}"#,
            Self::Takeover => {
                r#"{"state": "began", "began_at": "2026-01-02T03:04:05.678Z", "until": "2026-01-02T05:04:05.678Z"}"#
            }
            Self::Resume => r#"{"state": "ended"} or {"state": "none"}"#,
        }
    }
}

/// `link` asks this.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkRequest {
    /// A phone number with its country code: ask for a code to type into that phone. Without it: what is known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// `unlink` asks this.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UnlinkRequest {
    /// The account once more: whoever asks is sure.
    pub account: String,
}

/// `check-number` asks this.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NumberRequest {
    /// The phone number with its country code.
    pub number: String,
}

/// `check-number` answers this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NumberReply {
    /// Somebody has it there.
    pub on_whatsapp: bool,
    /// As WhatsApp has it: some numbers are dialled with a digit more or less. Empty if nobody has it.
    pub number: String,
}

/// `takeover` and `resume` ask this.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatRequest {
    /// A phone number in digits, a JID, or a chat's token.
    pub chat: String,
    /// For how long, such as `30m`. Without it: TAKEOVER.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

/// The body of a refusal. The headers of the protocol say the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// A stable code for programs.
    pub code: String,
    /// Why, and what helps.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_the_end_of_its_subject() {
        for act in Act::ALL {
            assert_eq!(Act::of(&format!("wa.svc.shop.{}", act.name())), Some(act));
            assert!(
                serde_json::from_str::<serde_json::Value>(act.request().split(" or ").next().unwrap())
                    .is_ok()
            );
            assert!(
                serde_json::from_str::<serde_json::Value>(act.reply().split(" or ").next().unwrap()).is_ok()
            );
        }
        assert_eq!(Act::of("wa.svc.shop.LINK"), None);
    }

    /// What `nats micro info` shows is what the documentation says.
    #[test]
    fn each_act_is_documented_with_the_fields_that_it_has() {
        type Row = std::collections::BTreeMap<String, serde_yaml_ng::Value>;
        let rows: std::collections::BTreeMap<String, Row> =
            serde_yaml_ng::from_str(include_str!("../../docs/endpoints.yaml")).unwrap();
        assert_eq!(rows.len(), Act::ALL.len() + 1, "and `status`");
        let names = |fields: &serde_yaml_ng::Value| -> Vec<String> {
            let fields = fields.as_mapping().unwrap().keys().filter_map(|name| name.as_str());
            fields.map(|name| name.trim_end_matches('?').to_owned()).collect()
        };
        for act in Act::ALL {
            let row = &rows[act.name()];
            assert_eq!(row["subject"].as_str().unwrap(), format!("wa.svc.<account>.{}", act.name()));
            for (shown, fields) in [(act.request(), &row["takes"]), (act.reply(), &row["gives"])] {
                let fields = names(fields);
                for part in shown.split(" or ") {
                    let part: serde_json::Map<String, serde_json::Value> =
                        serde_json::from_str(part).unwrap();
                    let unknown: Vec<_> = part.keys().filter(|name| !fields.contains(name)).collect();
                    assert!(unknown.is_empty(), "{act:?}: {unknown:?}");
                }
            }
        }
    }
}
