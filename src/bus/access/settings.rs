//! Reads the settings of the login, TLS and the prefixes, and names every one that cannot be used.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::login::{Login, Secret, user_key};
use super::{Bad, TAKES_SWITCH};

/// The setting of each way to log in.
const WAYS: [&str; 4] = ["NATS_CREDS", "NATS_NKEY", "NATS_TOKEN", "NATS_USER"];

/// Reads settings by name; a blank one counts as not set.
pub(super) struct Settings<'a, F: Fn(&str) -> Option<&'a str>> {
    pub get: F,
    pub bad: Vec<Bad>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Settings<'a, F> {
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        (self.get)(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Two settings that need each other.
    pub(super) fn pair(&mut self, first: &'static str, second: &'static str) -> Option<(&'a str, &'a str)> {
        let missing = match (self.text(first), self.text(second)) {
            (Some(one), Some(other)) => return Some((one, other)),
            (None, None) => return None,
            (Some(_), None) => second,
            (None, Some(_)) => first,
        };
        let takes = "a file: NATS_CERT and NATS_KEY go together";
        self.bad.push((missing, "(not set)".to_owned(), takes));
        None
    }

    pub(super) fn name(&mut self, name: &'static str, takes: &'static str, others: &str) -> Option<String> {
        let text = self.text(name)?;
        let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
            && text.split('.').all(|token| !token.is_empty());
        if !legal {
            self.bad.push((name, text.to_owned(), takes));
        }
        legal.then(|| text.to_owned())
    }

    pub(super) fn switch(&mut self, name: &'static str) -> bool {
        match self.text(name) {
            Some("on") => true,
            None | Some("off") => false,
            Some(other) => {
                self.bad.push((name, other.to_owned(), TAKES_SWITCH));
                false
            }
        }
    }

    fn secret(&mut self, name: &'static str, file: &'static str) -> Option<Secret> {
        match (self.text(name), self.text(file)) {
            (Some(_), Some(path)) => {
                self.bad.push((file, path.to_owned(), "nothing while the same without _FILE is set"));
                None
            }
            (Some(secret), None) => Some(Secret::Given(secret.to_owned().into())),
            (None, path) => path.map(|path| Secret::File(file, path.into())),
        }
    }

    pub(super) fn login(&mut self) -> Login {
        let creds = self.text("NATS_CREDS").map(PathBuf::from);
        let nkey = self.secret("NATS_NKEY", "NATS_NKEY_FILE");
        let token = self.secret("NATS_TOKEN", "NATS_TOKEN_FILE");
        let user = self.text("NATS_USER");
        let password = self.secret("NATS_PASSWORD", "NATS_PASSWORD_FILE");
        if let Some(Secret::Given(seed)) = &nkey
            && user_key(seed.expose_secret()).is_none()
        {
            self.bad.push(("NATS_NKEY", "(not shown)".to_owned(), "a user's seed (SU...)"));
        }
        if user.is_some() != password.is_some() {
            let missing = if user.is_some() { "NATS_PASSWORD" } else { "NATS_USER" };
            let takes = "a text: NATS_USER and NATS_PASSWORD (or NATS_PASSWORD_FILE) go together";
            self.bad.push((missing, "(not set)".to_owned(), takes));
        }
        let given = [creds.is_some(), nkey.is_some(), token.is_some(), user.is_some()];
        let ways: Vec<_> = WAYS.into_iter().zip(given).filter(|(_, given)| *given).collect();
        for (name, _) in ways.iter().skip(1) {
            let takes = "nothing together with another login: set one of NATS_CREDS, NATS_NKEY, NATS_TOKEN and \
                         NATS_USER";
            self.bad.push((name, "(set)".to_owned(), takes));
        }
        match (creds, nkey, token, user, password) {
            (Some(path), ..) => Login::Creds(path),
            (_, Some(seed), ..) => Login::Nkey(seed),
            (_, _, Some(token), ..) => Login::Token(token),
            (.., Some(user), Some(password)) => Login::User(user.to_owned(), password),
            _ => Login::None,
        }
    }
}
