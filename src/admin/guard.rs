//! Decides which client may see the QR code. It is a secret: anyone who has its text can link a phone.
//!
//! With `HTTP_TOKEN`, a client that sends it may, from any address and through any proxy. Without it, only clients on
//! this machine may.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::logins::{Logins, Verdict};

/// Makes a browser ask for name and password. Any name will do.
const CHALLENGE: &str = "Basic realm=\"whatsapp-connector\", charset=\"UTF-8\"";

/// The guard of `/link` and `/link.json`.
#[derive(Debug)]
pub(super) struct Guard {
    /// Its digest. All digests have one length, so the time of the comparison does not reveal the token's length.
    token: Option<[u8; 32]>,
    logins: Mutex<Logins>,
}

impl Guard {
    /// The guard with this token.
    pub(super) fn new(token: Option<&SecretString>) -> Self {
        let token = token.map(|token| digest(token.expose_secret().as_bytes()));
        Self { token, logins: Mutex::new(Logins::new(Instant::now())) }
    }

    /// The refusal of this request; `None` if it may be answered.
    pub(super) fn refusal(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<Response> {
        match &self.token {
            None => not_local(peer, headers),
            Some(token) => self.not_logged_in(token, peer, headers),
        }
    }

    /// `Host` is not checked here. A hostile page whose name resolves to this machine has no token, and a browser sends
    /// a stored token only to the name for which it was entered.
    fn not_logged_in(&self, token: &[u8; 32], peer: SocketAddr, headers: &HeaderMap) -> Option<Response> {
        let given = headers.get_all(header::AUTHORIZATION);
        if given.iter().next().is_none() {
            // Every browser begins like this. It does not count as a wrong login.
            return Some(challenge(
                "this page needs HTTP_TOKEN: as a Bearer token, or as the password of any user",
            ));
        }
        let mut given = given.iter();
        let right = match (given.next(), given.next()) {
            (Some(one), None) => password(one).is_some_and(|given| digest(&given).ct_eq(token).into()),
            _ => false,
        };
        match self.judged(peer, right) {
            Ok(()) => None,
            Err(None) => Some(challenge("this is not HTTP_TOKEN")),
            Err(Some(after)) => {
                let mut answer =
                    refuse(StatusCode::TOO_MANY_REQUESTS, "too many wrong logins: wait, then try again");
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
                Some(answer)
            }
        }
    }

    /// Is there a token to log in with?
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Judges a token that was typed in. If it is not the right one: in how many seconds the next may be tried, if it was
    /// not looked at.
    pub(super) fn login(&self, peer: SocketAddr, given: &[u8]) -> Result<(), Option<u64>> {
        let right = self.token.as_ref().is_some_and(|token| digest(given).ct_eq(token).into());
        self.judged(peer, right)
    }

    fn judged(&self, peer: SocketAddr, right: bool) -> Result<(), Option<u64>> {
        let verdict = {
            let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
            logins.judge(peer.ip(), right, Instant::now())
        };
        match verdict {
            Verdict::Right => Ok(()),
            Verdict::Wrong => Err(None),
            Verdict::Later { wait, tell } => {
                if tell {
                    tracing::warn!(from = %peer.ip(), "a client sends wrong tokens to the admin server; its next logins are not checked for now");
                }
                Err(Some(wait.as_secs() + 1))
            }
        }
    }
}

/// Refuses all but loopback. `Host` has to be loopback as well, because a hostile page in a browser on this machine can
/// make its own name resolve to it.
fn not_local(peer: SocketAddr, headers: &HeaderMap) -> Option<Response> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    if peer.ip().to_canonical().is_loopback() && ["localhost", "127.0.0.1", "[::1]"].contains(&name) {
        return None;
    }
    let why = "linking is served on loopback only: open it on this machine, or through an SSH tunnel or a port-forward, or set HTTP_TOKEN";
    Some(refuse(StatusCode::FORBIDDEN, why))
}

fn challenge(why: &str) -> Response {
    let mut answer = refuse(StatusCode::UNAUTHORIZED, why);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    answer
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({"error": why}))).into_response()
}

/// The token in an `Authorization` header: all of a `Bearer`, the password of a `Basic`.
fn password(header: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, given) = header.to_str().ok()?.split_once(' ')?;
    let given = given.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(given.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(given).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_the_password_of_anybody() {
        let of = |header: &str| password(&HeaderValue::from_str(header).unwrap());
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let token = Some(b"to:ken".to_vec());
        assert_eq!(of("Bearer to:ken"), token);
        assert_eq!(of("bearer  to:ken"), token);
        assert_eq!(of(&basic("me:to:ken")), token);
        assert_eq!(of(&basic(":to:ken")), token);
        assert_eq!(of(&basic("to-ken")), None);
        assert_eq!(of("Basic to:ken"), None);
        assert_eq!(of("to:ken"), None);
        assert_eq!(of("Digest to:ken"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn without_a_token_only_loopback_by_a_loopback_name_is_answered() {
        let guard = Guard::new(None);
        let refused = |peer: &str, host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
            guard.refusal(peer.parse().unwrap(), &headers).map(|answer| answer.status().as_u16())
        };
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
            assert_eq!(refused("127.0.0.1:1", host), None);
            assert_eq!(refused("[::ffff:127.0.0.1]:1", host), None);
            assert_eq!(refused("198.51.100.1:1", host), Some(403));
        }
        assert_eq!(refused("127.0.0.1:1", "evil.example:8080"), Some(403));
    }
}
