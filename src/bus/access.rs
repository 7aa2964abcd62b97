//! The login to nats-server, TLS, and the prefixes that permissions depend on.
//!
//! Files are read again for each connection, so that a rotation needs no restart.

use std::path::{Path, PathBuf};

use async_nats::{Auth, ConnectOptions};
use nkeys::{KeyPair, KeyPairType};
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};

/// A setting that cannot be used: its name, its value (never a secret), what it takes.
pub type Bad = (&'static str, String, &'static str);

/// The API of the server's own JetStream domain.
pub(super) const OWN_API: &str = "$JS.API";

/// The default prefix of the subjects for answers.
pub const INBOX: &str = "_INBOX";

/// What the name of a JetStream domain takes.
pub const TAKES_DOMAIN: &str = "letters, digits, _ and -";

/// What the prefix of a subject takes.
pub const TAKES_INBOX: &str = "letters, digits, _, - and dots";

/// What a switch takes.
pub const TAKES_SWITCH: &str = "on or off";

/// The setting of each way to log in.
const WAYS: [&str; 4] = ["NATS_CREDS", "NATS_NKEY", "NATS_TOKEN", "NATS_USER"];

/// What is not in `NATS_URL`.
#[derive(Debug, Clone, Default)]
pub struct Access {
    login: Login,
    ca: Option<PathBuf>,
    /// The client certificate and its key.
    certificate: Option<(PathBuf, PathBuf)>,
    /// The JetStream domain, if it is not the server's own.
    domain: Option<String>,
    inbox_prefix: Option<String>,
    /// TLS begins with the connection, before the server says anything.
    tls_first: bool,
    /// Only the addresses of `NATS_URL` count, not those that a cluster tells.
    ignore_discovered: bool,
}

/// How to log in.
#[derive(Debug, Clone, Default)]
enum Login {
    /// With the login in `NATS_URL`, if there is one.
    #[default]
    None,
    /// A credentials file: a JWT and a seed.
    Creds(PathBuf),
    Nkey(Secret),
    Token(Secret),
    User(String, Secret),
}

/// A secret, or the file that holds it.
#[derive(Debug, Clone)]
enum Secret {
    Given(SecretString),
    File(&'static str, PathBuf),
}

/// A file that a setting names cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={}: {why}", path.display())]
pub struct AccessError {
    name: &'static str,
    path: PathBuf,
    why: String,
}

impl Access {
    /// Reads the settings by name, or names every one that cannot be used. Opens no file.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Vec<Bad>> {
        let mut settings = Settings { get, bad: Vec::new() };
        let access = Self {
            login: settings.login(),
            ca: settings.text("NATS_CA").map(PathBuf::from),
            certificate: settings
                .pair("NATS_CERT", "NATS_KEY")
                .map(|(certificate, key)| (certificate.into(), key.into())),
            domain: settings.name("NATS_JS_DOMAIN", TAKES_DOMAIN, "_-"),
            inbox_prefix: settings.name("NATS_INBOX_PREFIX", TAKES_INBOX, "_-."),
            tls_first: settings.switch("NATS_TLS_FIRST"),
            ignore_discovered: settings.switch("NATS_IGNORE_DISCOVERED"),
        };
        let private = settings.text("NATS_URL").is_none();
        if private && access.is_set() {
            let takes = "an address: without one `run` starts a nats-server of its own, and the login, TLS, \
                         domain and inbox settings are for another one";
            settings.bad.push(("NATS_URL", "(not set)".to_owned(), takes));
        }
        if settings.bad.is_empty() { Ok(access) } else { Err(settings.bad) }
    }

    fn is_set(&self) -> bool {
        self.has_login()
            || self.ca.is_some()
            || self.certificate.is_some()
            || self.domain.is_some()
            || self.inbox_prefix.is_some()
            || self.tls_first
            || self.ignore_discovered
    }

    /// The prefix of the subjects of JetStream's API.
    pub(super) fn api_prefix(&self) -> String {
        self.domain.as_ref().map_or_else(|| OWN_API.to_owned(), |domain| format!("$JS.{domain}.API"))
    }

    /// The prefix of the subjects for answers.
    pub(super) fn inbox_prefix(&self) -> &str {
        self.inbox_prefix.as_deref().unwrap_or(INBOX)
    }

    pub(super) fn has_login(&self) -> bool {
        !matches!(self.login, Login::None)
    }

