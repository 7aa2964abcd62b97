//! What goes on the bus only if the operator asks for it (`INBOUND_EXTRA`). Nobody writes it to the number.

use whatsapp_rust::Jid;
use whatsapp_rust::wacore_binary::JidExt as _;

/// What else goes on the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extra {
    /// Status posts.
    pub status: bool,
    /// What newsletters (channels) publish that the number follows.
    pub newsletters: bool,
}

impl Extra {
    /// Reads names, separated by commas.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).try_fold(Self::default(), |extra, name| match name {
            "status" => Some(Self { status: true, ..extra }),
            "newsletter" => Some(Self { newsletters: true, ..extra }),
            _ => None,
        })
    }

    /// Does what comes in this chat go on the bus?
    pub(crate) fn wants(self, chat: &Jid) -> bool {
        match (chat.is_status_broadcast(), chat.is_newsletter()) {
            (true, _) => self.status,
            (_, true) => self.newsletters,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_by_itself_and_people_need_no_name() {
        let rows = [
            ("status", Some([true, false])),
            ("newsletter", Some([false, true])),
            ("status,newsletter", Some([true, true])),
            ("newsletter , status", Some([true, true])),
            ("", None),
            ("status,", None),
            ("Status", None),
            ("all", None),
        ];
        let (status, newsletter) = (Jid::status_broadcast(), Jid::newsletter("77"));
        for (text, want) in rows {
            let extra = Extra::parse(text);
            assert_eq!(extra.map(|extra| [extra.wants(&status), extra.wants(&newsletter)]), want, "{text}");
        }
        let none = Extra::default();
        assert!(!none.wants(&status) && !none.wants(&newsletter));
        let list: Jid = "88@broadcast".parse().expect("an address");
        for people in [Jid::pn("54911"), Jid::lid("987"), Jid::group("120363"), list] {
            assert!(none.wants(&people), "{people}");
        }
    }
}
