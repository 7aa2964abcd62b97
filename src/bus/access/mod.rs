//! The login to nats-server, TLS, and the prefixes that permissions depend on.
//!
//! Files are read again for each connection, so that a rotation needs no restart.

mod login;
mod settings;

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use login::credentials;
use login::{Login, Secret};
use settings::Settings;

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
        self.login.answer(b"nonce")?;
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
            let login = self.login.clone();
            ConnectOptions::with_auth_callback(move |nonce| {
                // Reading a small local file takes no longer than a task switch.
                let answer = login.answer(&nonce).map_err(|error| {
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

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

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
            assert_eq!(access.login.answer(b"").unwrap().password.as_deref(), Some(password));
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
