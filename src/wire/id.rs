//! Ids. Each is derived from what it names, so that it is the same after a crash.

use sha2::{Digest, Sha256};

use super::token::{Account, ChatToken};

/// The id of an inbound message: `<account>/<chat>/<sender>/<whatsapp id>`, JetStream's `Nats-Msg-Id` and
/// the CloudEvents id. WhatsApp ids are unique only within (chat, sender).
pub fn inbound(account: &Account, chat: &ChatToken, sender: &str, message_id: &str) -> String {
    format!("{account}/{}/{}/{}", chat.as_str(), escaped(sender), escaped(message_id))
}

/// The id of what stands in for an inbound message that cannot be read. The message itself may still come.
pub fn placeholder(inbound_id: &str) -> String {
    format!("{inbound_id}/placeholder")
}

/// The id of the update that says what became of the file of an inbound message.
pub fn media(inbound_id: &str) -> String {
    format!("{inbound_id}/media")
}

/// The id of the takeover that an inbound message begins or extends.
pub fn takeover(inbound_id: &str) -> String {
    format!("{inbound_id}/takeover")
}

/// The id of the word that the person of an inbound message wants nothing unasked, or wants it again.
pub fn opt_out(inbound_id: &str) -> String {
    format!("{inbound_id}/opt-out")
}

/// The id of the end of the takeover that is stored with this sequence.
pub fn takeover_end(account: &Account, chat: &ChatToken, sequence: u64) -> String {
    format!("{account}/{}/takeover-ended/{sequence}", chat.as_str())
}

/// The id of the message that an inbound message repeats, if it is a replay, and else its own. Its file has this name.
pub fn original(inbound_id: &str) -> &str {
    let end = inbound_id.match_indices('/').nth(3).map_or(inbound_id.len(), |(at, _)| at);
    let (original, rest) = inbound_id.split_at(end);
    if rest.starts_with("/replay-") { original } else { inbound_id }
}

/// The id of an inbound message that was published without one.
pub fn unnamed(account: &Account, chat: &ChatToken, incarnation: &str, sequence: u64) -> String {
    format!("{account}/{}/{incarnation}/{sequence}", chat.as_str())
}

/// The id of the outcome of an inbound message.
pub fn outcome(inbound_id: &str) -> String {
    format!("{inbound_id}/outcome")
}

/// The id of the dead letter of an inbound message.
pub fn dead_letter(inbound_id: &str) -> String {
    format!("dlq-{inbound_id}")
}

/// The id of the message that a replayed dead letter becomes. It is the same for each replay.
pub fn replay(inbound_id: &str, dead_letter: u64) -> String {
    format!("{inbound_id}/replay-{dead_letter}")
}

/// The WhatsApp id of the message that carries out `cause` (an outcome's or a send request's id). The
/// form is that of WhatsApp Web's own ids: `3EB0` and 18 hex digits. A resend has the same id, and
/// phones drop a repeated id.
pub fn whatsapp(cause: &str) -> String {
    let digest = Sha256::digest(format!("whatsapp-message\0{cause}").as_bytes());
    let hex: String = digest.iter().take(9).map(|byte| format!("{byte:02X}")).collect();
    format!("3EB0{hex}")
}

/// The WhatsApp id of a part of a text that is sent as several messages, the first being part 0.
pub fn whatsapp_part(cause: &str, part: usize) -> String {
    match part {
        0 => whatsapp(cause),
        // No other cause can be this one: none has such a byte.
        _ => whatsapp(&format!("{cause}\0part-{part}")),
    }
}

/// Makes one part of an id safe, so that the id is a legal header value of four parts whatever a phone put in it.
fn escaped(text: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
    text.bytes()
        .map(|byte| if legal(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account() -> Account {
        Account::parse("default").unwrap()
    }

    #[test]
    fn a_file_has_the_name_of_the_message_that_came_first() {
        for (id, want) in [
            ("default/54911/54911/3EB0", "default/54911/54911/3EB0"),
            ("default/54911/54911/3EB0/replay-7", "default/54911/54911/3EB0"),
            ("default/54911/54911/3EB0/replay-7/replay-12", "default/54911/54911/3EB0"),
            ("default/54911/54911/replay-7", "default/54911/54911/replay-7"),
            ("default/54911/54911/3EB0/placeholder", "default/54911/54911/3EB0/placeholder"),
            ("order-77", "order-77"),
        ] {
            assert_eq!(original(id), want);
        }
    }

    proptest! {
        #[test]
        fn ids_are_derived_never_random(sender in ".{0,40}", id in ".{0,60}") {
            let chat = ChatToken::phone("5491112345678");
            let first = inbound(&account(), &chat, &sender, &id);
            prop_assert_eq!(&first, &inbound(&account(), &chat, &sender, &id));
            prop_assert_eq!(whatsapp(&first), whatsapp(&first));
            prop_assert!(first.is_ascii() && !first.contains(['\r', '\n', ' ']));
            prop_assert_eq!(first.split('/').count(), 4);
        }

        #[test]
        fn different_messages_have_different_ids(
            a in ("[^/]{0,20}", ".{0,30}"), b in ("[^/]{0,20}", ".{0,30}")
        ) {
            prop_assume!(a != b);
            let chat = ChatToken::phone("5491112345678");
            let ids = [&a, &b].map(|(sender, id)| inbound(&account(), &chat, sender, id));
            prop_assert_ne!(&ids[0], &ids[1]);
            prop_assert_ne!(whatsapp(&ids[0]), whatsapp(&ids[1]));
        }
    }

    #[test]
    fn a_whatsapp_id_looks_like_one() {
        let id = whatsapp("default/5491112345678/5491112345678/ABC/outcome");
        assert_eq!(id.len(), 22);
        assert!(id.starts_with("3EB0") && id[4..].chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(id, "3EB0".to_owned() + &id[4..].to_uppercase());
    }

    #[test]
    fn ids_are_as_they_are_on_disk() {
        let chat = ChatToken::phone("54911");
        let sender = "987.1:2_a-B@lid";
        for (id, want) in [
            (inbound(&account(), &chat, sender, "3EB0AB"), "default/54911/987.1:2_a-B@lid/3EB0AB"),
            (inbound(&account(), &chat, "a/b", "c d%é"), "default/54911/a%2Fb/c%20d%25%C3%A9"),
            (unnamed(&account(), &chat, "123", 7), "default/54911/123/7"),
            (outcome("a/b/c/d"), "a/b/c/d/outcome"),
            (media("a/b/c/d"), "a/b/c/d/media"),
            (dead_letter("a/b/c/d"), "dlq-a/b/c/d"),
            (replay("a/b/c/d", 9), "a/b/c/d/replay-9"),
            (whatsapp("a/b/c/d/outcome"), "3EB005DC3E9E3ABD85160F"),
            (whatsapp_part("a/b/c/d/outcome", 0), "3EB005DC3E9E3ABD85160F"),
            (whatsapp_part("a/b/c/d/outcome", 1), "3EB05832311CEFDCF8566F"),
        ] {
            assert_eq!(id, want);
        }
    }
}
