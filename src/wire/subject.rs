//! Subjects and stream names: the place of each kind of message on the bus.

use super::token::{Account, ChatToken, InvalidToken, is_legal};

/// All subjects and stream names, from the configured prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

/// The parts of a chat's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The linked number.
    pub account: Account,
    /// The third token: `message`, `reply`, `send`, ...
    pub kind: String,
    /// The chat.
    pub chat: ChatToken,
}

/// The parts of any stream's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The linked number.
    pub account: Account,
    /// `message`, `update`, `receipt`, `takeover`, `opt-out`, `session`, `reply`, `send`, or `dead`.
    pub kind: String,
    /// The chat; none for what is about the account itself.
    pub chat: Option<ChatToken>,
}

impl Subjects {
    /// Checks the prefix (`NATS_SUBJECT_PREFIX`). It is one token.
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

    /// The stream of the sessions that are on the bus.
    pub fn stream_session(&self) -> String {
        format!("{}_SESSION", self.prefix.to_uppercase())
    }

    /// All that [`Self::stream_session`] holds.
    pub fn all_sessions(&self) -> String {
        format!("{}.session.*.*", self.prefix)
    }

    /// One account's slots of it.
    pub fn session_slots(&self, account: &Account) -> String {
        format!("{}.session.{account}.*", self.prefix)
    }

    /// One slot of an account's.
    pub fn session_slot(&self, account: &Account, slot: u64) -> String {
        format!("{}.session.{account}.{slot}", self.prefix)
    }

    /// The stream that keeps what is published to `subject`, whatever the prefix is.
    pub fn stream_of(subject: &str) -> Option<String> {
        let mut tokens = subject.split('.');
        match (tokens.next()?, tokens.next()?) {
            ("$KV", bucket) => Some(format!("KV_{bucket}")),
            ("$O", bucket) => Some(format!("OBJ_{bucket}")),
            (prefix, kind @ ("in" | "out" | "dlq" | "session")) => {
                Some(format!("{}_{}", prefix.to_uppercase(), kind.to_uppercase()))
            }
            _ => None,
        }
    }

    /// The object store bucket of the files that people send.
    pub fn bucket_media(&self) -> String {
        format!("{}_MEDIA", self.prefix.to_uppercase())
    }

    /// The key-value bucket of the edges' leases.
    pub fn bucket_leases(&self) -> String {
        format!("{}_LEASES", self.prefix.to_uppercase())
    }

    /// The stream behind [`Self::bucket_leases`].
    pub fn stream_leases(&self) -> String {
        format!("KV_{}", self.bucket_leases())
    }

    /// The subject of one account's lease.
    pub fn lease(&self, account: &Account) -> String {
        format!("$KV.{}.{account}", self.bucket_leases())
    }

    /// The key-value bucket of a pool's accounts.
    pub fn bucket_accounts(&self) -> String {
        format!("{}_ACCOUNTS", self.prefix.to_uppercase())
    }

    /// The stream behind [`Self::bucket_accounts`].
    pub fn stream_accounts(&self) -> String {
        format!("KV_{}", self.bucket_accounts())
    }

    /// Where the bucket says what one account is like.
    pub fn account_key(&self, account: &Account) -> String {
        format!("$KV.{}.{account}", self.bucket_accounts())
    }

    /// [`Self::account_key`] of all accounts.
    pub fn account_keys(&self) -> String {
        format!("$KV.{}.*", self.bucket_accounts())
    }

    /// The account of such a key.
    pub fn account_of(&self, key: &str) -> Option<Account> {
        let rest = key.strip_prefix("$KV.")?.strip_prefix(&self.bucket_accounts())?;
        Account::parse(rest.strip_prefix('.')?).ok()
    }

    /// The key-value bucket of the marks of attempts.
    pub fn bucket_attempts(&self) -> String {
        format!("{}_ATTEMPTS", self.prefix.to_uppercase())
    }

    /// The stream behind [`Self::bucket_attempts`].
    pub fn stream_attempts(&self) -> String {
        format!("KV_{}", self.bucket_attempts())
    }

    /// The subject of one message's mark: its sequence in one incarnation of `WA_IN`.
    pub fn attempts(&self, incarnation: &str, sequence: u64) -> String {
        format!("$KV.{}.{incarnation}.{sequence}", self.bucket_attempts())
    }

