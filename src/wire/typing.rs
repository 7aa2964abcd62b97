//! What a forwarder says on `<prefix>.live.<account>.typing.<chat>` while the backend works on a message. JSON over core
//! NATS, stored nowhere: nobody needs it a moment later. Fields are only ever added.

use serde::{Deserialize, Serialize};

/// No note is longer.
const LONGEST: usize = 1_024;

/// The backend works on a message of this chat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingNote {
    /// The message's sequence in `WA_IN`. Its outcome ends the typing.
    pub in_seq: u64,
    /// The chat's address, as WhatsApp writes it.
    pub chat_jid: String,
    /// The typing ends at this time if nothing else is said. Milliseconds since 1970. 0: it ends now.
    pub until_ms: i64,
}

impl TypingNote {
    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads one. `None`: it is none.
    pub fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_the_form_that_others_know() {
        let note =
            TypingNote { in_seq: 7, chat_jid: "5491@s.whatsapp.net".into(), until_ms: 1_736_330_400_000 };
        let text = r#"{"in_seq":7,"chat_jid":"5491@s.whatsapp.net","until_ms":1736330400000}"#;
        assert_eq!(String::from_utf8(note.to_bytes()).unwrap(), text);
        assert_eq!(TypingNote::read(text.as_bytes()), Some(note));
    }

    #[test]
    fn what_is_no_note_is_none() {
        let long = format!(r#"{{"in_seq":7,"chat_jid":"{}","until_ms":1}}"#, "5".repeat(LONGEST));
        for other in ["", "{}", "[]", "7", r#"{"in_seq":-1,"chat_jid":"","until_ms":1}"#, &long] {
            assert_eq!(TypingNote::read(other.as_bytes()), None, "{other}");
        }
        let newer = r#"{"in_seq":7,"chat_jid":"a","until_ms":1,"audio":true}"#;
        assert!(TypingNote::read(newer.as_bytes()).is_some());
    }
}
