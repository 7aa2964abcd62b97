//! Ways to log in to nats-server, and the secrets for them. Files are read again for each connection.

use std::path::{Path, PathBuf};

use async_nats::Auth;
use nkeys::{KeyPair, KeyPairType};
use secrecy::{ExposeSecret as _, SecretString};

use super::AccessError;

/// How to log in.
#[derive(Debug, Clone, Default)]
pub(super) enum Login {
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
pub(super) enum Secret {
    Given(SecretString),
    File(&'static str, PathBuf),
}

impl Login {
    /// The login for a server that sends `nonce`.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, AccessError> {
        let mut auth = Auth::new();
        match self {
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
        let path = match self {
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

pub(super) fn user_key(seed: &str) -> Option<KeyPair> {
    KeyPair::from_seed(seed).ok().filter(|key| key.key_pair_type() == KeyPairType::User)
}
