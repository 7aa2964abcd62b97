use super::*;

fn servers(url: &str) -> Result<Vec<String>, String> {
    let settings = Settings {
        url: url.to_owned().into(),
        access: Access::default(),
        name: String::new(),
        private: None,
    };
    settings.servers().map_err(|error| error.to_string())
}

#[test]
fn servers_are_told_without_the_login() {
    let want = ["nats://host:4222", "tls://b:1"].map(str::to_owned);
    assert_eq!(servers("nats://me:pass@host:4222, tls://b:1"), Ok(want.to_vec()));
    assert_eq!(servers("token@a,token@b").map(|servers| servers.len()), Ok(2));
}

#[test]
fn what_is_not_seen_in_an_address_is_refused_and_not_left_out() {
    for url in ["nats://can\tary", "can\nary:4222", "nats://me:can ary@host"] {
        let error = servers(url).unwrap_err();
        assert!(error.contains("invisible character") && !error.contains("ary"), "{error}");
    }
    // Around it, they are the shell's or the file's.
    assert!(servers(" nats://host:4222\n").is_ok());
}

#[test]
fn a_comma_in_a_login_is_refused_and_no_part_of_it_is_shown() {
    for url in ["nats://me:canary,canary@host", "nats://canary,canary@host", "nats://a,canary@b"] {
        let error = servers(url).unwrap_err();
        assert!(error.contains("%2C") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn the_end_of_a_login_is_told_from_what_a_role_may_not_do() {
    let other = |words: &str| ends_the_login(&ServerError::Other(words.to_owned()));
    assert!(ends_the_login(&ServerError::AuthorizationViolation));
    for words in
        ["User Authentication Revoked", "User Authentication Expired", "Account Authentication Expired"]
    {
        assert!(other(words), "{words}");
    }
    for words in [
        "Permissions Violation for Publish to \"wa.in.a.session\"",
        "Permissions Violation for Subscription to \"authentication.x\"",
        "maximum connections exceeded",
    ] {
        assert!(!other(words), "{words}");
    }
}
