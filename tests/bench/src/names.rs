//! What the harness's chats and messages are called, so that a message is known by its id wherever it turns up.

/// A chat's phone number, which is its token on the bus.
pub fn phone(chat: u32) -> String {
    format!("549116{chat:07}")
}

/// The chat of a phone number.
pub fn chat(phone: &str) -> Option<u32> {
    phone.strip_prefix("549116").filter(|rest| rest.len() == 7)?.parse().ok()
}

/// A message's WhatsApp id, in the form of WhatsApp Web's own: which chat's, and which of its messages.
pub fn message(chat: u32, number: u32) -> String {
    format!("3EB0{chat:08X}{number:010X}")
}

/// Reads [`message`]; another id is no chat's.
pub fn whose(id: &str) -> (u32, u32) {
    let number = |from: usize, to: usize| id.get(from..to).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    number(4, 12).zip(number(12, 22)).unwrap_or((u32::MAX, u32::MAX))
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        for (chat_number, number) in [(0, 0), (7, 12), (99_999, 1_000_000)] {
            assert_eq!(whose(&message(chat_number, number)), (chat_number, number));
            assert_eq!(message(chat_number, number).len(), 22);
            assert_eq!(chat(&phone(chat_number)), Some(chat_number));
        }
        assert_eq!(whose("x"), (u32::MAX, u32::MAX));
        assert_eq!(chat("5491112345678"), None);
    }
}
