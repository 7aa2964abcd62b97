//! An operator of the test's own: signs accounts and users as `nsc` does.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// The operator, one account with JetStream, and the system's account.
pub struct Operator {
    key: KeyPair,
    /// The operator's own JWT; nats-server takes no other one at a reload.
    jwt: String,
    account: KeyPair,
    system: KeyPair,
    /// Public keys of users that are not let in any more.
    revoked: Vec<String>,
}

/// A user with credentials.
pub struct User {
    key: KeyPair,
    jwt: String,
}

impl User {
    /// The credentials file, as `nsc` writes it.
    pub fn write(&self, path: &Path) {
        let seed = self.key.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
            self.jwt
        );
        std::fs::write(path, text).expect("the credentials file");
    }
}

impl Operator {
    /// A new one.
    pub fn new() -> Self {
        let (key, account, system) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let claims = json!({ "type": "operator", "version": 2, "system_account": system.public_key() });
        let jwt = sign(&key, &key.public_key(), "operator", claims);
        Self { key, jwt, account, system, revoked: Vec::new() }
    }

    /// A user of the account who may do everything in it.
    pub fn user(&self, name: &str) -> User {
        let key = KeyPair::new_user();
        let claims = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let jwt = sign(&self.account, &key.public_key(), name, claims);
        User { key, jwt }
    }

    /// From the server's next reload on this user is not let in.
    pub fn revoke(&mut self, user: &User) {
        self.revoked.push(user.key.public_key());
    }

    /// The server's configuration.
    pub fn config(&self) -> String {
        let account = |key: &KeyPair, name: &str, storage: i64| {
            let revoked: serde_json::Map<String, Value> =
                self.revoked.iter().map(|user| (user.clone(), json!(now() + 60))).collect();
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
            });
            let claims = json!({ "type": "account", "version": 2, "limits": limits, "revocations": revoked });
            sign(&self.key, &key.public_key(), name, claims)
        };
        let (own, system) = (account(&self.account, "WHATSAPP", -1), account(&self.system, "SYS", 0));
        format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {own}\n{}: {system}\n}}\n",
            self.jwt,
            self.system.public_key(),
            self.account.public_key(),
            self.system.public_key(),
        )
    }
}

fn sign(issuer: &KeyPair, subject: &str, name: &str, nats: Value) -> String {
    let claims = json!({
        "jti": format!("{subject}-{}", now()), "iat": now(), "iss": issuer.public_key(), "sub": subject, "name": name,
        "nats": nats,
    });
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = URL_SAFE_NO_PAD.encode(claims.to_string());
    let signature = issuer.sign(format!("{header}.{body}").as_bytes()).expect("a signature");
    format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn now() -> i64 {
    whatsapp_connector::wire::now_ms() / 1000
}
