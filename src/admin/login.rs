//! Who may link the number: whoever is on this machine, or, with `HTTP_TOKEN`, whoever has that.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

/// Wrong logins from one place within [`WINDOW`]. After that nothing from there is even compared, the right token
/// neither: who guesses must not learn, and an operator elsewhere must not be locked out by him.
const WRONG: u32 = 100;
/// For how long they count.
const WINDOW: Duration = Duration::from_secs(60);
/// As many places are remembered; beyond that the oldest is forgotten.
const PLACES: usize = 10_000;

/// What a request has to show.
#[derive(Debug)]
pub enum Guard {
    /// That it comes from this machine.
    Loopback,
    /// The token, wherever it comes from.
    Token(Box<Token>),
}

/// The token's digest: comparing digests tells neither its length nor its beginning.
#[derive(Debug)]
pub struct Token {
    digest: [u8; 32],
    guesses: Mutex<Guesses>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It comes from elsewhere, and there is no token.
    Elsewhere,
    /// It shows none.
    NoLogin,
    /// It shows another one.
    Wrong,
    /// Too many wrong ones have come from there. In so long it may try again.
    TooMany(Duration),
}

impl Guard {
    /// With the token, if there is one.
    pub fn new(token: Option<&SecretString>) -> Self {
        let digest = |token: &SecretString| Sha256::digest(token.expose_secret()).into();
        token.map_or(Self::Loopback, |token| {
            Self::Token(Box::new(Token { digest: digest(token), guesses: Mutex::default() }))
        })
    }

    /// `None`: let in.
    pub fn refusal(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<Response> {
        let refusal = match self {
            Self::Loopback if is_local(peer, headers) => return None,
            Self::Loopback => Refusal::Elsewhere,
            Self::Token(token) => token.judge(peer.ip(), headers, Instant::now())?,
        };
        Some(refusal.into_response())
    }
}

impl Token {
    fn judge(&self, from: IpAddr, headers: &HeaderMap, now: Instant) -> Option<Refusal> {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = guesses.locked_for(from, now) {
            return Some(Refusal::TooMany(left));
        }
        let Some(shown) = shown(headers) else { return Some(Refusal::NoLogin) };
        let digest: [u8; 32] = Sha256::digest(&shown).into();
        if digest.ct_eq(&self.digest).into() {
            return None;
        }
        if guesses.wrong(from, now) == WRONG {
            tracing::warn!("a hundred wrong logins within a minute; whoever makes them has to wait");
        }
        Some(Refusal::Wrong)
    }
}

/// The token as `Authorization: Bearer`, or as the password of `Basic`, which browsers ask for.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(value.trim().as_bytes().to_vec()),
        "basic" => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
            let colon = decoded.iter().position(|byte| *byte == b':')?;
            Some(decoded[colon + 1..].to_vec())
        }
        _ => None,
    }
}

/// From this machine. The `Host` has to be loopback as well: a page in a browser on this machine can make a name of
/// its own lead here.
fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    peer.ip().to_canonical().is_loopback() && ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

impl Refusal {
    fn into_response(self) -> Response {
        let say = |error: &str| Json(serde_json::json!({ "error": error }));
        match self {
            Self::Elsewhere => {
                let error = "linking is served on loopback only: ask from the machine itself, or through an SSH tunnel \
                             or port-forward, or set HTTP_TOKEN";
                (StatusCode::FORBIDDEN, say(error)).into_response()
            }
            Self::NoLogin | Self::Wrong => {
                let challenge = "Basic realm=\"whatsapp-connector\", charset=\"UTF-8\"";
                let error = "this wants HTTP_TOKEN, as a bearer token or as the password of any user";
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], say(error))
                    .into_response()
            }
            Self::TooMany(left) => {
                let seconds = left.as_secs().saturating_add(1).to_string();
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    [(header::RETRY_AFTER, seconds)],
                    say("too many wrong logins"),
                )
                    .into_response()
            }
        }
    }
}