    /// The key-value bucket of who wants nothing unasked.
    pub fn bucket_opt_outs(&self) -> String {
        format!("{}_OPT_OUTS", self.prefix.to_uppercase())
    }

    /// The stream behind [`Self::bucket_opt_outs`].
    pub fn stream_opt_outs(&self) -> String {
        format!("KV_{}", self.bucket_opt_outs())
    }

    /// Where the bucket says whether a chat wants nothing unasked.
    pub fn opt_out_key(&self, account: &Account, chat: &ChatToken) -> String {
        format!("$KV.{}.{account}.{}", self.bucket_opt_outs(), chat.as_str())
    }

    /// [`Self::opt_out_key`] of all chats of one account; of all accounts without one.
    pub fn opt_out_keys(&self, account: Option<&Account>) -> String {
        format!("$KV.{}.{}.*", self.bucket_opt_outs(), account.map_or("*", Account::as_str))
    }

    /// The account and the chat of such a key.
    pub fn opt_out_of(&self, key: &str) -> Option<(Account, ChatToken)> {
        let rest = key.strip_prefix("$KV.")?.strip_prefix(&self.bucket_opt_outs())?.strip_prefix('.')?;
        let (account, chat) = rest.split_once('.')?;
        Some((Account::parse(account).ok()?, ChatToken::parse(chat).ok()?))
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

    /// The outcomes of one account's messages.
    pub fn replies_of(&self, account: &Account) -> String {
        format!("{}.out.{account}.reply.*", self.prefix)
    }

    /// What other services ask an account to send.
    pub fn sends_of(&self, account: &Account) -> String {
        format!("{}.out.{account}.send.*", self.prefix)
    }

    /// What one account's edge consumes.
    pub fn out_of(&self, account: &Account) -> String {
        format!("{}.out.{account}.>", self.prefix)
    }

    /// A chat's inbound messages. They are the list that keeps its order.
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

    /// Whether a person has taken over a chat: its last message is what holds.
    pub fn takeover(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.in.{account}.takeover.{}", self.prefix, chat.as_str())
    }

    /// Word of a chat that wants nothing unasked any more, or wants it again.
    pub fn opt_out(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.in.{account}.opt-out.{}", self.prefix, chat.as_str())
    }

    /// The takeovers of one account's chats; all accounts' without one.
    pub fn takeovers_of(&self, account: Option<&Account>) -> String {
        self.some_in(account, Some("takeover"))
    }

    /// What any service wants to have sent into a chat.
    pub fn send(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.out.{account}.send.{}", self.prefix, chat.as_str())
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

    /// The subjects of `WA_IN` for one account or all, and one kind or all.
    pub fn some_in(&self, account: Option<&Account>, kind: Option<&str>) -> String {
        let account = account.map_or("*", Account::as_str);
        match kind {
            Some("session") => format!("{}.in.{account}.session", self.prefix),
            Some(kind) => format!("{}.in.{account}.{kind}.*", self.prefix),
            None => format!("{}.in.{account}.>", self.prefix),
        }
    }

    /// The subjects of `WA_OUT` for one account or all, and one kind or all.
    pub fn some_out(&self, account: Option<&Account>, kind: Option<&str>) -> String {
        let account = account.map_or("*", Account::as_str);
        let kind = kind.map_or(">".to_owned(), |kind| format!("{kind}.*"));
        format!("{}.out.{account}.{kind}", self.prefix)
    }

    /// The leases of all accounts.
    pub fn leases(&self) -> String {
        format!("$KV.{}.*", self.bucket_leases())
    }

    /// The account whose lease is on this subject.
    pub fn lease_account(&self, subject: &str) -> Option<Account> {
        let rest = subject.strip_prefix("$KV.")?.strip_prefix(&self.bucket_leases())?;
        Account::parse(rest.strip_prefix('.')?).ok()
    }

    /// The subject on which running processes are asked for their status. Core NATS, so nothing is stored.
    pub fn live_status(&self) -> String {
        format!("{}.live.status", self.prefix)
    }

    /// Where the edges of a pool tell each other how many accounts they have. Core NATS, so nothing is stored.
    pub fn live_pool(&self) -> String {
        format!("{}.live.pool", self.prefix)
    }

    /// Where one account's edge is asked to do something. Core NATS, so nothing is stored.
    pub fn service(&self, account: &Account, act: &str) -> String {
        format!("{}.svc.{account}.{act}", self.prefix)
    }

    /// All that one account's edge can be asked to do.
    pub fn services_of(&self, account: &Account) -> String {
        self.service(account, "*")
    }

    /// Where forwarders say that the backend works on a message of a chat. Core NATS, so nothing is stored.
    pub fn live_typing(&self, account: &Account, chat: &ChatToken) -> String {
        format!("{}.live.{account}.typing.{}", self.prefix, chat.as_str())
    }

    /// [`Self::live_typing`] of all chats of one account, or of all.
    pub fn all_typing(&self, account: Option<&Account>) -> String {
        let account = account.map_or("*", Account::as_str);
        format!("{}.live.{account}.typing.*", self.prefix)
    }

    /// Is it one of this connector's own subjects, or one of nats-server's? No answer is sent there.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stream_of_a_subject_is_the_one_that_keeps_it() {
        let subjects = Subjects::new("wa-Shop_2").unwrap();
        let (account, chat) = (Account::parse("default").unwrap(), ChatToken::phone("5491112345678"));
        for (subject, stream) in [
            (subjects.message(&account, &chat), subjects.stream_in()),
            (subjects.reply(&account, &chat), subjects.stream_out()),
            (subjects.dead(&account, &chat), subjects.stream_dlq()),
            (subjects.lease(&account), subjects.stream_leases()),
            (subjects.attempts("1", 2), subjects.stream_attempts()),
            (subjects.opt_out_key(&account, &chat), subjects.stream_opt_outs()),
            (subjects.opt_out(&account, &chat), subjects.stream_in()),
            (subjects.session_slot(&account, 7), subjects.stream_session()),
        ] {
            assert_eq!(Subjects::stream_of(&subject), Some(stream), "{subject}");
        }
        assert_eq!(Subjects::stream_of("wa"), None);
        assert_eq!(subjects.opt_out_of(&subjects.opt_out_key(&account, &chat)), Some((account, chat)));
        assert_eq!(subjects.opt_out_of("$KV.WA_OPT_OUTS.default.54911"), None, "another prefix's");
        assert_eq!(Subjects::stream_of("wa.other.x"), None);
    }

    proptest! {

        #[test]
        fn a_subject_leads_back_to_its_chat(user in "[0-9]{5,20}", name in "[a-z0-9_-]{1,20}") {
            let subjects = Subjects::new("wa").unwrap();
            let account = Account::parse(&name).unwrap();
            for chat in [ChatToken::phone(&user), ChatToken::lid(&user), ChatToken::group(&user)] {
                let route = subjects.route(&subjects.message(&account, &chat)).unwrap();
                prop_assert_eq!((&route.account, &route.chat), (&account, &chat));
                prop_assert_eq!(route.kind, "message");
            }
        }

    }

    #[test]
    fn every_subject_of_the_streams_is_read() {
        let subjects = Subjects::new("wa").unwrap();
        let (account, chat) = (Account::parse("a").unwrap(), ChatToken::phone("54911"));
        for (subject, kind) in [
            (subjects.message(&account, &chat), "message"),
            (subjects.update(&account, &chat), "update"),
            (subjects.receipt(&account, &chat), "receipt"),
            (subjects.takeover(&account, &chat), "takeover"),
            (subjects.session(&account), "session"),
            (subjects.reply(&account, &chat), "reply"),
            (subjects.dead(&account, &chat), "dead"),
        ] {
            let place = subjects.place(&subject).unwrap();
            assert_eq!((&place.account, place.kind.as_str()), (&account, kind));
            assert_eq!(place.chat, (kind != "session").then(|| chat.clone()));
            assert!(subjects.is_reserved(&subject), "{subject}");
        }
        for other in ["wa.in.a.b.c.d", "wax.in.a.session", "wa.in.A.session", "_INBOX.1", "wa"] {
            assert_eq!(subjects.place(other), None, "{other}");
        }
        assert_eq!(subjects.lease_account(&subjects.lease(&account)), Some(account));
        assert!(subjects.is_reserved("$JS.API.INFO") && subjects.is_reserved("wa.live.status"));
        assert!(!subjects.is_reserved("_INBOX.wa.1") && !subjects.is_reserved("wax.in"));
    }

    /// As in docs/subjects.md. Other services depend on each of them.
    #[test]
    fn subjects_streams_and_consumers_have_the_names_that_others_know() {
        let subjects = Subjects::new("wa").unwrap();
        let (account, chat) = (&Account::parse("shop").unwrap(), &ChatToken::phone("54911"));
        for (got, want) in [
            (subjects.stream_in(), "WA_IN"),
            (subjects.stream_out(), "WA_OUT"),
            (subjects.stream_dlq(), "WA_DLQ"),
            (subjects.bucket_leases(), "WA_LEASES"),
            (subjects.stream_leases(), "KV_WA_LEASES"),
            (subjects.leases(), "$KV.WA_LEASES.*"),
            (subjects.lease(account), "$KV.WA_LEASES.shop"),
            (subjects.bucket_attempts(), "WA_ATTEMPTS"),
            (subjects.stream_attempts(), "KV_WA_ATTEMPTS"),
            (subjects.attempts("123", 7), "$KV.WA_ATTEMPTS.123.7"),
            (subjects.all_in(), "wa.in.>"),
            (subjects.all_out(), "wa.out.>"),
            (subjects.all_dlq(), "wa.dlq.>"),
            (subjects.all_messages(), "wa.in.*.message.*"),
            (subjects.all_replies(), "wa.out.*.reply.*"),
            (subjects.in_of(account), "wa.in.shop.>"),
            (subjects.out_of(account), "wa.out.shop.>"),
            (subjects.message(account, chat), "wa.in.shop.message.54911"),
            (subjects.update(account, chat), "wa.in.shop.update.54911"),
            (subjects.receipt(account, chat), "wa.in.shop.receipt.54911"),
            (subjects.takeover(account, chat), "wa.in.shop.takeover.54911"),
            (subjects.takeovers_of(Some(account)), "wa.in.shop.takeover.*"),
            (subjects.takeovers_of(None), "wa.in.*.takeover.*"),
            (subjects.session(account), "wa.in.shop.session"),
            (subjects.reply(account, chat), "wa.out.shop.reply.54911"),
            (subjects.dead(account, chat), "wa.dlq.shop.54911"),
            (subjects.dead_of(Some(account)), "wa.dlq.shop.*"),
            (subjects.dead_of(None), "wa.dlq.*.*"),
            (subjects.some_in(Some(account), None), "wa.in.shop.>"),
            (subjects.some_in(None, Some("update")), "wa.in.*.update.*"),
            (subjects.some_in(None, Some("session")), "wa.in.*.session"),
            (subjects.some_out(Some(account), None), "wa.out.shop.>"),
            (subjects.some_out(None, Some("send")), "wa.out.*.send.*"),
            (subjects.live_status(), "wa.live.status"),
            (subjects.live_typing(account, chat), "wa.live.shop.typing.54911"),
            (subjects.service(account, "link"), "wa.svc.shop.link"),
            (subjects.services_of(account), "wa.svc.shop.*"),
            (subjects.all_typing(Some(account)), "wa.live.shop.typing.*"),
            (subjects.all_typing(None), "wa.live.*.typing.*"),
            (subjects.consumer_forwarder(), "forwarder"),
            (subjects.consumer_edge(account), "edge-shop"),
        ] {
            assert_eq!(got, want);
        }
        assert_eq!((account.as_str(), account.to_string().as_str()), ("shop", "shop"));
    }

    #[test]
    fn what_is_on_another_subject_leads_nowhere() {
        let subjects = Subjects::new("wa").unwrap();
        for other in [
            "wa.in.shop.message",
            "wa.in.shop.message.54911.x",
            "wa.in.Shop.message.54911",
            "wa.in.shop.message.",
            "wax.in.shop.message.54911",
            "wa.dlq.shop",
        ] {
            assert_eq!((subjects.route(other), subjects.dead_route(other)), (None, None), "{other}");
        }
        for other in ["$KV.WA_LEASES", "$KV.WA_LEASES.Shop", "$KV.WA_LEASESX.shop", "$KV.WA_ATTEMPTS.1.2"] {
            assert_eq!(subjects.lease_account(other), None, "{other}");
        }
        for other in ["", "wa", "wa.live.status", "$JS.API.INFO"] {
            assert_eq!(Subjects::stream_of(other), None, "{other}");
        }
    }
}