    /// With the login of an address, in the encoding of addresses. A user without a password is a token.
    pub(super) fn with_login(self, user: &str, password: Option<&str>) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let given = |text: &str| Secret::Given(decoded(text).into());
        let login = match password {
            Some(password) => Login::User(decoded(user), given(password)),
            None => Login::Token(given(user)),
        };
        Self { login, ..self }
    }

    /// Checks that every file can be used at this moment.
    pub fn probe(&self) -> Result<(), AccessError> {
        self.answer(b"nonce")?;
        if let Some(path) = &self.ca {
            certificates("NATS_CA", path)?;
        }
        if let Some((path, key_path)) = &self.certificate {
            let chain = certificates("NATS_CERT", path)?;
            let failed = |why: String| AccessError { name: "NATS_KEY", path: key_path.clone(), why };
            let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| failed(pem(&error)))?;
            if let Some(provider) = rustls::crypto::CryptoProvider::get_default() {
                rustls::sign::CertifiedKey::from_der(chain, key, provider)
                    .map_err(|error| failed(format!("it does not belong to NATS_CERT ({error})")))?;
            }
        }
        Ok(())
    }

    /// Options for the login. Files are read again for each connection. `failed` is called if one cannot be used.
    pub(super) fn options(
        &self,
        failed: impl Fn(&AccessError) + Clone + Send + Sync + 'static,
    ) -> ConnectOptions {
        let mut options = if self.has_login() {
            let access = self.clone();
            ConnectOptions::with_auth_callback(move |nonce| {
                // Reading a small local file takes no longer than a task switch.
                let answer = access.answer(&nonce).map_err(|error| {
                    failed(&error);
                    async_nats::AuthError::new(error)
                });
                std::future::ready(answer)
            })
        } else {
            ConnectOptions::new()
        };
        if let Some(path) = &self.ca {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        if self.tls_first {
            options = options.tls_first();
        }
        if self.ignore_discovered {
            options = options.ignore_discovered_servers();
        }
        // An operator who sets certificates does not want a connection without TLS.
        options.require_tls(self.tls_first || self.ca.is_some() || self.certificate.is_some())
    }

    /// The login for a server that sends `nonce`.
    fn answer(&self, nonce: &[u8]) -> Result<Auth, AccessError> {
        let mut auth = Auth::new();
        match &self.login {
            Login::None => {}
            Login::Creds(path) => {
                let failed =
                    |why: &str| AccessError { name: "NATS_CREDS", path: path.clone(), why: why.to_owned() };
                let text = read_file(path).map_err(|error| failed(&error.to_string()))?;
                let (jwt, key) = credentials(&text).ok_or_else(|| failed("it is not a credentials file"))?;
                auth.jwt = Some(jwt.to_owned());
                auth.signature = key.sign(nonce).ok();
            }
            Login::Nkey(seed) => {
                let seed = seed.now()?;
                // A seed in the environment was checked when the settings were read.
                let key = user_key(seed.expose_secret());
                let key = key.ok_or_else(|| self.no_seed())?;
                auth.signature = key.sign(nonce).ok();
                auth.nkey = Some(key.public_key());
            }
            Login::Token(token) => auth.token = Some(token.now()?.expose_secret().to_owned()),
            Login::User(user, password) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.now()?.expose_secret().to_owned());
            }
        }
        Ok(auth)
    }

    fn no_seed(&self) -> AccessError {
        let path = match &self.login {
            Login::Nkey(Secret::File(_, path)) => path.clone(),
            _ => PathBuf::new(),
        };
        AccessError { name: "NATS_NKEY_FILE", path, why: "it is not a user's seed (SU...)".to_owned() }
    }
}

impl Secret {
    /// Its present value. A line break at the end of a file is not part of it.
    fn now(&self) -> Result<SecretString, AccessError> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(name, path) => match read_file(path) {
                Ok(text) if !text.trim_end().is_empty() => Ok(text.trim_end().to_owned().into()),
                Ok(_) => Err(AccessError { name, path: path.clone(), why: "it is empty".to_owned() }),
                Err(error) => Err(AccessError { name, path: path.clone(), why: error.to_string() }),
            },
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a small local file, once for each connection that is made")]
fn read_file(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

/// The JWT and the key of a credentials file: the bodies of its first two decorated blocks.
pub fn credentials(text: &str) -> Option<(&str, KeyPair)> {
    let body = |kind: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(kind))?;
        lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
    };
    Some((body("JWT")?, user_key(body("SEED")?)?))
}

fn user_key(seed: &str) -> Option<KeyPair> {
    KeyPair::from_seed(seed).ok().filter(|key| key.key_pair_type() == KeyPairType::User)
}

fn certificates(name: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let failed = |why: String| AccessError { name, path: path.to_owned(), why };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(pem(&error)))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| failed(pem(&error)))?;
    if found.is_empty() {
        return Err(failed("no certificate is in it".to_owned()));
    }
    Ok(found)
}

/// The error in words. It never quotes the file.
fn pem(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        _ => "it is not the PEM file that is needed".to_owned(),
    }
}

