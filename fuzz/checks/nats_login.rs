//! How to get into nats-server: credentials files, addresses, and what is said of those that cannot be used.

use whatsapp_connector::bus::access::{Access, credentials};
use whatsapp_connector::bus::{AccessError, Settings};

/// Stands in every secret; in nothing else.
const CANARY: &str = "Zq7xK";

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.contains(CANARY) {
        return; // What the fuzzer writes itself is no secret.
    }
    if let Some((jwt, key)) = credentials(&text) {
        assert!(text.contains(jwt) && !jwt.is_empty() && !jwt.starts_with("---"));
        assert!(key.public_key().starts_with('U'), "it is no user's");
    }
    // No address has a slash in its login; and with an @ and a comma in it, it would be two addresses.
    let list = text.contains(',');
    let legal = |c: &char| !c.is_control() && *c != '/' && !(list && *c == '@');
    let first: String = text.chars().filter(legal).take(64).collect();
    if first.contains(CANARY) {
        return;
    }
    let secret = format!("{CANARY}{first}{CANARY}");
    for address in [
        format!("nats://me:{secret}@host:4222"),
        format!("nats://{secret}@host, tls://b:1"),
        format!("{secret}@host"),
        format!("nats://a:1,wss://me:{secret}@host:4222"),
    ] {
        servers(&address).iter().for_each(|shown| hides(shown));
    }
    assert!(!servers(&text).is_empty());
    for names in [
        &["NATS_TOKEN"][..],
        &["NATS_NKEY"],
        &["NATS_USER", "NATS_PASSWORD"],
        &["NATS_NKEY", "NATS_TOKEN"],
        &["NATS_TOKEN", "NATS_TOKEN_FILE"],
        &["NATS_PASSWORD"],
    ] {
        let value = |name: &str| match name {
            "NATS_URL" => Some("nats://host"),
            "NATS_USER" | "NATS_TOKEN_FILE" => Some("me"),
            _ => Some(secret.as_str()),
        };
        let access = Access::read(|name| value(name).filter(|_| name == "NATS_URL" || names.contains(&name)));
        hides(&format!("{access:?}"));
        if let Ok(access) = access {
            hides(&said(access.probe()));
        }
    }
}

/// What is shown of an address: its servers, or what is wrong with it.
fn servers(address: &str) -> Vec<String> {
    let settings = Settings {
        url: address.to_owned().into(),
        access: Access::default(),
        name: "fuzz".to_owned(),
        private: None,
    };
    settings.servers().unwrap_or_else(|error| vec![error.to_string()])
}

fn said(probed: Result<(), AccessError>) -> String {
    probed.err().map(|error| error.to_string()).unwrap_or_default()
}

#[track_caller]
fn hides(shown: &str) {
    assert!(!shown.contains(CANARY), "a secret is shown: {shown}");
}