/// Wrong logins by where they came from.
#[derive(Debug, Default)]
struct Guesses(HashMap<IpAddr, Window>);

/// Counts from the first one on.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    wrong: u32,
}

impl Guesses {
    /// How much longer nothing from there is looked at.
    fn locked_for(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let window = self.0.get(&place(from)).filter(|window| window.wrong >= WRONG)?;
        (window.since + WINDOW).checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// One more; how many there are now.
    fn wrong(&mut self, from: IpAddr, now: Instant) -> u32 {
        let place = place(from);
        let is_over = |window: &Window| now.duration_since(window.since) >= WINDOW;
        if self.0.len() >= PLACES && !self.0.contains_key(&place) {
            self.0.retain(|_, window| !is_over(window));
            if self.0.len() >= PLACES
                && let Some(oldest) =
                    self.0.iter().min_by_key(|(_, window)| window.since).map(|(place, _)| *place)
            {
                self.0.remove(&oldest);
            }
        }
        let window = self.0.entry(place).or_insert(Window { since: now, wrong: 0 });
        if is_over(window) {
            *window = Window { since: now, wrong: 0 };
        }
        window.wrong += 1;
        window.wrong
    }
}

/// Whoever has an IPv6 address has a whole /64 of them.
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn authorized(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    fn token() -> Token {
        match Guard::new(Some(&"a-token-of-some-length".to_owned().into())) {
            Guard::Token(token) => *token,
            Guard::Loopback => unreachable!("there is a token"),
        }
    }

    #[tokio::test]
    async fn the_token_is_taken_as_bearer_and_as_anybodys_password() {
        let (token, now) = (token(), Instant::now());
        let judge = |value: &str| token.judge(ip(1), &authorized(value), now);
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        assert_eq!(judge("Bearer a-token-of-some-length"), None);
        assert_eq!(judge("bearer a-token-of-some-length"), None);
        assert_eq!(judge(&basic("me:a-token-of-some-length")), None);
        for wrong in
            ["Bearer a-token", "Bearer", &basic("a-token-of-some-length"), &basic("me:"), "Digest x", ""]
        {
            assert!(judge(wrong).is_some(), "{wrong}");
        }
        assert_eq!(token.judge(ip(1), &HeaderMap::new(), now), Some(Refusal::NoLogin));
    }

    #[tokio::test(start_paused = true)]
    async fn the_hundred_and_first_guess_of_a_minute_is_not_looked_at_and_others_are() {
        let token = token();
        let right = authorized("Bearer a-token-of-some-length");
        let wrong = authorized("Bearer wrong");
        for _ in 0..WRONG {
            assert_eq!(token.judge(ip(1), &wrong, Instant::now()), Some(Refusal::Wrong));
            // To show nothing is no guess.
            assert_eq!(token.judge(ip(2), &HeaderMap::new(), Instant::now()), Some(Refusal::NoLogin));
        }
        for headers in [&wrong, &right] {
            assert_eq!(token.judge(ip(1), headers, Instant::now()), Some(Refusal::TooMany(WINDOW)));
        }
        assert_eq!(token.judge(ip(2), &right, Instant::now()), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(token.judge(ip(1), &right, Instant::now()), None);
        assert_eq!(token.judge(ip(1), &wrong, Instant::now()), Some(Refusal::Wrong));
    }

    #[tokio::test]
    async fn places_are_remembered_up_to_a_bound() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..u32::try_from(PLACES).unwrap() + 10 {
            guesses.wrong(IpAddr::V4(number.into()), now);
        }
        assert_eq!(guesses.0.len(), PLACES);
        // Neighbours in one /64 are one place.
        let neighbours = ["2001:db8::1", "2001:db8::ffff"].map(|ip| place(ip.parse().unwrap()));
        assert_eq!(neighbours[0], neighbours[1]);
    }
}
