//! What a line hides: whole numbers always, texts unless the operator asks for them. Pure.

use crate::telemetry::redact;
use crate::wire::{Place, masked};

/// The secrets of one message.
#[derive(Debug, Clone, Default)]
pub(super) struct Mask {
    /// `<account>/<chat>/`: the beginning of this message's ids.
    head: Option<String>,
    /// Numbers that no field may show.
    numbers: Vec<String>,
    /// The operator has asked for texts.
    texts: bool,
}

impl Mask {
    /// The mask for a message in this place.
    pub(super) fn new(place: Option<&Place>, texts: bool) -> Self {
        let mut mask = Self { texts, ..Self::default() };
        if let Some(Place { account, chat: Some(chat), .. }) = place {
            mask.head = Some(format!("{account}/{}/", chat.as_str()));
            mask.hide(chat.as_str());
        }
        mask
    }

    /// Hides a number, or the numbers in a JID or a token.
    pub(super) fn hide(&mut self, number: &str) {
        for part in number.split(|c: char| !c.is_ascii_alphanumeric()) {
            // A shorter part is no phone number, and it would be found in words.
            if part.len() > 4 && part.chars().any(|c| c.is_ascii_digit()) {
                self.numbers.push(part.to_owned());
            }
        }
    }

    /// A number or a JID: `…5678@s.whatsapp.net`.
    pub(super) fn person(&self, jid: &str) -> String {
        match jid.split_once('@') {
            Some((user, server)) => format!("{}@{}", masked(user), redact::cut(server)),
            None => masked(jid),
        }
    }

    /// A WhatsApp id. Most of them have long runs of digits, so only known numbers are masked.
    pub(super) fn id(&self, id: &str) -> String {
        self.numbers.iter().fold(id.to_owned(), |id, number| id.replace(number.as_str(), &masked(number)))
    }

    /// An id on the bus, such as `<account>/<chat>/<sender>/<WhatsApp id>/outcome`. An id that another service has
    /// chosen may hold anything.
    pub(super) fn ce_id(&self, id: &str) -> String {
        let (prefix, rest) = id.strip_prefix("dlq-").map_or(("", id), |rest| ("dlq-", rest));
        let Some((head, tail)) = self.head.as_deref().and_then(|head| Some((head, rest.strip_prefix(head)?)))
        else {
            return self.code(id);
        };
        let (sender, rest) = tail.split_at(tail.find('/').unwrap_or(tail.len()));
        // In a group the sender is not the chat.
        let sender = match sender {
            "me" => sender.to_owned(),
            id if is_whatsapps(id) => self.id(id),
            person => self.person(person),
        };
        let tail = format!("{sender}{}", self.id(rest));
        let head = head.trim_end_matches('/').rsplit_once('/');
        let (account, chat) = head.unwrap_or_default();
        format!("{prefix}{account}/{}/{tail}", masked(chat))
    }

    /// A machine's word, or a sentence for operators.
    pub(super) fn code(&self, text: &str) -> String {
        redact::cut(&self.id(text))
    }

    /// What a person wrote; `None` unless the operator has asked for it.
    pub(super) fn text<T>(&self, text: T) -> Option<T> {
        self.texts.then_some(text)
    }
}

/// Is it a WhatsApp message id? Ids of receipts have one in the sender's place.
fn is_whatsapps(id: &str) -> bool {
    id.len() >= 16
        && id.chars().all(|c| c.is_ascii_hexdigit())
        && id.contains(|c: char| c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Account, ChatToken, id};

    #[test]
    fn ids_keep_what_names_a_message_and_lose_what_names_a_person() {
        let account = Account::parse("shop").unwrap();
        let chat = ChatToken::phone("5491112345678");
        let place = Place { account: account.clone(), kind: "message".to_owned(), chat: Some(chat.clone()) };
        let mask = Mask::new(Some(&place), true);
        let message = id::inbound(&account, &chat, chat.as_str(), "3EB01234567890AB");
        for (id, want) in [
            (message.clone(), "shop/…5678/…5678/3EB01234567890AB"),
            (id::outcome(&message), "shop/…5678/…5678/3EB01234567890AB/outcome"),
            (id::dead_letter(&message), "dlq-shop/…5678/…5678/3EB01234567890AB"),
            (id::replay(&message, 7), "shop/…5678/…5678/3EB01234567890AB/replay-7"),
            (id::inbound(&account, &chat, "me", "3EB0"), "shop/…5678/me/3EB0"),
            (
                id::inbound(&account, &chat, "5499998887777@s.whatsapp.net", "3EB0"),
                "shop/…5678/…7777@s.whatsapp.net/3EB0",
            ),
            ("shop/5491112345678/3EB01234567890AB/read".to_owned(), "shop/…5678/3EB01234567890AB/read"),
            ("reminder-4711".to_owned(), "reminder-4711"),
            ("reminder/5499998887777/5491112345678/failed".to_owned(), "reminder/…7777/…5678/failed"),
        ] {
            assert_eq!(mask.ce_id(&id), want);
        }
    }
}
