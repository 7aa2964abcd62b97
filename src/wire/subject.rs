//! Subjects, stream names and the tokens in them.
//!
//! A token must be legal in a NATS subject and must never change for a chat, because the chat's subject
//! is the linked list that its order and its one answer hang on.

use std::fmt;

use sha2::{Digest, Sha256};

/// The longest chat token. WhatsApp's ids are far shorter; a longer one is hashed down.
const MAX_TOKEN: usize = 64;

/// Why a text is no account, chat token or subject prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not {what}: it takes {takes}")]
pub struct InvalidToken {
    what: &'static str,
    got: String,
    takes: &'static str,
}

/// The operator's name for a linked WhatsApp number: `[a-z0-9_-]+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account(String);

impl Account {
    /// Checks and takes a name.
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

    /// A direct chat of which only the hidden id is known.
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

    /// Takes a token off a subject.
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

    /// The phone number that it is; empty if it is another kind of token.
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

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// A legal token part out of any text: legal texts stay as they are, others keep what is legal of them
/// and get a hash, so that two different texts never share a token.
fn clean(text: &str) -> String {
    if !text.is_empty() && text.len() <= MAX_TOKEN && text.chars().all(is_legal) {
        return text.to_owned();
    }
    let kept: String = text.chars().filter(|c| is_legal(*c)).take(32).collect();
    let hash: String =
        Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{kept}-x{hash}")
}

/// All subjects and stream names, from the configured prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

/// What a message on the reply or message subject is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The linked number.
    pub account: Account,
    /// The third token: `message`, `reply`, `send`, ...
    pub kind: String,
    /// The chat.
    pub chat: ChatToken,
}

/// Where a message of any stream belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The linked number.
    pub account: Account,
    /// `message`, `update`, `receipt`, `session`, `reply`, `send`, or `dead`.
    pub kind: String,
    /// The chat; none for what is about the account itself.
    pub chat: Option<ChatToken>,
}

