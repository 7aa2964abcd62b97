//! Tokens of subjects: what an account and a chat are called on the bus.
//!
//! A token must be legal in a NATS subject. It must never change for a chat, because the chat's order and its one
//! answer per message depend on the chat's subject.

use std::fmt;

use sha2::{Digest, Sha256};

/// The longest chat token. WhatsApp's ids are far shorter; a longer one is shortened with a hash.
const MAX_TOKEN: usize = 64;

/// Why a text is not an account name, chat token or subject prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not {what}: it takes {takes}")]
pub struct InvalidToken {
    pub(super) what: &'static str,
    pub(super) got: String,
    pub(super) takes: &'static str,
}

/// The operator's name for a linked WhatsApp number: `[a-z0-9_-]+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(String);

impl Account {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if text.is_empty() || text.len() > MAX_TOKEN || !text.chars().all(legal) {
            return Err(InvalidToken {
                what: "an account name",
                got: text.to_owned(),
                takes: "1 to 64 of a-z, 0-9, `_` and `-`",
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// Stands for all accounts, in subjects that may have wildcards.
    pub fn every() -> Self {
        Self("*".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A chat's token in subjects: phone digits, `lid-<digits>` or `group-<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChatToken(String);

impl ChatToken {
    /// A direct chat whose phone number is known.
    pub fn phone(user: &str) -> Self {
        Self(clean(user))
    }

    /// A direct chat whose phone number is hidden: only its hidden id is known.
    pub fn lid(user: &str) -> Self {
        Self(format!("lid-{}", clean(user)))
    }

    /// A group.
    pub fn group(user: &str) -> Self {
        Self(format!("group-{}", clean(user)))
    }

    /// Anything else that has a JID (status broadcast, newsletter, broadcast list).
    pub fn other(server: &str, user: &str) -> Self {
        Self(format!("{}-{}", clean(server), clean(user)))
    }

    /// Reads a token from a subject.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        if text.is_empty() || text.len() > 2 * MAX_TOKEN + 1 || !text.chars().all(is_legal) {
            return Err(InvalidToken {
                what: "a chat token",
                got: masked(text),
                takes: "letters, digits, `_` and `-`",
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its phone number; empty if it is another kind of token.
    pub fn phone_number(&self) -> String {
        let is_phone = self.0.chars().all(|c| c.is_ascii_digit());
        if is_phone { self.0.clone() } else { String::new() }
    }

    /// The token as logs may show it: no more than its last four characters.
    pub fn masked(&self) -> String {
        masked(&self.0)
    }
}

/// `…5678`: what a log line may hold of a phone number or a chat.
pub fn masked(text: &str) -> String {
    let tail: Vec<char> = text.chars().rev().take(4).collect();
    let tail: String = tail.into_iter().rev().collect();
    if text.chars().count() <= 4 { "…".to_owned() } else { format!("…{tail}") }
}

pub(super) fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Makes a legal part of a token from any text. A legal text stays as it is. Another one keeps its legal characters and
/// gets a hash, so that two different texts never share a token.
fn clean(text: &str) -> String {
    if !text.is_empty() && text.len() <= MAX_TOKEN && text.chars().all(is_legal) {
        return text.to_owned();
    }
    let kept: String = text.chars().filter(|c| is_legal(*c)).take(32).collect();
    let hash: String =
        Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{kept}-x{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Subjects;
    use proptest::prelude::*;

    fn is_token(text: &str) -> bool {
        !text.is_empty()
            && text.is_ascii()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || ".*>$".contains(c))
    }

    proptest! {
        #[test]
        fn every_chat_token_is_a_legal_nats_token_and_stable(user in ".{0,200}", server in ".{0,40}") {
            for token in [
                ChatToken::phone(&user),
                ChatToken::lid(&user),
                ChatToken::group(&user),
                ChatToken::other(&server, &user),
            ] {
                prop_assert!(is_token(token.as_str()), "{token:?}");
                prop_assert_eq!(ChatToken::parse(token.as_str()).ok(), Some(token));
            }
            prop_assert_eq!(ChatToken::phone(&user), ChatToken::phone(&user));
        }

        #[test]
        fn different_people_never_share_a_token(a in ".{0,80}", b in ".{0,80}") {
            prop_assume!(a != b);
            prop_assert_ne!(ChatToken::phone(&a), ChatToken::phone(&b));
            prop_assert_ne!(ChatToken::lid(&a), ChatToken::lid(&b));
        }

        #[test]
        fn no_account_name_can_break_a_subject(name in ".{0,40}") {
            if let Ok(account) = Account::parse(&name) {
                prop_assert!(is_token(account.as_str()));
            }
        }
    }

    #[test]
    fn known_chats_keep_the_tokens_they_have_on_disk() {
        assert_eq!(ChatToken::phone("5491112345678").as_str(), "5491112345678");
        assert_eq!(ChatToken::lid("987").as_str(), "lid-987");
        assert_eq!(ChatToken::group("120363-99").as_str(), "group-120363-99");
    }

    #[test]
    fn masking_shows_four_characters_at_most() {
        assert_eq!(ChatToken::phone("5491112345678").masked(), "…5678");
        assert_eq!(masked("1234"), "…");
        assert_eq!(masked("12345"), "…2345");
        assert_eq!(masked(""), "…");
    }

    /// A name of so many characters.
    fn long(characters: usize) -> String {
        "a".repeat(characters)
    }

    #[test]
    fn names_are_taken_up_to_their_length_and_of_their_characters_only() {
        for (name, is_account, is_chat, is_prefix) in [
            ("", false, false, false),
            ("shop-2_b", true, true, true),
            ("Shop", false, true, true),
            ("a.b", false, false, false),
            ("a b", false, false, false),
            ("ñ", false, false, false),
            ("*", false, false, false),
            (&long(32), true, true, true),
            (&long(33), true, true, false),
            (&long(64), true, true, false),
            (&long(65), false, true, false),
            (&long(129), false, true, false),
            (&long(130), false, false, false),
        ] {
            assert_eq!(Account::parse(name).is_ok(), is_account, "account {name:?}");
            assert_eq!(ChatToken::parse(name).is_ok(), is_chat, "chat {name:?}");
            assert_eq!(Subjects::new(name).is_ok(), is_prefix, "prefix {name:?}");
        }
    }

    #[test]
    fn the_longest_token_that_a_chat_can_get_is_one_that_is_read() {
        let longest = ChatToken::other(&long(64), &long(64));
        assert_eq!(longest.as_str().len(), 129);
        assert_eq!(ChatToken::parse(longest.as_str()), Ok(longest));
    }

    #[test]
    fn a_refused_name_is_told_with_what_it_takes_and_a_chat_is_masked() {
        assert_eq!(
            Account::parse("My Shop").unwrap_err().to_string(),
            "`My Shop` is not an account name: it takes 1 to 64 of a-z, 0-9, `_` and `-`"
        );
        assert_eq!(
            ChatToken::parse("+5491112345678").unwrap_err().to_string(),
            "`…5678` is not a chat token: it takes letters, digits, `_` and `-`"
        );
    }

    #[test]
    fn what_is_legal_stays_and_the_rest_is_hashed() {
        for (user, is_kept) in
            [("120363-99_a", true), ("", false), ("1 2", false), (&long(64), true), (&long(65), false)]
        {
            let token = ChatToken::phone(user);
            assert_eq!(token.as_str() == user, is_kept, "{token:?}");
            // The hash has six bytes, and no more of what was kept is before it than this.
            assert!(is_kept || token.as_str().len() <= 32 + 2 + 12, "{token:?}");
        }
        assert!(ChatToken::phone("1 2").as_str().starts_with("12-x"));
    }

    #[test]
    fn only_a_token_of_digits_is_a_phone_number() {
        assert_eq!(ChatToken::phone("54911").phone_number(), "54911");
        for chat in [ChatToken::lid("987"), ChatToken::group("120363"), ChatToken::other("status", "status")]
        {
            assert_eq!(chat.phone_number(), "");
        }
    }
}
