use proptest::prelude::*;

use super::*;

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.is_ascii()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || ".*>$".contains(c))
}

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
    ] {
        assert_eq!(Subjects::stream_of(&subject), Some(stream), "{subject}");
    }
    assert_eq!(Subjects::stream_of("wa"), None);
    assert_eq!(Subjects::stream_of("wa.other.x"), None);
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
    fn a_subject_leads_back_to_its_chat(user in "[0-9]{5,20}", name in "[a-z0-9_-]{1,20}") {
        let subjects = Subjects::new("wa").unwrap();
        let account = Account::parse(&name).unwrap();
        for chat in [ChatToken::phone(&user), ChatToken::lid(&user), ChatToken::group(&user)] {
            let route = subjects.route(&subjects.message(&account, &chat)).unwrap();
            prop_assert_eq!((&route.account, &route.chat), (&account, &chat));
            prop_assert_eq!(route.kind, "message");
        }
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
fn every_subject_of_the_streams_is_read() {
    let subjects = Subjects::new("wa").unwrap();
    let (account, chat) = (Account::parse("a").unwrap(), ChatToken::phone("54911"));
    for (subject, kind) in [
        (subjects.message(&account, &chat), "message"),
        (subjects.update(&account, &chat), "update"),
        (subjects.receipt(&account, &chat), "receipt"),
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

#[test]
fn masking_shows_four_characters_at_most() {
    assert_eq!(ChatToken::phone("5491112345678").masked(), "…5678");
    assert_eq!(masked("1234"), "…");
    assert_eq!(masked("12345"), "…2345");
    assert_eq!(masked(""), "…");
}

/// As docs/subjects.md has them: other services hang on every one.
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
        (subjects.consumer_forwarder(), "forwarder"),
        (subjects.consumer_edge(account), "edge-shop"),
    ] {
        assert_eq!(got, want);
    }
    assert_eq!((account.as_str(), account.to_string().as_str()), ("shop", "shop"));
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
    for chat in [ChatToken::lid("987"), ChatToken::group("120363"), ChatToken::other("status", "status")] {
        assert_eq!(chat.phone_number(), "");
    }
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