impl Subjects {
    /// Checks and takes the prefix (`NATS_SUBJECT_PREFIX`): one token.
    pub fn new(prefix: &str) -> Result<Self, InvalidToken> {
        if prefix.is_empty() || prefix.len() > 32 || !prefix.chars().all(is_legal) {
            return Err(InvalidToken {
                what: "a subject prefix",
                got: prefix.to_owned(),
                takes: "1 to 32 letters, digits, `_` and `-`",
            });
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    /// The stream of everything that comes from WhatsApp.
    pub fn stream_in(&self) -> String {
        format!("{}_IN", self.prefix.to_uppercase())
    }

    /// The stream of everything that goes to WhatsApp.
    pub fn stream_out(&self) -> String {
        format!("{}_OUT", self.prefix.to_uppercase())
    }

    /// The stream of inbound messages given up on.
    pub fn stream_dlq(&self) -> String {
        format!("{}_DLQ", self.prefix.to_uppercase())
    }

    /// The stream that keeps what is published to `subject`, whatever the prefix is.
    pub fn stream_of(subject: &str) -> Option<String> {
        let mut tokens = subject.split('.');
        match (tokens.next()?, tokens.next()?) {
            ("$KV", bucket) => Some(format!("KV_{bucket}")),
            (prefix, kind @ ("in" | "out" | "dlq")) => {
                Some(format!("{}_{}", prefix.to_uppercase(), kind.to_uppercase()))
            }
            _ => None,
        }
    }

    /// The key-value bucket of the edges' leases.
    pub fn bucket_leases(&self) -> String {
        format!("{}_LEASES", self.prefix.to_uppercase())
    }

    /// The stream behind [`Self::bucket_leases`].
    pub fn stream_leases(&self) -> String {
        format!("KV_{}", self.bucket_leases())
    }

    /// Where one account's lease is.
    pub fn lease(&self, account: &Account) -> String {
        format!("$KV.{}.{account}", self.bucket_leases())
    }

    /// The key-value bucket of the marks of attempts.
    pub fn bucket_attempts(&self) -> String {
        format!("{}_ATTEMPTS", self.prefix.to_uppercase())
    }

    /// The stream behind [`Self::bucket_attempts`].
    pub fn stream_attempts(&self) -> String {
        format!("KV_{}", self.bucket_attempts())
    }

    /// Where the mark of one message is: its sequence in one incarnation of `WA_IN`.
    pub fn attempts(&self, incarnation: &str, sequence: u64) -> String {
        format!("$KV.{}.{incarnation}.{sequence}", self.bucket_attempts())
    }

    /// All that `WA_IN` holds.
    pub fn all_in(&self) -> String {
        format!("{}.in.>", self.prefix)
    }

    /// All that `WA_OUT` holds.
    pub fn all_out(&self) -> String {
        format!("{}.out.>", self.prefix)
    }

    /// All that `WA_DLQ` holds.
    pub fn all_dlq(&self) -> String {
        format!("{}.dlq.>", self.prefix)
    }

    /// What the forwarders consume.
    pub fn all_messages(&self) -> String {
        format!("{}.in.*.message.*", self.prefix)
    }

    /// All that one account's edge stores.
    pub fn in_of(&self, account: &Account) -> String {
        format!("{}.in.{account}.>", self.prefix)
    }

    /// What forwarders store, and listen to.
    pub fn all_replies(&self) -> String {
        format!("{}.out.*.reply.*", self.prefix)
    }

    /// What one account's edge consumes.
    pub fn out_of(&self, account: &Account) -> String {
        format!("{}.out.{account}.>", self.prefix)
    }

    /// A chat's inbound messages: the list that its order hangs on.
    pub fn message(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.in.{account}.message.{}", self.prefix, chat.as_str())
    }

    /// A chat's edits, revokes, reactions and poll votes.
    pub fn update(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.in.{account}.update.{}", self.prefix, chat.as_str())
    }

    /// What became of the messages sent to a chat.
    pub fn receipt(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.in.{account}.receipt.{}", self.prefix, chat.as_str())
    }

    /// The account's link and connection state.
    pub fn session(&self, account: &Account) -> String {
        format!("{}.in.{account}.session", self.prefix)
    }

    /// A chat's outcomes: its last message is the chat's state.
    pub fn reply(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.out.{account}.reply.{}", self.prefix, chat.as_str())
    }

    /// A chat's dead letters.
    pub fn dead(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.dlq.{account}.{}", self.prefix, chat.as_str())
    }

    /// One account's dead letters; all accounts' without one.
    pub fn dead_of(&self, account: Option<&Account>) -> String {
        let account = account.map_or("*", Account::as_str);
        format!("{}.dlq.{account}.*", self.prefix)
    }

    /// Reads `<prefix>.dlq.<account>.<chat>`.
    pub fn dead_route(&self, subject: &str) -> Option<(Account, ChatToken)> {
        let rest = subject.strip_prefix(&self.prefix)?.strip_prefix(".dlq.")?;
        let (account, chat) = rest.split_once('.')?;
        Some((Account::parse(account).ok()?, ChatToken::parse(chat).ok()?))
    }

    /// What `WA_IN` has of one account or of all, of one kind or of all.
    pub fn some_in(&self, account: Option<&Account>, kind: Option<&str>) -> String {
        let account = account.map_or("*", Account::as_str);
        match kind {
            Some("session") => format!("{}.in.{account}.session", self.prefix),
            Some(kind) => format!("{}.in.{account}.{kind}.*", self.prefix),
            None => format!("{}.in.{account}.>", self.prefix),
        }
    }

    /// What `WA_OUT` has of one account or of all, of one kind or of all.
    pub fn some_out(&self, account: Option<&Account>, kind: Option<&str>) -> String {
        let account = account.map_or("*", Account::as_str);
        let kind = kind.map_or(">".to_owned(), |kind| format!("{kind}.*"));
        format!("{}.out.{account}.{kind}", self.prefix)
    }

    /// The leases of all accounts.
    pub fn leases(&self) -> String {
        format!("$KV.{}.*", self.bucket_leases())
    }

    /// Whose lease is on this subject.
    pub fn lease_account(&self, subject: &str) -> Option<Account> {
        let rest = subject.strip_prefix("$KV.")?.strip_prefix(&self.bucket_leases())?;
        Account::parse(rest.strip_prefix('.')?).ok()
    }

    /// Where running processes are asked how they are. Core NATS: nothing of it is stored.
    pub fn live_status(&self) -> String {
        format!("{}.live.status", self.prefix)
    }

    /// Is it one of this connector's own subjects, or of the server's? Nobody is answered there.
    pub fn is_reserved(&self, subject: &str) -> bool {
        subject.starts_with('$') || subject.split('.').next() == Some(&self.prefix)
    }

    /// The durable consumer that all forwarders share.
    pub fn consumer_forwarder(&self) -> String {
        "forwarder".to_owned()
    }

    /// The durable consumer of one account's edge.
    pub fn consumer_edge(&self, account: &Account) -> String {
        format!("edge-{account}")
    }

    /// Reads any subject of the streams.
    pub fn place(&self, subject: &str) -> Option<Place> {
        if let Some((account, chat)) = self.dead_route(subject) {
            return Some(Place { account, kind: "dead".to_owned(), chat: Some(chat) });
        }
        if let Some(Route { account, kind, chat }) = self.route(subject) {
            return Some(Place { account, kind, chat: Some(chat) });
        }
        let account = subject.strip_prefix(&self.prefix)?.strip_prefix(".in.")?.strip_suffix(".session")?;
        Some(Place { account: Account::parse(account).ok()?, kind: "session".to_owned(), chat: None })
    }

    /// Reads `<prefix>.<in|out>.<account>.<kind>.<chat>`.
    pub fn route(&self, subject: &str) -> Option<Route> {
        let mut tokens = subject.strip_prefix(&self.prefix)?.strip_prefix('.')?.split('.');
        let (_direction, account, kind, chat) =
            (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?);
        if tokens.next().is_some() {
            return None;
        }
        Some(Route {
            account: Account::parse(account).ok()?,
            kind: kind.to_owned(),
            chat: ChatToken::parse(chat).ok()?,
        })
    }
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