/// Reads settings by name; a blank one counts as not set.
struct Settings<'a, F: Fn(&str) -> Option<&'a str>> {
    get: F,
    bad: Vec<Bad>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Settings<'a, F> {
    fn text(&self, name: &str) -> Option<&'a str> {
        (self.get)(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// Two settings that need each other.
    fn pair(&mut self, first: &'static str, second: &'static str) -> Option<(&'a str, &'a str)> {
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

    fn name(&mut self, name: &'static str, takes: &'static str, others: &str) -> Option<String> {
        let text = self.text(name)?;
        let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
            && text.split('.').all(|token| !token.is_empty());
        if !legal {
            self.bad.push((name, text.to_owned(), takes));
        }
        legal.then(|| text.to_owned())
    }

    fn switch(&mut self, name: &'static str) -> bool {
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

    fn login(&mut self) -> Login {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Access, Vec<Bad>> {
        let found = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Access::read(|name| found(name).or((name == "NATS_URL").then_some("nats://h")))
    }

    fn bad(settings: &[(&str, &str)]) -> Vec<&'static str> {
        read(settings).map(|_| Vec::new()).unwrap_or_else(|bad| bad.iter().map(|(name, ..)| *name).collect())
    }

    #[test]
    fn settings_that_contradict_each_other_or_lack_another_are_named() {
        let seed = KeyPair::new_user().seed().unwrap();
        let cases: [(&[(&str, &str)], &str); 15] = [
            (&[("NATS_CREDS", "a"), ("NATS_TOKEN", "b")], "NATS_TOKEN"),
            (&[("NATS_NKEY", &seed), ("NATS_USER", "b"), ("NATS_PASSWORD", "c")], "NATS_USER"),
            (&[("NATS_TOKEN", "a"), ("NATS_TOKEN_FILE", "b")], "NATS_TOKEN_FILE"),
            (&[("NATS_USER", "a")], "NATS_PASSWORD"),
            (&[("NATS_PASSWORD_FILE", "a")], "NATS_USER"),
            (&[("NATS_CERT", "a")], "NATS_KEY"),
            (&[("NATS_KEY", "a")], "NATS_CERT"),
            (&[("NATS_NKEY", "SUsomething")], "NATS_NKEY"),
            (&[("NATS_JS_DOMAIN", "a.b")], "NATS_JS_DOMAIN"),
            (&[("NATS_INBOX_PREFIX", "_INBOX.>")], "NATS_INBOX_PREFIX"),
            (&[("NATS_INBOX_PREFIX", "_INBOX.")], "NATS_INBOX_PREFIX"),
            (&[("NATS_URL", " "), ("NATS_TOKEN", "a")], "NATS_URL"),
            (&[("NATS_URL", " "), ("NATS_TLS_FIRST", "on")], "NATS_URL"),
            (&[("NATS_TLS_FIRST", "yes")], "NATS_TLS_FIRST"),
            (&[("NATS_IGNORE_DISCOVERED", "1")], "NATS_IGNORE_DISCOVERED"),
        ];
        for (settings, want) in cases {
            assert_eq!(
                bad(settings),
                [want],
                "{:?}",
                settings.iter().map(|(name, _)| name).collect::<Vec<_>>()
            );
        }
        assert!(
            bad(&[("NATS_CREDS", "a"), ("NATS_CA", "b"), ("NATS_CERT", "c"), ("NATS_KEY", "d")]).is_empty()
        );
        assert!(bad(&[("NATS_TLS_FIRST", "on"), ("NATS_IGNORE_DISCOVERED", "off")]).is_empty());
        assert!(bad(&[("NATS_JS_DOMAIN", "hub"), ("NATS_INBOX_PREFIX", "_INBOX_edge.a")]).is_empty());
    }

    #[test]
    fn a_secret_is_in_no_message() {
        let account_seed = KeyPair::new_account().seed().unwrap();
        let secrets = ["topsecret", account_seed.as_str()];
        let shown = [
            format!("{:?}", read(&[("NATS_TOKEN", "topsecret")])),
            format!("{:?}", read(&[("NATS_USER", "me"), ("NATS_PASSWORD", "topsecret")])),
            format!("{:?}", read(&[("NATS_CREDS", "a"), ("NATS_TOKEN", "topsecret")])),
            format!("{:?}", read(&[("NATS_NKEY", &account_seed)])),
        ];
        for text in shown {
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let settings = [("NATS_USER", "me"), ("NATS_PASSWORD_FILE", path.to_str().unwrap())];
        let access = read(&settings).unwrap();
        let error = access.probe().unwrap_err().to_string();
        assert!(error.starts_with("NATS_PASSWORD_FILE=") && error.contains("No such file"), "{error}");
        for password in ["first", "second"] {
            std::fs::write(&path, format!("{password}\n")).unwrap();
            assert_eq!(access.answer(b"").unwrap().password.as_deref(), Some(password));
        }
    }

    #[test]
    fn a_credentials_file_is_understood_as_nsc_writes_it() {
        let seed = KeyPair::new_user().seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.x.y\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        assert_eq!(credentials(&text).unwrap().0, "eyJ0.x.y");
        assert_eq!(credentials(&text.replace('\n', "\r\n")).unwrap().0, "eyJ0.x.y");
        assert!(credentials("").is_none());
        assert!(credentials(&text.replace(&seed, "")).is_none());
    }
}
